#!/usr/bin/env python3
"""Times char-rnn against NumPy, PyTorch and plain candle, side by side, and says whether it is as fast as it should be.

    python3 scripts/compare.py            the table, about five minutes on a quiet machine
    python3 scripts/compare.py --quick    the same work, fewer rounds; leaves docs/speed.svg alone

Everything runs here and now, on one thread: in each round each contender once, one after the other, so that whatever else
the machine does hits them all. The figure is the median of the rounds; the range behind it says how quiet it was. The
peers are installed by scripts/setup_peers.sh if they are missing, ours is built. Prints a Markdown table, and writes
target/compare.json (every round) and docs/speed.svg (the medians).
"""

import argparse
import json
import math
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
    """Shows what is being timed, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def peer(*task):
    return float(run(PYTHON, PEERS, *task))


def ours(*flags):
    """Microseconds a training step."""
    return json.loads(run(STEP_TIME, "--repeats", 5, *flags))["median_us"]


def training(hidden, batch, steps):
    shape = ("--hidden", hidden, "--batch", batch, "--steps", steps)
    return {
        "torch": lambda: peer("torch-step", hidden, batch, steps),
        "unrolled": lambda: ours("--backprop", "unrolled", *shape),
        "ours": lambda: ours("--backprop", "autograd", *shape),
        "hand": lambda: ours("--backprop", "hand", *shape),
    }


def rows(quick):
    """The table's rows: what is done, who does it (each gives microseconds), and for each of ours the bar: how many
    times as fast as which peer it should be, or how many microseconds it may take."""
    iterations = 2000 if quick else 4000
    notebook = {
        "numpy": lambda: peer("numpy-train", NAMES, iterations),
        "torch": lambda: peer("torch-train", NAMES, iterations),
    }
    for key, way in [("unrolled", "unrolled"), ("ours", "autograd"), ("hand", "hand")]:
        notebook[key] = lambda way=way: ours("--backprop", way, "--names", NAMES)
    sampling = {
        "numpy": lambda: peer("numpy-sample", MODEL, 1000),
        "torch": lambda: peer("torch-sample", MODEL, 10_000),
        "ours": lambda: wall(PROGRAM, "sample", MODEL, "-n", NAMES_SAMPLED) / NAMES_SAMPLED,
    }
    learn = ("train", NAMES, "--iterations", ITERATIONS, "--backprop", "hand", "--quiet", "-o", MODEL)
    whole_training = {
        "numpy": lambda: wall(PYTHON, ROOT / "scripts/notebook.py", NAMES, "--iterations", ITERATIONS),
        "hand": lambda: wall(PROGRAM, *learn),
    }
    whole_sampling = {
        "torch": lambda: wall(PYTHON, "-c", "import torch"),
        "ours": lambda: wall(PROGRAM, "sample", MODEL, "-n", 1),
    }

    def faster(peer, **factors):
        return {who: (peer, factor) for who, factor in factors.items()}

    return [
        ("notebook training, an iteration", notebook, faster("numpy", ours=25, hand=100)),
        ("training step, n_a 256, B 1, T 13", training(256, 1, 13), faster("torch", ours=10, hand=10)),
        ("training step, n_a 256, B 32, T 16", training(256, 32, 16), faster("torch", ours=2, hand=2)),
        ("training step, n_a 512, B 64, T 16", training(512, 64, 16), faster("torch", ours=1.5, hand=1.5)),
        ("sampling many names, a name", sampling, {"ours": (None, 5)}),
        (f"process: train, {ITERATIONS:,} iterations", whole_training, {"hand": (None, 250_000)}),
        ("process: sample a name (PyTorch: import)", whole_sampling, {"ours": (None, 10_000)}),
    ]


def measure(quick):
    """One record a row: medians, ranges and all rounds, by contender; and the bars."""
    records = []
    for work, contenders, bars in rows(quick):
        rounds = {who: [] for who in contenders}
        # The NumPy script's whole run takes as long as all else together.
        repeats = 1 if work.startswith("process: train") and quick else 2 if quick else 5
        for _ in range(repeats):
            for who, time_it in contenders.items():
                progress(f"{work}: {CONTENDERS[who]}")
                if who != "numpy" or not work.startswith("process: train") or len(rounds[who]) < 2:
                    rounds[who].append(time_it())
        medians = {who: statistics.median(times) for who, times in rounds.items()}
        checks = {}
        for who, (against, bar) in bars.items():
            ratio = (medians[against] / medians[who]) / bar if against else bar / medians[who]
            checks[who] = {"against": against, "bar": bar, "reached": ratio, "met": ratio >= 1}
        records.append({"work": work, "microseconds": medians, "rounds": rounds, "bars": checks})
    progress("")
    return records


# ---- What is shown -------------------------------------------------------------------------------------------------


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


def verdict(record):
    parts = []
    for who, check in record["bars"].items():
        if check["against"]:
            bar = f"{check['bar']} × {CONTENDERS[check['against']]}"
            got = f"{check['reached'] * check['bar']:.3g} ×"
        else:
            bar, got = duration(check["bar"]), f"{check['reached']:.2f} of the bar's speed"
        parts.append(f"{CONTENDERS[who]}: {bar}: {got}, {'met' if check['met'] else '**missed**'}")
    return "; ".join(parts)


def table(records):
    lines = ["| work | " + " | ".join(CONTENDERS.values()) + " | bar |", "|" + " --- |" * (len(CONTENDERS) + 2)]
    for record in records:
        cells = [cell(record, who) for who in CONTENDERS]
        lines.append("| " + " | ".join([record["work"], *cells, verdict(record)]) + " |")
    return "\n".join(lines)


COLOURS = {"numpy": "#8a8f98", "torch": "#c4713b", "unrolled": "#8f6fb5", "ours": "#2f8f6b", "hand": "#2b7bba"}


def chart(records, setting):
    """Bars on a logarithmic scale of time. Text follows the reader's light or dark mode; the background is theirs."""
    left, right, bar, gap = 330, 130, 15, 22
    low, high, decade = 0, 8, 62  # 10^low to 10^high microseconds
    width = left + (high - low) * decade + right
    def x(micros):
        return left + (max(low, math.log10(micros)) - low) * decade

    body, y = [], 50
    for record in records:
        times = [(who, record["microseconds"][who]) for who in CONTENDERS if who in record["microseconds"]]
        middle = y + len(times) * bar / 2 + 4
        body.append(f'<text x="{left - 12}" y="{middle:.0f}" text-anchor="end">{record["work"]}</text>')
        for who, micros in times:
            body.append(
                f'<rect x="{left}" y="{y}" width="{x(micros) - left:.1f}" height="{bar - 2}" rx="2" fill="{COLOURS[who]}">'
                f"<title>{CONTENDERS[who]}: {duration(micros)}</title></rect>"
                f'<text class="small" x="{x(micros) + 5:.1f}" y="{y + 10}">{CONTENDERS[who]}, {duration(micros)}</text>'
            )
            y += bar
        y += gap
    grid = "".join(
        f'<line x1="{x(10**k):.0f}" y1="42" x2="{x(10**k):.0f}" y2="{y - gap + 6}"/>'
        f'<text class="small" x="{x(10**k):.0f}" y="34" text-anchor="middle">{duration(10**k)}</text>'
        for k in range(low, high + 1)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 14}" width="{width}" height="{y + 14}" role="img"
  aria-label="Times of char-rnn, NumPy, PyTorch and plain candle on a logarithmic scale; shorter is better">
