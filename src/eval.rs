//! How well a model predicts names: what each costs it, and which of their characters.
//!
//! A name is scored as it would be sampled: from the zero state and the zero vector, one character
//! after the other, and its end, which counts as a character. Its loss is `-ln p(name)`, the sum
//! over steps of `-ln softmax(z_t)[y_t]`, in nats. In training the state is carried on from one name
//! to the next instead; [`carried`] gives that loss, for comparison with what training reports.
//!
//! ```
//! use char_rnn::corpus::Corpus;
//! use char_rnn::eval::evaluate;
//! use char_rnn::train::{Settings, train};
//!
//! let corpus = Corpus::dinos();
//! let settings = Settings { iterations: 500, ..Settings::default() };
//! let model = train(&corpus, &settings, &mut ())?.model;
//! let evaluation = evaluate(&model, &corpus.encoded())?;
//! assert!(evaluation.bits_per_character() < f64::log2(27.));
//! # Ok::<(), char_rnn::Error>(())
//! ```

use crate::batch::{Batch, NONE};
use crate::model::{CharRnn, CharRnnState};
use crate::ops::scalar;
use crate::vocab::{END, Vocabulary};
use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::RNN;
use std::collections::{BTreeMap, BTreeSet};

/// How many names are scored side by side, and a bound on the scores that are held at a time.
const BATCH: usize = 256;
const SCORES: usize = 1 << 20;

/// How many steps [`carried`] takes at a time.
const STEPS: usize = 1024;

/// What a model made of a list of names.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The loss of each name, in the list's order, in nats, its end included.
    pub losses: Vec<f64>,
    /// The number of characters of each name, its end included.
    pub lengths: Vec<usize>,
}

/// The means are NaN where there are no names.
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

    /// Among how many equally likely characters the model might as well be choosing.
    pub fn perplexity(&self) -> f64 {
        self.nats_per_character().exp()
    }

    /// The numbers of the names from the easiest to the hardest, by nats a character: by nats a
    /// name, they would be ordered by little else than length.
    pub fn by_difficulty(&self) -> Vec<usize> {
        let per_character = |&name: &usize| self.losses[name] / self.lengths[name] as f64;
        let mut order: Vec<usize> = (0..self.losses.len()).collect();
        order.sort_by(|a, b| per_character(a).total_cmp(&per_character(b)));
        order
    }
}

/// Scores `names`, each the indices of its characters without the final `'\n'`, from the zero
/// state. What a name costs does not depend on the others.
///
/// # Errors
/// Where an index is outside the vocabulary, or the device fails.
pub fn evaluate(model: &CharRnn, names: &[Vec<u32>]) -> Result<Evaluation> {
    check(model, names)?;
    let vocabulary = model.config().vocabulary;
    let mut losses = vec![0.; names.len()];
    // Names of one length side by side leave little padding.
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&name| names[name].len());
    for group in order.chunks((SCORES / vocabulary).clamp(1, BATCH)) {
        let batch = Batch::new(group.iter().map(|&name| names[name].as_slice()));
        let mut state = model.zero_state(batch.size())?;
        let steps = batch.x().chunks_exact(batch.size()).zip(batch.y().chunks_exact(batch.size()));
        for (x, y) in steps {
            state = model.step(&Tensor::new(x, model.device())?, &state)?;
            let z = scores(model, &state)?;
            for ((z, &y), &name) in z.chunks_exact(vocabulary).zip(y).zip(group) {
                if y != NONE {
                    losses[name] += log_total(z) - z[y as usize];
                }
            }
        }
    }
    Ok(Evaluation { losses, lengths: names.iter().map(|name| name.len() + 1).collect() })
}

/// The loss of all `names` together, in nats, where the state is carried on from each to the next,
/// as it is in training with batches of one; the first begins at zero.
///
/// # Errors
/// As [`evaluate`].
pub fn carried(model: &CharRnn, names: &[Vec<u32>]) -> Result<f64> {
    check(model, names)?;
    // The names one after the other are one sequence, in which the zero vector begins each.
    let x = names.iter().flat_map(|name| std::iter::once(NONE).chain(name.iter().copied()));
    let y = names.iter().flat_map(|name| name.iter().copied().chain(std::iter::once(END)));
    let (x, y): (Vec<u32>, Vec<u32>) = (x.collect(), y.collect());
    let mut state = model.zero_state(1)?;
    let mut total = 0.;
    for (x, y) in x.chunks(STEPS).zip(y.chunks(STEPS)) {
        let part = model.loss(&Batch::sequence(x, y), &state)?;
        // A model that can be trained would hold on to the graph of each part.
        state = CharRnnState::new(part.last.a().detach());
        total += scalar(&part.loss)?;
    }
    Ok(total)
}

