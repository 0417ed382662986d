//! Clipping and the update of stochastic gradient descent.

use super::simd::{Element, dispatch, map, zip};
use pulp::{Simd, WithSimd};

struct Clip<'a, F>(&'a mut [F], F);
impl<F: Element> WithSimd for Clip<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (low, high) = (F::splat(simd, -self.1), F::splat(simd, self.1));
        map(
            simd,
            self.0,
            #[inline(always)]
            |g| F::at_most(simd, F::at_least(simd, g, low), high),
        );
    }
}

/// `g = clamp(g, -clip, clip)`, element by element. A NaN stays NaN: to hide one is to hide that
/// training has failed.
///
/// # Panics
///
/// When `clip` is negative or NaN.
pub fn clip_in_place<F: Element>(g: &mut [F], clip: F) {
    assert!(clip >= F::ZERO, "clip is negative or NaN: {clip}");
    dispatch(Clip(g, clip));
}

struct Descend<'a, F> {
    w: &'a mut [F],
    g: &'a [F],
    rate: F,
    clip: F,
}

impl<F: Element> WithSimd for Descend<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rate = F::splat(simd, self.rate);
        let (low, high) = (F::splat(simd, -self.clip), F::splat(simd, self.clip));
        zip(
            simd,
            self.w,
            self.g,
            #[inline(always)]
            |w, g| {
                let g = F::at_most(simd, F::at_least(simd, g, low), high);
                F::negative_mul_add(simd, rate, g, w)
            },
        );
    }
}

/// `w -= rate * clamp(g, -clip, clip)`, in one pass: each element read once, each weight written
/// once. An infinite `clip` does not clip. A NaN in `g` reaches `w`.
///
/// # Panics
///
/// When `clip` is negative or NaN, or the lengths differ.
pub fn clipped_descent<F: Element>(w: &mut [F], g: &[F], rate: F, clip: F) {
    assert!(clip >= F::ZERO, "clip is negative or NaN: {clip}");
    assert_eq!(w.len(), g.len(), "weights and gradients differ in length");
    dispatch(Descend { w, g, rate, clip });
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path};
    use super::*;

    fn check<F: Element>() {
        for length in [0, 1, 5, 8, 27, 2500] {
            let (w, g) = (noise::<F>(length, 1), noise::<F>(length, 2));
            let (rate, clip) = (F::from_f64(0.01), F::from_f64(0.5));
            let mut clipped = g.clone();
            clip_in_place(&mut clipped, clip);
            let mut got = w.clone();
            clipped_descent(&mut got, &g, rate, clip);
            let mut want = w;
            for i in 0..length {
                let c = F::from_f64(g[i].to_f64().clamp(-0.5, 0.5));
                assert_eq!(clipped[i], c);
                want[i] -= rate * c;
            }
            assert_close("w", &got, &want, 1e-7);
        }
    }

    #[test]
    fn the_update_equals_its_definition() {
        on_every_path(check::<f32>);
        on_every_path(check::<f64>);
    }

    #[test]
    fn a_nan_in_the_gradient_is_never_hidden() {
        on_every_path(|| {
            for length in [1, 7, 8, 9, 50] {
                for at in 0..length {
                    let mut g = vec![1f32; length];
                    g[at] = f32::NAN;
                    let mut w = vec![0f32; length];
                    clipped_descent(&mut w, &g, 0.1, 5.0);
                    clip_in_place(&mut g, 5.0);
                    for i in 0..length {
                        assert_eq!((w[i].is_nan(), g[i].is_nan()), (i == at, i == at));
                    }
                }
            }
        });
    }

    #[test]
    fn an_infinite_gradient_moves_a_weight_by_the_clip() {
        let mut w = [1f64; 9];
        clipped_descent(&mut w, &[f64::NEG_INFINITY; 9], 0.5, 2.0);
        assert_eq!(w, [2.0; 9]);
    }
}
