#!/usr/bin/env python3
"""Plants an error in the real backward passes, one at a time, and sees `char-rnn gradcheck` catch it.

    python3 scripts/plant_errors.py [NAME ...]

Each error is one change of the source, made in a copy of this checkout (which is left alone), built
and run. Prints, for each, which ways the check found wrong, and on which tensors; exits with 1 where one was missed, or
blamed on other tensors or ways than those it spoils. A shared kernel spoils `autograd` and `hand` alike. It builds the
program once an error: minutes in all. Pass names to plant only those.
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
RECURRENCE = "src/kernels/recurrence.rs"
RECURRENCE_OP = "src/ops/recurrence.rs"
CROSS_ENTROPY = "src/kernels/cross_entropy.rs"
PROJECTION = "src/kernels/projection.rs"
BPTT = "src/bptt.rs"
SLOPE = "F::negative_mul_add(simd, a, a, F::splat(simd, F::ONE))"

# Name, file, what stands there (once), what is planted, the ways and the tensors that it spoils.
ERRORS = [
    ("target not subtracted", CROSS_ENTROPY, "dz[y as usize] -= scale;", "", BOTH, ALL),
    ("sign of the target", CROSS_ENTROPY, "dz[y as usize] -= scale;", "dz[y as usize] += scale;", BOTH, ALL),
    ("softmax scale", CROSS_ENTROPY, "F::splat(simd, scale / sum)", "F::splat(simd, scale)", BOTH, ALL),
    ("slope without square", RECURRENCE, SLOPE, "F::minus(simd, F::splat(simd, F::ONE), a)", BOTH, HIDDEN),
    ("slope missing", RECURRENCE, SLOPE, "{ let _ = a; F::splat(simd, F::ONE) }", BOTH, HIDDEN),
    ("slope of the next step", RECURRENCE, "&a[t * size..][..size]", "&a[(t + 1) * size..][..size]", BOTH, HIDDEN),
    (
        "carry forgotten",
        RECURRENCE,
        "step(simd, &after[..size], waa, now, batch, TanhGradient(a));",
        "{ let _ = after; zip(simd, now, a, |d, a| tanh_gradient::<F, S>(simd, d, a)); }",
        BOTH,
        HIDDEN,
    ),
    ("carry from the last step", RECURRENCE, "&after[..size], waa", "&after[after.len() - size..], waa", BOTH, HIDDEN),
    ("waa transposed on the way back", RECURRENCE, "packed.pack(waa, n, n, batch);", "packed.pack_transposed(waa, n, n, batch);", BOTH, HIDDEN),
    ("da0 from the last step", RECURRENCE, "&dpre[..size], waa, da0", "&dpre[dpre.len() - size..], waa, da0", BOTH, "a0"),
    ("db of the last row only", PROJECTION, "for (&x, row) in self.x.iter().zip(self.dpx.chunks_exact(n)) {", "for (&x, row) in self.x.iter().zip(self.dpx.chunks_exact(n)) { self.db.fill(F::ZERO);", BOTH, "b"),
    ("dwax of the next character", PROJECTION, "self.dwax_t[x as usize * n..][..n]", "self.dwax_t[(x as usize * n + n) % (self.dwax_t.len() - n)..][..n]", BOTH, "wax"),
    ("hand: dwaa of the same state", BPTT, "let earlier = &self.states[..rows * n];", "let earlier = &self.states[batch * n..];", "hand", "waa"),
    ("hand: dwax not transposed", BPTT, "transpose(&self.wax_t, v, n, &mut gradients.wax);", "gradients.wax.copy_from_slice(&self.wax_t);", "hand", "wax"),
    ("autograd: dwaa of the same state", RECURRENCE_OP, "&earlier[..a.len()]", "a", "autograd", "waa"),
]


def wrong_ways(report):
    """The ways and tensors that are in no agreement with `unrolled`."""
    found = {}
    for pair in report["pairs"]:
        first, second = pair["ways"]
        if first == "unrolled":
            tensors = [t["tensor"] for t in pair["tensors"] if not t["agree"]]
            if tensors:
                found[second] = " ".join(tensors)
    return found


def main():
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "char-rnn"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("target", ".git"))
        for name, file, old, new, ways, tensors in ERRORS:
            if len(sys.argv) > 1 and name not in sys.argv[1:]:
                continue
            path = copy / file
            source = path.read_text()
            # The tests below the code may say the same.
            code, mark, tests = source.partition("#[cfg(test)]\nmod tests")
            if code.count(old) != 1:
                print(f"CANNOT PLANT  {name}: {file} has {code.count(old)} of {old!r}", flush=True)
                missed += 1
                continue
            path.write_text(code.replace(old, new) + mark + tests)
            # Optimising is most of a build, and only this package is built anew.
            quick = "profile.release.package.char-rnn.opt-level=1"
            run = ["cargo", "run", "--release", "--quiet", "--config", quick, "--bin", "char-rnn", "--", "gradcheck", "--json", "--hidden", "9"]
            environment = {**os.environ, "CARGO_TARGET_DIR": TARGET}
            done = subprocess.run(run, cwd=copy, env=environment, capture_output=True, text=True)
            path.write_text(source)
            found = wrong_ways(json.loads(done.stdout)["checks"][0]) if done.stdout else {}
            caught = done.returncode == 1 and found == {way: tensors for way in ways.split()}
            missed += not caught
            print(f"{'caught' if caught else 'MISSED':<8} {name:<38} {found or done.stderr[-800:]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
