//! Input and output projections.
//!
//! A one-hot input picks a column of `wax` (n, v). Columns are strided, so the kernels here work on
//! its transpose `wax_t` (v, n), where a character is a row:
//! [`transpose`](super::transpose::transpose) it once a sequence, and the gradient back.

use super::NONE;
use super::matmul::{Packed, Strided, matmul, matmul_packed};
use super::simd::{Element, dispatch, zip, zip_into};
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
        let n = self.b.len();
        for (&x, row) in self.x.iter().zip(self.px.chunks_exact_mut(n)) {
            if x == NONE {
                row.copy_from_slice(self.b);
            } else {
                let column = &self.wax_t[x as usize * n..][..n];
                zip_into(
                    simd,
                    row,
                    column,
                    self.b,
                    #[inline(always)]
                    |w, b| F::plus(simd, w, b),
                );
            }
        }
    }
}

/// `px[r] = wax_t[x[r]] + b`, and only `b` where `x[r]` is [`NONE`]. Shapes: `wax_t` (v, n), `b`
/// (n), `x` (R), `px` (R, n). Cost: `R n` additions.
///
/// # Panics
///
/// When an index is not below `v`, or a length is wrong.
pub fn project_input<F: Element>(wax_t: &[F], b: &[F], x: &[u32], px: &mut [F]) {
    assert_eq!(wax_t.len() % b.len(), 0, "wax_t is not (v, n)");
    assert_eq!(px.len(), x.len() * b.len(), "px is not (R, n)");
    check_indices(x, wax_t.len() / b.len(), "x");
    dispatch(Gather { wax_t, b, x, px });
}

struct Scatter<'a, F> {
    x: &'a [u32],
    dpx: &'a [F],
    dwax_t: &'a mut [F],
    db: &'a mut [F],
}

impl<F: Element> WithSimd for Scatter<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let n = self.db.len();
        self.dwax_t.fill(F::ZERO);
        self.db.fill(F::ZERO);
        for (&x, row) in self.x.iter().zip(self.dpx.chunks_exact(n)) {
            zip(
                simd,
                self.db,
                row,
                #[inline(always)]
                |s, d| F::plus(simd, s, d),
            );
            if x != NONE {
                let column = &mut self.dwax_t[x as usize * n..][..n];
                zip(
                    simd,
                    column,
                    row,
                    #[inline(always)]
                    |s, d| F::plus(simd, s, d),
                );
            }
        }
    }
}

/// The gradients behind [`project_input`]: `dwax_t[c] = sum of dpx[r] where x[r] = c`,
/// `db = sum of all dpx[r]`. Cost: `2 R n` additions.
///
/// # Panics
///
/// When an index is not below `v`, or a length is wrong.
pub fn project_input_backward<F: Element>(x: &[u32], dpx: &[F], dwax_t: &mut [F], db: &mut [F]) {
    assert_eq!(dwax_t.len() % db.len(), 0, "dwax_t is not (v, n)");
    assert_eq!(dpx.len(), x.len() * db.len(), "dpx is not (R, n)");
    check_indices(x, dwax_t.len() / db.len(), "x");
    dispatch(Scatter { x, dpx, dwax_t, db });
}

/// Panics unless every index is below `v` or [`NONE`].
pub(crate) fn check_indices(indices: &[u32], v: usize, name: &str) {
    if let Some(wrong) = indices.iter().find(|&&c| c != NONE && c as usize >= v) {
        panic!("{name} holds the index {wrong}, but the vocabulary has {v} characters");
    }
}

/// `z = a wya^T + by`. Shapes: `a` (R, n), `wya` (v, n), `by` (v), `z` (R, v). Cost: `2 R n v`
/// operations. `scratch` holds `wya^T`.
///
/// # Panics
///
/// When a length is wrong.
pub fn project_output<F: Element>(
    a: &[F],
    wya: &[F],
    by: &[F],
    z: &mut [F],
    n: usize,
    scratch: &mut Packed<F>,
) {
    let (v, rows) = (by.len(), a.len() / n);
    assert_eq!(z.len(), rows * v, "z is not (R, v)");
    for row in z.chunks_exact_mut(v) {
        row.copy_from_slice(by);
    }
    scratch.pack_transposed(wya, n, v, rows);
    matmul_packed(rows, Strided::rows(a, n), scratch, z, true);
}

/// The gradients behind [`project_output`]: `da = dz wya`, `dwya = dz^T a`,
/// `dby = sum over rows of dz`. Cost: `4 R n v` operations.
///
/// # Panics
///
/// When a length is wrong.
#[allow(clippy::too_many_arguments)]
pub fn project_output_backward<F: Element>(
    dz: &[F],
    a: &[F],
    wya: &[F],
    da: &mut [F],
    dwya: &mut [F],
    dby: &mut [F],
    n: usize,
    scratch: &mut Packed<F>,
) {
    let (v, rows) = (dby.len(), a.len() / n);
    assert_eq!(dz.len(), rows * v, "dz is not (R, v)");
    matmul(rows, v, n, Strided::rows(dz, v), wya, da, false, scratch);
    matmul(v, rows, n, Strided::transposed(dz, v), a, dwya, false, scratch);
    dispatch(SumRows(dz, dby));
}

