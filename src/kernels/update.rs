//! Norms of gradients, their clamp, and the updates of stochastic gradient descent and of AdamW.
//!
//! Some are scalar loops: inlined into `dispatch` they are compiled for its instruction set, and
//! the compiler vectorizes them. (A closure instead of a [`WithSimd`] type would not be inlined.)

use super::element::Element;
use super::simd::{dispatch, zip};
use super::threads::{for_each, for_rows, parts_of_weights, shares};
use pulp::{Simd, WithSimd};

struct Clamp<'a, F> {
    g: &'a mut [F],
    max: F,
}

impl<F: Element> WithSimd for Clamp<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for g in self.g {
            let high = if *g > self.max { self.max } else { *g };
            *g = if high < -self.max { -self.max } else { high };
        }
    }
}

/// Clamps every element to [-max, max]; infinity clamps nothing. A NaN stays: hiding it would hide
/// that training has diverged.
pub(crate) fn clamp<F: Element>(g: &mut [F], max: F) {
    let (count, parts) = (g.len(), parts_of_weights(g.len()));
    for_rows(g, count, parts, |_, g| dispatch(Clamp { g, max }));
}

struct Descend<'a, F> {
    w: &'a mut [F],
    g: &'a [F],
    rate: F,
}

impl<F: Element> WithSimd for Descend<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { w, g, rate } = self;
        zip!(simd, w, g, |w, g| F::negative_mul_add(simd, F::splat(simd, rate), g, w));
    }
}

/// `w -= rate * g`.
///
/// # Panics
///
/// When the lengths differ.
pub(crate) fn descend<F: Element>(w: &mut [F], g: &[F], rate: F) {
    assert_eq!(w.len(), g.len(), "weights and gradients differ in length");
    let (count, parts) = (w.len(), parts_of_weights(w.len()));
    for_rows(w, count, parts, |range, w| dispatch(Descend { w, g: &g[range], rate }));
}

/// One step of AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019),
/// algorithm 2, with PyTorch's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// The factor of weight decay: 1 - rate * weight decay.
    pub(crate) keep: f64,
    /// rate / (1 - BETA_1^step).
    pub(crate) rate: f64,
    /// 1 / sqrt(1 - BETA_2^step).
    pub(crate) correction: f64,
}

/// Decay rates of the running means of the gradients and of their squares.
pub(crate) const BETA_1: f64 = 0.9;
pub(crate) const BETA_2: f64 = 0.999;
/// Prevents division by zero.
pub(crate) const EPSILON: f64 = 1e-8;

impl AdamW {
    /// Step number `step`, counted from 1, with learning rate `rate`.
    ///
    /// # Panics
    ///
    /// When `step` is 0.
    pub fn new(step: u64, rate: f64, weight_decay: f64) -> Self {
        assert!(step > 0, "steps are counted from 1");
        // 1 - beta^step, accurate also where beta^step is nearly 1.
        let unbiased = |beta: f64| -(step as f64 * beta.ln()).exp_m1();
        Self {
            keep: 1. - rate * weight_decay,
            rate: rate / unbiased(BETA_1),
            correction: unbiased(BETA_2).sqrt().recip(),
        }
    }
}

struct Average<'a, F> {
    m: &'a mut [F],
    v: &'a mut [F],
    g: &'a [F],
}

impl<F: Element> WithSimd for Average<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let [share_1, share_2] = [1. - BETA_1, 1. - BETA_2].map(F::from_f64);
        for ((m, v), &g) in self.m.iter_mut().zip(self.v).zip(self.g) {
            *m += share_1 * (g - *m);
            *v += share_2 * (g * g - *v);
        }
    }
}

/// The running means of AdamW: `m += (1 - BETA_1) (g - m)` and `v += (1 - BETA_2) (g^2 - v)`.
/// `moments` are `m` and then `v`, twice as many as `g`.
///
/// # Panics
///
/// When the lengths do not fit.
pub(crate) fn adamw_moments<F: Element>(moments: &mut [F], g: &[F]) {
    assert_eq!(moments.len(), 2 * g.len(), "moments and gradients do not fit in length");
    let (m, v) = moments.split_at_mut(g.len());
    let parts = parts_of_weights(g.len());
    if parts == 1 {
        return dispatch(Average { m, v, g });
    }
    for_each(shares(m, 1, parts).zip(shares(v, 1, parts)), |((range, m), (_, v))| {
        dispatch(Average { m, v, g: &g[range] })
    });
}

struct Adapt<'a, F> {
    w: &'a mut [F],
    m: &'a [F],
    v: &'a [F],
    adamw: &'a AdamW,
}

impl<F: Element> WithSimd for Adapt<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let AdamW { keep, rate, correction } = *self.adamw;
        let [keep, rate, correction, epsilon] = [keep, rate, correction, EPSILON].map(F::from_f64);
        for ((w, &m), &v) in self.w.iter_mut().zip(self.m).zip(self.v) {
            *w = *w * keep - rate * m / (v.square_root() * correction + epsilon);
        }
    }
}

/// AdamW's step: `w = w (1 - rate * decay) - rate m' / (sqrt(v') + 1e-8)`, where `m'` and `v'` are
/// the `moments` of [`adamw_moments`], each over one minus its constant to the power of the step.
///
/// # Panics
///
/// When the lengths do not fit.
pub(crate) fn adamw_descent<F: Element>(w: &mut [F], moments: &[F], adamw: &AdamW) {
    assert_eq!(moments.len(), 2 * w.len(), "moments and weights do not fit in length");
    let (m, v) = moments.split_at(w.len());
    let (count, parts) = (w.len(), parts_of_weights(w.len()));
    for_rows(w, count, parts, |range, w| {
        dispatch(Adapt { w, m: &m[range.clone()], v: &v[range], adamw });
    });
}

