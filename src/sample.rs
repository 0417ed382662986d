//! Sampling: names from a model, character by character.
//!
//! A name starts from the zero state and the zero vector. At each step the model gives a
//! distribution over characters, a uniform number chooses one, and its one-hot vector is the next
//! input, until the end of the name or the maximum length. Names are sampled side by side, as the
//! rows of a batch; when one ends, the next name takes its row. [`SampleOptions`] are the sampling
//! temperature, top-k and top-p (nucleus) filtering, a prefix, and limits on the length.

mod options;

pub use options::{MAX_LENGTH, SampleOptions, max_length_for};

use crate::data::{END, START, check_indices};
use crate::kernels::Element;
use crate::kernels::softmax::{choose, softmax_weights, total};
use crate::model::{CharRnn, CharRnnState};
use crate::ops::{values, with_float};
use crate::random::{RngSource, Uniforms};
use candle_core::{DType, Device, Error, Result, Tensor, bail};
use candle_nn::RNN;
use std::collections::BTreeMap;
use std::ops::Range;

/// The most names sampled side by side: enough to outweigh the overhead of a step, few enough that
/// their states stay in the cache.
const BATCH: usize = 256;
/// The most logits of a step: with a large vocabulary there are fewer names.
const MAX_LOGITS: usize = 1 << 20;

/// A sampled name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledName {
    /// The characters, the prefix included, without the final `'\n'`.
    pub indices: Vec<u32>,
    /// Whether the model ended the name; if not, the maximum length did.
    pub ended: bool,
}

/// An unfinished name.
struct Row {
    name: u64,
    uniforms: Uniforms,
    indices: Vec<u32>,
}

/// An iterator over the names of a model, sampled on demand. The n-th name depends on the model,
/// the options, the random numbers and n alone.
pub struct Sampler {
    /// Without variables: a graph would keep every state of every name.
    model: CharRnn,
    rng: RngSource,
    options: SampleOptions,
    /// The state, (1, n_a), after all of the prefix but its last character; `None` for the zero
    /// state.
    start: Option<Tensor>,
    /// The number of the next name to return.
    next: u64,
    /// The names to start.
    unstarted: Range<u64>,
    rows: Vec<Row>,
    state: CharRnnState,
    /// Finished names, by number, until the names before them are finished.
    finished: BTreeMap<u64, SampledName>,
}

impl Sampler {
    /// Samples the names of `model` with numbers in `range`, of at most `max_length` characters.
    ///
    /// # Errors
    /// If `max_length` is out of range, or the device fails.
    pub fn new(
        model: &CharRnn,
        rng: RngSource,
        max_length: usize,
        range: Range<u64>,
    ) -> Result<Self> {
        let options = SampleOptions { max_length, ..SampleOptions::default() };
        Self::with_options(model, rng, options, range)
    }

    /// The same with `options`.
    ///
    /// # Errors
    /// If the options are out of range ([`SampleOptions::check`]), the prefix has an index outside
    /// the vocabulary or the end of a name, or the device fails.
    pub fn with_options(
        model: &CharRnn,
        rng: RngSource,
        options: SampleOptions,
        range: Range<u64>,
    ) -> Result<Self> {
        options.check().map_err(Error::wrap)?;
        check_indices(&options.prefix, model.config().vocabulary)?;
        if options.prefix.contains(&END) {
            bail!("the prefix has {END}, the index of the end of a name");
        }
        let model = model.detached();
        let start = match options.prefix.split_last() {
            Some((_, before)) => Some(state_after(&model, before)?),
            None => None,
        };
        // At least one row: a GPU has no empty tensors.
        let batch = BATCH.min(MAX_LOGITS / model.config().vocabulary);
        let rows = range.end.saturating_sub(range.start).clamp(1, batch.max(1) as u64) as usize;
        let state = match &start {
            None => model.zero_state(rows)?,
            Some(start) => CharRnnState::new(start.repeat((rows, 1))?),
        };
        let mut sampler = Self {
            model,
            rng,
            options,
            start,
            next: range.start,
            unstarted: range,
            rows: Vec::new(),
            state,
            finished: BTreeMap::new(),
        };
        sampler.rows = (0..rows).map_while(|_| sampler.next_row()).collect();
        Ok(sampler)
    }

    /// Starts the next name, if there is one.
    fn next_row(&mut self) -> Option<Row> {
        let name = self.unstarted.next()?;
        let uniforms = self.rng.uniforms(name);
        Some(Row { name, uniforms, indices: self.options.prefix.clone() })
    }

