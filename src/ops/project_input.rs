//! The input projection, a lookup.

use super::{Float, primitive, slice, values, with_float};
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

/// The gradients of `wax`, (n_a, v), and `b`, (n_a), from `dpx`, (R, n_a), the gradient of the
/// result of [`project_input`].
///
/// # Errors
/// As [`project_input`].
pub(super) fn project_input_gradients(x: &Tensor, dpx: &Tensor, v: usize) -> Result<[Tensor; 2]> {
    let (x, dpx) = (x.contiguous()?, dpx.contiguous()?);
    let (_, n) = dpx.dims2()?;
    with_float!(dpx.dtype(), "project-input", F => {
        values!(x: u32 = x);
        values!(dpx_values: F = dpx);
        let [dwax, db] = backward(x, dpx_values, n, v);
        Ok([Tensor::from_vec(dwax, (n, v), dpx.device())?, Tensor::from_vec(db, n, dpx.device())?])
    })
}

pub(super) fn forward<F: Float>(wax: &[F], b: &[F], x: &[u32]) -> Vec<F> {
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

/// (R, n, v), or an error where the shapes do not fit.
pub(super) fn sizes(x: &Tensor, wax: &Layout, b: &Layout) -> Result<(usize, usize, usize)> {
    match (x.dims(), wax.dims(), b.dims()) {
        (&[rows], &[n, v], &[n_b]) if n == n_b && n > 0 && v > 0 => Ok((rows, n, v)),
        (x, wax, b) => {
            bail!("project-input: x {x:?}, wax {wax:?}, b {b:?} are not (R), (n, v), (n)")
        }
    }
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
        let (rows, n, v) = sizes(&self.x, wax_layout, b_layout)?;
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
        let [dwax, db] = project_input_gradients(&self.x, dpx, wax.dim(1)?)?;
        Ok((wax.track_op().then_some(dwax), b.track_op().then_some(db)))
    }
}
