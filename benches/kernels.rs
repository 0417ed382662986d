//! The kernels, one by one, on one thread: `cargo bench --bench kernels`.
//!
//! Elements are multiply-adds counted as two operations, or numbers for the element-wise kernels:
//! `Gelem/s` is GFLOP/s or 10^9 numbers a second. Single precision, the notebook's vocabulary and
//! name length, and the sizes of `scripts/compare.py`'s table.

// Criterion's macro makes a public function without one.
#![allow(missing_docs)]

use char_rnn::kernels::NONE;
use char_rnn::kernels::cross_entropy::cross_entropy;
use char_rnn::kernels::math::{exp_in_place, tanh_in_place};
use char_rnn::kernels::matmul::{Packed, Strided, matmul};
use char_rnn::kernels::recurrence::{
    pack_for_backward, pack_for_forward, recurrence_backward, recurrence_forward,
};
use char_rnn::kernels::update::clipped_descent;
use char_rnn::random::Randomness;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// n_a, B and T.
const SIZES: [(usize, usize, usize); 4] = [(50, 1, 13), (256, 1, 13), (256, 32, 16), (512, 64, 16)];
const VOCABULARY: usize = 27;

/// Normal numbers of standard deviation `scale`.
fn normal(length: usize, scale: f32) -> Vec<f32> {
    let mut normals = Randomness::Seed(1).normals();
    (0..length).map(|_| normals() as f32 * scale).collect()
}

fn label((n, batch, steps): (usize, usize, usize)) -> BenchmarkId {
    BenchmarkId::from_parameter(format!("n_a {n}, B {batch}, T {steps}"))
}

/// Functions and the update, on as many numbers as `waa` has.
fn element_wise(c: &mut Criterion) {
    for n in [50, 256, 512] {
        let mut group = c.benchmark_group("element-wise");
        group.throughput(Throughput::Elements((n * n) as u64));
        let x = normal(n * n, 1.);
        for (name, function) in
            [("tanh", tanh_in_place::<f32> as fn(&mut [f32])), ("exp", exp_in_place::<f32>)]
        {
            group.bench_function(BenchmarkId::new(name, n * n), |b| {
                b.iter_batched_ref(|| x.clone(), |x| function(x), BatchSize::SmallInput);
            });
        }
        let mut w = x.clone();
        group.bench_function(BenchmarkId::new("clipped descent", n * n), |b| {
            b.iter(|| clipped_descent(&mut w, &x, 1e-6, 5.));
        });
        group.finish();
    }
}

/// The gradient of `waa`: (n, T B) times (T B, n).
fn weight_gradient(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul");
    for size @ (n, batch, steps) in SIZES {
        let rows = batch * steps;
        group.throughput(Throughput::Elements((2 * n * n * rows) as u64));
        let (dpre, a) = (normal(rows * n, 1.), normal(rows * n, 1.));
        let (mut gradient, mut packed) = (vec![0.; n * n], Packed::new());
        group.bench_function(label(size), |b| {
            b.iter(|| {
                let dpre = Strided::transposed(&dpre, n);
                matmul(n, rows, n, dpre, &a, &mut gradient, false, &mut packed);
                black_box(&mut gradient);
            });
        });
    }
    group.finish();
}

/// All steps, the packing of `waa` included.
fn recurrence(c: &mut Criterion) {
    for backward in [false, true] {
        let name = if backward { "recurrence backward" } else { "recurrence forward" };
        let mut group = c.benchmark_group(name);
        for size @ (n, batch, steps) in SIZES {
            group.throughput(Throughput::Elements((2 * n * n * batch * steps) as u64));
            let waa = normal(n * n, 1. / (n as f32).sqrt());
            let (px, a0) = (normal(steps * batch * n, 0.5), normal(batch * n, 0.5));
            let mut packed = Packed::new();
            pack_for_forward(&mut packed, &waa, batch, n);
            let mut a = px.clone();
            recurrence_forward(&packed, &a0, &mut a, batch, n);
            let mut da0 = a0.clone();
            group.bench_function(label(size), |b| {
                b.iter_batched_ref(
                    || px.clone(),
                    |x| match backward {
                        false => {
                            pack_for_forward(&mut packed, &waa, batch, n);
                            recurrence_forward(&packed, &a0, x, batch, n);
                        }
                        true => {
                            pack_for_backward(&mut packed, &waa, batch, n);
                            recurrence_backward(&packed, &a, x, &mut da0, batch, n);
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

/// Loss and gradient of T B rows of logits; elements are logits.
fn losses(c: &mut Criterion) {
    let mut group = c.benchmark_group("cross-entropy");
    for (batch, steps) in [(1, 13), (32, 16), (64, 16)] {
        let rows = batch * steps;
        group.throughput(Throughput::Elements((rows * VOCABULARY) as u64));
        let z = normal(rows * VOCABULARY, 1.);
        // A letter each, and every 13th row padded.
        let y: Vec<u32> = (0..rows as u32)
            .map(|r| if r % 13 == 12 { NONE } else { r * 7 % VOCABULARY as u32 })
            .collect();
        let mut dz = z.clone();
        group.bench_function(BenchmarkId::from_parameter(format!("{rows} rows")), |b| {
            b.iter(|| cross_entropy(&z, black_box(&y), VOCABULARY, 1., &mut dz));
        });
    }
    group.finish();
}

criterion_group!(benches, element_wise, weight_gradient, recurrence, losses);
criterion_main!(benches);
