//! f32 and f64 vectors behind one trait, so that each kernel is written once.
//!
//! [pulp](https://docs.rs/pulp) offers the operations per type (`mul_add_f32s`, `mul_add_f64s`) and
//! generic over the instruction set; [`Element`] makes them generic over the type as well.
//! Functions here are `inline(always)`: outside a function compiled for the instruction set (which
//! `dispatch` enters) the intrinsics would be calls.

use pulp::{Arch, Simd, WithSimd};
use std::sync::OnceLock;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A floating-point type that the kernels work on: `f32` or `f64`.
///
/// The vector operations are an implementation detail of this crate's kernels; code outside needs
/// only the bound `F: Element`.
pub trait Element:
    sealed::Sealed
    + Copy
    + Default
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + std::fmt::Display
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::SubAssign
    + std::ops::MulAssign
    + 'static
{
    /// As many elements as the instruction set `S` holds in one register.
    type Vector<S: Simd>: Copy;

    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// -infinity.
    const NEGATIVE_INFINITY: Self;
    /// The constants of [`math`](super::math).
    const EXP: ExpConstants<Self>;

    /// Rows and columns of [`transpose_tile`](Element::transpose_tile).
    #[cfg(target_arch = "x86_64")]
    const TILE: (usize, usize);

    /// The nearest value to `x`.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// The square root.
    fn square_root(self) -> Self;

    /// Elements in one vector.
    fn lanes<S: Simd>() -> usize;
    /// `x` in every lane.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// The first elements of `x`. Panics when there are too few.
    fn load<S: Simd>(simd: S, x: &[Self]) -> Self::Vector<S>;
    /// All of `x`, followed by zeros. Slower than [`load`](Element::load).
    fn load_partial<S: Simd>(simd: S, x: &[Self]) -> Self::Vector<S>;
    /// Writes the first elements of `x`. Panics when there are too few.
    fn store<S: Simd>(simd: S, x: &mut [Self], v: Self::Vector<S>);
    /// Writes all of `x` from the first lanes of `v`. Slower than [`store`](Element::store).
    fn store_partial<S: Simd>(simd: S, x: &mut [Self], v: Self::Vector<S>);
    /// `a + b`.
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a - b`.
    fn minus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a * b`.
    fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a / b`.
    fn over<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a * b + c`, rounded once where the instruction set can, else twice.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// `c - a * b`, rounded once where the instruction set can, else twice.
    fn negative_mul_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// `|a|`.
    fn magnitude<S: Simd>(simd: S, a: Self::Vector<S>) -> Self::Vector<S>;
    /// `size`, which is not negative, with the sign of `sign`.
    fn copy_sign<S: Simd>(simd: S, size: Self::Vector<S>, sign: Self::Vector<S>)
    -> Self::Vector<S>;
    /// The larger; either one when one is NaN.
    fn max<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// The smaller; either one when one is NaN.
    fn min<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `yes` where `a > b`, else (also where either is NaN) `no`.
    fn where_greater<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        yes: Self::Vector<S>,
        no: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// `low` where `x < low`, else `x`: a lower limit that never hides a NaN in `x`.
    #[inline(always)]
    fn at_least<S: Simd>(simd: S, x: Self::Vector<S>, low: Self::Vector<S>) -> Self::Vector<S> {
        if takes_the_second(simd) {
            return Self::max(simd, low, x);
        }
        Self::where_greater(simd, low, x, low, x)
    }
    /// `high` where `x > high`, else `x`: an upper limit that never hides a NaN in `x`.
    #[inline(always)]
    fn at_most<S: Simd>(simd: S, x: Self::Vector<S>, high: Self::Vector<S>) -> Self::Vector<S> {
        if takes_the_second(simd) {
            return Self::min(simd, high, x);
        }
        Self::where_greater(simd, x, high, high, x)
    }
    /// `v` with the first `count` lanes set to zero.
    fn clear_first<S: Simd>(simd: S, v: Self::Vector<S>, count: usize) -> Self::Vector<S>;
    /// The sum of the lanes.
    fn reduce_sum<S: Simd>(simd: S, v: Self::Vector<S>) -> Self;
    /// The largest lane; any lane when one is NaN.
    fn reduce_max<S: Simd>(simd: S, v: Self::Vector<S>) -> Self;
    /// `2^k` from `k + EXP.round`: the integer `k` then stands in the low bits, and shifted up it
    /// is an exponent. `k` must be a normal exponent.
    fn power_of_two<S: Simd>(simd: S, rounded: Self::Vector<S>) -> Self::Vector<S>;
    /// Transposes [`TILE`](Element::TILE) elements of a matrix with rows `from_row` apart into one
    /// with rows `to_row` apart.
    ///
    /// # Safety
    ///
    /// The tile must be readable, and its transpose writable.
    #[cfg(target_arch = "x86_64")]
    unsafe fn transpose_tile(
        simd: pulp::x86::V3,
        from: *const Self,
        from_row: usize,
        to: *mut Self,
        to_row: usize,
    );
}

