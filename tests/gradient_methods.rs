//! All gradient methods train the same network, whatever the minibatches, the optimizer and the
//! number of threads; and training ends in a network or is refused, whatever the list and the
//! configuration.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use char_rnn::Error;
use char_rnn::data::{Corpus, LetterCase};
use char_rnn::model::{CharRnn, Config, PARAMETERS, char_rnn};
use char_rnn::random::RngSource;
use char_rnn::reference;
use char_rnn::sample::{SampledName, max_length_for};
use char_rnn::train::{
    Decay, GradientMethod, History, Observer, OptimizeState, OptimizerKind, Progress, Stats,
    TrainConfig, Trained, Trainer, train,
};
use proptest::prelude::*;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Records the events of a run.
#[derive(Default)]
struct Recorder {
    examples: Vec<(usize, Vec<u32>)>,
    losses: Vec<f64>,
    smoothed: Vec<f64>,
    /// The norm of the gradient of each parameter.
    norms: Vec<f64>,
    sampled: Vec<(u64, usize)>,
    names: Vec<SampledName>,
}

impl Observer for Recorder {
    fn example(&mut self, _iteration: u64, index: usize, _name: &str, characters: &[u32]) {
        self.examples.push((index, characters.to_vec()));
    }
    fn gradients(&mut self, _progress: &Progress, stats: &Stats) {
        self.norms.extend(stats.iter().map(|stats| stats.norm));
    }
    fn samples(&mut self, progress: &Progress, names: &[SampledName]) {
        self.sampled.push((progress.iteration, names.len()));
        self.names.extend_from_slice(names);
    }
    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        self.losses.push(progress.loss);
        self.smoothed.push(progress.smoothed);
        ControlFlow::Continue(())
    }
}

fn parse(text: &str) -> Corpus {
    Corpus::parse(text.as_bytes(), "", LetterCase::Lower).unwrap()
}

fn parameters(model: &CharRnn) -> [Vec<f64>; 5] {
    let flat = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
    model.parameters().map(|(_, tensor)| flat(tensor).unwrap())
}

