//! One matrix product for everything: `C (m, n) = A (m, k) B (k, n)`, or `+=`.
//!
//! A tile of `MR` rows by `NR` vectors of C stays in registers while `k` runs: each step broadcasts
//! `MR` elements of A, loads `NR` vectors of a row of B and does `MR * NR` multiply-adds. A may
//! have any strides, so that a transposed left side costs nothing; rows of B and C are contiguous.
//!
//! Tiles are 6 x 2 (twelve sums, two vectors of B and one of A fill the sixteen registers of AVX2),
//! or 3 x 4 for one to three rows. It takes eight independent sums to hide the latency of the
//! multiply-add, so small tiles keep a second and a third set, for every second or third step of
//! `k`.
//!
//! What follows a product element by element (tanh, say) is done by its `Finish` on the sums, while
//! they are in registers. In the recurrence with one sequence that is worth a third of the time:
//! the long latency of tanh then overlaps with the next panel's sums.
//!
//! B is read in panels as wide as the tile. Where it is reused often enough, or is wanted
//! transposed, it is [`Packed`]: copied panel by panel, aligned, so that a panel is read from one
//! end to the other. `k` is cut into blocks of 256, so that a panel's block (16 KiB) stays in the
//! first-level cache while all rows of A pass by.
//!
//! Widths that are no multiple of the vector: the last vector of a row ends at the row's end and
//! overlaps the one before, which stands in the same tile (a narrow panel comes first, never last).
//! The shared columns are computed twice alike and no masked store is needed. A row shorter than
//! one vector takes plain loops.

use super::simd::{Element, dispatch, each_pair};
use super::transpose::transpose_block;
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
    /// Vectors in a panel. The first panel takes what is left over, so that the overlapping vector
    /// never stands alone.
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
        let odd = self.vectors & (self.panel - 1); // a panel is a power of two
        if j == 0 && odd != 0 { odd } else { self.panel }
    }

    /// Where vector `j` begins.
    #[inline(always)]
    fn offset(self, j: usize) -> usize {
        (j * self.lanes).min(self.n - self.lanes)
    }
}

/// Vectors in a panel that [`matvec`] alone can read.
const WIDEST_PANEL: usize = 8;

/// Vectors side by side in a tile, for a product with `m` rows.
#[inline(always)]
fn panel_for(m: usize) -> usize {
    if m <= 3 { 4 } else { 2 }
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

    /// Takes `b` (k, n), row-major, for products with `m` rows. Cost: `k n` elements read and
    /// written.
    ///
    /// # Panics
    ///
    /// When `b` is not (k, n).
    pub fn pack(&mut self, b: &[F], k: usize, n: usize, m: usize) {
        self.fill(b, k, n, panel_for(m), false);
    }

    /// Takes the transpose of `b` (n, k), row-major, for products with `m` rows. Cost: `k n`
    /// elements read and written.
    ///
    /// # Panics
    ///
    /// When `b` is not (n, k).
    pub fn pack_transposed(&mut self, b: &[F], k: usize, n: usize, m: usize) {
        self.fill(b, k, n, panel_for(m), true);
    }

    /// As [`pack`](Self::pack) for [`matvec`] alone: the widest panels, so that an element of A is
    /// loaded least often.
    pub(crate) fn pack_for_matvec(&mut self, b: &[F], k: usize, n: usize) {
        self.fill(b, k, n, WIDEST_PANEL, false);
    }

    fn fill(&mut self, b: &[F], k: usize, n: usize, panel: usize, transposed: bool) {
        assert_eq!(b.len(), k * n, "b is not k x n");
        dispatch(Pack { packed: self, b, k, n, panel, transposed });
    }

    /// Makes room for `length` elements from the beginning of a cache line on.
    fn reserve(&mut self, length: usize) -> &mut [F] {
        let slack = LINE / size_of::<F>();
        if self.memory.len() < length + slack {
            self.memory.resize(length + slack, F::ZERO);
        }
        // `align_offset` may decline to answer; the kernels are right, if slower, without
        // alignment.
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
    panel: usize,
    transposed: bool,
}

impl<F: Element> WithSimd for Pack<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { packed, b, k, n, panel, transposed } = self;
        let lanes = F::lanes::<S>();
        let columns = Columns::new(n, lanes, panel);
        (packed.k, packed.n, packed.panel, packed.lanes) = (k, n, columns.panel, lanes);
        if k == 0 || n == 0 {
            return;
        }
        if n < lanes {
            let out = packed.reserve(k * n);
            if transposed {
                transpose_block(simd, b, k, out, n, n, k);
            } else {
                out.copy_from_slice(b);
            }
            return;
        }
        let out = packed.reserve(k * columns.vectors * lanes);
        // As many rows at a time as stay in the first-level cache, so that memory is read from
        // front to back. A transpose reads whole rows anyway.
        let height = if transposed { k } else { (WORTH_PACKING / n).max(8) };
        for row in (0..k).step_by(height) {
            let mut j = 0;
            while j < columns.vectors {
                let width = columns.width(j);
                let panel = &mut out[j * lanes * k..][..width * lanes * k];
                for slot in 0..width {
                    let from = columns.offset(j + slot);
                    if transposed {
                        let to = &mut panel[slot * lanes..];
                        transpose_block(simd, &b[from * k..], k, to, width * lanes, lanes, k);
                        continue;
                    }
                    let lines = panel[row * width * lanes..].chunks_exact_mut(width * lanes);
                    for (row, line) in b[row * n..].chunks_exact(n).zip(lines).take(height) {
                        let v = F::load(simd, &row[from..]);
                        F::store(simd, &mut line[slot * lanes..], v);
                    }
                }
                j += width;
            }
        }
    }
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
        dispatch(Product { m, k, n, a, b: Right::Rows(b), c, accumulate, finish: AsIs });
    }
}

