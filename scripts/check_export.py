#!/usr/bin/env python3
"""Checks that exported models give the same logits in PyTorch and NumPy, and PyTorch's in char-rnn.

    scripts/setup_peers.sh
    python3 scripts/check_export.py

Trains a small model in each precision, exports it in each format, and runs it on some names: in
PyTorch with `torch.nn.RNN` and `torch.nn.Linear`, in NumPy by the equations. Also writes the PyTorch
module as a model file, as docs/model-format.md shows, with two biases that are not zero, and runs
that in char-rnn. Prints the maximum difference of the logits (relative to 1 + their size) and exits
with 1 if it exceeds 1e-5 in single or 1e-12 in double precision.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "target/peers/bin/python"
NAMES = ["tyrannosaurus", "diplodocus", "a", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"]
# Single precision rounds to 2e-6 over 40 steps of a trained network.
BOUNDS = {"f32": 1e-5, "f64": 1e-12}

if Path(sys.prefix).resolve() != PEERS.parent.parent.resolve():
    if not PEERS.exists():
        sys.exit("check_export.py: run scripts/setup_peers.sh first")
    os.execv(PEERS, [str(PEERS), __file__, *sys.argv[1:]])

import numpy
import safetensors
import safetensors.torch
import torch


def cargo(*arguments):
    done = subprocess.run(
        ["cargo", "run", "--release", "--quiet", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"check_export.py: {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def one_hot(name, characters):
    """The zero vector, then the characters: (T, n_x)."""
    x = numpy.zeros((len(name) + 1, len(characters)))
    for t, character in enumerate(name):
        x[t + 1, characters.index(character)] = 1
    return x


class Model(torch.nn.Module):
    def __init__(self, n_x, n_a, dtype):
        super().__init__()
        self.rnn = torch.nn.RNN(n_x, n_a, dtype=dtype)
        self.linear = torch.nn.Linear(n_a, n_x, dtype=dtype)

    def forward(self, x):
        return self.linear(self.rnn(x)[0])


def logits_of(model, characters):
    dtype = model.linear.bias.dtype
    with torch.inference_mode():
        return [
            model(torch.tensor(one_hot(name, characters), dtype=dtype)).numpy() for name in NAMES
        ]


def loaded(path):
    """The PyTorch module in an exported file, and its characters."""
    with safetensors.safe_open(path, "pt") as file:
        characters = file.metadata()["vocabulary"]
    tensors = safetensors.torch.load_file(path)
    n_a, n_x = tensors["rnn.weight_ih_l0"].shape
    model = Model(n_x, n_a, tensors["linear.bias"].dtype)
    model.load_state_dict(tensors)
    return model, characters


def by_pytorch(path):
    return logits_of(*loaded(path))


def write(model, characters, path):
    """The PyTorch module as a model file."""
    p = model.state_dict()
    tensors = {
        "wax": p["rnn.weight_ih_l0"],
        "waa": p["rnn.weight_hh_l0"],
        "wya": p["linear.weight"],
        "b": p["rnn.bias_ih_l0"] + p["rnn.bias_hh_l0"],
        "by": p["linear.bias"],
    }
    safetensors.torch.save_file(tensors, path, {"format": "char-rnn", "vocabulary": characters})


def by_numpy(path):
    p = numpy.load(path)
    characters = "".join(map(chr, p["vocabulary"]))
    logits = []
    for name in NAMES:
        a, z = numpy.zeros_like(p["b"]), []
        for x in one_hot(name, characters).astype(a.dtype):
            a = numpy.tanh(p["wax"] @ x + p["waa"] @ a + p["b"])
            z.append(p["wya"] @ a + p["by"])
        logits.append(numpy.array(z))
    return logits


def by_char_rnn(model):
    logits = cargo("--example", "logits", "--", model, *NAMES)
    return [numpy.array(json.loads(line)) for line in logits.splitlines()]


def agree(what, ours, theirs, bound):
    assert all(a.shape == b.shape for a, b in zip(ours, theirs, strict=True))
    largest = max(numpy.max(abs(a - b) / (1 + abs(a))) for a, b in zip(ours, theirs))
    print(f"{what:<14} {largest:.1e}, bound {bound:.0e}: {'pass' if largest <= bound else 'FAIL'}")
    return largest <= bound


def main():
    passed = []
    with tempfile.TemporaryDirectory() as folder:
        for dtype, bound in BOUNDS.items():
            model = Path(folder) / f"{dtype}.safetensors"
            flags = ["--iterations", 5000, "--dtype", dtype, "--quiet", "-o", model]
            cargo("--bin", "char-rnn", "--", "train", *flags)
            ours = by_char_rnn(model)
            for form, theirs_by in [("pytorch", by_pytorch), ("npz", by_numpy)]:
                exported = Path(folder) / f"{dtype}.{form}"
                cargo("--bin", "char-rnn", "--", "export", model, "--format", form, "-o", exported)
                passed.append(agree(f"{dtype} {form}", ours, theirs_by(exported), bound))
            module, characters = loaded(Path(folder) / f"{dtype}.pytorch")
            for bias in [module.rnn.bias_ih_l0, module.rnn.bias_hh_l0]:
                torch.nn.init.normal_(bias)
            written = Path(folder) / f"{dtype}.written"
            write(module, characters, written)
            theirs = logits_of(module, characters)
            passed.append(agree(f"{dtype} written", by_char_rnn(written), theirs, bound))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
