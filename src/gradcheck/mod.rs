//! Compares the gradients of the three gradient methods, and a reader's own, with exact ones.
//!
//! The methods of [`GradientMethod`](crate::train::GradientMethod) derive the gradient of the loss
//! of a batch. Three others need the forward pass of [`crate::reference`] alone, so no error of a
//! derivation can be in them, and they share no code with the gradient methods:
//!
//! - [`exact`] derivatives of the loss in dual numbers, entry by entry or along random directions
//!   through all entries of a tensor;
//! - [`central_differences`], dL/dw = (L(w + h) - L(w - h)) / 2h + O(h^2);
//! - the slope of the Taylor remainder, [`TaylorSlopes`].
//!
//! They run in f64 for a check in f32 too, at the same parameters, which f64 holds exactly.
//! `autograd` and `hand` share kernels, so their agreement verifies the graph, not the derivation.
//!
//! For two gradients g1 and g2 of a tensor, a check reports the largest absolute difference, its
//! index, the cosine of the angle between them, and the error that must be within the [`bound`] and
//! the [`Rounding`] of the problem:
//!
//! ```text
//! relative error = ||g1 - g2|| / (||g1|| + ||g2||)        0 if both are zero, 1 if one is
//! ```
//!
//! Values that are not finite fail. The initial state `a0` counts as a sixth tensor; the loss and
//! the last states are compared too. [`MISTAKES`] lists the known mistakes of a backward pass:
//! [`prove`] plants them, and [`against`] recognizes them in a file of NumPy's.
//!
//! ```
//! use candle_core::{DType, Device};
//! use char_rnn::gradcheck::{Options, Problem, Sizes, check};
//!
//! let sizes = Sizes { hidden: 5, vocabulary: 4, steps: 3, batch: 2 };
//! let problem = Problem::random(sizes, 1)?;
//! let checked = check(&problem, DType::F64, &Device::Cpu, &Options::default())?;
//! assert!(checked.report.agree);
//! # Ok::<(), char_rnn::Error>(())
//! ```

mod against;
mod by_step;
mod compare;
mod forward;
mod gradients;
mod mistakes;
mod npz;
mod numbers;
mod numeric;
mod ops;
mod problem;
mod report;
mod rounding;

pub use against::{Against, Diagnosis, Entry, Unexplained, against};
pub use by_step::{ByStep, Clamped, StepNorms, by_step};
pub use compare::{Comparison, Pair, bound};
pub use gradients::{Gradients, Scope};
pub use mistakes::{Known, MISTAKES, Mistake, Planted, planted, prove};
pub use numeric::{DIFFERENCES, DIRECTIONS, EXACT, STEP, central_differences, exact};
pub use ops::OpComparison;
pub use problem::{Entries, Problem, Sequence, Sizes, TENSORS};
pub use report::{Checked, Options, Report, StepError, StepSizes, TaylorSlopes, check, step_sizes};
pub use rounding::Rounding;
