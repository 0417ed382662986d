//! Input and output projections.
//!
//! A one-hot input selects a column of `wax` (n, v). Columns are strided, so the kernels here take
//! the transpose `wax_t` (v, n), where a character is a row:
//! [`transpose`](super::transpose::transpose) `wax` once a sequence, and the gradient back.

use super::element::Element;
use super::product::{Matrix, Scratch, product};
use super::simd::{dispatch, starts, zip};
use super::threads::{for_rows, parts};
use crate::data::START;
use pulp::{Simd, WithSimd};

struct Gather<'a, F> {
    wax_t: &'a [F],
    b: &'a [F],
    x: &'a [u32],
    px: &'a mut [F],
}

impl<F: Element> WithSimd for Gather<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { wax_t, b, x, px } = self;
        let n = b.len();
        for (&x, row) in x.iter().zip(px.chunks_exact_mut(n)) {
            row.copy_from_slice(b);
            if x != START {
                let column = &wax_t[x as usize * n..][..n];
                zip!(simd, row, column, |b, w| F::plus(simd, b, w));
            }
        }
    }
}

/// `px[r] = wax_t[x[r]] + b`, and only `b` where `x[r]` is [`START`]. Shapes: `wax_t` (v, n), `b`
/// (n), `x` (R), `px` (R, n). Cost: `R n` additions.
///
/// # Panics
///
/// When an index is not below `v`.
pub(crate) fn project_input<F: Element>(wax_t: &[F], b: &[F], x: &[u32], px: &mut [F]) {
    assert_eq!(wax_t.len() % b.len(), 0, "wax_t is not (v, n)");
    assert_eq!(px.len(), x.len() * b.len(), "px is not (R, n)");
    check_indices(x, wax_t.len() / b.len(), "x");
    let parts = parts(x.len(), px.len());
    for_rows(px, x.len(), parts, |rows, px| dispatch(Gather { wax_t, b, x: &x[rows], px }));
}

struct Scatter<'a, F> {
    x: &'a [u32],
    dpx: &'a [F],
    dwax_t: &'a mut [F],
    n: usize,
}

impl<F: Element> WithSimd for Scatter<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, dpx, dwax_t, n } = self;
        dwax_t.fill(F::ZERO);
        for (&x, row) in x.iter().zip(dpx.chunks_exact(n)).filter(|(x, _)| **x != START) {
            let column = &mut dwax_t[x as usize * n..][..n];
            zip!(simd, column, row, |s, d| F::plus(simd, s, d));
        }
    }
}

/// A gradient of [`project_input`], `dwax_t[c] = sum of dpx[r] where x[r] = c`. The other, of `b`, is
/// [`sum_rows`] of `dpx`. Cost: `R n` additions.
///
/// # Panics
///
/// When an index is not below `v`.
pub(crate) fn project_input_backward<F: Element>(x: &[u32], dpx: &[F], dwax_t: &mut [F], n: usize) {
    assert_eq!(dwax_t.len() % n, 0, "dwax_t is not (v, n)");
    assert_eq!(dpx.len(), x.len() * n, "dpx is not (R, n)");
    check_indices(x, dwax_t.len() / n, "x");
    dispatch(Scatter { x, dpx, dwax_t, n });
}

/// Panics unless every index is below `v` or [`START`].
pub(super) fn check_indices(indices: &[u32], v: usize, name: &str) {
    if let Some(wrong) = indices.iter().find(|&&c| c != START && c as usize >= v) {
        panic!("{name} holds the index {wrong}, but the vocabulary has {v} characters");
    }
}

/// `z = a wya^T + by`. Shapes: `a` (R, n), `wya` (v, n), `by` (v), `z` (R, v). Cost: `2 R n v`
/// operations.
pub(crate) fn project_output<F: Element>(
    a: &[F],
    wya: &[F],
    by: &[F],
    z: &mut [F],
    n: usize,
    scratch: &mut Scratch<F>,
) {
    let (v, rows) = (by.len(), a.len() / n);
    assert_eq!(z.len(), rows * v, "z is not (R, v)");
    let (left, right) = (Matrix::rows(a, n), Matrix::transposed(wya, n));
    product([rows, n, v], left, right, z, scratch);
    dispatch(AddRow { row: by, to: z });
}

/// The gradient of the states, `da = dz wya`. Shapes as for [`project_output`]. Cost: `2 R n v`
/// operations.
pub(crate) fn project_output_backward<F: Element>(
    dz: &[F],
    wya: &[F],
    da: &mut [F],
    n: usize,
    scratch: &mut Scratch<F>,
) {
    let (v, rows) = (wya.len() / n, da.len() / n);
    assert_eq!(dz.len(), rows * v, "dz is not (R, v)");
    let (left, right) = (Matrix::rows(dz, v), Matrix::rows(wya, n));
    product([rows, v, n], left, right, da, scratch);
}

/// The gradients of the parameters, `dwya = dz^T a` and `dby = sum over rows of dz`. Cost: `2 R n v` operations.
pub(crate) fn output_weight_gradient<F: Element>(
    dz: &[F],
    a: &[F],
    dwya: &mut [F],
    dby: &mut [F],
    scratch: &mut Scratch<F>,
) {
    let v = dby.len();
    let (n, rows) = (dwya.len() / v, dz.len() / v);
    assert_eq!(a.len(), rows * n, "a is not (R, n)");
    let (left, right) = (Matrix::transposed(dz, v), Matrix::rows(a, n));
    product([v, rows, n], left, right, dwya, scratch);
    sum_rows(dz, dby);
}

struct AddRow<'a, F> {
    row: &'a [F],
    to: &'a mut [F],
}
impl<F: Element> WithSimd for AddRow<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for to in self.to.chunks_exact_mut(self.row.len()) {
            zip!(simd, to, self.row, |x, y| F::plus(simd, x, y));
        }
    }
}

/// `sum[j] = sum over i of x[i, j]`.
pub(crate) fn sum_rows<F: Element>(x: &[F], sum: &mut [F]) {
    dispatch(SumRows { x, sum });
}

struct SumRows<'a, F> {
    x: &'a [F],
    sum: &'a mut [F],
}

impl<F: Element> WithSimd for SumRows<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, sum } = self;
        let (n, lanes) = (sum.len(), F::lanes::<S>());
        if n < lanes {
            sum.fill(F::ZERO);
            for row in x.chunks_exact(n) {
                sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
            }
            return;
        }
        for at in starts(n, lanes) {
            let rows = x.chunks_exact(n).map(|row| F::load(simd, &row[at..]));
            let total = rows.fold(F::splat(simd, F::ZERO), |s, x| F::plus(simd, s, x));
            F::store(simd, &mut sum[at..], total);
        }
    }
}
