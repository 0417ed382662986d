#!/usr/bin/env python3
"""Writes files of students' gradients, right and wrong, and tries `char-rnn gradcheck --against` on them.

    target/peers/bin/python scripts/student_files.py [--keep FOLDER] [--show WORD] [--program FILE]

scripts/setup_peers.sh --no-torch makes that environment. Everything is computed by NumPy, with one
mistake, or two, in the passes of scripts/notebook.py or in how their results are saved. For each
wrong file a part of the right cause is listed beside the mistake; printed are the files with the right
cause, with none and with a false one, and the right files that raise an alarm. Exits with 1 unless
all causes are right and no right file raises one. --show prints what is said of the files whose name
has this word; --keep leaves the files there.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import notebook

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ["Wax", "Waa", "Wya", "b", "by"]
SUMS = ["dWax", "dWaa", "dWya", "db", "dby"]
# n_a, n_x, steps
SIZES = [(6, 5, 6), (20, 27, 10), (50, 27, 12), (100, 27, 15), (7, 7, 9)]

# ---- The passes, with mistakes -------------------------------------------------------------------

SLOPES = {
    "no_slope": (lambda a, before: 1 + 0 * a, "1 - a_t.2 of tanh is missing"),
    "slope_linear": (lambda a, before: 1 - a, r"factor 1 - a_t in place"),
    "slope_plus": (lambda a, before: 1 + a * a, r"1 \+ a_t.2 in place"),
    "slope_negated": (lambda a, before: a * a - 1, r"a_t.2 - 1 in place"),
    "slope_square": (lambda a, before: a * a, r"factor a_t.2 in place"),
    "slope_square_of_1_minus_a": (lambda a, before: (1 - a) ** 2, r"\(1 - a_t\).2"),
    "slope_twice": (lambda a, before: (1 - a * a) ** 2, r"\(1 - a_t.2\).2"),
    "slope_before": (lambda a, before: 1 - before * before, r"1 - a_\{t-1\}.2"),
    "double_tanh": (lambda a, before: 1 - np.tanh(a) ** 2, "tanh is applied twice"),
    "slope_sigmoid": (lambda a, before: a * (1 - a), "slope of sigmoid"),
    "slope_relu": (lambda a, before: (a > 0) * 1.0, "slope of relu"),
    "slope_divided": (lambda a, before: 1 / (1 - a * a), "divided by 1 - a_t.2"),
}
FORWARD = {
    "no_b": "b is forgotten in the forward",
    "no_by": "by is forgotten in the forward",
    "forward_waa_t": "Waa is transposed in the forward",
    "forward_no_waa": "Waa a_.t-1. is forgotten",
    "relu": "relu in place of tanh",
    "sigmoid": "sigmoid in place of tanh",
    "linear": "tanh is forgotten",
    "a_prev_zero": "a_prev is taken as zero",
    "logits_before": "logits are made of a_.t-1",
    "axis": "softmax is over the wrong axis",
    "unnormalised": r"exp\(z - max z\), not divided by its sum",
    "exponential": r"exp\(z\), not divided by its sum",
    "softmax_twice": "softmax is applied twice",
    "x_zero": "x_t is zero at each step",
    "x_is_y": "x_t is the target",
    "x_none_all": r"x\[None\] = 1",
    "x_none_last": r"x\[-1\] = 1",
    "x_none_0": "character of index 0",
}
DY = {
    "no_target": "target is not subtracted",
    "target_added": "target is added",
    "target_twice": "subtracted twice",
    "target_next": "target of the next step",
    "target_before": "target of the step before",
    "target_x": r"None from all of it: dy\[None\]",
    "target_x_without_none": "the input, X.t., is subtracted",
    "target_all": "1 is subtracted from every entry",
    "target_reversed": "reverse order",
    "dy_by_probability": "gradient by the probabilities",
    "dy_sigmoid": r"y_hat \(1 - y_hat\)",
}
CARRY = {
    "no_carry": "not carried back to the step before|da_next is not added",
    "carry_negated": "with the wrong sign|da_next is subtracted",
    "carry_waa": "Waa is not transposed in the backward",
    "carry_da": "da_next is Waa.T da, not",
    "carry_waa_da": "da_next is Waa da, not",
    "carry_without_waa": "da_next is da_raw, without",
    "carry_accumulated": r"added to what it was: \+= for =",
    "carry_late": "carried back one step too far",
    "carry_after_slope": "da_next is added after the factor",
    "no_output": "Wya.T dy_t is not added",
    "output_negated": "Wya.T dy_t is subtracted",
    "forwards": "steps are run forwards",
    "last_3": "only the last 3 of the steps",
    "last_all_but_one": "only the last . of the steps|only the last 1. of the steps|the first step",
    "all_but_last": "only the first .+ of the steps",
    "chunks_4": "da_next is zeroed every 4 steps",
    "window_2": "carried back 2 steps only",
}
ARRAY = {
    "dWax_da": "dWax.*: it has da in place of da_raw",
    "dWaa_da": "dWaa.*: it has da in place of da_raw",
    "db_da": "db: it has da in place of da_raw",
    "dWaa_same": "dWaa: dWaa has a_t in place",
    "dWaa_first": "dWaa: dWaa has a_prev in place",
    "dWaa_list": r"dWaa: dWaa has the last state .* a\[-1\] of a list",
    "dWya_before": "dWya: dWya has a_{t-1} in place",
    "dWax_y": "dWax: dWax has x_{t\\+1}",
    "dWax_before": "dWax: dWax has x_{t-1}",
    "dWax_none_last": r"dWax: .*x\[-1\] = 1",
    "dWya_yhat": "dWya: it has y_hat in place of dy",
    "dWax_assigned": "dWax: assigned",
    "dWaa_assigned": "dWaa: assigned",
    "dWya_assigned": "dWya: assigned",
    "db_assigned": "db: assigned",
    "dby_assigned": "dby: assigned",
    "all_assigned": "dWax, dWaa, dWya, db, dby: assigned",
    "terms_clipped": "each step is clipped before the sum, to 1",
    "sums_clipped": "sum is clipped within the loop, after each step, to 1",
}


def forward(P, X, Y, a_prev, wrong):
    n_a, n_x = P["Wax"].shape
    x, a, y_hat, loss = {}, {-1: 0 * a_prev if "a_prev_zero" in wrong else a_prev}, {}, 0.0
    for t in range(len(X)):
        x[t] = notebook.one_hot(Y[t] if "x_is_y" in wrong else X[t], n_x)
        if "x_zero" in wrong:
            x[t] *= 0
        if X[t] is None and "x_none_all" in wrong:
            x[t][None] = 1
        if X[t] is None and "x_none_last" in wrong:
            x[t][-1] = 1
        if X[t] is None and "x_none_0" in wrong:
            x[t][0] = 1
        Waa = P["Waa"].T if "forward_waa_t" in wrong else P["Waa"]
        z = P["Wax"] @ x[t] + (0 if "forward_no_waa" in wrong else Waa @ a[t - 1])
        z = z + (0 if "no_b" in wrong else P["b"])
        a[t] = np.tanh(z)
        if "relu" in wrong:
            a[t] = np.maximum(z, 0)
        if "sigmoid" in wrong:
            a[t] = 1 / (1 + np.exp(-z))
        if "linear" in wrong:
            a[t] = z
        out = P["Wya"] @ a[t - 1 if "logits_before" in wrong else t]
        out = out + (0 if "no_by" in wrong else P["by"])
        e = np.exp(out - out.max())
        y_hat[t] = e / e.sum(axis=1, keepdims=True) if "axis" in wrong else e / e.sum()
        if "unnormalised" in wrong:
            y_hat[t] = e
        if "exponential" in wrong:
            y_hat[t] = np.exp(out)
        if "softmax_twice" in wrong:
            y_hat[t] = notebook.softmax(y_hat[t])
        loss -= np.log(y_hat[t][Y[t], 0])
    return loss, x, a, y_hat


def dy_of(y_hat, X, Y, t, wrong):
    dy, steps = y_hat[t].copy(), len(Y)
    p = dy.copy()
    if "target_x" in wrong:
        dy[X[t]] -= 1  # None: all of it
    elif "target_x_without_none" in wrong:
        if X[t] is not None:
            dy[X[t]] -= 1
    elif "target_reversed" in wrong:
        dy[Y[-1 - t]] -= 1
    elif "dy_by_probability" in wrong:
        dy *= 0
        dy[Y[t]] = -1 / p[Y[t]]
    elif "target_all" in wrong:
        dy -= 1
    elif "target_added" in wrong:
        dy[Y[t]] += 1
    elif "target_next" in wrong:
        dy[Y[min(t + 1, steps - 1)]] -= 1
    elif "target_before" in wrong:
        dy[Y[t - 1]] -= 1
    elif "no_target" not in wrong:
        dy[Y[t]] -= 2 if "target_twice" in wrong else 1
    return dy * p * (1 - p) if "dy_sigmoid" in wrong else dy


def truncated(P, x, a, dys, window):
    """Each step's loss carried `window` steps back, a loop in a loop."""
    G = {"d" + name: np.zeros_like(P[name]) for name in P}
    G["da_next"] = np.zeros_like(a[0])
    for s, dy in enumerate(dys):
        G["dWya"] += dy @ a[s].T
        G["dby"] += dy
        da = P["Wya"].T @ dy
        for t in range(s, max(-1, s - window - 1), -1):
            raw = (1 - a[t] ** 2) * da
            G["db"] += raw
            G["dWax"] += raw @ x[t].T
            G["dWaa"] += raw @ a[t - 1].T
            da = P["Waa"].T @ raw
        if s - window < 0:
            G["da_next"] += da
    if window >= 1:  # of the first state: only what is carried that far
        G["da_next"] = sum(
            (carried(P, a, dys[s], s) for s in range(min(window, len(dys)))), np.zeros_like(a[0])
        )
    return G


