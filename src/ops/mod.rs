//! Fused candle ops: each is one node of candle's graph where the primitive ops need one for each
//! step, and each brings its own gradient.
//!
//! | function | computes | gradient |
//! | --- | --- | --- |
//! | [`project_input`] | `px = wax x + b`, looked up by index | of `wax`, `b` |
//! | [`recurrence`] | `a_t = tanh(px_t + waa a_{t-1})` for all T steps | of `px`, `waa`, `a0` |
//! | [`project_output`] | `z = wya a + by` | of `a`, `wya`, `by` |
//! | [`cross_entropy`] | the sum of `-ln softmax(z)[y]` | of `z` |
//! | [`clipped_descent`] | `w -= lr * clamp(g, -clip, clip)`, in place | none |
//! | [`adamw_moments`], [`adamw_descent`] | AdamW's running means and its step, in place | none |
//!
//! They can stand in any candle model: `examples/fused_recurrence.rs` shows one. The tensors of an
//! op have one float type, `F32` or `F64`. There are kernels for the CPU and, in builds with the
//! feature `cuda`, for NVIDIA GPUs; on any other device [`primitive`] ops do the same, slower. On a
//! GPU an index outside the vocabulary counts as [`crate::kernels::NONE`]: to refuse it, the op would have
//! to wait for the GPU. Rows are time-major: step `t` of sequence `i` is
//! row `t * B + i`. The arithmetic is in [`crate::kernels`].
//!
//! The price of a node in candle 0.11 is about a microsecond forward and two backward (each
//! gradient is added to a fresh tensor of zeros), so at the sizes of this project the number of
//! nodes is the cost.

mod cross_entropy;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod cuda;
pub mod primitive;
mod projection;
mod recurrence;
#[cfg(any(test, feature = "cuda"))]
mod stepwise;
mod update;

pub use cross_entropy::cross_entropy;
pub(crate) use cross_entropy::cross_entropy_gradient;
pub(crate) use projection::project_input_gradients;
pub use projection::{project_input, project_output};
pub use recurrence::recurrence;
pub(crate) use recurrence::recurrence_gradients;
pub use update::{adamw_descent, adamw_moments, clipped_descent};

use crate::kernels::matmul::Packed;
use crate::kernels::{Element, NONE};
use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor, WithDType, bail};
use std::cell::RefCell;

/// A type that candle and the kernels both know: `f32` or `f64`.
pub(crate) trait Float: Element + WithDType {
    /// Lends `f` this thread's working memory: an op has no other place to keep it from one call
    /// to the next.
    fn with_scratch<R>(f: impl FnOnce(&mut Packed<Self>) -> R) -> R;
}

macro_rules! float {
    ($F:ty) => {
        impl Float for $F {
            fn with_scratch<R>(f: impl FnOnce(&mut Packed<Self>) -> R) -> R {
                thread_local! {
                    static SCRATCH: RefCell<Packed<$F>> = RefCell::default();
                }
                SCRATCH.with_borrow_mut(f)
            }
        }
    };
}
float!(f32);
float!(f64);

/// Runs `$body` with `$F` as the float type of `$dtype`, a candle `DType`.
macro_rules! with_float {
    ($dtype:expr, $op:expr, $F:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $F = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $F = f64;
                $body
            }
            other => candle_core::bail!("{}: numbers must be F32 or F64, not {other:?}", $op),
        }
    };
}
pub(crate) use with_float;

/// Binds `$name` to the values of the tensor `$tensor`, which must be contiguous and on the CPU.
macro_rules! values {
    ($name:ident: $F:ty = $tensor:expr) => {
        let (storage, layout) = $tensor.storage_and_layout();
        let $name = $crate::ops::slice::<$F>($crate::ops::on_cpu(&storage)?, layout)?;
    };
}
pub(crate) use values;

/// The storage of a tensor on the CPU.
pub(crate) fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("this op has only a CPU implementation so far"),
    }
}

/// The values of a contiguous tensor.
pub(crate) fn slice<'a, F: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [F]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice()?[start..end]),
        None => bail!("this op takes contiguous tensors"),
    }
}

/// The one value of a scalar tensor, which costs no tensor of another type.
pub(crate) fn scalar(tensor: &Tensor) -> Result<f64> {
    with_float!(tensor.dtype(), "a scalar", F => tensor.to_scalar::<F>().map(Element::to_f64))
}

/// Whether there are kernels for this device.
fn has_kernels(device: &Device) -> bool {
    device.is_cpu() || (cfg!(feature = "cuda") && device.is_cuda())
}

/// Refuses indices that are neither below `size` nor [`NONE`].
pub(crate) fn check_indices(indices: &[u32], size: usize) -> Result<()> {
    match indices.iter().find(|&&index| index != NONE && index as usize >= size) {
        Some(index) => bail!("the index {index} is outside a vocabulary of {size}"),
        None => Ok(()),
    }
}

/// `tensor` if the graph leads through it to a variable that may want this gradient, made of
/// `values`. An untracked argument costs candle two more passes, for nothing.
fn gradient_of<F: WithDType>(tensor: &Tensor, values: Vec<F>) -> Result<Option<Tensor>> {
    if !tensor.track_op() {
        return Ok(None);
    }
    Tensor::from_vec(values, tensor.shape(), tensor.device()).map(Some)
}
