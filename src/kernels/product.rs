//! The matrix product: `C (m, n) = A (m, k) B (k, n)`.
//!
//! The crate `gemm` multiplies, as for candle's own products. What fits the first-level cache, and a
//! single row, is summed in registers here: calling gemm takes as long as such a product.
//!
//! No sum depends on the number of threads: they divide rows, and only where gemm's sums do not depend
//! on how many there are.

use super::element::Element;
use super::simd::dispatch;
use super::threads::{MIN_ROWS, for_rows, operations, parts};
use super::transpose::{transpose_block, transpose_padded};
use gemm::Parallelism;
use pulp::{Simd, WithSimd};

/// The elements of a B that [`InRegisters`] multiplies by, at most. With gemm in its place an
/// iteration of the notebook takes 2.3 times as long, a step of 256 hidden units and one name 1.2.
const MAX_SMALL: usize = 4096;
/// Bytes of a cache line, and of the longest vector.
const LINE: usize = 64;
/// Steps of `k` that gemm sums at once, whatever the number of rows.
const MAX_DEPTH: usize = 512;
/// Columns of B above which gemm copies A.
const MAX_COLUMNS: usize = 64;

/// A matrix with element `(i, j)` at `data[i * row + j * column]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a, F> {
    pub data: &'a [F],
    pub row: usize,
    pub column: usize,
}

impl<'a, F> Matrix<'a, F> {
    /// A row-major matrix with `columns` columns.
    pub fn rows(data: &'a [F], columns: usize) -> Self {
        Self { data, row: columns, column: 1 }
    }

    /// The transpose of a row-major matrix that has `columns` columns.
    pub fn transposed(data: &'a [F], columns: usize) -> Self {
        Self { data, row: 1, column: columns }
    }

    /// From row `i` and column `j` on.
    #[inline(always)]
    fn from(self, i: usize, j: usize) -> Self {
        Self { data: &self.data[i * self.row + j * self.column..], ..self }
    }

    /// Whether it has `m` rows and `k` columns.
    fn holds(&self, m: usize, k: usize) -> bool {
        let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
        let end = || last(m, self.row)?.checked_add(last(k, self.column)?);
        m == 0 || k == 0 || end().is_some_and(|end| end < self.data.len())
    }
}

/// Working memory: copies of B, and sums. It grows to what the largest product needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch<F> {
    copy: Vec<F>,
    sums: Vec<F>,
}

impl<F: Element> Scratch<F> {
    /// The copy of B, and `count` sums of rows of so many elements.
    pub(super) fn split(&mut self, count: usize, n: usize) -> (&mut Vec<F>, &mut [F]) {
        (&mut self.copy, aligned(&mut self.sums, count * padded::<F>(n)))
    }
}

/// `n` elements and as many more as fill the last cache line.
pub(super) fn padded<F>(n: usize) -> usize {
    n.next_multiple_of(LINE / size_of::<F>())
}

/// `length` elements of `memory` that begin at a cache line.
fn aligned<F: Element>(memory: &mut Vec<F>, length: usize) -> &mut [F] {
    let slack = LINE / size_of::<F>();
    if memory.len() < length + slack {
        memory.resize(length + slack, F::ZERO);
    }
    // `align_offset` may fail; alignment is for speed only.
    let start = memory.as_ptr().align_offset(LINE).min(slack);
    &mut memory[start..][..length]
}

