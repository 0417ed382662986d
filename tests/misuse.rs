//! Arguments out of range or of the wrong shape are errors of the library: nothing panics.

use candle_core::{DType, Device, Tensor};
use candle_nn::{RNN, VarBuilder, VarMap};
use char_rnn::data::{Batch, END, START};
use char_rnn::eval::{evaluate, evaluate_stateful, explain};
use char_rnn::gradcheck::{Options, Problem, Sizes, against, check};
use char_rnn::model::{CharRnn, CharRnnState, Config, char_rnn, initialize};
use char_rnn::ops;
use char_rnn::random::RngSource;
use char_rnn::reference::Parameters;
use char_rnn::sample::{MAX_LENGTH, SampleOptions, Sampler};
use char_rnn::train::clip;
use proptest::prelude::*;

const VOCABULARY: usize = 4;
const HIDDEN: usize = 3;

fn model(vocabulary: usize, hidden: usize) -> candle_core::Result<CharRnn> {
    let config = Config { vocabulary, hidden };
    let vars = initialize(config, || 1., DType::F32, &Device::Cpu)?;
    char_rnn(config, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))
}

fn zeros(rows: usize, columns: usize) -> Tensor {
    Tensor::zeros((rows, columns), DType::F32, &Device::Cpu).unwrap()
}

/// An index of the vocabulary, or another.
fn index() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..VOCABULARY as u32, 1 => Just(START), 1 => any::<u32>()]
}

proptest! {
    #[test]
    fn a_step_needs_an_input_of_the_vocabulary_for_each_state(
        inputs in prop::collection::vec(index(), 0..5),
        states in 0usize..5,
        units in 0usize..5,
    ) {
        let model = model(VOCABULARY, HIDDEN).unwrap();
        let are_known = inputs.iter().all(|&i| i == START || (i as usize) < VOCABULARY);
        let fits = inputs.len() == states && states > 0 && units == HIDDEN;
        let input = Tensor::new(&inputs[..], &Device::Cpu).unwrap();
        let state = CharRnnState::new(zeros(states, units));
        prop_assert_eq!(model.step(&input, &state).is_ok(), fits && are_known);
        let vectors = zeros(inputs.len(), VOCABULARY);
        prop_assert_eq!(model.step(&vectors, &state).is_ok(), fits);
        let sequences = vectors.reshape((inputs.len(), 1, VOCABULARY)).unwrap();
        prop_assert_eq!(model.seq_init(&sequences, &state).is_ok(), fits);
    }

    #[test]
    fn a_loss_needs_names_of_the_vocabulary_and_a_state_for_each(
        names in prop::collection::vec(prop::collection::vec(index(), 0..4), 0..4),
        states in 0usize..5,
    ) {
        let model = model(VOCABULARY, HIDDEN).unwrap();
        let batch = Batch::new(names.iter().map(Vec::as_slice));
        let state = CharRnnState::new(zeros(states, HIDDEN));
        let are_known = names.iter().flatten().all(|&i| (i as usize) < VOCABULARY);
        let fits = names.len() == states && states > 0;
        for loss in [model.loss(&batch, &state), model.loss_unrolled(&batch, &state)] {
            // In a batch START is padding.
            prop_assert!(loss.is_err() || fits);
            prop_assert!(loss.is_ok() || !fits || !are_known);
        }
        prop_assert_eq!(evaluate(&model, &names).is_ok(), are_known);
        prop_assert_eq!(evaluate_stateful(&model, &names).is_ok(), are_known);
        for name in &names {
            let are_known = name.iter().all(|&i| (i as usize) < VOCABULARY);
            prop_assert_eq!(explain(&model, name, usize::MAX).is_ok(), are_known);
        }
    }

    #[test]
    fn sampling_needs_valid_options(
        prefix in prop::collection::vec(index(), 0..4),
        temperature in prop_oneof![any::<f64>(), 0.1..9.],
        top_k in prop::option::of(0usize..6),
        top_p in prop::option::of(prop_oneof![any::<f64>(), 0f64..1.]),
        (min_length, max_length) in (0usize..9, prop_oneof![0usize..9, any::<usize>()]),
    ) {
        let model = model(VOCABULARY, HIDDEN).unwrap();
        let is_character = |&i: &u32| i != END && (i as usize) < VOCABULARY;
        let known = prefix.iter().all(is_character);
        let options = SampleOptions { temperature, top_k, top_p, prefixes: vec![prefix], min_length, max_length };
        let valid = options.check().is_ok() && known;
        match Sampler::with_options(&model, RngSource::Seed(1), options, 0..3) {
            Ok(names) => prop_assert!(valid && names.map(Result::unwrap).count() == 3),
            Err(_) => prop_assert!(!valid),
        }
    }
}

