//! Each fused op equals its definition in candle's primitive ops, in values and gradients, over
//! random shapes. Arguments that do not fit are errors.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{RNN, VarBuilder};
use char_rnn::data::START;
use char_rnn::model::{CharRnnState, Config, char_rnn, initialize};
use char_rnn::ops;
use char_rnn::random::RngSource;
use proptest::prelude::*;

/// The definitions of the ops.
mod primitive {
    use super::*;

    pub fn project_input(x: &Tensor, wax: &Tensor, b: &Tensor) -> Result<Tensor> {
        one_hot(x, wax.dim(1)?, wax.dtype())?.matmul(&wax.t()?)?.broadcast_add(b)
    }

    pub fn recurrence(px: &Tensor, waa: &Tensor, a0: &Tensor) -> Result<Tensor> {
        let (mut a, batch) = (a0.clone(), a0.dim(0)?);
        let mut states = vec![];
        for first in (0..px.dim(0)?).step_by(batch) {
            a = (px.narrow(0, first, batch)? + a.matmul(&waa.t()?)?)?.tanh()?;
            states.push(a.clone());
        }
        Tensor::cat(&states, 0)
    }

    pub fn project_output(a: &Tensor, wya: &Tensor, by: &Tensor) -> Result<Tensor> {
        a.matmul(&wya.t()?)?.broadcast_add(by)
    }

    pub fn cross_entropy(z: &Tensor, y: &Tensor) -> Result<Tensor> {
        let log_probabilities = candle_nn::ops::log_softmax(z, D::Minus1)?;
        // Candle gathers 0, without a gradient, for the largest index, IGNORE_INDEX.
        log_probabilities.gather(&y.unsqueeze(1)?, 1)?.sum_all()?.neg()
    }
}

/// Standard normal variables of these shapes, the same for the same seed.
fn vars<const N: usize>(seed: u64, shapes: [&[usize]; N], dtype: DType) -> [Var; N] {
    let mut normals = RngSource::Seed(seed).normals();
    shapes.map(|shape| {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| normals()).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap()
    })
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let pairs = flat(a).into_iter().zip(flat(b));
    // Not f64::max, which ignores NaN.
    pairs.map(|(a, b)| (a - b).abs()).fold(0., |m, d| if d <= m { m } else { d })
}

/// Asserts that two functions of `vars` have the same values, and the same gradients of a weighted
/// sum of these.
fn assert_same<const N: usize>(
    vars: [Var; N],
    fused: impl Fn(&[Var; N]) -> Result<Tensor>,
    primitive: impl Fn(&[Var; N]) -> Result<Tensor>,
) {
    let bound = if vars[0].dtype() == DType::F64 { 1e-11 } else { 1e-3 };
    let (fused, primitive) = (fused(&vars).unwrap(), primitive(&vars).unwrap());
    assert!(largest_difference(&fused, &primitive) < bound, "values");

    let weights = Tensor::arange(0u32, fused.elem_count() as u32, &Device::Cpu).unwrap();
    let weights = weights.to_dtype(fused.dtype()).unwrap().affine(0.7, 1.).unwrap();
    let weights = weights.sin().unwrap().reshape(fused.dims()).unwrap();
    let gradients = |value: Tensor| {
        (value * &weights).and_then(|v| v.sum_all()).and_then(|v| v.backward()).unwrap()
    };
    let (fused, primitive) = (gradients(fused), gradients(primitive));
    for (i, var) in vars.iter().enumerate() {
        let (a, b) = (fused.get(var).unwrap(), primitive.get(var).unwrap());
        assert!(largest_difference(a, b) < bound, "gradient of argument {i}");
    }
}

/// Rows of an identity matrix; the zero vector for [`START`], for which candle selects zeros.
fn one_hot(indices: &Tensor, size: usize, dtype: DType) -> Result<Tensor> {
    Tensor::eye(size, dtype, &Device::Cpu)?.index_select(indices, 0)
}

