//! Softmax cross-entropy and its gradient.

use super::element::Element;
use super::projection::check_indices;
use super::simd::{dispatch, map, zip};
use super::softmax::{exponentials, maximum};
use crate::data::IGNORE_INDEX;
use pulp::{Simd, WithSimd};

struct CrossEntropy<'a, F> {
    z: &'a [F],
    y: &'a [u32],
    q: Option<&'a [F]>,
    scale: F,
    dz: &'a mut [F],
    v: usize,
}

impl<F: Element> WithSimd for CrossEntropy<'_, F> {
    type Output = f64;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self { z, y, q, scale, dz, v } = self;
        let mut loss = 0.0;
        // Three passes over a few rows rather than one: each row is a long dependent chain, and the
        // chains of several rows overlap only within a pass.
        let blocks = z.chunks(ROWS * v).zip(dz.chunks_mut(ROWS * v));
        for (block, ((z, dz), y)) in blocks.zip(y.chunks(ROWS)).enumerate() {
            let soft = |r: usize| q.map(|q| &q[(block * ROWS + r) * v..][..v]);
            let (mut largest, mut sums) = ([F::ZERO; ROWS], [F::ONE; ROWS]);
            for (largest, z) in largest.iter_mut().zip(z.chunks_exact(v)) {
                *largest = maximum(simd, z);
            }
            for (r, &y) in y.iter().enumerate() {
                if y != IGNORE_INDEX {
                    let (z, dz) = (&z[r * v..][..v], &mut dz[r * v..][..v]);
                    sums[r] = exponentials(simd, z, largest[r], dz);
                    loss += match soft(r) {
                        Some(q) => {
                            let under = |&z: &F| (largest[r] - z).to_f64();
                            q.iter().zip(z).map(|(q, z)| q.to_f64() * under(z)).sum()
                        }
                        None => (largest[r] - z[y as usize]).to_f64(),
                    };
                }
            }
            for (r, (dz, &y)) in dz.chunks_exact_mut(v).zip(y).enumerate() {
                if y == IGNORE_INDEX {
                    dz.fill(F::ZERO);
                    continue;
                }
                let factor = F::splat(simd, scale / sums[r]);
                map!(simd, dz, |e| F::times(simd, e, factor));
                match soft(r) {
                    Some(q) => {
                        let scale = F::splat(simd, scale);
                        zip!(simd, dz, q, |e, q| F::minus(simd, e, F::times(simd, scale, q)));
                    }
                    None => dz[y as usize] -= scale,
                }
            }
            // ln(s1) + ln(s2) + .. = ln(s1 s2 ..), and a sum lies between 1 and v: sixteen do not
            // overflow.
            loss += sums.iter().map(|sum| sum.to_f64()).product::<f64>().ln();
        }
        loss * scale.to_f64()
    }
}

/// Rows of one block of [`CrossEntropy`].
const ROWS: usize = 16;