def carried(P, a, dy, s):
    da = P["Wya"].T @ dy
    for t in range(s, -1, -1):
        da = P["Waa"].T @ ((1 - a[t] ** 2) * da)
    return da


def backward(P, X, Y, x, a, y_hat, wrong):
    steps, Waa, Wya = len(X), P["Waa"], P["Wya"]
    if "window_2" in wrong:
        return truncated(P, x, a, [dy_of(y_hat, X, Y, t, wrong) for t in range(steps)], 2)
    G = {"d" + name: np.zeros_like(value) for name, value in P.items()}
    da_next = late = np.zeros_like(a[0])
    loop = list(reversed(range(steps)))
    if "forwards" in wrong:
        loop.reverse()
    if "last_3" in wrong:
        loop = loop[:3]
    if "last_all_but_one" in wrong:
        loop = loop[:-1]
    if "all_but_last" in wrong:
        loop = loop[1:]
    for t in loop:
        dy = dy_of(y_hat, X, Y, t, wrong)
        if "chunks_4" in wrong and (t + 1) % 4 == 0:
            da_next = 0 * da_next
        out = (Wya if "wya_not_transposed" in wrong else Wya.T) @ dy
        if "no_output" in wrong:
            out = 0 * out
        if "output_negated" in wrong:
            out = -out
        slope = 1 - a[t] * a[t]
        for name, (of, _) in SLOPES.items():
            if name in wrong:
                slope = of(a[t], a[t - 1])
        da = out + da_next
        raw = slope * out + da_next if "carry_after_slope" in wrong else slope * da
        x_t, before, state = x[t], a[t - 1], a[t]
        if "dWax_y" in wrong:
            x_t = notebook.one_hot(Y[t], len(x_t))
        if "dWax_before" in wrong:
            x_t = x[t - 1] if t > 0 else 0 * x_t
        if "dWax_none_last" in wrong and X[t] is None:
            x_t = x_t.copy()
            x_t[-1] = 1
        if "dWaa_same" in wrong:
            before = a[t]
        if "dWaa_first" in wrong:
            before = a[-1]
        if "dWaa_list" in wrong and t == 0:
            before = a[steps - 1]
        if "dWya_before" in wrong:
            state = a[t - 1]
        terms = {
            "dWax": (da if "dWax_da" in wrong else raw) @ x_t.T,
            "dWaa": (da if "dWaa_da" in wrong else raw) @ before.T,
            "dWya": (y_hat[t] if "dWya_yhat" in wrong else dy) @ state.T,
            "db": da if "db_da" in wrong else raw,
            "dby": dy,
        }
        for name, term in terms.items():
            if "terms_clipped" in wrong:
                term = np.clip(term, -1, 1)
            if name + "_assigned" in wrong or "all_assigned" in wrong:
                G[name] = term.copy()
            else:
                G[name] = G[name] + term
            if "sums_clipped" in wrong:
                G[name] = np.clip(G[name], -1, 1)
        new = Waa.T @ raw
        if "no_carry" in wrong:
            new = 0 * new
        if "carry_negated" in wrong:
            new = -new
        if "carry_waa" in wrong:
            new = Waa @ raw
        if "carry_da" in wrong:
            new = Waa.T @ da
        if "carry_waa_da" in wrong:
            new = Waa @ da
        if "carry_without_waa" in wrong:
            new = raw
        if "carry_accumulated" in wrong:
            new = da_next + new
        if "carry_late" in wrong:
            new, late = late, new
        da_next = new
    G["da_next"] = da_next
    return G


