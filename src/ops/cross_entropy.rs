//! Softmax cross-entropy as one node.

use super::{check_indices, scalar, slice, values, with_float};
use crate::kernels::{Element, cross_entropy as kernels};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor, WithDType, bail,
};
use candle_nn::ops::log_softmax;
use std::sync::OnceLock;

/// The sum over rows of `-ln softmax(z)[y]`, in nats: logits `z` (R, n_y) and targets `y` (R) of
/// `U32` to a scalar. Rows with the target [`crate::data::IGNORE_INDEX`] have no loss and no
/// gradient.
///
/// # Errors
/// Where the shapes do not fit, a target is outside (0 .. n_y), or the type is not `F32` or
/// `F64`.
pub fn cross_entropy(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    let op = CrossEntropy { y: y.contiguous()?, dz: OnceLock::new() };
    z.contiguous()?.apply_op1(op)
}

/// [`cross_entropy`] and its gradient with respect to `z`, without a graph.
///
/// # Errors
/// As [`cross_entropy`].
pub(crate) fn cross_entropy_gradient(z: &Tensor, y: &Tensor) -> Result<[Tensor; 2]> {
    let op = CrossEntropy { y: y.contiguous()?, dz: OnceLock::new() };
    let loss = z.contiguous()?.apply_op1_no_bwd(&op)?;
    Ok([loss, op.gradient()?.clone()])
}

/// The loss of targets that are probabilities: the sum over rows of `-q ln softmax(z)`, in nats, by
/// candle's primitive ops. `z` and `q` are (R, n_y); a row of zeros has no loss and no gradient.
///
/// # Errors
/// Where the shapes do not fit, or the device fails.
pub fn soft_cross_entropy(z: &Tensor, q: &Tensor) -> Result<Tensor> {
    (log_softmax(z, D::Minus1)? * q)?.sum_all()?.neg()
}

/// [`soft_cross_entropy`] and its gradient with respect to `z`, without a graph.
///
/// # Errors
/// As [`soft_cross_entropy`].
pub(crate) fn soft_cross_entropy_gradient(z: &Tensor, q: &Tensor) -> Result<[Tensor; 2]> {
    let log_probabilities = log_softmax(z, D::Minus1)?;
    let loss = (&log_probabilities * q)?.sum_all()?.neg()?;
    let dz = log_probabilities.exp()?.broadcast_mul(&q.sum_keepdim(D::Minus1)?)?.sub(q)?;
    Ok([loss, dz])
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
        check_indices(y, v)?;
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, z: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.vocabulary(layout)?;
        let (loss, dz) = with_float!(z.dtype(), self.name(), F => {
            super::cuda::cross_entropy::<F>((z, layout), &self.y)?
        });
        self.dz.get_or_init(|| dz);
        Ok((loss, ().into()))
    }

    fn bwd(&self, _z: &Tensor, _loss: &Tensor, dloss: &Tensor) -> Result<Option<Tensor>> {
        let dz = self.gradient()?;
        if !dloss.device().is_cpu() {
            // Reading the value of dloss would synchronize with the device.
            return dz.broadcast_mul(dloss).map(Some);
        }
        match scalar(dloss)? {
            1. => Ok(Some(dz.clone())),
            scale => (dz * scale).map(Some),
        }
    }
}
