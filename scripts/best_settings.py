#!/usr/bin/env python3
"""Held-out loss of the default and of better settings, on names that no choice has used.

    python3 scripts/best_settings.py

On two lists, the built-in one and target/surnames.txt (made by scripts/make_surnames.py), a tenth of the
distinct names is the test set. Each of SETTINGS trains on the rest with three seeds, holds out a tenth of
that for validation (on which the settings were chosen, and the best model of a run is kept), and is
evaluated on the test set with `char-rnn eval`. Prints a Markdown table: mean and extremes over the seeds.
About eight minutes on one core.
"""

import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
from make_surnames import make  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "release/char-rnn"
SEEDS = (1, 2, 3)

SETTINGS = {
    "dinosaurs": {
        "default": "",
        "best model kept": "--validation 0.1 --eval-every 1000",
        "zero state": "--validation 0.1 --eval-every 1000 --zero-state",
        "best found": "--validation 0.1 --zero-state --optimizer adamw --decay cosine --hidden 100 --batch-size 8 "
        "--epochs 15 --learning-rate 0.008 --weight-decay 0.1 --eval-every 125",
    },
    "surnames": {
        "default": "",
        "best model kept": "--validation 0.1 --eval-every 1000",
        "zero state": "--validation 0.1 --eval-every 1000 --zero-state",
        "best found": "--validation 0.1 --zero-state --optimizer adamw --decay cosine --hidden 256 --batch-size 64 "
        "--epochs 20 --learning-rate 0.003 --weight-decay 0.03 --eval-every 900 --backprop hand",
    },
}


def run(*command: object) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def split(source: Path, folder: Path) -> tuple[Path, Path, int]:
    """Two lists, to learn and for the test, of the distinct names of `source`; and how many there are."""
    names = sorted(set(source.read_text(encoding="utf-8").split()))
    random.Random(7).shuffle(names)
    tenth = len(names) // 10
    paths = folder / f"{source.stem}.learn.txt", folder / f"{source.stem}.test.txt"
    for path, part in zip(paths, (names[tenth:], names[:tenth])):
        path.write_text("\n".join(sorted(part)) + "\n", encoding="utf-8")
    return *paths, len(names)


def main() -> None:
    run("cargo", "build", "--release", "--manifest-path", ROOT / "Cargo.toml")
    lists = {"dinosaurs": ROOT / "data/dinos.txt", "surnames": make()}
    print("| list | settings | nats a character | perplexity | time |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        for title, source in lists.items():
            learn, test, names = split(source, Path(folder))
            for label, flags in SETTINGS[title].items():
                nats, seconds = [], []
                for seed in SEEDS:
                    start = time.perf_counter()
                    run(PROGRAM, "train", learn, "-q", "--samples", 0, "--seed", seed, "-o", model, *flags.split())
                    seconds.append(time.perf_counter() - start)
                    nats.append(json.loads(run(PROGRAM, "eval", model, test, "--json"))["nats_per_character"])
                mean = statistics.mean(nats)
                perplexity = statistics.mean(math.exp(n) for n in nats)
                print(
                    f"| {names:,} {title} | {label}: `{flags or 'train'}` | {mean:.3f} ({min(nats):.3f} to "
                    f"{max(nats):.3f}) | {perplexity:.2f} | {statistics.median(seconds):.2g} s |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
