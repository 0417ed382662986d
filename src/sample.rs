//! Sampling: names from a model, character by character.
//!
//! A name starts from the zero state and the zero vector. At each step the model gives a
//! distribution over characters, a uniform number chooses one, and its one-hot vector is the next
//! input, until the end of the name or the maximum length. Names are sampled side by side, as the
//! rows of a batch; when one ends, the next name takes its row. [`SampleOptions`] are the sampling
//! temperature, top-k and top-p (nucleus) filtering, prefixes, and limits on the length.

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
    /// The state of a new name after all of its prefix but the last character: (prefixes, n_a).
    start: Tensor,
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
    /// If `max_length` is out of range.
    pub fn new(
        model: &CharRnn,
        rng: RngSource,
        max_length: usize,
        range: Range<u64>,
    ) -> Result<Self> {
        let options = SampleOptions { max_length, ..SampleOptions::default() };
        Self::with_options(model, rng, options, range)
    }

    /// Samples the names of `model` with numbers in `range` as the `options` say.
    ///
    /// # Errors
    /// If the options are out of range ([`SampleOptions::check`]), or a prefix has an index
    /// outside the vocabulary or the end of a name.
    pub fn with_options(
        model: &CharRnn,
        rng: RngSource,
        options: SampleOptions,
        range: Range<u64>,
    ) -> Result<Self> {
        options.check().map_err(Error::wrap)?;
        let model = model.detached();
        let mut starts = Vec::new();
        for name in 0..options.prefixes.len().max(1) as u64 {
            let prefix = options.prefix(name);
            check_indices(prefix, model.config().vocabulary)?;
            if prefix.contains(&END) {
                bail!("the prefix has {END}, the index of the end of a name");
            }
            let mut state = model.zero_state(1)?;
            for &input in std::iter::once(&START).chain(prefix).take(prefix.len()) {
                state = model.step(&Tensor::new(&[input], model.device())?, &state)?;
            }
            starts.push(state.a().clone());
        }
        let start = Tensor::cat(&starts, 0)?;
        // At least one row: a GPU has no empty tensors.
        let rows =
            range.end.saturating_sub(range.start).clamp(1, model.config().max_batch() as u64);
        let rows = rows as usize;
        let sources = (range.start..).take(rows).map(|name| (name % starts.len() as u64) as u32);
        let sources = Tensor::from_iter(sources, model.device())?;
        let state = CharRnnState::new(start.index_select(&sources, 0)?);
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
        let (uniforms, indices) = (self.rng.uniforms(name), self.options.prefix(name).to_vec());
        Some(Row { name, uniforms, indices })
    }

    /// Samples the next character of each row.
    fn step(&mut self) -> Result<()> {
        let last = |row: &Row| row.indices.last().copied().unwrap_or(START);
        let input = Tensor::from_iter(self.rows.iter().map(last), self.model.device())?;
        self.state = self.model.step(&input, &self.state)?;
        let logits = self.model.logits(self.state.a())?.to_device(&Device::Cpu)?;
        let vocabulary = self.model.config().vocabulary;
        if self.options.is_unfiltered() {
            with_float!(logits.dtype(), "sampling", F => {
                values!(logits: F = logits);
                let mut weights = vec![F::ZERO; logits.len()];
                softmax_weights(logits, vocabulary, &mut weights);
                self.advance(&weights)
            })
        } else {
            let mut weights: Vec<f64> = logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
            for (weights, row) in weights.chunks_exact_mut(vocabulary).zip(&self.rows) {
                self.options.apply(weights, row.indices.len());
            }
            self.advance(&weights)
        }
    }

    /// Appends to each row a character sampled by its `weights`, (rows, n_y). New names take the
    /// rows of finished ones, as long as there are any.
    fn advance<F: Element>(&mut self, weights: &[F]) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        // The row that each state comes from; those of new names are appended.
        let (count, mut sources) = (rows.len() as u32, Vec::with_capacity(rows.len()));
        let starts = self.start.dim(0)? as u64;
        let weights = weights.chunks_exact(self.model.config().vocabulary);
        let totals: Vec<f64> = weights.clone().map(total).collect();
        for ((source, mut row), (weights, total)) in (0..).zip(rows).zip(weights.zip(totals)) {
            let index = choose(weights, total, row.uniforms.draw()) as u32;
            let ended = index == END;
            if !ended {
                row.indices.push(index);
            }
            if !ended && row.indices.len() < self.options.max_length {
                self.rows.push(row);
                sources.push(source);
                continue;
            }
            self.finished.insert(row.name, SampledName { indices: row.indices, ended });
            if let Some(row) = self.next_row() {
                sources.push(count + (row.name % starts) as u32);
                self.rows.push(row);
            }
        }
        // A GPU has no empty tensors.
        if !self.rows.is_empty() && sources.iter().copied().ne(0..count) {
            let states = Tensor::cat(&[self.state.a(), &self.start], 0)?;
            let sources = Tensor::new(sources, self.model.device())?;
            self.state = CharRnnState::new(states.index_select(&sources, 0)?);
        }
        Ok(())
    }
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
pub(crate) mod tests {
    use super::*;
    use crate::data::MAX_NAME_LENGTH;
    use crate::model::{Config, char_rnn, initialize};
    use crate::random::NumpyRandom;
    use crate::reference::{Parameters, rnn_step_forward, sample};
    use candle_core::safetensors::BufferedSafetensors;
    use candle_nn::VarBuilder;
    use proptest::prelude::*;