/// Indices below `size`, and [`START`] for one in five.
fn indices(seed: u64, count: usize, size: usize) -> Tensor {
    let mut uniforms = RngSource::Seed(seed).uniforms(9);
    let indices = (0..count).map(|_| match uniforms.draw() {
        u if u < 0.2 => START,
        _ => (uniforms.draw() * size as f64) as u32,
    });
    Tensor::from_iter(indices, &Device::Cpu).unwrap()
}

fn dtypes() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::F64)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn recurrence_equals_its_definition(
        steps in 1usize..8, batch in 1usize..6, n in 1usize..40, seed: u64, dtype in dtypes(),
    ) {
        assert_same(
            vars(seed, [&[steps * batch, n], &[n, n], &[batch, n]], dtype),
            |[px, waa, a0]| ops::recurrence(px, &(waa.as_tensor() * 0.5)?, a0),
            |[px, waa, a0]| primitive::recurrence(px, &(waa.as_tensor() * 0.5)?, a0),
        );
    }

    #[test]
    fn input_projection_equals_a_product_with_one_hot_rows(
        rows in 1usize..20, n in 1usize..40, v in 1usize..30, seed: u64, dtype in dtypes(),
    ) {
        let x = indices(seed, rows, v);
        assert_same(
            vars(seed, [&[n, v], &[n]], dtype),
            |[wax, b]| ops::project_input(&x, wax, b),
            |[wax, b]| primitive::project_input(&x, wax, b),
        );
    }

    #[test]
    fn rnn_equals_the_input_projection_and_the_recurrence(
        steps in 1usize..8, batch in 1usize..6, n in 1usize..40, v in 1usize..30, seed: u64,
        dtype in dtypes(),
    ) {
        let x = indices(seed, steps * batch, v);
        let shapes: [&[usize]; 4] = [&[n, v], &[n, n], &[n], &[batch, n]];
        let [wax, waa, b, a0] = vars(seed, shapes, dtype);
        let rnn = |[wax, waa, b]: [&Var; 3], a0: &Tensor| {
            ops::rnn(&x, wax, &(waa.as_tensor() * 0.5)?, b, a0)
        };
        let two = |[wax, waa, b]: [&Var; 3], a0: &Tensor| {
            let waa = (waa.as_tensor() * 0.5)?;
            primitive::recurrence(&primitive::project_input(&x, wax, b)?, &waa, a0)
        };
        let constant = a0.as_detached_tensor();
        assert_same(
            [wax.clone(), waa.clone(), b.clone()],
            |[wax, waa, b]| rnn([wax, waa, b], &constant),
            |[wax, waa, b]| two([wax, waa, b], &constant),
        );
        // With a gradient for the first states too.
        assert_same(
            [wax, waa, b, a0],
            |[wax, waa, b, a0]| rnn([wax, waa, b], a0),
            |[wax, waa, b, a0]| two([wax, waa, b], a0),
        );
    }

    #[test]
    fn output_projection_equals_a_product_and_a_sum(
        rows in 1usize..20, n in 1usize..40, v in 1usize..30, seed: u64, dtype in dtypes(),
    ) {
        assert_same(
            vars(seed, [&[rows, n], &[v, n], &[v]], dtype),
            |[a, wya, by]| ops::project_output(a, wya, by),
            |[a, wya, by]| primitive::project_output(a, wya, by),
        );
    }

    #[test]
    fn cross_entropy_equals_minus_the_log_softmax_at_the_targets(
        rows in 1usize..20, v in 1usize..60, seed: u64, dtype in dtypes(),
    ) {
        let y = indices(seed, rows, v);
        assert_same(
            vars(seed, [&[rows, v]], dtype),
            |[z]| ops::cross_entropy(z, &y),
            |[z]| primitive::cross_entropy(z, &y),
        );
    }

    #[test]
    fn whole_sequences_and_single_steps_give_the_same_states(
        steps in 1usize..7, batch in 1usize..5, hidden in 1usize..20, v in 1usize..9, seed: u64,
    ) {
        let config = Config { vocabulary: v, hidden };
        let mut normals = RngSource::Seed(seed).normals();
        let model = initialize(config, || normals() * 50., DType::F64, &Device::Cpu).unwrap();
        let model =
            char_rnn(config, VarBuilder::from_varmap(&model, DType::F64, &Device::Cpu)).unwrap();
        let x = indices(seed, batch * steps, v);
        let input = one_hot(&x, v, DType::F64).unwrap().reshape((batch, steps, v)).unwrap();
        let [start] = vars(seed, [&[batch, hidden]], DType::F64);
        let start = CharRnnState::new(start.as_detached_tensor());

        let states = model.seq_init(&input, &start).unwrap();
        let mut state = start;
        for (t, whole) in states.iter().enumerate() {
            let vectors = input.narrow(1, t, 1).unwrap().squeeze(1).unwrap().contiguous().unwrap();
            let by_index = x.reshape((batch, steps)).unwrap().narrow(1, t, 1).unwrap();
            let by_index = by_index.flatten_all().unwrap();
            let from_index = model.step(&by_index, &state).unwrap();
            state = model.step(&vectors, &state).unwrap();
            prop_assert!(largest_difference(whole.a(), state.a()) < 1e-12);
            prop_assert!(largest_difference(from_index.a(), state.a()) < 1e-12);
        }
        let tensor = model.states_to_tensor(&states).unwrap();
        prop_assert_eq!(tensor.dims(), &[batch, steps, hidden]);
    }
}

