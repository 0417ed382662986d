//! The matrix product: `C (m, n) = A (m, k) B (k, n)`, or `+=`.
//!
//! C is computed panel by panel, each as wide as a [`Tile`]. A may have any strides, so that a
//! transposed left side costs nothing; rows of B and C are contiguous. `k` is divided into blocks
//! of 256, so that a panel's block (16 KiB) stays in the first-level cache for all rows of A.

use super::element::Element;
use super::packing::{Columns, MIN_PACKED, panel_for};
use super::simd::dispatch;
use super::threads::{MIN_ROWS, for_rows, parts};
use super::tile::{AsIs, Finish, Tile};
use pulp::{Simd, WithSimd};

pub(crate) use super::packing::Packed;

/// Steps of `k` in a block.
const BLOCK: usize = 256;

/// A matrix with element `(i, j)` at `data[i * row + j * column]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strided<'a, F> {
    pub data: &'a [F],
    pub row: usize,
    pub column: usize,
}

impl<'a, F> Strided<'a, F> {
    /// A row-major matrix with `columns` columns.
    pub fn rows(data: &'a [F], columns: usize) -> Self {
        Self { data, row: columns, column: 1 }
    }

    /// The transpose of a row-major matrix that has `columns` columns.
    pub fn transposed(data: &'a [F], columns: usize) -> Self {
        Self { data, row: 1, column: columns }
    }
}

/// `c` (m, n) `= finish(a` (m, k) `b` (k, n)`)`. Cost: `2 m n k` operations.
///
/// `scratch` holds a packed copy of `b` where that pays.
#[allow(clippy::too_many_arguments)]
pub(super) fn matmul<F: Element>(
    m: usize,
    k: usize,
    n: usize,
    a: Strided<F>,
    b: &[F],
    c: &mut [F],
    scratch: &mut Packed<F>,
    finish: impl Finish<F>,
) {
    assert_eq!(Some(b.len()), k.checked_mul(n), "b is not k x n");
    let b = if m >= 12 && k * n >= MIN_PACKED {
        scratch.pack(b, k, n, m);
        Right::Packed(scratch)
    } else {
        Right::Rows { data: b, k, n }
    };
    product(m, a, b, c, false, finish);
}

/// `c` (m, n) `+= a` (m, k) `b` (k, n). Cost: `2 m n k` operations.
pub(super) fn add_matmul<F: Element>(m: usize, a: Strided<F>, b: &Packed<F>, c: &mut [F]) {
    product(m, a, Right::Packed(b), c, true, AsIs);
}

/// A [`Product`], its rows divided among threads. `finish` sees the rows of its part alone.
fn product<F: Element>(
    m: usize,
    a: Strided<F>,
    b: Right<F>,
    c: &mut [F],
    accumulate: bool,
    finish: impl Finish<F>,
) {
    let (Right::Rows { k, n, .. } | Right::Packed(&Packed { k, n, .. })) = b;
    let operations = m.saturating_mul(n).saturating_mul(2 * k);
    for_rows(c, m, parts(m / MIN_ROWS, operations), |rows, c| {
        let a = Strided { data: &a.data[rows.start * a.row..], ..a };
        dispatch(Product { m: rows.len(), a, b, c, accumulate, finish });
    });
}

/// The right side of a [`Product`], (k, n).
#[derive(Clone, Copy)]
pub(super) enum Right<'a, F> {
    Rows { data: &'a [F], k: usize, n: usize },
    Packed(&'a Packed<F>),
}

/// The product, for use inside another kernel: `simd.vectorize(Product { .. })`.
pub(super) struct Product<'a, F, E> {
    pub m: usize,
    pub a: Strided<'a, F>,
    pub b: Right<'a, F>,
    pub c: &'a mut [F],
    pub accumulate: bool,
    pub finish: E,
}

