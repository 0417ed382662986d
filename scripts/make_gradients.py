#!/usr/bin/env python3
"""Makes tests/fixtures/gradients/*.npz: gradients of the notebook in NumPy, right and wrong ones.

    target/peers/bin/python scripts/make_gradients.py

scripts/setup_peers.sh --no-torch makes that environment. Each file is what a reader of the notebook
would save for `char-rnn gradcheck --against`, with the mistake of its name in the backward pass.
"""

from pathlib import Path

import numpy as np

import notebook

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "gradients"
N_A, N_X, CLIP = 6, 5, 0.2
X, Y = [None, 3, 1, 4, 4, 2], [3, 1, 4, 4, 2, 0]
NAMES = ["dWax", "dWaa", "dWya", "db", "dby"]

# What is wrong, in the order of the steps of rnn_step_backward below.
MISTAKES = """
no_slope inverse_slope no_carry carry_too_far waa_not_transposed dwaa_of_same_state dwax_shifted no_one_hot mean
dwaa_transposed dwya_sign last_step_only overwritten clipped_steps a_prev_zero softmax_axis
""".split()
# Several at once: in arrays of their own, and in the same arrays.
COMBINED = {
    "two_arrays": {"dwaa_of_same_state", "dwya_sign"},
    "two_mistakes": {"no_slope", "waa_not_transposed"},
}


def softmax_axis_1(z):
    e = np.exp(z - np.max(z))
    return e / e.sum(axis=1, keepdims=True)


def forward(parameters, a_prev, wrong):
    if "a_prev_zero" in wrong:
        a_prev = np.zeros_like(a_prev)
    loss, (y_hat, a, x) = notebook.rnn_forward(X, Y, a_prev, parameters)
    if "softmax_axis" in wrong:
        loss = 0.0
        for t in range(len(X)):
            y_hat[t] = softmax_axis_1(parameters["Wya"] @ a[t] + parameters["by"])
            loss -= np.log(y_hat[t][Y[t], 0])
    return (loss / len(X) if "mean" in wrong else loss), (y_hat, a, x)


def backward(parameters, cache, wrong):
    """notebook.rnn_backward with mistakes."""
    y_hat, a, x = cache
    Waa, Wya = parameters["Waa"], parameters["Wya"]
    gradients = {"d" + name: np.zeros_like(value) for name, value in parameters.items()}
    da_next = da_later = np.zeros((N_A, 1))
    for t in reversed(range(len(X))):
        dy = np.copy(y_hat[t])
        if "no_one_hot" not in wrong:
            dy[Y[t]] -= 1
        if "mean" in wrong:
            dy /= len(X)
        da = Wya.T @ dy + (0 if "no_carry" in wrong else da_next)
        da_raw = da if "no_slope" in wrong else (1 - a[t] * a[t]) * da
        if "inverse_slope" in wrong:
            da_raw = da / (1 - a[t] * a[t])
        x_t = notebook.one_hot(Y[t], N_X) if "dwax_shifted" in wrong else x[t]
        a_before = a[t] if "dwaa_of_same_state" in wrong else a[t - 1]
        steps = [da_raw @ x_t.T, da_raw @ a_before.T, dy @ a[t].T, da_raw, dy]
        for name, step in zip(NAMES, steps):
            if "clipped_steps" in wrong:
                step = np.clip(step, -CLIP, CLIP)
            if "last_step_only" in wrong and t != len(X) - 1:
                step = 0 * step
            if "overwritten" in wrong:
                gradients[name] = step
            else:
                gradients[name] += step
        carried = (Waa if "waa_not_transposed" in wrong else Waa.T) @ da_raw
        da_next, da_later = (da_later, carried) if "carry_too_far" in wrong else (carried, carried)
    if "dwaa_transposed" in wrong:
        gradients["dWaa"] = gradients["dWaa"].T  # NumPy saves it in Fortran order
    if "dwya_sign" in wrong:
        gradients["dWya"] = -gradients["dWya"]
    return gradients


