//! One matrix product for everything: `C (m, n) = A (m, k) B (k, n)`, or `+=`.
//!
//! A tile of `MR` rows by `NR` vectors of C stays in registers while `k` runs: each step broadcasts `MR` elements of A, loads `NR` vectors of a row of B
//! and does `MR * NR` multiply-adds. A may have any strides, so that a transposed left side costs nothing; rows of B and C are contiguous.
//!
//! Tiles are 6 x 2 (twelve sums, two vectors of B and one of A fill the sixteen registers of AVX2), or wider and lower for one to three rows: with
//! one row it takes eight independent sums to hide the latency of the multiply-add.
//!
//! B is read in panels as wide as the tile. Where it is reused often enough, or is wanted transposed, it is [`Packed`]: copied panel by panel, aligned,
//! so that a panel is read from one end to the other. `k` is cut into blocks of 256, so that a panel's block (16 KiB) stays in the first-level cache while all
//! rows of A pass by.
//!
//! Widths that are no multiple of the vector: the last vector of a row ends at the row's end and overlaps the one before, which stands in the same
//! tile (a narrow panel comes first, never last). The shared columns are computed twice alike and no masked store is needed. A row shorter than one
//! vector takes plain loops.

use super::simd::{Element, dispatch};
use pulp::{Simd, WithSimd};

/// Steps of `k` between two visits to C.
const BLOCK: usize = 256;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Below this many elements B stays where it is: it fits the first-level cache anyway.
const WORTH_PACKING: usize = 4096;

/// A matrix with element `(i, j)` at `data[i * row + j * column]`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, F> {
    /// The elements.
    pub data: &'a [F],
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
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

/// How the columns of C and B are cut: into vectors, and the vectors into panels.
#[derive(Clone, Copy, Debug)]
struct Columns {
    n: usize,
    lanes: usize,
    /// Vectors across a row; the last one may overlap.
    vectors: usize,
    /// Vectors in a panel. The first panel takes what is left over, so that the overlapping vector never stands alone.
    panel: usize,
}

impl Columns {
    #[inline(always)]
    fn new(n: usize, lanes: usize, panel: usize) -> Self {
        Self { n, lanes, vectors: n.div_ceil(lanes), panel }
    }

    /// The vectors of the panel that begins at vector `j`.
    #[inline(always)]
    fn width(self, j: usize) -> usize {
        let odd = self.vectors % self.panel;
        if j == 0 && odd != 0 { odd } else { self.panel }
    }

    /// Where vector `j` begins.
    #[inline(always)]
    fn offset(self, j: usize) -> usize {
        (j * self.lanes).min(self.n - self.lanes)
    }
}

/// Vectors side by side in a tile, for a product with `m` rows.
#[inline(always)]
fn panel_for(m: usize) -> usize {
    match m {
        1 => 8,
        2 | 3 => 4,
        _ => 2,
    }
}

/// The right side of a product, copied into panels. Reuse one to reuse its memory.
#[derive(Clone, Debug, Default)]
pub struct Packed<F> {
    memory: Vec<F>,
    start: usize,
    k: usize,
    n: usize,
    panel: usize,
    lanes: usize,
}

impl<F: Element> Packed<F> {
    /// An empty one, which allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `b` (k, n), row-major, for products with `m` rows. Cost: `k n` elements read and written.
    pub fn pack(&mut self, b: &[F], k: usize, n: usize, m: usize) {
        assert_eq!(b.len(), k * n, "b is not k x n");
        dispatch(Pack { packed: self, b, k, n, m, transposed: false });
    }

    /// Takes the transpose of `b` (n, k), row-major, for products with `m` rows. Cost: `k n` elements read and written.
    pub fn pack_transposed(&mut self, b: &[F], k: usize, n: usize, m: usize) {
        assert_eq!(b.len(), k * n, "b is not n x k");
        dispatch(Pack { packed: self, b, k, n, m, transposed: true });
    }

    /// Makes room for `length` elements from the beginning of a cache line on.
    fn reserve(&mut self, length: usize) -> &mut [F] {
        let slack = LINE / size_of::<F>();
        if self.memory.len() < length + slack {
            self.memory.resize(length + slack, F::ZERO);
        }
        // `align_offset` may decline to answer; the kernels are right, if slower, without alignment.
        self.start = self.memory.as_ptr().align_offset(LINE).min(slack);
        &mut self.memory[self.start..][..length]
    }

    fn data(&self) -> &[F] {
        &self.memory[self.start..]
    }
}

struct Pack<'a, F> {
    packed: &'a mut Packed<F>,
    b: &'a [F],
    k: usize,
    n: usize,
    m: usize,
    transposed: bool,
}

