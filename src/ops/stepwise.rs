//! The recurrence as one matrix product and one more launch a step, in place: for networks whose
//! `waa` does not fit in the shared memory of a GPU. The CPU halves of the two ops are for the test
//! below only.

use super::{Float, slice, slice_mut};
use crate::kernels::Element;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};
#[cfg(feature = "cuda")]
use {super::with_float, candle_core::CudaStorage, candle_core::backend::BackendStorage};

/// Replaces `px` in `a`, (T * B, n), by the states: shapes as in [`super::recurrence`]. No graph.
///
/// # Errors
/// Where the shapes do not fit, or the device fails.
pub(super) fn forward(a: &Tensor, waa: &Tensor, a0: &Tensor) -> Result<()> {
    let (a, waa_t, batch) = (a.detach(), waa.detach().t()?, a0.dim(0)?);
    let mut previous = a0.detach();
    for first in (0..a.dim(0)?).step_by(batch) {
        let now = a.narrow(0, first, batch)?;
        now.inplace_op2(&previous.matmul(&waa_t)?, &AddTanh)?;
        previous = now;
    }
    Ok(())
}

/// Replaces the gradient of the states `a` in `d`, (T * B, n), by the gradient of `px`. Returns the
/// gradient of the initial states, (B, n). No graph.
///
/// # Errors
/// Where the shapes do not fit, or the device fails.
pub(super) fn backward(waa: &Tensor, a: &Tensor, d: &Tensor, batch: usize) -> Result<Tensor> {
    let (waa, a, d) = (waa.detach(), a.detach(), d.detach());
    let mut from_next = d.narrow(0, 0, batch)?.zeros_like()?;
    for first in (0..d.dim(0)?).step_by(batch).rev() {
        let now = d.narrow(0, first, batch)?;
        now.inplace_op3(&from_next, &a.narrow(0, first, batch)?, &AddTimesSlope)?;
        from_next = now.matmul(&waa)?;
    }
    Ok(from_next)
}

/// `a = tanh(a + h)`.
struct AddTanh;

impl AddTanh {
    fn run<F: Float>(a: &mut [F], h: &[F]) {
        for (a, h) in a.iter_mut().zip(h) {
            *a = Element::from_f64(Element::to_f64(*a + *h).tanh());
        }
    }
}

impl InplaceOp2 for AddTanh {
    fn name(&self) -> &'static str {
        "add-tanh"
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        a_layout: &Layout,
        h: &CpuStorage,
        h_layout: &Layout,
    ) -> Result<()> {
        match a {
            CpuStorage::F32(a) => Self::run(slice_mut(a, a_layout)?, slice(h, h_layout)?),
            CpuStorage::F64(a) => Self::run(slice_mut(a, a_layout)?, slice(h, h_layout)?),
            _ => bail!("{}: numbers must be F32 or F64", self.name()),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &mut CudaStorage,
        a_layout: &Layout,
        h: &CudaStorage,
        h_layout: &Layout,
    ) -> Result<()> {
        with_float!(a.dtype(), self.name(), F => {
            super::cuda::add_tanh::<F>(a, a_layout, (h, h_layout))
        })
    }
}

/// `d = (d + h) (1 - a^2)`.
struct AddTimesSlope;

impl AddTimesSlope {
    fn run<F: Float>(d: &mut [F], h: &[F], a: &[F]) {
        for ((d, &h), &a) in d.iter_mut().zip(h).zip(a) {
            *d = (*d + h) * (F::ONE - a * a);
        }
    }
}

impl InplaceOp3 for AddTimesSlope {
    fn name(&self) -> &'static str {
        "add-times-slope"
    }

    fn cpu_fwd(
        &self,
        d: &mut CpuStorage,
        d_layout: &Layout,
        h: &CpuStorage,
        h_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
    ) -> Result<()> {
        let (h, a) = ((h, h_layout), (a, a_layout));
        match d {
            CpuStorage::F32(d) => {
                Self::run(slice_mut(d, d_layout)?, slice(h.0, h.1)?, slice(a.0, a.1)?)
            }
            CpuStorage::F64(d) => {
                Self::run(slice_mut(d, d_layout)?, slice(h.0, h.1)?, slice(a.0, a.1)?)
            }
            _ => bail!("{}: numbers must be F32 or F64", self.name()),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        d: &mut CudaStorage,
        d_layout: &Layout,
        h: &CudaStorage,
        h_layout: &Layout,
        a: &CudaStorage,
        a_layout: &Layout,
    ) -> Result<()> {
        with_float!(d.dtype(), self.name(), F => {
            super::cuda::add_times_slope::<F>(d, d_layout, (h, h_layout), (a, a_layout))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{difference, noise};
    use super::super::{recurrence, recurrence_gradients};
    use super::*;
    use candle_core::{DType, Var};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stepwise_equals_the_fused_recurrence(
            steps in 1usize..6, batch in 1usize..5, n in 1usize..40, single: bool, seed: u64,
        ) {
            let (dtype, bound) = if single { (DType::F32, 1e-4) } else { (DType::F64, 1e-12) };
            let noise = |rows, deviation, part: u64| {
                noise((rows, n), deviation, seed.wrapping_add(part), dtype)
            };
            let waa = noise(n, 1. / (n as f64).sqrt(), 0);
            let (px, a0) = (noise(steps * batch, 0.5, 1), noise(batch, 0.5, 2));
            let a = px.copy().unwrap();
            forward(&a, &waa, &a0).unwrap();
            prop_assert!(difference(&a, &recurrence(&px, &waa, &a0).unwrap()) < bound);

            let d = noise(steps * batch, 1., 3);
            let a0 = Var::from_tensor(&a0).unwrap();
            let (dpx, _, da0) = recurrence_gradients(&waa, &a0, &a, &d).unwrap();
            let stepwise_da0 = backward(&waa, &a, &d, batch).unwrap();
            prop_assert!(difference(&d, &dpx) < bound);
            prop_assert!(difference(&stepwise_da0, &da0.unwrap()) < bound);
        }
    }
}
