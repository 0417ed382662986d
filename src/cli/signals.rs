//! Requests to stop: Ctrl-C, `kill`, a terminal that closes.
//!
//! After the first one, training ends with the current iteration and saves everything. Each one
//! after it has its default effect: it ends the program at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::signal_name;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A flag for received signals. The default never receives any.
#[derive(Default)]
pub struct Signals {
    /// The last signal received, or 0.
    caught: Arc<AtomicUsize>,
    /// Whether the next one has its default effect.
    at_once: Arc<AtomicBool>,
}

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u8);

impl Signal {
    pub fn name(self) -> &'static str {
        signal_name(self.0.into()).unwrap_or("a signal")
    }

    /// The exit status that a shell gives to a program that this signal ended.
    pub fn exit_status(self) -> u8 {
        128 + self.0
    }
}

impl Signals {
    /// Installs the signal handlers.
    pub fn watch() -> Self {
        let signals = Self::default();
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

    /// Runs `work`, of which nothing is kept if it is stopped: a signal ends the program at once.
    pub fn interrupt<T>(&self, work: impl FnOnce() -> T) -> T {
        self.at_once.store(true, Ordering::SeqCst);
        let done = work();
        self.at_once.store(self.caught().is_some(), Ordering::SeqCst);
        done
    }

    /// Restores the default effect of every signal.
    pub fn restore_default(&self) {
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
