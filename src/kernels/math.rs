//! `exp` and `tanh`, a vector at a time.
//!
//! Both reduce their argument to `x = k ln 2 + r`, `|r| <= ln(2) / 2`, and evaluate
//! `expm1(r) = r + r^2 (1/2! + r/3! + ...)`. Its error is relative to `r`, which keeps `tanh`
//! accurate for small arguments.
//!
//! Error bounds, tested below over every exponent: within 2 ulp of the true value, the f64 tanh
//! within 2.5. Measured: exp 1.08, tanh 1.68 (f32, all 2^32 arguments), 0.97 and 2.05 (f64; the
//! latter at 0.20280736674681718, which a hundred million arguments near it gave). NaN gives NaN.
//!
//! Functions take `N` vectors side by side: a vector's operations form one long dependent chain, so
//! several chains overlap, and each constant is loaded once for all.

use super::element::Element;
use pulp::Simd;

/// The value of an expression for each element of arrays, which have the same names in it.
macro_rules! each {
    ($x:ident $(, $y:ident)* => $value:expr) => {{
        let mut result = $x;
        for i in 0..N {
            let ($x, $($y),*) = ($x[i], $($y[i]),*);
            result[i] = $value;
        }
        result
    }};
}

/// `x = k ln 2 + r`. Returns `k + round` (see [`Element::power_of_two`]), `k`, and `expm1(r)`.
#[inline(always)]
#[allow(clippy::type_complexity)]
fn reduce<F: Element, S: Simd, const N: usize>(
    simd: S,
    x: [F::Vector<S>; N],
) -> ([F::Vector<S>; N], [F::Vector<S>; N], [F::Vector<S>; N]) {
    let (round, log2_e) = (F::splat(simd, F::EXP.round), F::splat(simd, F::EXP.log2_e));
    let (high, low) = (F::splat(simd, F::EXP.ln_2.0), F::splat(simd, F::EXP.ln_2.1));
    let rounded = each!(x => F::mul_add(simd, x, log2_e, round));
    let k = each!(rounded => F::minus(simd, rounded, round));
    let r = each!(x, k => F::negative_mul_add(simd, k, high, x));
    let r = each!(r, k => F::negative_mul_add(simd, k, low, r));
    // Horner's rule over pairs of terms, in r^2: half the chain, and r^2 is needed anyway.
    let square = each!(r => F::times(simd, r, r));
    let mut q = [F::splat(simd, F::ZERO); N];
    for (i, pair) in F::EXP.taylor.chunks_exact(2).enumerate() {
        let (c, d) = (F::splat(simd, pair[0]), F::splat(simd, pair[1]));
        let terms = each!(r => F::mul_add(simd, c, r, d));
        q = if i == 0 {
            terms
        } else {
            each!(q, square, terms => F::mul_add(simd, q, square, terms))
        };
    }
    (rounded, k, each!(q, square, r => F::mul_add(simd, q, square, r)))
}

/// `e^x`. Overflows to infinity, underflows through the denormals to 0.
#[inline(always)]
pub(super) fn exp<F: Element, S: Simd, const N: usize>(
    simd: S,
    x: [F::Vector<S>; N],
) -> [F::Vector<S>; N] {
    let (min, max) = (F::splat(simd, F::EXP.range.0), F::splat(simd, F::EXP.range.1));
    let x = each!(x => F::at_most(simd, F::at_least(simd, x, min), max));
    let (_, k, expm1) = reduce::<F, S, N>(simd, x);
    // 2^k in two factors, since k exceeds the normal exponents at either end.
    let round = F::splat(simd, F::EXP.round);
    let (half, one) = (F::splat(simd, F::from_f64(0.5)), F::splat(simd, F::ONE));
    let first = each!(k => F::mul_add(simd, k, half, round));
    let second = each!(k, first => {
        F::plus(simd, F::minus(simd, k, F::minus(simd, first, round)), round)
    });
    let y = each!(expm1 => F::plus(simd, expm1, one));
    let y = each!(y, first => F::times(simd, y, F::power_of_two(simd, first)));
    each!(y, second => F::times(simd, y, F::power_of_two(simd, second)))
}

