//! The ops and the network as a candle user calls them. `src/ops/primitive.rs` compares each fused op
//! with candle's primitive ops.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{RNN, VarBuilder};
use char_rnn::data::START;
use char_rnn::model::{CharRnnState, Config, char_rnn, initialize};
use char_rnn::ops;
use char_rnn::random::RngSource;
use proptest::prelude::*;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

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
fn indices_and_one_hot_vectors_have_the_same_logits() {
    use candle_core::Module;
    let network = Config { vocabulary: 4, hidden: 3 };
    let vars = initialize(network, RngSource::Seed(1).normals(), DType::F64, &Device::Cpu).unwrap();
    let vb = VarBuilder::from_varmap(&vars, DType::F64, &Device::Cpu);
    let model = char_rnn(network, vb).unwrap();
    let x = Tensor::new(&[[0u32, 3, START], [2, 1, 2]], &Device::Cpu).unwrap();
    let rows = [[1., 0., 0., 0.], [0., 0., 0., 1.], [0.; 4], [0., 0., 1., 0.], [0., 1., 0., 0.]];
    let rows: Vec<[f64; 4]> = rows.into_iter().chain([rows[3]]).collect();
    let vectors = Tensor::new(rows.concat(), &Device::Cpu).unwrap().reshape((2, 3, 4)).unwrap();
    let (by_index, by_vector) = (model.forward(&x).unwrap(), model.forward(&vectors).unwrap());
    assert_eq!(by_index.dims(), [2, 3, 4]);
    assert!(largest_difference(&by_index, &by_vector) < 1e-15);
    assert!(model.forward(&Tensor::new(&[[0u32, 4]], &Device::Cpu).unwrap()).is_err());
    assert!(model.forward(&Tensor::new(&[0u32, 1], &Device::Cpu).unwrap()).is_err());
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
