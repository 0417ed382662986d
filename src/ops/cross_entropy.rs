//! Softmax cross-entropy as one node.

use super::{Float, check_indices, gradient_of, primitive, slice, values, with_float};
use crate::kernels::{Element, cross_entropy as kernels};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};

/// The sum over rows of `-ln softmax(z)[y]`, in nats: logits `z` (R, n_y) and targets `y` (R) of
/// `U32` to a scalar. A row whose target is [`crate::kernels::NONE`] counts for nothing.
///
/// # Errors
/// Where the shapes do not fit, a target is outside (0 .. n_y), or the type is not `F32` or
/// `F64`.
pub fn cross_entropy(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !z.device().is_cpu() {
        return primitive::cross_entropy(z, y);
    }
    let op = CrossEntropy { y: y.contiguous()? };
    z.contiguous()?.apply_op1(op)
}

/// Backward computes the softmax again rather than keep it from forward: that is a small part of
/// a step, and an op without memory can go back twice, or never, and hold nothing.
struct CrossEntropy {
    y: Tensor,
}

impl CrossEntropy {
    /// `scale` times the loss, and its gradient by `z`.
    fn run<F: Float>(z: &[F], y: &[u32], v: usize, scale: F) -> (F, Vec<F>) {
        let mut dz = vec![F::ZERO; z.len()];
        let loss = kernels::cross_entropy(z, y, v, scale, &mut dz);
        (<F as Element>::from_f64(loss), dz)
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, z: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let v = match (layout.dims(), self.y.dims()) {
            (&[rows, v], &[rows_y]) if rows == rows_y && v > 0 => v,
            (z, y) => bail!("{}: z {z:?} and y {y:?} are not (R, v) and (R)", self.name()),
        };
        values!(y: u32 = self.y);
        check_indices(y, v)?;
        let loss = with_float!(z.dtype(), self.name(), F => {
            let (loss, _) = Self::run::<F>(slice(z, layout)?, y, v, 1.);
            F::to_cpu_storage_owned(vec![loss])
        });
        Ok((loss, ().into()))
    }

    fn bwd(&self, z: &Tensor, _loss: &Tensor, scale: &Tensor) -> Result<Option<Tensor>> {
        let (_, v) = z.dims2()?;
        with_float!(z.dtype(), self.name(), F => {
            values!(y: u32 = self.y);
            values!(z_values: F = z);
            let (_, dz) = Self::run::<F>(z_values, y, v, scale.to_scalar()?);
            gradient_of(z, dz)
        })
    }
}
