//! f32 and f64 vectors behind one trait, so that each kernel is written once.
//!
//! [pulp](https://docs.rs/pulp) has the operations by type (`mul_add_f32s`, `mul_add_f64s`),
//! generic over the instruction set; [`Element`] makes them generic over the type as well.
//! All are `inline(always)`: outside a function compiled for the instruction set (which
//! [`dispatch`](super::simd) enters) the intrinsics would be calls.

use pulp::Simd;
use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// Operations on vectors: declared for the trait, or defined by pulp's operation of one type.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($($x:ident),*);)*) => {$(
        $(#[$doc])*
        fn $name<S: Simd>(simd: S, $($x: Self::Vector<S>),*) -> Self::Vector<S>;
    )*};
    ($($name:ident($($x:ident),*) = $operation:ident;)*) => {$(
        #[inline(always)]
        fn $name<S: Simd>(simd: S, $($x: Self::Vector<S>),*) -> Self::Vector<S> {
            simd.$operation($($x),*)
        }
    )*};
}

/// The floating-point types of the kernels, `f32` and `f64`, and their vector operations.
pub trait Element:
    Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + Debug
    + Display
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + 'static
{
    /// As many elements as fit one register of the instruction set `S`.
    type Vector<S: Simd>: Copy;

    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// -infinity.
    const NEGATIVE_INFINITY: Self;
    /// The constants of [`math`](super::math).
    const EXP: ExpConstants<Self>;

    /// The nearest value to `x`.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// The square root.
    fn square_root(self) -> Self;

    /// Elements in one vector.
    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }
    /// `x` in every lane.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// The first elements of `x`. Panics when there are too few.
    fn load<S: Simd>(simd: S, x: &[Self]) -> Self::Vector<S>;
    /// All of `x`, followed by zeros. Slower than [`load`](Element::load).
    #[inline(always)]
    fn load_partial<S: Simd>(simd: S, x: &[Self]) -> Self::Vector<S> {
        let mut padded = [Self::ZERO; MAX_LANES];
        padded[..x.len()].copy_from_slice(x);
        Self::load(simd, &padded)
    }
    /// Overwrites the first elements of `x`. Panics when there are too few.
    fn store<S: Simd>(simd: S, x: &mut [Self], v: Self::Vector<S>);
    /// Overwrites all of `x` by the first lanes of `v`. Slower than [`store`](Element::store).
    #[inline(always)]
    fn store_partial<S: Simd>(simd: S, x: &mut [Self], v: Self::Vector<S>) {
        let mut padded = [Self::ZERO; MAX_LANES];
        Self::store(simd, &mut padded, v);
        x.copy_from_slice(&padded[..x.len()]);
    }

    operations! {
        /// `a + b`.
        plus(a, b);
        /// `a - b`.
        minus(a, b);
        /// `a * b`.
        times(a, b);
        /// `a / b`.
        over(a, b);
        /// `a * b + c`, rounded once where the instruction set can, else twice.
        mul_add(a, b, c);
        /// `c - a * b`, rounded once where the instruction set can, else twice.
        negative_mul_add(a, b, c);
        /// The larger; either one when one is NaN.
        max(a, b);
        /// The bits that are set in both.
        and(a, b);
        /// The bits that are set in either.
        or(a, b);
        /// The bits that are not set.
        not(a);
        /// `yes` where `a > b`, else (also where either is NaN) `no`.
        where_greater(a, b, yes, no);
        /// `2^k` from `k + EXP.round`, whose low bits are the integer `k`: shifted up, they are an
        /// exponent. `k` must be a normal exponent.
        power_of_two(rounded);
    }

    /// `|a|`.
    #[inline(always)]
    fn magnitude<S: Simd>(simd: S, a: Self::Vector<S>) -> Self::Vector<S> {
        Self::and(simd, a, Self::not(simd, Self::splat(simd, -Self::ZERO)))
    }
    /// `size`, which is not negative, with the sign of `sign`.
    #[inline(always)]
    fn copy_sign<S: Simd>(
        simd: S,
        size: Self::Vector<S>,
        sign: Self::Vector<S>,
    ) -> Self::Vector<S> {
        Self::or(simd, size, Self::and(simd, sign, Self::splat(simd, -Self::ZERO)))
    }
    /// `low` where `x < low`, else `x`, so that a NaN in `x` stays.
    #[inline(always)]
    fn at_least<S: Simd>(simd: S, x: Self::Vector<S>, low: Self::Vector<S>) -> Self::Vector<S> {
        Self::where_greater(simd, low, x, low, x)
    }
    /// `high` where `x > high`, else `x`, so that a NaN in `x` stays.
    #[inline(always)]
    fn at_most<S: Simd>(simd: S, x: Self::Vector<S>, high: Self::Vector<S>) -> Self::Vector<S> {
        Self::where_greater(simd, x, high, high, x)
    }
    /// `v` with the first `count` lanes set to zero.
    fn clear_first<S: Simd>(simd: S, v: Self::Vector<S>, count: usize) -> Self::Vector<S>;
    /// The sum of the lanes.
    fn reduce_sum<S: Simd>(simd: S, v: Self::Vector<S>) -> Self;
    /// The largest lane; any lane when one is NaN.
    fn reduce_max<S: Simd>(simd: S, v: Self::Vector<S>) -> Self;
}