/// A step through a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The index of the character that came, or of the end.
    pub index: u32,
    /// The logarithm of its probability; the surprise, in nats, is its opposite.
    pub log_probability: f64,
    /// The other characters that were likeliest, and their probabilities, the likeliest first.
    pub alternatives: Vec<(u32, f64)>,
}

/// What the model expected at each step through `name`, its end included, from the zero state, with
/// the `alternatives` likeliest other characters. The losses of the steps sum to the name's.
///
/// # Errors
/// As [`evaluate`].
pub fn explain(model: &CharRnn, name: &[u32], alternatives: usize) -> Result<Vec<Step>> {
    check(model, &[name])?;
    let batch = Batch::new([name]);
    let mut state = model.zero_state(1)?;
    let mut steps = Vec::with_capacity(batch.steps());
    for (&x, &index) in batch.x().iter().zip(batch.y()) {
        state = model.step(&Tensor::new(&[x], model.device())?, &state)?;
        let z = scores(model, &state)?;
        let log_total = log_total(&z);
        let mut others: Vec<u32> = (0..z.len() as u32).filter(|&other| other != index).collect();
        others.sort_by(|&a, &b| z[b as usize].total_cmp(&z[a as usize]));
        others.truncate(alternatives);
        let probability = |other: u32| (other, (z[other as usize] - log_total).exp());
        steps.push(Step {
            index,
            log_probability: z[index as usize] - log_total,
            alternatives: others.into_iter().map(probability).collect(),
        });
    }
    Ok(steps)
}

/// Names as a model's vocabulary spells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The names that it can spell, as indices.
    pub names: Vec<Vec<u32>>,
    /// The number of each of them in the list.
    pub places: Vec<usize>,
    /// The characters that it does not have, and in how many names each is.
    pub unknown: BTreeMap<char, usize>,
}

