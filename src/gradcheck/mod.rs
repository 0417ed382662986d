//! Compares gradients: those of the three gradient methods with each other and with exact ones
//! ([`check`]), and a reader's own with the right ones ([`against`]).
//!
//! The methods of [`GradientMethod`](crate::train::GradientMethod) derive the gradient of the loss
//! of a batch. `autograd` and `hand` share kernels, so their agreement verifies the graph, not the
//! derivation. Exact derivatives in dual numbers and central differences need the forward pass of
//! [`crate::reference`] alone, so no error of a derivation can be in them. They run in f64, at the same
//! parameters for a check in f32 too, by each entry of a small network and along random directions
//! through all entries of a tensor of any size.
//!
//! For two gradients g1 and g2 of a tensor, a check reports the largest absolute difference, its
//! index, and the error that must be within its bound:
//!
//! ```text
//! relative error = ||g1 - g2|| / (||g1|| + ||g2||)        0 if both are zero, 1 if one is
//! ```
//!
//! The bound is 1e-12 in f64 and 1e-5 in f32; against differences 1e-7 in f64. The rounding that is
//! measured on the problem is allowed beside it. Values that are not finite fail. The initial state
//! `a0` counts as a sixth tensor; the loss and the last states are compared too.
//!
//! ```
//! use candle_core::{DType, Device};
//! use char_rnn::gradcheck::{Options, Problem, Sizes, check};
//!
//! let sizes = Sizes { hidden: 5, vocabulary: 4, steps: 3, batch: 2 };
//! let problem = Problem::random(sizes, 1)?;
//! let report = check(&problem, DType::F64, &Device::Cpu, &Options::default())?;
//! assert!(report.agree);
//! # Ok::<(), char_rnn::Error>(())
//! ```

mod against;
mod check;
mod compare;
mod forward;
mod gradients;
mod numbers;
mod numeric;
mod problem;
mod rounding;

pub use against::{Against, Cause, Entry, Letter, against};
pub use check::{Options, Report, check};
pub use compare::{Comparison, Pair};
pub(crate) use compare::{largest, worst};
#[cfg(feature = "cli")]
pub(crate) use problem::TENSORS;
pub use problem::{Problem, Sizes};
