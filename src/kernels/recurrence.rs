//! The recurrence over all steps, and its gradient.
//!
//! Shapes: `px`, `a`, `da`, `dpre` (T, B, n); `waa` (n, n); `a0`, `da0` (B, n).

use super::math::tanh;
use super::matmul::{AsIs, Finish, Packed, Product, Strided, matmul, matvec};
use super::simd::{Element, dispatch, zip};
use pulp::{Simd, WithSimd};

#[derive(Clone, Copy)]
struct Tanh;

impl<F: Element> Finish<F> for Tanh {
    #[inline(always)]
    fn finish<S: Simd, const N: usize>(
        self,
        simd: S,
        sums: [F::Vector<S>; N],
        _: [usize; N],
        _: usize,
    ) -> [F::Vector<S>; N] {
        tanh::<F, S, N>(simd, sums)
    }
}

/// Times the derivative of tanh at the states of the same step.
#[derive(Clone, Copy)]
struct TanhGradient<'a, F>(&'a [F]);

impl<F: Element> Finish<F> for TanhGradient<'_, F> {
    #[inline(always)]
    fn finish<S: Simd, const N: usize>(
        self,
        simd: S,
        mut sums: [F::Vector<S>; N],
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

/// One step of time, either way: `now (B, n) = finish(now + from (B, n) waa)`.
#[inline(always)]
fn step<F: Element, S: Simd>(
    simd: S,
    from: &[F],
    waa: &Packed<F>,
    now: &mut [F],
    batch: usize,
    finish: impl Finish<F>,
) {
    if batch == 1 {
        matvec(simd, from, waa, now, finish);
    } else {
        let from = Strided::rows(from, now.len() / batch);
        simd.vectorize(Product::packed(batch, from, waa, now, true, finish));
    }
}

struct Forward<'a, F> {
    waa: &'a Packed<F>,
    a0: &'a [F],
    a: &'a mut [F],
    batch: usize,
    n: usize,
}

impl<F: Element> WithSimd for Forward<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let size = self.batch * self.n;
        for t in 0..self.a.len() / size {
            let (before, now) = self.a.split_at_mut(t * size);
            let previous = if t == 0 { self.a0 } else { &before[(t - 1) * size..] };
            let now = &mut now[..size];
            step(simd, previous, self.waa, now, self.batch, Tanh);
        }
    }
}

/// `a_t = tanh(px_t + waa a_{t-1})` for t = 1 .. T, in place: `a` holds `px` (T, B, n) before and
/// the states after.
///
/// `waa` is packed by [`pack_for_forward`]. Cost: `2 T B n^2` operations and `T B n` tanh.
///
/// # Panics
///
/// When `a0` is not (B, n), or `a` not a whole number of steps.
pub fn recurrence_forward<F: Element>(
    waa: &Packed<F>,
    a0: &[F],
    a: &mut [F],
    batch: usize,
    n: usize,
) {
    check(a0, a, batch, n);
    if !a.is_empty() {
        dispatch(Forward { waa, a0, a, batch, n });
    }
}

struct Backward<'a, F> {
    waa: &'a Packed<F>,
    a: &'a [F],
    dpre: &'a mut [F],
    da0: &'a mut [F],
    batch: usize,
    n: usize,
}

impl<F: Element> WithSimd for Backward<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { waa, a, dpre, da0, batch, n } = self;
        let size = batch * n;
        let steps = a.len() / size;
        let (now, last) = (&mut dpre[(steps - 1) * size..], &a[(steps - 1) * size..]);
        zip(
            simd,
            now,
            last,
            #[inline(always)]
            |d, a| tanh_gradient::<F, S>(simd, d, a),
        );
        for t in (0..steps - 1).rev() {
            let (now, after) = dpre.split_at_mut((t + 1) * size);
            let (now, a) = (&mut now[t * size..], &a[t * size..][..size]);
            step(simd, &after[..size], waa, now, batch, TanhGradient(a));
        }
        da0.fill(F::ZERO);
        step(simd, &dpre[..size], waa, da0, batch, AsIs);
    }
}

/// `dpre_t = (da_t + waa^T dpre_{t+1}) (1 - a_t^2)` for t = T .. 1, and `da0 = waa^T dpre_1`.
///
/// In place: `dpre` holds `da` before, the gradient that reaches each state from outside the
/// recurrence, and the gradient of `px` after. `waa` is packed by [`pack_for_backward`]. The
/// gradient of `waa` is one product more, left to the caller: `sum over t of dpre_t a_{t-1}^T`.
/// Cost: `2 T B n^2` operations.
///
/// # Panics
///
/// When `da0` is not (B, n), or `a` and `dpre` differ in length or are not a whole number of steps.
pub fn recurrence_backward<F: Element>(
    waa: &Packed<F>,
    a: &[F],
    dpre: &mut [F],
    da0: &mut [F],
    batch: usize,
    n: usize,
) {
    check(da0, a, batch, n);
    assert_eq!(a.len(), dpre.len(), "a and dpre differ in length");
    if a.is_empty() {
        da0.fill(F::ZERO);
    } else {
        dispatch(Backward { waa, a, dpre, da0, batch, n });
    }
}

fn check<F>(a0: &[F], a: &[F], batch: usize, n: usize) {
    assert!(batch > 0 && n > 0, "an empty batch or state");
    assert_eq!(a0.len(), batch * n, "the first state is not (B, n)");
    assert_eq!(a.len() % (batch * n), 0, "not a whole number of steps");
}

/// `waa^T`, once for a whole sequence: `waa a` then reads it along rows. Cost: `n^2` elements
/// moved.
///
/// # Panics
///
/// When `waa` is not (n, n).
pub fn pack_for_forward<F: Element>(packed: &mut Packed<F>, waa: &[F], batch: usize, n: usize) {
    packed.pack_transposed(waa, n, n, batch);
}

