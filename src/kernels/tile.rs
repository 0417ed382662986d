//! Blocks of a matrix product summed in registers.
//!
//! A tile of `HEIGHT` rows by `WIDTH` vectors of C stays in registers while `k` runs: each step
//! broadcasts `HEIGHT` elements of A, loads `WIDTH` vectors of a row of B and does
//! `HEIGHT * WIDTH` multiply-adds.
//!
//! Tiles are at most 6 x 2 (twelve sums, two vectors of B and one of A fill the sixteen registers
//! of AVX2), or 3 x 4 for one to three rows. With the 32 registers of AVX-512 they are up to 12 x 2: a
//! step of 512 hidden units and 64 names, or 256 and 32, then takes 0.93 of the time.
//!
//! It takes eight independent sums to hide the latency of the multiply-add, so tiles of one or two
//! rows have several sets of sums, for every second to fourth step of `k`. Higher tiles have one: the
//! order of a sum then does not depend on the number of rows.

use super::element::Element;
use pulp::{Simd, WithSimd};

/// Bytes of a register of AVX-512.
const AVX_512: usize = 64;

/// What becomes of the finished sums, an element-wise function, while they are in registers.
pub(crate) trait Finish<F: Element>: Copy + Send + Sync {
    /// Whether the function needs C as it was. The product may then have one block of `k` only.
    const UPDATES: bool = false;

    /// The new elements of C: a function of `sums` and, with `UPDATES`, of their values `before`.
    /// Each vector begins at index `at` of C; its first `count` lanes are elements of C.
    fn finish<S: Simd, const N: usize>(
        self,
        simd: S,
        sums: [F::Vector<S>; N],
        before: [F::Vector<S>; N],
        at: [usize; N],
        count: usize,
    ) -> [F::Vector<S>; N];
}

/// The sums as they are.
#[derive(Clone, Copy)]
pub(crate) struct AsIs;

impl<F: Element> Finish<F> for AsIs {
    #[inline(always)]
    fn finish<S: Simd, const N: usize>(
        self,
        _: S,
        sums: [F::Vector<S>; N],
        _: [F::Vector<S>; N],
        _: [usize; N],
        _: usize,
    ) -> [F::Vector<S>; N] {
        sums
    }
}

/// A block of C with its share of A and B. `*_row` and `*_column` are strides.
#[derive(Clone, Copy)]
pub(super) struct Tile<F> {
    pub a: *const F,
    pub a_row: usize,
    pub a_column: usize,
    pub b: *const F,
    pub b_row: usize,
    /// Where the last vector of a row of B begins; the others are contiguous.
    pub b_last: usize,
    pub c: *mut F,
    pub c_row: usize,
    /// Where the last vector of a row of C begins.
    pub c_last: usize,
    /// The index of `c` in C.
    pub c_start: usize,
    /// Steps of `k`.
    pub depth: usize,
    /// Whether to add to C or to overwrite it.
    pub accumulate: bool,
}

impl<F: Element> Tile<F> {
    /// All `m` rows of a panel of `width` vectors, one tile below the other.
    ///
    /// # Safety
    ///
    /// `m` rows and `depth` columns of `a`, `depth` rows of `width` vectors of `b`, and `m` rows of
    /// `width` vectors of `c`, at the places that the fields give, must be readable, those of `c`
    /// writable and not aliased.
    #[inline(always)]
    pub unsafe fn run_all<S: Simd, E: Finish<F>>(
        mut self,
        simd: S,
        m: usize,
        width: usize,
        finish: E,
    ) {
        // Rows in even shares: thirteen as 5 + 4 + 4 keeps more sums in flight than 6 + 6 + 1.
        let highest = match width {
            2 if const { size_of::<F::Vector<S>>() == AVX_512 } => 12,
            1 | 2 => 6,
            _ => 3,
        };
        let count = m.div_ceil(highest);
        let (height, higher) = (m / count, m % count);
        // SAFETY: the caller's promise; the two runs together have m rows.
        unsafe {
            self.run(simd, height + 1, width, higher, finish);
            self.advance(higher * (height + 1));
            self.run(simd, height, width, count - higher, finish);
        }
    }

    /// Moves the tile down by `rows`.
    #[inline(always)]
    fn advance(&mut self, rows: usize) {
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
        // A constant, so that these are compiled for AVX-512 only.
        if const { size_of::<F::Vector<S>>() == AVX_512 } && height > 6 {
            return tiles!((7, 2, 1), (8, 2, 1), (9, 2, 1), (10, 2, 1), (11, 2, 1), (12, 2, 1));
        }
        #[rustfmt::skip]
        tiles!(
            (1, 1, 4), (2, 1, 3), (3, 1, 1), (4, 1, 1), (5, 1, 1), (6, 1, 1),
            (1, 2, 4), (2, 2, 2), (3, 2, 1), (4, 2, 1), (5, 2, 1), (6, 2, 1),
            (1, 3, 3), (2, 3, 1), (3, 3, 1),
            (1, 4, 2), (2, 4, 1), (3, 4, 1)
        );
    }

    /// `HEIGHT` rows of `WIDTH` vectors, summed in `SETS` sets; set `s` sums the steps
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
        // SAFETY: the caller's promise. `a` and `b` end one step beyond the last that is read.
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
                for (total, other) in total.iter_mut().zip(other) {
                    for (total, &other) in total.iter_mut().zip(other) {
                        *total = F::plus(simd, *total, other);
                    }
                }
            }
            for (i, &total) in total.iter().enumerate() {
                let mut at = [0; WIDTH];
                for (j, at) in at.iter_mut().enumerate() {
                    *at = self.c_start + i * self.c_row + c_column(j);
                }
                let mut before = total;
                if E::UPDATES {
                    for (j, before) in before.iter_mut().enumerate() {
                        *before = read(simd, self.c.add(i * self.c_row + c_column(j)));
                    }
                }
                let total = finish.finish(simd, total, before, at, lanes);
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

/// Tiles of one size, compiled as a function of their own. Constructed only by [`Tile::run`], whose
/// safety conditions hold for it.
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
            // SAFETY: the promise of the caller of `Tile::run`.
            unsafe { self.tile.sum::<S, E, HEIGHT, WIDTH, SETS>(simd, self.finish) };
            self.tile.advance(HEIGHT);
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
