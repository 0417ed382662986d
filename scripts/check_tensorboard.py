#!/usr/bin/env python3
"""Proves that TensorBoard reads from --tensorboard what --log has: the same numbers and names at the same iterations.

    python3 scripts/check_tensorboard.py

Trains a small model in two parts, the second going on from an earlier point than the first one's events reach, and opens
the folder with TensorBoard's own reader. Compares every number (in single precision, as TensorBoard keeps them) and every
name with the JSON log of the same run, and exits with 1 where one differs or is missing. TensorBoard is installed from
PyPI into target/tensorboard at the first run.
"""
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / "target/tensorboard"
PYTHON = ENVIRONMENT / "bin/python"
REQUIREMENTS = ["tensorboard==2.21.0", "numpy==2.4.6"]

if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        installed = subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *REQUIREMENTS])
        if installed.returncode:
            shutil.rmtree(ENVIRONMENT)
            sys.exit("check_tensorboard.py: TensorBoard could not be installed")
    os.execv(PYTHON, [str(PYTHON), __file__, *sys.argv[1:]])

import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.text.text_plugin import text_array_to_html
from tensorboard.util import tensor_util

NAMES = "anna\njean-luc\nst. john\n*star*\n<b>\na_b_c\n# one\n서울\n1. first\n"


def char_rnn(folder, *arguments):
    command = ["cargo", "run", "--release", "--quiet", "--manifest-path", ROOT / "Cargo.toml", "--", *arguments]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"check_tensorboard.py: {' '.join(map(str, arguments))}: {done.stderr}")


def logged(path):
    """{tag: {iteration: value}} in a JSON log: numbers, and lists of names."""
    found = {}
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        if "iteration" not in line:
            continue
        values = {"loss/iteration": line["loss"], "loss/smoothed": line["smoothed"]}
        if "validation" in line:
            values["loss/validation"] = line["validation"]
        for tensor, gradient in line.get("gradients", {}).items():
            values |= {f"gradient_norm/{tensor}": gradient["norm"], f"clipped/{tensor}": gradient["clipped"]}
        if "names" in line:
            values["names"] = line["names"]
        for tag, value in values.items():
            assert line["iteration"] not in found.setdefault(tag, {}), f"iteration {line['iteration']} is logged twice"
            found[tag][line["iteration"]] = value
    return found


def shown(tensor):
    """The texts that TensorBoard's text dashboard shows of a tensor of strings."""
    page = text_array_to_html(tensor_util.make_ndarray(tensor), True)
    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    return [html.unescape(re.sub(r"</?p>", "", cell)) for cell in cells]


def same(tag, ours, theirs):
    """Numbers in single precision; texts but for white space, of which a page shows one blank."""
    if theirs is None:
        return False
    if tag == "names":
        return [text.split() for text in ours] == [text.split() for text in theirs]
    return numpy.float32(ours) == numpy.float32(theirs)


def read(folder):
    """The same as TensorBoard reads it."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    found = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags["scalars"]}
    found |= {tag: {event.step: shown(event.tensor_proto) for event in events.Tensors(tag)} for tag in tags["tensors"]}
    return found


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "names.txt").write_text(NAMES, encoding="utf-8")
        watch = ["names.txt", "--quiet", "--log", "log.jsonl", "--tensorboard", "events"]
        settings = ["--hidden", "12", "--sample-every", "100", "--validation", "0.2", "--keep-case", "--clip", "0.3"]
        char_rnn(folder, "train", *watch, *settings, "--iterations", "700")
        shutil.copy(folder / "names.safetensors", folder / "earlier.safetensors")
        char_rnn(folder, "train", "--resume", "names.safetensors", *watch, "--iterations", "1000")
        # What was told of the iterations from 700 on no longer holds.
        resume = ["--resume", "earlier.safetensors", "--learning-rate", "0.02", "-o", "names.safetensors", "--force"]
        char_rnn(folder, "train", *resume, *watch, "--iterations", "1500")
        expected, found = logged(folder / "log.jsonl"), read(folder / "events")
    assert set(expected["loss/iteration"]) == set(range(1500)), "the log has not each iteration once"
    wrong = 0
    for tag in sorted(expected.keys() | found.keys()):
        ours, theirs = expected.get(tag, {}), found.get(tag, {})
        steps = sorted(ours.keys() | theirs.keys())
        differ = [step for step in steps if step not in ours or not same(tag, ours[step], theirs.get(step))]
        wrong += len(differ)
        verdict = f"DIFFERENT at {differ[:5]}" if differ else "all the same"
        print(f"{tag:<20} {len(ours):>5} in the log, {len(theirs):>5} in TensorBoard: {verdict}")
        for step in differ[:2]:
            print(f"    {step}: {ours.get(step)} {theirs.get(step)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
