//! In steady state a training iteration allocates nothing. Alone in its file: the counter sees the whole process.

use char_rnn::bptt::{Bptt, Parameters};
use char_rnn::kernels::{Element, NONE};
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

#[test]
fn an_iteration_allocates_nothing_once_the_longest_was_seen() {
    let started = ALLOCATIONS.load(Ordering::Relaxed);
    for (n, v, batch) in [(50, 27, 1), (64, 27, 9), (7, 3, 2), (256, 27, 4)] {
        assert_eq!(allocations_after_the_longest::<f32>(n, v, batch), 0);
        assert_eq!(allocations_after_the_longest::<f64>(n, v, batch), 0);
    }
    // The counter does count.
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > started);
}