impl<F: Element, E: Finish<F>> WithSimd for Product<'_, F, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { m, a, b, c, accumulate, finish } = self;
        let lanes = F::lanes::<S>();
        let (data, k, n, panel, packed) = match b {
            Right::Rows { data, k, n } => (data, k, n, panel_for(m), false),
            Right::Packed(b) => (b.data(), b.k, b.n, b.panel, true),
        };
        assert_eq!(Some(c.len()), m.checked_mul(n), "c is not m x n");
        if m == 0 || n == 0 {
            return;
        }
        if let Right::Packed(b) = b {
            assert_eq!(b.lanes, lanes, "packed for another instruction set");
        }
        let last = |i: usize, l: usize| i.checked_mul(a.row)?.checked_add(l.checked_mul(a.column)?);
        assert!(
            k == 0 || last(m - 1, k - 1).is_some_and(|last| last < a.data.len()),
            "a is smaller than m x k"
        );
        if n < lanes || k == 0 {
            return narrow(simd, m, k, n, a, data, c, accumulate, finish);
        }
        let columns = Columns::new(n, lanes, panel);
        let needed = k.checked_mul(if packed { columns.vectors * lanes } else { n });
        assert!(needed.is_some_and(|needed| needed <= data.len()), "b is smaller than k x n");

        // An update needs C as it was, where sums of several blocks would be.
        assert!(!E::UPDATES || (!accumulate && k <= BLOCK), "an update takes one block");
        for k0 in (0..k).step_by(BLOCK) {
            let depth = BLOCK.min(k - k0);
            let mut j = 0;
            while j < columns.vectors {
                let width = columns.width(j);
                let left = columns.offset(j);
                let last = columns.offset(j + width - 1) - left;
                let (b_start, b_row, b_last) = if packed {
                    let b_row = width * lanes;
                    (j * lanes * k + k0 * b_row, b_row, (width - 1) * lanes)
                } else {
                    (k0 * n + left, n, last)
                };
                // SAFETY: the offsets below point at element (0, k0) of A, row k0 and column `left`
                // of B, and (0, left) of C. The tiles read m rows and `depth` columns of A: at most
                // element (m-1, k-1), inside by the assertion above. They read `depth` rows of B,
                // `width` vectors each, of which the last begins at `b_last`: up to column n (or
                // the panel's end), inside `needed`. Of C they read and write m rows up to column
                // `left + last + lanes <= n`, inside m * n.
                unsafe {
                    let tile = Tile {
                        a: a.data.as_ptr().add(k0 * a.column),
                        a_row: a.row,
                        a_column: a.column,
                        b: data.as_ptr().add(b_start),
                        b_row,
                        b_last,
                        c: c.as_mut_ptr().add(left),
                        c_row: n,
                        c_last: last,
                        c_start: left,
                        depth,
                        accumulate: accumulate || k0 > 0,
                    };
                    if k0 + depth == k {
                        tile.run_all(simd, m, width, finish);
                    } else {
                        tile.run_all(simd, m, width, AsIs);
                    }
                }
                j += width;
            }
        }
    }
}