/// Returns `scale * sum over r of -ln softmax(z[r])[y[r]]`, and writes its gradient:
/// `dz[r] = scale * (softmax(z[r]) - onehot(y[r]))`.
///
/// With `q` its rows are the targets, in place of `onehot(y[r])`; they sum to 1. Rows where `y` is
/// [`IGNORE_INDEX`] have neither loss nor gradient. Shapes: `z`, `q`, `dz` (R, v), `y` (R). Cost:
/// `R v` exponentials, each computed once for loss and gradient together.
///
/// The loss is summed in f64 for f32 logits too: one addition a row costs nothing, and a long batch
/// then loses no digits. A NaN in a row that is not ignored makes the loss NaN.
///
/// # Panics
///
/// When a target is not below `v`, or a length is wrong.
pub(crate) fn cross_entropy<F: Element>(
    z: &[F],
    y: &[u32],
    q: Option<&[F]>,
    v: usize,
    scale: F,
    dz: &mut [F],
) -> f64 {
    assert!(v > 0, "an empty vocabulary");
    assert_eq!(z.len(), y.len() * v, "z is not (R, v)");
    assert_eq!(dz.len(), z.len(), "dz is not (R, v)");
    assert!(q.is_none_or(|q| q.len() == z.len()), "q is not (R, v)");
    check_indices(y, v, "y");
    dispatch(CrossEntropy { z, y, q, scale, dz, v })
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use super::*;
    use crate::reference;

    fn check<F: Element>(rows: usize, v: usize, spread: f64, soft: bool) {
        let z: Vec<F> = noise::<F>(rows * v, 1).iter().map(|&z| z * F::from_f64(spread)).collect();
        let y: Vec<u32> = (0..rows)
            .map(|r| if r % 4 == 3 { IGNORE_INDEX } else { ((r * 31) % v) as u32 })
            .collect();
        // The target of row r is y[r], or with soft targets half of it and half of the next.
        let mut q = vec![F::ZERO; rows * v];
        for r in (0..rows).filter(|&r| y[r] != IGNORE_INDEX) {
            q[r * v + y[r] as usize] += F::from_f64(0.5);
            q[r * v + (y[r] as usize + usize::from(soft)) % v] += F::from_f64(0.5);
        }
        let scale = 0.25;
        let mut loss = 0.0;
        let mut dz_want = vec![F::ZERO; rows * v];
        for r in (0..rows).filter(|&r| y[r] != IGNORE_INDEX) {
            let z: Vec<f64> = z[r * v..][..v].iter().map(|z| z.to_f64()).collect();
            let (q, max) = (&q[r * v..][..v], z.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            let picked: f64 = z.iter().zip(q).map(|(z, q)| z * q.to_f64()).sum();
            loss += scale * (z.iter().map(|z| (z - max).exp()).sum::<f64>().ln() + max - picked);
            for (c, p) in reference::softmax(&z).into_iter().enumerate() {
                dz_want[r * v + c] = F::from_f64(scale * (p - q[c].to_f64()));
            }
        }
        let mut dz = vec![F::from_f64(5.0); rows * v];
        let got = cross_entropy(&z, &y, soft.then_some(&q[..]), v, F::from_f64(scale), &mut dz);
        let bound = tolerance::<F>();
        assert!((got - loss).abs() <= bound * (1.0 + loss.abs()), "{got} instead of {loss}");
        assert_close("dz", &dz, &dz_want, bound);
    }

    #[test]
    fn loss_and_gradient_equal_their_definitions() {
        for (rows, v) in [(1, 1), (1, 2), (13, 27), (5, 8), (9, 7), (6, 1000), (0, 27), (8, 33)] {
            for spread in [0.1, 3.0, 300.0] {
                for soft in [false, true] {
                    on_every_path(|| check::<f32>(rows, v, spread, soft));
                    on_every_path(|| check::<f64>(rows, v, spread, soft));
                }
            }
        }
    }

    #[test]
    fn a_nan_reaches_the_loss_unless_its_row_is_ignored() {
        on_every_path(|| {
            for v in [3, 8, 27] {
                for at in 0..v {
                    let mut z = noise::<f32>(2 * v, 1);
                    z[at] = f32::NAN;
                    let mut dz = vec![0.0; 2 * v];
                    assert!(cross_entropy(&z, &[0, 1], None, v, 1.0, &mut dz).is_nan());
                    assert!(dz[..v].iter().all(|d| d.is_nan()));
                    assert!(
                        cross_entropy(&z, &[IGNORE_INDEX, 1], None, v, 1.0, &mut dz).is_finite()
                    );
                    assert!(dz.iter().all(|d| d.is_finite()));
                }
            }
        });
    }

    #[test]
    #[should_panic(expected = "y holds the index 27")]
    fn a_target_outside_the_vocabulary_panics() {
        cross_entropy(&[0f32; 27], &[27], None, 27, 1.0, &mut [0.0; 27]);
    }
}
