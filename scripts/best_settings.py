#!/usr/bin/env python3
"""How well names that were not trained on are predicted, and how sampled names compare with the list:
the default, `--best`, and counting (a Kneser-Ney n-gram).

    python3 scripts/best_settings.py [LIST ...]

LIST is dinosaurs, first_names or surnames (scripts/make_lists.py), or short: 20, 50, 100 and 300 names
drawn from the first two. A tenth of the distinct names is the test set, on which nothing was chosen. Each
setting trains on the rest with three seeds. Prints Markdown tables: the mean and the extremes of the
test loss in nats a character, the processor time of training, and of 1,000 sampled names how many
are in the training list or occur twice, and the total variation distances of first letters and
lengths from that list. All lists take half an hour on one core.
"""

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
import kneser_ney  # noqa: E402
from make_lists import make  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "release/char-rnn"
SEEDS = (1, 2, 3)
SETTINGS = {"default": "", "`--best`": "--best"}
SHORT = (20, 50, 100, 300)


def run(*command: object) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def processor_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def write(path: Path, names: list[str]) -> Path:
    path.write_text("".join(name + "\n" for name in sorted(names)), encoding="utf-8")
    return path


def split(source: Path) -> tuple[list[str], list[str]]:
    """The distinct names of `source`, in a fixed random order: those to train on and the test set."""
    names = sorted(set(source.read_text(encoding="utf-8").split()))
    random.Random(7).shuffle(names)
    tenth = len(names) // 10
    return names[tenth:], names[:tenth]


def likeness(sampled: list[str], names: list[str]) -> str:
    """The columns on sampled names, as `eval` measures them."""

    def distance(feature) -> float:
        a, b = Counter(map(feature, sampled)), Counter(map(feature, names))
        return sum(abs(a[key] / len(sampled) - b[key] / len(names)) for key in a | b) / 2

    known = set(names)
    listed = sum(name in known for name in sampled)
    twice = len(sampled) - len(set(sampled))
    letters, lengths = distance(lambda name: name[:1]), distance(len)
    return f"{listed} | {twice} | {letters:.2f} | {lengths:.2f}"


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def measure(title: str, names: list[str], test: list[str], folder: Path) -> None:
    """Prints the rows of a list."""
    learn, held_out = write(folder / "learn.txt", names), write(folder / "test.txt", test)
    model = folder / "model"
    for label, flags in SETTINGS.items():
        nats, seconds = [], []
        for seed in SEEDS:
            start = processor_seconds()
            run(PROGRAM, "train", learn, "-q", "--samples", 0, "--seed", seed, "-o", model, *flags.split())
            seconds.append(processor_seconds() - start)
            evaluation = json.loads(run(PROGRAM, "eval", model, held_out, "--baseline", learn, "--json"))
            nats.append(evaluation["nats_per_character"])
        sampled = run(PROGRAM, "sample", model, "-n", 1000, "--seed", 1).lower().splitlines()
        time = f"{statistics.median(seconds):.2g} s"
        print(f"| {title} | {label} | {spread(nats)} | {time} | {likeness(sampled, names)} |", flush=True)
    baseline = evaluation["baseline"]
    order, discount = baseline["order"], baseline["discount"]
    sampled = kneser_ney.sample(names, order, discount, 1000)
    label = f"Kneser-Ney, {order}-gram, D {discount}"
    loss = f"{baseline['nats_per_character']:.3f}"
    print(f"| {title} | {label} | {loss} | | {likeness(sampled, names)} |", flush=True)


def main() -> None:
    run("cargo", "build", "--release", "--manifest-path", ROOT / "Cargo.toml")
    lists = {"dinosaurs": lambda: ROOT / "data/dinos.txt"}
    lists |= {title: lambda title=title: make(title) for title in ("first_names", "surnames")}
    wanted = sys.argv[1:] or [*lists, "short"]
    print("| list | settings | nats a character | time | in list | twice | first letters | lengths |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for title in wanted:
            if title != "short":
                names, test = split(lists[title]())
                measure(f"{len(names):,} {title.replace('_', ' ')}", names, test, Path(folder))
                continue
            for source in ("dinosaurs", "first_names"):
                names, test = split(lists[source]())
                for count in SHORT:
                    short = random.Random(count).sample(names, count)
                    # The alphabet of a short list lacks characters, and names with them are left out.
                    measure(f"{count} {source.replace('_', ' ')}", short, test, Path(folder))


if __name__ == "__main__":
    main()
