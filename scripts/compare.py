#!/usr/bin/env python3
"""Times char-rnn against NumPy, PyTorch and plain candle in one run.

    python3 scripts/compare.py            the table, about five minutes on a quiet machine
    python3 scripts/compare.py --quick    the same work in fewer rounds

Each round runs each contender once, one after the other, so that other load on the machine affects all
of them. The figure is the median of the rounds; the range behind it shows how quiet the machine was.
Everything runs on one thread unless --threads says otherwise. The peers are installed by
scripts/setup_peers.sh if they are missing, ours is built. Prints a Markdown table and writes every round
to target/compare.json.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PYTHON = ROOT / "target/peers/bin/python"
PEERS = ROOT / "scripts/peers.py"
NAMES = ROOT / "data/dinos.txt"
PROGRAM = TARGET / "release/char-rnn"
STEP_TIME = TARGET / "release/examples/step_time"
MODEL = TARGET / "compare.safetensors"

CONTENDERS = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "unrolled": "plain candle",
    "ours": "char-rnn",
    "hand": "char-rnn, hand",
}
NAMES_SAMPLED = 100_000
ITERATIONS = 35_000
# The characters of step_time's names, their end included.
LETTERS = 27


def run(*command):
    """Standard output of a command."""
    command = [str(part) for part in command]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr}")
    return result.stdout


def wall(*command):
    """Microseconds from the start of a process to its end."""
    start = time.perf_counter()
    run(*command)
    return (time.perf_counter() - start) * 1e6


def progress(line):
    """Shows what is being timed, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def peer(*task):
    return float(run(PYTHON, PEERS, *task))


def ours(*flags):
    """Microseconds a training step."""
    flags = ("--repeats", 5, "--threads", os.environ["OMP_NUM_THREADS"], *flags)
    return json.loads(run(STEP_TIME, *flags))["median_us"]


def training(hidden, batch, steps):
    shape = ("--hidden", hidden, "--batch", batch, "--steps", steps)
    return {
        "torch": lambda: peer("torch-step", hidden, batch, steps),
        "unrolled": lambda: ours("--backprop", "unrolled", *shape),
        "ours": lambda: ours("--backprop", "autograd", *shape),
        "hand": lambda: ours("--backprop", "hand", *shape),
    }


def rows(quick):
    """The table's rows: what is done, and for each contender a function that gives its microseconds."""
    iterations = 2000 if quick else 4000
    notebook = {
        "numpy": lambda: peer("numpy-train", NAMES, iterations),
        "torch": lambda: peer("torch-train", NAMES, iterations),
    }
    for key, method in [("unrolled", "unrolled"), ("ours", "autograd"), ("hand", "hand")]:
        notebook[key] = lambda method=method: ours("--backprop", method, "--names", NAMES)
    sampling = {
        "numpy": lambda: peer("numpy-sample", MODEL, 1000),
        "torch": lambda: peer("torch-sample", MODEL, 10_000),
        "ours": lambda: wall(PROGRAM, "sample", MODEL, "-n", NAMES_SAMPLED) / NAMES_SAMPLED,
    }
    train = ("train", NAMES, "--iterations", ITERATIONS, "--backprop", "hand", "--quiet", "-o", MODEL)
    whole_training = {
        "numpy": lambda: wall(PYTHON, ROOT / "scripts/notebook.py", NAMES, "--iterations", ITERATIONS),
        "hand": lambda: wall(PROGRAM, *train),
    }
    best = {
        "torch": lambda: peer("torch-best", NAMES, 300, 16, 300),
        "unrolled": lambda: ours("--backprop", "unrolled", "--best", "--names", NAMES),
        "ours": lambda: ours("--backprop", "autograd", "--best", "--names", NAMES),
        "hand": lambda: ours("--backprop", "hand", "--best", "--names", NAMES),
    }
    whole_sampling = {
        "torch": lambda: wall(PYTHON, "-c", "import torch"),
        "ours": lambda: wall(PROGRAM, "sample", MODEL, "-n", 1),
    }
    return [
        ("notebook training, an iteration", notebook),
        ("training step, n_a 256, B 1, T 13", training(256, 1, 13)),
        ("training step, n_a 256, B 32, T 16", training(256, 32, 16)),
        ("training step, n_a 512, B 64, T 16", training(512, 64, 16)),
        ("training step of --best, dinosaurs", best),
        ("sampling many names, a name", sampling),
        (f"process: train, {ITERATIONS:,} iterations", whole_training),
        ("process: sample a name (PyTorch: import)", whole_sampling),
    ]


