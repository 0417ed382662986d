//! What decides how training goes.

use crate::corpus::Corpus;
use crate::engine::Backprop;
use crate::error::{Error, Result};
use crate::optim::{Algorithm, DECAYS, Decay, DescentConfig};
use crate::random::Randomness;
use candle_core::{DType, Device};

/// The most hidden units that are accepted: `waa` then takes 512 MiB in double precision.
const MOST_HIDDEN: usize = 8192;
/// The largest batch that is accepted.
const LARGEST_BATCH: usize = 65_536;
/// The most threads that are accepted.
const MOST_THREADS: usize = 1024;
/// The most names that are sampled at a time while training.
const MOST_SAMPLES: u64 = 1_000_000;

/// Everything that decides how training goes. The default is the notebook's, in single precision
/// and with a seed's random numbers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many times [`batch_size`](Self::batch_size) examples are learned.
    pub iterations: u64,
    /// How many examples are learned side by side. The loss is their mean, so that the learning
    /// rate keeps its meaning; each has a hidden state of its own that is carried on.
    pub batch_size: usize,
    /// `n_a`, the number of hidden units.
    pub hidden: usize,
    /// How the weights follow from the clipped gradients.
    pub optimizer: Algorithm,
    /// The step along the clipped gradients.
    pub learning_rate: f64,
    /// How it falls on the way.
    pub decay: Decay,
    /// What AdamW takes away from each weight at a step, over the learning rate.
    pub weight_decay: f64,
    /// Each entry of a gradient is clamped to [-clip, clip].
    pub clip: f64,
    /// Whether each name begins from the zero state, as a sampled one does, and not with the state
    /// that the name before it left.
    pub zero_state: bool,
    /// The share of the distinct names that is held out: not learned, but judged by. 0 holds out
    /// none.
    pub validation: f64,
    /// Training ends after so many looks at the held-out names that found the network no better.
    pub patience: Option<u64>,
    /// Names are sampled, and the held-out names looked at, at every iteration that this divides.
    pub sample_every: u64,
    /// How many names are sampled then.
    pub samples: u64,
    /// Where the gradient comes from.
    pub backprop: Backprop,
    /// How many threads learn the names of a batch side by side; more than there are names do
    /// nothing. It changes the order of additions, and so the last digits.
    pub threads: usize,
    /// The number type, `F32` or `F64`.
    pub dtype: DType,
    /// Where the arithmetic is done.
    pub device: Device,
    /// Which random numbers are used.
    pub randomness: Randomness,
}

impl Default for Settings {
    fn default() -> Self {
        let DescentConfig { algorithm, learning_rate, clip, weight_decay } =
            DescentConfig::default();
        Self {
            iterations: 35_000,
            batch_size: 1,
            hidden: 50,
            optimizer: algorithm,
            learning_rate,
            decay: Decay::None,
            weight_decay,
            clip,
            zero_state: false,
            validation: 0.,
            patience: None,
            sample_every: 2000,
            samples: 7,
            backprop: Backprop::default(),
            threads: 1,
            dtype: DType::F32,
            device: Device::Cpu,
            randomness: Randomness::Seed(1),
        }
    }
}

impl Settings {
    /// The notebook's own run: double precision and NumPy's random numbers.
    pub fn notebook() -> Self {
        Self { dtype: DType::F64, randomness: Randomness::Notebook, ..Self::default() }
    }

    /// Refuses settings that cannot train.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first that is out of its range.
    pub fn check(&self) -> Result<()> {
        let require = |holds: bool, name, value: String, rule: String| {
            if holds { Ok(()) } else { Err(Error::Setting { name, value, rule }) }
        };
        require(
            self.iterations >= 1,
            "--iterations",
            self.iterations.to_string(),
            "it must be at least 1".to_string(),
        )?;
        require(
            (1..=LARGEST_BATCH).contains(&self.batch_size),
            "--batch-size",
            self.batch_size.to_string(),
            format!("it must be from 1 to {LARGEST_BATCH}"),
        )?;
        require(
            (1..=MOST_HIDDEN).contains(&self.hidden),
            "--hidden",
            self.hidden.to_string(),
            format!("it must be from 1 to {MOST_HIDDEN}"),
        )?;
        require(
            self.learning_rate.is_finite() && self.learning_rate > 0.,
            "--learning-rate",
            self.learning_rate.to_string(),
            "it must be a finite number above 0".to_string(),
        )?;
        require(
            self.clip > 0.,
            "--clip",
            self.clip.to_string(),
            "it must be above 0 (inf clips nothing)".to_string(),
        )?;
        require(self.decay.is_good(), "--decay", self.decay.to_string(), DECAYS.to_string())?;
        require(
            self.weight_decay.is_finite() && self.weight_decay >= 0.,
            "--weight-decay",
            self.weight_decay.to_string(),
            "it must be a finite number, 0 or above".to_string(),
        )?;
        require(
            (0. ..1.).contains(&self.validation),
            "--validation",
            self.validation.to_string(),
            "it is the share of the names to hold out, at least 0 and below 1".to_string(),
        )?;
        if let Some(patience) = self.patience {
            require(
                patience >= 1,
                "--patience",
                patience.to_string(),
                "it must be at least 1".to_string(),
            )?;
            require(
                self.validation > 0.,
                "--patience",
                patience.to_string(),
                "there is nothing to wait for without --validation".to_string(),
            )?;
        }
        require(
            self.sample_every >= 1,
            "--sample-every",
            self.sample_every.to_string(),
            "it must be at least 1".to_string(),
        )?;
        require(
            self.samples <= MOST_SAMPLES,
            "--samples",
            self.samples.to_string(),
            format!("it must be at most {MOST_SAMPLES}"),
        )?;
        require(
            (1..=MOST_THREADS).contains(&self.threads),
            "--threads",
            self.threads.to_string(),
            format!("it must be from 1 to {MOST_THREADS}"),
        )?;
        require(
            matches!(self.dtype, DType::F32 | DType::F64),
            "--dtype",
            self.dtype.as_str().to_string(),
            "it must be f32 or f64".to_string(),
        )
    }

    pub(super) fn descent(&self) -> DescentConfig {
        let Self { optimizer: algorithm, learning_rate, clip, weight_decay, .. } = *self;
        DescentConfig { algorithm, learning_rate, clip, weight_decay }
    }

    /// How many iterations it takes to learn the names of `corpus` that are not held out so many
    /// times.
    ///
    /// # Errors
    /// Where the settings hold out names and none can be ([`Corpus::held_out`]), or where no
    /// iterations are left.
    pub fn iterations_of(&self, epochs: u64, corpus: &Corpus) -> Result<u64> {
        let learned = match self.validation > 0. {
            true => {
                let held_out = corpus.held_out(self.validation, self.randomness)?;
                held_out.iter().filter(|is_held_out| !**is_held_out).count()
            }
            false => corpus.names().len(),
        };
        let iterations = epochs.checked_mul(learned as u64);
        match iterations.map(|examples| examples.div_ceil(self.batch_size as u64)) {
            Some(iterations) if iterations > 0 => Ok(iterations),
            _ => Err(Error::Setting {
                name: "--epochs",
                value: epochs.to_string(),
                rule: format!("it must be from 1 to {}", u64::MAX / learned as u64),
            }),
        }
    }

    /// Whether a run is done after so many iterations, the last `since` looks at the held-out
    /// names no better than the one before.
    pub fn is_done(&self, iterations: u64, since: u64) -> bool {
        iterations >= self.iterations || self.patience.is_some_and(|patience| since >= patience)
    }
}