/// The constants of `exp` and `tanh` for one type.
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
    /// `1.5 * 2^p` with `p` bits of fraction: adding it to a number rounds that to an integer.
    pub round: F,
    /// `1/k!` from the highest power down to `1/2!`: `exp(r) = 1 + r + r^2 (1/2! + r/3! + ...)`.
    /// The remainder is below a quarter ulp for `|r| <= ln(2) / 2`.
    pub taylor: &'static [F],
}

/// The most elements in a register of any instruction set (AVX-512, f32).
const MAX_LANES: usize = 16;

macro_rules! implement {
    ($f:ident, $bits:ident, $vectors:ident, $exp:expr,
     $splat:ident, $load:ident, $store:ident, $greater:ident, $select:ident, $mask:ident,
     $reduce_sum:ident, $reduce_max:ident,
     $to_bits:ident, $from_bits:ident, $splat_bits:ident, $mul_bits:ident, $add_bits:ident,
     $operations:tt) => {
        impl Element for $f {
            type Vector<S: Simd> = S::$vectors;

            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEGATIVE_INFINITY: Self = $f::NEG_INFINITY;
            const EXP: ExpConstants<Self> = $exp;

            operations! $operations

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
            fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S> {
                simd.$splat(x)
            }
            #[inline(always)]
            fn load<S: Simd>(_: S, x: &[Self]) -> Self::Vector<S> {
                S::$load(x).0[0]
            }
            #[inline(always)]
            fn store<S: Simd>(_: S, x: &mut [Self], v: Self::Vector<S>) {
                S::$store(x).0[0] = v;
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
                simd.$select(simd.$mask(0, count as $bits).mask(), simd.$splat(0.0), v)
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
                // A product with a power of two compiles to a shift; pulp has none for u64.
                let shift = simd.$splat_bits(1 << ($f::MANTISSA_DIGITS - 1));
                let exponent = simd.$mul_bits(simd.$to_bits(rounded), shift);
                simd.$from_bits(simd.$add_bits(exponent, simd.$splat_bits((1.0 as $f).to_bits())))
            }
        }
    };
}

#[rustfmt::skip]
implement!(
    f32, u32, f32s,
    ExpConstants {
        range: (-104.0, 89.0),
        tanh_one: 10.0,
        log2_e: std::f32::consts::LOG2_E,
        // 355/512 has nine bits, so its product with an exponent is exact; then the rest of ln 2.
        ln_2: (0.693_359_4, -2.121_944_4e-4),
        round: 12_582_912.0,
        taylor: &[1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5],
    },
    splat_f32s, as_simd_f32s, as_mut_simd_f32s, greater_than_f32s, select_f32s, mask_between_m32s,
    reduce_sum_f32s, reduce_max_f32s,
    transmute_u32s_f32s, transmute_f32s_u32s, splat_u32s, mul_u32s, add_u32s,
    {
        plus(a, b) = add_f32s;
        minus(a, b) = sub_f32s;
        times(a, b) = mul_f32s;
        over(a, b) = div_f32s;
        mul_add(a, b, c) = mul_add_e_f32s;
        negative_mul_add(a, b, c) = negate_mul_add_e_f32s;
        max(a, b) = max_f32s;
        and(a, b) = and_f32s;
        or(a, b) = or_f32s;
        not(a) = not_f32s;
    }
);

#[rustfmt::skip]
implement!(
    f64, u64, f64s,
    ExpConstants {
        range: (-746.0, 710.0),
        tanh_one: 20.0,
        log2_e: std::f64::consts::LOG2_E,
        // The split of fdlibm's e_exp.c: the last 21 bits of the first part are zero.
        ln_2: (6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10),
        round: 6755399441055744.0,
        taylor: &[
            1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
            1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0,
            1.0 / 6.0, 0.5,
        ],
    },
    splat_f64s, as_simd_f64s, as_mut_simd_f64s, greater_than_f64s, select_f64s, mask_between_m64s,
    reduce_sum_f64s, reduce_max_f64s,
    transmute_u64s_f64s, transmute_f64s_u64s, splat_u64s, mul_u64s, add_u64s,
    {
        plus(a, b) = add_f64s;
        minus(a, b) = sub_f64s;
        times(a, b) = mul_f64s;
        over(a, b) = div_f64s;
        mul_add(a, b, c) = mul_add_e_f64s;
        negative_mul_add(a, b, c) = negate_mul_add_e_f64s;
        max(a, b) = max_f64s;
        and(a, b) = and_f64s;
        or(a, b) = or_f64s;
        not(a) = not_f64s;
    }
);
