//! Norms of gradients, and the updates of stochastic gradient descent and of AdamW.
//!
//! Some are scalar loops: inlined into `dispatch` they are compiled for its instruction set, and
//! the compiler vectorizes them. (A closure instead of a [`WithSimd`] type would not be inlined.)

use super::element::Element;
use super::simd::{dispatch, zip};
use super::threads::{for_each, for_rows, parts_of_weights, shares};
use pulp::{Simd, WithSimd};

/// `w -= rate * clamp(g, -clip, clip)`. An infinite `clip` does not clip. A NaN in `g` reaches `w`:
/// hiding it would hide that training has diverged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClippedDescent<F> {
    rate: F,
    clip: F,
}

impl<F: Element> ClippedDescent<F> {
    /// # Panics
    ///
    /// When `clip` is negative or NaN.
    pub fn new(rate: f64, clip: f64) -> Self {
        assert!(clip >= 0., "clip is negative or NaN: {clip}");
        Self { rate: F::from_f64(rate), clip: F::from_f64(clip) }
    }

    /// The new `w`.
    #[inline(always)]
    pub(super) fn of<S: Simd>(self, simd: S, w: F::Vector<S>, g: F::Vector<S>) -> F::Vector<S> {
        let (low, high) = (F::splat(simd, -self.clip), F::splat(simd, self.clip));
        let g = F::at_most(simd, F::at_least(simd, g, low), high);
        F::negative_mul_add(simd, F::splat(simd, self.rate), g, w)
    }
}

struct Descend<'a, F>(&'a mut [F], &'a [F], ClippedDescent<F>);
impl<F: Element> WithSimd for Descend<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(w, g, descent) = self;
        zip!(simd, w, g, |w, g| descent.of(simd, w, g));
    }
}

/// `descent` of each weight by its gradient.
///
/// # Panics
///
/// When the lengths differ.
pub(crate) fn clipped_descent<F: Element>(w: &mut [F], g: &[F], descent: ClippedDescent<F>) {
    assert_eq!(w.len(), g.len(), "weights and gradients differ in length");
    let (count, parts) = (w.len(), parts_of_weights(w.len()));
    for_rows(w, count, parts, |range, w| dispatch(Descend(w, &g[range], descent)));
}

/// One step of AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019),
/// algorithm 2, with PyTorch's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Each entry of a gradient is clamped to [-clip, clip].
    pub(crate) clip: f64,
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
    /// Step number `step`, counted from 1, with learning rate `rate`, on gradients clamped to
    /// [-clip, clip].
    ///
    /// # Panics
    ///
    /// When `clip` is negative or NaN, or `step` is 0.
    pub fn new(step: u64, rate: f64, weight_decay: f64, clip: f64) -> Self {
        assert!(clip >= 0., "clip is negative or NaN: {clip}");
        assert!(step > 0, "steps are counted from 1");
        // 1 - beta^step, accurate also where beta^step is nearly 1.
        let unbiased = |beta: f64| -(step as f64 * beta.ln()).exp_m1();
        Self {
            clip,
            keep: 1. - rate * weight_decay,
            rate: rate / unbiased(BETA_1),
            correction: unbiased(BETA_2).sqrt().recip(),
        }
    }

    /// The factors of [`adamw_moments`]: the clip, 1 - BETA_1 and 1 - BETA_2.
    pub(crate) fn of_moments(&self) -> [f64; 3] {
        [self.clip, 1. - BETA_1, 1. - BETA_2]
    }

    /// The factors of [`adamw_descent`]: those of the weight, the step, the root, and the epsilon.
    pub(crate) fn of_descent(&self) -> [f64; 4] {
        [self.keep, self.rate, self.correction, EPSILON]
    }
}

struct Average<'a, F>(&'a mut [F], &'a mut [F], &'a [F], &'a AdamW);
impl<F: Element> WithSimd for Average<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self(m, v, g, adamw) = self;
        let [clip, share_1, share_2] = adamw.of_moments().map(F::from_f64);
        for ((m, v), &g) in m.iter_mut().zip(v).zip(g) {
            let g = if g > clip { clip } else { g };
            let g = if g < -clip { -clip } else { g };
            *m += share_1 * (g - *m);
            *v += share_2 * (g * g - *v);
        }
    }
}

