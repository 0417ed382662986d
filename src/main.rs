//! The program: see `cli/` for what each command does.

use std::process::ExitCode;
use std::sync::Mutex;

/// A training step by autograd allocates some sixty tensors: the C library's allocator took a fifth
/// of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The variable from which candle takes the number of threads of its matrix products. Without it
/// candle reads the number of processors from a file at every product, which takes longer than a
/// small product, and splits sums of a few thousand numbers among them all, which takes longer than
/// the sums.
const PRODUCT_THREADS: &str = "RAYON_NUM_THREADS";

/// The variable from which candle takes the number of threads that our kernels use.
const THREADS: &str = "CANDLE_NUM_THREADS";

fn main() -> ExitCode {
    let given = std::env::var(THREADS).ok();
    let threads = given.as_ref().and_then(|given| given.parse().ok()).unwrap_or_else(processors);
    let threads = match (can_start(threads), &given) {
        (Ok(()), _) => threads,
        (Err(_), None) => 1,
        (Err(error), Some(_)) => {
            eprintln!("char-rnn: {THREADS}: cannot start {threads} threads: {error}");
            return ExitCode::from(2);
        }
    };
    // SAFETY: no other thread is there that could read the environment.
    unsafe {
        std::env::set_var(THREADS, threads.max(1).to_string());
        if std::env::var_os(PRODUCT_THREADS).is_none() {
            std::env::set_var(PRODUCT_THREADS, "1");
        }
    }
    char_rnn::cli::main()
}

/// The processors that this program may use, not counting a second thread of each.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(num_cpus::get_physical())
}

/// Starts and ends so many threads, this one included: candle panics where it cannot start its own.
fn can_start(threads: usize) -> std::io::Result<()> {
    // They wait for the lock, so that all are there at once.
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let _closed = gate.lock();
        (1..threads).try_for_each(|_| {
            std::thread::Builder::new().spawn_scoped(scope, || drop(gate.lock())).map(drop)
        })
    })
}
