//! The program: see `cli/` for what each command does.

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::process::ExitCode;

/// A training step by autograd allocates some sixty tensors: the C library's allocator took a fifth
/// of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The variables that set the number of threads: the first that is a number.
const THREADS: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

fn main() -> ExitCode {
    let _pool = match start_threads() {
        Ok(pool) => pool,
        Err(message) => {
            eprintln!("char-rnn: {message}");
            return ExitCode::from(2);
        }
    };
    char_rnn::cli::main()
}

/// Starts the threads that the kernels use, of which this is one, and keeps candle at one thread.
/// There are no more than cores: they would only wait for each other.
fn start_threads() -> Result<ThreadPool, String> {
    let given = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let given: Option<usize> = THREADS.into_iter().find_map(given);
    for name in THREADS {
        // Without it candle reads the number of processors from a file at every product, which takes
        // longer than a small product, and splits sums of a few thousand numbers among them all, which
        // takes longer than the sums.
        // SAFETY: no other thread is there that could read the environment.
        unsafe { std::env::set_var(name, "1") };
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = given.filter(|&number| number > 0).map_or(cores, |number| number.min(cores));
    let start = |number| ThreadPoolBuilder::new().num_threads(number).use_current_thread().build();
    start(threads).or_else(|_| start(1)).map_err(|error| format!("no threads: {error}"))
}
