#!/usr/bin/env bash
# Makes initial lists and small model files in fuzz/corpus. The target `checkpoint` makes its own.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --quiet
program=$(realpath "${CARGO_TARGET_DIR:-target}/release/char-rnn")
lists=fuzz/corpus/names
models=fuzz/corpus/model
mkdir -p "$lists" "$models"

printf 'Ada\r\n\r\n  \t\nBOB  \r\nEve' > "$lists/windows"
printf '\xef\xbb\xbfJose\xcc\x81\n\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8\n' > "$lists/mark_and_decomposed"
printf '\xff\xfea\0b\0' > "$lists/utf16"
printf 'ΑΣ ΣΑΣ\nİstanbul\nǅ ﬃ ẞ\n' > "$lists/lower_case_is_longer"
printf 'a\xe2\x80\xa8b\na\0b\n' > "$lists/control"
printf 'ab%.0s' {1..500} > "$lists/longest"
head -n 20 data/dinos.txt > "$lists/dinos"

printf 'anna\nbob\ncleo\n' > "$lists/few"
for dtype in f32 f64; do
    for hidden in 1 3; do
        "$program" train "$lists/few" --iterations 5 --hidden "$hidden" --dtype "$dtype" --quiet --force \
            -o "$models/$dtype-$hidden" > /dev/null
    done
done
