//! Why a command fails, in the words of the command line.

use super::args::say;
use crate::Error;
use regex::{Captures, Regex};
use signal_hook::low_level::signal_name;
use std::fmt;
use std::io;

/// Why a command could not finish.
#[derive(Debug)]
pub enum Failure {
    /// An error of the library.
    Library(Error),
    /// Training diverged: the error, and what is left.
    Diverged(Error, String),
    /// Standard output could not be written.
    Output(io::Error),
    /// A check failed, in a sentence.
    Check(String),
    /// A signal stopped the command: which one, and what is left.
    Stopped(Signal, String),
    /// Something failed on the way and was reported then.
    AlreadyReported,
}

impl Failure {
    /// Reports it on standard error. Returns the exit status: 1 for a check that failed; 2, as clap
    /// has it, for bad usage and input; for a signal that of a shell.
    pub fn report(&self) -> u8 {
        match self {
            // The reader has seen enough, as with `head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            Self::AlreadyReported => {}
            _ => say(&format!("char-rnn: {self}")),
        }
        match self {
            Self::Check(_) => 1,
            Self::Stopped(Signal(number), _) => 128 + number,
            _ => 2,
        }
    }
}

/// A request to stop: the number of the signal.
#[derive(Debug, Clone, Copy)]
pub struct Signal(pub u8);

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(signal_name(self.0.into()).unwrap_or("a signal"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => f.write_str(&message(error)),
            Self::Diverged(error, outcome) => write!(f, "{}{outcome}", message(error)),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
            Self::Check(answer) => answer.fmt(f),
            Self::Stopped(signal, outcome) => write!(f, "stopped by {signal}{outcome}"),
            Self::AlreadyReported => f.write_str("not all output could be written"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::Library(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The error's message with flags in the place of fields.
pub fn message(error: &Error) -> String {
    match error {
        Error::Setting { name, value, rule } => {
            format!("{} cannot be {value}: {}", flag(name), with_flags(rule))
        }
        error => with_flags(&error.to_string()),
    }
}

/// The flag of a field; anything else, such as an argument, as it is.
pub fn flag(field: &str) -> String {
    match field.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
        true => format!("--{}", field.replace('_', "-")),
        false => field.to_string(),
    }
}

/// The text with each field in backticks replaced by its flag.
pub fn with_flags(text: &str) -> String {
    let field = Regex::new("`([a-z_]+)`").expect("a valid pattern");
    field.replace_all(text, |found: &Captures| flag(&found[1])).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_flags() {
        let error = Error::setting("learning_rate", 0, "it needs `batch_size`, not `x y` or `");
        assert_eq!(
            message(&error),
            "--learning-rate cannot be 0: it needs --batch-size, not `x y` or `"
        );
        assert_eq!(flag("NAMES"), "NAMES");
        assert_eq!(with_flags("no fields"), "no fields");
    }
}
