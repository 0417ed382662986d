//! Random numbers: from a seed, or the notebook's.
//!
//! A run draws the initial parameters, the order of the list, and the sampled names, each from a
//! stream of its own: the number of samples does not change training, and the n-th name depends on
//! the model, the seed and n alone.
//!
//! No generator is saved with a run. Parameters and order are drawn once, at the start; each
//! sampled name has its own stream. A resumed run draws the same numbers from its [`RngSource`]
//! and the number of the iteration.

mod numpy;

pub use numpy::NumpyRandom;

use crate::text::serialize_as_text;
use rand::{Rng, RngCore, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The source of a run's random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum RngSource {
    /// ChaCha8 from this seed.
    Seed(u64),
    /// NumPy's legacy generator with the notebook's seeds: 1 for the parameters, 0 for the order,
    /// and a new seed, `counter + seed`, for each sampled character.
    Notebook,
}

/// The seed, or `notebook`.
impl fmt::Display for RngSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => seed.fmt(f),
            Self::Notebook => f.write_str(NOTEBOOK),
        }
    }
}

impl FromStr for RngSource {
    type Err = String;

    fn from_str(seed: &str) -> Result<Self, String> {
        if seed == NOTEBOOK {
            return Ok(Self::Notebook);
        }
        seed.parse().map(Self::Seed).map_err(|_| format!("its seed is {seed:?}"))
    }
}

serialize_as_text!(RngSource);

const NOTEBOOK: &str = "notebook";

/// The streams of a seed: from `NAMES` on, one for each sampled name, and from the last one down,
/// one for the dropout of each iteration.
const PARAMETERS: u64 = 0;
const ORDER: u64 = 1;
const NAMES: u64 = 2;

fn chacha(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

impl RngSource {
    /// Standard normal numbers for the initial parameters.
    pub fn normals(self) -> Box<dyn FnMut() -> f64> {
        match self {
            Self::Seed(seed) => {
                let mut generator = chacha(seed, PARAMETERS);
                Box::new(move || generator.sample(StandardNormal))
            }
            Self::Notebook => {
                let mut generator = NumpyRandom::new(1);
                Box::new(move || generator.randn())
            }
        }
    }

    /// Shuffles the examples into the order of training.
    pub fn shuffle<T>(self, examples: &mut [T]) {
        match self {
            Self::Seed(seed) => examples.shuffle(&mut chacha(seed, ORDER)),
            Self::Notebook => NumpyRandom::new(0).shuffle(examples),
        }
    }

    /// A dropout mask of this many entries: 0 with probability `p`, else `1 / (1 - p)`.
    pub fn dropout(self, iteration: u64, p: f64, entries: usize) -> Vec<f64> {
        // The notebook has no dropout, and its generator no streams.
        let seed = if let Self::Seed(seed) = self { seed } else { 0 };
        let mut generator = chacha(seed, u64::MAX - iteration);
        let kept = 1. / (1. - p);
        // As 32 bits, two of which the generator gives at a time.
        let threshold = (p * 2f64.powi(32)) as u32;
        (0..entries).map(|_| if generator.next_u32() < threshold { 0. } else { kept }).collect()
    }

    /// Uniform numbers that choose the characters of the `name`-th sampled name.
    pub fn uniforms(self, name: u64) -> Uniforms {
        Uniforms(match self {
            Self::Seed(seed) => Stream::ChaCha(Box::new(chacha(seed, NAMES.wrapping_add(name)))),
            Self::Notebook => Stream::Notebook { seed: name as u32 },
        })
    }
}

/// An endless stream of numbers uniform over [0, 1).
#[derive(Debug, Clone)]
pub struct Uniforms(Stream);

#[derive(Debug, Clone)]
enum Stream {
    ChaCha(Box<ChaCha8Rng>),
    Notebook { seed: u32 },
}

impl Uniforms {
    /// The next number.
    pub fn draw(&mut self) -> f64 {
        match &mut self.0 {
            Stream::ChaCha(generator) => generator.random(),
            Stream::Notebook { seed } => {
                let uniform = NumpyRandom::new(*seed).random_sample();
                // The notebook seeds with `counter + seed` and then increments both.
                *seed = seed.wrapping_add(2);
                uniform
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_and_name_has_its_own_stream() {
        let first = |seed, name| RngSource::Seed(seed).uniforms(name).draw();
        let draws = [first(1, 0), first(1, 1), first(2, 0), first(2, 1)];
        for (i, a) in draws.iter().enumerate() {
            assert!(draws[..i].iter().all(|b| a != b));
        }
        assert_eq!(first(1, 0), first(1, 0));
    }

    #[test]
    fn display_and_from_str_are_inverse() {
        for rng in [RngSource::Seed(0), RngSource::Seed(u64::MAX), RngSource::Notebook] {
            assert_eq!(rng.to_string().parse(), Ok(rng));
        }
        assert!("notebooks".parse::<RngSource>().is_err() && "-1".parse::<RngSource>().is_err());
    }

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut uniforms = RngSource::Seed(1).uniforms(0);
        assert_eq!(
            [uniforms.draw(), uniforms.draw()],
            [0.8763941225053686, 0.6827408615312758],
            "a saved model and seed must keep their names"
        );
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        RngSource::Seed(1).shuffle(&mut order);
        assert_eq!(order, [6, 5, 2, 3, 0, 4, 7, 1]);
        let mut normals = RngSource::Seed(1).normals();
        assert_eq!([normals(), normals()], [-0.23484705855592097, -1.4108177006109994]);
    }

    #[test]
    fn a_dropout_mask_follows_from_seed_and_iteration_and_keeps_the_mean() {
        let mask = |seed, iteration| RngSource::Seed(seed).dropout(iteration, 0.3, 20_000);
        assert_eq!(mask(1, 5), mask(1, 5));
        assert!(mask(1, 5) != mask(1, 6) && mask(1, 5) != mask(2, 5));
        let mask = mask(1, 5);
        assert!(mask.iter().all(|&m| m == 0. || m == 1. / 0.7));
        // Four standard deviations of the mean.
        let mean = mask.iter().sum::<f64>() / 20_000.;
        assert!((mean - 1.).abs() < 4. * (0.3 / 0.7 / 20_000f64).sqrt(), "{mean}");
    }

    #[test]
    fn the_notebook_seeds_anew_for_each_character() {
        let mut uniforms = RngSource::Notebook.uniforms(3);
        for seed in [3, 5, 7] {
            assert_eq!(uniforms.draw(), NumpyRandom::new(seed).random_sample());
        }
    }
}