/// What [`math`](super::math) needs to know about a type.
#[derive(Debug)]
pub struct ExpConstants<F: 'static> {
    /// `exp` is 0 below the first and infinite above the second.
    pub range: (F, F),
    /// `tanh` rounds to 1 above.
    pub tanh_one: F,
    /// `log2(e)`.
    pub log2_e: F,
    /// `ln 2 = high + low`, where `k * high` is exact for every exponent `k`.
    pub ln_2: (F, F),
    /// `1.5 * 2^p`, `p` being the bits of the fraction: added to a number, it rounds the number to
    /// an integer.
    pub round: F,
    /// `1/k!` from the highest power down to `1/2!`: `exp(r) = 1 + r + r^2 (1/2! + r/3! + ...)`.
    /// Enough terms that what is left out stays below a quarter ulp for `|r| <= ln(2) / 2`.
    pub taylor: &'static [F],
}

/// No instruction set has more elements in a register (AVX-512, f32).
const WIDEST: usize = 16;

macro_rules! implement {
    ($f:ident, $bits:ident, $lanes:ident, $vectors:ident, $fraction_bits:literal, $exp:expr, $tile:expr, $transpose_tile:ident,
     $splat:ident, $splat_bits:ident, $as_simd:ident, $as_mut_simd:ident,
     $add:ident, $sub:ident, $mul:ident, $div:ident, $mul_add:ident, $negative_mul_add:ident,
     $and:ident, $or:ident, $not:ident, $max:ident, $min:ident, $greater:ident, $select:ident, $mask:ident,
     $reduce_sum:ident, $reduce_max:ident, $to_bits:ident, $from_bits:ident, $mul_bits:ident, $add_bits:ident) => {
        impl Element for $f {
            type Vector<S: Simd> = S::$vectors;

            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEGATIVE_INFINITY: Self = $f::NEG_INFINITY;
            const EXP: ExpConstants<Self> = $exp;
            #[cfg(target_arch = "x86_64")]
            const TILE: (usize, usize) = $tile;

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn transpose_tile(
                simd: pulp::x86::V3,
                from: *const Self,
                from_row: usize,
                to: *mut Self,
                to_row: usize,
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::transpose::x86::$transpose_tile(simd, from, from_row, to, to_row) }
            }

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $f
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn square_root(self) -> Self {
                self.sqrt()
            }

            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$lanes
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S> {
                simd.$splat(x)
            }
            #[inline(always)]
            fn load<S: Simd>(_: S, x: &[Self]) -> Self::Vector<S> {
                S::$as_simd(x).0[0]
            }
            #[inline(always)]
            fn load_partial<S: Simd>(simd: S, x: &[Self]) -> Self::Vector<S> {
                let mut padded = [0.0; WIDEST];
                padded[..x.len()].copy_from_slice(x);
                Self::load(simd, &padded)
            }
            #[inline(always)]
            fn store<S: Simd>(_: S, x: &mut [Self], v: Self::Vector<S>) {
                S::$as_mut_simd(x).0[0] = v;
            }
            #[inline(always)]
            fn store_partial<S: Simd>(simd: S, x: &mut [Self], v: Self::Vector<S>) {
                let mut padded = [0.0; WIDEST];
                Self::store(simd, &mut padded, v);
                x.copy_from_slice(&padded[..x.len()]);
            }
            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn over<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$div(a, b)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(
                simd: S,
                a: Self::Vector<S>,
                b: Self::Vector<S>,
                c: Self::Vector<S>,
            ) -> Self::Vector<S> {
                simd.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn negative_mul_add<S: Simd>(
                simd: S,
                a: Self::Vector<S>,
                b: Self::Vector<S>,
                c: Self::Vector<S>,
            ) -> Self::Vector<S> {
                simd.$negative_mul_add(a, b, c)
            }
            #[inline(always)]
            fn magnitude<S: Simd>(simd: S, a: Self::Vector<S>) -> Self::Vector<S> {
                simd.$and(a, simd.$not(simd.$splat(-0.0)))
            }
            #[inline(always)]
            fn copy_sign<S: Simd>(
                simd: S,
                size: Self::Vector<S>,
                sign: Self::Vector<S>,
            ) -> Self::Vector<S> {
                simd.$or(size, simd.$and(sign, simd.$splat(-0.0)))
            }
            #[inline(always)]
            fn max<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$max(a, b)
            }
            #[inline(always)]
            fn min<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S> {
                simd.$min(a, b)
            }
            #[inline(always)]
            fn where_greater<S: Simd>(
                simd: S,
                a: Self::Vector<S>,
                b: Self::Vector<S>,
                yes: Self::Vector<S>,
                no: Self::Vector<S>,
            ) -> Self::Vector<S> {
                simd.$select(simd.$greater(a, b), yes, no)
            }
            #[inline(always)]
            fn clear_first<S: Simd>(simd: S, v: Self::Vector<S>, count: usize) -> Self::Vector<S> {
                let first = simd.$mask(0, count as $bits).mask();
                simd.$select(first, simd.$splat(0.0), v)
            }
            #[inline(always)]
            fn reduce_sum<S: Simd>(simd: S, v: Self::Vector<S>) -> Self {
                simd.$reduce_sum(v)
            }
            #[inline(always)]
            fn reduce_max<S: Simd>(simd: S, v: Self::Vector<S>) -> Self {
                simd.$reduce_max(v)
            }
            #[inline(always)]
            fn power_of_two<S: Simd>(simd: S, rounded: Self::Vector<S>) -> Self::Vector<S> {
                // A product with a power of two is a shift, and compiles to one; pulp has no shift
                // for u64.
                let exponent =
                    simd.$mul_bits(simd.$to_bits(rounded), simd.$splat_bits(1 << $fraction_bits));
                simd.$from_bits(simd.$add_bits(exponent, simd.$splat_bits((1.0 as $f).to_bits())))
            }
        }
    };
}