/// `waa` as it is, aligned: `waa^T dpre` reads it along rows. Cost: `n^2` elements moved.
///
/// # Panics
///
/// When `waa` is not (n, n).
pub fn pack_for_backward<F: Element>(packed: &mut Packed<F>, waa: &[F], batch: usize, n: usize) {
    if batch == 1 {
        // Here no tanh waits to be overlapped with the next panel, so panels may be as wide as the
        // registers allow.
        packed.pack_for_matvec(waa, n, n);
    } else {
        packed.pack(waa, n, n, batch);
    }
}

/// `dwaa (n, n) = sum over t and i of dpre[t,i] a[t-1,i]^T`, one product over time.
///
/// `earlier` is (T, B, n): a_0 to a_{T-1}. Cost: `2 T B n^2` operations.
///
/// # Panics
///
/// When a length is wrong.
pub fn recurrence_weight_gradient<F: Element>(
    dpre: &[F],
    earlier: &[F],
    dwaa: &mut [F],
    n: usize,
    scratch: &mut Packed<F>,
) {
    assert_eq!(earlier.len(), dpre.len(), "the states and dpre differ in length");
    let left = Strided::transposed(dpre, n);
    matmul(n, dpre.len() / n, n, left, earlier, dwaa, false, scratch);
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use super::*;

    /// Both directions by the equations, one scalar at a time.
    #[allow(clippy::type_complexity)]
    fn naive<F: Element>(
        (steps, batch, n): (usize, usize, usize),
        px: &[F],
        waa: &[F],
        a0: &[F],
        da: &[F],
    ) -> (Vec<F>, Vec<F>, Vec<F>, Vec<F>) {
        let f = |x: &[F]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
        let (px, waa, a0, da) = (f(px), f(waa), f(a0), f(da));
        let mut a = vec![0.0; px.len()];
        for t in 0..steps {
            for i in 0..batch {
                for r in 0..n {
                    let mut pre = px[(t * batch + i) * n + r];
                    for c in 0..n {
                        let previous =
                            if t == 0 { a0[i * n + c] } else { a[((t - 1) * batch + i) * n + c] };
                        pre += waa[r * n + c] * previous;
                    }
                    a[(t * batch + i) * n + r] = pre.tanh();
                }
            }
        }
        let mut dpre = vec![0.0; px.len()];
        let mut da0 = vec![0.0; a0.len()];
        let mut dwaa = vec![0.0; n * n];
        for t in (0..steps).rev() {
            for i in 0..batch {
                for r in 0..n {
                    let at = (t * batch + i) * n + r;
                    let mut d = da[at];
                    if t + 1 < steps {
                        for c in 0..n {
                            d += waa[c * n + r] * dpre[((t + 1) * batch + i) * n + c];
                        }
                    }
                    dpre[at] = d * (1.0 - a[at] * a[at]);
                }
                for r in 0..n {
                    for c in 0..n {
                        let previous =
                            if t == 0 { a0[i * n + c] } else { a[((t - 1) * batch + i) * n + c] };
                        dwaa[r * n + c] += dpre[(t * batch + i) * n + r] * previous;
                        if t == 0 {
                            da0[i * n + c] += waa[r * n + c] * dpre[i * n + r];
                        }
                    }
                }
            }
        }
        let g = |x: Vec<f64>| x.into_iter().map(F::from_f64).collect::<Vec<F>>();
        (g(a), g(dpre), g(da0), g(dwaa))
    }

    fn check<F: Element>(steps: usize, batch: usize, n: usize) {
        let px = noise::<F>(steps * batch * n, 1);
        let scale = F::from_f64(1.0 / (n as f64).sqrt());
        let waa: Vec<F> = noise::<F>(n * n, 2).iter().map(|&w| w * scale).collect();
        let a0 = noise::<F>(batch * n, 3);
        let da = noise::<F>(px.len(), 4);
        let (a_want, dpre_want, da0_want, dwaa_want) =
            naive((steps, batch, n), &px, &waa, &a0, &da);
        let bound = tolerance::<F>();
        let mut packed = Packed::new();

        let mut a = px;
        pack_for_forward(&mut packed, &waa, batch, n);
        recurrence_forward(&packed, &a0, &mut a, batch, n);
        assert_close("a", &a, &a_want, bound);

        let (mut dpre, mut da0) = (da, vec![F::from_f64(9.0); batch * n]);
        pack_for_backward(&mut packed, &waa, batch, n);
        recurrence_backward(&packed, &a, &mut dpre, &mut da0, batch, n);
        assert_close("dpre", &dpre, &dpre_want, bound);
        assert_close("da0", &da0, &da0_want, bound);

        let mut dwaa = vec![F::from_f64(9.0); n * n];
        let earlier = [&a0, &a[..(steps - 1) * batch * n]].concat();
        recurrence_weight_gradient(&dpre, &earlier, &mut dwaa, n, &mut packed);
        assert_close("dwaa", &dwaa, &dwaa_want, bound);
    }

    #[test]
    fn both_directions_equal_the_equations() {
        let shapes: &[(usize, usize, usize)] = if cfg!(miri) {
            &[(2, 1, 9), (3, 2, 3)]
        } else {
            &[
                (1, 1, 1),
                (1, 1, 50),
                (13, 1, 50),
                (3, 5, 7),
                (4, 2, 9),
                (2, 3, 257),
                (5, 32, 50),
                (7, 4, 1),
                (3, 1, 67),
                (2, 8, 64),
            ]
        };
        for &(steps, batch, n) in shapes {
            on_every_path(|| check::<f32>(steps, batch, n));
            on_every_path(|| check::<f64>(steps, batch, n));
        }
    }
}
