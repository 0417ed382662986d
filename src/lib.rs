//! A character-level RNN that is trained on a list of names and samples new ones, on candle.
//!
//! It implements a well-known NumPy teaching notebook, and reproduces its numbers. Read in this order:
//!
//! | module | the notebook |
//! | --- | --- |
//! | [`mod@reference`] | all of it in scalar loops: `rnn_forward`, `rnn_backward`, `clip`, `update_parameters`, `optimize`, `sample` |
//! | [`model`] | the network, a candle module |
//! | [`train`] | `model`, the loop; `train/optimize.rs` has `optimize`, `train/bptt.rs` the derivation of `rnn_backward` |
//! | [`sample`] | `sample` |
//! | [`random`] | NumPy's generator |
//!
//! Beside these: [`data`] (lists, vocabularies, minibatches), [`eval`] (held-out loss),
//! [`mod@gradient_norms`] (how far back a prediction depends on a name), [`gradcheck`] (gradients
//! compared), [`checkpoint`] (model files), [`mod@export`], [`mod@page`] (a model in the browser), and
//! [`ops`], the fused candle ops.
//!
//! ```
//! use char_rnn::data::Corpus;
//! use char_rnn::random::RngSource;
//! use char_rnn::sample::{MAX_LENGTH, Sampler};
//! use char_rnn::train::{TrainConfig, train};
//!
//! let corpus = Corpus::dinos();
//! let config = TrainConfig { iterations: 200, ..TrainConfig::default() };
//! let trained = train(&corpus, &config, &mut ())?;
//! for name in Sampler::new(&trained.model, RngSource::Seed(1), MAX_LENGTH, 0..3)? {
//!     println!("{}", corpus.vocabulary().decode(&name?.indices));
//! }
//! # Ok::<(), char_rnn::Error>(())
//! ```
//!
//! Without the default feature `cli`, the crates of the command line are not built.
//!
//! The kernels use rayon's threads, those of the caller's pool or else the global one. Set the
//! environment variable `RAYON_NUM_THREADS`: without it candle reads the number of processors at each
//! matrix product, which at these sizes takes longer than the product. Overrides of profiles in this
//! crate's `Cargo.toml` do not reach the program that uses it: build that with optimisation.

pub mod checkpoint;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod data;
pub mod device;
mod error;
pub mod eval;
pub mod export;
pub mod gradcheck;
pub mod gradient_norms;
pub(crate) mod kernels;
pub mod model;
pub mod ngram;
pub mod ops;
pub mod page;
pub mod random;
pub mod reference;
pub mod sample;
mod text;
pub mod train;

pub use error::{Error, Result};

/// The examples of the README are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/model-format.md")]
struct ModelFormat;