#[rustfmt::skip]
implement!(
    f32, u32, F32_LANES, f32s, 23,
    ExpConstants {
        range: (-104.0, 89.0),
        tanh_one: 10.0,
        log2_e: std::f32::consts::LOG2_E,
        // 355/512 has nine bits, so its product with an exponent is exact; the rest of ln 2 is
        // below it.
        ln_2: (0.693_359_4, -2.121_944_4e-4),
        round: 12_582_912.0,
        taylor: &[1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5],
    },
    (8, 4), tile_f32,
    splat_f32s, splat_u32s, as_simd_f32s, as_mut_simd_f32s,
    add_f32s, sub_f32s, mul_f32s, div_f32s, mul_add_e_f32s, negate_mul_add_e_f32s,
    and_f32s, or_f32s, not_f32s, max_f32s, min_f32s, greater_than_f32s, select_f32s, mask_between_m32s,
    reduce_sum_f32s, reduce_max_f32s, transmute_u32s_f32s, transmute_f32s_u32s, mul_u32s, add_u32s
);

#[rustfmt::skip]
implement!(
    f64, u64, F64_LANES, f64s, 52,
    ExpConstants {
        range: (-746.0, 710.0),
        tanh_one: 20.0,
        log2_e: std::f64::consts::LOG2_E,
        // The split of fdlibm's e_exp.c: the last 21 bits of the first part are zero.
        ln_2: (6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10),
        round: 6755399441055744.0,
        taylor: &[
            1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
            1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5,
        ],
    },
    (4, 2), tile_f64,
    splat_f64s, splat_u64s, as_simd_f64s, as_mut_simd_f64s,
    add_f64s, sub_f64s, mul_f64s, div_f64s, mul_add_e_f64s, negate_mul_add_e_f64s,
    and_f64s, or_f64s, not_f64s, max_f64s, min_f64s, greater_than_f64s, select_f64s, mask_between_m64s,
    reduce_sum_f64s, reduce_max_f64s, transmute_u64s_f64s, transmute_f64s_u64s, mul_u64s, add_u64s
);

