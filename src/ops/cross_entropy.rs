//! Softmax cross-entropy as one node.

use super::{primitive, scalar, slice, values, with_float};
use crate::data::{IGNORE_INDEX, check_indices};
use crate::kernels::{Element, cross_entropy as kernels};
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, D, DType, Device, Layout, Result, Shape, Tensor, WithDType, bail,
};
use candle_nn::ops::log_softmax;
use std::sync::OnceLock;

/// The sum over rows of `-ln softmax(z)[y]`, in nats: logits `z` (R, n_y) and targets `y` (R) of
/// `U32` to a scalar. Rows with the target [`IGNORE_INDEX`] have no loss and no
/// gradient.
///
/// # Errors
/// Where the shapes do not fit, a target is outside (0 .. n_y), or the type is not `F32` or
/// `F64`.
pub fn cross_entropy(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !z.device().is_cpu() {
        return primitive::cross_entropy(z, y);
    }
    let op = CrossEntropy { y: y.contiguous()?, dz: OnceLock::new() };
    z.contiguous()?.apply_op1(op)
}

/// The loss of targets that are probabilities: the sum over rows of `-q ln softmax(z)`, in nats, by
/// candle's primitive ops. `z` and `q` are (R, n_y); a row of zeros has no loss and no gradient.
///
/// # Errors
/// Where the shapes do not fit, the type is not `F32` or `F64`, or the device fails.
pub fn soft_cross_entropy(z: &Tensor, q: &Tensor) -> Result<Tensor> {
    if !matches!(z.dtype(), DType::F32 | DType::F64) || z.dims() != q.dims() || z.dims().len() != 2
    {
        bail!("soft cross-entropy: z {z:?} and q {q:?} are not both (R, v) of F32 or F64");
    }
    (log_softmax(z, D::Minus1)? * q)?.sum_all()?.neg()
}

struct CrossEntropy {
    y: Tensor,
    /// The gradient with respect to `z`. The forward pass computes it: loss and gradient need the
    /// same exponentials.
    dz: OnceLock<Tensor>,
}

impl CrossEntropy {
    /// n_y, or an error where the shapes do not fit.
    fn vocabulary(&self, z: &Layout) -> Result<usize> {
        match (z.dims(), self.y.dims()) {
            (&[rows, v], &[rows_y]) if rows == rows_y && v > 0 => Ok(v),
            (z, y) => bail!("{}: z {z:?} and y {y:?} are not (R, v) and (R)", self.name()),
        }
    }

    fn gradient(&self) -> Result<&Tensor> {
        match self.dz.get() {
            Some(dz) => Ok(dz),
            None => bail!("{}: backward before forward", self.name()),
        }
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, z: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let v = self.vocabulary(layout)?;
        values!(y: u32 = self.y);
        check_indices(y.iter().filter(|&&y| y != IGNORE_INDEX), v)?;
        let loss = with_float!(z.dtype(), self.name(), F => {
            let z: &[F] = slice(z, layout)?;
            let mut dz = vec![F::ZERO; z.len()];
            let loss = kernels::cross_entropy(z, y, None, v, F::ONE, &mut dz);
            let dz = Tensor::from_vec(dz, layout.shape(), &Device::Cpu)?;
            self.dz.get_or_init(|| dz);
            F::to_cpu_storage_owned(vec![<F as Element>::from_f64(loss)])
        });
        Ok((loss, ().into()))
    }

    fn bwd(&self, _z: &Tensor, _loss: &Tensor, dloss: &Tensor) -> Result<Option<Tensor>> {
        let dz = self.gradient()?;
        match scalar(dloss)? {
            1. => Ok(Some(dz.clone())),
            scale => (dz * scale).map(Some),
        }
    }
}
