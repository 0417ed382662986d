//! Work divided among candle's threads, `CANDLE_NUM_THREADS` of them.
//!
//! Each part has some rows of the result and computes each as it would alone: no sum is divided, so
//! that results do not depend on the number of threads. Candle's threads spin for a moment after
//! their work before they sleep. With rayon's a step of 256 hidden units and 32 names took 1.37 times
//! as long on two threads.

use candle_core::utils::barrier_pool;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Mutex;

/// Operations below which the work is not divided: with 50 hidden units and 64 names the products have
/// 2 to 4 million, and a second thread saved nothing.
const MIN_OPERATIONS: usize = 1 << 22;
/// Rows of a part: from three on, [tiles](super::tile) sum in the same order.
pub(super) const MIN_ROWS: usize = 4;

/// The number of parts, at most `count`, of work that takes so many operations.
#[inline]
pub(super) fn parts(count: usize, operations: usize) -> usize {
    #[cfg(test)]
    if let Some(parts) = tests::PARTS.get() {
        return parts.min(count).max(1);
    }
    match operations < MIN_OPERATIONS {
        true => 1,
        false => (barrier_pool().n_workers() + 1).min(count).max(1),
    }
}

/// The same for a function of each of `length` elements, which takes as long as reading them.
pub(super) fn parts_of_elements(length: usize) -> usize {
    parts(length, length.saturating_mul(32))
}

/// `work` on each of `shares`.
pub(super) fn for_each<T: Send>(shares: Vec<T>, work: impl Fn(T) + Sync) {
    let shares = Mutex::new(shares.into_iter());
    let next = || shares.lock().expect("nothing panics while it has the lock").next();
    barrier_pool().execute(|_| {
        while let Some(share) = next() {
            work(share);
        }
    });
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
pub(super) fn shares<F>(mut c: &mut [F], n: usize, parts: usize) -> Vec<(Range<usize>, &mut [F])> {
    let rows = c.len() / n;
    let share = |part| {
        let range = range(part, parts, rows);
        (range.clone(), c.split_off_mut(..range.len() * n).expect("parts have all rows"))
    };
    (0..parts).map(share).collect()
}

/// The rows of part `part` of `parts`.
fn range(part: usize, parts: usize, rows: usize) -> Range<usize> {
    part * rows / parts..(part + 1) * rows / parts
}

/// The same rows of every step of an array (T, B, n): of all sequences, or of some.
pub(super) struct Steps<'a, F> {
    start: *mut F,
    /// Elements from a step to the next.
    stride: usize,
    /// Elements of a step.
    length: usize,
    count: usize,
    array: PhantomData<&'a mut [F]>,
}

// SAFETY: it is used as the `&mut [F]` it was made from.
unsafe impl<F: Send> Send for Steps<'_, F> {}

impl<'a, F> Steps<'a, F> {
    /// All of `array`, in steps of `length` elements.
    pub fn new(array: &'a mut [F], length: usize) -> Self {
        let count = array.len() / length;
        Self { start: array.as_mut_ptr(), stride: length, length, count, array: PhantomData }
    }

    /// In `parts` parts, each with rows of `n` elements: their places in a step, and the rows.
    pub fn split(self, parts: usize, n: usize) -> Vec<(Range<usize>, Self)> {
        let part = |part| {
            let rows = range(part, parts, self.length / n);
            let range = rows.start * n..rows.end * n;
            // Inside the array, or at its end where there are no steps.
            let start = self.start.wrapping_add(range.start);
            (range.clone(), Self { start, length: range.len(), ..self })
        };
        (0..parts).map(part).collect()
    }

    /// The number of steps.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Step `t`.
    #[inline(always)]
    pub fn get(&mut self, t: usize) -> &mut [F] {
        assert!(t < self.count);
        // SAFETY: `length` elements from here on are those of step t that belong to this value alone:
        // `new` has the whole array borrowed, and `split` gives each part other elements.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(t * self.stride), self.length) }
    }

    /// Steps `t` and `t + 1`.
    #[inline(always)]
    pub fn pair(&mut self, t: usize) -> (&mut [F], &mut [F]) {
        assert!(t + 1 < self.count);
        // SAFETY: as in `get`; two steps do not overlap, being `stride >= length` apart.
        unsafe {
            let now = self.start.add(t * self.stride);
            let after = now.add(self.stride);
            let slice = |start| std::slice::from_raw_parts_mut(start, self.length);
            (slice(now), slice(after))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// Makes [`parts`](super::parts) give this number where there is as much work, however small.
        pub(super) static PARTS: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Runs `test` as one part, and then in up to three.
    pub fn in_parts(test: impl Fn()) {
        test();
        PARTS.set(Some(3));
        test();
        PARTS.set(None);
    }
}
