//! The program: see `cli/` for what each command does.

use std::process::ExitCode;
use std::sync::Mutex;

/// A training step by autograd allocates some sixty tensors: the C library's allocator took a fifth
/// of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The variables from which candle takes its number of threads: the first that is set, the second
/// alone for its matrix products. Without it candle reads the number of processors from a file at
/// every product, which takes longer than a small product, and splits sums of a few thousand numbers
/// among them all, which takes longer than the sums.
const THREADS: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

fn main() -> ExitCode {
    let given = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let threads = THREADS.iter().find_map(|name| given(name).map(|number| (name, number)));
    if let Some((name, number)) = threads
        && let Err(error) = can_start(number)
    {
        eprintln!("char-rnn: {name}: cannot start {number} threads: {error}");
        return ExitCode::from(2);
    }
    if std::env::var_os(THREADS[1]).is_none() {
        // SAFETY: no other thread is there that could read the environment.
        unsafe { std::env::set_var(THREADS[1], "1") };
    }
    char_rnn::cli::main()
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