/// `tanh x = t / (t + 2) = 1 - 2 / (t + 2)` with `t = expm1(2|x|)`, and the sign of `x`.
///
/// The first form is accurate down to the smallest `x` and serves up to `tanh x = 1/2`. The
/// roundings of `t`, the sum and the quotient `q` together may exceed 2 ulp, so the remainder
/// `t - q (t + 2)` is divided once more, roughly: `t + 2` is between 2 and 4 there. Beyond, the
/// second form: its quotient is small against the result, and so is the error.
#[inline(always)]
pub(super) fn tanh<F: Element, S: Simd, const N: usize>(
    simd: S,
    x: [F::Vector<S>; N],
) -> [F::Vector<S>; N] {
    let (one, two) = (F::splat(simd, F::ONE), F::splat(simd, F::from_f64(2.0)));
    let (middle, max) = (F::splat(simd, F::from_f64(0.55)), F::splat(simd, F::EXP.tanh_one));
    let reciprocal = F::splat(simd, F::from_f64(0.375)); // of t + 2, roughly
    let size = each!(x => F::at_most(simd, F::magnitude(simd, x), max));
    let twice = each!(size => F::plus(simd, size, size));
    let (rounded, _, expm1) = reduce::<F, S, N>(simd, twice);
    let t = each!(expm1, rounded => {
        let scale = F::power_of_two(simd, rounded);
        F::mul_add(simd, scale, expm1, F::minus(simd, scale, one))
    });
    let q = each!(t, size => {
        let numerator = F::where_greater(simd, size, middle, two, t);
        F::over(simd, numerator, F::plus(simd, t, two))
    });
    let small = each!(q, t => {
        let remainder = F::negative_mul_add(simd, q, t, F::negative_mul_add(simd, q, two, t));
        F::mul_add(simd, remainder, reciprocal, q)
    });
    let large = each!(q => F::minus(simd, one, q));
    each!(x, size, small, large => {
        let y = F::where_greater(simd, size, middle, large, small);
        F::copy_sign(simd, y, x)
    })
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::simd::{dispatch, map};
    use super::*;
    use pulp::WithSimd;
    use twofloat::TwoFloat;

    struct Apply<'a, F, const TANH: bool>(&'a mut [F]);
    impl<F: Element, const TANH: bool> WithSimd for Apply<'_, F, TANH> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            match TANH {
                false => map!(simd, self.0, |v| exp::<F, S, 1>(simd, [v])[0]),
                true => map!(simd, self.0, |v| tanh::<F, S, 1>(simd, [v])[0]),
            }
        }
    }

    fn exp_in_place<F: Element>(x: &mut [F]) {
        dispatch(Apply::<F, false>(x));
    }

    fn tanh_in_place<F: Element>(x: &mut [F]) {
        dispatch(Apply::<F, true>(x));
    }

    /// Distance in units in the last place from `got` to `want`, which has more digits than f32.
    fn ulps_f32(got: f32, want: f64) -> f64 {
        let rounded = want as f32;
        if got.to_bits() == rounded.to_bits() || (got.is_nan() && want.is_nan()) {
            return 0.0;
        }
        if !rounded.is_finite() || !got.is_finite() {
            // One step below infinity still counts as one ulp.
            return if got.is_nan() || want.is_nan() || got.signum() != rounded.signum() {
                f64::INFINITY
            } else {
                (got.to_bits() as f64 - rounded.to_bits() as f64).abs()
            };
        }
        let ulp = (f32::from_bits(rounded.abs().to_bits() + 1) as f64) - rounded.abs() as f64;
        (got as f64 - want).abs() / ulp
    }

    /// Every `stride`-th f32 of either sign, and the edges.
    fn sweep_f32(stride: u32) -> Vec<f32> {
        let mut x: Vec<f32> = (0..=f32::INFINITY.to_bits())
            .step_by(stride as usize)
            .flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
            .collect();
        x.extend([f32::INFINITY, f32::NAN, -f32::NAN, f32::MAX, f32::MIN, 0.0, -0.0]);
        x.extend([f32::MIN_POSITIVE, -f32::MIN_POSITIVE, f32::from_bits(1), -f32::from_bits(1)]);
        let edges = [88.72283, 88.722_84, 87.33654, 103.97208, 103.972_084, 104.1, 9.01, 9.02];
        x.extend(edges.iter().chain(&[10.0, 0.3465736, 0.1732868]).flat_map(|&e| [e, -e]));
        x
    }

    fn worst_f32(x: &[f32], in_place: fn(&mut [f32]), reference: fn(f64) -> f64) -> (f64, f32) {
        let mut y = x.to_vec();
        in_place(&mut y);
        x.iter().zip(&y).fold((0.0, 0.0), |worst, (&x, &y)| {
            let error = ulps_f32(y, reference(x as f64));
            if error > worst.0 { (error, x) } else { worst }
        })
    }

    #[test]
    fn f32_is_within_two_ulp_over_every_exponent() {
        on_every_path(|| {
            let x = sweep_f32(if cfg!(miri) { 5_000_011 } else { 4099 });
            for (name, worst) in [
                ("exp", worst_f32(&x, exp_in_place, f64::exp)),
                ("tanh", worst_f32(&x, tanh_in_place, f64::tanh)),
            ] {
                println!("{name}: at most {} ulp, at {:e}", worst.0, worst.1);
                assert!(worst.0 <= 2.0, "{name}({:e}) is {} ulp off", worst.1, worst.0);
            }
        });
    }

    /// All 2^32 of them, in minutes: `cargo test --release -- --ignored every_f32`.
    #[test]
    #[ignore = "takes minutes"]
    fn every_f32_is_within_two_ulp() {
        let (mut exp, mut tanh) = ((0.0, 0.0), (0.0, 0.0));
        for block in 0..4096u32 {
            let x: Vec<f32> = (0..1u32 << 20).map(|i| f32::from_bits((block << 20) | i)).collect();
            let e = worst_f32(&x, exp_in_place, f64::exp);
            let t = worst_f32(&x, tanh_in_place, f64::tanh);
            exp = if e.0 > exp.0 { e } else { exp };
            tanh = if t.0 > tanh.0 { t } else { tanh };
        }
        println!("exp: {} ulp at {:e}; tanh: {} ulp at {:e}", exp.0, exp.1, tanh.0, tanh.1);
        assert!(exp.0 <= 2.0 && tanh.0 <= 2.0);
    }

    /// `e^x - 1` by its series for `|x| < ln 2`, in twice the digits of f64: reduced by 2^8, then
    /// doubled eight times by `m -> m (m + 2)`, which keeps the error relative.
    fn expm1(x: TwoFloat) -> TwoFloat {
        let x = x / 256.;
        let (mut term, mut sum) = (x, x);
        for i in 2..20 {
            term = term * x / f64::from(i);
            sum += term;
        }
        (0..8).fold(sum, |m, _| m * (m + 2.))
    }

    /// `e^x` is the first times two to the power of the second.
    fn exp_reference(x: f64) -> (TwoFloat, i32) {
        let k = (x / std::f64::consts::LN_2).round();
        (expm1(TwoFloat::from(x) - twofloat::consts::LN_2 * k) + 1., k as i32)
    }

    /// The crate's quotients have fewer digits: what remains is divided once more.
    fn quotient(a: TwoFloat, b: TwoFloat) -> TwoFloat {
        let q = a / b;
        q + (a - q * b) / b
    }

    fn tanh_reference(x: f64) -> TwoFloat {
        let y = if x.abs() < 0.25 {
            let t = expm1(TwoFloat::from(-2. * x.abs()));
            quotient(-t, t + 2.)
        } else {
            let (e, k) = exp_reference(-2. * x.abs());
            let e = e * 2f64.powi(k);
            quotient(1. - e, e + 1.)
        };
        y * x.signum()
    }

    /// Distance from `got` to `want` in ulps of `want`.
    fn ulps_f64(got: f64, want: TwoFloat) -> f64 {
        let magnitude = want.hi().abs();
        let ulp = f64::from_bits(magnitude.to_bits() + 1) - magnitude;
        ((got - want.hi()) - want.lo()).abs() / ulp
    }

    /// The bound of the f64 tanh.
    const TANH_F64_ULP: f64 = 2.5;

    #[test]
    fn f64_is_within_its_bound() {
        on_every_path(|| {
            // Where the results are neither saturated nor denormal: exponents from 2^-40 up, many
            // fractions each.
            let count = if cfg!(miri) { 3 } else { 2000 };
            let mut x: Vec<f64> = Vec::new();
            for exponent in -40..10 {
                for i in 0..count {
                    let fraction = 1.0 + (i as f64 * 0.618_033_988_749_895) % 1.0;
                    x.extend([fraction * 2f64.powi(exponent), -fraction * 2f64.powi(exponent)]);
                }
            }
            x.push(0.20280736674681718); // 2.0455 ulp of tanh
            let worst = |name, bound, errors: &mut dyn Iterator<Item = (f64, f64)>| {
                let (error, x) = errors.fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
                println!("{name}: at most {error} ulp, at {x:e}");
                assert!(error <= bound, "{name}({x:e}) is {error} ulp off");
            };
            let exp_error = |x, y: f64| {
                let (e, k) = exp_reference(x);
                // Scaled down in two steps: 2^-k alone may overflow.
                ulps_f64(y * 2f64.powi(-k / 2) * 2f64.powi(-k + k / 2), e)
            };
            let tanh_error = |x, y| ulps_f64(y, tanh_reference(x));
            let (mut e, mut t) = (x.clone(), x.clone());
            exp_in_place(&mut e);
            tanh_in_place(&mut t);
            let pairs = x.iter().zip(&e).filter(|(x, _)| x.abs() < 700.0);
            worst("exp", 2.0, &mut pairs.map(|(&x, &y)| (exp_error(x, y), x)));
            let pairs = x.iter().zip(&t).filter(|(x, _)| x.abs() < 18.0);
            worst("tanh", TANH_F64_ULP, &mut pairs.map(|(&x, &y)| (tanh_error(x, y), x)));
        });
    }

    #[test]
    fn f64_edges_are_those_of_the_standard_library() {
        on_every_path(|| {
            let mut x = vec![0.0, -0.0, f64::from_bits(1), -f64::from_bits(1), f64::MIN_POSITIVE];
            x.extend([1e-300, -1e-300, f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY]);
            x.extend([20.0, -19.5, 1e10, -1e10, 710.0, -746.0, -800.0]);
            let (mut e, mut t) = (x.clone(), x.clone());
            exp_in_place(&mut e);
            tanh_in_place(&mut t);
            for i in 0..x.len() {
                assert_eq!(e[i], x[i].exp(), "exp({:e})", x[i]);
                assert_eq!(t[i].to_bits(), x[i].tanh().to_bits(), "tanh({:e}) = {:e}", x[i], t[i]);
            }
            for function in [exp_in_place, tanh_in_place] {
                let mut nan = [f64::NAN, 1.0, -f64::NAN];
                function(&mut nan);
                assert!(nan[0].is_nan() && !nan[1].is_nan() && nan[2].is_nan());
            }

            // Denormal results lose bits, but at most two units of the smallest denormal.
            let mut deep: Vec<f64> = (0..400).map(|i| -708.0 - i as f64 * 0.0937).collect();
            let want: Vec<f64> = deep.iter().map(|x| x.exp()).collect();
            exp_in_place(&mut deep);
            for (g, w) in deep.iter().zip(&want) {
                assert!(g.to_bits().abs_diff(w.to_bits()) <= 2, "{g:e} {w:e}");
            }
        });
    }
}