/// Whether the minimum and maximum instructions of `S` give their second operand where either is
/// NaN, as x86-64's do: a limit in the first then never hides a NaN in the second. Decided when the
/// code is compiled for `S`.
#[inline(always)]
fn takes_the_second<S: Simd>(simd: S) -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::transpose::x86::avx(simd).is_some();
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = simd;
        false
    }
}

/// `f` of each. As `array::map`, which does not promise to be inlined.
#[inline(always)]
pub(crate) fn each<V: Copy, const N: usize>(mut x: [V; N], f: impl Fn(V) -> V) -> [V; N] {
    for x in &mut x {
        *x = f(*x);
    }
    x
}

/// `f` of each pair.
#[inline(always)]
pub(crate) fn each_pair<V: Copy, const N: usize>(
    mut x: [V; N],
    y: [V; N],
    f: impl Fn(V, V) -> V,
) -> [V; N] {
    for (x, y) in x.iter_mut().zip(y) {
        *x = f(*x, y);
    }
    x
}

/// Runs `op` compiled for the best instruction set of this machine.
#[inline(always)]
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    arch().dispatch(op)
}

/// Detection asks the processor a dozen questions; a training step at `n = 50` enters a dozen
/// kernels in five microseconds. So it is asked once.
#[inline(always)]
fn arch() -> Arch {
    #[cfg(test)]
    if tests::SCALAR.get() {
        return Arch::Scalar;
    }
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(Arch::new)
}

/// `x[i] = f(x[i])`, a vector at a time, for an `f` that works lane by lane.
///
/// Masked stores are slow (20 cycles on Zen 4), so when the length is no multiple of the vector,
/// the last vector overlaps the one before. It is loaded before anything is stored: the shared
/// elements are then computed twice from the same input, and written twice with the same value.
#[inline(always)]
pub(crate) fn map<F: Element, S: Simd>(
    simd: S,
    x: &mut [F],
    f: impl Fn(F::Vector<S>) -> F::Vector<S>,
) {
    let lanes = F::lanes::<S>();
    if x.len() < lanes {
        let v = F::load_partial(simd, x);
        F::store_partial(simd, x, f(v));
        return;
    }
    let tail = x.len() - lanes;
    let v = F::load(simd, &x[tail..]);
    for chunk in x.chunks_exact_mut(lanes) {
        let v = F::load(simd, chunk);
        F::store(simd, chunk, f(v));
    }
    if !x.len().is_multiple_of(lanes) {
        F::store(simd, &mut x[tail..], f(v));
    }
}

