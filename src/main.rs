//! The program: parse, dispatch, exit status. See `cli/` for what each command does.

mod cli;

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

/// A training step by autograd makes and drops some sixty tensors: with the C library's allocator,
/// a fifth of its time goes there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What candle reads to know how many threads to use. Unless it is set, it reads the number of
/// processors out of a file at each matrix product, which takes longer than a small product, and
/// spreads sums of a few thousand numbers over them all, which takes longer than the sums.
const THREADS: &str = "RAYON_NUM_THREADS";

fn main() -> ExitCode {
    if std::env::var_os(THREADS).is_none() {
        // SAFETY: nothing else reads the environment meanwhile, for no other thread was started yet.
        unsafe { std::env::set_var(THREADS, "1") };
    }
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough, as `head` does.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure @ cli::Failure::Told) => ExitCode::from(failure.exit_status()),
        Err(failure) => {
            // If standard error is gone too, there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "char-rnn: {failure}");
            ExitCode::from(failure.exit_status())
        }
    }
}