def example(rng, size, dtype=np.float64, scale=1.0):
    """Parameters, X, Y and a_prev."""
    n_a, n_x, steps = size
    deviations = {"Wax": 0.7, "Waa": 0.8 / np.sqrt(n_a), "Wya": 1 / np.sqrt(n_a), "b": 0.4, "by": 0.4}
    shapes = {"Wax": (n_a, n_x), "Waa": (n_a, n_a), "Wya": (n_x, n_a), "b": (n_a, 1), "by": (n_x, 1)}
    P = {k: (rng.randn(*shapes[k]) * deviations[k] * scale).astype(dtype) for k in WEIGHTS}
    name = list(map(int, rng.randint(1, n_x, steps - 1)))
    return P, [None] + name, name + [0], np.tanh(rng.randn(n_a, 1)).astype(dtype)


def results(P, X, Y, a_prev, wrong=frozenset()):
    with np.errstate(all="ignore"):
        loss, x, a, y_hat = forward(P, X, Y, a_prev, wrong)
        G = backward(P, X, Y, x, a, y_hat, wrong)
    x = [-1 if index is None else index for index in X]
    return {**P, **G, "X": x, "Y": Y, "a_prev": a_prev, "loss": loss, "a_last": a[len(X) - 1]}


# ---- How results are saved -----------------------------------------------------------------------


