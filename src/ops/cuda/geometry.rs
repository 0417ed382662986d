//! The launch geometry of each kernel: blocks, threads and shared memory. It depends on nothing
//! else, so that the tests, which include this file, launch the kernels as the library does.

/// As in `kernels.cuh`.
pub(super) const THREADS: usize = 256;
pub(super) const ROW_LANES: usize = 16;
pub(super) const COLUMNS: usize = 32;

/// The size of a launch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub blocks: (usize, usize),
    pub threads: usize,
    /// Dynamic shared memory of a block, in bytes.
    pub shared: usize,
}

/// A thread an entry, for kernels that loop where there are more entries than threads.
pub(super) fn entries(count: usize) -> Geometry {
    Geometry { blocks: (count.div_ceil(THREADS).clamp(1, 4096), 1), threads: THREADS, shared: 0 }
}

/// For `project_input_backward`: a block for each tile of columns and each character or the bias.
pub(super) fn project_input_backward<F>(n: usize, v: usize) -> Geometry {
    let threads = ROW_LANES * COLUMNS;
    Geometry { blocks: (v + 1, n.div_ceil(COLUMNS)), threads, shared: threads * size_of::<F>() }
}

/// For `recurrence_forward` and `recurrence_backward`: a block a sequence, a thread a hidden unit
/// up to the maximum.
pub(super) fn recurrence<F>(batch: usize, n: usize) -> Geometry {
    let threads = n.next_multiple_of(32).min(THREADS);
    Geometry { blocks: (batch, 1), threads, shared: ((n | 1) * n + 2 * n) * size_of::<F>() }
}

/// Whether the recurrence fits in a block with `shared` bytes of shared memory, and so is one
/// launch.
pub(super) fn is_one_launch<F>(n: usize, shared: usize) -> bool {
    recurrence::<F>(1, n).shared <= shared
}

/// For `cross_entropy`: a block a row, about a thread a character.
pub(super) fn cross_entropy<F>(rows: usize, v: usize) -> Geometry {
    let threads = v.next_power_of_two().clamp(32, THREADS);
    Geometry { blocks: (rows.clamp(1, 1 << 20), 1), threads, shared: threads * size_of::<F>() }
}

/// For `sum`.
pub(super) fn sum() -> Geometry {
    Geometry { blocks: (1, 1), threads: THREADS, shared: THREADS * size_of::<f64>() }
}