    /// Samples the next character of each row.
    fn step(&mut self) -> Result<()> {
        let last = |row: &Row| row.indices.last().copied().unwrap_or(START);
        let input: Vec<u32> = self.rows.iter().map(last).collect();
        let input = Tensor::new(input.as_slice(), self.model.device())?;
        self.state = self.model.step(&input, &self.state)?;
        let logits = self.model.logits(self.state.a())?.to_device(&Device::Cpu)?;
        let vocabulary = self.model.config().vocabulary;
        let any_finished = if self.options.is_unfiltered() {
            with_float!(logits.dtype(), "sampling", F => {
                values!(logits: F = logits);
                let mut weights = vec![F::ZERO; logits.len()];
                softmax_weights(logits, vocabulary, &mut weights);
                self.append(&weights)
            })
        } else {
            let mut weights: Vec<f64> = logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
            for (weights, row) in weights.chunks_exact_mut(vocabulary).zip(&self.rows) {
                self.options.apply(weights, row.indices.len());
            }
            self.append(&weights)
        };
        if any_finished { self.refill() } else { Ok(()) }
    }

    /// Appends to each row a character sampled by its `weights`, (rows, n_y). Returns whether any
    /// name is finished.
    fn append<F: Element>(&mut self, weights: &[F]) -> bool {
        let vocabulary = self.model.config().vocabulary;
        let totals: Vec<f64> = weights.chunks_exact(vocabulary).map(total).collect();
        let distributions = weights.chunks_exact(vocabulary).zip(totals);
        let mut any_finished = false;
        for (row, (weights, total)) in self.rows.iter_mut().zip(distributions) {
            let index = choose(weights, total, row.uniforms.draw()) as u32;
            let ended = index == END;
            if !ended {
                row.indices.push(index);
            }
            if ended || row.indices.len() >= self.options.max_length {
                let indices = std::mem::take(&mut row.indices);
                self.finished.insert(row.name, SampledName { indices, ended });
                any_finished = true;
            }
        }
        any_finished
    }

    /// Starts new names in the rows of finished ones, and removes the rows that stay empty.
    fn refill(&mut self) -> Result<()> {
        let mut kept = Vec::with_capacity(self.rows.len());
        // The row that each state comes from. That of a new name is the zero vector, or appended
        // as the last row.
        let new = self.start.as_ref().map_or(START, |_| self.rows.len() as u32);
        let mut sources = Vec::with_capacity(self.rows.len());
        for (source, row) in (0u32..).zip(std::mem::take(&mut self.rows)) {
            if !self.finished.contains_key(&row.name) {
                kept.push(row);
                sources.push(source);
            } else if let Some(row) = self.next_row() {
                kept.push(row);
                sources.push(new);
            }
        }
        self.rows = kept;
        if self.rows.is_empty() {
            // A GPU has no empty tensors.
            return Ok(());
        }
        let sources = Tensor::new(sources.as_slice(), self.model.device())?;
        let a = match &self.start {
            None => self.state.a().index_select(&sources, 0)?,
            Some(start) => Tensor::cat(&[self.state.a(), start], 0)?.index_select(&sources, 0)?,
        };
        self.state = CharRnnState::new(a);
        Ok(())
    }
}

/// The state, (1, n_a), after the inputs of `prefix`.
fn state_after(model: &CharRnn, prefix: &[u32]) -> Result<Tensor> {
    let mut state = model.zero_state(1)?;
    for &input in std::iter::once(&START).chain(prefix) {
        state = model.step(&Tensor::new(&[input], model.device())?, &state)?;
    }
    Ok(state.a().clone())
}

