//! Threads that learn the parts of a batch side by side.

use candle_core::{Error, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::ops::Range;

/// So many threads. How a batch is cut depends on nothing but their number, so that the same
/// number gives the same results.
pub(super) struct Workers {
    threads: usize,
    /// None for the one thread that is there anyway.
    pool: Option<ThreadPool>,
}

impl Workers {
    pub(super) fn new(threads: usize) -> Result<Self> {
        let pool = match threads {
            0 | 1 => None,
            _ => Some(ThreadPoolBuilder::new().num_threads(threads).build().map_err(Error::wrap)?),
        };
        Ok(Self { threads: threads.max(1), pool })
    }

    /// How many parts there are at most.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// The parts of a batch of `size` names: as equal as can be, none empty.
    pub(super) fn parts(&self, size: usize) -> impl ExactSizeIterator<Item = Range<usize>> + use<> {
        let count = self.threads.min(size);
        (0..count).map(move |part| part * size / count..(part + 1) * size / count)
    }

    /// Does `work` on each of `parts`, and gives the answers in their order.
    pub(super) fn map<T: Send, R: Send>(
        &self,
        parts: &mut [T],
        work: impl Fn(&mut T) -> R + Send + Sync,
    ) -> Vec<R> {
        match &self.pool {
            Some(pool) => pool.install(|| parts.par_iter_mut().map(&work).collect()),
            None => parts.iter_mut().map(work).collect(),
        }
    }
}
