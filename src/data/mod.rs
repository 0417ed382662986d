//! Lists of names, their vocabulary, minibatches and the validation split.

mod batch;
mod capitals;
mod corpus;
mod faults;
mod known_names;
mod letters;
mod spelling;
mod split;
mod vocabulary;
mod warnings;

pub(crate) use batch::check_indices;
pub use batch::{Batch, IGNORE_INDEX, START};
pub(crate) use corpus::digest;
#[cfg(feature = "cli")]
pub(crate) use corpus::read_bytes;
pub use corpus::{Corpus, DINOS, Listed, MAX_NAME_LENGTH, encode, encode_prefix, parse_listed};
pub use known_names::KnownNames;
#[cfg(feature = "cli")]
pub(crate) use letters::trimmed;
#[cfg(feature = "cli")]
pub(crate) use spelling::folded;
pub use spelling::{LetterCase, Restored, Spelling};
pub use vocabulary::{END, Vocabulary};