/// A run whose network is so much larger than an initial one that the hidden state matters from the
/// first step, after one iteration that it has not seen.
fn large_network(corpus: &Corpus, hidden: usize) -> Trained {
    let config = Config { vocabulary: corpus.vocabulary().size(), hidden };
    let mut normals = RngSource::Seed(2).normals();
    let tensors: HashMap<String, Tensor> = PARAMETERS
        .iter()
        .map(|name| {
            let shape = config.shape(name);
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| 0.4 * normals()).collect();
            (name.to_string(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
    Trained {
        model: char_rnn(config, vb).unwrap(),
        progress: Progress { iteration: 0, loss: 0., smoothed: 0. },
        state: OptimizeState::new(),
        history: History::default(),
        validation: None,
    }
}

/// The events of the iterations from 1 on of the run of `config` from [`large_network`], and the
/// parameters after the last.
fn run(corpus: &Corpus, config: &TrainConfig) -> (Recorder, [Vec<f64>; 5]) {
    let start = large_network(corpus, config.hidden);
    let mut recorder = Recorder::default();
    let trained =
        Trainer::resume(corpus, config, &start, &Device::Cpu).unwrap().run(&mut recorder).unwrap();
    (recorder, parameters(&trained.model))
}

fn assert_close(found: &[f64], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= bound * b.abs().max(1.), "{what} {i}: {a} is not {b}");
    }
}

/// Runs `config` by every method, and compares losses, gradient norms and parameters with those of
/// `unrolled`.
fn assert_methods_agree(corpus: &Corpus, config: &TrainConfig, bound: f64) {
    let by = |backprop| run(corpus, &TrainConfig { backprop, ..config.clone() });
    let (expected, trained) = by(GradientMethod::Unrolled);
    for backprop in [GradientMethod::Autograd, GradientMethod::Hand] {
        let (found, other) = by(backprop);
        let TrainConfig { optimizer, batch_size, clip, .. } = config;
        let what = format!("{backprop}, {optimizer}, B {batch_size}, clip {clip}:");
        assert_close(&found.losses, &expected.losses, bound, &format!("{what} loss"));
        // Rounding errors are larger in a gradient than in the loss.
        assert_close(&found.norms, &expected.norms, 10. * bound, &format!("{what} norm"));
        assert_close(&other.concat(), &trained.concat(), bound, &format!("{what} parameter"));
    }
}

#[test]
fn all_methods_give_the_same_losses_gradients_and_parameters() {
    let names: Vec<String> = (0..40)
        .map(|i| (0..1 + i * 7 % 11).map(|j| char::from(b'a' + (i * j + j) as u8 % 8)).collect())
        .collect();
    let corpus = parse(&names.join("\n"));
    for (dtype, bound) in [(DType::F64, 1e-12), (DType::F32, 2e-4)] {
        for batch_size in [1, 2, 7, 32] {
            for clip in [0.1, f64::INFINITY] {
                for optimizer in OptimizerKind::ALL {
                    let config = TrainConfig {
                        iterations: 13,
                        hidden: 13,
                        learning_rate: 0.05,
                        weight_decay: 0.1,
                        batch_size,
                        optimizer,
                        clip,
                        dtype,
                        ..TrainConfig::default()
                    };
                    assert_methods_agree(&corpus, &config, bound);
                }
            }
        }
    }
}

/// The bias correction of the second moment changes for thousands of steps.
#[test]
fn all_methods_agree_after_more_than_a_hundred_steps() {
    let corpus = parse("anna\nbob\ncleo\ndave\neva\n");
    for optimizer in OptimizerKind::ALL {
        let config = TrainConfig {
            iterations: 150,
            hidden: 6,
            optimizer,
            dtype: DType::F64,
            ..TrainConfig::default()
        };
        assert_methods_agree(&corpus, &config, 1e-10);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn all_methods_agree_on_any_list(
        names in prop::collection::vec("[a-gé]{1,12}", 2..9),
        (batch_size, hidden, seed) in (1usize..9, 1usize..12, any::<u64>()),
        clip in prop_oneof![0.01f64..9., Just(f64::INFINITY)],
        optimizer in prop::sample::select(&OptimizerKind::ALL[..]),
        carry_state in any::<bool>(),
        (dropout, smoothing) in (prop_oneof![Just(0.), 0.1..0.9], prop_oneof![Just(0.), 0.1..1.]),
    ) {
        let list = names.join("\n");
        let corpus = Corpus::parse(list.as_bytes(), "", LetterCase::Lower);
        let Ok(corpus) = corpus else { return Ok(()) };
        prop_assume!(corpus.vocabulary().size() > 2);
        let config = TrainConfig {
            iterations: 9, batch_size, hidden, clip, optimizer, carry_state, dropout,
            smoothing,
            dtype: DType::F64,
            seed: RngSource::Seed(seed),
            ..TrainConfig::default()
        };
        assert_methods_agree(&corpus, &config, 1e-10);
    }
}

#[test]
fn all_methods_train_as_the_reference_does() {
    let corpus = parse("anna\nbob\ncleo\ndave\neva\n");
    let (hidden, vocabulary) = (9, corpus.vocabulary().size());
    for backprop in GradientMethod::ALL {
        let config = TrainConfig {
            iterations: 60,
            hidden,
            backprop,
            dtype: DType::F64,
            carry_state: true,
            learning_rate: 0.01,
            decay: Decay::None,
            ..TrainConfig::default()
        };
        let (recorder, found) = run(&corpus, &config);
        let start = parameters(&large_network(&corpus, hidden).model);
        let start = start.each_ref().map(Vec::as_slice);
        let mut expected = reference::Parameters::from_flat(hidden, vocabulary, start);
        let mut a = vec![0.; hidden];
        for ((_, characters), found) in recorder.examples.iter().zip(recorder.losses) {
            let y: Vec<usize> = characters.iter().map(|&index| index as usize).collect();
            let x: Vec<_> = std::iter::once(None).chain(y.iter().copied().map(Some)).collect();
            let y = [&y[..], &[0]].concat();
            let (loss, _, last) = reference::optimize(&x, &y, &a, &mut expected, 0.01);
            assert!((found - loss).abs() <= 1e-11 * loss, "{backprop}: {found} is not {loss}");
            a = last;
        }
        let what = format!("{backprop} parameter");
        assert_close(&found.concat(), &expected.flat().concat(), 1e-11, &what);
    }
}

#[test]
fn the_loss_of_a_minibatch_is_the_mean_of_its_names() {
    // Lists of the same characters, so that the initial network is the same.
    let (first, second) = ("abcabc", "cba");
    for backprop in GradientMethod::ALL {
        let loss = |list: &str, batch_size| {
            let dtype = DType::F64;
            let config =
                TrainConfig { iterations: 1, batch_size, backprop, dtype, ..Default::default() };
            train(&parse(list), &config, &mut ()).unwrap().progress.loss
        };
        let both = loss(&format!("{first}\n{second}"), 2);
        assert!((both - (loss(first, 1) + loss(second, 1)) / 2.).abs() < 1e-12, "{backprop}");
    }
}

#[test]
fn a_state_of_another_shape_is_refused() {
    let corpus = parse("anna\nbob\n");
    for backprop in GradientMethod::ALL {
        let config = TrainConfig {
            iterations: 9,
            hidden: 6,
            backprop,
            carry_state: true,
            ..TrainConfig::default()
        };
        let mut trained = train(&corpus, &config, &mut ()).unwrap();
        let more = TrainConfig { iterations: 10, ..config };
        let resume =
            |trained: &Trained| Trainer::resume(&corpus, &more, trained, &Device::Cpu).map(|_| ());
        resume(&trained).unwrap();
        let wide = Tensor::zeros((1, 7), DType::F32, &Device::Cpu).unwrap();
        trained.state.insert("a".to_string(), wide);
        let message = resume(&trained).unwrap_err().to_string();
        assert!(message.contains("[1, 7], not (B, 6)"), "{message}");
    }
}

#[test]
fn training_repeats_the_list_smooths_the_loss_and_samples_on_time() {
    let corpus = parse("anna\nbob\neve\n");
    let config = TrainConfig {
        iterations: 7,
        batch_size: 2,
        hidden: 5,
        eval_every: 3,
        samples: 4,
        ..TrainConfig::default()
    };
    let mut seen = Recorder::default();
    let trained = train(&corpus, &config, &mut seen).unwrap();
    let indices: Vec<usize> = seen.examples.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]);
    assert_eq!(seen.sampled, [(0, 4), (3, 4), (6, 4)]);
    // The weighted mean of all losses so far: two names a step, so that a step counts 0.999^2 as
    // much as the next.
    for (step, reported) in seen.smoothed.iter().enumerate() {
        let weights = (0..=step).map(|i| 0.998001f64.powi((step - i) as i32));
        let sum: f64 = weights.clone().zip(&seen.losses).map(|(weight, loss)| weight * loss).sum();
        assert!((sum / weights.sum::<f64>() - reported).abs() < 1e-12);
    }
    assert_eq!(trained.progress.smoothed, *seen.smoothed.last().unwrap());
}

