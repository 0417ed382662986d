//! The recurrence over all steps, and its gradient.
//!
//! Shapes: `px`, `a`, `da`, `dpre` (T, B, n); `waa` (n, n); `a0` (B, n).

use super::element::Element;
use super::math::tanh;
use super::product::{MIN_ROWS, Matrix, Right, Scratch, padded, product};
use super::simd::{dispatch, zip};
use super::threads::{for_each, operations, parts, shares, shares_of_steps};
use pulp::{Simd, WithSimd};

/// One time step in either direction: `now = f(now + from waa)`, where `f` has the number of the row
/// and of its first element beside the vectors.
#[inline(always)]
fn step<F: Element, S: Simd>(
    simd: S,
    from: &[F],
    waa: Right<F>,
    now: &mut [F],
    sums: &mut [F],
    n: usize,
    f: impl Fn(usize, [usize; 4], [F::Vector<S>; 4]) -> [F::Vector<S>; 4],
) {
    waa.multiply(simd, [now.len() / n, n, n], Matrix::rows(from, n), sums, padded::<F>(n));
    let lanes = F::lanes::<S>();
    for (row, now) in now.chunks_exact_mut(n).enumerate() {
        let sums = &sums[row * padded::<F>(n)..][..n];
        if n < lanes {
            let sum = F::plus(simd, F::load_partial(simd, sums), F::load_partial(simd, now));
            F::store_partial(simd, now, f(row, [0; 4], [sum; 4])[0]);
            continue;
        }
        // The last vector may overlap the one before, so that it is read before that is written.
        let last = n - lanes;
        let last_sum = F::plus(simd, F::load(simd, &sums[last..]), F::load(simd, &now[last..]));
        for at in (0..n).step_by(4 * lanes) {
            let (mut starts, mut v) = ([last; 4], [last_sum; 4]);
            for i in 0..4 {
                if at + i * lanes < last {
                    starts[i] = at + i * lanes;
                    let sum = F::load(simd, &sums[starts[i]..]);
                    v[i] = F::plus(simd, sum, F::load(simd, &now[starts[i]..]));
                }
            }
            for (at, v) in starts.into_iter().zip(f(row, starts, v)) {
                F::store(simd, &mut now[at..], v);
            }
        }
    }
}

struct Forward<'a, F, I> {
    waa: Right<'a, F>,
    a0: &'a [F],
    steps: I,
    sums: &'a mut [F],
    n: usize,
}

impl<'a, F: Element, I: Iterator<Item = &'a mut [F]>> WithSimd for Forward<'a, F, I> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { waa, a0, steps, sums, n } = self;
        let mut previous = a0;
        for now in steps {
            step(
                simd,
                previous,
                waa,
                now,
                sums,
                n,
                #[inline(always)]
                |_, _, v| tanh::<F, S, 4>(simd, v),
            );
            previous = now;
        }
    }
}

/// `a_t = tanh(px_t + waa a_{t-1})` for t = 1 .. T, in place: `a` holds `px` (T, B, n) before and
/// the states after.
///
/// Cost: `2 T B n^2` operations and `T B n` tanh.
///
/// # Panics
///
/// When `a0` is not (B, n), or `a` not a whole number of steps.
pub(crate) fn recurrence_forward<F: Element>(
    waa: &[F],
    a0: &[F],
    a: &mut [F],
    batch: usize,
    n: usize,
    scratch: &mut Scratch<F>,
) {
    check(a, batch, n);
    assert_eq!(a0.len(), batch * n, "the first state is not (B, n)");
    let parts = parts(batch / MIN_ROWS, operations([a.len() / n, n, n]));
    let (copy, sums) = scratch.split(batch, n);
    let waa = Right::repeated(batch, n, waa, true, copy);
    if parts == 1 {
        let steps = a.chunks_exact_mut(batch * n);
        return dispatch(Forward { waa, a0, steps, sums, n });
    }
    let states = shares_of_steps(a, batch * n, n, parts);
    let sums = shares(sums, padded::<F>(n), parts);
    for_each(states.into_iter().zip(sums), |(steps, (rows, sums))| {
        let a0 = &a0[rows.start * n..rows.end * n];
        dispatch(Forward { waa, a0, steps: steps.into_iter(), sums, n });
    });
}

/// `d (1 - a^2)`
#[inline(always)]
fn tanh_gradient<F: Element, S: Simd>(simd: S, d: F::Vector<S>, a: F::Vector<S>) -> F::Vector<S> {
    let slope = F::negative_mul_add(simd, a, a, F::splat(simd, F::ONE));
    F::times(simd, d, slope)
}