/// `x[i] = f(x[i], y[i])`; see [`map`].
#[inline(always)]
pub(crate) fn zip<F: Element, S: Simd>(
    simd: S,
    x: &mut [F],
    y: &[F],
    f: impl Fn(F::Vector<S>, F::Vector<S>) -> F::Vector<S>,
) {
    assert_eq!(x.len(), y.len());
    let lanes = F::lanes::<S>();
    if x.len() < lanes {
        let v = F::load_partial(simd, x);
        F::store_partial(simd, x, f(v, F::load_partial(simd, y)));
        return;
    }
    let tail = x.len() - lanes;
    let v = F::load(simd, &x[tail..]);
    for (x, y) in x.chunks_exact_mut(lanes).zip(y.chunks_exact(lanes)) {
        let v = F::load(simd, x);
        F::store(simd, x, f(v, F::load(simd, y)));
    }
    if !x.len().is_multiple_of(lanes) {
        F::store(simd, &mut x[tail..], f(v, F::load(simd, &y[tail..])));
    }
}

/// `to[i] = f(x[i], y[i])`; see [`map`].
#[inline(always)]
pub(crate) fn zip_into<F: Element, S: Simd>(
    simd: S,
    to: &mut [F],
    x: &[F],
    y: &[F],
    f: impl Fn(F::Vector<S>, F::Vector<S>) -> F::Vector<S>,
) {
    assert!(to.len() == x.len() && to.len() == y.len());
    let lanes = F::lanes::<S>();
    if to.len() < lanes {
        let v = f(F::load_partial(simd, x), F::load_partial(simd, y));
        F::store_partial(simd, to, v);
        return;
    }
    for at in (0..to.len()).step_by(lanes) {
        let at = at.min(to.len() - lanes);
        let v = f(F::load(simd, &x[at..]), F::load(simd, &y[at..]));
        F::store(simd, &mut to[at..], v);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Makes [`dispatch`] take the plain path in this thread.
        pub(super) static SCALAR: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `test` on the machine's best instruction set and then on the plain path.
    pub(crate) fn on_every_path(test: impl Fn()) {
        test();
        SCALAR.set(true);
        test();
        SCALAR.set(false);
    }

    /// Numbers in -1..1 that look random, the same on every run.
    pub(crate) fn noise<F: Element>(count: usize, seed: u64) -> Vec<F> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                F::from_f64((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
            })
            .collect()
    }

    /// Fails unless every element agrees within `bound`, absolutely and relatively.
    #[track_caller]
    pub(crate) fn assert_close<F: Element>(what: &str, got: &[F], want: &[F], bound: f64) {
        assert_eq!(got.len(), want.len(), "{what}: length");
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let (g, w) = (g.to_f64(), w.to_f64());
            assert!((g - w).abs() <= bound * (1.0 + w.abs()), "{what}[{i}]: {g} instead of {w}");
        }
    }

    /// The bound for [`assert_close`] after a sum of about a thousand terms.
    pub(crate) fn tolerance<F: Element>() -> f64 {
        if size_of::<F>() == 4 { 2e-5 } else { 1e-13 }
    }

    struct Apply<'a, F>(&'a mut [F], &'a [F]);
    impl<F: Element> WithSimd for Apply<'_, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            map(simd, self.0, |v| F::plus(simd, v, F::splat(simd, F::ONE)));
            zip(simd, self.0, self.1, |v, w| F::times(simd, v, w));
        }
    }

    fn map_and_zip_touch_each_element_once<F: Element>() {
        for length in (0..70).chain([257, 1000]) {
            let (x, y) = (noise::<F>(length, 1), noise::<F>(length, 2));
            let mut got = x.clone();
            dispatch(Apply(&mut got, &y));
            let want: Vec<F> = x.iter().zip(&y).map(|(&x, &y)| (x + F::ONE) * y).collect();
            assert_eq!(got, want, "length {length}");
        }
    }

    #[test]
    fn map_and_zip_touch_each_element_once_whatever_the_length() {
        on_every_path(map_and_zip_touch_each_element_once::<f32>);
        on_every_path(map_and_zip_touch_each_element_once::<f64>);
    }
}
