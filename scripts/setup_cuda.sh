#!/bin/sh
# Builds char-rnn with CUDA, on a machine with or without a CUDA toolkit, a driver or a GPU.
#
#   scripts/setup_cuda.sh                    the toolkit from PyPI into target/cuda (1.2 GB), then the build
#   scripts/setup_cuda.sh --no-build         the toolkit alone
#   . target/cuda/environment                what a shell needs to build and run by hand afterwards
#
# CUDA_COMPUTE_CAP chooses the GPU that candle's own kernels are built for: 90 (H100, H200) unless it is set; 80 is an A100. For 90
# the architecture is 90a, which cards of compute capability 9.0 alone run; 80 runs on later ones too.
# The toolkit is of version 13.0, which a driver of version 580 or newer runs.
set -eu

cd "$(dirname "$0")/.."
build=yes
case "${1-}" in
"") ;;
--no-build) build=no ;;
*)
    echo "usage: scripts/setup_cuda.sh [--no-build]" >&2
    exit 2
    ;;
esac

folder=$PWD/target/cuda
mkdir -p "$folder"
python3 -m venv "$folder/python"
"$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check \
    nvidia-cuda-nvcc==13.0.88 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-nvvm==13.0.*' \
    'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-curand==10.4.*' 'nvidia-cublas==13.*'
toolkit=$("$folder/python/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13

# What a linker and candle's build scripts look for and the wheels do not have: unversioned names, ...
ln -sfn lib "$toolkit/lib64"
for library in cudart cublas cublasLt curand nvrtc; do
    versioned=$(cd "$toolkit/lib" && ls "lib$library.so".* | head -n 1)
    ln -sfn "$versioned" "$toolkit/lib/lib$library.so"
done
# ... and the driver's library, which comes with the driver and not with a toolkit. To link, one of the same name that defines
# the same functions is enough; it stands in a folder of its own, where no program finds it at run time.
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
echo "The toolkit is in $toolkit; for a shell: . target/cuda/environment"

if [ "$build" = yes ]; then
    . "$folder/environment"
    # Candle compiles some hundred kernels once: 8 to 12 minutes with two cores.
    cargo build --release --features cuda
fi
