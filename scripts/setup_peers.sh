#!/bin/sh
# Makes a Python virtual environment under target/peers that holds what the scripts in this folder need.
#
#   scripts/setup_peers.sh             NumPy, safetensors and PyTorch
#   scripts/setup_peers.sh --no-torch  without PyTorch: enough for the fixtures and the notebook, a tenth of the download
#
# Then: target/peers/bin/python scripts/notebook.py data/dinos.txt
set -eu

cd "$(dirname "$0")/.."
requirements=scripts/requirements.txt
environment=target/peers

python3 -m venv "$environment"
case "${1-}" in
--no-torch) grep -v '^torch' "$requirements" | "$environment/bin/python" -m pip install --requirement /dev/stdin ;;
"") "$environment/bin/python" -m pip install --requirement "$requirements" ;;
*)
    echo "usage: scripts/setup_peers.sh [--no-torch]" >&2
    exit 2
    ;;
esac