<style>
  text {{ font: 13px system-ui, sans-serif; fill: #1f2328; }}
  .small {{ font-size: 11px; }}
  line {{ stroke: #8a8f98; stroke-opacity: 0.3; }}
  @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3; }} }}
</style>
<text class="small" x="{left}" y="14">shorter is better; each line is ten times the last</text>
{grid}
{chr(10).join(body)}
<text class="small" x="{width / 2}" y="{y + 6}" text-anchor="middle">{setting}</text>
</svg>
"""


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
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five; do not write docs/speed.svg")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="how many threads each peer may use (default: 1). char-rnn's kernels use one whatever this says",
    )
    parser.add_argument("--json", type=Path, default=TARGET / "compare.json", help="default: target/compare.json")
    parser.add_argument("--svg", type=Path, help="default: docs/speed.svg, with --quick target/compare.svg")
    arguments = parser.parse_args()
    svg = arguments.svg or (TARGET / "compare.svg" if arguments.quick else ROOT / "docs/speed.svg")

    for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"]:
        os.environ[variable] = str(arguments.threads)
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
    print(f"\n{where}. Medians of the rounds (fastest – slowest). Load average at the start: {load:.1f}.")

    for path in [arguments.json, svg]:
        path.parent.mkdir(parents=True, exist_ok=True)
    result = {"setting": where, "threads": arguments.threads, "load": load, "rows": records}
    arguments.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    svg.write_text(chart(records, where), encoding="utf-8")


if __name__ == "__main__":
    main()