/// The running means of AdamW: with `c = clamp(g, -clip, clip)`, `m += (1 - BETA_1) (c - m)` and
/// `v += (1 - BETA_2) (c^2 - v)`. `moments` are `m` and then `v`, twice as many as `g`. A NaN in
/// `g` reaches both.
///
/// # Panics
///
/// When the lengths do not fit.
pub(crate) fn adamw_moments<F: Element>(moments: &mut [F], g: &[F], adamw: &AdamW) {
    assert_eq!(moments.len(), 2 * g.len(), "moments and gradients do not fit in length");
    let (m, v) = moments.split_at_mut(g.len());
    let parts = parts_of_weights(g.len());
    if parts == 1 {
        return dispatch(Average(m, v, g, adamw));
    }
    for_each(shares(m, 1, parts).zip(shares(v, 1, parts)), |((range, m), (_, v))| {
        dispatch(Average(m, v, &g[range], adamw))
    });
}

struct Adapt<'a, F>(&'a mut [F], [&'a [F]; 2], &'a AdamW);
impl<F: Element> WithSimd for Adapt<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self(w, [m, v], adamw) = self;
        let [keep, rate, correction, epsilon] = adamw.of_descent().map(F::from_f64);
        for ((w, &m), &v) in w.iter_mut().zip(m).zip(v) {
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
        dispatch(Adapt(w, [&m[range.clone()], &v[range]], adamw));
    });
}

struct Measure<'a, F>(&'a [F], F);

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
                *clipped += u64::from(*g > self.1 || *g < -self.1);
            }
        };
        let chunks = self.0.chunks_exact(SUMS);
        add(chunks.remainder());
        chunks.for_each(add);
        (squares.iter().sum::<f64>().sqrt(), clipped.iter().sum::<u64>() as usize)
    }
}

/// The norm of `g`, `sqrt(sum g^2)`, and the number of its elements outside [-clip, clip].
pub(crate) fn norm_and_clipped<F: Element>(g: &[F], clip: F) -> (f64, usize) {
    dispatch(Measure(g, clip))
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path};
    use super::super::threads::tests::in_parts;
    use super::*;

    fn check<F: Element>() {
        for length in [0, 1, 5, 8, 27, 2500] {
            let (w, g) = (noise::<F>(length, 1), noise::<F>(length, 2));
            let mut got = w.clone();
            clipped_descent(&mut got, &g, ClippedDescent::new(0.01, 0.5));
            let rate = F::from_f64(0.01);
            let mut want = w;
            for i in 0..length {
                let c = F::from_f64(g[i].to_f64().clamp(-0.5, 0.5));
                want[i] -= rate * c;
            }
            assert_close("w", &got, &want, 1e-7);
        }
    }

    #[test]
    fn sums_and_updates_equal_their_definitions() {
        on_every_path(|| in_parts(check::<f32>));
        on_every_path(|| in_parts(check::<f64>));
    }

    #[test]
    fn a_nan_in_the_gradient_reaches_its_weight_alone() {
        on_every_path(|| {
            for length in [1, 7, 8, 9, 50] {
                for at in 0..length {
                    let mut g = vec![1f32; length];
                    g[at] = f32::NAN;
                    let mut w = vec![0f32; length];
                    clipped_descent(&mut w, &g, ClippedDescent::new(0.1, 5.0));
                    let adamw = AdamW::new(1, 0.1, 0., 5.);
                    let (mut w_adamw, mut moments) = (vec![0f32; length], vec![0f32; 2 * length]);
                    adamw_moments(&mut moments, &g, &adamw);
                    adamw_descent(&mut w_adamw, &moments, &adamw);
                    for i in 0..length {
                        assert_eq!((w[i].is_nan(), w_adamw[i].is_nan()), (i == at, i == at));
                    }
                }
            }
        });
    }

    #[test]
    fn an_infinite_gradient_moves_a_weight_by_the_clip() {
        let mut w = [1f64; 9];
        clipped_descent(&mut w, &[f64::NEG_INFINITY; 9], ClippedDescent::new(0.5, 2.0));
        assert_eq!(w, [2.0; 9]);
    }

    fn check_adamw<F: Element>() {
        for length in [0, 1, 5, 8, 27, 2500] {
            let (w, g) = (noise::<F>(length, 1), noise::<F>(length, 2));
            let mut moments = [noise::<F>(length, 3), vec![F::from_f64(0.25); length]].concat();
            let before: Vec<f64> = moments.iter().map(|m| m.to_f64()).collect();
            let adamw = AdamW::new(3, 0.02, 0.1, 0.5);
            let mut got = w.clone();
            adamw_moments(&mut moments, &g, &adamw);
            adamw_descent(&mut got, &moments, &adamw);
            let mut want = Vec::new();
            for i in 0..length {
                let c = g[i].to_f64().clamp(-0.5, 0.5);
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
