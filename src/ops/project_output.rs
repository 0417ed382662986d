//! The output projection.

use super::{Float, gradient, primitive, slice, values, with_float};
use crate::kernels::projection as kernels;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// `z = wya a + by` for each row: `a` (R, n_a), `wya` (n_y, n_a) and `by` (n_y) to (R, n_y).
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
pub fn project_output(a: &Tensor, wya: &Tensor, by: &Tensor) -> Result<Tensor> {
    if !a.device().is_cpu() {
        return primitive::project_output(a, wya, by);
    }
    a.contiguous()?.apply_op3(&wya.contiguous()?, &by.contiguous()?, ProjectOutput)
}

fn forward<F: Float>(a: &[F], wya: &[F], by: &[F], n: usize) -> CpuStorage {
    let mut z = vec![F::ZERO; a.len() / n * by.len()];
    F::with_scratch(|scratch| kernels::project_output(a, wya, by, &mut z, n, scratch));
    F::to_cpu_storage_owned(z)
}

/// The gradients of `a`, `wya` and `by`.
fn backward<F: Float>(a: &[F], wya: &[F], dz: &[F], n: usize) -> [Vec<F>; 3] {
    let (mut da, mut dwya) = (vec![F::ZERO; a.len()], vec![F::ZERO; wya.len()]);
    let mut dby = vec![F::ZERO; wya.len() / n];
    F::with_scratch(|scratch| {
        kernels::project_output_backward(dz, wya, &mut da, n, scratch);
        kernels::output_weight_gradient(dz, a, &mut dwya, &mut dby, scratch);
    });
    [da, dwya, dby]
}

struct ProjectOutput;

impl CustomOp3 for ProjectOutput {
    fn name(&self) -> &'static str {
        "project-output"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        wya: &CpuStorage,
        wya_layout: &Layout,
        by: &CpuStorage,
        by_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let name = self.name();
        let (rows, n, v) = match (a_layout.dims(), wya_layout.dims(), by_layout.dims()) {
            (&[rows, n_1], &[v, n], &[v_1]) if n == n_1 && v == v_1 && n > 0 && v > 0 => {
                (rows, n, v)
            }
            (a, wya, by) => {
                bail!("{name}: a {a:?}, wya {wya:?}, by {by:?} are not (R, n), (v, n), (v)")
            }
        };
        let z = with_float!(a.dtype(), name, F => {
            forward::<F>(slice(a, a_layout)?, slice(wya, wya_layout)?, slice(by, by_layout)?, n)
        });
        Ok((z, (rows, v).into()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        wya: &Tensor,
        by: &Tensor,
        _z: &Tensor,
        dz: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, n) = a.dims2()?;
        let dz = dz.contiguous()?;
        with_float!(a.dtype(), self.name(), F => {
            values!(a_values: F = a);
            values!(wya_values: F = wya);
            values!(dz_values: F = dz);
            let [da, dwya, dby] = backward(a_values, wya_values, dz_values, n);
            Ok((gradient(a, da)?, gradient(wya, dwya)?, gradient(by, dby)?))
        })
    }
}