def results(wrong=frozenset()):
    """What a file has, from the same parameters each time."""
    rng = np.random.RandomState(4)
    shapes = {"Wax": (N_A, N_X), "Waa": (N_A, N_A), "Wya": (N_X, N_A)}
    shapes |= {"b": (N_A, 1), "by": (N_X, 1)}
    parameters = {name: rng.randn(*shape) / 2 for name, shape in shapes.items()}
    a_prev = np.tanh(rng.randn(N_A, 1))
    loss, cache = forward(parameters, a_prev, wrong)
    gradients = backward(parameters, cache, wrong)
    x = [-1 if index is None else index for index in X]
    others = {"X": x, "Y": Y, "a_prev": a_prev, "loss": loss, "a_last": cache[1][len(X) - 1]}
    return {**parameters, **gradients, **others}


def sample(parameters, seed, wrong):
    """notebook.sample with a mistake."""
    x, a, indices, index = np.zeros((N_X, 1)), np.zeros((N_A, 1)), [], -1
    while index != 0 and len(indices) != 50:
        state, y_hat = notebook.rnn_step_forward(parameters, a, x)
        np.random.seed(seed + 2 * len(indices))
        index = np.random.choice(range(N_X), p=y_hat.ravel())
        indices.append(index)
        x = x if wrong == "x" else np.zeros((N_X, 1))
        x[index] = 1
        a = a if wrong == "a_prev" else state
    return indices + [0] if len(indices) == 50 else indices


def save_samples(parameters):
    """Lists of more than ten letters: a short one has several explanations."""
    for file, wrong in [("sample", None), ("sample_a_prev", "a_prev"), ("sample_x", "x")]:
        for seed in range(1000):
            right, found = (sample(parameters, seed, w) for w in (None, wrong))
            if len(found) > 10 and (found != right or not wrong):
                break
        save(file, {**parameters, "indices": found, "seed": seed})


def save(name, arrays):
    np.savez(FOLDER / f"{name}.npz", **arrays)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    right = results()
    save("right", right)
    for mistake in MISTAKES:
        save(mistake, results({mistake}))
    for name, mistakes in COMBINED.items():
        save(name, results(mistakes))

    clipped = {name: np.clip(right[name], -CLIP, CLIP) for name in NAMES}
    save("clipped", {**right, **clipped})
    updated = {name[1:]: right[name[1:]] - 0.01 * right[name] for name in NAMES}
    save("after_update", {**right, **updated})
    limited = {name[1:]: right[name[1:]] - 0.05 * np.clip(right[name], -0.3, 0.3) for name in NAMES}
    save("after_clip", {**right, **limited})
    save("doubled", {**right, **{name: 2 * right[name] for name in NAMES}})
    save("zero", {**right, **{name: 0 * right[name] for name in NAMES}})
    noisy = right["dWaa"].copy()
    noisy[2, 3] += 0.25
    save("unknown", {**right, "dWaa": noisy})
    single = ["Wax", "Waa", "Wya", "b", "by", "a_prev", *NAMES]
    save("right_f32", {**right, **{name: right[name].astype(np.float32) for name in single}})

    # Files that cannot be compared.
    save("misshapen", {**right, "dWax": right["dWax"].T})
    save("none_in_x", {**right, "X": np.array(X, dtype=object)})
    save("no_y", {name: value for name, value in right.items() if name != "Y"})
    save("misspelt", {**right, "dwax": right["dWax"]})
    save("index_outside", {**right, "Y": [3, 1, 4, 4, 2, 5]})

    # `clip` and `sample`.
    before = {name: right[name] for name in NAMES}
    after = {f"{name}_clipped": clipped[name] for name in NAMES}
    save("clip", {**before, **after, "max_value": CLIP})
    copied = {f"{name}_clipped": right[name] for name in ["dWaa", "db"]}
    save("clip_copied", {**before, **after, **copied, "max_value": CLIP})
    save_samples({name: right[name] for name in ["Wax", "Waa", "Wya", "b", "by"]})
    np.savez_compressed(FOLDER / "compressed.npz", **right)
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.stat().st_size:>8} {path.name}")


if __name__ == "__main__":
    main()
