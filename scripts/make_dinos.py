#!/usr/bin/env python3
"""Makes data/dinos.txt, the built-in names, from the npm package `dinosaurs`.

    python3 scripts/make_dinos.py

Needs the Python standard library and npm. Writes one name a line: lower-case a to z, sorted, no
duplicates, each line ended by a newline. Exits without writing if the package or the number of
names is not the expected one.
"""

import hashlib
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "dinosaurs@1.2.1"
# A published version never changes: another archive is not the package of the licence.
ARCHIVE_SHA512 = (
    "6d99f96d6b2b2fdd6202f07794043a9d6bc1f55e1e102689a7283754166a046c"
    "4484c0e69c42f7ad5e62bdd60c2ab1e99cb20fb7dec064e457e7e4f9b276b311"
)
MEMBER = "package/dinosaurs.csv"
NAMES = 1318

OUTPUT = Path(__file__).resolve().parent.parent / "data" / "dinos.txt"


def fetch_archive(folder: Path) -> Path:
    """Downloads PACKAGE into `folder` by npm and returns the path of the verified archive."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", PACKAGE],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    archive = folder / packed.stdout.strip().splitlines()[-1]
    digest = hashlib.sha512(archive.read_bytes()).hexdigest()
    if digest != ARCHIVE_SHA512:
        raise SystemExit(f"{PACKAGE}: the archive's SHA-512 is {digest}, expected {ARCHIVE_SHA512}")
    return archive


def read_names(archive: Path) -> list[str]:
    """Returns the archive's names of a to z, lower-cased, sorted, without duplicates."""
    with tarfile.open(archive) as package:
        text = package.extractfile(MEMBER).read().decode("utf-8")
    names = {line.strip().lower() for line in text.splitlines()}
    return sorted(name for name in names if re.fullmatch("[a-z]+", name))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = read_names(fetch_archive(Path(folder)))
    if len(names) != NAMES:
        raise SystemExit(f"{PACKAGE}: {len(names)} names, expected {NAMES}")
    OUTPUT.write_text("".join(name + "\n" for name in names), encoding="ascii", newline="\n")
    print(f"{OUTPUT}: {len(names)} names")


if __name__ == "__main__":
    main()
