//! Work divided among the threads of rayon's pool: the caller's, or else the global one.
//!
//! Each part has some rows of the result and computes each as it would alone: no sum is divided, so
//! that results do not depend on the number of threads.

use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The size of a training step, the operations of its largest product, from which its kernels are
/// divided. With 128 hidden units and 22 names, just above, a step on two cores takes 0.72 of the time
/// on one.
///
/// All are or none is: rayon's threads sleep where they have nothing to do for some microseconds, and
/// to wake one takes longer than a small product.
const STEP: usize = 1 << 23;
/// The same where there are too few sequences to divide the recurrence. With 256 hidden units and six
/// names, just above [`STEP`], two threads would take 1.12 of the time of one.
const STEP_OF_FEW: usize = 1 << 25;
/// The size of a kernel on its own from which it is divided. Between the ops of a graph candle works
/// long enough for the threads to fall asleep: a step by autograd with 256 hidden units and 32 names,
/// an eighth of this, took 1.04 of the time of one thread.
const KERNEL: usize = 1 << 28;
/// The size from which each thread has two parts: where another program has one of the cores, the
/// others take over what its thread has not begun.
const LARGE: usize = 1 << 28;
/// Rows of a part of a product, at least: gemm sums a single one in another order.
pub(super) const MIN_ROWS: usize = 4;
/// The weights of a part, at least.
const WEIGHTS: usize = 1 << 13;

thread_local! {
    /// The parts of each kernel in a [`Pass`].
    static PARTS: Cell<Option<usize>> = const { Cell::new(None) };
    /// Until when nothing is divided.
    static PAUSE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The number of parts of work of `size` operations. Below `least` it is 1.
fn parts_from(least: usize, size: usize) -> usize {
    if size < least {
        return 1;
    }
    match rayon::current_num_threads() {
        threads if threads == 1 || size < LARGE => threads,
        threads => 2 * threads,
    }
}

/// While it lives, the kernels of this thread are a pass of a training step of so many sequences, with
/// `rows` rows in all, and `n` hidden units. They follow each other at once, and are divided all or
/// none.
pub(crate) struct Pass(Option<usize>);

impl Pass {
    pub fn new(sequences: usize, rows: usize, n: usize) -> Self {
        let before = PARTS.get();
        let least = if sequences < 2 * MIN_ROWS { STEP_OF_FEW } else { STEP };
        PARTS.set(before.or_else(|| Some(parts_from(least, operations([rows, n, n])))));
        Self(before)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        PARTS.set(self.0);
    }
}

/// The operations of a product of matrices (m, k) and (k, n).
pub(super) fn operations([m, k, n]: [usize; 3]) -> usize {
    m.saturating_mul(k).saturating_mul(n).saturating_mul(2)
}

/// The number of parts, at most `count`, of a kernel of `size` operations.
#[inline]
pub(super) fn parts(count: usize, size: usize) -> usize {
    at_most(count, PARTS.get().unwrap_or_else(|| parts_from(KERNEL, size)))
}

/// The number of parts of a function of each of `length` weights. On its own it is not divided: it
/// takes as long as reading them.
pub(super) fn parts_of_weights(length: usize) -> usize {
    at_most(length / WEIGHTS, PARTS.get().unwrap_or(1))
}

/// `parts` parts, but at most `count`, and one in a pause.
fn at_most(count: usize, parts: usize) -> usize {
    match parts.min(count) {
        2.. if PAUSE.get().is_some_and(|end| Instant::now() < end) => 1,
        parts => parts.max(1),
    }
}

/// `work` on each of `shares`, which take about as long as each other.
///
/// Where another program has a core, a thread may lose it for milliseconds in the middle of a share,
/// and this one waits: `train --best` on two cores, one of them busy, took 1.6 times as long as by one
/// thread. Then nothing is divided for a while, so that a wait costs a small part of the time: 1.06
/// times as long. A wait for a thread that slept is shorter.
pub(super) fn for_each<T: Send>(shares: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let (work, start) = (&work, Instant::now());
    let (mut own, mut others) = (Duration::ZERO, 0);
    rayon::in_place_scope(|scope| {
        let mut shares = shares.into_iter();
        let first = shares.next();
        for share in shares {
            scope.spawn(move |_| work(share));
            others += 1;
        }
        first.into_iter().for_each(work);
        own = start.elapsed();
    });
    // A thread has at most so many shares.
    let expected = own * (1 + others / rayon::current_num_threads() as u32);
    let wait = start.elapsed().saturating_sub(expected);
    if wait > own / 2 + Duration::from_micros(500) {
        PAUSE.set(Some(Instant::now() + 32 * wait));
    }
}

/// `work` on all `rows` rows of `c`, in `parts` parts. A single part allocates nothing.
pub(super) fn for_rows<F: Send>(
    c: &mut [F],
    rows: usize,
    parts: usize,
    work: impl Fn(Range<usize>, &mut [F]) + Sync,
) {
    match parts {
        1 => work(0..rows, c),
        _ => {
            let n = c.len() / rows;
            for_each(shares(c, n, parts), |(rows, c)| work(rows, c));
        }
    }
}

/// `parts` parts of `c`, which are whole rows of `n` elements, with the numbers of their rows.
pub(super) fn shares<F>(
    mut c: &mut [F],
    n: usize,
    parts: usize,
) -> impl Iterator<Item = (Range<usize>, &mut [F])> {
    let rows = c.len() / n;
    (0..parts).map(move |part| {
        let range = part * rows / parts..(part + 1) * rows / parts;
        (range.clone(), c.split_off_mut(..range.len() * n).expect("parts have all rows"))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::PARTS;

    /// Runs `test` as one part, and then in up to three, however little work there is.
    pub fn in_parts(test: impl Fn()) {
        test();
        with_parts(3, test);
    }

    /// Runs `work` in `parts` parts where there are as many rows.
    pub fn with_parts<R>(parts: usize, work: impl FnOnce() -> R) -> R {
        PARTS.set(Some(parts));
        let result = work();
        PARTS.set(None);
        result
    }
}