/// Tensors of every kind that an op may be given by mistake.
fn tensors() -> Vec<Tensor> {
    let device = &Device::Cpu;
    let of = |shape: &[usize], dtype| Tensor::ones(shape, dtype, device).unwrap();
    let f = |shape: &[usize]| of(shape, DType::F32);
    vec![
        f(&[]),
        f(&[3]),
        f(&[4]),
        f(&[2, 3]),
        f(&[3, 3]),
        f(&[3, 4]).t().unwrap(),
        f(&[2, 1, 3]),
        f(&[0, 10]).narrow(1, 2, 3).unwrap(),
        f(&[1]).broadcast_as((2, 3)).unwrap(),
        (f(&[2, 3]) * f64::NAN).unwrap(),
        of(&[4], DType::U32),
        of(&[2], DType::U8),
        of(&[2, 3], DType::U8),
        of(&[3, 3], DType::F16),
        of(&[3], DType::F64),
        Tensor::new(&[1u32, u32::MAX, 9, 0], device).unwrap(),
    ]
}

/// Errors are right, and so are results; a panic is not.
#[test]
fn no_tensors_make_an_op_panic() {
    let tensors = tensors();
    for a in &tensors {
        for b in &tensors {
            let _ = ops::cross_entropy(a, b);
            let _ = ops::soft_cross_entropy(a, b);
            for c in &tensors {
                let _ = ops::project_input(a, b, c);
                let _ = ops::project_output(a, b, c);
                let _ = ops::recurrence(a, b, c);
            }
            let state = CharRnnState::new(b.clone());
            let model = model(VOCABULARY, HIDDEN).unwrap();
            let _ = (model.step(a, &state), model.seq_init(a, &state), model.logits(a));
        }
    }
}

#[test]
fn sizes_limits_and_options_out_of_range_are_errors() {
    for (vocabulary, hidden) in [(0, 3), (3, 0), (usize::MAX, 2), (2, usize::MAX), (2, 1 << 32)] {
        assert!(model(vocabulary, hidden).is_err());
        let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
        assert!(char_rnn(Config { vocabulary, hidden }, vb).is_err());
    }
    let model = model(VOCABULARY, HIDDEN).unwrap();
    assert!(model.loss(&Batch::default(), &model.zero_state(0).unwrap()).is_err());
    assert!(model.zero_state(0).and_then(|a| model.step(&zeros(0, VOCABULARY), &a)).is_err());
    assert!(Sampler::new(&model, RngSource::Seed(1), 0, 0..3).is_err());
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = 9..3;
    assert_eq!(Sampler::new(&model, RngSource::Seed(1), MAX_LENGTH, backwards).unwrap().count(), 0);
    let mut gradients = zeros(1, 1).backward().unwrap();
    for max in [f64::NAN, -1., f64::NEG_INFINITY] {
        assert!(clip(&mut gradients, &[], max).is_err());
    }
    let start = model.zero_state(1).unwrap();
    for (columns, entries) in [(model.config().vocabulary + 1, 0), (0, model.config().hidden + 1)] {
        let mut batch = Batch::new([&[1u32][..]]);
        if columns > 0 {
            batch.set_soft_targets(vec![0.1; 2 * columns]);
        }
        if entries > 0 {
            batch.set_dropout(vec![1.; entries]);
        }
        assert!(model.loss(&batch, &start).is_err());
        assert!(model.loss_unrolled(&batch, &start).is_err());
    }
    let sizes = Sizes { hidden: 2, vocabulary: 3, steps: 2, batch: 1 };
    let problem = Problem::random(sizes, 1).unwrap();
    assert!(check(&problem, DType::BF16, &Device::Cpu, &Options::default()).is_err());
    let empty = Problem::new(Parameters::zeros(2, 3), &[], vec![]);
    for index in [3, START, u32::MAX - 1] {
        let outside = Problem::new(Parameters::zeros(2, 3), &[vec![index]], vec![vec![0.; 2]]);
        assert!(outside.is_err(), "{index}");
    }
    let right = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gradients/right.npz");
    for clip in [f64::NAN, -1., f64::NEG_INFINITY] {
        assert!(against(right.as_ref(), Some(clip), false).is_err());
    }
    let all = Options::default();
    assert!(empty.and_then(|empty| check(&empty, DType::F64, &Device::Cpu, &all)).is_err());
    // The product of the sizes overflows to 0.
    let huge = zeros(1, 1).broadcast_as((1 << 32, 1 << 32)).unwrap();
    assert!(ops::project_output(&huge, &huge, &zeros(1, 1).flatten_all().unwrap()).is_err());
}
