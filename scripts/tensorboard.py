#!/usr/bin/env python3
"""Converts a log of `char-rnn train --log` for TensorBoard.

    char-rnn train --log run.jsonl
    python3 scripts/tensorboard.py run.jsonl runs/one
    target/tensorboard/bin/tensorboard --logdir runs

Losses, gradient norms and clipped shares become scalars (in single precision, as TensorBoard keeps them), sampled names
texts. `--check` reads the events back with TensorBoard's reader and compares every value with the log. TensorBoard is
installed from PyPI into target/tensorboard at the first run.
"""
import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parent.parent / "target/tensorboard"
PYTHON = ENVIRONMENT / "bin/python"
REQUIREMENTS = ["tensorboard==2.21.0", "numpy==2.4.6"]

if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        if subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *REQUIREMENTS]).returncode:
            shutil.rmtree(ENVIRONMENT)
            sys.exit("tensorboard.py: TensorBoard could not be installed")
    os.execv(PYTHON, [str(PYTHON), __file__, *sys.argv[1:]])

# The folder of this script, which has the name of the package.
sys.path.pop(0)
import numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.text_plugin import text_array_to_html
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util


def values(line):
    """{tag: value} of the line of an iteration: numbers, and a list of names."""
    found = {"loss/iteration": line["loss"], "loss/smoothed": line["smoothed"]}
    if "validation" in line:
        found["loss/validation"] = line["validation"]
    for tensor, gradient in line.get("gradients", {}).items():
        found |= {f"gradient_norm/{tensor}": gradient["norm"], f"clipped/{tensor}": gradient["clipped"]}
    if "names" in line:
        found["names"] = line["names"]
    return found


def read_log(path):
    """[(iteration, {tag: value})] in the log; a last line that is still being written is left out."""
    with open(path, encoding="utf-8") as log:
        lines = [json.loads(line) for line in log if line.endswith("\n")]
    return [(line["iteration"], values(line)) for line in lines if "iteration" in line]


def markdown(name):
    """A name as Markdown, which TensorBoard expects."""
    escaped = "".join("\\" + character if character in r"\`*_{}[]()>#+-.!" else character for character in name)
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def shown(tensor):
    """The texts that TensorBoard shows of an array of strings; a page shows white space as one blank."""
    cells = re.findall(r"<td>(.*?)</td>", text_array_to_html(tensor, True), re.DOTALL)
    return [html.unescape(re.sub(r"</?p>", "", cell)).split() for cell in cells]


def summary(tag, value):
    if tag == "names":
        return text_pb(tag, numpy.array([markdown(name) for name in value], dtype=object))
    return scalar_pb(tag, numpy.float32(value))


def write(log, folder):
    writer = EventFileWriter(str(folder), max_queue_size=1000)
    for iteration, found in log:
        for tag, value in found.items():
            writer.add_event(Event(step=iteration, wall_time=time.time(), summary=summary(tag, value)))
    writer.close()


def differences(log, folder):
    """How many values there are, and the (tag, iteration) of those that TensorBoard reads otherwise."""
    reader = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    reader.Reload()
    read = {(tag, event.step): tensor_util.make_ndarray(event.tensor_proto)
            for tag in reader.Tags()["tensors"] for event in reader.Tensors(tag)}
    read |= {(tag, event.step): event.value for tag in reader.Tags()["scalars"] for event in reader.Scalars(tag)}
    expected = {(tag, iteration): value for iteration, found in log for tag, value in found.items()}

    def same(key):
        if key not in read or key not in expected:
            return False
        if key[0] == "names":
            return shown(read[key]) == [name.split() for name in expected[key]]
        return numpy.float32(read[key]) == numpy.float32(expected[key])

    keys = expected.keys() | read.keys()
    return len(keys), sorted(key for key in keys if not same(key))


def main():
    parser = argparse.ArgumentParser(description="Converts a log of char-rnn train --log for TensorBoard.")
    parser.add_argument("log", type=Path, help="the log: JSON lines")
    parser.add_argument("folder", type=Path, help="a folder for the events, without any yet")
    parser.add_argument("--check", action="store_true", help="read the events back and compare them with the log")
    arguments = parser.parse_args()
    if any(arguments.folder.glob("events.out.tfevents.*")):
        sys.exit(f"tensorboard.py: {arguments.folder} has events already; choose another folder")
    try:
        log = read_log(arguments.log)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"tensorboard.py: {arguments.log} is not a log: {error!r}")
    write(log, arguments.folder)
    print(f"{len(log)} iterations written to {arguments.folder}")
    if arguments.check:
        count, different = differences(log, arguments.folder)
        print(f"{count} values compared, {len(different)} different: {different[:5]}")
        return 1 if different else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
