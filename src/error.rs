//! The one error type of the library: what was wrong, where, and what to do about it.
//!
//! Each message is a sentence that can be shown to a person as it stands. Functions that are
//! part of a candle model (see [`crate::model`]) return [`candle_core::Error`] instead, as every
//! candle module does.

use std::io;
use std::path::{Path, PathBuf};

/// The result of the library's own functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file could not be written. Whatever stood at `path` before is untouched.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Text that is not a usable list of names.
    #[error("{origin}: {problem}")]
    Names {
        /// The file's name, or what stands for it.
        origin: String,
        /// What is wrong and, where it has a place, on which line.
        problem: String,
    },
    /// A character that the model's vocabulary does not have.
    #[error("the character {character:?} is not in the vocabulary of the model")]
    UnknownCharacter {
        /// The character.
        character: char,
    },
    /// A setting outside its range.
    #[error("{name} cannot be {value}: {rule}")]
    Setting {
        /// The setting, spelled as on the command line.
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
    /// A file that another run is about to write.
    #[error(
        "another char-rnn is training {}: wait until it is done, or choose another file with -o",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Training left the finite numbers, and cannot come back.
    #[error(
        "the {what} became {value} at iteration {iteration}: training stopped and this model was not written; \
         a smaller --learning-rate or --clip may help"
    )]
    Diverged {
        /// The iteration, counted from 0, at which it was seen.
        iteration: u64,
        /// The loss or a parameter.
        what: String,
        /// The offending value, `NaN` or infinite.
        value: f64,
    },
    /// The device that was asked for cannot be used.
    #[error("{0}")]
    Device(String),
    /// An error of candle's, from a tensor operation.
    #[error(transparent)]
    Candle(candle_core::Error),
}

/// Candle's error, or where it means that the memory of a GPU is used up, that in a sentence.
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // The name that the driver and cuBLAS give it: candle hands on a text.
        let text = error.to_string();
        if ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"]
            .iter()
            .any(|e| text.contains(e))
        {
            return Self::Device(
                "the GPU has too little free memory for this: smaller --hidden or --batch-size take \
                 less, and --device cpu takes none of it"
                    .to_string(),
            );
        }
        Self::Candle(error)
    }
}

impl Error {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_path_buf(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_path_buf(), source }
    }

    pub(crate) fn model_file(path: &Path, problem: impl Into<String>) -> Self {
        Self::ModelFile { path: path.to_path_buf(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_without_memory_is_told_in_one_sentence() {
        let told = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let error = Error::from(candle_core::Error::Cuda(told.into()).bt());
        assert!(error.to_string().starts_with("the GPU has too little free memory"), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
        let other = Error::from(candle_core::Error::Cuda("DriverError(CUDA_ERROR_UNKNOWN)".into()));
        assert!(matches!(other, Error::Candle(_)));
    }
}