/// The product for rows shorter than one vector, and for `k = 0`. B is row-major.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn narrow<F: Element, S: Simd, E: Finish<F>>(
    simd: S,
    m: usize,
    k: usize,
    n: usize,
    a: Strided<F>,
    b: &[F],
    c: &mut [F],
    accumulate: bool,
    finish: E,
) {
    for i in 0..m {
        let lanes = F::lanes::<S>();
        // For k = 0 a row may be longer than one vector.
        for (j, part) in c[i * n..][..n].chunks_mut(lanes).enumerate() {
            let before = F::load_partial(simd, part);
            if !accumulate {
                part.fill(F::ZERO);
            }
            for l in 0..k {
                let x = a.data[i * a.row + l * a.column];
                for (c, &b) in part.iter_mut().zip(&b[l * n..][..n]) {
                    *c += x * b;
                }
            }
            let sums = F::load_partial(simd, part);
            let [v] = finish.finish(simd, [sums], [before], [i * n + j * lanes], part.len());
            F::store_partial(simd, part, v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use super::super::threads::tests::in_parts;
    use super::super::transpose::transpose;
    use super::*;

    /// The definition.
    fn naive<F: Element>(
        m: usize,
        k: usize,
        n: usize,
        a: Strided<F>,
        b: &[F],
        c: &mut [F],
        accumulate: bool,
    ) {
        for i in 0..m {
            for j in 0..n {
                let mut sum = 0.0;
                for l in 0..k {
                    sum += a.data[i * a.row + l * a.column].to_f64() * b[l * n + j].to_f64();
                }
                let before = if accumulate { c[i * n + j].to_f64() } else { 0.0 };
                c[i * n + j] = F::from_f64(before + sum);
            }
        }
    }

    fn check<F: Element>(m: usize, k: usize, n: usize) {
        let left = noise::<F>(m * k, 1);
        let b = noise::<F>(k * n, 2);
        let mut b_transposed = vec![F::ZERO; k * n];
        transpose(&b, k, n, &mut b_transposed);
        let c0 = noise::<F>(m * n, 3);
        let mut packed = [Packed::new(), Packed::new()];
        packed[0].pack(&b, k, n, m);
        packed[1].pack_transposed(&b_transposed, k, n, m);
        for a in [Strided::rows(&left, k), Strided::transposed(&left, m)] {
            for accumulate in [false, true] {
                let mut want = c0.clone();
                naive(m, k, n, a, &b, &mut want, accumulate);
                let bound = tolerance::<F>();
                // Guard regions: nothing beside C may be written.
                let guarded = |product: &mut dyn FnMut(&mut [F])| {
                    let mut memory = vec![F::from_f64(77.0); m * n + 64];
                    memory[32..][..m * n].copy_from_slice(&c0);
                    product(&mut memory[32..][..m * n]);
                    assert_close("c", &memory[32..][..m * n], &want, bound);
                    assert!(memory[..32].iter().all(|&x| x == F::from_f64(77.0)));
                    assert!(memory[32 + m * n..].iter().all(|&x| x == F::from_f64(77.0)));
                };
                let mut rights = vec![Right::Rows { data: &b, k, n }];
                rights.extend(packed.iter().map(Right::Packed));
                for b in rights {
                    guarded(&mut |c| {
                        dispatch(Product { m, a, b, c, accumulate, finish: AsIs });
                    });
                }
                match accumulate {
                    false => guarded(&mut |c| matmul(m, k, n, a, &b, c, &mut Packed::new(), AsIs)),
                    true => guarded(&mut |c| add_matmul(m, a, &packed[0], c)),
                }
            }
        }
    }

    fn check_all<F: Element>() {
        let sizes: &[usize] =
            if cfg!(miri) { &[1, 3, 9] } else { &[1, 2, 3, 5, 7, 8, 9, 13, 17, 27, 50] };
        for &m in sizes {
            for &n in sizes {
                for k in [1, 4, 13] {
                    check::<F>(m, k, n);
                }
            }
        }
        if !cfg!(miri) {
            for (m, k, n) in
                [(1, 257, 257), (13, 300, 70), (50, 600, 127), (3, 0, 5), (4, 5, 0), (0, 4, 4)]
            {
                check::<F>(m, k, n);
            }
        }
    }

    #[test]
    fn products_of_every_shape_equal_the_definition() {
        on_every_path(|| in_parts(check_all::<f32>));
        on_every_path(|| in_parts(check_all::<f64>));
    }

    #[test]
    fn a_nan_on_either_side_reaches_the_result() {
        let mut a = noise::<f32>(9 * 9, 1);
        let mut b = noise::<f32>(9 * 9, 2);
        a[3 * 9 + 2] = f32::NAN;
        b[4 * 9 + 5] = f32::NAN;
        let mut c = vec![0.0; 81];
        matmul(9, 9, 9, Strided::rows(&a, 9), &b, &mut c, &mut Packed::new(), AsIs);
        for (at, x) in c.iter().enumerate() {
            assert_eq!(x.is_nan(), at / 9 == 3 || at % 9 == 5, "{at}");
        }
    }

    #[test]
    #[should_panic(expected = "a is smaller than m x k")]
    fn strides_whose_product_overflows_panic() {
        let a = Strided { data: &[0f32; 64], row: usize::MAX, column: 1 };
        matmul(2, 8, 8, a, &[0.0; 64], &mut [0.0; 16], &mut Packed::new(), AsIs);
    }

    #[test]
    #[should_panic(expected = "a is smaller than m x k")]
    fn a_left_side_that_is_too_small_panics() {
        let a = Strided::rows(&[0f32; 63], 8);
        matmul(8, 8, 8, a, &[0.0; 64], &mut [0.0; 64], &mut Packed::new(), AsIs);
    }
}
