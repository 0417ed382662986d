//! The exponentials of softmax, after subtraction of the row's maximum so that none overflows, and
//! the choice of an index by them.

use super::element::Element;
use super::math::exp;
use super::simd::dispatch;
use pulp::{Simd, WithSimd};

struct Weights<'a, F> {
    z: &'a [F],
    v: usize,
    e: &'a mut [F],
}

impl<F: Element> WithSimd for Weights<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { z, v, e } = self;
        for (z, e) in z.chunks_exact(v).zip(e.chunks_exact_mut(v)) {
            exponentials(simd, z, maximum(simd, z), e);
        }
    }
}

/// `e[r, j] = exp(z[r, j] - max_j z[r, j])`: the softmax of each row, not yet divided by its sum,
/// which is at least 1 and at most v. Shapes: `z`, `e` (R, v). Cost: `R v` exponentials.
pub(crate) fn softmax_weights<F: Element>(z: &[F], v: usize, e: &mut [F]) {
    assert!(v > 0, "an empty vocabulary");
    assert_eq!(z.len() % v, 0, "z is not (R, v)");
    assert_eq!(e.len(), z.len(), "e is not (R, v)");
    dispatch(Weights { z, v, e });
}

/// The largest element, or any element when one is NaN: the exponentials then sum to NaN anyway.
#[inline(always)]
pub(super) fn maximum<F: Element, S: Simd>(simd: S, z: &[F]) -> F {
    let lanes = F::lanes::<S>();
    if z.len() < lanes {
        return z.iter().fold(F::NEGATIVE_INFINITY, |m, &x| if x > m { x } else { m });
    }
    let mut m = F::load(simd, &z[z.len() - lanes..]);
    for chunk in z.chunks_exact(lanes) {
        m = F::max(simd, m, F::load(simd, chunk));
    }
    F::reduce_max(simd, m)
}

/// `e[i] = exp(z[i] - largest)`; returns their sum.
#[inline(always)]
pub(super) fn exponentials<F: Element, S: Simd>(simd: S, z: &[F], largest: F, e: &mut [F]) -> F {
    let lanes = F::lanes::<S>();
    let largest = F::splat(simd, largest);
    if z.len() < lanes {
        let x = F::minus(simd, F::load_partial(simd, z), largest);
        F::store_partial(simd, e, exp::<F, S, 1>(simd, [x])[0]);
        return e.iter().fold(F::ZERO, |sum, &x| sum + x);
    }
    // Four vectors side by side. The last may overlap the one before; shared elements are summed
    // once.
    let vectors = z.len().div_ceil(lanes);
    let shared = vectors * lanes - z.len();
    let begin = |j: usize| (j * lanes).min(z.len() - lanes);
    let mut sum = F::splat(simd, F::ZERO);
    let mut j = 0;
    while j < vectors {
        if vectors - j >= 4 {
            let at = [begin(j), begin(j + 1), begin(j + 2), begin(j + 3)];
            let last = if j + 4 == vectors { shared } else { 0 };
            sum = F::plus(simd, sum, some(simd, z, largest, e, at, last));
            j += 4;
        } else {
            let last = if j + 1 == vectors { shared } else { 0 };
            sum = F::plus(simd, sum, some(simd, z, largest, e, [begin(j)], last));
            j += 1;
        }
    }
    F::reduce_sum(simd, sum)
}

/// [`exponentials`] of the `N` vectors that begin at `at`. Returns their sum without the first
/// `shared` elements of the last.
#[inline(always)]
fn some<F: Element, S: Simd, const N: usize>(
    simd: S,
    z: &[F],
    largest: F::Vector<S>,
    e: &mut [F],
    at: [usize; N],
    shared: usize,
) -> F::Vector<S> {
    let mut x = [largest; N];
    for (x, at) in x.iter_mut().zip(at) {
        *x = F::minus(simd, F::load(simd, &z[at..]), *x);
    }
    let x = exp::<F, S, N>(simd, x);
    let mut sum = F::clear_first(simd, x[N - 1], shared);
    for &x in &x[..N - 1] {
        sum = F::plus(simd, sum, x);
    }
    for (x, at) in x.into_iter().zip(at) {
        F::store(simd, &mut e[at..], x);
    }
    sum
}

/// The sum of `weights` from first to last, as in NumPy's `cumsum`.
pub(crate) fn total<F: Element>(weights: &[F]) -> f64 {
    weights.iter().fold(0., |sum, weight| sum + weight.to_f64())
}

/// The index that `uniform`, in [0, 1), chooses from `weights`, which need not sum to 1: the first
/// at which their running sum, divided by their [`total`], exceeds it. On probabilities this is
/// NumPy's `random.choice(p=weights)`.
///
/// `total` is an argument because all totals first and then all choices is faster for many rows:
/// choices mispredict branches, sums do not.
///
/// # Panics
///
/// When there are no weights.
pub(crate) fn choose<F: Element>(weights: &[F], total: f64, uniform: f64) -> usize {
    assert!(!weights.is_empty(), "no weights to choose from");
    let mut sum = 0.;
    let exceeds = |weight: &F| {
        sum += weight.to_f64();
        sum / total > uniform
    };
    // The last quotient is 1, the sums being the same, unless the weights are not finite or all 0.
    weights.iter().position(exceeds).unwrap_or(weights.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path};
    use super::*;
    use proptest::prelude::*;

    fn check<F: Element>(rows: usize, v: usize) {
        let z: Vec<F> = noise::<F>(rows * v, 3).iter().map(|&z| z * F::from_f64(30.)).collect();
        let mut e = vec![F::ZERO; z.len()];
        softmax_weights(&z, v, &mut e);
        for (z, e) in z.chunks_exact(v).zip(e.chunks_exact(v)) {
            let z: Vec<f64> = z.iter().map(|z| z.to_f64()).collect();
            let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let want: Vec<F> = z.iter().map(|z| F::from_f64((z - largest).exp())).collect();
            assert_close("e", e, &want, 1e-6);
        }
    }

    #[test]
    fn weights_are_the_exponentials_after_subtracting_the_maximum() {
        on_every_path(|| {
            for (rows, v) in [(1, 1), (3, 2), (2, 7), (5, 8), (4, 27), (2, 33), (1, 1000)] {
                check::<f32>(rows, v);
                check::<f64>(rows, v);
            }
        });
    }

    #[test]
    fn the_choice_is_the_first_index_whose_cumulative_weight_exceeds_the_number() {
        let p = [0.25, 0., 0.5, 0.25];
        for (uniform, index) in
            [(0., 0), (0.249, 0), (0.25, 2), (0.7499, 2), (0.75, 3), (0.9999, 3)]
        {
            assert_eq!(choose(&p, total(&p), uniform), index, "{uniform}");
        }
    }

    proptest! {
        #[test]
        fn a_choice_is_always_in_range(
            scores in prop::collection::vec(
                prop_oneof![-900f64..900., Just(f64::NAN), Just(f64::INFINITY)],
                1..40,
            ),
            uniform in 0f64..1.,
        ) {
            let mut weights = vec![0.; scores.len()];
            softmax_weights(&scores, scores.len(), &mut weights);
            prop_assert!(choose(&weights, total(&weights), uniform) < scores.len());
        }
    }
}