struct Measure<'a, F> {
    g: &'a [F],
    clip: F,
}

impl<F: Element> WithSimd for Measure<'_, F> {
    type Output = (f64, usize);
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Self::Output {
        // Sums side by side: in a single one each addition would wait for the one before.
        const SUMS: usize = 16;
        let (mut squares, mut clipped) = ([0f64; SUMS], [0u64; SUMS]);
        let mut add = |g: &[F]| {
            for ((g, square), clipped) in g.iter().zip(&mut squares).zip(&mut clipped) {
                *square += g.to_f64() * g.to_f64();
                *clipped += u64::from(*g > self.clip || *g < -self.clip);
            }
        };
        let chunks = self.g.chunks_exact(SUMS);
        add(chunks.remainder());
        chunks.for_each(add);
        (squares.iter().sum::<f64>().sqrt(), clipped.iter().sum::<u64>() as usize)
    }
}

/// The norm of `g`, `sqrt(sum g^2)`, and the number of its elements outside [-clip, clip].
pub(crate) fn norm_and_clipped<F: Element>(g: &[F], clip: F) -> (f64, usize) {
    dispatch(Measure { g, clip })
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path};
    use super::super::threads::tests::in_parts;
    use super::*;

    fn check<F: Element>() {
        for length in [0, 1, 5, 8, 27, 2500, 30_001] {
            let (mut w, mut g) = (noise::<F>(length, 1), noise::<F>(length, 2));
            let f = F::from_f64;
            let clamped: Vec<F> = g.iter().map(|g| f(g.to_f64().clamp(-0.5, 0.5))).collect();
            let want: Vec<F> = w.iter().zip(&clamped).map(|(&w, &g)| w - f(0.01) * g).collect();
            clamp(&mut g, f(0.5));
            assert_eq!(g, clamped);
            descend(&mut w, &g, f(0.01));
            assert_close("w", &w, &want, 1e-7);
        }
    }

    #[test]
    fn the_clamp_and_the_descent_equal_their_definitions() {
        on_every_path(|| in_parts(check::<f32>));
        on_every_path(|| in_parts(check::<f64>));
        let mut g = [f64::NEG_INFINITY; 9];
        clamp(&mut g, f64::INFINITY);
        assert_eq!(g, [f64::NEG_INFINITY; 9]);
        clamp(&mut g, 2.);
        assert_eq!(g, [-2.; 9]);
    }

    #[test]
    fn a_nan_in_the_gradient_reaches_its_weight_alone() {
        on_every_path(|| {
            for length in [1, 7, 8, 9, 50] {
                for at in 0..length {
                    let mut g = vec![1f32; length];
                    g[at] = f32::NAN;
                    clamp(&mut g, 5.);
                    let mut w = vec![0f32; length];
                    descend(&mut w, &g, 0.1);
                    let (mut w_adamw, mut moments) = (vec![0f32; length], vec![0f32; 2 * length]);
                    adamw_moments(&mut moments, &g);
                    adamw_descent(&mut w_adamw, &moments, &AdamW::new(1, 0.1, 0.));
                    for i in 0..length {
                        assert_eq!((w[i].is_nan(), w_adamw[i].is_nan()), (i == at, i == at));
                    }
                }
            }
        });
    }

    fn check_adamw<F: Element>() {
        for length in [0, 1, 5, 8, 27, 2500, 30_001] {
            let (w, g) = (noise::<F>(length, 1), noise::<F>(length, 2));
            let mut moments = [noise::<F>(length, 3), vec![F::from_f64(0.25); length]].concat();
            let before: Vec<f64> = moments.iter().map(|m| m.to_f64()).collect();
            let adamw = AdamW::new(3, 0.02, 0.1);
            let mut got = w.clone();
            adamw_moments(&mut moments, &g);
            adamw_descent(&mut got, &moments, &adamw);
            let mut want = Vec::new();
            for i in 0..length {
                let c = g[i].to_f64();
                let m = 0.9 * before[i] + 0.1 * c;
                let v = 0.999 * before[length + i] + 0.001 * c * c;
                let (m, v) = (m / (1. - 0.9f64.powi(3)), v / (1. - 0.999f64.powi(3)));
                let w = w[i].to_f64() * (1. - 0.02 * 0.1) - 0.02 * m / (v.sqrt() + 1e-8);
                want.push(F::from_f64(w));
            }
            assert_close("w", &got, &want, 1e-6);
        }
    }

    #[test]
    fn adamw_equals_its_definition() {
        on_every_path(|| in_parts(check_adamw::<f32>));
        on_every_path(|| in_parts(check_adamw::<f64>));
    }

    #[test]
    fn norm_and_clipped_count_equal_their_definitions() {
        on_every_path(|| {
            for length in [1, 15, 16, 17, 1000] {
                let g = noise::<f32>(length, 4);
                let norm = g.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
                let clipped = g.iter().filter(|g| g.abs() > 0.25).count();
                let (got, count) = norm_and_clipped(&g, 0.25);
                assert!((got - norm).abs() <= 1e-12 * norm, "{got} is not {norm}");
                assert_eq!(count, clipped);
            }
            assert_eq!(norm_and_clipped(&[3f64, -4.], f64::INFINITY), (5., 0));
            assert_eq!(norm_and_clipped::<f64>(&[], 1.), (0., 0));
        });
    }
}
