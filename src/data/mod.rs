//! Lists of names, their vocabulary, minibatches and the validation split.

mod batch;
mod corpus;
mod known_names;
mod split;
mod vocabulary;

pub use batch::{Batch, IGNORE_INDEX, START};
pub use corpus::{Corpus, LetterCase, MAX_NAME_LENGTH, encode, read_names};
pub(crate) use corpus::{breaks_lines, digest};
pub use known_names::KnownNames;
pub use vocabulary::{END, Vocabulary};