#[test]
fn minibatches_of_any_size_take_the_names_in_turn_round_and_round() {
    let corpus = parse("anna\nbob\ncleo\ndave\neva\nfinn\ngil\n");
    for batch_size in 1..20 {
        let config = TrainConfig { iterations: 9, batch_size, hidden: 3, ..Default::default() };
        let mut seen = Recorder::default();
        train(&corpus, &config, &mut seen).unwrap();
        let indices = seen.examples.iter().map(|(index, _)| *index);
        assert!(indices.eq((0..9 * batch_size).map(|i| i % 7)), "{batch_size}");
        for (index, characters) in &seen.examples {
            let first = &seen.examples.iter().find(|(other, _)| other == index).unwrap().1;
            assert_eq!(characters, first);
        }
    }
}

#[test]
fn an_observer_can_stop_training() {
    struct Third;
    impl Observer for Third {
        fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
            if progress.iteration == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let corpus = parse("anna\nbob\neve\n");
    let trained = train(&corpus, &TrainConfig::default(), &mut Third).unwrap();
    assert_eq!(trained.progress.iteration, 2);
}

#[test]
fn divergence_is_reported_with_its_iteration_and_by_all_methods_alike() {
    let corpus = parse("anna\nbob\neve\n");
    // A loss above the largest f32, and one that is not finite at all.
    for (learning_rate, clip, batch_size) in
        [(1e38, 5., 1), (1e38, 5., 3), (1e39, f64::INFINITY, 1)]
    {
        let diverged = GradientMethod::ALL.map(|backprop| {
            let iterations = 100;
            let config = TrainConfig {
                iterations,
                batch_size,
                learning_rate,
                clip,
                backprop,
                ..TrainConfig::default()
            };
            match train(&corpus, &config, &mut ()) {
                Err(Error::Diverged { iteration, what, value }) => {
                    (iteration, what, value.to_string())
                }
                other => panic!("{backprop}: {other:?}"),
            }
        });
        assert!(diverged[0].0 < 100);
        assert!(diverged.iter().all(|other| *other == diverged[0]), "{diverged:?}");
    }
}

/// Short names, names of any characters, a single name, and names up to the longest.
fn lists() -> impl Strategy<Value = String> {
    prop_oneof![
        "([a-cé가]{0,9}[\r\n ]{1,2}){1,12}",
        "(\\PC{1,12}\n){1,6}",
        "\\PC{1,40}",
        "[a-z]",
        "([a-c]{1,3}\n){0,2}[a-f]{900,1000}",
    ]
}

/// Rates and limits of every size, and some that are out of range.
fn numbers() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0f64..9.,
        4 => (-330f64..310.).prop_map(|exponent| 10f64.powf(exponent)),
        1 => prop::sample::select(&[0., -1., f64::NAN, f64::INFINITY, f64::MAX][..]),
    ]
}

