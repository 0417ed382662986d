#!/usr/bin/env python3
"""Makes target/surnames.txt, 88,799 surnames of the US census of 1990, from PyPI's `names`.

    python3 scripts/make_surnames.py

Needs the Python standard library and pip. Writes one name a line, lower-case, the most frequent
first. The list is the Census Bureau's and in the public domain; it is not kept in the repository.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "names==0.3.0"
# A published version never changes.
ARCHIVE_SHA256 = "726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671"
MEMBER = "names-0.3.0/names/dist.all.last"
NAMES = 88_799

OUTPUT = Path(__file__).resolve().parent.parent / "target" / "surnames.txt"


def read_names(folder: Path) -> list[str]:
    """Downloads PACKAGE into `folder` and returns its surnames."""
    options = ["--no-deps", "--quiet", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, PACKAGE], check=True)
    (archive,) = folder.glob("*.tar.gz")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != ARCHIVE_SHA256:
        raise SystemExit(f"{PACKAGE}: the archive's SHA-256 is {digest}, expected {ARCHIVE_SHA256}")
    with tarfile.open(archive) as package:
        lines = package.extractfile(MEMBER).read().decode("ascii").splitlines()
    # A line has a name, its share in percent, the cumulative share, and the rank.
    return [line.split()[0].lower() for line in lines]


def make() -> Path:
    """Makes the list if it does not exist. Returns its path."""
    if not OUTPUT.exists():
        with tempfile.TemporaryDirectory() as folder:
            names = read_names(Path(folder))
        if len(names) != NAMES:
            raise SystemExit(f"{PACKAGE}: {len(names)} names, expected {NAMES}")
        OUTPUT.parent.mkdir(exist_ok=True)
        OUTPUT.write_text("".join(name + "\n" for name in names), encoding="ascii", newline="\n")
        print(f"{OUTPUT}: {len(names)} names", file=sys.stderr)
    return OUTPUT


if __name__ == "__main__":
    make()
