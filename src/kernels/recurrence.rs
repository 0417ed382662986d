//! The recurrence over all steps, and its gradient.
//!
//! Step t has the first `sizes[t]` of the B sequences, which end in the order of their rows, the last
//! first: `sizes` only decreases, and equal sizes are a whole (T, B). Shapes: `px`, `a`, `da` and
//! `dpre` (R, n), the rows of one step after those of another, R = sum of `sizes`; `waa` (n, n);
//! `a0` (B, n), B = `sizes[0]`.

use super::element::Element;
use super::math::tanh;
use super::product::{Matrix, Right, Scratch, padded, product};
use super::simd::{dispatch, zip};
use super::threads::{MIN_ROWS, for_each, operations, parts};
use pulp::{Simd, WithSimd};
use std::ops::Range;

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
    if now.is_empty() {
        return;
    }
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
    /// The rows of these sequences in each step.
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

/// `a_t = tanh(px_t + waa a_{t-1})` for t = 1 .. T, in place: `a` holds `px` before and the states
/// after.
///
/// Cost: `2 R n^2` operations and `R n` tanh.
///
/// # Panics
///
/// When `a0` or `a` do not have the rows that `sizes` say.
pub(crate) fn recurrence_forward<F: Element>(
    waa: &[F],
    a0: &[F],
    a: &mut [F],
    sizes: &[usize],
    n: usize,
    scratch: &mut Scratch<F>,
) {
    check(a, sizes, n);
    let Some(&batch) = sizes.first() else { return };
    assert_eq!(a0.len(), batch * n, "the first state is not (B, n)");
    let parts = parts(batch / MIN_ROWS, operations([a.len() / n, n, n]));
    let (copy, mut sums) = scratch.split(batch, n);
    let waa = Right::repeated(batch, n, waa, true, copy);
    if parts == 1 {
        return dispatch(Forward { waa, a0, steps: steps(a, sizes, n), sums, n });
    }
    let shares = divided(sizes, parts);
    let states = shares_of_steps(steps(a, sizes, n), &shares, n);
    let sums = shares.iter().map(|rows| take(&mut sums, rows.len() * padded::<F>(n)));
    for_each(states.into_iter().zip(&shares).zip(sums), |((steps, rows), sums)| {
        let a0 = &a0[rows.start * n..rows.end * n];
        dispatch(Forward { waa, a0, steps: steps.into_iter(), sums, n });
    });
}

/// The rows of each step of `array`, of `n` elements.
fn steps<'a, F>(
    mut array: &'a mut [F],
    sizes: &'a [usize],
    n: usize,
) -> impl Iterator<Item = &'a mut [F]> {
    sizes.iter().map(move |size| take(&mut array, size * n))
}

/// Takes the first `count` elements.
fn take<'a, F>(array: &mut &'a mut [F], count: usize) -> &'a mut [F] {
    array.split_off_mut(..count).expect("an array has the rows of all steps")
}

/// Divides the sequences into `parts` ranges with about as many rows each, over all steps. Each begins
/// at an even sequence and has two at least, and `sizes` are even, or B: no part has a single row at
/// a step, which would be summed in another order.
fn divided(sizes: &[usize], parts: usize) -> Vec<Range<usize>> {
    let (pairs, rows) = (sizes[0] / 2, sizes.iter().sum::<usize>());
    let rows_before = |pair| sizes.iter().map(|&size| size.min(2 * pair)).sum::<usize>();
    let mut starts = vec![0];
    for part in 1..parts {
        let (least, most) = (starts[part - 1] + 1, pairs - (parts - part));
        let is_enough = |&pair: &usize| rows_before(pair) * parts >= rows * part;
        starts.push((least..most).find(is_enough).unwrap_or(most));
    }
    let ends = starts[1..].iter().map(|pair| 2 * pair).chain([sizes[0]]);
    starts.iter().zip(ends).map(|(start, end)| 2 * start..end).collect()
}