/// The fields that the test below does not draw itself, in their ranges and now and then outside.
fn other_fields() -> impl Strategy<Value = TrainConfig> {
    let decay = prop_oneof![
        2 => Just(Decay::None),
        2 => Just(Decay::Cosine),
        4 => (1u64..5, 0.01f64..=1.).prop_map(|(every, factor)| Decay::Step { every, factor }),
        1 => Just(Decay::Step { every: 0, factor: 2. }),
    ];
    let validation = prop_oneof![4 => Just(0.), 4 => 0.01f64..0.99, 1 => -1f64..2.];
    let patience = prop_oneof![3 => Just(0), 1 => 1u64..4];
    let optimize = (prop::sample::select(&OptimizerKind::ALL[..]), any::<[bool; 2]>());
    let extras = (prop_oneof![Just(0.), -0.1..1.1], prop_oneof![Just(0.), -0.1..1.1]);
    (optimize, extras, decay, numbers(), validation, patience).prop_map(
        |(optimize, (dropout, smoothing), decay, weight_decay, validation, patience)| {
            let (optimizer, [carry_state, factored_input]) = optimize;
            TrainConfig {
                optimizer,
                carry_state,
                factored_input,
                dropout,
                smoothing,
                decay,
                weight_decay,
                validation,
                patience,
                ..TrainConfig::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_list_and_configuration_train_or_are_refused(
        text in lists(),
        case in prop::sample::select(&[LetterCase::Lower, LetterCase::Keep][..]),
        (iterations, batch_size, hidden) in (0u64..12, 0usize..9, 0usize..12),
        (eval_every, samples) in (0u64..5, 0u64..4),
        learning_rate in numbers(),
        clip in numbers(),
        backprop in prop::sample::select(&GradientMethod::ALL[..]),
        dtype in prop::sample::select(&[DType::F32, DType::F64, DType::U8][..]),
        seed in prop_oneof![any::<u64>().prop_map(RngSource::Seed), Just(RngSource::Notebook)],
        others in other_fields(),
    ) {
        let Ok(corpus) = Corpus::parse(text.as_bytes(), "", case) else { return Ok(()) };
        let config = TrainConfig {
            iterations, batch_size, hidden, eval_every, samples, learning_rate, clip, backprop,
            dtype, seed,
            ..others
        };
        let mut seen = Recorder::default();
        let trained = train(&corpus, &config, &mut seen);
        for name in &seen.names {
            prop_assert!(name.indices.len() <= max_length_for(corpus.longest()));
            let spelled = corpus.vocabulary().decode(&name.indices);
            prop_assert_eq!(&corpus.vocabulary().encode(&spelled).unwrap(), &name.indices);
        }
        match trained {
            Ok(trained) => {
                prop_assert!(parameters(&trained.model).concat().iter().all(|p| p.is_finite()));
            }
            Err(Error::Setting { .. }) => prop_assert!(config.check().is_err()),
            Err(Error::Diverged { .. }) => {}
            // A single name cannot be held out, and a single character cannot be trained on.
            Err(Error::Names { .. }) => {
                prop_assert!(config.validation > 0. || corpus.vocabulary().size() == 2);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
