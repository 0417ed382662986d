//! A training step by each way back, update and carried state included, on one thread:
//! `cargo bench --bench training_step`. Against other programs: `scripts/compare.py`.
//!
//! Elements are names. Single precision, random names of T predictions each.

// Criterion's macro makes a public function without one.
#![allow(missing_docs)]

use candle_core::{DType, Device};
use char_rnn::batch::Batch;
use char_rnn::engine::{Backprop, engine};
use char_rnn::model::{Config, initialize};
use char_rnn::optim::DescentConfig;
use char_rnn::random::Randomness;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const VOCABULARY: usize = 27;

/// Names of `steps - 1` letters drawn evenly, and their end.
fn random_names(batch: usize, steps: usize) -> Batch {
    let mut uniforms = Randomness::Seed(2).uniforms(0);
    let mut letter = || 1 + (uniforms.draw() * (VOCABULARY - 1) as f64) as u32;
    let names: Vec<Vec<u32>> = (0..batch).map(|_| (1..steps).map(|_| letter()).collect()).collect();
    Batch::new(names.iter().map(Vec::as_slice))
}

fn training_step(c: &mut Criterion) {
    // n_a, B and T: the notebook's, and those of scripts/compare.py.
    for (hidden, size, steps) in [(50, 1, 13), (256, 1, 13), (256, 32, 16), (512, 64, 16)] {
        let mut group = c.benchmark_group(format!("n_a {hidden}, B {size}, T {steps}"));
        group.throughput(Throughput::Elements(size as u64));
        let batch = random_names(size, steps);
        for way in Backprop::ALL {
            let config = Config { vocabulary: VOCABULARY, hidden };
            let normals = Randomness::Seed(1).normals();
            let vars = initialize(config, normals, DType::F32, &Device::Cpu).expect("CPU, F32");
            let mut engine = engine(way, config, &vars, DescentConfig::default(), 1).expect("CPU");
            group.bench_function(BenchmarkId::from_parameter(way), |b| {
                b.iter(|| engine.step(&batch).expect("a batch of the same size"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, training_step);
criterion_main!(benches);
