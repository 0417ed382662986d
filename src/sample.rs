//! Names out of a model: step, choose, stop.
//!
//! A name starts from the zero vector and the zero state. At each step the module gives a
//! distribution over characters, a uniform number chooses one, and that one is the next input,
//! until the end of the name or its longest length. Many names are made side by side as the rows
//! of one batch: a row whose name is done takes up the next one. [`Options`] bend the distribution
//! and the beginning of the names.

use crate::batch::NONE;
use crate::corpus::LONGEST_NAME;
use crate::error::Error;
use crate::kernels::Element;
use crate::kernels::softmax::{choose, softmax_weights, total};
use crate::model::{CharRnn, CharRnnState};
use crate::ops::{values, with_float};
use crate::random::{Randomness, Uniforms};
use crate::vocab::END;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::RNN;
use std::collections::BTreeMap;
use std::ops::Range;

/// The notebook's limit on the length of a sampled name, in characters.
pub const MAX_LENGTH: usize = 50;

/// How many names are made side by side: enough that the work of a step outweighs its overhead,
/// few enough that the state of all stays in the cache.
const BATCH: u64 = 256;

/// How names are chosen. The default is the distribution of the model itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Divides the scores: below 1 the likely becomes likelier, above 1 all is evened out.
    pub temperature: f64,
    /// Choose among this many of the likeliest characters alone.
    pub top_k: Option<usize>,
    /// Choose among the likeliest characters alone, as few as have this probability together
    /// (nucleus sampling: Holtzman et al. 2020, <https://arxiv.org/abs/1904.09751>).
    pub top_p: Option<f64>,
    /// The characters that each name begins with.
    pub prefix: Vec<u32>,
    /// The shortest name, in characters: its end is not chosen before.
    pub min_length: usize,
    /// The longest name, in characters: it is cut off there.
    pub max_length: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            temperature: 1.,
            top_k: None,
            top_p: None,
            prefix: Vec::new(),
            min_length: 0,
            max_length: MAX_LENGTH,
        }
    }
}

impl Options {
    /// Checks that names can be chosen so.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first option that is outside its range.
    pub fn check(&self) -> crate::Result<()> {
        let setting = |name, value: String, rule: &str| {
            Err(Error::Setting { name, value, rule: rule.to_string() })
        };
        if self.temperature.is_nan() || self.temperature <= 0. {
            let rule =
                "it must be above 0; the lower it is, the surer are the likeliest characters";
            return setting("--temperature", self.temperature.to_string(), rule);
        }
        if self.top_k == Some(0) {
            return setting("--top-k", "0".to_string(), "there must be a character to choose");
        }
        if let Some(p) = self.top_p.filter(|&p| !(p > 0. && p <= 1.)) {
            return setting("--top-p", p.to_string(), "it must be above 0 and at most 1");
        }
        if !(1..=LONGEST_NAME).contains(&self.max_length) {
            let rule = format!("it must be from 1 to {LONGEST_NAME}");
            return setting("--max-length", self.max_length.to_string(), &rule);
        }
        if self.min_length > self.max_length {
            let rule = format!("the longest name has {} (--max-length)", self.max_length);
            return setting("--min-length", self.min_length.to_string(), &rule);
        }
        if self.prefix.len() >= self.max_length {
            let value = format!("{} characters long", self.prefix.len());
            let rule = format!("it must be shorter than the longest name, {}", self.max_length);
            return setting("--prefix", value, &format!("{rule} (--max-length)"));
        }
        Ok(())
    }

    /// Whether characters are chosen from the distribution of the model itself.
    fn is_plain(&self) -> bool {
        let Self { temperature, top_k, top_p, prefix: _, min_length, max_length: _ } = self;
        *temperature == 1. && top_k.is_none() && top_p.is_none() && *min_length == 0
    }

    /// Turns the scores `z` of the character after `length` others into weights to choose by.
    fn weigh(&self, z: &mut [f64], length: usize) {
        let may_end = length >= self.min_length;
        if !may_end {
            z[END as usize] = f64::NEG_INFINITY;
        }
        // Taken off before the division, so that no temperature overflows.
        let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        z.iter_mut().for_each(|z| *z = ((*z - largest) / self.temperature).exp());
        if !may_end {
            // An infinite temperature would have left it possible.
            z[END as usize] = 0.;
        }
        let weights = z;
        if self.top_k.is_none() && self.top_p.is_none() {
            return;
        }
        let mut likeliest: Vec<usize> = (0..weights.len()).collect();
        likeliest.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        let mut kept = self.top_k.unwrap_or(weights.len()).min(weights.len());
        if let Some(p) = self.top_p {
            let mut missing = p * likeliest[..kept].iter().map(|&i| weights[i]).sum::<f64>();
            let reaches = |&index: &usize| {
                missing -= weights[index];
                missing <= 0.
            };
            kept = likeliest[..kept].iter().position(reaches).map_or(kept, |last| last + 1);
        }
        for &index in &likeliest[kept..] {
            weights[index] = 0.;
        }
    }
}

