//! In steady state a training iteration by `hand` on one thread allocates nothing, except that the
//! crate `gemm` allocates its working memory at each product, which here are too small for it. Alone
//! in its file: the counter is the allocator of the whole process, but counts each thread by itself,
//! since the test harness allocates too, to say that a test takes long.

use candle_core::{DType, Device};
use char_rnn::data::{Corpus, LetterCase};
use char_rnn::train::{GradientMethod, Observer, OptimizerKind, Progress, TrainConfig, Trainer};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;

struct Counting;

thread_local! {
    /// Of this thread. Neither its first use nor its end allocates.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The iterations that are counted. Iteration 0 allocates: it evaluates, and makes the buffers for
/// its minibatch. So do later ones where a longer name enlarges the buffers, or where a series of
/// the history doubles its capacity, at its 5th, 9th, 17th, ... value. Nothing of that is left from
/// iteration 514 on: every name was trained on, the losses have the capacity of 512,
/// and of the gradients fewer than 100 are kept.
const COUNTED: std::ops::Range<u64> = 514..998;

/// The allocations from the end of the first counted iteration to the end of the last.
#[derive(Default)]
struct Counter {
    start: usize,
    end: usize,
}

impl Observer for Counter {
    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        let allocations = ALLOCATIONS.get();
        if progress.iteration == COUNTED.start {
            self.start = allocations;
        }
        if progress.iteration < COUNTED.end {
            self.end = allocations;
        }
        ControlFlow::Continue(())
    }
}

fn allocations(config: &TrainConfig) -> usize {
    let list = b"a\nab\nabcabcabcabcabcabca\nabca\nbb\n";
    let corpus = Corpus::parse(list, "", LetterCase::Lower).unwrap();
    let mut counter = Counter::default();
    Trainer::new(&corpus, config, &Device::Cpu).unwrap().run(&mut counter).unwrap();
    assert!(counter.start > 0, "nothing was counted");
    counter.end - counter.start
}

#[test]
fn an_iteration_by_hand_allocates_nothing_once_the_buffers_are_large_enough() {
    let config = |backprop, dtype, batch_size, hidden, optimizer| TrainConfig {
        iterations: COUNTED.end,
        batch_size,
        hidden,
        optimizer,
        backprop,
        dtype,
        ..TrainConfig::default()
    };
    for dtype in [DType::F32, DType::F64] {
        for (batch_size, hidden) in [(1, 50), (1, 130), (4, 30), (4, 7)] {
            for optimizer in OptimizerKind::ALL {
                let config = config(GradientMethod::Hand, dtype, batch_size, hidden, optimizer);
                assert_eq!(allocations(&config), 0, "{config:?}");
            }
        }
    }
    // The counter does count: candle allocates its tensors.
    let autograd = config(GradientMethod::Autograd, DType::F32, 1, 7, OptimizerKind::Sgd);
    assert!(allocations(&autograd) > COUNTED.end as usize);
}
