//! Plain arithmetic on slices, under the fused candle ops and under [`bptt`](crate::bptt). No
//! tensors, no graph, no allocation.
//!
//! All matrices are row-major. Letters: `T` steps, `B` sequences side by side (the batch), `n`
//! hidden units (`n_a`), `v` vocabulary (`n_x = n_y`). Sequences are time-major: row `t * B + i`
//! belongs to step `t` of sequence `i`, so that one step of the whole batch is one contiguous
//! block.
//!
//! | file | what |
//! | --- | --- |
//! | [`simd`] | the [`Element`] trait (f32, f64) over vectors whose width is chosen at run time |
//! | [`math`] | `exp` and `tanh` with error bounds |
//! | [`matmul`] | one register-blocked matrix product, and the packing that feeds it |
//! | [`transpose`] | transposing |
//! | [`recurrence`] | `a_t = tanh(px_t + waa a_{t-1})` over all steps, and its gradient |
//! | [`projection`] | `px = wax x + b` by index, `z = wya a + by`, and their gradients |
//! | [`softmax`] | the exponentials of softmax |
//! | [`cross_entropy`] | softmax cross-entropy and its gradient in one pass |
//! | [`update`] | clipping, `w -= lr * clamp(g, -clip, clip)`, and AdamW |
//!
//! The instruction set (AVX-512, AVX2 with FMA, NEON, or none) is detected once; every public
//! function enters it by itself. Lengths are checked and a wrong one panics: these are contracts
//! between our own modules, not user input.

pub mod cross_entropy;
pub mod math;
pub mod matmul;
pub mod projection;
pub mod recurrence;
pub mod simd;
pub mod softmax;
pub mod transpose;
pub mod update;

pub use simd::Element;

/// In `x`: the zero vector, that is, no character before this step. In `y`: a padded step, which
/// has neither loss nor gradient.
pub const NONE: u32 = u32::MAX;