struct Backward<'a, F, I> {
    waa: Right<'a, F>,
    /// The states of these sequences and their gradients, from the last step to the first.
    steps: I,
    sums: &'a mut [F],
    n: usize,
}

impl<'a, F, I> WithSimd for Backward<'a, F, I>
where
    F: Element,
    I: Iterator<Item = (&'a [F], &'a mut [F])>,
{
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { waa, mut steps, sums, n } = self;
        let Some((a, now)) = steps.next() else { return };
        zip!(simd, now, a, |d, a| tanh_gradient::<F, S>(simd, d, a));
        let mut after = &*now;
        for (a, now) in steps {
            step(
                simd,
                after,
                waa,
                now,
                sums,
                n,
                #[inline(always)]
                |row, at, mut v| {
                    let a = &a[row * n..][..n];
                    for (d, at) in v.iter_mut().zip(at) {
                        let a = if n < F::lanes::<S>() {
                            F::load_partial(simd, a)
                        } else {
                            F::load(simd, &a[at..])
                        };
                        *d = tanh_gradient::<F, S>(simd, *d, a);
                    }
                    v
                },
            );
            after = now;
        }
    }
}

/// `dpre_t = (da_t + waa^T dpre_{t+1}) (1 - a_t^2)` for t = T .. 1.
///
/// In place: `dpre` holds `da` before, the gradient of each state from outside the recurrence, and
/// the gradient of `px` after. The gradient of `waa` is [`recurrence_weight_gradient`], that of the
/// first states one product more, `waa^T dpre_1`. Cost: `2 T B n^2` operations.
///
/// # Panics
///
/// When `a` and `dpre` differ in length or are not a whole number of steps.
pub(crate) fn recurrence_backward<F: Element>(
    waa: &[F],
    a: &[F],
    dpre: &mut [F],
    batch: usize,
    n: usize,
    scratch: &mut Scratch<F>,
) {
    check(a, batch, n);
    assert_eq!(a.len(), dpre.len(), "a and dpre differ in length");
    let parts = parts(batch / MIN_ROWS, operations([a.len() / n, n, n]));
    let (copy, sums) = scratch.split(batch, n);
    let waa = Right::repeated(batch, n, waa, false, copy);
    let a = a.chunks_exact(batch * n);
    if parts == 1 {
        let steps = a.zip(dpre.chunks_exact_mut(batch * n)).rev();
        return dispatch(Backward { waa, steps, sums, n });
    }
    let dpre = shares_of_steps(dpre, batch * n, n, parts);
    let sums = shares(sums, padded::<F>(n), parts);
    for_each(dpre.into_iter().zip(sums), |(dpre, (rows, sums))| {
        let a = a.clone().map(|a| &a[rows.start * n..rows.end * n]);
        dispatch(Backward { waa, steps: a.zip(dpre).rev(), sums, n });
    });
}

fn check<F>(a: &[F], batch: usize, n: usize) {
    assert!(batch > 0 && n > 0, "an empty batch or state");
    assert_eq!(a.len() % (batch * n), 0, "not a whole number of steps");
}