impl Iterator for Sampler {
    type Item = Result<SampledName>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(name) = self.finished.remove(&self.next) {
                self.next += 1;
                return Some(Ok(name));
            }
            if self.rows.is_empty() {
                return None;
            }
            if let Err(error) = self.step() {
                self.rows.clear();
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MAX_NAME_LENGTH;
    use crate::model::{Config, char_rnn, initialize};
    use crate::random::NumpyRandom;
    use crate::reference::{Parameters, rnn_step_forward, sample};
    use candle_core::safetensors::BufferedSafetensors;
    use candle_nn::VarBuilder;
    use proptest::prelude::*;

    /// A network whose weights are large enough that its names differ.
    fn model(vocabulary: usize, hidden: usize) -> CharRnn {
        scaled(vocabulary, hidden, 60., DType::F64)
    }

    /// A network whose initial weights are multiplied by `scale`.
    fn scaled(vocabulary: usize, hidden: usize, scale: f64, dtype: DType) -> CharRnn {
        let config = Config { vocabulary, hidden };
        let mut normals = RngSource::Seed(5).normals();
        let vars = initialize(config, || normals() * scale, dtype, &Device::Cpu).unwrap();
        char_rnn(config, VarBuilder::from_varmap(&vars, dtype, &Device::Cpu)).unwrap()
    }

    fn names(model: &CharRnn, max_length: usize, count: u64) -> Vec<SampledName> {
        Sampler::new(model, RngSource::Seed(1), max_length, 0..count)
            .unwrap()
            .collect::<Result<_>>()
            .unwrap()
    }

    fn names_by(model: &CharRnn, options: &SampleOptions, count: u64) -> Vec<SampledName> {
        options.check().unwrap();
        Sampler::with_options(model, RngSource::Seed(1), options.clone(), 0..count)
            .unwrap()
            .collect::<Result<_>>()
            .unwrap()
    }

    /// The probabilities of the character after `prefix`, by the reference.
    fn after(model: &CharRnn, prefix: &[u32]) -> Vec<f64> {
        let parameters = Parameters::of(model);
        let zeros = vec![0.; model.config().hidden];
        let (mut a, mut p) = rnn_step_forward(&parameters, &zeros, None);
        for &x in prefix {
            (a, p) = rnn_step_forward(&parameters, &a, Some(x as usize));
        }
        p
    }

    /// `tests/numpy_random.rs` compares the uniform numbers; this, what they choose.
    #[test]
    fn choices_are_numpys() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/numpy_random.safetensors");
        let fixture = BufferedSafetensors::new(std::fs::read(path).unwrap()).unwrap();
        let load = |name: &str| fixture.load(name, &Device::Cpu).unwrap();
        for seed in [0, 1, 2, 3, 42, 12345, u32::MAX] {
            for distribution in ["even", "flat", "steep", "gaps", "certain"] {
                let p: Vec<f64> = load(&format!("p.{distribution}")).to_vec1().unwrap();
                let name = format!("{seed}.choice.{distribution}");
                let mut random = NumpyRandom::new(seed);
                for index in load(&name).to_vec1::<u8>().unwrap() {
                    let chosen = choose(&p, total(&p), random.random_sample());
                    assert_eq!(chosen, usize::from(index), "{name}");
                }
            }
        }
    }

    #[test]
    fn the_first_character_after_a_prefix_is_as_frequent_as_it_is_probable() {
        let model = model(6, 9);
        let prefix = vec![3, 1, 4];
        let options = SampleOptions { prefix: prefix.clone(), ..SampleOptions::default() };
        let count = 20_000;
        let mut frequencies = [0.; 6];
        for sampled in names_by(&model, &options, count) {
            assert_eq!(sampled.indices[..3], prefix);
            let next = sampled.indices.get(3).copied().unwrap_or(END);
            frequencies[next as usize] += 1. / count as f64;
        }
        for (p, frequency) in after(&model, &prefix).iter().zip(frequencies) {
            // Five standard deviations.
            let bound = 5. * (p * (1. - p) / count as f64).sqrt();
            assert!((p - frequency).abs() <= bound, "{p} {frequency}");
        }
    }

    #[test]
    fn a_prefix_outside_the_vocabulary_is_an_error() {
        let model = model(4, 3);
        for prefix in [vec![9, 1], vec![1, 9], vec![1, START], vec![END]] {
            let options = SampleOptions { prefix, ..SampleOptions::default() };
            let names = Sampler::with_options(&model, RngSource::Seed(1), options, 0..3);
            assert!(names.and_then(|names| names.collect::<Result<Vec<_>>>()).is_err());
        }
    }

    #[test]
    fn sampling_from_variables_keeps_no_graph() {
        let model = model(6, 9);
        assert!(model.parameters().iter().all(|(_, parameter)| parameter.is_variable()));
        for prefix in [vec![], vec![1, 2]] {
            let options = SampleOptions { prefix, ..SampleOptions::default() };
            let mut names =
                Sampler::with_options(&model, RngSource::Seed(1), options, 0..600).unwrap();
            while names.next().is_some() {
                assert!(!names.state.a().track_op());
            }
        }
    }

    #[test]
    fn names_are_those_of_the_reference() {
        let model = model(12, 9);
        let parameters = Parameters::of(&model);
        let sampled = names(&model, MAX_LENGTH, 700);
        assert_eq!(sampled.len(), 700);
        for (name, SampledName { indices, ended }) in (0..).zip(&sampled) {
            let mut uniforms = RngSource::Seed(1).uniforms(name);
            let expected = sample(&parameters, END as usize, || uniforms.draw());
            assert!(indices.iter().map(|&index| index as usize).eq(expected), "name {name}");
            assert_eq!(*ended, indices.len() < MAX_LENGTH, "name {name}");
        }
        let ended = sampled.iter().filter(|sampled| sampled.ended).count();
        assert!(0 < ended && ended < 700, "{ended} of 700 names ended before the maximum length");
    }