/// A name that a model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// The characters, the prefix among them, without the final `'\n'`.
    pub indices: Vec<u32>,
    /// Whether the model ended the name; if not, the length limit did.
    pub ended: bool,
}

/// A name in the making.
struct Row {
    name: u64,
    uniforms: Uniforms,
    indices: Vec<u32>,
}

/// The names of a model, one after the other: an iterator that makes them as they are asked for.
/// The n-th name depends on the model, the randomness and n alone.
pub struct Names<'a> {
    model: &'a CharRnn,
    randomness: Randomness,
    options: Options,
    /// The state, (1, n_a), that follows from all of the prefix but its last character; none where
    /// that is the zero vector.
    start: Option<Tensor>,
    /// The next name to deliver, the next to start, and the one after the last.
    next: u64,
    unstarted: Range<u64>,
    rows: Vec<Row>,
    state: CharRnnState,
    /// Names that are done before an earlier one is: no more than are made while the longest is.
    waiting: BTreeMap<u64, Sampled>,
}

impl<'a> Names<'a> {
    /// The names of `model` under `randomness` whose numbers are in `range`, each of at most
    /// `max_length` characters.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn new(
        model: &'a CharRnn,
        randomness: Randomness,
        max_length: usize,
        range: Range<u64>,
    ) -> Result<Self> {
        Self::with_options(model, randomness, Options { max_length, ..Options::default() }, range)
    }

    /// The same, chosen by `options`, which should have passed their [`check`](Options::check).
    ///
    /// # Errors
    /// Where the device fails, or the prefix is outside the vocabulary.
    pub fn with_options(
        model: &'a CharRnn,
        randomness: Randomness,
        options: Options,
        range: Range<u64>,
    ) -> Result<Self> {
        let start = match options.prefix.split_last() {
            Some((_, before)) => Some(state_after(model, before)?),
            None => None,
        };
        // Without names one row that nothing uses: a GPU has no tensors without entries.
        let rows = BATCH.min(range.end.saturating_sub(range.start)).max(1) as usize;
        let state = match &start {
            None => model.zero_state(rows)?,
            Some(start) => CharRnnState::new(start.repeat((rows, 1))?),
        };
        let mut names = Self {
            model,
            randomness,
            options,
            start,
            next: range.start,
            unstarted: range,
            rows: Vec::new(),
            state,
            waiting: BTreeMap::new(),
        };
        names.rows = (0..BATCH).map_while(|_| names.next_row()).collect();
        Ok(names)
    }

    /// The next name that has not been started, if one is still wanted.
    fn next_row(&mut self) -> Option<Row> {
        let name = self.unstarted.next()?;
        let uniforms = self.randomness.uniforms(name);
        Some(Row { name, uniforms, indices: self.options.prefix.clone() })
    }

    /// Gives every row its next character.
    fn step(&mut self) -> Result<()> {
        let last = |row: &Row| row.indices.last().copied().unwrap_or(NONE);
        let input: Vec<u32> = self.rows.iter().map(last).collect();
        let input = Tensor::new(input.as_slice(), self.model.device())?;
        self.state = self.model.step(&input, &self.state)?;
        let logits = self.model.logits(self.state.a())?.to_device(&Device::Cpu)?;
        let vocabulary = self.model.config().vocabulary;
        let done = if self.options.is_plain() {
            with_float!(logits.dtype(), "sampling", F => {
                values!(logits: F = logits);
                let mut weights = vec![F::ZERO; logits.len()];
                softmax_weights(logits, vocabulary, &mut weights);
                self.choose(&weights)
            })
        } else {
            let mut weights: Vec<f64> = logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
            for (weights, row) in weights.chunks_exact_mut(vocabulary).zip(&self.rows) {
                self.options.weigh(weights, row.indices.len());
            }
            self.choose(&weights)
        };
        if done { self.refill() } else { Ok(()) }
    }

    /// Gives each row the character chosen by its `weights`, (rows, n_y). Returns whether any name
    /// is done.
    fn choose<F: Element>(&mut self, weights: &[F]) -> bool {
        let vocabulary = self.model.config().vocabulary;
        let totals: Vec<f64> = weights.chunks_exact(vocabulary).map(total).collect();
        let distributions = weights.chunks_exact(vocabulary).zip(totals);
        let mut done = false;
        for (row, (weights, total)) in self.rows.iter_mut().zip(distributions) {
            let index = choose(weights, total, row.uniforms.draw()) as u32;
            let ended = index == END;
            if !ended {
                row.indices.push(index);
            }
            if ended || row.indices.len() >= self.options.max_length {
                let indices = std::mem::take(&mut row.indices);
                self.waiting.insert(row.name, Sampled { indices, ended });
                done = true;
            }
        }
        done
    }

    /// Puts new names into the rows of those that are done, and drops the rows that stay empty.
    fn refill(&mut self) -> Result<()> {
        let mut kept = Vec::with_capacity(self.rows.len());
        // Where each remaining row's state comes from; a new name's is the zero vector, or a row
        // added after the others.
        let new = self.start.as_ref().map_or(NONE, |_| self.rows.len() as u32);
        let mut sources = Vec::with_capacity(self.rows.len());
        for (source, row) in (0u32..).zip(std::mem::take(&mut self.rows)) {
            if !self.waiting.contains_key(&row.name) {
                kept.push(row);
                sources.push(source);
            } else if let Some(row) = self.next_row() {
                kept.push(row);
                sources.push(new);
            }
        }
        self.rows = kept;
        if self.rows.is_empty() {
            // A GPU refuses to pick nothing.
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

/// The state, (1, n_a), after the beginning of a name, whose last character is yet to be read in.
fn state_after(model: &CharRnn, read: &[u32]) -> Result<Tensor> {
    let mut state = model.zero_state(1)?;
    for &input in std::iter::once(&NONE).chain(read) {
        state = model.step(&Tensor::new(&[input], model.device())?, &state)?;
    }
    Ok(state.a().clone())
}

impl Iterator for Names<'_> {
    type Item = Result<Sampled>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(name) = self.waiting.remove(&self.next) {
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
    use crate::model::{Config, char_rnn, initialize};
    use candle_core::DType;
    use candle_nn::VarBuilder;
    use proptest::prelude::*;

    /// A network whose weights are large enough that its names differ.
    fn lively(vocabulary: usize, hidden: usize) -> CharRnn {
        scaled(vocabulary, hidden, 60., DType::F64)
    }

    /// A network whose weights are so many times as large as they would be.
    fn scaled(vocabulary: usize, hidden: usize, scale: f64, dtype: DType) -> CharRnn {
        let config = Config { vocabulary, hidden };
        let mut normals = Randomness::Seed(5).normals();
        let vars = initialize(config, || normals() * scale, dtype, &Device::Cpu).unwrap();
        char_rnn(config, VarBuilder::from_varmap(&vars, dtype, &Device::Cpu)).unwrap()
    }

    fn names(model: &CharRnn, max_length: usize, count: u64) -> Vec<Sampled> {
        Names::new(model, Randomness::Seed(1), max_length, 0..count)
            .unwrap()
            .collect::<Result<_>>()
            .unwrap()
    }

    fn names_by(model: &CharRnn, options: &Options, count: u64) -> Vec<Sampled> {
        options.check().unwrap();
        Names::with_options(model, Randomness::Seed(1), options.clone(), 0..count)
            .unwrap()
            .collect::<Result<_>>()
            .unwrap()
    }

    /// The notebook's `sample`, one name at a time.
    fn one_by_one(model: &CharRnn, max_length: usize, name: u64) -> Sampled {
        let mut uniforms = Randomness::Seed(1).uniforms(name);
        let mut state = model.zero_state(1).unwrap();
        let mut indices = Vec::new();
        let mut input = NONE;
        loop {
            state = model.step(&Tensor::new(&[input], &Device::Cpu).unwrap(), &state).unwrap();
            let mut p = model.logits(state.a()).unwrap().get(0).unwrap().to_vec1::<f64>().unwrap();
            let largest = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            p.iter_mut().for_each(|z| *z = (*z - largest).exp());
            input = choose(&p, total(&p), uniforms.draw()) as u32;
            if input == END {
                return Sampled { indices, ended: true };
            }
            indices.push(input);
            if indices.len() == max_length {
                return Sampled { indices, ended: false };
            }
        }
    }

    /// The probabilities of the character that comes after `read`.
    fn after(model: &CharRnn, read: &[u32]) -> Vec<f64> {
        let mut state = model.zero_state(1).unwrap();
        for &input in std::iter::once(&NONE).chain(read) {
            state = model.step(&Tensor::new(&[input], &Device::Cpu).unwrap(), &state).unwrap();
        }
        let z = model.logits(state.a()).unwrap();
        candle_nn::ops::softmax(&z, 1).unwrap().get(0).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_first_character_after_a_prefix_is_as_frequent_as_it_is_probable() {
        let model = lively(6, 9);
        let prefix = vec![3, 1, 4];
        let options = Options { prefix: prefix.clone(), ..Options::default() };
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
    fn weights_follow_temperature_then_top_k_then_top_p() {
        let z = [0.1f64, 0.2, 0.4, 0.3].map(f64::ln);
        let weighed = |options: Options| {
            options.check().unwrap();
            let mut weights = z;
            options.weigh(&mut weights, 0);
            let sum: f64 = weights.iter().sum();
            weights.map(|weight| (weight / sum * 1000.).round() / 1000.)
        };
        let plain = Options::default();
        assert_eq!(weighed(plain.clone()), [0.1, 0.2, 0.4, 0.3]);
        // Squares: 1, 4, 16 and 9 of 30.
        let cold = Options { temperature: 0.5, ..plain.clone() };
        assert_eq!(weighed(cold.clone()), [0.033, 0.133, 0.533, 0.3]);
        assert_eq!(weighed(Options { top_k: Some(2), ..plain.clone() }), [0., 0., 0.571, 0.429]);
        assert_eq!(weighed(Options { top_k: Some(9), ..plain.clone() }), [0.1, 0.2, 0.4, 0.3]);
        assert_eq!(weighed(Options { top_p: Some(0.65), ..plain.clone() }), [0., 0., 0.571, 0.429]);
        assert_eq!(
            weighed(Options { top_p: Some(0.75), ..plain.clone() }),
            [0., 0.222, 0.444, 0.333]
        );
        assert_eq!(weighed(Options { top_p: Some(1.), ..plain.clone() }), [0.1, 0.2, 0.4, 0.3]);
        assert_eq!(weighed(Options { top_p: Some(1e-9), ..plain.clone() }), [0., 0., 1., 0.]);
        // Of the two that are left the likelier has 16/25: more than 0.6, which 0.533 is not.
        assert_eq!(weighed(Options { top_k: Some(2), top_p: Some(0.6), ..cold }), [0., 0., 1., 0.]);
        assert_eq!(weighed(Options { min_length: 1, ..plain.clone() }), [0., 0.222, 0.444, 0.333]);
        for temperature in [1e-320, 1e-9] {
            assert_eq!(weighed(Options { temperature, ..plain.clone() }), [0., 0., 1., 0.]);
        }
        let hot = Options { temperature: f64::INFINITY, min_length: 1, ..plain };
        assert_eq!(weighed(hot), [0., 0.333, 0.333, 0.333]);
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let plain = Options::default;
        let wrong = [
            ("--temperature", Options { temperature: 0., ..plain() }),
            ("--temperature", Options { temperature: f64::NAN, ..plain() }),
            ("--temperature", Options { temperature: -1., ..plain() }),
            ("--top-k", Options { top_k: Some(0), ..plain() }),
            ("--top-p", Options { top_p: Some(0.), ..plain() }),
            ("--top-p", Options { top_p: Some(1.1), ..plain() }),
            ("--top-p", Options { top_p: Some(f64::NAN), ..plain() }),
            ("--max-length", Options { max_length: 0, ..plain() }),
            ("--max-length", Options { max_length: LONGEST_NAME + 1, ..plain() }),
            ("--min-length", Options { min_length: 51, ..plain() }),
            ("--prefix", Options { prefix: vec![1; 4], max_length: 4, ..plain() }),
        ];
        for (name, options) in wrong {
            let message = options.check().unwrap_err().to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }

    #[test]
    fn a_prefix_outside_the_vocabulary_is_an_error() {
        let model = lively(4, 3);
        for prefix in [vec![9, 1], vec![1, 9]] {
            let options = Options { prefix, ..Options::default() };
            let names = Names::with_options(&model, Randomness::Seed(1), options, 0..3);
            assert!(names.and_then(|names| names.collect::<Result<Vec<_>>>()).is_err());
        }
    }

    #[test]
    fn names_made_side_by_side_are_those_made_one_by_one() {
        let model = lively(12, 9);
        let together = names(&model, 40, 700);
        assert_eq!(together.len(), 700);
        for (name, sampled) in (0..).zip(&together) {
            assert_eq!(sampled, &one_by_one(&model, 40, name), "name {name}");
        }
        let ended = together.iter().filter(|sampled| sampled.ended).count();
        assert!(0 < ended && ended < 700, "the test should see both ways to end, saw {ended}");
    }

    #[test]
    fn asking_for_fewer_names_gives_the_first_ones() {
        let model = lively(27, 16);
        assert_eq!(names(&model, 50, 20)[..5], names(&model, 50, 5));
        assert!(names(&model, 50, 0).is_empty());
        let later = Names::new(&model, Randomness::Seed(1), 50, 12..20).unwrap();
        let later: Vec<Sampled> = later.collect::<Result<_>>().unwrap();
        assert_eq!(names(&model, 50, 20)[12..], later);
    }

    proptest! {
        #[test]
        fn names_keep_to_their_options(
            prefix in prop::collection::vec(1u32..5, 0..4),
            min_length in 0usize..9,
            longer in 0usize..5,
            top_k in prop::option::of(1usize..7),
            top_p in prop::option::of(0.01f64..=1.),
            temperature in 0.01f64..5.,
        ) {
            let model = lively(5, 6);
            let max_length = (min_length + longer).max(prefix.len() + 1);
            let options = Options { temperature, top_k, top_p, prefix, min_length, max_length };
            let sampled = names_by(&model, &options, 30);
            prop_assert_eq!(sampled.len(), 30);
            for Sampled { indices, ended } in &sampled {
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

        /// Weights may be so large that no score is a number.
        #[test]
        fn sampling_ends_every_name_whatever_the_network_and_the_options(
            (vocabulary, hidden) in (2usize..7, 1usize..6),
            scale in prop_oneof![Just(0.), (-330f64..310.).prop_map(|exponent| 10f64.powf(exponent))],
            dtype in prop::sample::select(&[DType::F32, DType::F64][..]),
            randomness in prop_oneof![any::<u64>().prop_map(Randomness::Seed), Just(Randomness::Notebook)],
            temperature in prop_oneof![
                (-330f64..310.).prop_map(|exponent| 10f64.powf(exponent)),
                Just(f64::INFINITY),
            ],
            top_k in prop::option::of(prop_oneof![1usize..9, Just(usize::MAX)]),
            top_p in prop::option::of(prop_oneof![1e-300f64..=1., Just(f64::MIN_POSITIVE), Just(1.)]),
            lengths in prop::array::uniform3(prop_oneof![0usize..9, 0..=LONGEST_NAME]),
            first in any::<u64>(),
        ) {
            let model = scaled(vocabulary, hidden, scale, dtype);
            let [min_length, longer, prefix] = lengths;
            let max_length = (min_length + longer).min(LONGEST_NAME);
            let prefix = (0..prefix as u32).map(|i| 1 + i % (vocabulary as u32 - 1)).collect();
            let options = Options { temperature, top_k, top_p, prefix, min_length, max_length };
            prop_assume!(options.check().is_ok());
            let range = first..first.saturating_add(3);
            let names = Names::with_options(&model, randomness, options.clone(), range.clone());
            let names: Vec<Sampled> = names.unwrap().collect::<Result<_>>().unwrap();
            prop_assert_eq!(names.len() as u64, range.end - range.start);
            for Sampled { indices, ended } in names {
                prop_assert!(indices.starts_with(&options.prefix));
                prop_assert!((min_length..=max_length).contains(&indices.len()));
                prop_assert!(ended || indices.len() == max_length);
                prop_assert!(!indices.contains(&END));
            }
        }

        #[test]
        fn sampling_stops_at_the_longest_length(hidden in 1usize..6, vocabulary in 2usize..5, longest in 1usize..9) {
            let model = lively(vocabulary, hidden);
            for sampled in names(&model, longest, 9) {
                prop_assert!(sampled.indices.len() <= longest);
                prop_assert!(sampled.ended || sampled.indices.len() == longest);
            }
        }
    }
}