/// `c` (m, n) `= a` (m, k) `b` (k, n), where `b` is row-major or the transpose of such a matrix. Cost:
/// `2 m n k` operations.
pub(crate) fn product<F: Element>(
    [m, k, n]: [usize; 3],
    a: Matrix<F>,
    b: Matrix<F>,
    c: &mut [F],
    scratch: &mut Scratch<F>,
) {
    assert_eq!(Some(c.len()), m.checked_mul(n), "c is not m x n");
    assert!(a.holds(m, k), "a is smaller than m x k");
    assert!(b.holds(k, n), "b is smaller than k x n");
    if m == 0 || n == 0 || k == 0 {
        return c.fill(F::ZERO);
    }
    let parts = parts(m / MIN_ROWS, operations([m, k, n]));
    if k * n <= MAX_SMALL {
        // Not copied: that takes longer than to read vectors from two cache lines.
        let right = match (b.row, b.column) == (n, 1) {
            true => Right::Small { data: b.data, stride: n },
            false => Right::small(k, n, b, &mut scratch.copy),
        };
        return for_rows(c, m, parts, |rows, c| {
            let (m, a) = (rows.len(), a.from(rows.start, 0));
            dispatch(Product { m, k, n, a, right, c, c_row: n });
        });
    }
    // Where B is transposed, the order of gemm's sums depends on the number of rows.
    let parts = if b.row == 1 { 1 } else { parts };
    for_rows(c, m, parts, |rows, c| {
        let (m, a) = (rows.len(), a.from(rows.start, 0));
        for j in (0..n).step_by(MAX_COLUMNS) {
            gemm([m, k, MAX_COLUMNS.min(n - j)], a, b.from(0, j), &mut c[j..], n);
        }
    });
}

struct Product<'a, F> {
    m: usize,
    k: usize,
    n: usize,
    a: Matrix<'a, F>,
    right: Right<'a, F>,
    c: &'a mut [F],
    c_row: usize,
}

impl<F: Element> WithSimd for Product<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { m, k, n, a, right, c, c_row } = self;
        right.multiply(simd, [m, k, n], a, c, c_row);
    }
}