def measure(quick):
    """One record a row: medians and all rounds, by contender."""
    records = []
    for work, contenders in rows(quick):
        rounds = {who: [] for who in contenders}
        # The NumPy script's whole run takes as long as all else together.
        repeats = 1 if work.startswith("process: train") and quick else 2 if quick else 5
        for _ in range(repeats):
            for who, time_it in contenders.items():
                progress(f"{work}: {CONTENDERS[who]}")
                if who != "numpy" or not work.startswith("process: train") or len(rounds[who]) < 2:
                    rounds[who].append(time_it())
        medians = {who: statistics.median(times) for who, times in rounds.items()}
        records.append({"work": work, "microseconds": medians, "rounds": rounds})
    progress("")
    return records


def duration(micros):
    for limit, unit, name in [(1e3, 1, "µs"), (1e6, 1e3, "ms"), (float("inf"), 1e6, "s")]:
        if micros < limit:
            return f"{micros / unit:.3g} {name}" if micros / unit < 100 else f"{micros / unit:.0f} {name}"


def cell(record, who):
    if who not in record["rounds"]:
        return ""
    times = record["rounds"][who]
    text = f"{duration(record['microseconds'][who])} ({duration(min(times))} – {duration(max(times))})"
    if record["work"].startswith("sampling"):
        text += f", {1e6 / record['microseconds'][who]:,.0f} names/s"
    return text


def table(records):
    lines = ["| work | " + " | ".join(CONTENDERS.values()) + " |", "|" + " --- |" * (len(CONTENDERS) + 1)]
    for record in records:
        cells = [cell(record, who) for who in CONTENDERS]
        lines.append("| " + " | ".join([record["work"], *cells]) + " |")
    return "\n".join(lines)


def shares(records, peak):
    """The GFLOP/s of training steps, `T B (6 n_a^2 + 6 n_a n_x)` operations, and their share of the peak."""
    lines = [f"Of {peak:.0f} GFLOP/s, multiply-adds in registers on one core:"]
    for record in records:
        sizes = re.fullmatch(r"training step, n_a (\d+), B (\d+), T (\d+)", record["work"])
        if sizes:
            n, batch, steps = map(int, sizes.groups())
            operations = steps * batch * (6 * n * n + 6 * n * LETTERS)
            for who in ("ours", "hand"):
                gflops = operations / record["microseconds"][who] / 1e3
                lines.append(f"  {record['work']}, {CONTENDERS[who]}: {gflops:.0f} ({gflops / peak:.0%})")
    return "\n".join(lines)


def setting(threads):
    """The machine and the versions, in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*: (.*)", cpuinfo.read_text())):
        model = found[1]
    candle = re.search(r'name = "candle-core"\nversion = "(.*)"', (ROOT / "Cargo.lock").read_text())[1]
    rust = run("rustc", "--version").split()[1]
    peers = run(PYTHON, PEERS, "versions").strip()
    count = "one thread" if threads == 1 else f"{threads} threads"
    return f"{model}, {os.cpu_count()} cores, {count}; {peers}, candle {candle}, Rust {rust}"


def main():
    parser = argparse.ArgumentParser(description="Times char-rnn against NumPy, PyTorch and plain candle.")
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of each contender (default: 1)",
    )
    parser.add_argument("--json", type=Path, default=TARGET / "compare.json", help="default: target/compare.json")
    arguments = parser.parse_args()

    for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CANDLE_NUM_THREADS"]:
        os.environ[variable] = str(arguments.threads)
    # Candle's matrix products; more threads only make plain candle slower at these sizes.
    os.environ["RAYON_NUM_THREADS"] = "1"
    if not PYTHON.exists():
        subprocess.run([ROOT / "scripts/setup_peers.sh"], check=True, stdout=sys.stderr)
    build = ["cargo", "build", "--release", "--bins", "--example", "step_time"]
    subprocess.run(build, check=True, cwd=ROOT)
    # The model that is sampled from.
    run(PROGRAM, "train", NAMES, "--backprop", "hand", "--quiet", "-o", MODEL)

    where = setting(arguments.threads)
    load = os.getloadavg()[0]
    records = measure(arguments.quick)
    print(table(records))
    print("\n" + shares(records, json.loads(run(STEP_TIME, "--peak"))["gflops"]))
    print(f"\n{where}. Medians of the rounds (fastest – slowest). Load average at the start: {load:.1f}.")

    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"setting": where, "threads": arguments.threads, "load": load, "rows": records}
    arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
