#!/usr/bin/env python3
"""Verifies that `char-rnn gradcheck` finds errors in the program's own backward passes.

    python3 scripts/plant_errors.py [NAME ...]

Each error is one change of the source, made in a copy of this checkout, built and run; the checkout
itself is not changed. Prints, for each error, the gradient methods that disagree with `exact` and the
tensors on which they do. (Errors of the equations themselves are planted by the tests of
src/gradcheck/against/explain.rs: here are those of the code.) Exits with 1 if an error was not found, or in
other methods or tensors than those it affects: an error in a shared kernel affects `autograd` and
`hand` alike. Builds the program once an error, which takes minutes in all; NAMEs limit it to some of
them. The target folder is shared and holds the last faulty program afterwards: run `cargo build`
again.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))

ALL = "wax waa wya b by a0"
HIDDEN = "wax waa b a0"
BOTH = "autograd hand"
EACH = "unrolled autograd hand"
RECURRENCE = "src/kernels/recurrence.rs"
RECURRENCE_OP = "src/ops/recurrence.rs"
CROSS_ENTROPY = "src/kernels/cross_entropy.rs"
PROJECTION = "src/kernels/projection.rs"
BPTT = "src/train/bptt.rs"
BATCH = "src/data/batch.rs"

TARGET_TERM = "None => dz[y as usize] -= scale,"
BACKWARD = "return dispatch(Backward { waa, steps, sums, n });"
DWAX_COLUMN = "let column = &mut dwax_t[x as usize * n..][..n];"

# The name, the file, the code (which occurs once), its replacement, and the gradient methods and
# tensors that are affected.
ERRORS = [
    ("target not subtracted", CROSS_ENTROPY, TARGET_TERM, "None => {}", BOTH, ALL),
    (
        "tanh slope of the next step",
        RECURRENCE,
        "let (mut a, mut rest) = (a, &mut *dpre);",
        "let mut turned = a.to_vec(); turned.rotate_left(batch * n); "
        "let (mut a, mut rest) = (&turned[..], &mut *dpre);",
        BOTH,
        HIDDEN,
    ),
    (
        "gradient of the last state instead of the next",
        RECURRENCE,
        "after = now;",
        "",
        BOTH,
        HIDDEN,
    ),
    (
        "gradient of the next state from step 101 on",
        RECURRENCE,
        BACKWARD,
        "dispatch(Backward { waa, steps, sums, n }); let size = batch * n; "
        "for t in 101..110 { dpre.copy_within((t + 1) * size..(t + 2) * size, t * size); } return;",
        BOTH,
        # After a hundred steps nothing of it is left in the gradient of a0.
        "wax waa b",
    ),
    (
        "layout: the end of a name",
        BATCH,
        "self.y[last] = END;",
        "self.y[last] = 1;",
        EACH,
        # So far from the first step that nothing of it is left in the gradient of a0.
        "wax waa wya b by",
    ),
    (
        "db and dby of the last row only",
        PROJECTION,
        "dispatch(SumRows { x, sum });",
        "dispatch(SumRows { x: &x[x.len() - sum.len()..], sum });",
        BOTH,
        "b by",
    ),
    (
        "dwax of the next character",
        PROJECTION,
        DWAX_COLUMN,
        "let next = (x as usize + 1) * n % (dwax_t.len() - n); "
        "let column = &mut dwax_t[next..][..n];",
        BOTH,
        "wax",
    ),
    (
        "hand: dwaa of the same state",
        BPTT,
        "recurrence_weight_gradient(&self.dpre, earlier, dwaa",
        "recurrence_weight_gradient(&self.dpre, states, dwaa",
        "hand",
        "waa",
    ),
    (
        "hand: dwax not transposed",
        BPTT,
        "Tensor::from_vec(dwax_t, (vocabulary, hidden), device)?.t()?.contiguous()?;",
        "Tensor::from_vec(dwax_t, (hidden, vocabulary), device)?;",
        "hand",
        "wax",
    ),
    (
        "hand: da0 of the last step",
        BPTT,
        "bptt.dpre.truncate(states.elem_count());",
        "bptt.dpre.drain(..bptt.dpre.len() - states.elem_count());",
        "hand",
        "a0",
    ),
    (
        "autograd: da0 of the last step",
        RECURRENCE_OP,
        "dpx.narrow(0, 0, batch)",
        "dpx.narrow(0, dpx.dim(0)? - batch, batch)",
        "autograd",
        "a0",
    ),
    (
        "autograd: dwaa of the same state",
        RECURRENCE_OP,
        "&previous[..a.len()]",
        "a",
        "autograd",
        "waa",
    ),
]


def disagreements(report):
    """The tensors on which each gradient method disagrees with `exact`."""
    found = {}
    for pair in report["pairs"]:
        first, second = pair["methods"]
        if second == "exact":
            tensors = [t["tensor"] for t in pair["tensors"] if not t["agree"]]
            tensors = [tensor for tensor in tensors if tensor in ALL.split()]
            if tensors:
                found[first] = " ".join(tensors)
    return found


def gradcheck(checkout):
    """Builds and runs the check."""
    # Optimization takes most of a build; only this package is built again.
    quick = "profile.release.package.char-rnn.opt-level=1"
    build = ["cargo", "run", "--release", "--quiet", "--config", quick, "--bin", "char-rnn"]
    return subprocess.run(
        [*build, "--", "gradcheck", "--json", "--hidden", "9", "--steps", "120"],
        cwd=checkout,
        env={**os.environ, "CARGO_TARGET_DIR": TARGET},
        capture_output=True,
        text=True,
    )


def is_found(checkout, name, file, old, new, methods, tensors):
    path = checkout / file
    source = path.read_text()
    # The tests below the code may have the same line.
    code, mark, tests = source.partition("#[cfg(test)]\nmod tests")
    if code.count(old) != 1:
        print(f"CANNOT PLANT  {name}: {file} has {code.count(old)} of {old!r}", flush=True)
        return False
    path.write_text(code.replace(old, new) + mark + tests)
    done = gradcheck(checkout)
    path.write_text(source)
    found = disagreements(json.loads(done.stdout)["checks"][0]) if done.stdout else {}
    is_right = done.returncode == 1 and found == {method: tensors for method in methods.split()}
    result = found or done.stderr[-800:]
    print(f"{'found' if is_right else 'MISSED':<8} {name:<48} {result}", flush=True)
    return is_right


def main():
    names = sys.argv[1:]
    unknown = set(names) - {name for name, *_ in ERRORS}
    if unknown:
        sys.exit(f"no such error: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "char-rnn"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("target", ".git"))
        planted = [error for error in ERRORS if not names or error[0] in names]
        return 0 if all([is_found(copy, *error) for error in planted]) else 1


if __name__ == "__main__":
    sys.exit(main())
