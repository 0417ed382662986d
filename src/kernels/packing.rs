//! The right side of a matrix product, copied into the order in which the product reads it.
//!
//! B is read in panels as wide as a tile of C. Where B is reused often enough, or is needed
//! transposed, it is [`Packed`]: copied panel by panel, aligned, so that a panel is contiguous.
//!
//! Widths that are no multiple of the vector: the last vector of a row ends at the row's end and
//! overlaps the one before, which belongs to the same panel (a narrow panel comes first, never
//! last). The shared columns are computed twice alike, and no masked store is needed. Rows shorter
//! than one vector stay row-major.

use super::element::Element;
use super::simd::dispatch;
use super::threads::{for_each, parts_of_elements};
use super::transpose::{transpose, transpose_block};
use pulp::{Simd, WithSimd};
use std::marker::PhantomData;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
/// Below this many elements B fits the first-level cache, and packing does not pay.
pub(super) const MIN_PACKED: usize = 4096;

/// Vectors side by side in a tile, for a product with `m` rows.
#[inline(always)]
pub(super) fn panel_for(m: usize) -> usize {
    if m <= 3 { 4 } else { 2 }
}

/// How the columns of C and B are divided: into vectors, and the vectors into panels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    n: usize,
    lanes: usize,
    /// Vectors across a row; the last one may overlap.
    pub vectors: usize,
    /// Vectors in a panel, a power of two. The first panel has the remainder, so that the
    /// overlapping vector is never alone.
    panel: usize,
}

impl Columns {
    #[inline(always)]
    pub fn new(n: usize, lanes: usize, panel: usize) -> Self {
        Self { n, lanes, vectors: n.div_ceil(lanes), panel }
    }

    /// The vectors of the panel that begins at vector `j`.
    #[inline(always)]
    pub fn width(self, j: usize) -> usize {
        let remainder = self.vectors & (self.panel - 1);
        if j == 0 && remainder != 0 { remainder } else { self.panel }
    }

    /// The first column of vector `j`.
    #[inline(always)]
    pub fn offset(self, j: usize) -> usize {
        (j * self.lanes).min(self.n - self.lanes)
    }
}

/// The right side of a product, copied into panels. Reuse one to reuse its memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed<F> {
    memory: Vec<F>,
    start: usize,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) panel: usize,
    pub(super) lanes: usize,
}

impl<F: Element> Packed<F> {
    /// Empty, without memory.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Packs `b` (k, n), row-major, for products with `m` rows. Cost: `k n` elements read and
    /// written. Panics when `b` is not (k, n).
    pub(super) fn pack(&mut self, b: &[F], k: usize, n: usize, m: usize) {
        self.fill(b, k, n, panel_for(m), false);
    }

    /// Packs the transpose of `b` (n, k), otherwise as [`pack`](Self::pack).
    pub(super) fn pack_transposed(&mut self, b: &[F], k: usize, n: usize, m: usize) {
        self.fill(b, k, n, panel_for(m), true);
    }

    fn fill(&mut self, b: &[F], k: usize, n: usize, panel: usize, transposed: bool) {
        assert_eq!(Some(b.len()), k.checked_mul(n), "b is not k x n");
        let lanes = dispatch(Lanes(PhantomData::<F>));
        (self.k, self.n, self.panel, self.lanes) = (k, n, panel, lanes);
        if n < lanes {
            let out = self.reserve(k * n);
            return match transposed {
                true => transpose(b, n, k, out),
                false => out.copy_from_slice(b),
            };
        }
        let columns = Columns::new(n, lanes, panel);
        let panels = columns.vectors.div_ceil(panel);
        let out = self.reserve(k * columns.vectors * lanes);
        let parts = parts_of_elements(b.len()).min(panels);
        if parts == 1 {
            return dispatch(Pack { b, k, columns, first: 0, out, transposed });
        }
        // The first panel may be narrower, so that parts begin at its width and whole panels after it.
        let mut rest = out;
        let starts = (0..parts).map(|part| match part * panels / parts {
            0 => 0,
            whole => columns.width(0) + (whole - 1) * panel,
        });
        let ends = starts.clone().skip(1).chain([columns.vectors]);
        let share = |(first, end): (usize, usize)| {
            let out = rest.split_off_mut(..(end - first) * lanes * k).expect("out has all vectors");
            Pack { b, k, columns, first, out, transposed }
        };
        for_each(starts.zip(ends).map(share).collect(), dispatch);
    }

    /// Makes room for `length` elements, beginning at a cache line.
    fn reserve(&mut self, length: usize) -> &mut [F] {
        let slack = LINE / size_of::<F>();
        if self.memory.len() < length + slack {
            self.memory.resize(length + slack, F::ZERO);
        }
        // `align_offset` may fail; the kernels need alignment for speed only.
        self.start = self.memory.as_ptr().align_offset(LINE).min(slack);
        &mut self.memory[self.start..][..length]
    }

    #[inline(always)]
    pub(super) fn data(&self) -> &[F] {
        &self.memory[self.start..]
    }
}

/// The elements of a vector of the instruction set.
struct Lanes<F>(PhantomData<F>);

impl<F: Element> WithSimd for Lanes<F> {
    type Output = usize;
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        F::lanes::<S>()
    }
}

/// The panels in `out`, from vector `first` on.
struct Pack<'a, F> {
    b: &'a [F],
    k: usize,
    columns: Columns,
    first: usize,
    out: &'a mut [F],
    transposed: bool,
}

impl<F: Element> WithSimd for Pack<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { b, k, columns, first, out, transposed } = self;
        // The same, known when this is compiled.
        let (n, lanes) = (columns.n, F::lanes::<S>());
        let columns = Columns { lanes, ..columns };
        if k == 0 {
            return;
        }
        // As many rows at a time as fit the first-level cache, so that memory is read from front to
        // back. A transpose reads whole rows anyway.
        let height = if transposed { k } else { (MIN_PACKED / n).max(8) };
        for row in (0..k).step_by(height) {
            let (mut j, mut at) = (first, 0);
            while at < out.len() {
                let width = columns.width(j);
                let panel = &mut out[at..][..width * lanes * k];
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
                at += panel.len();
                j += width;
            }
        }
    }
}
