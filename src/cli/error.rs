//! Why a command fails, in the words of the command line.

use super::signals::Signal;
use crate::Error;
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
    /// The exit status: 1 for a check that failed; 2, as clap has it, for bad usage and input; for a
    /// signal that of a shell.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Check(_) => 1,
            Self::Stopped(signal, _) => signal.exit_status(),
            Self::Library(_) | Self::Diverged(..) | Self::Output(_) | Self::AlreadyReported => 2,
        }
    }

    /// Whether the reader of standard output has closed it.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => f.write_str(&message(error)),
            Self::Diverged(error, outcome) => write!(f, "{}{outcome}", message(error)),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
            Self::Check(answer) => answer.fmt(f),
            Self::Stopped(signal, outcome) => write!(f, "stopped by {}{outcome}", signal.name()),
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

/// The flag of a field; anything else as it is.
pub fn flag(field: &str) -> String {
    match is_field(field) {
        true => format!("--{}", field.replace('_', "-")),
        false => field.to_string(),
    }
}

fn is_field(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The text with each field in backticks replaced by its flag.
pub fn with_flags(text: &str) -> String {
    // Fields are the odd parts between backticks; where a part is none, its backticks stay.
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('`') {
        out += before;
        match after.split_once('`') {
            Some((field, after)) if is_field(field) => {
                out += &flag(field);
                rest = after;
            }
            _ => {
                out.push('`');
                rest = after;
            }
        }
    }
    out + rest
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