    #[test]
    fn a_name_does_not_depend_on_the_others() {
        let model = model(27, 16);
        assert_eq!(names(&model, 50, 20)[..5], names(&model, 50, 5));
        assert!(names(&model, 50, 0).is_empty());
        let later = Sampler::new(&model, RngSource::Seed(1), 50, 12..20).unwrap();
        let later: Vec<SampledName> = later.collect::<Result<_>>().unwrap();
        assert_eq!(names(&model, 50, 20)[12..], later);
    }

    fn power_of_ten() -> impl Strategy<Value = f64> {
        (-330f64..310.).prop_map(|exponent| 10f64.powf(exponent))
    }

    proptest! {
        #[test]
        fn names_satisfy_their_options(
            prefix in prop::collection::vec(1u32..5, 0..4),
            min_length in prop_oneof![Just(0), 1usize..9],
            longer in 0usize..5,
            top_k in prop::option::of(1usize..7),
            top_p in prop::option::of(0.01f64..=1.),
            temperature in prop_oneof![Just(1.), 0.01f64..5.],
        ) {
            let model = model(5, 6);
            let max_length = (min_length + longer).max(prefix.len() + 1);
            let options =
                SampleOptions { temperature, top_k, top_p, prefix, min_length, max_length };
            let sampled = names_by(&model, &options, 30);
            prop_assert_eq!(sampled.len(), 30);
            for SampledName { indices, ended } in &sampled {
                prop_assert!(indices.starts_with(&options.prefix));
                prop_assert!((min_length..=max_length).contains(&indices.len()));
                prop_assert!(*ended || indices.len() == max_length);
                prop_assert!(!indices.contains(&END));
                let chosen = indices.iter().chain(ended.then_some(&END));
                for (at, &next) in chosen.enumerate().skip(options.prefix.len()) {
                    let mut p = after(&model, &indices[..at]);
                    if at < min_length {
                        p[END as usize] = 0.;
                    }
                    let likelier = p.iter().filter(|&&other| other > p[next as usize]).count();
                    prop_assert!(likelier < top_k.unwrap_or(5));
                }
            }
            prop_assert_eq!(&names_by(&model, &options, 7)[..], &sampled[..7]);
        }

        /// Weights may be so large that the logits are NaN.
        #[test]
        fn sampling_terminates_for_every_network_and_options(
            (vocabulary, hidden) in (2usize..7, 1usize..6),
            scale in prop_oneof![Just(0.), power_of_ten()],
            dtype in prop::sample::select(&[DType::F32, DType::F64][..]),
            rng in prop_oneof![
                any::<u64>().prop_map(RngSource::Seed),
                Just(RngSource::Notebook),
            ],
            temperature in prop_oneof![power_of_ten(), Just(f64::INFINITY)],
            top_k in prop::option::of(prop_oneof![1usize..9, Just(usize::MAX)]),
            top_p in prop::option::of(
                prop_oneof![1e-300f64..=1., Just(f64::MIN_POSITIVE), Just(1.)],
            ),
            lengths in prop::array::uniform3(prop_oneof![0usize..9, 0..=MAX_NAME_LENGTH]),
            first in any::<u64>(),
        ) {
            let model = scaled(vocabulary, hidden, scale, dtype);
            let [min_length, longer, prefix] = lengths;
            let max_length = (min_length + longer).min(MAX_NAME_LENGTH);
            let prefix = (0..prefix as u32).map(|i| 1 + i % (vocabulary as u32 - 1)).collect();
            let options =
                SampleOptions { temperature, top_k, top_p, prefix, min_length, max_length };
            prop_assume!(options.check().is_ok());
            let range = first..first.saturating_add(3);
            let names = Sampler::with_options(&model, rng, options.clone(), range.clone());
            let names: Vec<SampledName> = names.unwrap().collect::<Result<_>>().unwrap();
            prop_assert_eq!(names.len() as u64, range.end - range.start);
            for SampledName { indices, ended } in names {
                prop_assert!(indices.starts_with(&options.prefix));
                prop_assert!((min_length..=max_length).contains(&indices.len()));
                prop_assert!(ended || indices.len() == max_length);
                prop_assert!(!indices.contains(&END));
            }
        }
    }
}
