//! All ways back train the same network, whatever the batch; and training ends in a network or in
//! a refusal, whatever the list and the settings.

use candle_core::{DType, Device};
use char_rnn::Error;
use char_rnn::batch::Batch;
use char_rnn::corpus::{Case, Corpus};
use char_rnn::engine::{Backprop, engine};
use char_rnn::model::{CharRnn, Config, initialize};
use char_rnn::optim::{Algorithm, Decay, DescentConfig};
use char_rnn::random::Randomness;
use char_rnn::sample::{MAX_LENGTH, Sampled};
use char_rnn::train::{Observer, Progress, Settings, Training, train};
use proptest::prelude::*;
use std::ops::ControlFlow;

fn parameters(model: &CharRnn) -> Vec<f64> {
    let flat = |tensor: &candle_core::Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
    model.parameters().iter().flat_map(|(_, tensor)| flat(tensor).unwrap()).collect()
}

/// The losses of `steps` training steps on batches of names of many lengths, and the parameters
/// that they lead to.
fn run(
    (backprop, algorithm, threads): (Backprop, Algorithm, usize),
    dtype: DType,
    size: usize,
    clip: f64,
) -> (Vec<f64>, Vec<f64>) {
    let config = Config { vocabulary: 9, hidden: 13 };
    let mut normals = Randomness::Seed(2).normals();
    let vars = initialize(config, || normals() * 40., dtype, &Device::Cpu).unwrap();
    let optimizer = DescentConfig { algorithm, learning_rate: 0.05, clip, weight_decay: 0.1 };
    let mut engine = engine(backprop, config, &vars, optimizer, threads).unwrap();
    let mut batch = Batch::default();
    let names: Vec<Vec<u32>> = (0..40)
        .map(|i| (0..1 + i * 7 % 11).map(|j| 1 + (i * j + j) as u32 % 8).collect())
        .collect();
    let losses = (0..12)
        .map(|step| {
            let next = (0..size).map(|i| names[(step * size + i) % names.len()].as_slice());
            batch.fill(next);
            engine.step(&batch).unwrap()
        })
        .collect();
    (losses, parameters(engine.model().unwrap()))
}

fn assert_close(found: &[f64], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= bound * b.abs().max(1.), "{what} {i}: {a} is not {b}");
    }
}

#[test]
fn all_ways_back_learn_the_same() {
    for (dtype, bound) in [(DType::F64, 1e-12), (DType::F32, 2e-4)] {
        for size in [1, 2, 7, 32] {
            for clip in [0.1, f64::INFINITY] {
                for algorithm in Algorithm::ALL {
                    let (losses, learned) =
                        run((Backprop::Unrolled, algorithm, 1), dtype, size, clip);
                    for (backprop, threads) in [
                        (Backprop::Autograd, 1),
                        (Backprop::Hand, 1),
                        (Backprop::Unrolled, 3),
                        (Backprop::Autograd, 3),
                        (Backprop::Hand, 3),
                    ] {
                        let (other_losses, other) =
                            run((backprop, algorithm, threads), dtype, size, clip);
                        let what = format!("{backprop} {algorithm} {size} {threads}");
                        assert_close(&other_losses, &losses, bound, &format!("{what} loss"));
                        assert_close(&other, &learned, bound, &format!("{what} parameter"));
                    }
                }
            }
        }
    }
}

#[test]
fn the_loss_of_a_batch_is_the_mean_of_its_names() {
    let config = Config { vocabulary: 4, hidden: 3 };
    let alone = |backprop, names: &[&[u32]]| {
        let normals = Randomness::Seed(2).normals();
        let vars = initialize(config, normals, DType::F64, &Device::Cpu).unwrap();
        let mut engine = engine(backprop, config, &vars, DescentConfig::default(), 1).unwrap();
        engine.step(&Batch::new(names.iter().copied())).unwrap()
    };
    for backprop in Backprop::ALL {
        let (first, second) = (alone(backprop, &[&[1, 2, 3]]), alone(backprop, &[&[3]]));
        let both = alone(backprop, &[&[1, 2, 3], &[3]]);
        assert!((both - (first + second) / 2.).abs() < 1e-12);
    }
}

#[test]
fn a_batch_of_another_size_or_a_foreign_index_is_refused() {
    for backprop in Backprop::ALL {
        let config = Config { vocabulary: 4, hidden: 3 };
        let normals = Randomness::Seed(2).normals();
        let vars = initialize(config, normals, DType::F32, &Device::Cpu).unwrap();
        let mut engine = engine(backprop, config, &vars, DescentConfig::default(), 1).unwrap();
        engine.step(&Batch::new([&[1][..], &[2]])).unwrap();
        assert!(engine.step(&Batch::new([&[1][..]])).is_err(), "{backprop}");
    }
    for backprop in Backprop::ALL {
        let config = Config { vocabulary: 4, hidden: 3 };
        let normals = Randomness::Seed(2).normals();
        let vars = initialize(config, normals, DType::F32, &Device::Cpu).unwrap();
        let mut engine = engine(backprop, config, &vars, DescentConfig::default(), 1).unwrap();
        assert!(engine.step(&Batch::new([&[4][..]])).is_err(), "{backprop}");
    }
}

/// Remembers what it was told.
#[derive(Default)]
struct Witness {
    losses: Vec<f64>,
    smoothed: Vec<f64>,
    sampled: Vec<(u64, usize)>,
    names: Vec<Sampled>,
    examples: Vec<usize>,
}