def factor(k, names=SUMS + ["da_next"]):
    return lambda r: {**r, **{name: k * r[name] for name in names}}


def clipped(low, high, names=SUMS):
    return lambda r: {**r, **{name: np.clip(r[name], low, high) for name in names}}


def by_norm(limit):
    def change(r):
        k = limit / np.sqrt(sum((r[name] ** 2).sum() for name in SUMS))
        return {**r, **{name: k * r[name] for name in SUMS}}

    return change


def updated(rate, limit, saved_clipped=False):
    def change(r):
        step = {name: np.clip(r[name], -limit, limit) for name in SUMS}
        P = {name: r[name] - rate * step["d" + name] for name in WEIGHTS}
        return {**r, **(step if saved_clipped else {}), **P}

    return change


def with_arrays(**changes):
    return lambda r: {**r, **{name: value(r) for name, value in changes.items()}}


SAVED = {
    "times_2": (factor(2), "2 times the right"),
    "times_3": (factor(3), "3 times the right"),
    "rate": (factor(0.01), "the learning rate"),
    "negated": (factor(-1), "the sign is wrong"),
    "mean_over_steps": (lambda r: factor(1 / len(r["X"]))(r), "mean over the steps"),
    "bits": (factor(1 / np.log(2)), "log2 in place of log"),
    "mean_over_32": (factor(1 / 32), "a mean over 32"),
    "dWya_twice": (factor(2, ["dWya"]), "dWya: 2 times"),
    "dWaa_negated": (factor(-1, ["dWaa"]), "dWaa: the sign"),
    "by_norm": (by_norm(1.5), "clipped by norm"),
    "clipped": (clipped(-0.3, 0.3), "compare them with `clip` 0.3"),
    "clipped_above": (clipped(-1e9, 0.3), "clipped from above only"),
    "clipped_below": (clipped(-0.3, 1e9), "clipped from below only"),
    "clip_exchanged": (clipped(0.3, -0.3), "bounds exchanged"),
    "transposed": (with_arrays(dWaa=lambda r: r["dWaa"].T), "dWaa: the array is transposed"),
    "zero": (factor(0), "was rnn_backward run"),
    "dWax_zero": (factor(0, ["dWax"]), "dWax: zero"),
    "db_summed": (with_arrays(db=lambda r: r["db"] * 0 + r["db"].sum()), "summed to one number"),
    "own_norm": (
        lambda r: {**r, **{k: r[k] * (0.5 / np.linalg.norm(r[k])) for k in SUMS}},
        "scaled to its own norm, 0.5, one array",
    ),
    "db_averaged": (with_arrays(db=lambda r: r["db"] * 0 + r["db"].mean()), "db: .*averaged"),
    "decay": (with_arrays(dWaa=lambda r: r["dWaa"] + 0.001 * r["Waa"]), "weight decay: 0.001"),
    "decay_all": (
        lambda r: {**r, **{"d" + k: r["d" + k] + 0.01 * r[k] for k in WEIGHTS}},
        "dWax, dWaa, dWya, db, dby: weight decay: 0.01",
    ),
    "saved_parameter": (with_arrays(dWaa=lambda r: r["Waa"]), "holds the parameter"),
    "a_last_is_a_prev": (with_arrays(a_last=lambda r: r["a_prev"]), "a_last: a_last is a.-1"),
    "loss_mean": (with_arrays(loss=lambda r: r["loss"] / len(r["X"])), "loss: .*mean over the steps"),
    "loss_bits": (with_arrays(loss=lambda r: r["loss"] / np.log(2)), "loss: 1/ln 2"),
    "da_next_zero": (factor(0, ["da_next"]), "da_next: zero"),
    "updated": (updated(0.01, 5), r"after update_parameters \(learning rate 0.01"),
    "updated_fast": (updated(0.05, 1e9), r"learning rate 0.05\)"),
    "updated_clipped": (updated(0.02, 1.0), r"learning rate 0.02, clipped at 1\)"),
    "updated_clipped_in_place": (updated(0.01, 0.3, True), "after update_parameters"),
}
PAIRS = [
    ("no_slope", "carry_waa"),
    ("slope_linear", "no_carry"),
    ("target_added", "no_slope"),
    ("carry_da", "target_before"),
    ("relu", "slope_relu"),
    ("sigmoid", "slope_sigmoid"),
    ("no_b", "no_by"),
    ("dWaa_same", "dWya_before"),
    ("no_slope", "dWya_assigned"),
    ("carry_waa", "dWax_assigned"),
    ("dWax_da", "db_da"),
]
ALL = {**{k: v[1] for k, v in SLOPES.items()}, **FORWARD, **DY, **CARRY, **ARRAY}


