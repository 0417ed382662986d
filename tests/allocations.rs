//! In steady state a training iteration allocates nothing. Alone in its file: the counter sees the whole process.

use candle_core::{DType, Device};
use char_rnn::batch::Batch;
use char_rnn::bptt::{Bptt, Parameters};
use char_rnn::engine::{Backprop, engine};
use char_rnn::kernels::{Element, NONE};
use char_rnn::model::{Config, initialize};
use char_rnn::optim::DescentConfig;
use char_rnn::random::Randomness;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_after_the_longest<F: Element>(n: usize, v: usize, batch: usize) -> usize {
    let mut parameters = Parameters::<F>::zeros(n, v);
    let mut bptt = Bptt::new(n, v);
    let a0 = vec![F::ZERO; batch * n];
    let mut carried = a0.clone();
    let x = vec![NONE; 20 * batch];
    let y = vec![1; 20 * batch];
    let mut iterate = |steps: usize| {
        let rows = steps * batch;
        bptt.loss_and_gradients(&parameters, &x[..rows], &y[..rows], steps, batch, &a0, F::ONE);
        parameters.descend(bptt.gradients(), F::from_f64(0.01), F::from_f64(5.0));
        bptt.last_states(&y[..rows], &mut carried);
    };
    iterate(20);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for steps in [20, 3, 11, 1, 20] {
        iterate(steps);
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// The same through the engine that the program trains with, and its batches.
fn allocations_of_the_engine(dtype: DType) -> usize {
    let config = Config { vocabulary: 27, hidden: 50 };
    let normals = Randomness::Seed(1).normals();
    let vars = initialize(config, normals, dtype, &Device::Cpu).unwrap();
    let mut engine = engine(Backprop::Hand, config, &vars, DescentConfig::default(), 1).unwrap();
    let longest = [7; 20];
    let mut batch = Batch::default();
    let mut iterate = |length: usize| {
        batch.fill([&longest[..length], &longest[..length / 2]]);
        engine.step(&batch).unwrap();
    };
    iterate(20);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for length in [20, 3, 11, 1, 20] {
        iterate(length);
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn an_iteration_allocates_nothing_once_the_longest_was_seen() {
    let started = ALLOCATIONS.load(Ordering::Relaxed);
    for (n, v, batch) in [(50, 27, 1), (64, 27, 9), (7, 3, 2), (256, 27, 4)] {
        assert_eq!(allocations_after_the_longest::<f32>(n, v, batch), 0);
        assert_eq!(allocations_after_the_longest::<f64>(n, v, batch), 0);
    }
    for dtype in [DType::F32, DType::F64] {
        assert_eq!(allocations_of_the_engine(dtype), 0);
    }
    // The counter does count.
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > started);
}
