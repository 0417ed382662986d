//! The recurrence over all steps, and its gradient.
//!
//! Shapes: `px`, `a`, `da`, `dpre` (T, B, n); `waa` (n, n); `a0` (B, n).

use super::element::Element;
use super::math::tanh;
use super::matmul::{Packed, Product, Right, Strided, matmul};
use super::matvec::{matvec, matvec_along_rows};
use super::packing::LINE;
use super::simd::{dispatch, zip};
use super::threads::{MIN_ROWS, Steps, for_each, parts};
use super::tile::Finish;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// tanh of the sums.
#[derive(Clone, Copy)]
struct Tanh;

impl<F: Element> Finish<F> for Tanh {
    #[inline(always)]
    fn finish<S: Simd, const N: usize>(
        self,
        simd: S,
        sums: [F::Vector<S>; N],
        _: [F::Vector<S>; N],
        _: [usize; N],
        _: usize,
    ) -> [F::Vector<S>; N] {
        tanh::<F, S, N>(simd, sums)
    }
}

/// The sums times the derivative of tanh at the states of the same step.
#[derive(Clone, Copy)]
struct TanhGradient<'a, F>(&'a [F]);

impl<F: Element> Finish<F> for TanhGradient<'_, F> {
    #[inline(always)]
    fn finish<S: Simd, const N: usize>(
        self,
        simd: S,
        mut sums: [F::Vector<S>; N],
        _: [F::Vector<S>; N],
        at: [usize; N],
        count: usize,
    ) -> [F::Vector<S>; N] {
        for (sum, at) in sums.iter_mut().zip(at) {
            let a = &self.0[at..][..count];
            let a =
                if count == F::lanes::<S>() { F::load(simd, a) } else { F::load_partial(simd, a) };
            *sum = tanh_gradient::<F, S>(simd, *sum, a);
        }
        sums
    }
}

/// `d (1 - a^2)`
#[inline(always)]
fn tanh_gradient<F: Element, S: Simd>(simd: S, d: F::Vector<S>, a: F::Vector<S>) -> F::Vector<S> {
    let slope = F::negative_mul_add(simd, a, a, F::splat(simd, F::ONE));
    F::times(simd, d, slope)
}

/// One time step in either direction: `now (B, n) = finish(now + from (B, n) waa)`.
#[inline(always)]
fn step<F: Element, S: Simd>(
    simd: S,
    from: &[F],
    waa: Right<F>,
    now: &mut [F],
    batch: usize,
    finish: impl Finish<F>,
) {
    match waa {
        Right::Packed(waa) if batch == 1 => matvec(simd, from, waa, now, finish),
        b => {
            let a = Strided::rows(from, now.len() / batch);
            simd.vectorize(Product { m: batch, a, b, c: now, accumulate: true, finish });
        }
    }
}

struct Forward<'a, F> {
    /// Transposed where packed.
    waa: Right<'a, F>,
    a0: &'a [F],
    a: Steps<'a, F>,
    n: usize,
}

impl<F: Element> WithSimd for Forward<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { waa, a0, mut a, n } = self;
        let batch = a0.len() / n;
        for t in 0..a.count() {
            let (previous, now) = match t {
                0 => (a0, a.get(0)),
                t => {
                    let (previous, now) = a.pair(t - 1);
                    (&*previous, now)
                }
            };
            match waa {
                Right::Rows { data, .. } => matvec_along_rows(simd, previous, data, now, Tanh),
                waa => step(simd, previous, waa, now, batch, Tanh),
            }
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
    scratch: &mut Packed<F>,
) {
    check(a, batch, n);
    assert_eq!(a0.len(), batch * n, "the first state is not (B, n)");
    if a.is_empty() {
        return;
    }
    let waa = weights(waa, batch, n, true, scratch);
    let parts = parts(batch / MIN_ROWS, 2 * a.len() * n);
    let run = |a0, a| dispatch(Forward { waa, a0, a, n });
    let a = Steps::new(a, batch * n);
    if parts == 1 {
        return run(a0, a);
    }
    for_each(a.split(parts, n), |(range, a)| run(&a0[range], a));
}