def wrong_files(rng):
    """The name of each wrong file, its arrays, and the parts of the right cause."""
    for i, (mistake, cause) in enumerate(ALL.items()):
        for size in (SIZES[i % 5], SIZES[(i + 2) % 5]):
            scale = 3 if mistake.endswith("_clipped") else 1  # so that there is something to clip
            yield f"{mistake}_{size[0]}", results(*example(rng, size, scale=scale), {mistake}), [cause]
    for i, (name, (change, cause)) in enumerate(SAVED.items()):
        causes = [cause, "are clipped; compare"] if name == "updated_clipped_in_place" else [cause]
        for size in (SIZES[i % 5], SIZES[(i + 1) % 4]):
            yield f"{name}_{size[0]}", change(results(*example(rng, size))), causes
    for i, pair in enumerate(PAIRS):
        causes = [ALL[mistake] for mistake in pair]
        yield "+".join(pair), results(*example(rng, SIZES[i % 4]), set(pair)), causes
    r = results(*example(rng, SIZES[4]), {"wya_not_transposed"})
    yield "wya_not_transposed", r, ["Wya is not transposed in the backward"]
    r = results(*example(rng, SIZES[4]))
    both = {"dWax": r["dWax"] + r["dWya"], "dWya": r["dWax"] + r["dWya"]}
    yield "one_array", {**r, **both}, ["dWax and dWya are one array"]
    exchanged = with_arrays(dWax=lambda r: r["dWya"], dWya=lambda r: r["dWax"])
    r = exchanged(results(*example(rng, (7, 7, 9))))
    yield "exchanged", r, ["dWax and dWya are exchanged"]
    for name, mistake in [("no_loss", "no_slope"), ("no_loss2", "carry_waa"), ("no_loss3", "no_b")]:
        r = results(*example(rng, SIZES[1]), {mistake})
        r = {k: v for k, v in r.items() if k not in ("loss", "a_last", "da_next")}
        yield name, r, [ALL[mistake]]
    for mistake in ["no_slope", "carry_waa", "no_target", "dWaa_same", "dWya_before"]:
        r = results(*example(rng, SIZES[1], np.float32), {mistake})
        floats = {k: np.float32(v) for k, v in r.items() if k not in ("X", "Y")}
        yield f"{mistake}_f32", {**r, **floats}, [ALL[mistake]]


