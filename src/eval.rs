//! Evaluation: the loss of names, and the probabilities of their characters.
//!
//! A name is evaluated as it is sampled: from the zero state and the zero vector. Its end counts as
//! a character. The loss is `-ln p(name)`, the sum over steps of `-ln softmax(z_t)[y_t]`, in nats.
//! The notebook keeps the hidden state from name to name in training; [`evaluate_stateful`] gives
//! that loss.
//!
//! ```
//! use char_rnn::data::Corpus;
//! use char_rnn::eval::evaluate;
//! use char_rnn::train::{TrainConfig, train};
//!
//! let corpus = Corpus::dinos();
//! let settings = TrainConfig { iterations: 500, ..TrainConfig::default() };
//! let model = train(&corpus, &settings, &mut ())?.model;
//! let evaluation = evaluate(&model, &corpus.encoded())?;
//! assert!(evaluation.bits_per_character() < f64::log2(27.));
//! # Ok::<(), char_rnn::Error>(())
//! ```

use crate::data::{Batch, END, IGNORE_INDEX, START, Vocabulary, check_indices};
use crate::model::{CharRnn, CharRnnState};
use crate::ops::scalar;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::RNN;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The maximum number of names in a batch, and of logits in memory.
const BATCH: usize = 256;
const MAX_LOGITS: usize = 1 << 20;

/// The maximum number of steps in a chunk of [`evaluate_stateful`].
const STEPS: usize = 1024;

/// The losses of a list of names.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The loss of each name, in the list's order, in nats, its end included.
    pub losses: Vec<f64>,
    /// The number of characters of each name, its end included.
    pub lengths: Vec<usize>,
}

/// The means of no names are NaN.
impl Evaluation {
    /// The number of characters, the ends of names included.
    pub fn characters(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// The loss of all names together, in nats.
    pub fn total(&self) -> f64 {
        self.losses.iter().sum()
    }

    /// The mean loss of a name, in nats.
    pub fn nats_per_name(&self) -> f64 {
        self.total() / self.losses.len() as f64
    }

    /// The mean loss of a character, in nats.
    pub fn nats_per_character(&self) -> f64 {
        self.total() / self.characters() as f64
    }

    /// The mean loss of a character, in bits.
    pub fn bits_per_character(&self) -> f64 {
        self.nats_per_character() / std::f64::consts::LN_2
    }

    /// e to the mean loss of a character: the number of equally likely characters with this loss.
    pub fn perplexity(&self) -> f64 {
        self.nats_per_character().exp()
    }

    /// The positions of the names, the lowest loss per character first. (By loss per name, the
    /// order would be mostly one of length.)
    pub fn by_difficulty(&self) -> Vec<usize> {
        let per_character = |&i: &usize| self.losses[i] / self.lengths[i] as f64;
        let mut order: Vec<usize> = (0..self.losses.len()).collect();
        order.sort_by(|a, b| per_character(a).total_cmp(&per_character(b)));
        order
    }
}

/// Evaluates `names`, each the indices of its characters without the final `'\n'`, from the zero
/// state. The loss of a name does not depend on the others.
///
/// # Errors
/// If an index is outside the vocabulary, or the device fails.
pub fn evaluate(model: &CharRnn, names: &[Vec<u32>]) -> Result<Evaluation> {
    check(model, names)?;
    let model = &model.detached();
    let vocabulary = model.config().vocabulary;
    let mut losses = vec![0.; names.len()];
    // Batches of similar lengths need little padding.
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&name| names[name].len());
    for group in order.chunks((MAX_LOGITS / vocabulary).clamp(1, BATCH)) {
        let batch = Batch::new(group.iter().map(|&name| names[name].as_slice()));
        let mut state = model.zero_state(batch.size())?;
        let steps = batch.x().chunks_exact(batch.size()).zip(batch.y().chunks_exact(batch.size()));
        for (x, y) in steps {
            state = model.step(&Tensor::new(x, model.device())?, &state)?;
            let mut z = logits(model, &state)?;
            for ((z, &y), &name) in z.chunks_exact_mut(vocabulary).zip(y).zip(group) {
                if y != IGNORE_INDEX {
                    log_softmax(z);
                    losses[name] -= z[y as usize];
                }
            }
        }
    }
    Ok(Evaluation { losses, lengths: names.iter().map(|name| name.len() + 1).collect() })
}