/// `c` (m, n) `= a` (m, k) `b` (k, n), or `+=` with `accumulate`, for a `b` packed before. Cost:
/// `2 m n k` operations.
pub fn matmul_packed<F: Element>(
    m: usize,
    a: Strided<F>,
    b: &Packed<F>,
    c: &mut [F],
    accumulate: bool,
) {
    dispatch(Product::packed(m, a, b, c, accumulate, AsIs));
}

/// What happens to an element of C between its sum and memory.
pub(crate) trait Finish<F: Element>: Copy {
    /// The finished vectors; `at` is where in C each begins, and `count` how many of their lanes
    /// are real.
    fn finish<S: Simd, const N: usize>(
        self,
        simd: S,
        sums: [F::Vector<S>; N],
        at: [usize; N],
        count: usize,
    ) -> [F::Vector<S>; N];
}

/// Nothing happens.
#[derive(Clone, Copy)]
pub(crate) struct AsIs;

impl<F: Element> Finish<F> for AsIs {
    #[inline(always)]
    fn finish<S: Simd, const N: usize>(
        self,
        _: S,
        sums: [F::Vector<S>; N],
        _: [usize; N],
        _: usize,
    ) -> [F::Vector<S>; N] {
        sums
    }
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
pub(crate) struct Product<'a, F, E> {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub a: Strided<'a, F>,
    pub b: Right<'a, F>,
    pub c: &'a mut [F],
    pub accumulate: bool,
    pub finish: E,
}

impl<'a, F: Element, E: Finish<F>> Product<'a, F, E> {
    /// With a right side packed before.
    #[inline(always)]
    pub fn packed(
        m: usize,
        a: Strided<'a, F>,
        b: &'a Packed<F>,
        c: &'a mut [F],
        accumulate: bool,
        finish: E,
    ) -> Self {
        Self { m, k: b.k, n: b.n, a, b: Right::Packed(b), c, accumulate, finish }
    }
}

impl<F: Element, E: Finish<F>> WithSimd for Product<'_, F, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { m, k, n, a, b, c, accumulate, finish } = self;
        assert_eq!(c.len(), m * n, "c is not m x n");
        if m == 0 || n == 0 {
            return;
        }
        let lanes = F::lanes::<S>();
        let (data, panel) = match b {
            Right::Rows(data) => (data, panel_for(m)),
            Right::Packed(packed) => {
                assert_eq!(packed.lanes, lanes, "packed for another instruction set");
                assert!(packed.panel <= 4, "packed for matvec");
                (packed.data(), packed.panel)
            }
        };
        assert!(
            k == 0 || (m - 1) * a.row + (k - 1) * a.column < a.data.len(),
            "a is smaller than m x k"
        );
        if n < lanes || k == 0 {
            return narrow(simd, m, k, n, a, data, c, accumulate, finish);
        }
        let columns = Columns::new(n, lanes, panel);
        let packed = matches!(b, Right::Packed(_));
        let needed = k * if packed { columns.vectors * lanes } else { n };
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

