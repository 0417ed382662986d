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
import os
import platform
import random
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


class Program:
    """The program on one device, and the number of its failed checks."""

    def __init__(self, path, folder, device):
        self.path, self.folder, self.device, self.failed = path, folder, device, 0
        packages = Path(sysconfig.get_path("platlib"))
        found = sorted(str(folder) for folder in packages.glob("nvidia/*/lib"))
        others = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": ":".join([*found, *others])}

    def run(self, *arguments):
        command = [str(argument) for argument in [self.path, *arguments]]
        options = {"cwd": self.folder, "env": self.environment, "timeout": 1800}
        return subprocess.run(command, capture_output=True, text=True, **options)

    def output(self, *arguments):
        result = self.run(*arguments)
        if result.returncode:
            command = " ".join(map(str, arguments))
            raise RuntimeError(f"`{command}`: status {result.returncode}: {result.stderr.strip()}")
        return result.stdout

    def check(self, what, passed):
        print(f"- {what}: {'ok' if passed else '**failed**'}", flush=True)
        self.failed += not passed


def check_errors(program):
    """One sentence and exit status 2."""
    large = ["--hidden", 8192, "--batch-size", 65536, "--dtype", "f64", "--iterations", 1, "-q"]
    for arguments in [
        ["gradcheck", "--device", "cuda:99"],
        ["train", NAMES, "--device", program.device, *large, "-o", "large.safetensors"],
    ]:
        result = program.run(*arguments)
        error = result.stderr.strip()
        program.check(f"`{error}`", result.returncode == 2 and len(error.splitlines()) == 1)


def check_gradients(program, count):
    """Edge cases, then random sizes."""
    sizes = [(1, 2, 1, 1), (50, 27, 1, 1), (50, 27, 8, 1), (50, 27, 8, 4)]
    sizes += [(257, 27, 5, 3), (33, 1000, 3, 2), (300, 27, 4, 1)]
    draw = random.Random(1).randint
    sizes += [(draw(1, 280), draw(2, 150), draw(1, 12), draw(1, 9)) for _ in range(count)]
    for n, v, steps, batch in sizes:
        shape = ["--hidden", n, "--vocabulary", v, "--steps", steps, "--batch", batch]
        for dtype in ["f64", "f32"]:
            flags = [*shape, "--device", program.device, "--dtype", dtype]
            result = program.run("gradcheck", *flags)
            what = f"`gradcheck {' '.join(map(str, flags))}` {result.stderr.strip()}"
            program.check(what, result.returncode == 0)


def check_samples(program):
    """The same seed gives the same names, up to rounding of the probabilities."""
    for dtype, allowed in [("f64", 0), ("f32", 2)]:
        model = f"{dtype}.safetensors"
        flags = ["--iterations", 5000, "--backprop", "hand", "--dtype", dtype, "--quiet"]
        program.output("train", NAMES, *flags, "-o", model)
        sample = ["sample", model, "-n", 1000, "--seed", 1, "--device"]
        cpu, gpu = (program.output(*sample, on).split("\n") for on in ["cpu", program.device])
        different = sum(a != b for a, b in zip(cpu, gpu)) + abs(len(cpu) - len(gpu))
        what = f"{different} of 1,000 names in {dtype} differ from the CPU's, {allowed} allowed"
        program.check(what, different <= allowed)


def check_training(program, iterations):
    notebook = ["train", NAMES, "--notebook", "--iterations", iterations]
    expected = program.output(*notebook, "--backprop", "hand")
    for method in METHODS:
        flags = ["--backprop", method, "--device", program.device]
        log = program.output(*notebook, *flags)
        program.check(f"the notebook's log by {method} is that of the CPU", log == expected)
        train = ["train", NAMES, *flags, "--quiet", "--force"]
        program.output(*train, "--iterations", 600, "--decay", "none", "-o", "whole")
        program.output(*train, "--iterations", 300, "--decay", "none", "-o", "part")
        resume = ["--resume", "part", "--iterations", 600, "--device", program.device, "-q"]
        program.output("train", NAMES, *resume)
        sample = ["-n", 100, "--seed", 1]
        whole, part = (program.output("sample", model, *sample) for model in ["whole", "part"])
        program.check(f"a resumed run by {method} equals an uninterrupted one", whole == part)