/// Stateful evaluation: the total loss of `names`, in nats, with the hidden state kept from name to
/// name, as in training with a batch size of 1. The first name starts from the zero state.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_stateful(model: &CharRnn, names: &[Vec<u32>]) -> Result<f64> {
    check(model, names)?;
    let model = &model.detached();
    // One sequence, in which each name starts with the zero vector.
    let x = names.iter().flat_map(|name| std::iter::once(START).chain(name.iter().copied()));
    let y = names.iter().flat_map(|name| name.iter().copied().chain(std::iter::once(END)));
    let (x, y): (Vec<u32>, Vec<u32>) = (x.collect(), y.collect());
    let mut state = model.zero_state(1)?;
    let mut total = 0.;
    let steps = (MAX_LOGITS / model.config().vocabulary).clamp(1, STEPS);
    for (x, y) in x.chunks(steps).zip(y.chunks(steps)) {
        let part = model.loss(&Batch::sequence(x, y), &state)?;
        state = part.last;
        total += scalar(&part.loss)?;
    }
    Ok(total)
}

/// The prediction at one step of a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The target: the index of the character, or of the end.
    pub index: u32,
    /// The natural logarithm of its probability. The loss of the step is its negative.
    pub log_probability: f64,
    /// The most likely other characters and their probabilities, the most likely first.
    pub alternatives: Vec<(u32, f64)>,
}

/// The predictions at each step of `name`, its end included, from the zero state, with the
/// `alternatives` most likely other characters. The losses of the steps sum to the name's.
///
/// # Errors
/// As [`evaluate`].
pub fn explain(model: &CharRnn, name: &[u32], alternatives: usize) -> Result<Vec<Step>> {
    check(model, &[name])?;
    let model = &model.detached();
    let batch = Batch::new([name]);
    let mut state = model.zero_state(1)?;
    let mut steps = Vec::with_capacity(batch.steps());
    for (&x, &index) in batch.x().iter().zip(batch.y()) {
        state = model.step(&Tensor::new(&[x], model.device())?, &state)?;
        let mut z = logits(model, &state)?;
        log_softmax(&mut z);
        let mut others: Vec<u32> = (0..z.len() as u32).filter(|&other| other != index).collect();
        others.sort_by(|&a, &b| z[b as usize].total_cmp(&z[a as usize]));
        others.truncate(alternatives);
        let probability = |other: u32| (other, z[other as usize].exp());
        steps.push(Step {
            index,
            log_probability: z[index as usize],
            alternatives: others.into_iter().map(probability).collect(),
        });
    }
    Ok(steps)
}

/// A list of names, encoded with a model's vocabulary as far as possible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The names whose characters are all in the vocabulary, as indices.
    pub names: Vec<Vec<u32>>,
    /// The position of each of them in the list.
    pub places: Vec<usize>,
    /// The characters that are not in the vocabulary, and the number of names with each.
    pub unknown: BTreeMap<char, usize>,
}

impl Encoded {
    /// Encodes `names` with `vocabulary`.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, vocabulary: &Vocabulary) -> Self {
        let known: BTreeSet<char> = vocabulary.characters().iter().copied().collect();
        let mut encoded = Self::default();
        for (place, name) in names.into_iter().enumerate() {
            if let Ok(indices) = vocabulary.encode(name) {
                encoded.names.push(indices);
                encoded.places.push(place);
                continue;
            }
            let unknown: BTreeSet<char> = name.chars().filter(|c| !known.contains(c)).collect();
            for character in unknown {
                *encoded.unknown.entry(character).or_default() += 1;
            }
        }
        encoded
    }
}

/// How sampled names compare with a list.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Likeness {
    /// The number of sampled names.
    pub sampled: usize,
    /// How many of them are in the list.
    pub in_list: usize,
    /// How many of them are different.
    pub distinct: usize,
    /// The total variation distance between the distributions of the first character, from 0 (the
    /// same) to 1 (none in common).
    pub first_characters: f64,
    /// The same of the lengths.
    pub lengths: f64,
}

impl Likeness {
    /// Compares `sampled` with `list`, both names as indices.
    ///
    /// ```
    /// use char_rnn::eval::Likeness;
    /// let likeness = Likeness::of(&[vec![1, 2], vec![3, 1]], &[vec![1, 2], vec![1]]);
    /// assert_eq!((likeness.in_list, likeness.distinct), (1, 2));
    /// assert_eq!((likeness.first_characters, likeness.lengths), (0.5, 0.5));
    /// ```
    pub fn of(sampled: &[Vec<u32>], list: &[Vec<u32>]) -> Self {
        let known: BTreeSet<&Vec<u32>> = list.iter().collect();
        Self {
            sampled: sampled.len(),
            in_list: sampled.iter().filter(|name| known.contains(name)).count(),
            distinct: sampled.iter().collect::<BTreeSet<_>>().len(),
            first_characters: distance(sampled, list, |name| name.first().copied()),
            lengths: distance(sampled, list, Vec::len),
        }
    }
}

