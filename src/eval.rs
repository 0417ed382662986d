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
use crate::model::CharRnn;
use crate::ops::scalar;
use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{RNN, ops::log_softmax};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

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

    /// The mean loss of a name, in nats.
    pub fn nats_per_name(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    /// The mean loss of a character, in nats.
    pub fn nats_per_character(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.characters() as f64
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
/// If an index is outside the vocabulary.
pub fn evaluate(model: &CharRnn, names: &[Vec<u32>]) -> Result<Evaluation> {
    let mut losses = vec![0.; names.len()];
    // Batches of similar lengths need little padding.
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&name| names[name].len());
    for group in order.chunks(model.config().max_batch()) {
        let names = group.iter().map(|&name| names[name].as_slice());
        predict(model, names, |i, y, log_p| losses[group[i]] -= log_p[y as usize])?;
    }
    Ok(Evaluation { losses, lengths: names.iter().map(|name| name.len() + 1).collect() })
}

/// Runs `names` side by side from the zero state. At each step calls `take` for each name that has
/// not ended: with its position, the target, and the log-probabilities of all characters.
fn predict<'a>(
    model: &CharRnn,
    names: impl Iterator<Item = &'a [u32]> + Clone,
    mut take: impl FnMut(usize, u32, &[f64]),
) -> Result<()> {
    let (model, vocabulary) = (model.detached(), model.config().vocabulary);
    // Targets index the log-probabilities.
    check_indices(names.clone().flatten(), vocabulary)?;
    let batch = Batch::new(names);
    let mut state = model.zero_state(batch.size())?;
    let steps = batch.x().chunks_exact(batch.size()).zip(batch.y().chunks_exact(batch.size()));
    for (x, y) in steps {
        state = model.step(&Tensor::new(x, model.device())?, &state)?;
        let z = model.logits(state.a())?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let log_p: Vec<f64> = log_softmax(&z, D::Minus1)?.flatten_all()?.to_vec1()?;
        for (i, (log_p, &y)) in log_p.chunks_exact(vocabulary).zip(y).enumerate() {
            if y != IGNORE_INDEX {
                take(i, y, log_p);
            }
        }
    }
    Ok(())
}

/// Stateful evaluation: the total loss of `names`, in nats, with the hidden state kept from name to
/// name, as in training with a batch size of 1. The first name starts from the zero state.
///
/// # Errors
/// If an index is outside the vocabulary.
pub fn evaluate_stateful(model: &CharRnn, names: &[Vec<u32>]) -> Result<f64> {
    check_indices(names.iter().flatten(), model.config().vocabulary)?;
    let model = &model.detached();
    // One sequence, in which each name starts with the zero vector.
    let x = names.iter().flat_map(|name| std::iter::once(START).chain(name.iter().copied()));
    let y = names.iter().flat_map(|name| name.iter().copied().chain(std::iter::once(END)));
    let (x, y): (Vec<u32>, Vec<u32>) = (x.collect(), y.collect());
    let mut state = model.zero_state(1)?;
    let mut total = 0.;
    // In chunks, whose logits take up to 8 MiB.
    let steps = ((1 << 20) / model.config().vocabulary).clamp(1, 1024);
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
/// If an index is outside the vocabulary.
pub fn explain(model: &CharRnn, name: &[u32], alternatives: usize) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(name.len() + 1);
    predict(model, std::iter::once(name), |_, index, log_p| {
        let mut others: Vec<u32> = (0..log_p.len() as u32).filter(|&y| y != index).collect();
        others.sort_by(|&a, &b| log_p[b as usize].total_cmp(&log_p[a as usize]));
        others.truncate(alternatives);
        let alternatives = others.into_iter().map(|y| (y, log_p[y as usize].exp())).collect();
        steps.push(Step { index, log_probability: log_p[index as usize], alternatives });
    })?;
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
    /// The total variation distance between the distributions of the first character, from 0 (they
    /// are equal) to 1 (none in common).
    pub first_characters: f64,
    /// The total variation distance between the distributions of the length.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{Parameters, rnn_forward};
    use crate::sample::tests::random_model;
    use proptest::prelude::*;

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
            let model = random_model(6, hidden, 50., dtype, seed);
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
            prop_assert!(close(stateful, expected_stateful, 10. * tolerance), "{stateful}");
            check_steps(&model, &names[0], evaluation.losses[0]);
        }
    }

    /// Checks that the steps of `name` have this loss, and all other characters as alternatives.
    fn check_steps(model: &CharRnn, name: &[u32], loss: f64) {
        let steps = explain(model, name, usize::MAX).unwrap();
        assert!(steps.iter().map(|step| step.index).eq(name.iter().copied().chain([END])));
        let sum: f64 = steps.iter().map(|step| -step.log_probability).sum();
        assert!(close(sum, loss, 1e-12), "{sum} {loss}");
        for Step { index, log_probability, alternatives } in steps {
            let others: f64 = alternatives.iter().map(|&(_, p)| p).sum();
            assert!(close(others + log_probability.exp(), 1., 1e-12));
            assert!(alternatives.is_sorted_by(|a, b| a.1 >= b.1));
            assert!(alternatives.iter().all(|&(other, _)| other != index));
        }
        assert!(explain(model, name, 2).unwrap().iter().all(|step| step.alternatives.len() == 2));
    }

    /// e^1000 is infinite, and beside 1e16 the logarithm of a sum is lost.
    #[test]
    fn losses_of_huge_logits_are_those_of_the_reference() {
        let far = |size: f64| ([size, size + 8., size - 6., size], vec![1, 2, 3]);
        for (dtype, (by, name)) in [
            (DType::F64, ([1000., 998., -1000., 0.], vec![1])),
            (DType::F32, ([1000., 998., -1000., 0.], vec![1])),
            (DType::F64, far(1e16)),
            (DType::F64, far(-1e300)),
            (DType::F32, far(1e30)),
        ] {
            let model = random_model(4, 3, 1., dtype, 1).map(|parameter| match parameter.dims() {
                [4] => Tensor::new(&by, &Device::Cpu)?.to_dtype(dtype),
                _ => parameter.zeros_like(),
            });
            let (model, names) = (model.unwrap(), [name]);
            let (expected, _) = reference_loss(&Parameters::of(&model), &names[0], &[0.; 3]);
            assert!(expected > 2., "{expected}");
            let loss = evaluate(&model, &names).unwrap().losses[0];
            assert!(close(loss, expected, 1e-6), "{loss} {expected}");
            assert!(close(evaluate_stateful(&model, &names).unwrap(), expected, 1e-6));
            check_steps(&model, &names[0], loss);
        }
    }

    #[test]
    fn difficulty_is_loss_per_character() {
        let evaluation = Evaluation { losses: vec![8., 6., 9.], lengths: vec![4, 2, 9] };
        assert_eq!(evaluation.by_difficulty(), [2, 0, 1]);
    }
}
