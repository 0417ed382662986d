#!/usr/bin/env python3
"""Checks and times char-rnn on a GPU. Prints a report in Markdown.

    scripts/check_cuda.py > report.md             needs an NVIDIA GPU, and PyTorch to compare with
    scripts/check_cuda.py --no-torch              checks, and the times of char-rnn alone
    scripts/check_cuda.py --device cpu --quick    tries the script where there is no GPU

The program is target/release/char-rnn, built by scripts/setup_cuda.sh, or that of --program. The
CUDA libraries are searched first among the packages of this Python (nvidia-*, which PyTorch for
CUDA 13 installs). The exit status is 1 where a check failed.
"""

import argparse
import datetime
import os
import platform
import random
import site
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ROOT / "data/dinos.txt"
METHODS = ["unrolled", "autograd", "hand"]
# The longest run of the program, in seconds.
TIMEOUT = 1800


class Report:
    def __init__(self):
        self.failed = 0

    def check(self, what, error):
        """One line of the list of checks; `error` is None where it passed."""
        print(f"- {what}: {'ok' if error is None else '**failed**: ' + error}", flush=True)
        self.failed += error is not None

    def attempt(self, what, function, *arguments):
        """Calls the function; an exception is a failed check."""
        try:
            return function(*arguments)
        except Exception as error:  # PyTorch raises many kinds.
            self.check(what, " ".join(f"{type(error).__name__}: {error}".split()))


class Program:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        packages.update([*site.getsitepackages(), site.getusersitepackages()])
        found = sorted(str(lib) for p in packages for lib in Path(p).glob("nvidia/*/lib"))
        others = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": ":".join([*found, *others])}

    def run(self, *arguments):
        command = [str(argument) for argument in [self.path, *arguments]]
        options = {"cwd": self.folder, "env": self.environment, "timeout": TIMEOUT}
        try:
            return subprocess.run(command, capture_output=True, text=True, **options)
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, -1, "", str(error))

    def output(self, *arguments):
        result = self.run(*arguments)
        if result.returncode:
            command = " ".join(map(str, arguments))
            raise RuntimeError(f"`{command}`: status {result.returncode}: {result.stderr.strip()}")
        return result.stdout


def shapes(count):
    """Flags of gradcheck: edge cases, then random sizes."""
    sizes = [(1, 2, 1, 1), (50, 27, 1, 1), (50, 27, 8, 1), (50, 27, 8, 4)]
    sizes += [(257, 27, 5, 3), (33, 1000, 3, 2), (300, 27, 4, 1)]
    draw = random.Random(1).randint
    sizes += [(draw(1, 280), draw(2, 150), draw(1, 12), draw(1, 9)) for _ in range(count)]
    for n, v, steps, batch in sizes:
        yield ["--hidden", n, "--vocabulary", v, "--steps", steps, "--batch", batch]


def check_gradients(report, program, device, quick):
    for shape in shapes(2 if quick else 12):
        for dtype in ["f64", "f32"]:
            flags = [*shape, "--entries", 40, "--device", device, "--dtype", dtype]
            result = program.run("gradcheck", *flags)
            error = f"status {result.returncode}: {result.stderr.strip()}"
            name = " ".join(map(str, flags))
            report.check(f"`gradcheck {name}`", error if result.returncode else None)


def check_samples(report, program, device):
    """The same seed gives the same names, up to rounding of the probabilities."""
    for dtype, allowed in [("f64", 0), ("f32", 2)]:
        model = f"{dtype}.safetensors"
        flags = ["--iterations", 5000, "--backprop", "hand", "--dtype", dtype, "--quiet"]
        program.output("train", NAMES, *flags, "-o", model)
        sample = ["sample", model, "-n", 1000, "--seed", 1, "--device"]
        cpu, gpu = (program.output(*sample, where).split("\n") for where in ["cpu", device])
        different = sum(a != b for a, b in zip(cpu, gpu)) + abs(len(cpu) - len(gpu))
        what = f"{different} of 1,000 names in {dtype} differ from the CPU's, {allowed} allowed"
        report.check(what, None if different <= allowed else "too many")


def check_training(report, program, device, quick):
    notebook = ["train", NAMES, "--notebook", "--iterations", 1001 if quick else 4001]
    expected = program.output(*notebook, "--backprop", "hand", "-o", "cpu.safetensors")
    for method in METHODS:
        flags = ["--backprop", method, "--device", device]
        log = program.output(*notebook, *flags, "-o", f"{method}.safetensors")
        error = None if log == expected else "the logs differ"
        report.check(f"the notebook's log by {method} is that of the CPU", error)

        flags += ["--quiet", "--force"]
        program.output("train", NAMES, *flags, "--iterations", 600, "-o", "whole.safetensors")
        program.output("train", NAMES, *flags, "--iterations", 300, "-o", "part.safetensors")
        resume = ["train", NAMES, "--resume", "part.safetensors", "--iterations", 600, "--quiet"]
        program.output(*resume, "--device", device)
        sample = ["-n", 100, "--seed", 1]
        models = ["whole.safetensors", "part.safetensors"]
        whole, part = (program.output("sample", model, *sample) for model in models)
        error = None if whole == part else "the names differ"
        report.check(f"a resumed run by {method} equals an uninterrupted one", error)