impl<F: Element> WithSimd for Pack<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { packed, b, k, n, m, transposed } = self;
        let lanes = F::lanes::<S>();
        let columns = Columns::new(n, lanes, panel_for(m));
        (packed.k, packed.n, packed.panel, packed.lanes) = (k, n, columns.panel, lanes);
        if k == 0 || n == 0 {
            return;
        }
        if n < lanes {
            let out = packed.reserve(k * n);
            if transposed {
                transpose_block(b, k, out, n, n, k);
            } else {
                out.copy_from_slice(b);
            }
            return;
        }
        let out = packed.reserve(k * columns.vectors * lanes);
        let mut j = 0;
        while j < columns.vectors {
            let width = columns.width(j);
            let panel = &mut out[j * lanes * k..][..width * lanes * k];
            for slot in 0..width {
                let from = columns.offset(j + slot);
                if transposed {
                    let to = &mut panel[slot * lanes..];
                    transpose_block(&b[from * k..], k, to, width * lanes, lanes, k);
                } else {
                    for (row, line) in b.chunks_exact(n).zip(panel.chunks_exact_mut(width * lanes))
                    {
                        let v = F::load(simd, &row[from..]);
                        F::store(simd, &mut line[slot * lanes..], v);
                    }
                }
            }
            j += width;
        }
    }
}

/// `to[j * to_row + i] = from[i * from_row + j]` for `i < rows`, `j < columns`.
///
/// Four by four, written so that the compiler keeps the sixteen elements in four registers and shuffles them.
#[inline(always)]
fn transpose_block<F: Element>(
    from: &[F],
    from_row: usize,
    to: &mut [F],
    to_row: usize,
    rows: usize,
    columns: usize,
) {
    let (rows4, columns4) = (rows & !3, columns & !3);
    for i in (0..rows4).step_by(4) {
        for j in (0..columns4).step_by(4) {
            let rows: [[F; 4]; 4] = std::array::from_fn(|s| {
                let at = (i + s) * from_row + j;
                from[at..at + 4].try_into().expect("four elements")
            });
            let columns: [[F; 4]; 4] = std::array::from_fn(|s| rows.map(|row| row[s]));
            for (s, column) in columns.iter().enumerate() {
                to[(j + s) * to_row + i..][..4].copy_from_slice(column);
            }
        }
        for j in columns4..columns {
            for s in i..i + 4 {
                to[j * to_row + s] = from[s * from_row + j];
            }
        }
    }
    for i in rows4..rows {
        for j in 0..columns {
            to[j * to_row + i] = from[i * from_row + j];
        }
    }
}

struct Transpose<'a, F>(&'a [F], &'a mut [F], usize, usize);
impl<F: Element> WithSimd for Transpose<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(from, to, rows, columns) = self;
        transpose_block(from, columns, to, rows, rows, columns);
    }
}

/// `to` (columns, rows) = the transpose of `from` (rows, columns). Cost: every element read and written once.
pub fn transpose<F: Element>(from: &[F], rows: usize, columns: usize, to: &mut [F]) {
    assert_eq!(from.len(), rows * columns, "from is not rows x columns");
    assert_eq!(to.len(), rows * columns, "to is not columns x rows");
    dispatch(Transpose(from, to, rows, columns));
}

/// `c` (m, n) `= a` (m, k) `b` (k, n), or `+=` with `accumulate`. Cost: `2 m n k` operations.
///
/// `scratch` holds a packed copy of `b` where that pays.
#[allow(clippy::too_many_arguments)]
pub fn matmul<F: Element>(
    m: usize,
    k: usize,
    n: usize,
    a: Strided<F>,
    b: &[F],
    c: &mut [F],
    accumulate: bool,
    scratch: &mut Packed<F>,
) {
    assert_eq!(b.len(), k * n, "b is not k x n");
    if m >= 12 && k * n >= WORTH_PACKING {
        scratch.pack(b, k, n, m);
        matmul_packed(m, a, scratch, c, accumulate);
    } else {
        dispatch(Product { m, k, n, a, b: Right::Rows(b), c, accumulate });
    }
}

/// `c` (m, n) `= a` (m, k) `b` (k, n), or `+=` with `accumulate`, for a `b` packed before. Cost: `2 m n k` operations.
pub fn matmul_packed<F: Element>(
    m: usize,
    a: Strided<F>,
    b: &Packed<F>,
    c: &mut [F],
    accumulate: bool,
) {
    dispatch(Product::packed(m, a, b, c, accumulate));
}

/// The right side of a [`Product`].
#[derive(Clone, Copy)]
pub(crate) enum Right<'a, F> {
    /// Row-major, as it came.
    Rows(&'a [F]),
    /// In panels.
    Packed(&'a Packed<F>),
}

/// The product, for use inside another kernel: `simd.vectorize(Product { .. })`.
pub(crate) struct Product<'a, F> {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub a: Strided<'a, F>,
    pub b: Right<'a, F>,
    pub c: &'a mut [F],
    pub accumulate: bool,
}