def program_time(program, short, long, *flags):
    """Microseconds an iteration, the median of three: a long run less a short one, to exclude the
    start of the program."""
    flags = [*flags, "--device", program.device, "--eval-every", 10**9, "--samples", 0, "-q"]

    def seconds(iterations):
        start = time.perf_counter()
        program.output("train", *flags, "--force", "-o", "time", "--iterations", iterations)
        return time.perf_counter() - start

    times = [(seconds(long) - seconds(short)) / (long - short) for _ in range(3)]
    return statistics.median(times) * 1e6


def torch_time(device, names, hidden, batch, count):
    """Microseconds an iteration of PyTorch, the median of three runs of `count`. All batches are on
    the device beforehand, and nothing is read back."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
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
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def run(count):
        synchronize()
        start = time.perf_counter()
        for i in range(count):
            x, y = batches[i % len(batches)]
            optimizer.zero_grad()
            logits = output(rnn(x)[0]).flatten(0, 1)
            loss = functional.cross_entropy(logits, y.flatten(), reduction="sum") / batch
            loss.backward()
            nn.utils.clip_grad_value_(parameters, 5)
            optimizer.step()
        synchronize()
        return (time.perf_counter() - start) / count * 1e6

    run(max(3, count // 5))
    return statistics.median(run(count) for _ in range(3))


def measure(program, quick, with_torch):
    draw = random.Random(2)
    letters = "abcdefghijklmnopqrstuvwxyz"
    long_list = Path(program.folder) / "long.txt"
    long_list.write_text("".join("".join(draw.choices(letters, k=63)) + "\n" for _ in range(1024)))
    n, batch = (64, 16) if quick else (1024, 256)
    print("\n| training, f32 | µs an iteration |\n| --- | --- |")
    for list_, n, batch, (short, long), count in [
        (NAMES, 50, 1, (500, 4500), 500),
        # The first 100 iterations are all in the history, with their gradients.
        (long_list, n, batch, (600, 1400), 20),
    ]:
        what = f"{list_.name}, n_a {n}, batch {batch}"
        flags = [list_, "--hidden", n, "--batch-size", batch, "--backprop"]
        for method in ["autograd", "hand"]:
            microseconds = program_time(program, short, long, *flags, method)
            print(f"| {what}, {method} | {microseconds:.1f} |")
        if with_torch:
            names = list_.read_text(encoding="utf-8").split()
            microseconds = torch_time(program.device, names, n, batch, count)
            print(f"| {what}, PyTorch | {microseconds:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/char-rnn")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu; default: cuda")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    parser.add_argument("--no-torch", action="store_true", help="do not time PyTorch")
    arguments = parser.parse_args()
    if not arguments.program.exists():
        parser.error(f"there is no {arguments.program}: build it with scripts/setup_cuda.sh")
    with tempfile.TemporaryDirectory() as folder:
        program = Program(arguments.program.resolve(), folder, arguments.device)
        version = program.output("--version").strip()
        print(f"# {version} on {arguments.device}, {platform.platform()}\n")
        if arguments.device != "cpu":
            print(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout)
            check_errors(program)
        check_gradients(program, 2 if arguments.quick else 12)
        check_samples(program)
        check_training(program, 1001 if arguments.quick else 4001)
        measure(program, arguments.quick, not arguments.no_torch)
    print(f"\n{program.failed} checks failed." if program.failed else "\nAll checks passed.")
    sys.exit(program.failed > 0)


if __name__ == "__main__":
    main()
