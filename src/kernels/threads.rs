//! Work divided among the threads of rayon's pool: the caller's, or else the global one.
//!
//! Each part has some rows of the result and computes each as it would alone: no sum is divided, so
//! that results do not depend on the number of threads.

use std::ops::Range;

/// Operations below which the work is not divided.
const MIN_OPERATIONS: usize = 1 << 22;

/// The number of parts, at most `count`, of work that takes so many operations.
#[inline]
pub(super) fn parts(count: usize, operations: usize) -> usize {
    #[cfg(test)]
    if let Some(parts) = tests::PARTS.get() {
        return parts.min(count).max(1);
    }
    match operations < MIN_OPERATIONS {
        true => 1,
        false => rayon::current_num_threads().min(count).max(1),
    }
}

/// The same for a function of each of `length` elements, which takes as long as reading them.
pub(super) fn parts_of_elements(length: usize) -> usize {
    parts(length, length.saturating_mul(32))
}

/// `work` on each of `shares`.
pub(super) fn for_each<T: Send>(shares: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let work = &work;
    rayon::in_place_scope(|scope| {
        let mut shares = shares.into_iter();
        let own = shares.next();
        shares.for_each(|share| scope.spawn(move |_| work(share)));
        own.into_iter().for_each(work);
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

/// The shares of each step of an array (T, B, n), whose steps are `size = B n` elements: for each part
/// its rows of every step.
pub(super) fn shares_of_steps<F>(
    array: &mut [F],
    size: usize,
    n: usize,
    parts: usize,
) -> Vec<Vec<&mut [F]>> {
    let mut steps: Vec<Vec<&mut [F]>> = (0..parts).map(|_| vec![]).collect();
    for step in array.chunks_exact_mut(size) {
        for (steps, (_, step)) in steps.iter_mut().zip(shares(step, n, parts)) {
            steps.push(step);
        }
    }
    steps
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// Makes [`parts`](super::parts) give this number where there is as much work, however small.
        pub static PARTS: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Runs `test` as one part, and then in up to three.
    pub fn in_parts(test: impl Fn()) {
        test();
        PARTS.set(Some(3));
        test();
        PARTS.set(None);
    }
}