/// B, (k, n), and how to multiply by it.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, F> {
    /// By [`InRegisters`]: rows, `stride` elements apart, whose last vector ends at `stride`.
    Small { data: &'a [F], stride: usize },
    /// The transpose of B, of which each row is multiplied by the only row of A.
    AlongRows(&'a [F]),
    /// By the crate: it, and its columns.
    Gemm(Matrix<'a, F>, usize),
}

impl<'a, F: Element> Right<'a, F> {
    /// A copy of `b` for [`InRegisters`].
    fn small(k: usize, n: usize, b: Matrix<F>, memory: &'a mut Vec<F>) -> Self {
        let (data, stride) = dispatch(Pack { k, n, b, memory });
        Self::Small { data, stride }
    }

    /// B for many products with `m` rows, whose results have [`padded`] rows: the matrix `data`,
    /// (n, n), or its transpose.
    ///
    /// With one row a copy takes as long as several products. A training step of 13 time steps without
    /// it takes 0.79 of the time with 256 or 512 hidden units and 0.97 with 128, but 1.12 with 96; and
    /// 1.15 with 300, because vectors of rows that do not begin at a cache line are read in two halves.
    pub fn repeated(
        m: usize,
        n: usize,
        data: &'a [F],
        is_transposed: bool,
        memory: &'a mut Vec<F>,
    ) -> Self {
        assert_eq!(Some(data.len()), n.checked_mul(n), "the weights are not n x n");
        let stride = padded::<F>(n);
        let b = match is_transposed {
            true => Matrix::transposed(data, n),
            false => Matrix::rows(data, n),
        };
        if m == 1 && n >= 128 && stride == n {
            return match is_transposed {
                true => Self::AlongRows(data),
                false => Self::Small { data, stride },
            };
        }
        if m == 1 || n * n <= MAX_SMALL {
            return Self::small(n, n, b, memory);
        }
        // In rows of whole cache lines: gemm would copy it so for every product. One line apart from
        // each other, so that a column is not in a few sets of the cache.
        let columns = stride;
        if !is_transposed && columns == n {
            return Self::Gemm(b, n);
        }
        let stride = columns + LINE / size_of::<F>();
        let out = aligned(memory, n * stride);
        match is_transposed {
            true => transpose_padded(data, n, n, out, stride),
            false => {
                for (out, row) in out.chunks_exact_mut(stride).zip(data.chunks_exact(n)) {
                    out[..n].copy_from_slice(row);
                }
            }
        }
        for out in out.chunks_exact_mut(stride) {
            out[n..].fill(F::ZERO);
        }
        Self::Gemm(Matrix::rows(out, stride), columns)
    }

    /// `c = a b`, rows of C `c_row` elements apart.
    #[inline(always)]
    pub fn multiply<S: Simd>(
        self,
        simd: S,
        [m, k, n]: [usize; 3],
        a: Matrix<F>,
        c: &mut [F],
        c_row: usize,
    ) {
        match self {
            Self::Small { data, stride } => {
                InRegisters { m, k, n, a, b: data, stride, c, c_row }.run(simd);
            }
            Self::AlongRows(b) => along_rows(simd, &a.data[..k], b, &mut c[..n]),
            Self::Gemm(b, columns) => {
                let mut i = 0;
                while i < m {
                    let rows = rows_at_once(m - i);
                    gemm([rows, k, columns], a.from(i, 0), b, &mut c[i * c_row..], c_row);
                    i += rows;
                }
            }
        }
    }
}

/// How many of `rows` rows to multiply next by a large B. Gemm takes six at a time, and half as long
/// for two: eight rows as four and four take 0.87 of the time. More than 48 rows make it copy B.
fn rows_at_once(rows: usize) -> usize {
    match rows % 6 {
        1..=3 if rows > 6 && rows < 12 => rows.div_ceil(2),
        1..=3 if rows > 6 => (rows / 6 * 6 - 6).min(48),
        _ => rows.min(48),
    }
}

/// Copies B for [`InRegisters`], the last vector of each row beside the others. Returns the copy and
/// its stride.
struct Pack<'a, 'b, F> {
    k: usize,
    n: usize,
    b: Matrix<'b, F>,
    memory: &'a mut Vec<F>,
}

impl<'a, F: Element> WithSimd for Pack<'a, '_, F> {
    type Output = (&'a [F], usize);
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self { k, n, b, memory } = self;
        let lanes = F::lanes::<S>();
        let stride = n.next_multiple_of(lanes);
        let out = aligned(memory, k * stride);
        if n < lanes {
            for (l, out) in out.chunks_exact_mut(stride).enumerate() {
                for (j, out) in out[..n].iter_mut().enumerate() {
                    *out = b.data[l * b.row + j * b.column];
                }
            }
        } else if b.row != 1 {
            for (row, out) in b.data.chunks(b.row).zip(out.chunks_exact_mut(stride)) {
                let last = F::load(simd, &row[n - lanes..]);
                for (v, out) in row[..n].chunks_exact(lanes).zip(out.chunks_exact_mut(lanes)) {
                    F::store(simd, out, F::load(simd, v));
                }
                F::store(simd, &mut out[stride - lanes..], last);
            }
        } else {
            let whole = n / lanes * lanes;
            transpose_block(simd, b.data, b.column, out, stride, whole, k);
            if whole < n {
                let last = &b.data[(n - lanes) * b.column..];
                transpose_block(simd, last, b.column, &mut out[whole..], stride, lanes, k);
            }
        }
        (out, stride)
    }
}

/// A product whose sums are in registers while `k` runs: of three rows by four vectors, which is
/// enough to hide the latency of a multiply-add and fits the sixteen registers of AVX2.
///
/// The last vector of a row of C ends with it, and may overlap the one before: the columns that they
/// share are computed twice alike.
struct InRegisters<'a, F> {
    m: usize,
    k: usize,
    n: usize,
    a: Matrix<'a, F>,
    b: &'a [F],
    stride: usize,
    c: &'a mut [F],
    c_row: usize,
}

