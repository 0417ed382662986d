//! The arithmetic below the fused candle ops and below [`bptt`](crate::train::bptt), on slices: no
//! tensors, no graph, no allocation.
//!
//! All matrices are row-major. Letters: `T` steps, `B` sequences of a batch, `n` hidden units
//! (`n_a`), `v` vocabulary (`n_x = n_y`), `R` rows: `T B`, or fewer where sequences have ended.
//! Sequences are time-major, so that one step of the whole batch is contiguous.
//!
//! | file | contents |
//! | --- | --- |
//! | `element` | [`Element`] (f32, f64) and its vectors, generic over the instruction set |
//! | `simd` | the choice of the instruction set, loops over slices a vector at a time |
//! | `x86` | transposes in registers |
//! | `math` | `exp` and `tanh` with error bounds |
//! | `product` | the matrix product, by gemm or in registers |
//! | `threads` | the division of rows among threads |
//! | `transpose` | transposition |
//! | `recurrence` | `a_t = tanh(px_t + waa a_{t-1})` over all steps, and its gradient |
//! | `projection` | `px = wax x + b` by index, `z = wya a + by`, and their gradients |
//! | `softmax` | the exponentials of softmax, and the choice of an index by them |
//! | `cross_entropy` | softmax cross-entropy and its gradient in one pass |
//! | `update` | norms of gradients, `w -= lr * clamp(g, -clip, clip)`, and AdamW |
//!
//! The instruction set (AVX-512, AVX2 with FMA, NEON, or none) is detected once; every function
//! without a `simd` argument enters it by itself. A wrong length panics: lengths are contracts
//! between modules of this crate, not user input.

pub(crate) mod cross_entropy;
mod element;
mod math;
pub(crate) mod product;
pub(crate) mod projection;
pub(crate) mod recurrence;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod threads;
pub(crate) mod transpose;
pub(crate) mod update;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use element::Element;
