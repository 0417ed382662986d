//! The input projection, a lookup.

use super::{Float, gradient, primitive, slice, values, with_float};
use crate::data::{START, check_indices};
use crate::kernels::projection as kernels;
use crate::kernels::transpose::transpose;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};

/// `px = wax x + b` for each row: `x` (R) of `U32`, `wax` (n_a, n_x) and `b` (n_a) to (R, n_a). The
/// rows of the input are one-hot vectors given by their index; [`START`] is the zero
/// vector.
///
/// # Errors
/// Where the shapes do not fit, an index is outside (0 .. n_x), or the type is not `F32` or
/// `F64`.
pub fn project_input(x: &Tensor, wax: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !wax.device().is_cpu() {
        return primitive::project_input(x, wax, b);
    }
    let op = ProjectInput { x: x.contiguous()? };
    wax.contiguous()?.apply_op2(&b.contiguous()?, op)
}

fn forward<F: Float>(wax: &[F], b: &[F], x: &[u32]) -> Vec<F> {
    let (n, v) = (b.len(), wax.len() / b.len());
    let mut wax_t = vec![F::ZERO; wax.len()];
    transpose(wax, n, v, &mut wax_t);
    let mut px = vec![F::ZERO; x.len() * n];
    kernels::project_input(&wax_t, b, x, &mut px);
    px
}

fn backward<F: Float>(x: &[u32], dpx: &[F], n: usize, v: usize) -> [Vec<F>; 2] {
    let (mut dwax_t, mut dwax) = (vec![F::ZERO; n * v], vec![F::ZERO; n * v]);
    let mut db = vec![F::ZERO; n];
    kernels::project_input_backward(x, dpx, &mut dwax_t, n);
    kernels::sum_rows(dpx, &mut db);
    transpose(&dwax_t, v, n, &mut dwax);
    [dwax, db]
}

struct ProjectInput {
    x: Tensor,
}

impl CustomOp2 for ProjectInput {
    fn name(&self) -> &'static str {
        "project-input"
    }

    fn cpu_fwd(
        &self,
        wax: &CpuStorage,
        wax_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, n, v) = match (self.x.dims(), wax_layout.dims(), b_layout.dims()) {
            (&[rows], &[n, v], &[n_b]) if n == n_b && n > 0 && v > 0 => (rows, n, v),
            (x, wax, b) => {
                bail!("project-input: x {x:?}, wax {wax:?}, b {b:?} are not (R), (n, v), (n)")
            }
        };
        values!(x: u32 = self.x);
        check_indices(x.iter().filter(|&&x| x != START), v)?;
        let px = with_float!(wax.dtype(), self.name(), F => {
            F::to_cpu_storage_owned(forward::<F>(slice(wax, wax_layout)?, slice(b, b_layout)?, x))
        });
        Ok((px, (rows, n).into()))
    }

    fn bwd(
        &self,
        wax: &Tensor,
        b: &Tensor,
        _px: &Tensor,
        dpx: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dpx = dpx.contiguous()?;
        let (n, v) = wax.dims2()?;
        with_float!(dpx.dtype(), self.name(), F => {
            values!(x: u32 = self.x);
            values!(dpx_values: F = dpx);
            let [dwax, db] = backward(x, dpx_values, n, v);
            Ok((gradient(wax, dwax)?, gradient(b, db)?))
        })
    }
}
