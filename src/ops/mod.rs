//! Fused candle ops. Each is one node of the graph, with its own gradient, where candle's primitive
//! ops need several nodes a time step.
//!
//! | function | computes | gradients |
//! | --- | --- | --- |
//! | [`project_input`] | `px = wax x + b`, with `x` given by index | `wax`, `b` |
//! | [`recurrence`] | `a_t = tanh(px_t + waa a_{t-1})` for all T steps | `px`, `waa`, `a0` |
//! | [`project_output`] | `z = wya a + by` | `a`, `wya`, `by` |
//! | [`cross_entropy`] | the sum of `-ln softmax(z)[y]` | `z` |
//!
//! [`soft_cross_entropy`] is the loss of targets that are probabilities, by candle's primitive ops.
//!
//! Any candle model can use them; `examples/fused_recurrence.rs` is one. All tensors of an op have
//! the same float type, `F32` or `F64`, and the same device. Rows are time-major: step `t` of sequence
//! `i` is row `t * B + i`.
//!
//! On the CPU each is fused. On another device, such as a GPU, the same functions are compositions of
//! candle's primitive ops (`primitive.rs`). On the CPU an index outside the vocabulary is an error. On
//! a GPU it ends the process's use of that GPU: check indices before they are moved there.
//!
//! In candle 0.11 each gradient of a node is added to a fresh tensor of zeros. At the sizes of this
//! project the number of nodes dominates the time of a step.

mod cross_entropy;
pub(crate) mod primitive;
mod project_input;
mod project_output;
mod recurrence;
mod update;

pub use cross_entropy::{cross_entropy, soft_cross_entropy};
pub use project_input::project_input;
pub use project_output::project_output;
pub use recurrence::recurrence;
pub(crate) use update::{adamw_descent, adamw_moments, clamp, descend};

use crate::kernels::Element;
use crate::kernels::product::Scratch;
use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, WithDType, bail};
use std::cell::RefCell;

/// A float type of both candle and the kernels: `f32` or `f64`.
pub(crate) trait Float: Element + WithDType {
    /// Calls `f` with a scratch buffer of this thread, which keeps its memory between calls.
    fn with_scratch<R>(f: impl FnOnce(&mut Scratch<Self>) -> R) -> R;
}

macro_rules! float {
    ($F:ty) => {
        impl Float for $F {
            fn with_scratch<R>(f: impl FnOnce(&mut Scratch<Self>) -> R) -> R {
                thread_local! {
                    static SCRATCH: RefCell<Scratch<$F>> = RefCell::default();
                }
                SCRATCH.with_borrow_mut(f)
            }
        }
    };
}
float!(f32);
float!(f64);

/// Evaluates `$body` with `$F` as the float type of `$dtype`, a candle `DType`.
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
        _ => bail!("the tensors of an op must be on one device"),
    }
}

/// The values of a contiguous tensor.
pub(crate) fn slice<'a, F: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [F]> {
    // Candle multiplies the dimensions of a broadcast tensor without checking for overflow.
    let count = layout.dims().iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    match layout.contiguous_offsets() {
        // A view of an empty tensor may begin behind its end.
        Some(_) if count == Some(0) => Ok(&[]),
        Some((start, end)) if Some(end - start) == count => Ok(&storage.as_slice()?[start..end]),
        Some(_) => bail!("a tensor of {:?} is too large", layout.dims()),
        None => bail!("the tensors of an op must be contiguous"),
    }
}

/// The values of a contiguous tensor, to change.
fn slice_mut<'a, F>(values: &'a mut [F], layout: &Layout) -> Result<&'a mut [F]> {
    match layout.contiguous_offsets() {
        Some((start, end)) if start == end => Ok(&mut []),
        Some((start, end)) => Ok(&mut values[start..end]),
        None => bail!("a tensor that is changed in place must be contiguous"),
    }
}

/// The gradient of `of` with these values; none for an argument that is not tracked.
fn gradient<F: WithDType>(of: &Tensor, values: Vec<F>) -> Result<Option<Tensor>> {
    of.track_op().then(|| Tensor::from_vec(values, of.shape(), of.device())).transpose()
}

/// The value of a scalar tensor as `f64`, without a conversion by candle, which would make another
/// tensor.
pub(crate) fn scalar(tensor: &Tensor) -> Result<f64> {
    with_float!(tensor.dtype(), "a scalar", F => tensor.to_scalar::<F>().map(Element::to_f64))
}

#[cfg(test)]
pub(crate) mod testing {
    use crate::random::RngSource;
    use candle_core::{DType, Device, Shape, Tensor};

    /// Normal numbers, the same for the same seed.
    pub fn noise(shape: impl Into<Shape>, deviation: f64, seed: u64, dtype: DType) -> Tensor {
        let shape = shape.into();
        let mut normals = RngSource::Seed(seed).normals();
        let values: Vec<f64> = (0..shape.elem_count()).map(|_| normals() * deviation).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    }

    /// The largest absolute difference; NaN where an entry of either is NaN.
    pub fn difference(a: &Tensor, b: &Tensor) -> f64 {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        let values: Vec<f64> = difference.to_dtype(DType::F64).unwrap().to_vec1().unwrap();
        values.into_iter().fold(0., |max, d| if d <= max { max } else { d })
    }
}
