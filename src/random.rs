//! Which random numbers a run uses: those of a seed, or the notebook's.
//!
//! A run draws for three things: the first parameters, the order of the list, and the names it
//! samples. Each has a stream of its own, so that asking for more names does not change the
//! training, and the n-th name of a model and a seed is the same however many are asked for.
//!
//! No stream outlives its use: the parameters and the order are drawn once, before the first
//! iteration, and each name begins its own stream (the notebook's too, which seeds afresh at each
//! character). So there is no generator to save with a run: what a resumed one draws follows from
//! its [`Randomness`] and the number of its iteration.

use crate::numpy_random::NumpyRandom;
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use std::fmt;
use std::str::FromStr;

/// The source of a run's random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Randomness {
    /// ChaCha8 from this seed.
    Seed(u64),
    /// NumPy's legacy generator with the notebook's seeds: 1 for the parameters, 0 for the order,
    /// and for sampling a fresh seed at each character, `counter + seed`.
    Notebook,
}

/// As records have it: the seed, or `notebook`.
impl fmt::Display for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => seed.fmt(f),
            Self::Notebook => f.write_str(NOTEBOOK),
        }
    }
}

impl FromStr for Randomness {
    type Err = String;

    fn from_str(seed: &str) -> Result<Self, String> {
        if seed == NOTEBOOK {
            return Ok(Self::Notebook);
        }
        seed.parse().map(Self::Seed).map_err(|_| format!("its seed is {seed:?}"))
    }
}

const NOTEBOOK: &str = "notebook";

/// The streams of a seed; from `NAMES` on, one for each sampled name.
const PARAMETERS: u64 = 0;
const ORDER: u64 = 1;
const NAMES: u64 = 2;

fn chacha(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

impl Randomness {
    /// Standard normal numbers for the first parameters.
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

    /// Brings the examples into the order in which they are learned.
    pub fn shuffle<T>(self, examples: &mut [T]) {
        match self {
            Self::Seed(seed) => examples.shuffle(&mut chacha(seed, ORDER)),
            Self::Notebook => NumpyRandom::new(0).shuffle(examples),
        }
    }

    /// The uniform numbers from which the characters of the `name`-th sampled name are chosen.
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
    fn seeds_streams_and_names_are_apart() {
        let first = |seed, name| Randomness::Seed(seed).uniforms(name).draw();
        let draws = [first(1, 0), first(1, 1), first(2, 0), first(2, 1)];
        for (i, a) in draws.iter().enumerate() {
            assert!(draws[..i].iter().all(|b| a != b));
        }
        assert_eq!(first(1, 0), first(1, 0));
    }

    #[test]
    fn what_is_written_of_a_run_is_read_back() {
        for randomness in [Randomness::Seed(0), Randomness::Seed(u64::MAX), Randomness::Notebook] {
            assert_eq!(randomness.to_string().parse(), Ok(randomness));
        }
        assert!("notebooks".parse::<Randomness>().is_err() && "-1".parse::<Randomness>().is_err());
    }

    #[test]
    fn a_seed_gives_the_same_numbers_in_every_version() {
        let mut uniforms = Randomness::Seed(1).uniforms(0);
        assert_eq!(
            [uniforms.draw(), uniforms.draw()],
            [0.8763941225053686, 0.6827408615312758],
            "a saved model and seed must keep their names"
        );
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        Randomness::Seed(1).shuffle(&mut order);
        assert_eq!(order, [6, 5, 2, 3, 0, 4, 7, 1]);
        let mut normals = Randomness::Seed(1).normals();
        assert_eq!([normals(), normals()], [-0.23484705855592097, -1.4108177006109994]);
    }

    #[test]
    fn the_notebook_reseeds_for_each_character() {
        let mut uniforms = Randomness::Notebook.uniforms(3);
        for seed in [3, 5, 7] {
            assert_eq!(uniforms.draw(), NumpyRandom::new(seed).random_sample());
        }
    }
}
