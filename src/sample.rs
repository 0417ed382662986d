//! Names out of a model: step, choose, stop.
//!
//! A name starts from the zero vector and the zero state. At each step the module gives a
//! distribution over characters, a uniform number chooses one, and that one is the next input,
//! until the end of the name or its longest length. Many names are made side by side as the rows
//! of one batch: a row whose name is done takes up the next one.

use crate::batch::NONE;
use crate::kernels::Element;
use crate::kernels::softmax::{choose, softmax_weights, total};
use crate::model::{CharRnn, CharRnnState};
use crate::ops::{values, with_float};
use crate::random::{Randomness, Uniforms};
use crate::vocab::END;
use candle_core::{Device, Result, Tensor};
use candle_nn::RNN;
use std::collections::BTreeMap;
use std::ops::Range;

/// The notebook's limit on the length of a sampled name, in characters.
pub const MAX_LENGTH: usize = 50;

/// How many names are made side by side: enough that the work of a step outweighs its overhead,
/// few enough that the state of all stays in the cache.
const BATCH: u64 = 256;

/// A name that a model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// The characters, without the final `'\n'`.
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
    max_length: usize,
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
        let mut names = Self {
            model,
            randomness,
            max_length,
            next: range.start,
            unstarted: range,
            rows: Vec::new(),
            state: model.zero_state(0)?,
            waiting: BTreeMap::new(),
        };
        names.rows = (0..BATCH).map_while(|_| names.next_row()).collect();
        names.state = model.zero_state(names.rows.len())?;
        Ok(names)
    }

    /// The next name that has not been started, if one is still wanted.
    fn next_row(&mut self) -> Option<Row> {
        let name = self.unstarted.next()?;
        Some(Row { name, uniforms: self.randomness.uniforms(name), indices: Vec::new() })
    }

    /// Gives every row its next character.
    fn step(&mut self) -> Result<()> {
        let last = |row: &Row| row.indices.last().copied().unwrap_or(NONE);
        let input: Vec<u32> = self.rows.iter().map(last).collect();
        let input = Tensor::new(input.as_slice(), self.model.device())?;
        self.state = self.model.step(&input, &self.state)?;
        let logits = self.model.logits(self.state.a())?.to_device(&Device::Cpu)?;
        let done = with_float!(logits.dtype(), "sampling", F => {
            values!(logits: F = logits);
            let mut weights = vec![F::ZERO; logits.len()];
            softmax_weights(logits, self.model.config().vocabulary, &mut weights);
            self.choose(&weights)
        });
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
            if ended || row.indices.len() >= self.max_length {
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
        // Where each remaining row's state comes from; a new name's is the zero vector.
        let mut sources = Vec::with_capacity(self.rows.len());
        for (source, row) in (0u32..).zip(std::mem::take(&mut self.rows)) {
            if !self.waiting.contains_key(&row.name) {
                kept.push(row);
                sources.push(source);
            } else if let Some(row) = self.next_row() {
                kept.push(row);
                sources.push(NONE);
            }
        }
        self.rows = kept;
        let sources = Tensor::new(sources.as_slice(), self.model.device())?;
        self.state = CharRnnState::new(self.state.a().index_select(&sources, 0)?);
        Ok(())
    }
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
        let config = Config { vocabulary, hidden };
        let mut normals = Randomness::Seed(5).normals();
        let vars = initialize(config, || normals() * 60., DType::F64, &Device::Cpu).unwrap();
        char_rnn(config, VarBuilder::from_varmap(&vars, DType::F64, &Device::Cpu)).unwrap()
    }

    fn names(model: &CharRnn, max_length: usize, count: u64) -> Vec<Sampled> {
        Names::new(model, Randomness::Seed(1), max_length, 0..count)
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
        fn sampling_stops_at_the_longest_length(hidden in 1usize..6, vocabulary in 2usize..5, longest in 1usize..9) {
            let model = lively(vocabulary, hidden);
            for sampled in names(&model, longest, 9) {
                prop_assert!(sampled.indices.len() <= longest);
                prop_assert!(sampled.ended || sampled.indices.len() == longest);
            }
        }
    }
}
