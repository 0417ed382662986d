//! How many blocks, threads and how much shared memory each kernel is launched with, and which
//! sizes go which way. Here alone, so that the tests launch as the program does.

/// As `kernels.cuh` has them.
const THREADS: usize = 256;
const MOST_THREADS: usize = 512;
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
    Geometry { blocks: (count.div_ceil(THREADS).clamp(1, 4096), 1), threads: THREADS, shared: 0 }
}

/// For `project_input_backward`: every character and the bias, and for each the columns in tiles.
pub fn project_input_backward<F>(n: usize, v: usize) -> Geometry {
    let threads = ROW_LANES * COLUMNS;
    Geometry { blocks: (v + 1, n.div_ceil(COLUMNS)), threads, shared: threads * size_of::<F>() }
}

/// For `recurrence_forward` and `recurrence_backward`: a block a sequence, a thread a hidden unit, as far as
/// they go.
pub fn recurrence<F>(batch: usize, n: usize) -> Geometry {
    let threads = n.next_multiple_of(32).min(THREADS);
    Geometry { blocks: (batch, 1), threads, shared: ((n | 1) * n + 2 * n) * size_of::<F>() }
}

/// For `cross_entropy`: a block a row, its threads about as many as the vocabulary has characters.
pub fn cross_entropy<F>(rows: usize, v: usize) -> Geometry {
    let threads = v.next_power_of_two().clamp(32, THREADS);
    Geometry { blocks: (rows.clamp(1, 1 << 20), 1), threads, shared: threads * size_of::<F>() }
}

/// For `sum`.
pub fn sum() -> Geometry {
    Geometry { blocks: (1, 1), threads: THREADS, shared: THREADS * size_of::<f64>() }
}

/// For `bptt_of_one`.
pub fn bptt_of_one<F>(n: usize) -> Geometry {
    Geometry { threads: MOST_THREADS, ..recurrence::<F>(1, n) }
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
    fn no_block_has_more_threads_than_its_kernel_is_compiled_for() {
        let source = include_str!("kernels.cuh");
        let defined = |name: &str, value: usize| {
            assert!(source.contains(&format!("#define {name} {value}\n")), "{name}");
        };
        defined("THREADS", THREADS);
        defined("MOST_THREADS", MOST_THREADS);
        defined("ROW_LANES", ROW_LANES);
        defined("COLUMNS", COLUMNS);
        let most = |kernel: &str| {
            let bound = |name| format!("__launch_bounds__({name}) {kernel}(");
            match source.contains(&bound("THREADS")) {
                true => THREADS,
                false => {
                    assert!(source.contains(&bound("MOST_THREADS")), "{kernel}");
                    MOST_THREADS
                }
            }
        };
        for size in [1, 31, 50, 239, 257, 5000] {
            for kernel in ["recurrence_forward", "recurrence_backward"] {
                assert!(recurrence::<f32>(3, size).threads <= most(kernel));
            }
            assert!(cross_entropy::<f64>(9, size).threads <= most("cross_entropy"));
            let back = project_input_backward::<f64>(size, size);
            assert!(back.threads <= most("project_input_backward"));
            assert!(bptt_of_one::<f64>(size).threads <= most("bptt_of_one"));
            for kernel in [
                "project_input",
                "add_tanh",
                "add_times_slope",
                "clipped_descent",
                "adamw_moments",
                "adamw_descent",
            ] {
                assert!(entries(size * size).threads <= most(kernel));
            }
        }
        assert!(sum().threads <= most("sum"));
    }

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
