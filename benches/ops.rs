//! The fused ops, forward alone and with their gradients, on one thread: `cargo bench --bench ops`.
//!
//! Elements are the floating-point operations of the forward pass (a multiply-add is two), so
//! `Gelem/s` is GFLOP/s; for the input projection and cross-entropy they are numbers. Single
//! precision, the notebook's vocabulary and name length, and the sizes of `scripts/compare.py`.

// Criterion's macro makes a public function without one.
#![allow(missing_docs)]

use candle_core::{DType, Device, Result, Tensor, Var};
use char_rnn::data::IGNORE_INDEX;
use char_rnn::ops;
use char_rnn::random::RngSource;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// n_a, B and T.
const SIZES: [(usize, usize, usize); 5] =
    [(50, 1, 13), (256, 1, 13), (512, 1, 13), (256, 32, 16), (512, 64, 16)];
const VOCABULARY: usize = 27;

/// Normal numbers of standard deviation `scale`.
fn normal(shape: (usize, usize), scale: f64) -> Var {
    let mut normals = RngSource::Seed(1).normals();
    let values: Vec<f64> = (0..shape.0 * shape.1).map(|_| normals() * scale).collect();
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).and_then(|t| t.to_dtype(DType::F32));
    tensor.and_then(|tensor| Var::from_tensor(&tensor)).expect("values for each entry")
}

fn vector(length: usize) -> Var {
    let row = normal((1, length), 0.1);
    row.squeeze(0).and_then(|vector| Var::from_tensor(&vector)).expect("one row")
}

/// A letter for each row, from `0..VOCABULARY`; `every_13th` in every 13th row.
fn indices(rows: usize, every_13th: u32) -> Tensor {
    let letter = |r| if r % 13 == 12 { every_13th } else { r * 7 % VOCABULARY as u32 };
    Tensor::from_iter((0..rows as u32).map(letter), &Device::Cpu).expect("on the CPU")
}

fn label(n: usize, batch: usize, steps: usize) -> BenchmarkId {
    BenchmarkId::from_parameter(format!("n_a {n}, B {batch}, T {steps}"))
}

/// `op` at every size. `op` is built from n_a, B and T, with the number of elements.
fn bench<Op: Fn() -> Result<Tensor>>(
    c: &mut Criterion,
    name: &str,
    build: impl Fn(usize, usize, usize) -> (usize, Op),
) {
    for backward in [false, true] {
        let name = if backward { format!("{name} with gradients") } else { name.to_string() };
        let mut group = c.benchmark_group(name);
        for (n, batch, steps) in SIZES {
            let (elements, op) = build(n, batch, steps);
            group.throughput(Throughput::Elements(elements as u64));
            group.bench_function(label(n, batch, steps), |b| match backward {
                false => b.iter(|| op().expect("shapes fit")),
                true => b.iter_with_large_drop(|| {
                    op().and_then(|y| y.sum_all()?.backward()).expect("shapes fit")
                }),
            });
        }
    }
}

fn project_input(c: &mut Criterion) {
    bench(c, "project_input", |n, batch, steps| {
        let (wax, b, x) = (normal((n, VOCABULARY), 0.1), vector(n), indices(steps * batch, 0));
        (steps * batch * n, move || ops::project_input(&x, &wax, &b))
    });
}

fn recurrence(c: &mut Criterion) {
    bench(c, "recurrence", |n, batch, steps| {
        let (px, a0) = (normal((steps * batch, n), 0.5), normal((batch, n), 0.5));
        let waa = normal((n, n), 1. / (n as f64).sqrt());
        (2 * n * n * batch * steps, move || ops::recurrence(&px, &waa, &a0))
    });
}

/// For comparison: the products of the recurrence alone, by candle, which does not copy `waa`.
fn products_by_candle(c: &mut Criterion) {
    let mut group = c.benchmark_group("products of the recurrence by candle");
    for (n, batch, steps) in SIZES {
        let (waa, a) = (normal((n, n), 1. / (n as f64).sqrt()).detach(), normal((batch, n), 0.5));
        let (waa_t, a) = (waa.t().expect("a matrix"), a.detach());
        group.throughput(Throughput::Elements((2 * n * n * batch * steps) as u64));
        group.bench_function(label(n, batch, steps), |b| {
            b.iter(|| (0..steps).for_each(|_| drop(a.matmul(&waa_t).expect("shapes fit"))));
        });
    }
}

fn project_output(c: &mut Criterion) {
    bench(c, "project_output", |n, batch, steps| {
        let (a, wya, by) =
            (normal((steps * batch, n), 0.5), normal((VOCABULARY, n), 0.1), vector(VOCABULARY));
        (2 * n * VOCABULARY * batch * steps, move || ops::project_output(&a, &wya, &by))
    });
}

fn cross_entropy(c: &mut Criterion) {
    bench(c, "cross_entropy", |_, batch, steps| {
        let rows = steps * batch;
        let (z, y) = (normal((rows, VOCABULARY), 1.), indices(rows, IGNORE_INDEX));
        (rows * VOCABULARY, move || ops::cross_entropy(&z, &y))
    });
}

criterion_group!(
    benches,
    project_input,
    recurrence,
    products_by_candle,
    project_output,
    cross_entropy
);
criterion_main!(benches);
