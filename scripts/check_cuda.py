#!/usr/bin/env python3
"""Checks and measures char-rnn on a GPU, in one call, and prints a report in Markdown: the card, the date, every figure.

    scripts/check_cuda.py > docs/cuda.md          needs an NVIDIA GPU, and PyTorch with CUDA as the peer to measure against
    scripts/check_cuda.py --no-torch              without PyTorch: the checks, and our own times
    scripts/check_cuda.py --device cpu --quick    the script itself, where there is no GPU

The program is target/release/char-rnn, built with the feature `cuda` (scripts/setup_cuda.sh), or the one that --program names:
it can be built elsewhere, stripped and carried. It needs the driver, and of the toolkit libcudart.so.13, libcublas.so.13 and
libcurand.so.10, which are looked for among this Python's packages (nvidia-*, as PyTorch for CUDA 13 brings them) before anywhere
else. The script stands in a checkout, whose data/dinos.txt it learns. The exit status is 1 where a check failed, a bar was missed
or PyTorch is missing; what fails is told in the report, and the rest goes on.
"""

import argparse
import datetime
import math
import os
import platform
import random
import re
import shutil
import statistics
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ROOT / "data/dinos.txt"
WAYS = ["unrolled", "autograd", "hand"]
LEARNING_RATE = 0.01
CLIP = 5
# What a card can do at most in single precision without tensor cores, in 10^12 operations a second, and how many 10^9 bytes a
# second its memory gives, as its maker says.
CARDS = {"H200": (66.9, 4800), "H100 PCIe": (51.2, 2000), "H100": (66.9, 3350), "A100": (19.5, 2039)}
# A launch takes the processor this long at least, in microseconds.
LAUNCH = 2.5


# No run of the program takes longer than this, in seconds.
LONGEST = 1800


class Failed(Exception):
    """What was wanted could not be had."""


class Report:
    """What is printed, and whether all is well."""

    def __init__(self):
        self.failed = []

    def say(self, text=""):
        print(text, flush=True)

    def check(self, what, failure):
        """A line of the list of checks; `failure` is None, or says what went wrong."""
        self.say(f"- {what}: {'ok' if failure is None else '**failed**: ' + failure}")
        if failure is not None:
            self.failed.append(what)

    def attempt(self, what, work, *arguments):
        """Does a part of the work; where it breaks off, that is a failed check."""
        try:
            return work(*arguments)
        except Exception as error:  # PyTorch's are of many kinds
            self.check(what, " ".join(f"{type(error).__name__}: {error}".split()))


def environment():
    """What the program runs in: the CUDA libraries among this Python's packages are found first."""
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages(), site.getusersitepackages()}
    folders = sorted(str(folder) for place in packages for folder in Path(place).glob("nvidia/*/lib"))
    others = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join([*folders, *others])}


class Program:
    def __init__(self, path, folder):
        self.path, self.folder, self.environment = path, folder, environment()

    def run(self, *arguments):
        command = [str(self.path), *map(str, arguments)]
        try:
            return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=self.environment, timeout=LONGEST)
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, -1, "", str(error))

    def output(self, *arguments):
        result = self.run(*arguments)
        if result.returncode:
            raise Failed(f"`{' '.join(map(str, arguments))}`: status {result.returncode}: {result.stderr.strip()}")
        return result.stdout

    def seconds(self, *arguments):
        start = time.perf_counter()
        self.output(*arguments)
        return time.perf_counter() - start


# ---- Checks --------------------------------------------------------------------------------------------------------


def shapes(count):
    """Flags of gradcheck: awkward sizes, then random ones."""
    awkward = [(1, 2, 1, 1), (50, 27, 1, 1), (50, 27, 8, 1), (50, 27, 8, 4), (257, 27, 5, 3), (33, 1000, 3, 2), (300, 27, 4, 1)]
    draw = random.Random(1)
    drawn = [(draw.randint(1, 280), draw.randint(2, 150), draw.randint(1, 12), draw.randint(1, 9)) for _ in range(count)]
    for hidden, vocabulary, steps, batch in awkward + drawn:
        yield ["--hidden", hidden, "--vocabulary", vocabulary, "--steps", steps, "--batch", batch]