impl<F: Element> InRegisters<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let Self { m, k, n, a, b, stride, ref c, c_row } = self;
        let lanes = F::lanes::<S>();
        if n < lanes {
            return self.narrow();
        }
        assert!(a.holds(m, k), "a is smaller than m x k");
        assert!(n <= stride && Matrix::rows(b, stride).holds(k, stride), "b is smaller than k x n");
        assert!(n <= c_row && Matrix::rows(c, c_row).holds(m, n), "c is smaller than m x n");
        for j in (0..n).step_by(4 * lanes) {
            // SAFETY: the assertions, and for each j the number of vectors up to column n.
            unsafe {
                match (n - j).div_ceil(lanes) {
                    1 => self.panel::<S, 1, 8>(simd, j),
                    2 => self.panel::<S, 2, 4>(simd, j),
                    3 => self.panel::<S, 3, 3>(simd, j),
                    _ => self.panel::<S, 4, 2>(simd, j),
                }
            }
        }
    }

    /// For rows shorter than a vector.
    fn narrow(&mut self) {
        for i in 0..self.m {
            let c = &mut self.c[i * self.c_row..][..self.n];
            c.fill(F::ZERO);
            for (l, b) in self.b.chunks_exact(self.stride).take(self.k).enumerate() {
                let x = self.a.data[i * self.a.row + l * self.a.column];
                c.iter_mut().zip(b).for_each(|(c, &b)| *c += x * b);
            }
        }
    }

    /// `WIDTH` vectors of all rows, from column `j` on. A single row has `SETS` sets of sums, so that
    /// enough of them are independent.
    ///
    /// # Safety
    ///
    /// A must have m rows and k columns, B k rows of `stride` and C m rows of n elements, n at most
    /// `stride`, and at least `j` and `WIDTH - 1` vectors and one element.
    #[inline(always)]
    unsafe fn panel<S: Simd, const WIDTH: usize, const SETS: usize>(&mut self, simd: S, j: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.m == 1 {
                return self.sum::<S, 1, WIDTH, SETS>(simd, 0, j);
            }
            let mut i = 0;
            // A constant, so that these are compiled for AVX-512 only.
            while const { size_of::<F::Vector<S>>() == LINE } && i + 6 <= self.m {
                self.sum::<S, 6, WIDTH, 1>(simd, i, j);
                i += 6;
            }
            while i + 3 <= self.m {
                self.sum::<S, 3, WIDTH, 1>(simd, i, j);
                i += 3;
            }
            while i < self.m {
                self.sum::<S, 1, WIDTH, 1>(simd, i, j);
                i += 1;
            }
        }
    }

    /// `WIDTH` vectors of `HEIGHT` rows, from row `i` and column `j` on; set `s` of `SETS` sums the
    /// steps `s, s + SETS, ..` of `k`.
    ///
    /// # Safety
    ///
    /// As for [`panel`](Self::panel), with `i + HEIGHT` rows.
    #[inline(always)]
    unsafe fn sum<S: Simd, const HEIGHT: usize, const WIDTH: usize, const SETS: usize>(
        &mut self,
        simd: S,
        i: usize,
        j: usize,
    ) {
        let (lanes, row, column) = (F::lanes::<S>(), self.a.row, self.a.column);
        // Where the last vector of a row begins.
        let last = |end: usize| (j + (WIDTH - 1) * lanes).min(end - lanes);
        let (from_last, to_last) = (last(self.stride), last(self.n));
        let mut sums = [[[F::splat(simd, F::ZERO); WIDTH]; HEIGHT]; SETS];
        let mut a = self.a.data.as_ptr().wrapping_add(i * row);
        let mut b = self.b.as_ptr();
        macro_rules! add_step {
            ($sums:expr) => {
                let mut line = [F::splat(simd, F::ZERO); WIDTH];
                for (w, v) in line.iter_mut().enumerate() {
                    let at = if w + 1 == WIDTH { from_last } else { j + w * lanes };
                    // SAFETY: at most the last vector of one of the k rows of B.
                    *v = unsafe { b.add(at).cast::<F::Vector<S>>().read_unaligned() };
                }
                for (i, sums) in $sums.iter_mut().enumerate() {
                    // SAFETY: row i and one of the k columns of A.
                    let x = F::splat(simd, unsafe { *a.add(i * row) });
                    for (sum, &v) in sums.iter_mut().zip(&line) {
                        *sum = F::mul_add(simd, x, v, *sum);
                    }
                }
                a = a.wrapping_add(column);
                b = b.wrapping_add(self.stride);
            };
        }
        for _ in 0..self.k / SETS {
            for sums in &mut sums {
                add_step!(sums);
            }
        }
        for _ in 0..self.k % SETS {
            add_step!(sums[0]);
        }
        for h in 0..HEIGHT {
            let c = &mut self.c[(i + h) * self.c_row..];
            for w in 0..WIDTH {
                let mut sum = sums[0][h][w];
                for others in &sums[1..] {
                    sum = F::plus(simd, sum, others[h][w]);
                }
                F::store(simd, &mut c[if w + 1 == WIDTH { to_last } else { j + w * lanes }..], sum);
            }
        }
    }
}