/// The rows of each of `shares`, ranges of sequences, in each of the steps that it has rows in.
fn shares_of_steps<'a, F>(
    steps: impl Iterator<Item = &'a mut [F]>,
    shares: &[Range<usize>],
    n: usize,
) -> Vec<Vec<&'a mut [F]>> {
    let mut all: Vec<Vec<&mut [F]>> = shares.iter().map(|_| vec![]).collect();
    for mut step in steps {
        for (own, rows) in all.iter_mut().zip(shares) {
            match (rows.len() * n).min(step.len()) {
                0 => break,
                count => own.push(take(&mut step, count)),
            }
        }
    }
    all
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
        let Self { waa, steps, sums, n } = self;
        let mut after: &[F] = &[];
        for (a, now) in steps {
            let (longer, last) = now.split_at_mut(after.len());
            zip!(simd, last, &a[longer.len()..], |d, a| tanh_gradient::<F, S>(simd, d, a));
            step(
                simd,
                after,
                waa,
                longer,
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

/// `dpre_t = (da_t + waa^T dpre_{t+1}) (1 - a_t^2)` for t = T .. 1, without the second term at the
/// last step of a sequence.
///
/// In place: `dpre` holds `da` before, the gradient of each state from outside the recurrence, and
/// the gradient of `px` after. The gradient of `waa` is [`recurrence_weight_gradient`], that of the
/// first states one product more, `waa^T dpre_1`. Cost: `2 R n^2` operations.
///
/// # Panics
///
/// When `a` or `dpre` do not have the rows that `sizes` say.
pub(crate) fn recurrence_backward<F: Element>(
    waa: &[F],
    a: &[F],
    dpre: &mut [F],
    sizes: &[usize],
    n: usize,
    scratch: &mut Scratch<F>,
) {
    check(dpre, sizes, n);
    assert_eq!(a.len(), dpre.len(), "a and dpre differ in length");
    let Some(&batch) = sizes.first() else { return };
    let parts = parts(batch / MIN_ROWS, operations([a.len() / n, n, n]));
    let (copy, mut sums) = scratch.split(batch, n);
    let waa = Right::repeated(batch, n, waa, false, copy);
    if parts == 1 {
        let (mut a, mut rest) = (a, &mut *dpre);
        let steps = sizes.iter().rev().map(|size| {
            let start = a.len() - size * n;
            let step = (a.split_off(start..), rest.split_off_mut(start..));
            (step.0.expect("rows of a step"), step.1.expect("rows of a step"))
        });
        return dispatch(Backward { waa, steps, sums, n });
    }
    let shares = divided(sizes, parts);
    let dpre = shares_of_steps(steps(dpre, sizes, n), &shares, n);
    let mut rest = a;
    let a: Vec<_> = sizes.iter().map(|size| rest.split_off(..size * n).expect("rows")).collect();
    let sums = shares.iter().map(|rows| take(&mut sums, rows.len() * padded::<F>(n)));
    for_each(dpre.into_iter().zip(&shares).zip(sums), |((dpre, rows), sums)| {
        let a = a.iter().zip(&dpre).map(|(a, dpre)| &a[rows.start * n..][..dpre.len()]);
        let steps = a.collect::<Vec<_>>().into_iter().zip(dpre).rev();
        dispatch(Backward { waa, steps, sums, n });
    });
}

fn check<F>(a: &[F], sizes: &[usize], n: usize) {
    assert!(n > 0 && !sizes.contains(&0), "an empty batch or state");
    assert!(sizes.is_sorted_by(|before, after| before >= after), "a sequence begins late");
    assert_eq!(a.len(), sizes.iter().sum::<usize>() * n, "not the rows of all steps");
}

/// `dwaa (n, n) = sum over t and i of dpre[t,i] a[t-1,i]^T`, one product over time.
///
/// `earlier` is (R, n): a_{t-1} of each row. Cost: `2 R n^2` operations.
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
    //! The values are compared in [`crate::train::bptt`] with those of the reference.

    use super::super::simd::tests::noise;
    use super::super::threads::tests::with_parts;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn states_and_gradients_do_not_depend_on_the_number_of_parts(
            pairs in prop::collection::vec(1usize..40, 1..5), odd: bool,
            n in 1usize..140, parts in 2usize..6,
        ) {
            let mut sizes: Vec<usize> = pairs.iter().map(|pairs| 2 * pairs).collect();
            sizes.sort_by_key(|&size| std::cmp::Reverse(size));
            sizes[0] += usize::from(odd);
            let (rows, batch) = (sizes.iter().sum::<usize>(), sizes[0]);
            let (waa, a0) = (noise::<f32>(n * n, 1), noise::<f32>(batch * n, 2));
            let (px, da) = (noise::<f32>(rows * n, 3), noise::<f32>(rows * n, 4));
            let run = || {
                let (mut a, mut dpre, mut dwaa) = (px.clone(), da.clone(), vec![0.; n * n]);
                let mut scratch = Scratch::default();
                recurrence_forward(&waa, &a0, &mut a, &sizes, n, &mut scratch);
                recurrence_backward(&waa, &a, &mut dpre, &sizes, n, &mut scratch);
                recurrence_weight_gradient(&dpre, &px, &mut dwaa, n, &mut scratch);
                (a, dpre, dwaa)
            };
            prop_assert!(with_parts(1, run) == with_parts(parts, run));
        }
    }
}
