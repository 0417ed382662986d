//! Operations of x86-64 that pulp does not have portably: transposes of tiles in registers.

use pulp::Simd;
use pulp::x86::{V3, V4};
use std::any::Any;
use std::arch::x86_64::{__m128, __m128d, __m256, __m256d};

/// The token for AVX, if `simd` includes it. Evaluated when the code is compiled for `S`.
#[inline(always)]
pub(super) fn avx<S: Simd>(simd: S) -> Option<V3> {
    let simd: &dyn Any = &simd;
    simd.downcast_ref::<V3>().copied().or_else(|| simd.downcast_ref::<V4>().map(|v4| **v4))
}

/// Rows `i` and `i + 4` of four columns meet in one register; a transpose within each half then
/// finishes two columns of four at once.
///
/// # Safety
///
/// Eight rows of four must be readable, four rows of eight writable.
#[inline(always)]
pub(super) unsafe fn tile_f32(
    simd: V3,
    from: *const f32,
    from_row: usize,
    to: *mut f32,
    to_row: usize,
) {
    let avx = simd.avx;
    // Few different offsets, so that all are in registers.
    let half = from.wrapping_add(4 * from_row);
    let mut pairs = [avx._mm256_setzero_ps(); 4];
    for (i, pair) in pairs.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe {
            let low = from.add(i * from_row).cast::<__m128>();
            let high = half.add(i * from_row).cast::<__m128>();
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
pub(super) unsafe fn tile_f64(
    simd: V3,
    from: *const f64,
    from_row: usize,
    to: *mut f64,
    to_row: usize,
) {
    let avx = simd.avx;
    // Few different offsets, so that all are in registers.
    let half = from.wrapping_add(2 * from_row);
    let mut pairs = [avx._mm256_setzero_pd(); 2];
    for (i, pair) in pairs.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe {
            let low = from.add(i * from_row).cast::<__m128d>();
            let high = half.add(i * from_row).cast::<__m128d>();
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
