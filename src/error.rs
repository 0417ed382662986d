//! The error type of the library: what was wrong, where, and what to do about it.
//!
//! Each message is a sentence for a person. It names fields of the configuration in backticks, which
//! the command line replaces by its flags. The functions of a candle module ([`crate::model`]) return
//! [`candle_core::Error`] instead, as every candle module does.

use std::io;
use std::path::{Path, PathBuf};

/// The result of the library's own functions.
pub type Result<T> = std::result::Result<T, Error>;

/// The errors of the library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file could not be written. Whatever stood at `path` before is untouched.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Text that is not a usable list of names.
    #[error("{origin}: {problem}")]
    Names {
        /// The file's name, or a description.
        origin: String,
        /// What is wrong, with its line if it has one.
        problem: String,
    },
    /// A character that is not in the vocabulary of the model.
    #[error("the character {character:?} is not in the vocabulary of the model")]
    UnknownCharacter {
        /// The character.
        character: char,
    },
    /// A field outside its range.
    #[error("{name} cannot be {value}: {rule}")]
    Setting {
        /// The field.
        name: &'static str,
        /// The value that was refused.
        value: String,
        /// What the value must be.
        rule: String,
    },
    /// A file that is not a model this version can use.
    #[error("{}: {problem}", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        problem: String,
    },
    /// A file of NumPy's arrays that cannot be compared.
    #[error("{}: {problem}", path.display())]
    NumpyFile {
        /// The file.
        path: PathBuf,
        /// Why not, with the array and its shape.
        problem: String,
    },
    /// Training diverged: a number is no longer finite, or the loss is far above that of guessing.
    #[error(
        "the {what} became {value} at iteration {iteration}: training stopped and this model was \
         not written; a smaller `learning_rate` or `clip` may help"
    )]
    Diverged {
        /// The iteration, counted from 0.
        iteration: u64,
        /// The loss or a parameter.
        what: String,
        /// The offending value.
        value: f64,
    },
    /// A device that cannot be used.
    #[error("{0}")]
    Device(String),
    /// An error of candle's, from a tensor operation.
    #[error(transparent)]
    Candle(candle_core::Error),
}

/// Candle's error without its backtrace, or where the memory of a GPU is used up, a sentence that says so.
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let error = without_backtrace(error);
        // The names that the driver and cuBLAS give it: candle passes on a text.
        let text = error.to_string();
        if ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"]
            .iter()
            .any(|e| text.contains(e))
        {
            return Self::Device(
                "the GPU has too little free memory: use a smaller `hidden` or `batch_size`, or the CPU"
                    .to_string(),
            );
        }
        Self::Candle(error)
    }
}

/// The error without the backtrace that candle adds to its text under `RUST_BACKTRACE`.
fn without_backtrace(error: candle_core::Error) -> candle_core::Error {
    use candle_core::Error::{Context, WithBacktrace, WithPath};
    let inner = |inner: Box<candle_core::Error>| Box::new(without_backtrace(*inner));
    match error {
        WithBacktrace { inner, .. } => without_backtrace(*inner),
        WithPath { inner: error, path } => WithPath { inner: inner(error), path },
        Context { inner: error, context } => Context { inner: inner(error), context },
        other => other,
    }
}

impl Error {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_path_buf(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_path_buf(), source }
    }

    /// The error of a field, flag or argument that cannot have this value.
    pub(crate) fn setting(
        name: &'static str,
        value: impl ToString,
        rule: impl Into<String>,
    ) -> Self {
        Self::Setting { name, value: value.to_string(), rule: rule.into() }
    }

    pub(crate) fn names(origin: &str, problem: impl Into<String>) -> Self {
        Self::Names { origin: origin.to_string(), problem: problem.into() }
    }

    pub(crate) fn numpy_file(path: &Path, problem: impl Into<String>) -> Self {
        Self::NumpyFile { path: path.to_path_buf(), problem: problem.into() }
    }

    pub(crate) fn model_file(path: &Path, problem: impl Into<String>) -> Self {
        Self::ModelFile { path: path.to_path_buf(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_without_memory_is_reported_in_one_sentence() {
        let message = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let error = Error::from(candle_core::Error::Cuda(message.into()).bt());
        assert!(error.to_string().starts_with("the GPU has too little free memory"), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
        let other = Error::from(candle_core::Error::Cuda("DriverError(CUDA_ERROR_UNKNOWN)".into()));
        assert!(matches!(other, Error::Candle(_)));
    }

    #[test]
    fn a_message_has_no_backtrace() {
        let inner = || Box::new(candle_core::Error::Msg("no".into()));
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let error = candle_core::Error::WithBacktrace { inner: inner(), backtrace };
        assert_eq!(Error::from(error.with_path("a")).to_string(), "path: \"a\" no");
    }
}