def check_gradients(report, program, device, quick):
    runs = [["--all"]]
    for shape in shapes(2 if quick else 12):
        runs += [[*shape, "--entries", 40, "--device", device, "--dtype", dtype] for dtype in ["f64", "f32"]]
    for flags in runs:
        result = program.run("gradcheck", *flags)
        summary = ((result.stdout.strip() or result.stderr.strip()).splitlines() or [""])[-1]
        failure = None if result.returncode == 0 else f"status {result.returncode}: {result.stderr.strip() or summary}"
        if flags == ["--all"] and device.startswith("cuda") and "cuda" not in result.stdout:
            failure = "it did not find the GPU"
        report.check(f"`gradcheck {' '.join(map(str, flags))}`", failure)


def check_names(report, program, device):
    """The same seed gives the same names: rounding alone can part them, where a uniform number falls between two sums."""
    for dtype, most in [("f64", 0), ("f32", 2)]:
        model = f"{dtype}.safetensors"
        program.output("train", NAMES, "--iterations", 5000, "--backprop", "hand", "--dtype", dtype, "--quiet", "-o", model)
        here, there = (program.output("sample", model, "-n", 1000, "--seed", 1, "--device", where).split("\n") for where in ["cpu", device])
        apart = sum(a != b for a, b in zip(here, there)) + abs(len(here) - len(there))
        failure = None if apart <= most else f"{apart} of 1,000 differ"
        report.check(f"1,000 names in {dtype} are those of the CPU ({apart} differ, at most {most} may)", failure)


def check_training(report, program, device, quick):
    iterations = 1001 if quick else 4001
    expected = program.output("train", NAMES, "--notebook", "--iterations", iterations, "--backprop", "hand", "-o", "cpu.safetensors")
    for way in WAYS:
        flags = ["--iterations", iterations, "--backprop", way, "--device", device, "-o", f"{way}.safetensors"]
        log = program.output("train", NAMES, "--notebook", *flags)
        failure = None if log == expected else "the logs differ"
        report.check(f"the notebook's log of {iterations:,} iterations by {way} is that of the CPU, letter for letter", failure)
    for way in WAYS:
        flags = ["--backprop", way, "--device", device, "--quiet"]
        program.output("train", NAMES, *flags, "--iterations", 600, "-o", "whole.safetensors", "--force")
        program.output("train", NAMES, *flags, "--iterations", 300, "-o", "part.safetensors", "--force")
        program.output("train", NAMES, "--resume", "part.safetensors", "--iterations", 600, "--device", device, "--quiet")
        whole, part = (program.output("sample", f"{name}.safetensors", "-n", 100, "--seed", 1) for name in ["whole", "part"])
        report.check(f"training by {way} in two parts gives the names of training in one", None if whole == part else "they differ")


def check_errors(report, program, device):
    """A GPU that is not there, and memory that is not enough: one sentence, exit status 2."""
    if not device.startswith("cuda"):
        return
    too_large = ["--hidden", 8192, "--batch-size", 65536, "--dtype", "f64", "--iterations", 1, "--quiet", "-o", "large.safetensors"]
    for what, arguments in [
        ("a GPU that is not there", ["gradcheck", "--device", "cuda:99"]),
        ("too little memory", ["train", NAMES, "--device", device, *too_large]),
    ]:
        result = program.run(*arguments)
        lines = result.stderr.strip().splitlines()
        good = result.returncode == 2 and len(lines) == 1
        report.check(f"{what}: `{lines[-1] if lines else ''}`", None if good else f"status {result.returncode}, {len(lines)} lines")


# ---- Times ---------------------------------------------------------------------------------------------------------


def ours(program, device, few, many, *flags):
    """Microseconds an iteration: the difference between a long and a short run of the program, so that its start does not
    count. The median of three."""
    common = ["train", *flags, "--device", device, "--sample-every", 10**9, "--samples", 0, "--quiet", "--force", "-o", "time.safetensors"]

    def once():
        short, long = (program.seconds(*common, "--iterations", iterations) for iterations in [few, many])
        return (long - short) / (many - few) * 1e6

    return statistics.median(once() for _ in range(3))


