#!/bin/sh
# Builds char-rnn with CUDA. Neither a toolkit nor a driver nor a GPU is needed.
#
#   scripts/setup_cuda.sh               installs the toolkit into target/cuda (1.2 GB), and builds
#   scripts/setup_cuda.sh --no-build    installs only
#   . target/cuda/environment           sets up a shell, to build and run by hand
#
# CUDA_COMPUTE_CAP is the GPU to build for: 90 (H100, H200) by default, 80 for an A100. Code for 90
# is for sm_90a, which other GPUs do not run; code for 80 also runs on later ones. Programs built
# with this version of the toolkit, 13.0, need a driver of version 580 or later.
set -eu

cd "$(dirname "$0")/.."
case "${1-}" in
"" | --no-build) ;;
*)
    echo "usage: scripts/setup_cuda.sh [--no-build]" >&2
    exit 2
    ;;
esac

folder=$PWD/target/cuda
mkdir -p "$folder"
python3 -m venv "$folder/python"
"$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check \
    nvidia-cuda-nvcc==13.0.88 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-nvrtc==13.0.*' \
    'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*' \
    'nvidia-curand==10.4.*' 'nvidia-cublas==13.*'
packages=$("$folder/python/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
toolkit=$packages/nvidia/cu13

# The wheels lack what the linker and candle's build scripts search for: names without a version,
# and the driver's library. A library with the driver's names and empty functions is enough to link.
ln -sfn lib "$toolkit/lib64"
for library in cudart cublas cublasLt curand nvrtc; do
    versioned=$(cd "$toolkit/lib" && ls "lib$library.so".* | head -n 1)
    ln -sfn "$versioned" "$toolkit/lib/lib$library.so"
done
mkdir -p "$toolkit/lib/stubs"
grep -o '\<cu[A-Z][A-Za-z0-9_]*' "$toolkit/include/cuda.h" | sort -u | sed 's/.*/void &(void) {}/' |
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -x c -o "$toolkit/lib/stubs/libcuda.so" -

cat > "$folder/environment" <<END
export CUDA_HOME='$toolkit' CUDA_PATH='$toolkit' CUDA_ROOT='$toolkit'
export PATH='$toolkit/bin':"\$PATH"
export LIBRARY_PATH='$toolkit/lib:$toolkit/lib/stubs'"\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
export LD_LIBRARY_PATH='$toolkit/lib'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-90}
END
echo "The toolkit is in $toolkit; . target/cuda/environment sets up a shell"

if [ "${1-}" != --no-build ]; then
    . "$folder/environment"
    # Candle compiles its own kernels once: about 10 minutes on two cores.
    cargo build --release --features cuda
fi
