#!/usr/bin/env python3
"""Makes two lists of names from packages of PyPI, one name a line, lower-case, in target/:

    surnames.txt     88,799 surnames of the US census of 1990, the most frequent first (`names`)
    first_names.txt  33,415 first names of many countries, of the letters a to z (`gender-guesser`)

    python3 scripts/make_lists.py

Needs the Python standard library and pip. The surnames are the Census Bureau's and in the public
domain; the first names are Jörg Michael's, under the GNU Free Documentation License. Neither list
is kept in the repository.
"""

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "target"


def download(package: str, sha256: str, folder: str) -> Path:
    """The archive of `package`, of which a published version never changes."""
    options = ["--no-deps", "--quiet", "--dest", folder]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, package], check=True)
    (archive,) = Path(folder).iterdir()
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != sha256:
        raise SystemExit(f"{package}: the archive's SHA-256 is {digest}, expected {sha256}")
    return archive


def surnames(folder: str) -> list[str]:
    digest = "726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671"
    with tarfile.open(download("names==0.3.0", digest, folder)) as package:
        lines = package.extractfile("names-0.3.0/names/dist.all.last").read().decode("ascii").splitlines()
    # A line has a name, its share in percent, the cumulative share, and the rank.
    return [line.split()[0].lower() for line in lines]


def first_names(folder: str) -> list[str]:
    digest = "7cb01ce5d8d43b94573498bc02c959b622872abd399622ca67d1b73ba6e7e222"
    with zipfile.ZipFile(download("gender-guesser==0.4.0", digest, folder)) as package:
        lines = package.read("gender_guesser/data/nam_dict.txt").decode("utf-8").splitlines()
    # A line has the gender, and from the fourth column on the name.
    names = {line[3:29].strip().lower() for line in lines if not line.startswith("#")}
    return sorted(name for name in names if re.fullmatch("[a-z]+", name))


LISTS = {"surnames": (surnames, 88_799), "first_names": (first_names, 33_415)}


def make(title: str) -> Path:
    """Makes the list if it does not exist. Returns its path."""
    path = TARGET / f"{title}.txt"
    if not path.exists():
        read, count = LISTS[title]
        with tempfile.TemporaryDirectory() as folder:
            names = read(folder)
        if len(names) != count:
            raise SystemExit(f"{title}: {len(names)} names, expected {count}")
        TARGET.mkdir(exist_ok=True)
        path.write_text("".join(name + "\n" for name in names), encoding="ascii", newline="\n")
        print(f"{path}: {len(names)} names", file=sys.stderr)
    return path


if __name__ == "__main__":
    for title in LISTS:
        make(title)