def torch_step(device, vocabulary, hidden, batch):
    """A training step of PyTorch as its users would write it, everything on the device beforehand and nothing read back."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(1)
    rnn = nn.RNN(vocabulary, hidden, nonlinearity="tanh").to(device)
    output = nn.Linear(hidden, vocabulary).to(device)
    parameters = [*rnn.parameters(), *output.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE)
    state = torch.zeros(1, batch, hidden, device=device)

    def step(x, y):
        nonlocal state
        optimizer.zero_grad()
        states, last = rnn(x, state)
        loss = functional.cross_entropy(output(states).flatten(0, 1), y.flatten(), reduction="sum") / batch
        loss.backward()
        nn.utils.clip_grad_value_(parameters, CLIP)
        optimizer.step()
        state = last.detach()

    return step


def torch_time(device, names, hidden, batch, count):
    """Microseconds an iteration of PyTorch on batches of `names`, the median of three stretches of `count`."""
    import torch
    from torch.nn import functional

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    alphabet = {char: 1 + i for i, char in enumerate(sorted(set("".join(names))))}
    examples = []
    for first in range(0, len(names) - batch + 1, batch):
        rows = [[alphabet[char] for char in name] + [0] for name in names[first : first + batch]]
        longest = max(map(len, rows))
        y = torch.tensor([row + [-100] * (longest - len(row)) for row in rows], device=device).T.contiguous()
        x = torch.zeros(*y.shape, len(alphabet) + 1, device=device)
        x[1:] = functional.one_hot(y[:-1].clamp(min=0), len(alphabet) + 1)
        examples.append((x, y))
    step = torch_step(device, len(alphabet) + 1, hidden, batch)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def stretch(count):
        wait()
        start = time.perf_counter()
        for i in range(count):
            step(*examples[i % len(examples)])
        wait()
        return (time.perf_counter() - start) / count * 1e6

    stretch(max(3, count // 5))
    return statistics.median(stretch(count) for _ in range(3))


def floor_notebook(names):
    """The floor of a training step of a batch of one, n_a 50: launches, operations and bytes."""
    n, v = 50, 27
    steps = statistics.mean(len(name) + 1 for name in names)
    operations = 6 * steps * (n * n + n * v)
    numbers = 2 * n * v + n * n + n + v
    launches = {"hand": 7, "autograd": 29}  # as tests/cuda.rs and its GPU count them
    text = "; ".join(f"{way}: about {count} launches, {count * LAUNCH:.0f} µs at {LAUNCH} µs each" for way, count in launches.items())
    return f"{text}; {operations / 1e6:.2f} million operations and {8 * numbers / 1e3:.0f} kB of parameters read and written, under 1 µs"


def floor_large(card, n, v, batch, steps):
    operations = 6 * batch * steps * (n * n + n * v)
    # px, a, da and dpx are written once and read once or twice, waa is read at each step from the cache.
    size = 4 * (9 * batch * steps * n + 4 * n * n)
    text = f"{operations / 1e9:.0f} billion operations, {size / 1e9:.2f} GB, about {4 * steps + 30} launches"
    limits = next((limits for name, limits in CARDS.items() if all(part in card for part in name.split())), None)
    if limits is None:
        return text
    tera, giga = limits
    return f"{text}: {operations / tera / 1e6:.0f} µs at {tera} × 10^12 operations a second, {size / giga / 1e3:.0f} µs at {giga} GB/s"


def measure(report, program, device, card, quick, peer):
    names = NAMES.read_text(encoding="utf-8").split()
    draw = random.Random(2)
    long_names = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=63)) for _ in range(1024)]
    long_list = Path(program.folder) / "long.txt"
    long_list.write_text("\n".join(long_names) + "\n")
    hidden, batch = (64, 16) if quick else (1024, 256)
    # Work, flags, how few and how many iterations, names and sizes for the peer, the bar, and the floor.
    works = [
        ("notebook training, n_a 50, batch 1, f32", [NAMES], (500, 4500), (names, 50, 1), 10, floor_notebook(names)),
        (
            f"n_a {hidden:,}, batch {batch}, T 64, f32, no TF32",
            [long_list, "--hidden", hidden, "--batch-size", batch],
            # Of the first 200 the history measures each, and waits for it.
            (600, 1400),
            (long_names, hidden, batch),
            1.2,
            floor_large(card, hidden, 27, batch, 64),
        ),
    ]
    report.say("| work | way | char-rnn, µs an iteration | PyTorch, µs an iteration | times as fast | bar |")
    report.say("| --- | --- | --- | --- | --- | --- |")
    floors = []
    for work, flags, (few, many), (peer_names, n, b), bar, floor in works:
        floors.append(f"{work}: {floor}.")
        theirs = math.nan
        if peer:
            count = 20 if b > 1 or quick else 500
            theirs = report.attempt(f"{work}: PyTorch", torch_time, device, peer_names, n, b, count) or math.nan
        reached = []
        for way in ["autograd", "hand"]:
            own = report.attempt(f"{work} by {way}", ours, program, device, few, many, *flags, "--backprop", way) or math.nan
            reached.append(theirs / own)
            report.say(f"| {work} | {way} | {own:.1f} | {theirs:.1f} | {theirs / own:.2f} | {bar} |")
        # On a CPU the bars mean nothing.
        best = max((times for times in reached if not math.isnan(times)), default=math.nan)
        if peer and device.startswith("cuda") and not best >= bar:
            report.failed.append(f"{work}: {best:.2f} times as fast as PyTorch, and the bar is {bar}")
    report.say("\nFloors, from the sizes and the card's data sheet, not measured:\n")
    for floor in floors:
        report.say(f"- {floor}")


def card_of(device):
    if not device.startswith("cuda"):
        return platform.processor() or platform.machine()
    if not shutil.which("nvidia-smi"):
        return "a GPU without nvidia-smi"
    ordinal = device.partition(":")[2] or "0"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", "-i", ordinal]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a GPU of which nvidia-smi says nothing ({error})"
    return told or "no GPU that nvidia-smi sees"


def peer_of(report, device):
    """What PyTorch says of itself; None, and a failure, where it is not there or cannot use the device."""
    try:
        import torch
    except (ImportError, OSError) as error:
        report.failed.append(f"PyTorch cannot be imported ({error}): its times are missing; --no-torch does without")
        return None
    if device.startswith("cuda") and not torch.cuda.is_available():
        report.failed.append(f"PyTorch {torch.__version__} does not find a GPU: its times are missing; --no-torch does without")
        return None
    return f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def main():
    parser = argparse.ArgumentParser(description="Checks and measures char-rnn on a GPU; prints a report in Markdown.")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/char-rnn", help="default: target/release/char-rnn")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the script; default: cuda")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller: to try the script")
    parser.add_argument("--no-torch", action="store_true", help="without PyTorch: no bars")
    arguments = parser.parse_args()
    device = arguments.device
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        parser.error(f"--device is cpu, cuda or cuda:N, not {device}")
    if not arguments.program.exists():
        parser.error(f"there is no {arguments.program}: scripts/setup_cuda.sh builds it, or name one with --program")

    report, card = Report(), card_of(device)
    with tempfile.TemporaryDirectory() as folder:
        program = Program(arguments.program.resolve(), folder)
        peer = None if arguments.no_torch else peer_of(report, device)
        report.say(f"# char-rnn on {card}\n")
        started = program.run("--version")
        version = started.stdout.strip() or f"the program does not start ({started.stderr.strip()})"
        report.say(f"{datetime.date.today():%Y-%m-%d}. {version}; {peer or 'no PyTorch'}; {platform.platform()}.")
        report.say(f"Made by `scripts/check_cuda.py {' '.join(sys.argv[1:])}`.\n\n## Checks\n")
        report.attempt("errors", check_errors, report, program, device)
        report.attempt("gradients", check_gradients, report, program, device, arguments.quick)
        report.attempt("names", check_names, report, program, device)
        report.attempt("training", check_training, report, program, device, arguments.quick)
        report.say("\n## Times\n")
        report.attempt("times", measure, report, program, device, card, arguments.quick, peer is not None)
    report.say("\n## Outcome\n")
    report.say("All is well." if not report.failed else "Failed:\n\n" + "\n".join(f"- {what}" for what in report.failed))
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
