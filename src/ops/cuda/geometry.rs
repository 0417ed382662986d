//! How many blocks, threads and how much shared memory each kernel is launched with, and which
//! sizes go which way. Here alone, so that the tests launch as the program does.

/// The most threads a block has on any GPU.
const MOST_THREADS: usize = 1024;
/// As `kernels.cuh` has them.
const ROW_LANES: usize = 16;
const COLUMNS: usize = 32;

/// The size of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub blocks: (usize, usize),
    pub threads: usize,
    /// In bytes.
    pub shared: usize,
}

/// A thread an entry, for kernels whose threads go on to further entries where there are more.
pub fn entries(count: usize) -> Geometry {
    Geometry { blocks: (count.div_ceil(256).clamp(1, 4096), 1), threads: 256, shared: 0 }
}

/// For `project_input_backward`: every character and the bias, and for each the columns in tiles.
pub fn project_input_backward<F>(n: usize, v: usize) -> Geometry {
    let threads = ROW_LANES * COLUMNS;
    Geometry { blocks: (v + 1, n.div_ceil(COLUMNS)), threads, shared: threads * size_of::<F>() }
}

/// For `recurrence_forward` and `recurrence_backward`: a block a sequence, a thread a hidden unit.
pub fn recurrence<F>(batch: usize, n: usize) -> Geometry {
    let threads = n.next_multiple_of(32).min(MOST_THREADS);
    Geometry { blocks: (batch, 1), threads, shared: ((n | 1) * n + 2 * n) * size_of::<F>() }
}

/// For `cross_entropy`: a block a row, its threads about as many as the vocabulary has characters.
pub fn cross_entropy<F>(rows: usize, v: usize) -> Geometry {
    let threads = v.next_power_of_two().clamp(32, 256);
    Geometry { blocks: (rows.clamp(1, 1 << 20), 1), threads, shared: threads * size_of::<F>() }
}

/// For `sum`.
pub fn sum() -> Geometry {
    Geometry { blocks: (1, 1), threads: 256, shared: 256 * size_of::<f64>() }
}

/// For `bptt_of_one`.
pub fn bptt_of_one<F>(n: usize) -> Geometry {
    Geometry { threads: 512, ..recurrence::<F>(1, n) }
}

/// Whether a block of a GPU that lends it `shared` bytes can hold the recurrence. Where it cannot,
/// each step is a matrix product of cuBLAS and one more launch.
pub fn one_launch<F>(n: usize, shared: usize) -> bool {
    recurrence::<F>(1, n).shared <= shared
}

/// Whether `bptt_of_one` is the way for a batch: one sequence, a network that a block can hold, and
/// a vocabulary that one thread goes through in the time that the steps take anyway.
pub fn whole_step<F>(batch: usize, n: usize, v: usize, shared: usize) -> bool {
    batch == 1 && v <= 128 && one_launch::<F>(n, shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_networks_are_one_launch_and_others_are_not() {
        // What an H100 and an A100 lend to a block.
        let (h100, a100) = (232_448, 166_912);
        assert!(one_launch::<f32>(239, h100) && !one_launch::<f32>(240, h100));
        assert!(one_launch::<f64>(169, h100) && !one_launch::<f64>(170, h100));
        assert!(one_launch::<f32>(203, a100) && !one_launch::<f32>(204, a100));
        assert!(whole_step::<f64>(1, 50, 27, a100));
        assert!(!whole_step::<f64>(2, 50, 27, a100) && !whole_step::<f64>(1, 50, 1000, a100));
    }
}
