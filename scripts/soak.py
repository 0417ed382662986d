#!/usr/bin/env python3
"""Trains for an hour and samples a million names; fails if the memory of either grows.

    python3 scripts/soak.py                                  an hour and a few seconds
    python3 scripts/soak.py --minutes 2 --names 100000       a shorter test

The memory is the anonymous resident size from /proc (Linux only), without the file mappings of the
program. The first twentieth of a run does not count. Of the rest, the median of the second half may
exceed that of the first by a tolerance: a checkpoint takes some memory for a moment. Training saves
and prints names as usual and ends with SIGTERM. Further arguments go to `char-rnn train`.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# In KiB: far less than a leak of a byte an iteration would be, more than the noise.
TOLERANCE = 1024


def resident(process, key):
    """A size in /proc/PID/status in KiB, or None if the process has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) if found else None


class Watch:
    """Measures the memory of a process at regular intervals."""

    def __init__(self, process, every):
        self.process, self.every = process, every
        self.times, self.sizes, self.peak = [], [], 0
        self.start = time.monotonic()

    def run(self, seconds=float("inf")):
        """Measures until the process ends or the time is over."""
        while self.process.poll() is None and time.monotonic() - self.start < seconds:
            size, peak = resident(self.process, "RssAnon"), resident(self.process, "VmHWM")
            if size and peak:
                self.times.append(time.monotonic() - self.start)
                self.sizes.append(size)
                self.peak = peak
            time.sleep(self.every)

    def report(self, what):
        """Prints the measurements. Returns whether the memory was constant."""
        settled = [size for at, size in zip(self.times, self.sizes) if at >= self.times[-1] / 20]
        half = len(settled) // 2
        if not half:
            sys.exit(f"{what}: it ended before it could be measured")
        first, second = statistics.median(settled[:half]), statistics.median(settled[half:])
        constant = second <= first + TOLERANCE
        print(f"{what}: {self.times[-1]:.0f} s, {len(self.sizes)} measurements in KiB")
        print(
            f"  allocated: start {settled[0]}, end {settled[-1]}, maximum {max(settled)}; "
            f"median of the first half {first:.0f}, of the second {second:.0f}: "
            f"{'constant' if constant else 'IT GROWS'}; peak with the program itself {self.peak}",
            flush=True,
        )
        return constant


def train(program, folder, minutes, further):
    """Whether the memory was constant in training."""
    command = [program, "train", "--iterations", str(2**63), "-o", "soak.safetensors", *further]
    with open(folder / "stderr", "w+") as stderr:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr)
        watch = Watch(process, 1)
        watch.run(minutes * 60)
        process.terminate()
        status = process.wait(timeout=600)
        stderr.seek(0)
        last = stderr.read().splitlines()[-1]
    if status != 128 + signal.SIGTERM:
        sys.exit(f"training ended by itself, with status {status}: {last}")
    iterations = re.search(r"after (\d+) of", last)[1]
    return watch.report(f"train, {int(iterations):,} iterations")


def sample(program, folder, names):
    """Whether the memory was constant in sampling."""
    command = [program, "sample", "soak.safetensors", "-n", str(names), "--seed", "1"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE)
    watch = Watch(process, 0.02)
    watching = threading.Thread(target=watch.run)
    watching.start()
    lines = 0
    while part := process.stdout.read(1 << 16):
        lines += part.count(b"\n")
    status = process.wait()
    watching.join()
    if (status, lines) != (0, names):
        sys.exit(f"sample ended with status {status} after {lines} of {names} names")
    return watch.report(f"sample, {names:,} names")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--program", help="the program to test; built if not given")
    arguments, further = parser.parse_known_args()
    if not arguments.program:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    program = Path(arguments.program or TARGET / "release/char-rnn").resolve()
    with tempfile.TemporaryDirectory() as folder:
        constant = train(program, Path(folder), arguments.minutes, further)
        constant &= sample(program, Path(folder), arguments.names)
    return 0 if constant else 1


if __name__ == "__main__":
    sys.exit(main())
