#!/usr/bin/env python3
"""How well names that were not trained on are predicted, and how sampled names compare with the list:
the default, `--best`, and counting (a Kneser-Ney n-gram).

    python3 scripts/best_settings.py [LIST ...]

LIST is dinosaurs, first_names or surnames (scripts/make_lists.py), or short: 20, 50, 100, 300 and, of
the first names, 10,000 names drawn from the first two. For each of three splits a tenth of the distinct
names is the test set, on which nothing was chosen; each setting trains on the rest, with the split's
number as its seed. Prints a Markdown table: the mean and the extremes of the test loss in nats a
character, and its difference from counting, with the standard error over the splits; the
processor time of training; and of 1,000 sampled names how many are in the training list or occur
twice, and the total variation distances of first letters and lengths from that list, of the first
split. All lists take a quarter of an hour on one core.
"""

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

sys.dont_write_bytecode = True
import kneser_ney  # noqa: E402
from make_lists import make  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "release/char-rnn"
SPLITS = (1, 2, 3)
SETTINGS = {"default": "", "`--best`": "--best"}
SHORT = (20, 50, 100, 300, 10_000)


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


def split(source: Path, number: int, count: int | None = None) -> tuple[list[str], list[str]]:
    """The distinct names of `source` in the order of this split: those to train on, `count` of them if
    given, and the test set."""
    names = sorted(set(source.read_text(encoding="utf-8").split()))
    random.Random(number).shuffle(names)
    tenth = len(names) // 10
    return names[tenth:][:count], names[:tenth]


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


def paired(differences: list[float]) -> str:
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return f"{statistics.mean(differences):+.3f} ± {error:.3f}"


def measure(title: str, source: Path, count: int | None, folder: Path) -> None:
    """Prints the rows of a list, or of `count` of its names."""
    learn, held_out, model = (folder / name for name in ("learn.txt", "test.txt", "model"))
    nats, seconds, rows = defaultdict(list), defaultdict(list), {}
    for number in SPLITS:
        names, test = split(source, number, count)
        write(learn, names)
        # The alphabet of a short list lacks characters, and names with them are left out.
        write(held_out, test)
        for label, flags in SETTINGS.items():
            start = processor_seconds()
            run(PROGRAM, "train", learn, "--samples", 0, "--seed", number, "-o", model, *flags.split())
            seconds[label].append(processor_seconds() - start)
            evaluation = json.loads(run(PROGRAM, "eval", model, held_out, "--baseline", learn, "--json"))
            nats[label].append(evaluation["nats_per_character"])
            if number == SPLITS[0]:
                sampled = run(PROGRAM, "sample", model, "-n", 1000, "--seed", 1).lower().splitlines()
                rows[label] = likeness(sampled, names)
        baseline = evaluation["baseline"]
        nats["counting"].append(baseline["nats_per_character"])
        if number == SPLITS[0]:
            order, discount = baseline["order"], baseline["discount"]
            rows["counting"] = likeness(kneser_ney.sample(names, order, discount, 1000), names)
    title = f"{len(names):,} {title.replace('_', ' ')}"
    for label, row in rows.items():
        differences = [a - b for a, b in zip(nats[label], nats["counting"])]
        difference = paired(differences) if label in SETTINGS else ""
        time = f"{statistics.median(seconds[label]):.2g} s" if label in SETTINGS else ""
        print(f"| {title} | {label} | {spread(nats[label])} | {difference} | {time} | {row} |", flush=True)


def main() -> None:
    run("cargo", "build", "--release", "--manifest-path", ROOT / "Cargo.toml")
    lists = {"dinosaurs": lambda: ROOT / "data/dinos.txt"}
    lists |= {title: lambda title=title: make(title) for title in ("first_names", "surnames")}
    wanted = sys.argv[1:] or [*lists, "short"]
    print("| list | settings | nats a character | minus counting | time | in list | twice | first letters | lengths |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for title in wanted:
            if title != "short":
                measure(title, lists[title](), None, Path(folder))
                continue
            for source in ("dinosaurs", "first_names"):
                for count in SHORT:
                    if source == "first_names" or count < 1000:
                        measure(source, lists[source](), count, Path(folder))


if __name__ == "__main__":
    main()