#[test]
fn non_contiguous_arguments_give_the_same_values() {
    let [px, waa, a0] = vars(4, [&[5, 6], &[5, 5], &[5, 2]], DType::F64);
    let fused = ops::recurrence(&px.t().unwrap(), &waa.t().unwrap(), &a0.t().unwrap()).unwrap();
    let copy = |var: &Var| var.t().unwrap().contiguous().unwrap();
    let copied = ops::recurrence(&copy(&px), &copy(&waa), &copy(&a0)).unwrap();
    assert_eq!(flat(&fused), flat(&copied));
}

#[test]
fn a_second_backward_pass_gives_the_same_gradients() {
    let [z] = vars(4, [&[3, 5]], DType::F32);
    let loss = ops::cross_entropy(&z, &indices(4, 3, 5)).unwrap();
    let gradient = || flat(loss.backward().unwrap().get(&z).unwrap());
    assert_eq!(gradient(), gradient());
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let [m23, m32, m33, v2, v3] = vars(4, [&[2, 3], &[3, 2], &[3, 3], &[2], &[3]], DType::F32);
    let [d33] = vars(4, [&[3, 3]], DType::F64);
    let ids = |values: &[u32]| Tensor::new(values, &Device::Cpu).unwrap();
    let results = [
        ops::recurrence(&m23, &m33, &m33),
        ops::recurrence(&m23, &m23, &m23),
        ops::recurrence(&v3, &m33, &m23),
        ops::recurrence(&m33, &d33, &m33),
        ops::recurrence(&ids(&[1]), &m33, &m33),
        ops::project_input(&ids(&[0, 3]), &m23, &v2),
        ops::project_input(&ids(&[0]), &m23, &v3),
        ops::project_input(&v2, &m23, &v2),
        ops::project_output(&m23, &m32, &v3),
        ops::project_output(&m33, &m23, &v3),
        ops::cross_entropy(&m23, &ids(&[0, 3])),
        ops::cross_entropy(&m23, &ids(&[0])),
        ops::cross_entropy(&v3, &ids(&[0])),
    ];
    for (i, result) in results.into_iter().enumerate() {
        let message = result.map(|tensor| tensor.to_string()).expect_err(&format!("case {i}"));
        assert!(!message.to_string().is_empty());
    }
}