/// `dwaa (n, n) = sum over t and i of dpre[t,i] a[t-1,i]^T`, one product over time.
///
/// `earlier` is (T, B, n): a_0 to a_{T-1}. Cost: `2 T B n^2` operations.
pub(crate) fn recurrence_weight_gradient<F: Element>(
    dpre: &[F],
    earlier: &[F],
    dwaa: &mut [F],
    n: usize,
    scratch: &mut Scratch<F>,
) {
    assert_eq!(earlier.len(), dpre.len(), "the states and dpre differ in length");
    let (left, right) = (Matrix::transposed(dpre, n), Matrix::rows(earlier, n));
    let rows = dpre.len() / n;
    product([n, rows, n], left, right, dwaa, scratch);
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use super::super::threads::tests::{in_parts, with_parts};
    use super::super::transpose::transpose;
    use super::*;
    use crate::reference::{Parameters, rnn_backward, rnn_forward};
    use proptest::prelude::*;

    /// Compares with the reference, for a vocabulary with a character for each row of `px` (and one
    /// more, so that no probability is 1): column r of `wax` is `px[r]`, and that of its gradient
    /// `dpre[r]`.
    fn check<F: Element>(steps: usize, batch: usize, n: usize) {
        let (rows, v) = (steps * batch, steps * batch + 1);
        let scale = F::from_f64(1.0 / (n as f64).sqrt());
        let waa: Vec<F> = noise::<F>(n * n, 2).iter().map(|&w| w * scale).collect();
        let (px, a0, wya) = (noise::<F>(v * n, 1), noise::<F>(batch * n, 3), noise::<F>(v * n, 4));
        let mut wax = vec![F::ZERO; n * v];
        transpose(&px, v, n, &mut wax);
        let [wax, waa_f64, wya, a0_f64] =
            [&wax, &waa, &wya, &a0].map(|x| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>());
        let (b, by) = (vec![0.; n], vec![0.; v]);
        let parameters = Parameters::from_flat(n, v, [&wax, &waa_f64, &wya, &b, &by]);

        let [mut a_want, mut da, mut dpre_want] = [(); 3].map(|()| vec![0.; rows * n]);
        let mut dwaa_want = vec![0.; n * n];
        for i in 0..batch {
            let y: Vec<usize> = (i..rows).step_by(batch).collect();
            let x: Vec<_> = y.iter().copied().map(Some).collect();
            let (_, cache) = rnn_forward(&x, &y, &a0_f64[i * n..][..n], &parameters);
            let (gradients, _) = rnn_backward(&x, &y, &parameters, &cache);
            for (t, &r) in y.iter().enumerate() {
                a_want[r * n..][..n].copy_from_slice(&cache.a[t + 1]);
                for j in 0..n {
                    dpre_want[r * n + j] = gradients.wax[j][r];
                    let dz = |k| cache.y_hat[t][k] - f64::from(k == r);
                    da[r * n + j] = (0..v).map(|k| parameters.wya[k][j] * dz(k)).sum();
                }
            }
            dwaa_want.iter_mut().zip(gradients.waa.concat()).for_each(|(sum, g)| *sum += g);
        }
        let [a_want, da, dpre_want, dwaa_want] = [a_want, da, dpre_want, dwaa_want]
            .map(|x: Vec<f64>| x.into_iter().map(F::from_f64).collect::<Vec<F>>());
        let bound = tolerance::<F>();
        let mut scratch = Scratch::default();

        let mut a = px[..rows * n].to_vec();
        recurrence_forward(&waa, &a0, &mut a, batch, n, &mut scratch);
        assert_close("a", &a, &a_want, bound);

        let mut dpre = da;
        recurrence_backward(&waa, &a, &mut dpre, batch, n, &mut scratch);
        assert_close("dpre", &dpre, &dpre_want, bound);

        let mut dwaa = vec![F::from_f64(9.0); n * n];
        let earlier = [&a0, &a[..(steps - 1) * batch * n]].concat();
        recurrence_weight_gradient(&dpre, &earlier, &mut dwaa, n, &mut scratch);
        assert_close("dwaa", &dwaa, &dwaa_want, bound);
    }

    proptest! {
        #[test]
        fn states_and_gradients_do_not_depend_on_the_number_of_parts(
            batch in 1usize..60, n in 1usize..140, parts in 2usize..6,
        ) {
            let (waa, a0) = (noise::<f32>(n * n, 1), noise::<f32>(batch * n, 2));
            let (px, da) = (noise::<f32>(2 * batch * n, 3), noise::<f32>(2 * batch * n, 4));
            let run = || {
                let (mut a, mut dpre, mut dwaa) = (px.clone(), da.clone(), vec![0.; n * n]);
                let mut scratch = Scratch::default();
                recurrence_forward(&waa, &a0, &mut a, batch, n, &mut scratch);
                recurrence_backward(&waa, &a, &mut dpre, batch, n, &mut scratch);
                recurrence_weight_gradient(&dpre, &px, &mut dwaa, n, &mut scratch);
                (a, dpre, dwaa)
            };
            prop_assert!(with_parts(1, run) == with_parts(parts, run));
        }
    }

    #[test]
    fn states_and_gradients_equal_those_of_the_reference() {
        #[rustfmt::skip]
        let shapes = [
            (2, 1, 9), (3, 2, 3), (1, 1, 1), (1, 1, 50), (13, 1, 50), (3, 5, 7), (4, 2, 9),
            (2, 3, 257), (5, 32, 50), (7, 4, 1), (3, 1, 67), (2, 1, 46), (3, 1, 128), (2, 1, 144),
            (2, 8, 64),
        ];
        let count = if cfg!(miri) { 2 } else { shapes.len() };
        for &(steps, batch, n) in &shapes[..count] {
            on_every_path(|| in_parts(|| check::<f32>(steps, batch, n)));
            on_every_path(|| in_parts(|| check::<f64>(steps, batch, n)));
        }
    }
}
