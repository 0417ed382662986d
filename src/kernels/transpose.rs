//! Transposition: of `waa` and `wya` to read along rows, of `wax` to make a character a row.
//!
//! The portable vector operations have no shuffles. On x86-64 with AVX a tile of eight by four
//! (f32; four by two for f64) is transposed in registers; elsewhere scalar loops do it, with which an
//! iteration of the notebook takes 1.2 times as long.

use super::element::Element;
use super::simd::dispatch;
#[cfg(target_arch = "x86_64")]
use super::x86;
use pulp::{Simd, WithSimd};

/// `to[j * to_row + i] = from[i * from_row + j]` for `i < rows`, `j < columns`.
#[inline(always)]
pub(super) fn transpose_block<F: Element, S: Simd>(
    simd: S,
    from: &[F],
    from_row: usize,
    to: &mut [F],
    to_row: usize,
    rows: usize,
    columns: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if rows >= tile::<F>().0
        && columns >= tile::<F>().1
        && let Some(simd) = x86::avx(simd)
    {
        return transpose_tiles(simd, from, from_row, to, to_row, rows, columns);
    }
    let _ = simd;
    for i in 0..rows {
        let row = &from[i * from_row..][..columns];
        for (j, &x) in row.iter().enumerate() {
            to[j * to_row + i] = x;
        }
    }
}

/// Rows and columns of a tile.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn tile<F: Element>() -> (usize, usize) {
    if size_of::<F>() == 4 { (8, 4) } else { (4, 2) }
}

/// [`transpose_block`] for at least one tile. At the edges tiles overlap and write the same twice.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_tiles<F: Element>(
    simd: pulp::x86::V3,
    from: &[F],
    from_row: usize,
    to: &mut [F],
    to_row: usize,
    rows: usize,
    columns: usize,
) {
    // Checked once: checks for every row of every tile would take longer than the shuffles.
    let end = |rows: usize, row: usize, columns: usize| {
        (rows - 1).checked_mul(row).and_then(|start| start.checked_add(columns))
    };
    let fits = |end: Option<usize>, length: usize| end.is_some_and(|end| end <= length);
    assert!(fits(end(rows, from_row, columns), from.len()), "from is smaller than rows x columns");
    assert!(fits(end(columns, to_row, rows), to.len()), "to is smaller than columns x rows");
    let (height, width) = tile::<F>();
    for i in (0..rows).step_by(height) {
        let i = i.min(rows - height);
        for j in (0..columns).step_by(width) {
            let j = j.min(columns - width);
            // SAFETY: i + height <= rows and j + width <= columns, so the tile is inside the
            // lengths asserted above. Elements have four bytes (f32) or eight (f64), and are moved
            // as bits.
            unsafe {
                let from = from.as_ptr().add(i * from_row + j);
                let to = to.as_mut_ptr().add(j * to_row + i);
                if size_of::<F>() == 4 {
                    x86::tile_f32(simd, from.cast(), from_row, to.cast(), to_row);
                } else {
                    x86::tile_f64(simd, from.cast(), from_row, to.cast(), to_row);
                }
            }
        }
    }
}

struct Transpose<'a, F> {
    from: &'a [F],
    rows: usize,
    columns: usize,
    to: &'a mut [F],
    to_row: usize,
}
impl<F: Element> WithSimd for Transpose<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { from, rows, columns, to, to_row } = self;
        transpose_block(simd, from, columns, to, to_row, rows, columns);
    }
}

/// `to` (columns, rows) = the transpose of `from` (rows, columns). Cost: every element read and
/// written once.
pub(crate) fn transpose<F: Element>(from: &[F], rows: usize, columns: usize, to: &mut [F]) {
    assert_eq!(Some(from.len()), rows.checked_mul(columns), "from is not rows x columns");
    assert_eq!(to.len(), from.len(), "to is not columns x rows");
    transpose_padded(from, rows, columns, to, rows);
}

/// The same where the rows of `to` are `to_row` elements apart.
pub(super) fn transpose_padded<F: Element>(
    from: &[F],
    rows: usize,
    columns: usize,
    to: &mut [F],
    to_row: usize,
) {
    dispatch(Transpose { from, rows, columns, to, to_row });
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{noise, on_every_path};
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    #[should_panic(expected = "smaller than")]
    fn a_destination_that_is_too_small_panics() {
        transpose_padded(&[0f32; 64], 8, 8, &mut [0.; 63], 8);
    }

    fn check<F: Element>() {
        for rows in (1..20).chain([50, 64]) {
            for columns in (1..20).chain([27, 50]) {
                let x = noise::<F>(rows * columns, 1);
                let mut y = vec![F::ZERO; rows * columns];
                transpose(&x, rows, columns, &mut y);
                for i in 0..rows {
                    for j in 0..columns {
                        assert_eq!(y[j * rows + i], x[i * columns + j], "{rows} x {columns}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_become_columns_for_every_shape() {
        on_every_path(check::<f32>);
        on_every_path(check::<f64>);
    }
}