def right_files(rng, count):
    for i in range(count):
        size = (int(rng.randint(1, 110)), int(rng.randint(2, 40)), int(rng.randint(1, 25)))
        if i % 10 == 9:
            size = (int(rng.randint(2, 60)), int(rng.randint(2, 40)), int(rng.randint(50, 120)))
        dtype = np.float32 if i % 2 else np.float64
        P, X, Y, a_prev = example(rng, size, dtype, [0.02, 0.5, 1, 1.2][i % 4])
        if i % 3 == 0:
            X[0] = int(rng.randint(0, size[1]))
        if i % 5 == 0:
            a_prev = 0 * a_prev
        r = results(P, X, Y, a_prev)
        if i % 6 == 1:  # computed in f32, saved as f64
            r = {k: np.asarray(v).astype(float) if k not in ("X", "Y") else v for k, v in r.items()}
        if i % 6 == 2:
            r = {k: np.asfortranarray(v) for k, v in r.items()}
        if i % 6 == 4:
            r = {k: v[:, :, None] if k in SUMS[:3] else v for k, v in r.items()}
        yield f"right_{i}_{size[0]}_{size[1]}_{size[2]}_{dtype.__name__}", r, None


def noise(r, rng, name, size):
    return {**r, name: r[name] + size * rng.randn(*r[name].shape)}


def unknown_files(rng):
    """Wrong in ways that have no name: one must not be given."""
    for i, size in enumerate(SIZES + [(1, 2, 2), (2, 3, 3), (3, 3, 4)]):
        r = results(*example(rng, size))
        one = r["dWaa"].copy()
        one[0, -1] += 0.25
        yield f"unknown_entry_{i}", {**r, "dWaa": one}, []
        yield f"unknown_noise_{i}", noise(r, rng, "dWya", 0.1), []
        yield f"unknown_small_{i}", noise(r, rng, "dWax", 1e-7), []
        three = noise(noise(noise(r, rng, "db", 1), rng, "dWya", 1), rng, "dWaa", 1)
        yield f"unknown_three_{i}", three, []
        other = results(*example(rng, size))
        yield f"unknown_other_{i}", {**r, **{k: other[k] for k in SUMS}}, []
        yield f"unknown_other2_{i}", {**other, **{k: r[k] for k in WEIGHTS}}, []