def check_errors(report, program, device):
    """One sentence and exit status 2."""
    large = ["--hidden", 8192, "--batch-size", 65536, "--dtype", "f64"]
    large += ["--iterations", 1, "--quiet", "-o", "large.safetensors"]
    for what, arguments in [
        ("a missing GPU", ["gradcheck", "--device", "cuda:99"]),
        ("too little memory", ["train", NAMES, "--device", device, *large]),
    ]:
        result = program.run(*arguments)
        lines = result.stderr.strip().splitlines() or [""]
        error = f"status {result.returncode}, {len(lines)} lines"
        passed = result.returncode == 2 and len(lines) == 1
        report.check(f"{what}: `{lines[-1]}`", None if passed else error)


def program_time(program, device, short, long, *flags):
    """Microseconds an iteration, the median of three: a long run less a short one, to exclude the
    start of the program."""
    flags = [*flags, "--device", device, "--eval-every", 10**9, "--samples", 0]
    flags += ["--quiet", "--force"]

    def seconds(iterations):
        start = time.perf_counter()
        program.output("train", *flags, "-o", "time.safetensors", "--iterations", iterations)
        return time.perf_counter() - start

    times = [(seconds(long) - seconds(short)) / (long - short) for _ in range(3)]
    return statistics.median(times) * 1e6


def torch_time(device, names, hidden, batch, count):
    """Microseconds an iteration of PyTorch, the median of three runs of `count`. All batches are on
    the device beforehand, and nothing is read back."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    indices = {char: 1 + i for i, char in enumerate(sorted(set("".join(names))))}
    vocabulary = len(indices) + 1
    batches = []
    for first in range(0, len(names) - batch + 1, batch):
        rows = [[indices[char] for char in name] + [0] for name in names[first : first + batch]]
        steps = max(map(len, rows))
        y = torch.tensor([row + [-100] * (steps - len(row)) for row in rows], device=device)
        y = y.T.contiguous()
        x = torch.zeros(*y.shape, vocabulary, device=device)
        x[1:] = functional.one_hot(y[:-1].clamp(min=0), vocabulary)
        batches.append((x, y))

    rnn = nn.RNN(vocabulary, hidden, nonlinearity="tanh").to(device)
    output = nn.Linear(hidden, vocabulary).to(device)
    parameters = [*rnn.parameters(), *output.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    state = torch.zeros(1, batch, hidden, device=device)
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def run(count):
        nonlocal state
        synchronize()
        start = time.perf_counter()
        for i in range(count):
            x, y = batches[i % len(batches)]
            optimizer.zero_grad()
            a, last = rnn(x, state)
            logits = output(a).flatten(0, 1)
            loss = functional.cross_entropy(logits, y.flatten(), reduction="sum") / batch
            loss.backward()
            nn.utils.clip_grad_value_(parameters, 5)
            optimizer.step()
            state = last.detach()
        synchronize()
        return (time.perf_counter() - start) / count * 1e6

    run(max(3, count // 5))
    return statistics.median(run(count) for _ in range(3))


def measure(report, program, device, quick, with_torch):
    names = NAMES.read_text(encoding="utf-8").split()
    draw = random.Random(2)
    long_names = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=63)) for _ in range(1024)]
    long_list = Path(program.folder) / "long.txt"
    long_list.write_text("\n".join(long_names) + "\n")
    n, batch = (64, 16) if quick else (1024, 256)
    rows = []
    for what, names, list_, n, batch, (short, long), count in [
        ("dinos.txt", names, NAMES, 50, 1, (500, 4500), 500),
        # The first 200 iterations are all in the history, with their gradients.
        ("63 letters a name", long_names, long_list, n, batch, (600, 1400), 20),
    ]:
        what += f", n_a {n}, batch {batch}, f32"
        flags = [list_, "--hidden", n, "--batch-size", batch]
        for method in ["autograd", "hand"]:
            arguments = [program, device, short, long, *flags, "--backprop", method]
            rows.append((f"{what}, {method}", report.attempt(what, program_time, *arguments)))
        if with_torch:
            arguments = [device, names, n, batch, count]
            rows.append((f"{what}, PyTorch", report.attempt(what, torch_time, *arguments)))
    print("\n| training | µs an iteration |\n| --- | --- |")
    for what, microseconds in rows:
        print(f"| {what} | {'' if microseconds is None else format(microseconds, '.1f')} |")


def card(device):
    ordinal = device.partition(":")[2] or "0"
    fields = "--query-gpu=name,driver_version,memory.total"
    command = ["nvidia-smi", fields, "--format=csv,noheader", "-i", ordinal]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return result.stdout.strip() or "no GPU"
    except (OSError, subprocess.TimeoutExpired):
        return "no nvidia-smi"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/char-rnn")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu; default: cuda")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    parser.add_argument("--no-torch", action="store_true", help="do not time PyTorch")
    arguments = parser.parse_args()
    device, quick = arguments.device, arguments.quick
    if not arguments.program.exists():
        parser.error(f"there is no {arguments.program}: build it with scripts/setup_cuda.sh")

    report, on_gpu = Report(), device.startswith("cuda")
    with tempfile.TemporaryDirectory() as folder:
        program = Program(arguments.program.resolve(), folder)
        print(f"# char-rnn on {card(device) if on_gpu else device}\n")
        version = program.run("--version").stdout.strip() or "**the program does not start**"
        print(f"{datetime.date.today()}, {version}, {platform.platform()}\n")
        if on_gpu:
            report.attempt("errors", check_errors, report, program, device)
        report.attempt("gradients", check_gradients, report, program, device, quick)
        report.attempt("samples", check_samples, report, program, device)
        report.attempt("training", check_training, report, program, device, quick)
        with_torch = not arguments.no_torch
        report.attempt("times", measure, report, program, device, quick, with_torch)
    print(f"\n{report.failed} checks failed." if report.failed else "\nAll checks passed.")
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