/// `waa` as it is read at every step: in place, or packed, `transposed` for the forward pass.
///
/// With one sequence a copy takes as long as several steps. A training step of 13 time steps without
/// it takes 0.79 of the time with 256 or 512 hidden units and 0.97 with 128, but 1.12 with 96; and
/// 1.15 with 300, because vectors of rows that do not begin at a cache line are read in two halves.
fn weights<'a, F: Element>(
    waa: &'a [F],
    batch: usize,
    n: usize,
    transposed: bool,
    scratch: &'a mut Packed<F>,
) -> Right<'a, F> {
    if batch == 1 && n >= 128 && (n * size_of::<F>()).is_multiple_of(LINE) {
        return Right::Rows { data: waa, k: n, n };
    }
    match transposed {
        true => scratch.pack_transposed(waa, n, n, batch),
        false => scratch.pack(waa, n, n, batch),
    }
    Right::Packed(scratch)
}

struct Backward<'a, F> {
    waa: Right<'a, F>,
    /// All states, and the place of these sequences in a step.
    a: &'a [F],
    size: usize,
    range: Range<usize>,
    dpre: Steps<'a, F>,
    n: usize,
}

impl<F: Element> WithSimd for Backward<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { waa, a, size, range, mut dpre, n } = self;
        let batch = range.len() / n;
        let a = |t: usize| &a[t * size..][range.clone()];
        let last = dpre.count() - 1;
        zip!(simd, dpre.get(last), a(last), |d, a| tanh_gradient::<F, S>(simd, d, a));
        for t in (0..last).rev() {
            let (now, after) = dpre.pair(t);
            step(simd, after, waa, now, batch, TanhGradient(a(t)));
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
    scratch: &mut Packed<F>,
) {
    check(a, batch, n);
    assert_eq!(a.len(), dpre.len(), "a and dpre differ in length");
    if a.is_empty() {
        return;
    }
    let waa = weights(waa, batch, n, false, scratch);
    let (size, parts) = (batch * n, parts(batch / MIN_ROWS, 2 * a.len() * n));
    let run = |range, dpre| dispatch(Backward { waa, a, size, range, dpre, n });
    let dpre = Steps::new(dpre, size);
    if parts == 1 {
        return run(0..size, dpre);
    }
    for_each(dpre.split(parts, n), |(range, dpre)| run(range, dpre));
}

fn check<F>(a: &[F], batch: usize, n: usize) {
    assert!(batch > 0 && n > 0, "an empty batch or state");
    assert_eq!(a.len() % (batch * n), 0, "not a whole number of steps");
}

/// `dwaa (n, n) = sum over t and i of dpre[t,i] a[t-1,i]^T`, one product over time; or, by `finish`,
/// `waa` updated by it.
///
/// `earlier` is (T, B, n): a_0 to a_{T-1}. Cost: `2 T B n^2` operations.
pub(crate) fn recurrence_weight_gradient<F: Element>(
    dpre: &[F],
    earlier: &[F],
    dwaa: &mut [F],
    n: usize,
    scratch: &mut Packed<F>,
    finish: impl Finish<F>,
) {
    assert_eq!(earlier.len(), dpre.len(), "the states and dpre differ in length");
    let left = Strided::transposed(dpre, n);
    matmul(n, dpre.len() / n, n, left, earlier, dwaa, scratch, finish);
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use super::super::threads::tests::in_parts;
    use super::super::tile::AsIs;
    use super::super::transpose::transpose;
    use super::*;
    use crate::reference::{Parameters, rnn_backward, rnn_forward};

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
        let mut packed = Packed::new();

        let mut a = px[..rows * n].to_vec();
        recurrence_forward(&waa, &a0, &mut a, batch, n, &mut packed);
        assert_close("a", &a, &a_want, bound);

        let mut dpre = da;
        recurrence_backward(&waa, &a, &mut dpre, batch, n, &mut packed);
        assert_close("dpre", &dpre, &dpre_want, bound);

        let mut dwaa = vec![F::from_f64(9.0); n * n];
        let earlier = [&a0, &a[..(steps - 1) * batch * n]].concat();
        recurrence_weight_gradient(&dpre, &earlier, &mut dwaa, n, &mut packed, AsIs);
        assert_close("dwaa", &dwaa, &dwaa_want, bound);
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
