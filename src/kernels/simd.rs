//! Entering the instruction set of this machine, and loops over slices a vector at a time.

use super::element::Element;
use pulp::{Arch, Simd, WithSimd};
use std::sync::OnceLock;

/// Runs `op` compiled for the best instruction set of this machine.
#[inline(always)]
pub(super) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    arch().dispatch(op)
}

/// The instruction set. Detected once: detection takes a dozen queries of the processor, and a
/// training step at `n = 50` enters a dozen kernels in less than ten microseconds.
#[inline(always)]
fn arch() -> Arch {
    #[cfg(test)]
    if tests::SCALAR.get() {
        return Arch::Scalar;
    }
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(Arch::new)
}

/// `x[i] = f(x[i])`, a vector at a time, for an `f` that works lane by lane. `f` must be
/// `inline(always)`: `map!` adds the attribute.
///
/// Masked stores are slow (20 cycles on Zen 4), so when the length is no multiple of the vector,
/// the last vector overlaps the one before. It is loaded before anything is stored: the shared
/// elements are then computed twice from the same input, and written twice with the same value.
#[inline(always)]
pub(super) fn map_with<F: Element, S: Simd>(
    simd: S,
    x: &mut [F],
    f: impl Fn(F::Vector<S>) -> F::Vector<S>,
) {
    let lanes = F::lanes::<S>();
    if x.len() < lanes {
        let v = F::load_partial(simd, x);
        F::store_partial(simd, x, f(v));
        return;
    }
    let tail = x.len() - lanes;
    let v = F::load(simd, &x[tail..]);
    for chunk in x.chunks_exact_mut(lanes) {
        let v = F::load(simd, chunk);
        F::store(simd, chunk, f(v));
    }
    if !x.len().is_multiple_of(lanes) {
        F::store(simd, &mut x[tail..], f(v));
    }
}

/// [`map_with`] with an `inline(always)` closure.
macro_rules! map {
    ($simd:expr, $x:expr, |$v:ident| $f:expr) => {
        $crate::kernels::simd::map_with(
            $simd,
            $x,
            #[inline(always)]
            |$v| $f,
        )
    };
}
pub(super) use map;

/// `x[i] = f(x[i], y[i])`, called by `zip!`; see [`map_with`].
#[inline(always)]
pub(super) fn zip_with<F: Element, S: Simd>(
    simd: S,
    x: &mut [F],
    y: &[F],
    f: impl Fn(F::Vector<S>, F::Vector<S>) -> F::Vector<S>,
) {
    assert_eq!(x.len(), y.len());
    let lanes = F::lanes::<S>();
    if x.len() < lanes {
        let v = F::load_partial(simd, x);
        F::store_partial(simd, x, f(v, F::load_partial(simd, y)));
        return;
    }
    let tail = x.len() - lanes;
    let v = F::load(simd, &x[tail..]);
    for (x, y) in x.chunks_exact_mut(lanes).zip(y.chunks_exact(lanes)) {
        let v = F::load(simd, x);
        F::store(simd, x, f(v, F::load(simd, y)));
    }
    if !x.len().is_multiple_of(lanes) {
        F::store(simd, &mut x[tail..], f(v, F::load(simd, &y[tail..])));
    }
}

/// [`zip_with`] with an `inline(always)` closure.
macro_rules! zip {
    ($simd:expr, $x:expr, $y:expr, |$v:ident, $w:ident| $f:expr) => {
        $crate::kernels::simd::zip_with(
            $simd,
            $x,
            $y,
            #[inline(always)]
            |$v, $w| $f,
        )
    };
}
pub(super) use zip;

/// Where the vectors of `length` elements begin; the last may overlap the one before. `length` is at
/// least `lanes`.
#[inline(always)]
pub(super) fn starts(length: usize, lanes: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(lanes).map(move |at| at.min(length - lanes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Makes [`dispatch`] take the scalar path in this thread.
        pub(super) static SCALAR: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `test` on the machine's best instruction set and then on the scalar path.
    pub(crate) fn on_every_path(test: impl Fn()) {
        test();
        SCALAR.set(true);
        test();
        SCALAR.set(false);
    }

    /// Pseudorandom numbers in -1..1, the same on every run.
    pub(crate) fn noise<F: Element>(count: usize, seed: u64) -> Vec<F> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                F::from_f64((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
            })
            .collect()
    }

    /// Fails unless every element agrees within `bound`, absolutely or relatively.
    #[track_caller]
    pub(crate) fn assert_close<F: Element>(what: &str, got: &[F], want: &[F], bound: f64) {
        assert_eq!(got.len(), want.len(), "{what}: length");
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            let (g, w) = (g.to_f64(), w.to_f64());
            assert!((g - w).abs() <= bound * (1.0 + w.abs()), "{what}[{i}]: {g} instead of {w}");
        }
    }

    /// The bound for [`assert_close`] after a sum of about a thousand terms.
    pub(crate) fn tolerance<F: Element>() -> f64 {
        if size_of::<F>() == 4 { 2e-5 } else { 1e-13 }
    }

    struct Apply<'a, F>(&'a mut [F], &'a [F]);
    impl<F: Element> WithSimd for Apply<'_, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            map!(simd, self.0, |v| F::plus(simd, v, F::splat(simd, F::ONE)));
            zip!(simd, self.0, self.1, |v, w| F::times(simd, v, w));
        }
    }

    fn check<F: Element>() {
        for length in (0..70).chain([257, 1000]) {
            let (x, y) = (noise::<F>(length, 1), noise::<F>(length, 2));
            let mut got = x.clone();
            dispatch(Apply(&mut got, &y));
            let want: Vec<F> = x.iter().zip(&y).map(|(&x, &y)| (x + F::ONE) * y).collect();
            assert_eq!(got, want, "length {length}");
        }
    }

    #[test]
    fn map_and_zip_apply_once_to_each_element() {
        on_every_path(check::<f32>);
        on_every_path(check::<f64>);
    }
}