    /// A network whose initial weights are multiplied by `scale`.
    pub(crate) fn random_model(
        vocabulary: usize,
        hidden: usize,
        scale: f64,
        dtype: DType,
        seed: u64,
    ) -> CharRnn {
        let config = Config { vocabulary, hidden };
        let mut normals = RngSource::Seed(seed).normals();
        let vars = initialize(config, || normals() * scale, dtype, &Device::Cpu).unwrap();
        char_rnn(config, VarBuilder::from_varmap(&vars, dtype, &Device::Cpu)).unwrap()
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

    /// The name of this number, one character after the other, with the reference's probabilities.
    fn expected(parameters: &Parameters<f64>, options: &SampleOptions, number: u64) -> SampledName {
        let mut uniforms = RngSource::Seed(1).uniforms(number);
        let mut indices = options.prefix(number).to_vec();
        while indices.len() < options.max_length {
            let (mut a, mut p) = rnn_step_forward(parameters, &[0.; 6], None);
            for &x in &indices {
                (a, p) = rnn_step_forward(parameters, &a, Some(x as usize));
            }
            let mut weights: Vec<f64> = p.iter().map(|p| p.ln()).collect();
            options.apply(&mut weights, indices.len());
            match choose(&weights, total(&weights), uniforms.draw()) as u32 {
                END => return SampledName { indices, ended: true },
                index => indices.push(index),
            }
        }
        SampledName { indices, ended: false }
    }

    fn power_of_ten() -> impl Strategy<Value = f64> {
        (-330f64..310.).prop_map(|exponent| 10f64.powf(exponent))
    }

    proptest! {
        #[test]
        fn a_name_is_the_references_for_its_number_and_the_options(
            plain: bool,
            prefixes in prop::collection::vec(prop::collection::vec(1u32..5, 0..4), 0..4),
            min_length in prop_oneof![Just(0), 1usize..9],
            longer in 0usize..5,
            top_k in prop::option::of(1usize..7),
            top_p in prop::option::of(0.01f64..=1.),
            temperature in prop_oneof![Just(1.), Just(0.), 0.01f64..5.],
            (first, count) in (any::<u32>(), prop_oneof![9 => 0u64..20, 1 => 256u64..400]),
        ) {
            let model = random_model(5, 6, 60., DType::F64, 5);
            let (first, parameters) = (u64::from(first), Parameters::of(&model));
            let longest = prefixes.iter().map(Vec::len).max().unwrap_or_default();
            let max_length = (min_length + longer).max(longest + 1);
            let mut options =
                SampleOptions { temperature, top_k, top_p, prefixes, min_length, max_length };
            if plain {
                options = SampleOptions::default();
            }
            let range = first..first + count;
            let mut names =
                Sampler::with_options(&model, RngSource::Seed(1), options.clone(), range).unwrap();
            let sampled: Vec<SampledName> = names.by_ref().collect::<Result<_>>().unwrap();
            // The state of variables has a graph.
            prop_assert!(model.parameters()[0].1.is_variable() && !names.state.a().track_op());
            prop_assert_eq!(sampled.len() as u64, count);
            for (number, name) in (first..).zip(sampled) {
                if plain {
                    let mut uniforms = RngSource::Seed(1).uniforms(number);
                    let expected = sample(&parameters, END as usize, || uniforms.draw());
                    prop_assert!(name.indices.iter().map(|&index| index as usize).eq(expected));
                }
                prop_assert_eq!(name, expected(&parameters, &options, number));
            }
        }

        /// Weights may be so large that the logits are NaN.
        #[test]
        fn sampling_terminates_for_every_network_and_options(
            (vocabulary, hidden) in (2usize..7, 1usize..6),
            scale in prop_oneof![Just(0.), power_of_ten()],
            dtype in prop::sample::select(&[DType::F32, DType::F64][..]),
            rng in prop_oneof![any::<u64>().prop_map(RngSource::Seed), Just(RngSource::Notebook)],
            temperature in prop_oneof![power_of_ten(), Just(f64::INFINITY), Just(0.)],
            top_k in prop::option::of(prop_oneof![1usize..9, Just(usize::MAX)]),
            top_p in prop::option::of(prop_oneof![1e-300..=1., Just(f64::MIN_POSITIVE), Just(1.)]),
            lengths in prop::array::uniform3(prop_oneof![0usize..9, 0..=MAX_NAME_LENGTH]),
            first in any::<u64>(),
        ) {
            let model = random_model(vocabulary, hidden, scale, dtype, 5);
            let [min_length, longer, prefix] = lengths;
            let max_length = (min_length + longer).min(MAX_NAME_LENGTH);
            let prefix = (0..prefix as u32).map(|i| 1 + i % (vocabulary as u32 - 1)).collect();
            let prefixes = vec![prefix];
            let options =
                SampleOptions { temperature, top_k, top_p, prefixes, min_length, max_length };
            prop_assume!(options.check().is_ok());
            let range = first..first.saturating_add(3);
            let names = Sampler::with_options(&model, rng, options.clone(), range.clone());
            let names: Vec<SampledName> = names.unwrap().collect::<Result<_>>().unwrap();
            prop_assert_eq!(names.len() as u64, range.end - range.start);
            for SampledName { indices, ended } in names {
                prop_assert!(indices.starts_with(&options.prefixes[0]));
                prop_assert!((min_length..=max_length).contains(&indices.len()));
                prop_assert!(ended || indices.len() == max_length);
                prop_assert!(!indices.contains(&END));
            }
        }
    }
}
