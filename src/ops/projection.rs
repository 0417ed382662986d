//! The projections before and after the recurrence, a node each.

use super::{Float, check_indices, gradient_of, has_kernels, primitive, slice, values, with_float};
use crate::kernels::projection as kernels;
use crate::kernels::transpose::transpose;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// `px = wax x + b` where each row of x is one-hot or zero and given by its index: `x` (R) of
/// `U32`, `wax` (n_a, n_x), `b` (n_a) to (R, n_a). The index [`crate::kernels::NONE`] is the zero
/// vector.
///
/// # Errors
/// Where the shapes do not fit, an index is outside (0 .. n_x), or the type is not `F32` or
/// `F64`.
pub fn project_input(x: &Tensor, wax: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !has_kernels(wax.device()) {
        return primitive::project_input(x, wax, b);
    }
    let op = ProjectInput { x: x.contiguous()? };
    wax.contiguous()?.apply_op2(&b.contiguous()?, op)
}

/// The gradients of `wax`, (n, v), and `b` from `dpx`, that of what [`project_input`] gave.
///
/// # Errors
/// As [`project_input`].
pub(crate) fn project_input_gradients(x: &Tensor, dpx: &Tensor, v: usize) -> Result<[Tensor; 2]> {
    let (x, dpx) = (x.contiguous()?, dpx.contiguous()?);
    let (_, n) = dpx.dims2()?;
    with_float!(dpx.dtype(), "project-input", F => {
        #[cfg(feature = "cuda")]
        if dpx.device().is_cuda() {
            return super::cuda::project_input_gradients::<F>(&x, &dpx, v);
        }
        values!(x: u32 = x);
        values!(dpx_values: F = dpx);
        let [dwax, db] = ProjectInput::backward(x, dpx_values, n, v);
        Ok([Tensor::from_vec(dwax, (n, v), dpx.device())?, Tensor::from_vec(db, n, dpx.device())?])
    })
}

struct ProjectInput {
    x: Tensor,
}

impl ProjectInput {
    fn forward<F: Float>(wax: &[F], b: &[F], x: &[u32]) -> CpuStorage {
        let (n, v) = (b.len(), wax.len() / b.len());
        let mut wax_t = vec![F::ZERO; wax.len()];
        transpose(wax, n, v, &mut wax_t);
        let mut px = vec![F::ZERO; x.len() * n];
        kernels::project_input(&wax_t, b, x, &mut px);
        F::to_cpu_storage_owned(px)
    }

    /// The gradients of `wax` and `b` from `dpx`, that of the result.
    fn backward<F: Float>(x: &[u32], dpx: &[F], n: usize, v: usize) -> [Vec<F>; 2] {
        let (mut dwax_t, mut dwax) = (vec![F::ZERO; n * v], vec![F::ZERO; n * v]);
        let mut db = vec![F::ZERO; n];
        kernels::project_input_backward(x, dpx, &mut dwax_t, &mut db);
        transpose(&dwax_t, v, n, &mut dwax);
        [dwax, db]
    }
}

impl ProjectInput {
    /// (R, n, v) of arguments whose shapes fit.
    fn sizes(&self, wax: &Layout, b: &Layout) -> Result<(usize, usize, usize)> {
        match (self.x.dims(), wax.dims(), b.dims()) {
            (&[rows], &[n, v], &[n_b]) if n == n_b && n > 0 && v > 0 => Ok((rows, n, v)),
            (x, wax, b) => {
                bail!("{}: x {x:?}, wax {wax:?}, b {b:?} are not (R), (n, v), (n)", self.name())
            }
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
        let (rows, n, v) = self.sizes(wax_layout, b_layout)?;
        values!(x: u32 = self.x);
        check_indices(x, v)?;
        let px = with_float!(wax.dtype(), self.name(), F => Self::forward::<F>(
            slice(wax, wax_layout)?,
            slice(b, b_layout)?,
            x,
        ));
        Ok((px, (rows, n).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        wax: &CudaStorage,
        wax_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, n, _) = self.sizes(wax_layout, b_layout)?;
        let px = with_float!(wax.dtype(), self.name(), F => {
            super::cuda::project_input::<F>(&self.x, (wax, wax_layout), (b, b_layout))?
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
        #[cfg(feature = "cuda")]
        if wax.device().is_cuda() {
            let [dwax, db] = project_input_gradients(&self.x, dpx, wax.dim(1)?)?;
            return Ok((Some(dwax), Some(db)));
        }
        let (n, v) = wax.dims2()?;
        let dpx = dpx.contiguous()?;
        with_float!(wax.dtype(), self.name(), F => {
            values!(x: u32 = self.x);
            values!(dpx_values: F = dpx);
            let [dwax, db] = Self::backward(x, dpx_values, n, v);
            Ok((gradient_of(wax, dwax)?, gradient_of(b, db)?))
        })
    }
}

/// `z = wya a + by` for each row: `a` (R, n_a), `wya` (n_y, n_a), `by` (n_y) to (R, n_y).
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
pub fn project_output(a: &Tensor, wya: &Tensor, by: &Tensor) -> Result<Tensor> {
    if !a.device().is_cpu() {
        // Two launches, one of them a matrix product of cuBLAS: nothing is left to fuse.
        return primitive::project_output(a, wya, by);
    }
    a.contiguous()?.apply_op3(&wya.contiguous()?, &by.contiguous()?, ProjectOutput)
}

struct ProjectOutput;

impl ProjectOutput {
    fn forward<F: Float>(a: &[F], wya: &[F], by: &[F], n: usize) -> CpuStorage {
        let mut z = vec![F::ZERO; a.len() / n * by.len()];
        F::with_scratch(|packed| kernels::project_output(a, wya, by, &mut z, n, packed));
        F::to_cpu_storage_owned(z)
    }

    /// The gradients of `a`, `wya` and `by` from `dz`, that of the result.
    fn backward<F: Float>(a: &[F], wya: &[F], dz: &[F], n: usize) -> [Vec<F>; 3] {
        let (mut da, mut dwya) = (vec![F::ZERO; a.len()], vec![F::ZERO; wya.len()]);
        let mut dby = vec![F::ZERO; wya.len() / n];
        F::with_scratch(|packed| {
            kernels::project_output_backward(dz, a, wya, &mut da, &mut dwya, &mut dby, n, packed);
        });
        [da, dwya, dby]
    }
}

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
        let (rows, n, v) = match (a_layout.dims(), wya_layout.dims(), by_layout.dims()) {
            (&[rows, n_1], &[v, n], &[v_1]) if n == n_1 && v == v_1 && n > 0 && v > 0 => {
                (rows, n, v)
            }
            (a, wya, by) => {
                bail!(
                    "{}: a {a:?}, wya {wya:?}, by {by:?} are not (R, n), (v, n), (v)",
                    self.name()
                )
            }
        };
        let z = with_float!(a.dtype(), self.name(), F => Self::forward::<F>(
            slice(a, a_layout)?,
            slice(wya, wya_layout)?,
            slice(by, by_layout)?,
            n,
        ));
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
            let [da, dwya, dby] = Self::backward(a_values, wya_values, dz_values, n);
            Ok((gradient_of(a, da)?, gradient_of(wya, dwya)?, gradient_of(by, dby)?))
        })
    }
}