struct SumRows<'a, F>(&'a [F], &'a mut [F]);
impl<F: Element> WithSimd for SumRows<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(x, sum) = self;
        sum.fill(F::ZERO);
        for row in x.chunks_exact(sum.len()) {
            zip(
                simd,
                sum,
                row,
                #[inline(always)]
                |s, x| F::plus(simd, s, x),
            );
        }
    }
}

/// `sum[j] = sum over i of x[i, j]`. Shapes: `x` (R, n), `sum` (n). Cost: `R n` additions.
pub fn sum_rows<F: Element>(x: &[F], sum: &mut [F]) {
    assert_eq!(x.len() % sum.len(), 0, "x is not a whole number of rows");
    dispatch(SumRows(x, sum));
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use super::*;

    /// Some indices below `v`, every fifth none.
    fn indices(count: usize, v: usize) -> Vec<u32> {
        (0..count).map(|i| if i % 5 == 0 { NONE } else { ((i * 7919) % v) as u32 }).collect()
    }

    fn check<F: Element>(rows: usize, n: usize, v: usize) {
        let bound = tolerance::<F>();
        let x = indices(rows, v);
        let (wax_t, b, dpx) = (noise::<F>(v * n, 1), noise::<F>(n, 2), noise::<F>(rows * n, 3));
        let mut px = vec![F::ZERO; rows * n];
        project_input(&wax_t, &b, &x, &mut px);
        let (mut dwax_t, mut db) = (vec![F::ONE; v * n], vec![F::ONE; n]);
        project_input_backward(&x, &dpx, &mut dwax_t, &mut db);
        let (mut dwax_want, mut db_want) = (vec![F::ZERO; v * n], vec![F::ZERO; n]);
        for r in 0..rows {
            for j in 0..n {
                let c = x[r] as usize;
                let w = if x[r] == NONE { F::ZERO } else { wax_t[c * n + j] };
                assert_eq!(px[r * n + j], b[j] + w);
                db_want[j] += dpx[r * n + j];
                if x[r] != NONE {
                    dwax_want[c * n + j] += dpx[r * n + j];
                }
            }
        }
        assert_close("dwax", &dwax_t, &dwax_want, bound);
        assert_close("db", &db, &db_want, bound);

        let (a, wya, by) = (noise::<F>(rows * n, 4), noise::<F>(v * n, 5), noise::<F>(v, 6));
        let dz = noise::<F>(rows * v, 7);
        let mut z = vec![F::ZERO; rows * v];
        let mut scratch = Packed::new();
        project_output(&a, &wya, &by, &mut z, n, &mut scratch);
        let (mut da, mut dwya, mut dby) =
            (vec![F::ONE; rows * n], vec![F::ONE; v * n], vec![F::ONE; v]);
        project_output_backward(&dz, &a, &wya, &mut da, &mut dwya, &mut dby, n, &mut scratch);
        let mut z_want = vec![0.0; rows * v];
        let (mut da_want, mut dwya_want, mut dby_want) =
            (vec![0.0; rows * n], vec![0.0; v * n], vec![0.0; v]);
        for r in 0..rows {
            for c in 0..v {
                let d = dz[r * v + c].to_f64();
                z_want[r * v + c] = by[c].to_f64();
                dby_want[c] += d;
                for j in 0..n {
                    z_want[r * v + c] += a[r * n + j].to_f64() * wya[c * n + j].to_f64();
                    da_want[r * n + j] += d * wya[c * n + j].to_f64();
                    dwya_want[c * n + j] += d * a[r * n + j].to_f64();
                }
            }
        }
        let g = |x: &[f64]| x.iter().map(|&x| F::from_f64(x)).collect::<Vec<F>>();
        assert_close("z", &z, &g(&z_want), bound);
        assert_close("da", &da, &g(&da_want), bound);
        assert_close("dwya", &dwya, &g(&dwya_want), bound);
        assert_close("dby", &dby, &g(&dby_want), bound);
    }

    #[test]
    fn projections_and_their_gradients_equal_the_equations() {
        let shapes: &[(usize, usize, usize)] = if cfg!(miri) {
            &[(3, 9, 5)]
        } else {
            &[(1, 1, 2), (13, 50, 27), (5, 7, 1000), (64, 257, 27), (3, 8, 8), (17, 3, 30)]
        };
        for &(rows, n, v) in shapes {
            on_every_path(|| check::<f32>(rows, n, v));
            on_every_path(|| check::<f64>(rows, n, v));
        }
    }

    #[test]
    #[should_panic(expected = "x holds the index 3, but the vocabulary has 3 characters")]
    fn an_index_outside_the_vocabulary_panics() {
        project_input(&[0f32; 6], &[0.0; 2], &[0, 3], &mut [0.0; 4]);
    }
}