/// `c` (n) `+= a` (k) `b` (k, n), finished: the product with one row. Cost: `2 k n` operations, and
/// as many bytes of B read as it has.
///
/// Apart from [`Product`] because the recurrence with one sequence is thousands of small ones: here
/// nothing is left to decide but the panel's width, and all of it is inlined into the loop over
/// time, where the end of one panel (its `finish`) overlaps with the sums of the next.
#[inline(always)]
pub(crate) fn matvec<F: Element, S: Simd>(
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
            4 => panel_sum::<F, S, 4, 2>(simd, a, panel, c, left, last, finish),
            5 => panel_sum::<F, S, 5, 2>(simd, a, panel, c, left, last, finish),
            6 => panel_sum::<F, S, 6, 2>(simd, a, panel, c, left, last, finish),
            7 => panel_sum::<F, S, 7, 2>(simd, a, panel, c, left, last, finish),
            _ => panel_sum::<F, S, WIDEST_PANEL, 1>(simd, a, panel, c, left, last, finish),
        }
        j += width;
    }
}

/// One panel of [`matvec`], `WIDTH` vectors wide: into C from column `left`, the last vector into
/// column `last`. `SETS` as in [`Tile`].
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
    for (at, v) in at.into_iter().zip(finish.finish(simd, total, at, lanes)) {
        F::store(simd, &mut c[at..], v);
    }
}

/// The product for rows shorter than one vector, and for `k = 0`. B is plain row-major.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn narrow<F: Element, S: Simd, E: Finish<F>>(
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
        let row = &mut c[i * n..][..n];
        if !accumulate {
            row.fill(F::ZERO);
        }
        for l in 0..k {
            let x = a.data[i * a.row + l * a.column];
            for (c, &b) in row.iter_mut().zip(&b[l * n..][..n]) {
                *c += x * b;
            }
        }
        let lanes = F::lanes::<S>();
        // For k = 0 a row may be longer than one vector.
        for (j, part) in row.chunks_mut(lanes).enumerate() {
            let v = F::load_partial(simd, part);
            let [v] = finish.finish(simd, [v], [i * n + j * lanes], part.len());
            F::store_partial(simd, part, v);
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
    /// Where in C the tile begins.
    c_start: usize,
    depth: usize,
    accumulate: bool,
}

impl<F: Element> Tile<F> {
    /// All `m` rows of a panel of `width` vectors, a tile after the other downwards.
    ///
    /// # Safety
    ///
    /// `m` rows and `depth` columns of `a`, `depth` rows of `width` vectors of `b`, and `m` rows of
    /// `width` vectors of `c`, placed as the fields say, must be readable, those of `c` writable
    /// and not aliased.
    #[inline(always)]
    unsafe fn run_all<S: Simd, E: Finish<F>>(mut self, simd: S, m: usize, width: usize, finish: E) {
        // Rows in even shares: thirteen as 5 + 4 + 4 keeps more sums in flight than 6 + 6 + 1.
        let count = if width <= 2 { m.div_ceil(6) } else { m.div_ceil(3) };
        let (height, higher) = (m / count, m % count);
        // SAFETY: the caller's promise; the two runs together have m rows.
        unsafe {
            self.run(simd, height + 1, width, higher, finish);
            self.go_down(higher * (height + 1));
            self.run(simd, height, width, count - higher, finish);
        }
    }

    /// Moves on by `rows`.
    #[inline(always)]
    fn go_down(&mut self, rows: usize) {
        self.a = self.a.wrapping_add(rows * self.a_row);
        self.c = self.c.wrapping_add(rows * self.c_row);
        self.c_start += rows * self.c_row;
    }

    /// `count` tiles of `height` rows.
    ///
    /// # Safety
    ///
    /// As for [`run_all`](Self::run_all), with `count * height` rows.
    #[inline(always)]
    unsafe fn run<S: Simd, E: Finish<F>>(
        self,
        simd: S,
        height: usize,
        width: usize,
        count: usize,
        finish: E,
    ) {
        let tile = self;
        if count == 0 {
            return;
        }
        macro_rules! tiles {
            ($(($height:literal, $width:literal, $sets:literal)),*) => {
                match (height, width) {
                    $(($height, $width) => simd.vectorize(
                        Tiles::<F, E, $height, $width, $sets> { tile, count, finish }
                    ),)*
                    _ => unreachable!("no tile of {height} x {width}"),
                }
            };
        }
        tiles!(
            (1, 1, 4),
            (2, 1, 3),
            (3, 1, 2),
            (4, 1, 2),
            (5, 1, 1),
            (6, 1, 1),
            (1, 2, 4),
            (2, 2, 2),
            (3, 2, 1),
            (4, 2, 1),
            (5, 2, 1),
            (6, 2, 1),
            (1, 3, 3),
            (2, 3, 1),
            (3, 3, 1),
            (1, 4, 2),
            (2, 4, 1),
            (3, 4, 1)
        )
    }