impl<'a, F: Element> Product<'a, F> {
    #[inline(always)]
    pub fn packed(
        m: usize,
        a: Strided<'a, F>,
        b: &'a Packed<F>,
        c: &'a mut [F],
        accumulate: bool,
    ) -> Self {
        Self { m, k: b.k, n: b.n, a, b: Right::Packed(b), c, accumulate }
    }
}

impl<F: Element> WithSimd for Product<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { m, k, n, a, b, c, accumulate } = self;
        assert_eq!(c.len(), m * n, "c is not m x n");
        if m == 0 || n == 0 {
            return;
        }
        if k == 0 {
            if !accumulate {
                c.fill(F::ZERO);
            }
            return;
        }
        assert!((m - 1) * a.row + (k - 1) * a.column < a.data.len(), "a is smaller than m x k");
        let lanes = F::lanes::<S>();
        let (data, panel) = match b {
            Right::Rows(data) => (data, panel_for(m)),
            Right::Packed(packed) => {
                assert_eq!(packed.lanes, lanes, "packed for another instruction set");
                (packed.data(), packed.panel)
            }
        };
        if n < lanes {
            return narrow(m, k, n, a, data, c, accumulate);
        }
        let columns = Columns::new(n, lanes, panel);
        let packed = matches!(b, Right::Packed(_));
        let needed = if packed { k * columns.vectors * lanes } else { k * n };
        assert!(data.len() >= needed, "b is smaller than k x n");

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
                let tallest = match width {
                    1 | 2 => 6,
                    3 | 4 => 3,
                    _ => 1,
                };
                // Rows in even shares: thirteen as 5 + 4 + 4 keeps more sums in flight than 6 + 6 + 1.
                let blocks = m.div_ceil(tallest);
                let mut i = 0;
                for block in 0..blocks {
                    let height = (m - i).div_ceil(blocks - block);
                    // SAFETY: the offsets below point at element (i, k0) of A, row k0 and column `left` of B, and (i, left) of C. The tile
                    // reads `height` rows and `depth` columns of A: at most element (m-1, k-1), inside by the assertion above. It reads `depth` rows
                    // of B, `width` vectors each, of which the last begins at `b_last`: up to column n (or the panel's end), inside `needed`. Of C
                    // it reads and writes `height` rows up to column `left + last + lanes <= n`, inside m * n.
                    unsafe {
                        let tile = Tile {
                            a: a.data.as_ptr().add(i * a.row + k0 * a.column),
                            a_row: a.row,
                            a_column: a.column,
                            b: data.as_ptr().add(b_start),
                            b_row,
                            b_last,
                            c: c.as_mut_ptr().add(i * n + left),
                            c_row: n,
                            c_last: last,
                            depth,
                            accumulate: accumulate || k0 > 0,
                        };
                        tile.run(simd, height, width);
                    }
                    i += height;
                }
                j += width;
            }
        }
    }
}

/// The product for rows shorter than one vector: B is plain row-major.
#[inline(always)]
fn narrow<F: Element>(
    m: usize,
    k: usize,
    n: usize,
    a: Strided<F>,
    b: &[F],
    c: &mut [F],
    accumulate: bool,
) {
    for i in 0..m {
        let c = &mut c[i * n..][..n];
        if !accumulate {
            c.fill(F::ZERO);
        }
        for l in 0..k {
            let x = a.data[i * a.row + l * a.column];
            for (c, &b) in c.iter_mut().zip(&b[l * n..][..n]) {
                *c += x * b;
            }
        }
    }
}

/// A block of C that is summed in registers.
#[derive(Clone, Copy)]
struct Tile<F> {
    a: *const F,
    a_row: usize,
    a_column: usize,
    b: *const F,
    b_row: usize,
    /// Where the last vector of a row of B begins; the others follow each other.
    b_last: usize,
    c: *mut F,
    c_row: usize,
    c_last: usize,
    depth: usize,
    accumulate: bool,
}

impl<F: Element> Tile<F> {
    /// # Safety
    ///
    /// `height` rows and `depth` columns of `a`, `depth` rows of `width` vectors of `b`, and `height` rows of `width` vectors of `c`, placed as the
    /// fields say, must be readable, those of `c` writable and not aliased.
    #[inline(always)]
    unsafe fn run<S: Simd>(self, simd: S, height: usize, width: usize) {
        macro_rules! tiles {
            ($(($mr:literal, $nr:literal)),*) => {
                match (height, width) {
                    $(($mr, $nr) => simd.vectorize(TileOf::<F, $mr, $nr>(self)),)*
                    _ => unreachable!("no tile of {height} x {width}"),
                }
            };
        }
        tiles!(
            (1, 1),
            (2, 1),
            (3, 1),
            (4, 1),
            (5, 1),
            (6, 1),
            (1, 2),
            (2, 2),
            (3, 2),
            (4, 2),
            (5, 2),
            (6, 2),
            (1, 3),
            (2, 3),
            (3, 3),
            (1, 4),
            (2, 4),
            (3, 4),
            (1, 5),
            (1, 6),
            (1, 7),
            (1, 8)
        )
    }
}