# ---- sample and clip -----------------------------------------------------------------------------

SAMPLES = {
    "right": None,
    "a_prev_kept": "a_prev is not updated",
    "x_not_reset": "x is not reset to zeros",
    "x_index": "its entry is the index",
    "x_kept": "x is not updated",
    "seed_by_1": "grows by 1 a letter",
    "seed_kept": "seed is not increased",
    "seed_once": "called once",
    "argmax": "argmax",
    "no_p": "has no p",
    "uniform": "softmax is over the wrong axis",
    "no_b": "b is forgotten",
    "no_by": "by is forgotten",
    "no_newline_stop": "does not stop at the newline",
    "no_50": "does not stop at 50",
    "limit_49": "stops at 49",
    "no_append": "newline is not appended after 50",
    "not_in_list": "newline that ends the name is missing",
}


def sample(P, seed, wrong, most=50):
    """notebook.sample with mistakes."""
    n_x, n_a = P["Wya"].shape
    x, a, indices, index, counter = np.zeros((n_x, 1)), np.zeros((n_a, 1)), [], -1, 0
    most = {"limit_49": 49, "no_50": 10**6}.get(wrong, most)
    if wrong == "seed_once":
        np.random.seed(seed)
    while (index != 0 or wrong == "no_newline_stop") and counter != most:
        state = np.tanh(P["Wax"] @ x + P["Waa"] @ a + (0 if wrong == "no_b" else P["b"]))
        p = notebook.softmax(P["Wya"] @ state + (0 if wrong == "no_by" else P["by"])).ravel()
        if wrong == "uniform":
            p = np.full(n_x, 1 / n_x)
        if wrong == "seed_kept":
            np.random.seed(seed)
        elif wrong == "seed_by_1":
            np.random.seed(seed + counter)
        elif wrong != "seed_once":
            np.random.seed(seed + 2 * counter)
        index = np.random.choice(range(n_x)) if wrong == "no_p" else np.random.choice(range(n_x), p=p)
        index = int(np.argmax(p)) if wrong == "argmax" else int(index)
        indices.append(index)
        if wrong == "x_not_reset":
            x[index] = 1
        elif wrong == "x_index":
            x = notebook.one_hot(index, n_x) * index
        elif wrong != "x_kept":
            x = notebook.one_hot(index, n_x)
        if wrong != "a_prev_kept":
            a = state
        counter += 1
    if wrong == "not_in_list" and index == 0:
        indices.pop()
    elif counter == most and wrong != "no_append":
        indices.append(0)
    return indices


def sample_files(rng):
    for i, (wrong, cause) in enumerate(SAMPLES.items()):
        # By the letters that the mistake needs: a short name, or 50 letters without a newline.
        is_long = wrong in ("no_50", "limit_49", "no_append")
        for seed in range(1000):
            P = example(np.random.RandomState(1000 * i + seed), SIZES[1 + i % 3])[0]
            P["by"][0] += -1.5 if is_long else -1
            right, found = sample(P, seed, "right"), sample(P, seed, wrong)
            if (len(right) == 51) == is_long and len(right) > 6 and (wrong == "right" or found != right):
                break
        yield f"sample_{wrong}", {**P, "indices": found, "seed": seed}, cause and [cause]
    # The notebook's own test cell: weights so large that the last letters depend on rounding.
    np.random.seed(2)
    P = {name: np.random.randn(*value.shape) for name, value in example(rng, SIZES[3])[0].items()}
    for wrong in list(SAMPLES)[:13]:
        cause = SAMPLES[wrong]
        found = sample(P, 0, wrong)
        yield f"cell_{wrong}", {**P, "indices": found, "seed": 0}, cause and [cause]