impl Observer for Witness {
    fn example(&mut self, _iteration: u64, index: usize, _name: &str, _characters: &[u32]) {
        self.examples.push(index);
    }
    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        self.losses.push(progress.loss);
        self.smoothed.push(progress.smoothed);
        ControlFlow::Continue(())
    }
    fn samples(&mut self, progress: &Progress, names: &[Sampled]) {
        self.sampled.push((progress.iteration, names.len()));
        self.names.extend_from_slice(names);
    }
}

#[test]
fn training_goes_round_the_list_smooths_the_loss_and_samples_on_time() {
    let corpus = Corpus::parse(b"anna\nbob\neve\n", "", Case::Lower).unwrap();
    let settings = Settings {
        iterations: 7,
        batch_size: 2,
        hidden: 5,
        sample_every: 3,
        samples: 4,
        ..Settings::default()
    };
    let mut seen = Witness::default();
    let trained = train(&corpus, &settings, &mut seen).unwrap();
    assert_eq!(seen.examples, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]);
    assert_eq!(seen.sampled, [(0, 4), (3, 4), (6, 4)]);
    let mut smoothed = 7. * (corpus.vocabulary().size() as f64).ln();
    for (loss, reported) in seen.losses.iter().zip(&seen.smoothed) {
        smoothed = 0.999 * smoothed + 0.001 * loss;
        assert!((smoothed - reported).abs() < 1e-12);
    }
    assert_eq!(trained.progress.smoothed, *seen.smoothed.last().unwrap());
}

#[test]
fn an_observer_can_end_training() {
    struct Third;
    impl Observer for Third {
        fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
            if progress.iteration == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let corpus = Corpus::parse(b"anna\nbob\neve\n", "", Case::Lower).unwrap();
    let trained = train(&corpus, &Settings::default(), &mut Third).unwrap();
    assert_eq!(trained.progress.iteration, 2);
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_is_started_that_would_have_no_name_to_learn() {
    let corpus = Corpus::parse(b"anna\nbob\neve\n", "", Case::Lower).unwrap();
    let settings = Settings { batch_size: 2, threads: 1024, ..Settings::default() };
    let _training = Training::new(&corpus, &settings).unwrap();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 500, "{threads}");
}

#[test]
fn training_that_leaves_the_finite_numbers_says_when() {
    let corpus = Corpus::parse(b"anna\nbob\neve\n", "", Case::Lower).unwrap();
    for backprop in Backprop::ALL {
        let settings = Settings {
            iterations: 100,
            learning_rate: 1e39,
            clip: f64::INFINITY,
            backprop,
            ..Settings::default()
        };
        match train(&corpus, &settings, &mut ()) {
            Err(Error::Diverged { iteration, .. }) => assert!(iteration < 100),
            other => panic!("{backprop}: {other:?}"),
        }
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

/// Rates and limits of every size, and such as are none.
fn numbers() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0f64..9.,
        4 => (-330f64..310.).prop_map(|exponent| 10f64.powf(exponent)),
        1 => prop::sample::select(&[0., -1., f64::NAN, f64::INFINITY, f64::MAX][..]),
    ]
}

/// Every other setting, in its range and now and then outside.
fn other_settings() -> impl Strategy<Value = Settings> {
    let decay = prop_oneof![
        2 => Just(Decay::None),
        2 => Just(Decay::Cosine),
        4 => (1u64..5, 0.01f64..=1.).prop_map(|(every, factor)| Decay::Step { every, factor }),
        1 => Just(Decay::Step { every: 0, factor: 2. }),
    ];
    let validation = prop_oneof![4 => Just(0.), 4 => 0.01f64..0.99, 1 => -1f64..2.];
    let patience = prop_oneof![3 => Just(None), 1 => (0u64..4).prop_map(Some)];
    let ways = (prop::sample::select(&Algorithm::ALL[..]), any::<bool>(), 1usize..5);
    (ways, decay, numbers(), validation, patience).prop_map(
        |((optimizer, zero_state, threads), decay, weight_decay, validation, patience)| Settings {
            optimizer,
            zero_state,
            threads: threads % 4,
            decay,
            weight_decay,
            validation,
            patience,
            ..Settings::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_list_and_settings_train_or_are_refused(
        text in lists(),
        case in prop::sample::select(&[Case::Lower, Case::Keep][..]),
        (iterations, batch_size, hidden) in (0u64..12, 0usize..9, 0usize..12),
        (sample_every, samples) in (0u64..5, 0u64..4),
        learning_rate in numbers(),
        clip in numbers(),
        backprop in prop::sample::select(&Backprop::ALL[..]),
        dtype in prop::sample::select(&[DType::F32, DType::F64, DType::U8][..]),
        randomness in prop_oneof![any::<u64>().prop_map(Randomness::Seed), Just(Randomness::Notebook)],
        others in other_settings(),
    ) {
        let Ok(corpus) = Corpus::parse(text.as_bytes(), "", case) else { return Ok(()) };
        let settings = Settings {
            iterations, batch_size, hidden, sample_every, samples, learning_rate, clip, backprop, dtype,
            randomness,
            ..others
        };
        let mut seen = Witness::default();
        let trained = train(&corpus, &settings, &mut seen);
        for name in &seen.names {
            prop_assert!(name.indices.len() <= MAX_LENGTH);
            let spelled = corpus.vocabulary().decode(&name.indices);
            prop_assert_eq!(&corpus.vocabulary().encode(&spelled).unwrap(), &name.indices);
        }
        match trained {
            Ok(trained) => prop_assert!(parameters(&trained.model).iter().all(|p| p.is_finite())),
            Err(Error::Setting { .. }) => prop_assert!(settings.check().is_err()),
            Err(Error::Diverged { .. }) => {}
            // One name cannot be held out and learned.
            Err(Error::Names { .. }) => prop_assert!(settings.validation > 0.),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