/// The total variation distance between the distributions of `feature`.
fn distance<T: Ord>(a: &[Vec<u32>], b: &[Vec<u32>], feature: impl Fn(&Vec<u32>) -> T) -> f64 {
    let mut shares = BTreeMap::<T, f64>::new();
    for (names, sign) in [(a, 1.), (b, -1.)] {
        for name in names {
            *shares.entry(feature(name)).or_default() += sign / names.len() as f64;
        }
    }
    shares.values().map(|difference| difference.abs()).sum::<f64>() / 2.
}

/// Checks the indices of names, which index logits here.
fn check(model: &CharRnn, names: &[impl AsRef<[u32]>]) -> Result<()> {
    check_indices(names.iter().flat_map(|name| name.as_ref()), model.config().vocabulary)
}

/// The logits `z` of `state`, row by row, (B * n_y).
fn logits(model: &CharRnn, state: &CharRnnState) -> Result<Vec<f64>> {
    let z = model.logits(state.a())?.to_device(&Device::Cpu)?;
    z.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Replaces the logits `z` by `ln softmax(z)`. The largest is subtracted first: beside it the
/// logarithm of the sum would be lost.
fn log_softmax(z: &mut [f64]) {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    z.iter_mut().for_each(|z| *z -= max);
    let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
    z.iter_mut().for_each(|z| *z -= log_sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, char_rnn, initialize};
    use crate::random::RngSource;
    use crate::reference::{Parameters, rnn_forward};
    use candle_nn::VarBuilder;
    use proptest::prelude::*;

    fn model(vocabulary: usize, hidden: usize, dtype: DType, seed: u64) -> CharRnn {
        let config = Config { vocabulary, hidden };
        let mut normals = RngSource::Seed(seed).normals();
        let vars = initialize(config, || normals() * 50., dtype, &Device::Cpu).unwrap();
        char_rnn(config, VarBuilder::from_varmap(&vars, dtype, &Device::Cpu)).unwrap()
    }

    /// The loss of `name` from the state `a`, by the reference, and its last state.
    fn reference_loss(parameters: &Parameters<f64>, name: &[u32], a: &[f64]) -> (f64, Vec<f64>) {
        let name = name.iter().map(|&index| index as usize);
        let x: Vec<Option<usize>> = std::iter::once(None).chain(name.clone().map(Some)).collect();
        let y: Vec<usize> = name.chain([END as usize]).collect();
        let (loss, mut cache) = rnn_forward(&x, &y, a, parameters);
        (loss, cache.a.pop().unwrap())
    }

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() <= tolerance * (1. + a.abs().max(b.abs()))
    }

    proptest! {
        #[test]
        fn losses_are_those_of_the_reference(
            names in prop::collection::vec(prop::collection::vec(1u32..6, 0..12), 1..300),
            hidden in 1usize..9,
            double: bool,
            seed: u64,
        ) {
            let (dtype, tolerance) = if double { (DType::F64, 1e-11) } else { (DType::F32, 1e-5) };
            let model = model(6, hidden, dtype, seed);
            let evaluation = evaluate(&model, &names).unwrap();
            let parameters = Parameters::of(&model);
            let zeros = vec![0.; hidden];
            let (mut a, mut expected_stateful) = (zeros.clone(), 0.);
            for (name, &loss) in names.iter().zip(&evaluation.losses) {
                let (expected, _) = reference_loss(&parameters, name, &zeros);
                prop_assert!(close(loss, expected, tolerance), "{loss} {expected}");
                let (loss, a_last) = reference_loss(&parameters, name, &a);
                (a, expected_stateful) = (a_last, expected_stateful + loss);
            }
            let stateful = evaluate_stateful(&model, &names).unwrap();
            prop_assert!(
                close(stateful, expected_stateful, 10. * tolerance),
                "{stateful} {expected_stateful}"
            );
            let lengths: usize = names.iter().map(|name| name.len() + 1).sum();
            prop_assert_eq!(evaluation.characters(), lengths);
        }

        #[test]
        fn the_steps_of_a_name_sum_to_its_loss(name in prop::collection::vec(1u32..6, 0..9)) {
            let model = model(6, 5, DType::F64, 1);
            let steps = explain(&model, &name, 5).unwrap();
            let indices: Vec<u32> = steps.iter().map(|step| step.index).collect();
            prop_assert_eq!(&indices[..name.len()], &name[..]);
            prop_assert_eq!(&indices[name.len()..], &[END]);
            let loss: f64 = steps.iter().map(|step| -step.log_probability).sum();
            prop_assert!(close(loss, evaluate(&model, &[name]).unwrap().losses[0], 1e-12));
            for step in &steps {
                let others: f64 = step.alternatives.iter().map(|&(_, p)| p).sum();
                prop_assert!(close(others + step.log_probability.exp(), 1., 1e-12));
                prop_assert!(step.alternatives.is_sorted_by(|a, b| a.1 >= b.1));
                prop_assert!(step.alternatives.iter().all(|&(other, _)| other != step.index));
            }
        }
    }

    #[test]
    fn losses_of_huge_logits_are_those_of_the_reference() {
        for (dtype, size) in [(DType::F64, 1e16), (DType::F64, -1e300), (DType::F32, 1e30)] {
            let model = model(4, 3, dtype, 1).map(|parameter| match parameter.dims() {
                [4] => {
                    let by = [size, size + 8., size - 6., size];
                    Tensor::new(&by, &Device::Cpu)?.to_dtype(dtype)
                }
                _ => parameter.zeros_like(),
            });
            let model = model.unwrap();
            let parameters = Parameters::of(&model);
            let name = vec![1, 2, 3];
            let (expected, _) = reference_loss(&parameters, &name, &[0.; 3]);
            assert!(expected > 5., "{expected}");
            let loss = evaluate(&model, std::slice::from_ref(&name)).unwrap().losses[0];
            assert!(close(loss, expected, 1e-6), "{loss} {expected}");
            for step in explain(&model, &name, 3).unwrap() {
                let others: f64 = step.alternatives.iter().map(|&(_, p)| p).sum();
                assert!(close(others + step.log_probability.exp(), 1., 1e-12));
            }
        }
    }

    #[test]
    fn the_perplexity_of_a_zero_network_is_the_size_of_the_vocabulary() {
        let config = Config { vocabulary: 8, hidden: 3 };
        let vars = initialize(config, || 0., DType::F32, &Device::Cpu).unwrap();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let evaluation = evaluate(&char_rnn(config, vb).unwrap(), &[vec![1, 2], vec![]]).unwrap();
        assert!(close(evaluation.perplexity(), 8., 1e-6));
        assert!(close(evaluation.bits_per_character(), 3., 1e-6));
        assert!(close(evaluation.nats_per_name(), 2. * 8f64.ln(), 1e-6));
    }

    /// e^1000 is infinite: the largest logit must be subtracted first.
    #[test]
    fn logits_beyond_the_range_of_exp_have_a_finite_loss() {
        for dtype in [DType::F64, DType::F32] {
            let vars = initialize(Config { vocabulary: 4, hidden: 2 }, || 0., dtype, &Device::Cpu);
            let vars = vars.unwrap();
            let by = Tensor::new(&[1000f64, 998., -1000., 0.], &Device::Cpu).unwrap();
            vars.data().lock().unwrap()["by"].set(&by.to_dtype(dtype).unwrap()).unwrap();
            let vb = VarBuilder::from_varmap(&vars, dtype, &Device::Cpu);
            let model = char_rnn(Config { vocabulary: 4, hidden: 2 }, vb).unwrap();
            let normalizer = (-2f64).exp().ln_1p();
            let expected = [2. + normalizer, normalizer].iter().sum::<f64>();
            let name = [vec![1]];
            let found = evaluate(&model, &name).unwrap().losses[0];
            assert!(close(found, expected, 1e-6), "{found}, not {expected}");
            assert!(close(evaluate_stateful(&model, &name).unwrap(), expected, 1e-6));
            let steps = explain(&model, &name[0], 2).unwrap();
            assert!(close(-steps[0].log_probability, 2. + normalizer, 1e-6));
            assert!(close(steps[0].alternatives[0].1, (-normalizer).exp(), 1e-6));
        }
    }

    #[test]
    fn difficulty_is_loss_per_character() {
        let evaluation = Evaluation { losses: vec![8., 6., 9.], lengths: vec![4, 2, 9] };
        assert_eq!(evaluation.by_difficulty(), [2, 0, 1]);
    }

    #[test]
    fn an_index_outside_the_vocabulary_is_refused() {
        let model = model(4, 3, DType::F32, 1);
        for name in [vec![4], vec![1, START]] {
            assert!(evaluate(&model, std::slice::from_ref(&name)).is_err());
            assert!(explain(&model, &name, 2).is_err());
            assert!(evaluate_stateful(&model, &[name]).is_err());
        }
    }

    #[test]
    fn names_with_unknown_characters_are_left_out_and_the_characters_counted() {
        let vocabulary = Vocabulary::of(["abc"]);
        let encoded = Encoded::new(["cab", "xax", "bay", "xyb"], &vocabulary);
        assert_eq!(encoded.places, [0]);
        assert_eq!(encoded.names, [[3, 1, 2]]);
        assert_eq!(encoded.unknown, BTreeMap::from([('x', 2), ('y', 2)]));
    }
}