CLIPS = {
    "right": (lambda g, m: np.clip(g, -m, m), None),
    "not": (lambda g, m: g, "not clipped: np.clip returns"),
    "above": (lambda g, m: np.minimum(g, m), "from above only"),
    "below": (lambda g, m: np.maximum(g, -m), "from below only"),
    "exchanged": (lambda g, m: np.clip(g, m, -m), "bounds exchanged"),
    "limit": (lambda g, m: np.clip(g, -2 * m, 2 * m), "the limit is 10, not max_value"),
    "norm": (lambda g, m: g * min(1, m / np.linalg.norm(g)), "scaled to the norm"),
    "zeroed": (lambda g, m: np.where(abs(g) > m, 0, g), "set to 0"),
    "positive": (lambda g, m: np.clip(g, 0, m), "clipped to 0 from below"),
}


def clip_files(rng):
    shapes = {"dWax": (5, 3), "dWaa": (5, 5), "dWya": (2, 5), "db": (5, 1), "dby": (2, 1)}
    for name, (clip, cause) in CLIPS.items():
        G = {k: rng.randn(*shape) * 10 for k, shape in shapes.items()}
        G["dby"][0] = -8
        after = {k + "_clipped": clip(g, 5) for k, g in G.items()}
        yield f"clip_{name}", {**G, **after, "max_value": 5}, cause and [cause]
    only = {k + "_clipped": np.clip(g, -5, 5) if k != "dby" else g for k, g in G.items()}
    yield "clip_dby_forgotten", {**G, **only, "max_value": 5}, ["dby_clipped: it is not clipped"]


# ---- The table -----------------------------------------------------------------------------------


def tried(program, path, causes):
    """'right', 'none' or 'false', and what is said."""
    done = subprocess.run(
        [program, "gradcheck", "--json", "--against", path], capture_output=True, text=True
    )
    if done.returncode == 2:
        return ("refused" if causes is None else "none"), done.stderr.strip()
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["agree"] else 1), done
    if causes is None:
        return ("right" if said["agree"] else "alarm"), json.dumps(said["arrays"])
    texts = []
    for explanation in said["explanations"]:
        texts.append([f"{', '.join(cause['arrays'])}: {cause['what']}" for cause in explanation])
    is_right = any(
        len(text) <= len(causes) and all(any(re.search(c, line) for line in text) for c in causes)
        for text in texts
    )
    shown = " OR ".join("; ".join(text) for text in texts) or done.stderr.strip()
    return ("right" if is_right else "false" if texts else "none"), shown


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--keep", metavar="FOLDER")
    parser.add_argument("--show", metavar="WORD")
    parser.add_argument("--right", type=int, default=200, help="right files (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--program", default=str(ROOT / "target" / "release" / "char-rnn"))
    arguments = parser.parse_args()
    rng = np.random.RandomState(arguments.seed)
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kinds = {
            "wrong gradients": wrong_files(rng),
            "no known mistake": unknown_files(rng),
            "sample": sample_files(rng),
            "clip": clip_files(rng),
            "right gradients": right_files(rng, arguments.right),
        }
        for kind, files in kinds.items():
            counts, slowest = {}, 0
            for name, arrays, causes in files:
                path = folder / f"{name}.npz"
                (np.savez_compressed if "_f32" in name else np.savez)(path, **arrays)
                start = time.perf_counter()
                found, said = tried(arguments.program, path, causes)
                slowest = max(slowest, time.perf_counter() - start)
                if causes == []:
                    found = "right" if found == "none" else "false"
                counts[found] = counts.get(found, 0) + 1
                is_fine = found == "right" or kind == "right gradients" and found == "refused"
                failed += not is_fine
                if not is_fine or arguments.show and arguments.show in name:
                    print(f"{found:<8} {name:<28} {said[:600]}", flush=True)
            print(f"{kind}: {counts}; the slowest {slowest:.2f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
