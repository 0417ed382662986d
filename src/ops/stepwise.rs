//! The recurrence by a matrix product a step, in place: for networks that are too large for one
//! launch. Two launches a step, the product by cuBLAS and one kernel for the rest.

use crate::kernels::Element;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};
#[cfg(feature = "cuda")]
use {super::with_float, candle_core::CudaStorage, candle_core::backend::BackendStorage};

/// Makes of `a`, which holds `px`, all states: shapes as in [`super::recurrence`]. No graph.
///
/// # Errors
/// Where the shapes do not fit, or the device fails.
pub(super) fn forward(a: &Tensor, waa: &Tensor, a0: &Tensor) -> Result<()> {
    let (a, waa_t, batch) = (a.detach(), waa.detach().t()?, a0.dim(0)?);
    let mut before = a0.detach();
    for first in (0..a.dim(0)?).step_by(batch) {
        let now = a.narrow(0, first, batch)?;
        now.inplace_op2(&before.matmul(&waa_t)?, &AddTanh)?;
        before = now;
    }
    Ok(())
}

/// Makes of `d`, which holds the gradient of the states `a`, that of `px`. Returns that of the first
/// states, (batch, n). No graph.
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

/// The values of a contiguous part of a tensor, to change.
fn part<'a, F>(values: &'a mut [F], layout: &Layout) -> Result<&'a mut [F]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut values[start..end]),
        None => bail!("this op takes contiguous tensors"),
    }
}

/// Runs `$body` with `$F` as the float type and `$target` as the values of `$storage`.
macro_rules! on_cpu {
    ($storage:expr, $layout:expr, $F:ident, $target:ident => $body:expr) => {
        match $storage {
            CpuStorage::F32(values) => {
                type $F = f32;
                let $target = part(values, $layout)?;
                $body
            }
            CpuStorage::F64(values) => {
                type $F = f64;
                let $target = part(values, $layout)?;
                $body
            }
            _ => bail!("numbers must be F32 or F64"),
        }
    };
}

/// `a = tanh(a + h)`. On the CPU it serves the tests alone.
struct AddTanh;

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
        on_cpu!(a, a_layout, F, a => for (a, h) in a.iter_mut().zip(super::slice::<F>(h, h_layout)?) {
            *a = <F as Element>::from_f64(Element::to_f64(*a + *h).tanh());
        });
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

/// `d = (d + h) (1 - a^2)`. On the CPU it serves the tests alone.
struct AddTimesSlope;

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
        on_cpu!(d, d_layout, F, d => {
            let (h, a) = (super::slice::<F>(h, h_layout)?, super::slice::<F>(a, a_layout)?);
            for ((d, h), a) in d.iter_mut().zip(h).zip(a) {
                *d = (*d + *h) * (1. - a * a);
            }
        });
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
    use super::*;
    use crate::random::Randomness;
    use candle_core::{DType, Device};
    use proptest::prelude::*;

    fn noise(rows: usize, columns: usize, deviation: f64, seed: u64, dtype: DType) -> Tensor {
        let mut normals = Randomness::Seed(seed).normals();
        let values: Vec<f64> = (0..rows * columns).map(|_| normals() * deviation).collect();
        let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap();
        tensor.to_dtype(dtype).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        let largest = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        largest.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
    }

    proptest! {
        #[test]
        fn a_product_a_step_gives_what_the_fused_recurrence_gives(
            steps in 1usize..6, batch in 1usize..5, n in 1usize..40, single: bool, seed: u64,
        ) {
            let (dtype, bound) = if single { (DType::F32, 1e-4) } else { (DType::F64, 1e-12) };
            let noise = |rows, columns, deviation, part: u64| {
                noise(rows, columns, deviation, seed.wrapping_add(part), dtype)
            };
            let waa = noise(n, n, 1. / (n as f64).sqrt(), 0);
            let (px, a0) = (noise(steps * batch, n, 0.5, 1), noise(batch, n, 0.5, 2));
            let a = px.copy().unwrap();
            forward(&a, &waa, &a0).unwrap();
            prop_assert!(difference(&a, &crate::ops::recurrence(&px, &waa, &a0).unwrap()) < bound);

            let d = noise(steps * batch, n, 1., 3);
            let [dpx, _, da0] = crate::ops::recurrence_gradients(&waa, &a0, &a, &d).unwrap();
            let own = backward(&waa, &a, &d, batch).unwrap();
            prop_assert!(difference(&d, &dpx) < bound && difference(&own, &da0) < bound);
        }
    }
}
