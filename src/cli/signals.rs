//! Requests to stop: Ctrl-C, `kill`, a terminal that closes.
//!
//! After the first one, training ends with the current iteration and saves everything. Each one
//! after it has its default effect: it ends the program at once.

use super::error::{Failure, Signal};
use super::files::FileLock;
use super::progress::Bar;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often [`Signals::interrupt`] looks for a signal.
const POLL: Duration = Duration::from_millis(50);

/// A flag for received signals. The default never receives any.
#[derive(Default)]
pub struct Signals {
    /// The last signal received, or 0.
    caught: Arc<AtomicUsize>,
    /// Whether the next one has its default effect.
    at_once: Arc<AtomicBool>,
    /// The lock of the file that the command writes.
    lock: Mutex<Option<FileLock>>,
}

impl Signals {
    /// Installs the signal handlers of a command that holds `lock`.
    pub fn watch(lock: Option<FileLock>) -> Self {
        let signals = Self { lock: Mutex::new(lock), ..Self::default() };
        #[cfg(not(target_os = "linux"))]
        let watched = [SIGINT, SIGTERM];
        // Only on Linux can a closed terminal be distinguished from `nohup`.
        #[cfg(target_os = "linux")]
        let watched = [SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
        for signal in watched.into_iter().filter(|&signal| !is_ignored(signal)) {
            // In this order, `at_once` is unset when the first signal arrives. Where a handler
            // cannot be installed, the signal keeps its default effect.
            let _ = flag::register_conditional_default(signal, signals.at_once.clone())
                .and_then(|_| flag::register(signal, signals.at_once.clone()))
                .and_then(|_| {
                    flag::register_usize(signal, signals.caught.clone(), signal as usize)
                });
        }
        signals
    }

    /// The received signal, if any.
    pub fn caught(&self) -> Option<Signal> {
        match self.caught.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(Signal(signal as u8)),
        }
    }

    /// Runs `work`, of which nothing is kept if it is stopped: a signal ends the program, whatever
    /// `work` is at. The message ends with `outcome`.
    pub fn interrupt<T>(&self, outcome: &str, bar: &Bar, work: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            let watch = move || {
                // Nothing is sent: the work is done when the sender is dropped.
                while is_done.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                    if let Some(signal) = self.caught() {
                        bar.finish();
                        self.release();
                        let status = Failure::Stopped(signal, outcome.to_string()).report();
                        low_level::exit(status.into());
                    }
                }
            };
            if thread::Builder::new().spawn_scoped(scope, watch).is_err() {
                // Without a thread a signal has its default effect.
                self.at_once.store(true, Ordering::SeqCst);
            }
            let result = work();
            drop(done);
            result
        })
    }

    /// Unlocks the file and restores the default effect of every signal.
    pub fn release(&self) {
        drop(self.lock.lock().map(|mut lock| lock.take()));
        self.at_once.store(true, Ordering::SeqCst);
    }
}

/// Turns SIGXFSZ, which ends a process whose file outgrows its limit, into a failed write.
pub fn fail_writes_over_a_limit() {
    #[cfg(unix)]
    let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

/// Whether the parent process set `signal` to be ignored, as `nohup` does.
#[cfg(target_os = "linux")]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(not(target_os = "linux"))]
fn is_ignored(_signal: i32) -> bool {
    false
}