/// Rows whose sums are in registers side by side.
const ROWS: usize = 8;

/// `c` (n) `= b` (n, k) `a` (k): a dot product along each row, for `n` and `k` that are multiples of
/// the vector and of eight.
#[inline(always)]
fn along_rows<F: Element, S: Simd>(simd: S, a: &[F], b: &[F], c: &mut [F]) {
    let (lanes, k) = (F::lanes::<S>(), a.len());
    for (c, b) in c.chunks_exact_mut(ROWS).zip(b.chunks_exact(ROWS * k)) {
        let mut sums = [F::splat(simd, F::ZERO); ROWS];
        for at in (0..k).step_by(lanes) {
            let a = F::load(simd, &a[at..]);
            for (sum, row) in sums.iter_mut().zip(b.chunks_exact(k)) {
                *sum = F::mul_add(simd, a, F::load(simd, &row[at..]), *sum);
            }
        }
        for (c, sum) in c.iter_mut().zip(sums) {
            *c = F::reduce_sum(simd, sum);
        }
    }
}

/// The product by the crate, on this thread. Rows of C are `c_row` elements apart.
fn gemm<F: Element>([m, k, n]: [usize; 3], a: Matrix<F>, b: Matrix<F>, c: &mut [F], c_row: usize) {
    let c_matrix = Matrix::rows(c, c_row);
    assert!(n <= c_row && c_matrix.holds(m, n), "c is smaller than m x n");
    assert!(a.holds(m, k), "a is smaller than m x k");
    assert!(b.holds(k, n), "b is smaller than k x n");
    for l in (0..k).step_by(MAX_DEPTH) {
        let (a, b) = (a.from(0, l), b.from(l, 0));
        // SAFETY: the assertions: A, B and C have so many rows and columns. Nothing else refers to C.
        unsafe {
            #[rustfmt::skip]
            gemm::gemm(
                m, n, MAX_DEPTH.min(k - l),
                c.as_mut_ptr(), 1, c_row as isize, l > 0,
                a.data.as_ptr(), a.column as isize, a.row as isize,
                b.data.as_ptr(), b.column as isize, b.row as isize,
                F::ONE, F::ONE, false, false, false, Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use super::super::threads::tests::{in_parts, with_parts};
    use super::super::transpose::transpose;
    use super::*;
    use proptest::prelude::*;

    /// The definition.
    fn naive<F: Element>([m, k, n]: [usize; 3], a: Matrix<F>, b: Matrix<F>) -> Vec<F> {
        let at = |x: Matrix<F>, i: usize, j: usize| x.data[i * x.row + j * x.column].to_f64();
        let entry = |i, j| (0..k).map(|l| at(a, i, l) * at(b, l, j)).sum::<f64>();
        (0..m * n).map(|at| F::from_f64(entry(at / n, at % n))).collect()
    }

    fn check<F: Element>(shape: [usize; 3]) {
        let [m, k, n] = shape;
        let (left, right) = (noise::<F>(m * k, 1), noise::<F>(k * n, 2));
        let mut right_t = vec![F::ZERO; k * n];
        transpose(&right, k, n, &mut right_t);
        let mut scratch = Scratch::default();
        for a in [Matrix::rows(&left, k), Matrix::transposed(&left, m)] {
            for b in [Matrix::rows(&right, n), Matrix::transposed(&right_t, k)] {
                let mut c = vec![F::from_f64(7.); m * n];
                product(shape, a, b, &mut c, &mut scratch);
                assert_close("c", &c, &naive(shape, a, b), tolerance::<F>());
            }
        }
        if k == n && n > 0 {
            let a = Matrix::rows(&left, n);
            for (data, is_transposed) in [(&right, false), (&right_t, true)] {
                let (copy, sums) = scratch.split(m, n);
                let b = Right::repeated(m, n, data, is_transposed, copy);
                dispatch(Product { m, k, n, a, right: b, c: sums, c_row: padded::<F>(n) });
                let rows = sums.chunks(padded::<F>(n)).map(|row| &row[..n]);
                let want = naive(shape, a, Matrix::rows(&right, n));
                assert_close("sums", &rows.collect::<Vec<_>>().concat(), &want, tolerance::<F>());
            }
        }
    }

    fn check_all<F: Element>() {
        let sizes: &[usize] =
            if cfg!(miri) { &[1, 3, 9] } else { &[1, 2, 3, 5, 8, 9, 13, 16, 17, 27, 50] };
        for &m in sizes {
            for &n in sizes {
                for k in [1, 4, 13, n] {
                    check::<F>([m, k, n]);
                }
            }
        }
        if !cfg!(miri) {
            // Beside the sizes of gemm: several blocks of k, a single row in place, and nothing.
            #[rustfmt::skip]
            let shapes = [
                [1, 128, 128], [1, 144, 144], [1, 257, 257], [5, 67, 67], [8, 80, 80], [62, 96, 96],
                [13, 300, 70], [50, 600, 127], [3, 0, 5], [4, 5, 0], [0, 4, 4], [0, 0, 0],
            ];
            for shape in shapes {
                check::<F>(shape);
            }
        }
    }

    #[test]
    fn products_of_every_shape_equal_the_definition() {
        on_every_path(|| in_parts(check_all::<f32>));
        on_every_path(|| in_parts(check_all::<f64>));
    }

    proptest! {
        #[test]
        fn products_do_not_depend_on_how_their_rows_are_divided(
            m in 1usize..70, k in 1usize..600, n in 1usize..350, parts in 2usize..5,
            is_transposed in any::<[bool; 2]>(),
        ) {
            let (left, right) = (noise::<f32>(m * k, 1), noise::<f32>(k * n, 2));
            let of = |data, rows, columns, is_transposed| match is_transposed {
                true => Matrix::transposed(data, rows),
                false => Matrix::rows(data, columns),
            };
            let run = || {
                let mut c = vec![0.; m * n];
                let a = of(&left, m, k, is_transposed[0]);
                let b = of(&right, k, n, is_transposed[1]);
                product([m, k, n], a, b, &mut c, &mut Scratch::default());
                c
            };
            prop_assert_eq!(with_parts(1, run), with_parts(parts, run));
        }
    }

    #[test]
    fn a_nan_on_either_side_reaches_the_result() {
        for size in [9, 90] {
            let mut a = noise::<f32>(size * size, 1);
            let mut b = noise::<f32>(size * size, 2);
            a[3 * size + 2] = f32::NAN;
            b[4 * size + 5] = f32::NAN;
            let mut c = vec![0.; size * size];
            let (left, right) = (Matrix::rows(&a, size), Matrix::rows(&b, size));
            product([size; 3], left, right, &mut c, &mut Scratch::default());
            for (at, x) in c.iter().enumerate() {
                assert_eq!(x.is_nan(), at / size == 3 || at % size == 5, "{at}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "a is smaller than m x k")]
    fn strides_whose_product_overflows_panic() {
        let a = Matrix { data: &[0f32; 64], row: usize::MAX, column: 1 };
        let b = Matrix::rows(&[0.; 64], 8);
        product([2, 8, 8], a, b, &mut [0.; 16], &mut Scratch::default());
    }

    #[test]
    #[should_panic(expected = "b is smaller than k x n")]
    fn a_right_side_that_is_too_small_panics() {
        let (a, b) = (Matrix::rows(&[0f32; 64], 8), Matrix::rows(&[0.; 63], 8));
        product([8; 3], a, b, &mut [0.; 64], &mut Scratch::default());
    }
}
