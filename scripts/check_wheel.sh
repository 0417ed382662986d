#!/bin/sh
# Builds the wheel, installs it into a fresh environment, trains there and samples.
#
#     scripts/check_wheel.sh [PYTHON]
set -eu
cd "$(dirname "$0")/.."
python=${1:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" -m venv "$folder/build"
"$folder/build/bin/pip" install --quiet 'maturin>=1.9,<2'
"$folder/build/bin/maturin" build --release --locked --out "$folder/wheel" --quiet
ls -l "$folder/wheel"

"$python" -m venv "$folder/user"
"$folder/user/bin/pip" install --quiet "$folder"/wheel/*.whl
cd "$folder"
user/bin/char-rnn --version
user/bin/char-rnn train --quiet --iterations 2000 --samples 0
names=$(user/bin/char-rnn sample dinos.safetensors --count 5)
echo "$names"
test "$(echo "$names" | wc -l)" -eq 5
