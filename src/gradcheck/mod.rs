//! Compares the gradients of the three gradient methods and of central differences, in pairs.
//!
//! The methods of [`GradientMethod`](crate::train::GradientMethod) derive the gradient of
//! the loss of a batch. Central differences need the forward pass alone,
//!
//! ```text
//! dL/dw = (L(w + h) - L(w - h)) / 2h + O(h^2)
//! ```
//!
//! so no error of a derivation can be in them. Their forward pass is [`crate::reference`], which
//! shares no code with the gradient methods. It runs in f64 for a check in f32 too, at the same
//! parameters, which f64 holds exactly: differences of an f32 loss have no correct digits below
//! 1e-3.
//!
//! `autograd` and `hand` share kernels, so their agreement verifies the graph, not the derivation.
//! The derivation is verified by `unrolled`, candle's own gradients, and by the differences.
//!
//! For two gradients g1 and g2 of a tensor, a check reports the largest absolute difference, its
//! index, the cosine of the angle between them, and the error that must be within the [`bound`]:
//!
//! ```text
//! relative error = ||g1 - g2|| / (||g1|| + ||g2||)        0 if both are zero, 1 if one is
//! ```
//!
//! Values that are not finite fail. The initial state `a0` counts as a sixth tensor.
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

mod compare;
mod numeric;
mod problem;
mod report;

pub use compare::{Comparison, Pair, bound};
pub use numeric::{DIFFERENCES, STEP, central_differences};
pub use problem::{Entries, Gradients, Problem, Sizes, TENSORS};
pub use report::{Checked, Options, Report, StepError, StepSizes, check, step_sizes};
