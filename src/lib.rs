//! A character-level RNN that learns a list of names and makes new ones.
//!
//! The network is a candle module ([`model`]), trained one name at a time ([`train`]) by one of
//! several ways of finding its gradients ([`engine`]); names come out of it one character at a
//! time ([`sample`]), and names are put to it to be judged ([`eval`]). A model file
//! ([`checkpoint`]) holds all that training needs to go on ([`resume`]). It implements a well-known
//! NumPy teaching notebook and can reproduce its very numbers ([`numpy_random`],
//! [`train::Settings::notebook`]).
//!
//! ```
//! use char_rnn::corpus::Corpus;
//! use char_rnn::random::Randomness;
//! use char_rnn::sample::{MAX_LENGTH, Names};
//! use char_rnn::train::{Settings, train};
//!
//! let corpus = Corpus::dinos();
//! let settings = Settings { iterations: 200, ..Settings::default() };
//! let trained = train(&corpus, &settings, &mut ())?;
//! for sampled in Names::new(&trained.model, Randomness::Seed(1), MAX_LENGTH, 0..3)? {
//!     println!("{}", corpus.vocabulary().decode(&sampled?.indices));
//! }
//! # Ok::<(), char_rnn::Error>(())
//! ```

pub mod batch;
pub mod bptt;
pub mod bptt_tensors;
pub mod checkpoint;
pub mod corpus;
pub mod device;
pub mod engine;
mod error;
pub mod eval;
pub mod export;
pub mod gradcheck;
pub mod history;
pub mod history_plot;
pub mod kernels;
pub mod known;
pub mod model;
pub mod numpy_random;
pub mod ops;
pub mod optim;
pub mod output_file;
pub mod plot;
pub mod random;
pub mod resume;
pub mod sample;
pub mod tensorboard;
pub mod train;
pub mod validation;
pub mod vocab;

pub use error::{Error, Result};

/// The examples of the README are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