impl Encoded {
    /// Spells what can be spelled of `names` in `vocabulary`.
    pub fn new(names: &[String], vocabulary: &Vocabulary) -> Self {
        let known: BTreeSet<char> = vocabulary.characters().iter().copied().collect();
        let mut encoded = Self::default();
        for (place, name) in names.iter().enumerate() {
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

/// Refuses indices outside the vocabulary; the ops see inputs only, and no name's last target.
fn check(model: &CharRnn, names: &[impl AsRef<[u32]>]) -> Result<()> {
    let vocabulary = model.config().vocabulary;
    let mut indices = names.iter().flat_map(|name| name.as_ref());
    match indices.find(|&&index| index as usize >= vocabulary) {
        Some(index) => bail!("the index {index} is outside a vocabulary of {vocabulary}"),
        None => Ok(()),
    }
}

/// The scores `z` that follow from `state`, row by row, (B * n_y).
fn scores(model: &CharRnn, state: &CharRnnState) -> Result<Vec<f64>> {
    let z = model.logits(state.a())?.to_device(&Device::Cpu)?;
    z.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// `ln sum_j exp(z_j)`, without overflow.
fn log_total(z: &[f64]) -> f64 {
    let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + z.iter().map(|z| (z - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, char_rnn, initialize};
    use crate::random::Randomness;
    use candle_nn::VarBuilder;
    use proptest::prelude::*;

    fn model(vocabulary: usize, hidden: usize, dtype: DType, seed: u64) -> CharRnn {
        let config = Config { vocabulary, hidden };
        let mut normals = Randomness::Seed(seed).normals();
        let vars = initialize(config, || normals() * 50., dtype, &Device::Cpu).unwrap();
        char_rnn(config, VarBuilder::from_varmap(&vars, dtype, &Device::Cpu)).unwrap()
    }

    /// The equations, one number at a time: the loss of `name` from the state `a`, which is left as
    /// the name leaves it.
    fn naive(model: &CharRnn, name: &[u32], a: &mut [f64]) -> f64 {
        let [wax, waa, wya, b, by] = model.parameters().map(|(_, tensor)| {
            let rows = tensor.reshape((tensor.dim(0).unwrap(), ())).unwrap();
            rows.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap()
        });
        let mut loss = 0.;
        let mut input = None;
        for &target in name.iter().chain([&END]) {
            let before = a.to_vec();
            for i in 0..a.len() {
                let mut p = b[i][0];
                if let Some(x) = input {
                    p += wax[i][x as usize];
                }
                for j in 0..before.len() {
                    p += waa[i][j] * before[j];
                }
                a[i] = p.tanh();
            }
            let mut exponentials = Vec::new();
            for k in 0..by.len() {
                let mut z = by[k][0];
                for j in 0..a.len() {
                    z += wya[k][j] * a[j];
                }
                exponentials.push(z.exp());
            }
            loss -= (exponentials[target as usize] / exponentials.iter().sum::<f64>()).ln();
            input = Some(target);
        }
        loss
    }

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() <= tolerance * (1. + a.abs().max(b.abs()))
    }

    proptest! {
        #[test]
        fn losses_are_those_of_the_equations_one_number_at_a_time(
            names in prop::collection::vec(prop::collection::vec(1u32..6, 0..12), 1..300),
            hidden in 1usize..9,
            double: bool,
            seed: u64,
        ) {
            let (dtype, tolerance) = if double { (DType::F64, 1e-11) } else { (DType::F32, 1e-5) };
            let model = model(6, hidden, dtype, seed);
            let evaluation = evaluate(&model, &names).unwrap();
            let mut a = vec![0.; hidden];
            let mut carried_naively = 0.;
            for (name, &loss) in names.iter().zip(&evaluation.losses) {
                let naively = naive(&model, name, &mut vec![0.; hidden]);
                prop_assert!(close(loss, naively, tolerance), "{loss} {naively}");
                carried_naively += naive(&model, name, &mut a);
            }
            let carried = carried(&model, &names).unwrap();
            prop_assert!(close(carried, carried_naively, 10. * tolerance), "{carried} {carried_naively}");
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
                let others: f64 = step.alternatives.iter().map(|&(_, probability)| probability).sum();
                prop_assert!(close(others + step.log_probability.exp(), 1., 1e-12));
                prop_assert!(step.alternatives.is_sorted_by(|a, b| a.1 >= b.1));
                prop_assert!(step.alternatives.iter().all(|&(other, _)| other != step.index));
            }
        }
    }

    #[test]
    fn an_untrained_network_chooses_among_all_characters() {
        let config = Config { vocabulary: 8, hidden: 3 };
        let vars = initialize(config, || 0., DType::F32, &Device::Cpu).unwrap();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let evaluation = evaluate(&char_rnn(config, vb).unwrap(), &[vec![1, 2], vec![]]).unwrap();
        assert!(close(evaluation.perplexity(), 8., 1e-6));
        assert!(close(evaluation.bits_per_character(), 3., 1e-6));
        assert!(close(evaluation.nats_per_name(), 2. * 8f64.ln(), 1e-6));
    }

    #[test]
    fn the_hardest_name_is_the_one_that_costs_most_a_character() {
        let evaluation = Evaluation { losses: vec![8., 6., 9.], lengths: vec![4, 2, 9] };
        assert_eq!(evaluation.by_difficulty(), [2, 0, 1]);
    }

    #[test]
    fn an_index_outside_the_vocabulary_is_refused() {
        let model = model(4, 3, DType::F32, 1);
        for name in [vec![4], vec![1, NONE]] {
            assert!(evaluate(&model, std::slice::from_ref(&name)).is_err());
            assert!(explain(&model, &name, 2).is_err());
            assert!(carried(&model, &[name]).is_err());
        }
    }

    #[test]
    fn names_that_cannot_be_spelled_are_left_out_and_their_characters_counted() {
        let vocabulary = Vocabulary::of(["abc"]);
        let names = ["cab", "xax", "bay", "xyb"].map(String::from);
        let encoded = Encoded::new(&names, &vocabulary);
        assert_eq!(encoded.places, [0]);
        assert_eq!(encoded.names, [[3, 1, 2]]);
        assert_eq!(encoded.unknown, BTreeMap::from([('x', 2), ('y', 2)]));
    }
}
