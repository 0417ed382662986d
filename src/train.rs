//! The training loop, told in the notebook's order: take an example, go forward, go backward,
//! clip, update, smooth the loss, and now and then look at what the network has learned.

use crate::batch::Batch;
use crate::corpus::Corpus;
use crate::engine::{Backprop, engine};
use crate::error::{Error, Result};
use crate::model::{CharRnn, Config, initialize};
use crate::optim::ClippedSgdConfig;
use crate::random::Randomness;
use crate::sample::{MAX_LENGTH, Names, Sampled};
use candle_core::{DType, Device};
use std::ops::ControlFlow;

/// The most hidden units that are accepted: `waa` then takes 512 MiB in double precision.
const MOST_HIDDEN: usize = 8192;
/// The largest batch that is accepted.
const LARGEST_BATCH: usize = 65_536;
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
    /// The step along the clipped gradients.
    pub learning_rate: f64,
    /// Each entry of a gradient is clamped to [-clip, clip].
    pub clip: f64,
    /// Names are sampled at every iteration that this divides.
    pub sample_every: u64,
    /// How many names are sampled then.
    pub samples: u64,
    /// Where the gradient comes from.
    pub backprop: Backprop,
    /// The number type, `F32` or `F64`.
    pub dtype: DType,
    /// Where the arithmetic is done.
    pub device: Device,
    /// Which random numbers are used.
    pub randomness: Randomness,
}

impl Default for Settings {
    fn default() -> Self {
        let ClippedSgdConfig { learning_rate, clip } = ClippedSgdConfig::default();
        Self {
            iterations: 35_000,
            batch_size: 1,
            hidden: 50,
            learning_rate,
            clip,
            sample_every: 2000,
            samples: 7,
            backprop: Backprop::default(),
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
            matches!(self.dtype, DType::F32 | DType::F64),
            "--dtype",
            self.dtype.as_str().to_string(),
            "it must be f32 or f64".to_string(),
        )
    }

    fn optimizer(&self) -> ClippedSgdConfig {
        ClippedSgdConfig { learning_rate: self.learning_rate, clip: self.clip }
    }
}

/// How training stands after an iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The iteration, counted from 0.
    pub iteration: u64,
    /// The loss of the iteration's examples in nats a name: summed over characters, averaged over
    /// the examples.
    pub loss: f64,
    /// The smoothed loss: 0.999 of the one before and 0.001 of this iteration's.
    pub smoothed: f64,
}

/// What training tells as it goes. Nothing in the library prints; the caller decides.
pub trait Observer {
    /// Before an iteration: the `index`-th example of the shuffled list, its name and characters.
    fn example(&mut self, _iteration: u64, _index: usize, _name: &str, _characters: &[u32]) {}
    /// After an iteration, the last thing that is told of it. To break ends training there.
    fn iteration(&mut self, _progress: &Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
    /// After an iteration at which names were sampled.
    fn samples(&mut self, _progress: &Progress, _names: &[Sampled]) {}
}

/// An observer that looks away.
impl Observer for () {}

/// What training leaves.
#[derive(Debug)]
pub struct Trained {
    /// The network with its learned parameters.
    pub model: CharRnn,
    /// The last iteration's progress.
    pub progress: Progress,
}

/// Trains a network on `corpus`.
///
/// # Errors
/// Where a setting is out of range ([`Settings::check`]), the loss or a parameter stops being
/// finite ([`Error::Diverged`]), or the device fails.
///
/// ```
/// use char_rnn::{corpus::{Case, Corpus}, train::{Settings, train}};
/// let corpus = Corpus::parse(b"anna\nhannah\nhanna\n", "example", Case::Lower)?;
/// let settings = Settings { iterations: 500, hidden: 8, ..Settings::default() };
/// let trained = train(&corpus, &settings, &mut ())?;
/// assert!(trained.progress.loss < 8.);
/// # Ok::<(), char_rnn::Error>(())
/// ```
pub fn train(corpus: &Corpus, settings: &Settings, observer: &mut dyn Observer) -> Result<Trained> {
    settings.check()?;
    let config = Config { vocabulary: corpus.vocabulary().size(), hidden: settings.hidden };
    let vars = initialize(config, settings.randomness.normals(), settings.dtype, &settings.device)?;
    let mut engine = engine(settings.backprop, config, &vars, settings.optimizer())?;

    let mut examples: Vec<(&String, Vec<u32>)> =
        corpus.names().iter().zip(corpus.encoded()).collect();
    settings.randomness.shuffle(&mut examples);

    let mut batch = Batch::default();
    let mut smoothed = initial_loss(config.vocabulary);
    let mut progress = None;
    for iteration in 0..settings.iterations {
        // Take the next examples of the shuffled list, round and round.
        let first = (iteration as u128 * settings.batch_size as u128) % examples.len() as u128;
        let next = (0..settings.batch_size).map(|i| (first as usize + i) % examples.len());
        for index in next.clone() {
            let (name, characters) = &examples[index];
            observer.example(iteration, index, name, characters);
        }
        batch.fill(next.map(|index| examples[index].1.as_slice()));

        // Forward, backward, clip, update; the hidden state is carried on to the next example.
        let loss = engine.step(&batch)?;
        check_finite(iteration, "loss", loss)?;

        smoothed = smoothed * 0.999 + loss * 0.001;
        let now = Progress { iteration, loss, smoothed };
        if iteration % settings.sample_every == 0 {
            let names =
                Names::new(engine.model()?, settings.randomness, MAX_LENGTH, 0..settings.samples)?;
            observer.samples(&now, &names.collect::<candle_core::Result<Vec<_>>>()?);
        }
        progress = Some(now);
        if observer.iteration(&now).is_break() {
            break;
        }
    }
    let progress = progress.expect("there is at least one iteration");
    let model = engine.model()?.clone();
    for (name, tensor) in model.parameters() {
        let sum = tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
        check_finite(progress.iteration, &format!("parameter {name}"), sum)?;
    }
    Ok(Trained { model, progress })
}

/// Where the smoothed loss begins: the loss of seven characters, each as likely as any other. The
/// notebook's `get_initial_loss(vocab_size, dino_names)`, whose second argument is 7 there.
fn initial_loss(vocabulary: usize) -> f64 {
    -(1. / vocabulary as f64).ln() * 7.
}

fn check_finite(iteration: u64, what: &str, value: f64) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::Diverged { iteration, what: what.to_string(), value })
}
