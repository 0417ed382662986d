#!/bin/sh
# Type-checks the feature `cuda` on a machine without the CUDA toolkit. A stand-in for nvcc writes
# empty files in the place of candle's compiled kernels, so that the result cannot run.
set -eu

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/cuda-types
mkdir -p "$target/bin"
cat > "$target/bin/nvcc" <<'END'
#!/bin/sh
case "$*" in
--version) printf 'nvcc\n\n\nCuda compilation tools, release 13.0, V13.0.88\n' ;;
*--ptx*)
    for argument; do
        case "$argument" in *.cu) name=$(basename "$argument" .cu) ;; esac
        if [ "${previous-}" = --output-directory ]; then folder=$argument; fi
        previous=$argument
    done
    : > "$folder/$name.ptx"
    ;;
*)
    for argument; do
        if [ "${previous-}" = -o ]; then : > "$argument"; fi
        previous=$argument
    done
    ;;
esac
END
chmod +x "$target/bin/nvcc"
PATH="$(cd "$target/bin" && pwd):$PATH" NVCC= CUDA_COMPUTE_CAP=80 CARGO_TARGET_DIR="$target" \
    cargo clippy --locked --features cuda -- -D warnings
