//! Transposing, which every sequence needs three times: `waa^T` and `wya^T` to read along rows,
//! `wax^T` to make a character a row.
//!
//! Shuffles are the one thing that the portable vector operations do not offer. On x86-64 with AVX
//! a tile of eight by four (f32; four by two for f64) is transposed in registers; elsewhere plain
//! loops do it.

use super::simd::{Element, dispatch};
use pulp::{Simd, WithSimd};

/// `to[j * to_row + i] = from[i * from_row + j]` for `i < rows`, `j < columns`.
#[inline(always)]
pub(crate) fn transpose_block<F: Element, S: Simd>(
    simd: S,
    from: &[F],
    from_row: usize,
    to: &mut [F],
    to_row: usize,
    rows: usize,
    columns: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if rows >= F::TILE.0
        && columns >= F::TILE.1
        && let Some(simd) = x86::avx(simd)
    {
        return x86::transpose_block(simd, from, from_row, to, to_row, rows, columns);
    }
    let _ = simd;
    for i in 0..rows {
        let row = &from[i * from_row..][..columns];
        for (j, &x) in row.iter().enumerate() {
            to[j * to_row + i] = x;
        }
    }
}

/// The tiles of x86-64.
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::Element;
    use pulp::Simd;
    use pulp::x86::{V3, V4};
    use std::any::Any;
    use std::arch::x86_64::{__m128, __m128d, __m256, __m256d};

    /// The proof that AVX is there, if `simd` is one. Decided when the code is compiled for `S`.
    #[inline(always)]
    pub fn avx<S: Simd>(simd: S) -> Option<V3> {
        let simd: &dyn Any = &simd;
        simd.downcast_ref::<V3>().copied().or_else(|| simd.downcast_ref::<V4>().map(|v4| **v4))
    }

    /// As the function above, for at least one tile. At the edges tiles overlap: they write the
    /// same twice.
    #[inline(always)]
    pub fn transpose_block<F: Element>(
        simd: V3,
        from: &[F],
        from_row: usize,
        to: &mut [F],
        to_row: usize,
        rows: usize,
        columns: usize,
    ) {
        // Checked once: with a check for every row of every tile the checks would take longer than
        // the shuffles.
        assert!(
            (rows - 1) * from_row + columns <= from.len(),
            "from is smaller than rows x columns"
        );
        assert!((columns - 1) * to_row + rows <= to.len(), "to is smaller than columns x rows");
        let (height, width) = F::TILE;
        for i in (0..rows).step_by(height) {
            let i = i.min(rows - height);
            for j in (0..columns).step_by(width) {
                let j = j.min(columns - width);
                // SAFETY: i + height <= rows and j + width <= columns, so the tile lies inside what
                // was checked above.
                unsafe {
                    let from = from.as_ptr().add(i * from_row + j);
                    let to = to.as_mut_ptr().add(j * to_row + i);
                    F::transpose_tile(simd, from, from_row, to, to_row);
                }
            }
        }
    }

    /// Rows `i` and `i + 4` of four columns meet in one register; a transpose within each half then
    /// finishes two columns of four at once.
    ///
    /// # Safety
    ///
    /// Eight rows of four must be readable, four rows of eight writable.
    #[inline(always)]
    pub unsafe fn tile_f32(
        simd: V3,
        from: *const f32,
        from_row: usize,
        to: *mut f32,
        to_row: usize,
    ) {
        let avx = simd.avx;
        let mut pairs = [avx._mm256_setzero_ps(); 4];
        for (i, pair) in pairs.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let (low, high) = unsafe {
                let low = from.add(i * from_row).cast::<__m128>();
                let high = from.add((i + 4) * from_row).cast::<__m128>();
                (low.read_unaligned(), high.read_unaligned())
            };
            *pair = avx._mm256_insertf128_ps::<1>(avx._mm256_castps128_ps256(low), high);
        }
        let [a, b, c, d] = pairs;
        let (ab, cd) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (avx._mm256_unpackhi_ps(a, b), avx._mm256_unpackhi_ps(c, d));
        let columns = [
            avx._mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
            avx._mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
            avx._mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            avx._mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ];
        for (j, column) in columns.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { to.add(j * to_row).cast::<__m256>().write_unaligned(column) };
        }
    }

    /// The same with two columns of four rows.
    ///
    /// # Safety
    ///
    /// Four rows of two must be readable, two rows of four writable.
    #[inline(always)]
    pub unsafe fn tile_f64(
        simd: V3,
        from: *const f64,
        from_row: usize,
        to: *mut f64,
        to_row: usize,
    ) {
        let avx = simd.avx;
        let mut pairs = [avx._mm256_setzero_pd(); 2];
        for (i, pair) in pairs.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let (low, high) = unsafe {
                let low = from.add(i * from_row).cast::<__m128d>();
                let high = from.add((i + 2) * from_row).cast::<__m128d>();
                (low.read_unaligned(), high.read_unaligned())
            };
            *pair = avx._mm256_insertf128_pd::<1>(avx._mm256_castpd128_pd256(low), high);
        }
        let [a, b] = pairs;
        let columns = [avx._mm256_unpacklo_pd(a, b), avx._mm256_unpackhi_pd(a, b)];
        for (j, column) in columns.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { to.add(j * to_row).cast::<__m256d>().write_unaligned(column) };
        }
    }
}

struct Transpose<'a, F>(&'a [F], &'a mut [F], usize, usize);
impl<F: Element> WithSimd for Transpose<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(from, to, rows, columns) = self;
        transpose_block(simd, from, columns, to, rows, rows, columns);
    }
}

/// `to` (columns, rows) = the transpose of `from` (rows, columns). Cost: every element read and
/// written once.
///
/// # Panics
///
/// When a length is wrong.
pub fn transpose<F: Element>(from: &[F], rows: usize, columns: usize, to: &mut [F]) {
    assert_eq!(from.len(), rows * columns, "from is not rows x columns");
    assert_eq!(to.len(), rows * columns, "to is not columns x rows");
    dispatch(Transpose(from, to, rows, columns));
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{noise, on_every_path};
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    #[should_panic(expected = "smaller than")]
    fn a_destination_that_is_too_small_panics() {
        struct Short;
        impl WithSimd for Short {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let mut to = [0f32; 63];
                transpose_block(simd, &[0.0; 64], 8, &mut to, 8, 8, 8);
            }
        }
        dispatch(Short);
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
    fn rows_become_columns_whatever_the_shape() {
        on_every_path(check::<f32>);
        on_every_path(check::<f64>);
    }
}