/// A tile of a size known to the compiler. Only [`Tile::run`] makes one, and hands its obligations on.
struct TileOf<F, const MR: usize, const NR: usize>(Tile<F>);

impl<F: Element, const MR: usize, const NR: usize> WithSimd for TileOf<F, MR, NR> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let t = self.0;
        let lanes = F::lanes::<S>();
        let at = |j: usize, last: usize| if j + 1 == NR { last } else { j * lanes };
        let mut sums = [[F::splat(simd, F::ZERO); NR]; MR];
        // SAFETY: as promised to `Tile::run`.
        unsafe {
            if t.accumulate {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = read(simd, t.c.add(i * t.c_row + at(j, t.c_last)));
                    }
                }
            }
            let (mut a, mut b) = (t.a, t.b);
            for _ in 0..t.depth {
                let row: [F::Vector<S>; NR] =
                    std::array::from_fn(|j| read(simd, b.add(at(j, t.b_last))));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = F::splat(simd, *a.add(i * t.a_row));
                    for (sum, &y) in sums.iter_mut().zip(&row) {
                        *sum = F::mul_add(simd, x, y, *sum);
                    }
                }
                a = a.wrapping_add(t.a_column);
                b = b.wrapping_add(t.b_row);
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, &sum) in sums.iter().enumerate() {
                    let to = t.c.add(i * t.c_row + at(j, t.c_last));
                    to.cast::<F::Vector<S>>().write_unaligned(sum);
                }
            }
        }
    }
}

/// The vector that begins at `from`, aligned or not.
///
/// # Safety
///
/// A whole vector must be readable there.
#[inline(always)]
unsafe fn read<F: Element, S: Simd>(_: S, from: *const F) -> F::Vector<S> {
    // SAFETY: the caller's promise. Vectors are plain bits.
    unsafe { from.cast::<F::Vector<S>>().read_unaligned() }
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use super::*;

    /// The definition.
    pub(crate) fn naive<F: Element>(
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
        let mut packed = Packed::new();
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
                guarded(&mut |c| {
                    matmul(m, k, n, a, &b, c, accumulate, &mut Packed::new());
                });
                guarded(&mut |c| {
                    packed.pack(&b, k, n, m);
                    matmul_packed(m, a, &packed, c, accumulate);
                });
                guarded(&mut |c| {
                    packed.pack_transposed(&b_transposed, k, n, m);
                    matmul_packed(m, a, &packed, c, accumulate);
                });
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
    fn products_of_every_shape_equal_the_naive_one() {
        on_every_path(check_all::<f32>);
        on_every_path(check_all::<f64>);
    }

    #[test]
    fn the_transpose_of_the_transpose_is_the_matrix() {
        for (rows, columns) in [(1, 1), (3, 5), (4, 4), (27, 50), (50, 27), (9, 64)] {
            let x = noise::<f32>(rows * columns, 1);
            let (mut y, mut z) = (vec![0.0; rows * columns], vec![0.0; rows * columns]);
            transpose(&x, rows, columns, &mut y);
            assert!((0..rows).all(|i| (0..columns).all(|j| y[j * rows + i] == x[i * columns + j])));
            transpose(&y, columns, rows, &mut z);
            assert_eq!(x, z);
        }
    }

    #[test]
    fn a_nan_on_either_side_reaches_the_result() {
        let mut a = noise::<f32>(9 * 9, 1);
        let mut b = noise::<f32>(9 * 9, 2);
        a[3 * 9 + 2] = f32::NAN;
        b[4 * 9 + 5] = f32::NAN;
        let mut c = vec![0.0; 81];
        matmul(9, 9, 9, Strided::rows(&a, 9), &b, &mut c, false, &mut Packed::new());
        for (at, x) in c.iter().enumerate() {
            assert_eq!(x.is_nan(), at / 9 == 3 || at % 9 == 5, "{at}");
        }
    }

    #[test]
    #[should_panic(expected = "a is smaller than m x k")]
    fn a_left_side_that_is_too_small_panics() {
        let mut c = [0f32; 64];
        matmul(
            8,
            8,
            8,
            Strided::rows(&[0.0; 63], 8),
            &[0.0; 64],
            &mut c,
            false,
            &mut Packed::new(),
        );
    }
}