    /// `HEIGHT` rows of `WIDTH` vectors, summed in `SETS` sets, of which set `s` takes the steps
    /// `s, s + SETS, ..` of `k`.
    ///
    /// # Safety
    ///
    /// As for [`run_all`](Self::run_all), with `HEIGHT` rows.
    #[inline(always)]
    unsafe fn sum<
        S: Simd,
        E: Finish<F>,
        const HEIGHT: usize,
        const WIDTH: usize,
        const SETS: usize,
    >(
        &self,
        simd: S,
        finish: E,
    ) {
        let lanes = F::lanes::<S>();
        let c_column = |j: usize| {
            if j + 1 == WIDTH { self.c_last } else { j * lanes }
        };
        let mut sums = [[[F::splat(simd, F::ZERO); WIDTH]; HEIGHT]; SETS];
        let (mut a, mut b) = (self.a, self.b);
        // SAFETY: as promised by the caller. `a` and `b` go one step beyond the last that is read,
        // without being read there.
        unsafe {
            if self.accumulate {
                for (i, sums) in sums[0].iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = read(simd, self.c.add(i * self.c_row + c_column(j)));
                    }
                }
            }
            for _ in 0..self.depth / SETS {
                for set in &mut sums {
                    self.step(simd, a, b, set);
                    a = a.wrapping_add(self.a_column);
                    b = b.wrapping_add(self.b_row);
                }
            }
            for _ in 0..self.depth % SETS {
                self.step(simd, a, b, &mut sums[0]);
                a = a.wrapping_add(self.a_column);
                b = b.wrapping_add(self.b_row);
            }
            let mut total = sums[0];
            for other in &sums[1..] {
                for (total, &other) in total.iter_mut().zip(other) {
                    *total = each_pair(
                        *total,
                        other,
                        #[inline(always)]
                        |x, y| F::plus(simd, x, y),
                    );
                }
            }
            for (i, &total) in total.iter().enumerate() {
                let mut at = [0; WIDTH];
                for (j, at) in at.iter_mut().enumerate() {
                    *at = self.c_start + i * self.c_row + c_column(j);
                }
                let total = finish.finish(simd, total, at, lanes);
                for (j, v) in total.into_iter().enumerate() {
                    let to = self.c.add(i * self.c_row + c_column(j));
                    to.cast::<F::Vector<S>>().write_unaligned(v);
                }
            }
        }
    }

    /// One step of `k`: `sums += ` a column of A times a row of B.
    ///
    /// # Safety
    ///
    /// As for [`sum`](Self::sum), with `a` and `b` at that step.
    #[inline(always)]
    unsafe fn step<S: Simd, const HEIGHT: usize, const WIDTH: usize>(
        &self,
        simd: S,
        a: *const F,
        b: *const F,
        sums: &mut [[F::Vector<S>; WIDTH]; HEIGHT],
    ) {
        let lanes = F::lanes::<S>();
        let mut row = [F::splat(simd, F::ZERO); WIDTH];
        for (j, y) in row.iter_mut().enumerate() {
            let column = if j + 1 == WIDTH { self.b_last } else { j * lanes };
            // SAFETY: the caller's promise.
            *y = unsafe { read(simd, b.add(column)) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let x = F::splat(simd, unsafe { *a.add(i * self.a_row) });
            for (sum, &y) in sums.iter_mut().zip(&row) {
                *sum = F::mul_add(simd, x, y, *sum);
            }
        }
    }
}

/// Tiles of a size known to the compiler, in a function of their own. Only [`Tile::run`] makes one,
/// and hands its obligations on.
struct Tiles<F, E, const HEIGHT: usize, const WIDTH: usize, const SETS: usize> {
    tile: Tile<F>,
    count: usize,
    finish: E,
}

impl<F: Element, E: Finish<F>, const HEIGHT: usize, const WIDTH: usize, const SETS: usize> WithSimd
    for Tiles<F, E, HEIGHT, WIDTH, SETS>
{
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for _ in 0..self.count {
            // SAFETY: as promised to `Tile::run`.
            unsafe { self.tile.sum::<S, E, HEIGHT, WIDTH, SETS>(simd, self.finish) };
            self.tile.go_down(HEIGHT);
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
    use super::super::transpose::transpose;
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
