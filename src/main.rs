//! The program: see `cli/` for what each command does.

use std::process::ExitCode;

/// A training step by autograd allocates some sixty tensors: the C library's allocator took a fifth
/// of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The variable from which candle takes its number of threads. Without it candle reads the number of
/// processors from a file at every matrix product, which takes longer than a small product, and
/// splits sums of a few thousand numbers among them all, which takes longer than the sums.
const THREADS: &str = "RAYON_NUM_THREADS";

fn main() -> ExitCode {
    if std::env::var_os(THREADS).is_none() {
        // SAFETY: no other thread has been started that could read the environment.
        unsafe { std::env::set_var(THREADS, "1") };
    }
    char_rnn::cli::main()
}
