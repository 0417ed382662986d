//! The product of a row and a matrix.
//!
//! Separate from [`Product`](super::matmul::Product) because the recurrence with one sequence is
//! thousands of small ones: by `Product` a training step with 50 or 100 hidden units takes 1.08 times
//! as long. Here only the panel's width is a branch, and all of it is inlined into the loop over
//! time, where the end of one panel (its `finish`) overlaps with the sums of the next.

use super::element::Element;
use super::matmul::{Strided, narrow};
use super::packing::{Columns, Packed};
use super::tile::Finish;
use pulp::Simd;

/// `c` (n) `+= a` (k) `b` (k, n), then `finish`. Cost: `2 k n` operations; B is read once.
#[inline(always)]
pub(super) fn matvec<F: Element, S: Simd>(
    simd: S,
    a: &[F],
    b: &Packed<F>,
    c: &mut [F],
    finish: impl Finish<F>,
) {
    let (lanes, k, n) = (F::lanes::<S>(), b.k, b.n);
    assert_eq!(a.len(), k, "a is not k");
    assert_eq!(c.len(), n, "c is not n");
    assert_eq!(b.lanes, lanes, "packed for another instruction set");
    if n < lanes {
        let a = Strided::rows(a, k);
        return narrow(simd, 1, k, n, a, b.data(), c, true, finish);
    }
    let columns = Columns::new(n, lanes, b.panel);
    let mut j = 0;
    while j < columns.vectors {
        let width = columns.width(j);
        let panel = &b.data()[j * lanes * k..][..width * lanes * k];
        let left = columns.offset(j);
        let last = columns.offset(j + width - 1);
        match width {
            1 => panel_sum::<F, S, 1, 8>(simd, a, panel, c, left, last, finish),
            2 => panel_sum::<F, S, 2, 4>(simd, a, panel, c, left, last, finish),
            3 => panel_sum::<F, S, 3, 3>(simd, a, panel, c, left, last, finish),
            _ => panel_sum::<F, S, 4, 2>(simd, a, panel, c, left, last, finish),
        }
        j += width;
    }
}

/// Rows whose sums are in registers side by side.
const ROWS: usize = 8;

/// `c` (n) `+= b` (n, k) `a` (k), then `finish`: a dot product along each row of B, which needs no
/// copy of it. Cost: `2 k n` operations; B is read once.
///
/// # Panics
///
/// When `n` is no multiple of eight, or `k` or `n` of the vector.
#[inline(always)]
pub(super) fn matvec_along_rows<F: Element, S: Simd>(
    simd: S,
    a: &[F],
    b: &[F],
    c: &mut [F],
    finish: impl Finish<F>,
) {
    let (lanes, k, n) = (F::lanes::<S>(), a.len(), c.len());
    assert!(k % lanes == 0 && n % lanes == 0 && n % ROWS == 0, "{k} x {n} has a remainder");
    assert_eq!(Some(b.len()), n.checked_mul(k), "b is not n x k");
    for (c, b) in c.chunks_exact_mut(ROWS).zip(b.chunks_exact(ROWS * k)) {
        let rows: [&[F]; ROWS] = std::array::from_fn(|i| &b[i * k..][..k]);
        let mut sums = [F::splat(simd, F::ZERO); ROWS];
        for at in (0..k).step_by(lanes) {
            let a = F::load(simd, &a[at..]);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = F::mul_add(simd, a, F::load(simd, &row[at..]), *sum);
            }
        }
        for (c, sum) in c.iter_mut().zip(sums) {
            *c += F::reduce_sum(simd, sum);
        }
    }
    for (j, c) in c.chunks_exact_mut(lanes).enumerate() {
        let sum = F::load(simd, c);
        let [v] = finish.finish(simd, [sum], [sum], [j * lanes], lanes);
        F::store(simd, c, v);
    }
}

/// One panel of [`matvec`], `WIDTH` vectors wide: into C from column `left`, the last vector into
/// column `last`. Step `i` of `k` is summed in set `i % SETS`, to hide the latency of the
/// multiply-add.
#[inline(always)]
fn panel_sum<F: Element, S: Simd, const WIDTH: usize, const SETS: usize>(
    simd: S,
    a: &[F],
    panel: &[F],
    c: &mut [F],
    left: usize,
    last: usize,
    finish: impl Finish<F>,
) {
    let lanes = F::lanes::<S>();
    let column = |j: usize| {
        if j + 1 == WIDTH { last } else { left + j * lanes }
    };
    let mut sums = [[F::splat(simd, F::ZERO); WIDTH]; SETS];
    for (j, sum) in sums[0].iter_mut().enumerate() {
        *sum = F::load(simd, &c[column(j)..]);
    }
    let (a_rows, b_rows) = (a.chunks_exact(SETS), panel.chunks_exact(SETS * WIDTH * lanes));
    let (a_rest, b_rest) = (a_rows.remainder(), b_rows.remainder());
    for (a, b) in a_rows.zip(b_rows) {
        for (s, sums) in sums.iter_mut().enumerate() {
            let x = F::splat(simd, a[s]);
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = F::mul_add(simd, x, F::load(simd, &b[(s * WIDTH + j) * lanes..]), *sum);
            }
        }
    }
    for (&x, b) in a_rest.iter().zip(b_rest.chunks_exact(WIDTH * lanes)) {
        let x = F::splat(simd, x);
        for (j, sum) in sums[0].iter_mut().enumerate() {
            *sum = F::mul_add(simd, x, F::load(simd, &b[j * lanes..]), *sum);
        }
    }
    let mut total = sums[0];
    for sums in &sums[1..] {
        for (total, &sum) in total.iter_mut().zip(sums) {
            *total = F::plus(simd, *total, sum);
        }
    }
    let mut at = [0; WIDTH];
    for (j, at) in at.iter_mut().enumerate() {
        *at = column(j);
    }
    for (at, v) in at.into_iter().zip(finish.finish(simd, total, total, at, lanes)) {
        F::store(simd, &mut c[at..], v);
    }
}
