//! Training, in the notebook's order: take a minibatch, optimize, smooth the loss, and now and then
//! evaluate the network and sample names.

pub(crate) mod bptt;
pub(crate) mod config;
pub(crate) mod factors;
pub(crate) mod gradients;
mod hand;
mod history;
mod observer;
pub(crate) mod optimize;
mod optimizer;
pub mod plan;
mod smoothing;
mod step;
mod tensors;
mod validation;

pub use config::{Difference, TrainConfig};
pub use gradients::GradientMethod;
pub use history::{History, Series};
pub use observer::{Observer, Progress, Stats};
pub use optimize::OptimizeState;
pub use optimizer::{Decay, GradientStats, OptimizerKind, clip};
pub use validation::{Baseline, Best, Validation};

use crate::data::{Batch, Corpus, Vocabulary};
use crate::device::has_memory;
use crate::error::{Error, Result};
use crate::model::{CharRnn, Config, MAX_ENTRIES, initialize};
use crate::ngram::NGram;
use crate::random::RngSource;
use crate::sample::{MAX_LENGTH, Sampler, max_length_for};
use candle_core::{DType, Device, Var};
use candle_nn::VarMap;
use factors::FACTORS;
use optimize::{Optimize, keep_state};
use smoothing::Smoothing;
use std::cmp::Reverse;
use validation::Validator;

/// The result of a run, and everything that training needs to continue.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The network after the last iteration. It shares its parameters with its [`Trainer`], which
    /// changes them when it runs again.
    pub model: CharRnn,
    /// The progress at the last iteration.
    pub progress: Progress,
    /// The hidden state, and the optimizer's.
    pub state: OptimizeState,
    /// The course of the run.
    pub history: History,
    /// The results on the held-out names, if there are any.
    pub validation: Option<Validation>,
}

/// Training has diverged when the smoothed loss is above this many times that of a uniform guess of
/// each character of a name.
const MAX_LOSS: f64 = 3.;

impl Trained {
    /// The network to use: the last one, or where an earlier one was better on the held-out names,
    /// the best one.
    pub fn chosen(&self) -> &CharRnn {
        let better = self.validation.as_ref().and_then(Validation::better);
        better.map_or(&self.model, |best| &best.model)
    }
}

/// Trains a network on `corpus` on the CPU. [`Trainer`] can also pause, resume and use a GPU.
///
/// # Errors
/// Where a field is out of range ([`TrainConfig::check`]), or the loss or a parameter is no longer
/// finite ([`Error::Diverged`]).
///
/// ```
/// use char_rnn::data::{Corpus, LetterCase};
/// use char_rnn::train::{TrainConfig, train};
/// let corpus = Corpus::parse(b"anna\nhannah\nhanna\n", "example", LetterCase::Lower)?;
/// let config = TrainConfig { iterations: 500, hidden: 8, ..TrainConfig::default() };
/// let trained = train(&corpus, &config, &mut ())?;
/// assert!(trained.progress.loss < 8.);
/// # Ok::<(), char_rnn::Error>(())
/// ```
pub fn train(
    corpus: &Corpus,
    config: &TrainConfig,
    observer: &mut dyn Observer,
) -> Result<Trained> {
    Trainer::new(corpus, config, &Device::Cpu)?.run(observer)
}

/// A run that its observer can pause after any iteration. It continues at once, or from its
/// [`Trained`] result, with the same results to the last bit.
pub struct Trainer<'a> {
    config: TrainConfig,
    /// The shuffled list.
    examples: Vec<(&'a String, Vec<u32>)>,
    validator: Option<Validator>,
    vocabulary: &'a Vocabulary,
    optimize: Optimize,
    smoothing: Option<Smoothing>,
    batch: Batch,
    /// The positions of the names of the minibatch.
    indices: Vec<usize>,
    /// The maximum length of sampled names.
    max_length: usize,
    /// The next iteration.
    next: u64,
    loss: f64,
    smoothed: f64,
    /// A smoothed loss above it has exploded.
    max_loss: f64,
    history: History,
}

impl<'a> Trainer<'a> {
    /// A new run on `device`.
    ///
    /// # Errors
    /// Where a field is out of range ([`TrainConfig::check`]), the list has a single character, no
    /// name can be held out ([`Corpus::validation_split`]), or the device fails.
    pub fn new(corpus: &'a Corpus, config: &TrainConfig, device: &Device) -> Result<Self> {
        config.check()?;
        if let [_end, only] = corpus.vocabulary().characters() {
            return Err(Error::Names {
                origin: corpus.origin().to_string(),
                problem: format!(
                    "all names consist of the one character {only:?}: there is nothing to learn"
                ),
            });
        }
        let network = Config { vocabulary: corpus.vocabulary().size(), hidden: config.hidden };
        check_sizes(corpus, config, network, device)?;
        let vars = initialize(network, config.seed.normals(), config.dtype, device)?;
        Self::with_variables(corpus, config, network, &vars)
    }

    fn with_variables(
        corpus: &'a Corpus,
        config: &TrainConfig,
        network: Config,
        vars: &VarMap,
    ) -> Result<Self> {
        // Not by `encoded`: of a long list it is a large part of the memory.
        let encode = |name: &'a String| Ok((name, corpus.vocabulary().encode(name)?));
        let mut examples: Vec<(&String, Vec<u32>)> =
            corpus.names().iter().map(encode).collect::<Result<_>>()?;
        let mut validator = None;
        if config.validation > 0. {
            let mut is_held_out =
                corpus.validation_split(config.validation, config.seed)?.into_iter();
            let (held_out, others): (Vec<_>, Vec<_>) =
                examples.into_iter().partition(|_| is_held_out.next() == Some(true));
            let (texts, indices) = held_out.into_iter().unzip();
            validator = Some(Validator::new(indices, texts));
            examples = others;
        }
        config.seed.shuffle(&mut examples);
        let steps: usize = examples.iter().map(|(_, name)| name.len() + 1).sum();
        let guessing = steps as f64 / examples.len() as f64 * (network.vocabulary as f64).ln();
        let smoothing = (config.smoothing > 0.)
            .then(|| Smoothing::new(&names_of(&examples), network.vocabulary, config.smoothing));
        Ok(Self {
            config: config.clone(),
            examples,
            validator,
            vocabulary: corpus.vocabulary(),
            smoothing,
            optimize: Optimize::new(network, vars, config)?,
            batch: Batch::default(),
            indices: vec![],
            max_length: match config.seed {
                RngSource::Notebook => MAX_LENGTH,
                RngSource::Seed(_) => max_length_for(corpus.longest()),
            },
            next: 0,
            loss: f64::NAN,
            smoothed: match config.seed {
                RngSource::Notebook => initial_loss(network.vocabulary),
                RngSource::Seed(_) => 0.,
            },
            max_loss: MAX_LOSS * guessing,
            history: History::default(),
        })
    }

    /// Continues the run that ended with `trained`. With the same list and configuration the results
    /// are those of a run that never stopped: the order of the list and the sampled names follow from
    /// the seed and the number of the iteration ([`crate::random`]), and everything else is in
    /// `trained`.
    ///
    /// Other values take effect from here on. With another batch size the hidden states start from
    /// zero, with another optimizer its moments, and with other held-out names the search for the
    /// best network.
    ///
    /// # Errors
    /// Where a field is out of range ([`TrainConfig::check`]), the run is done already, the network
    /// does not have the sizes of the configuration and the list, or the device fails.
    ///
    /// ```
    /// use char_rnn::data::{Corpus, LetterCase};
    /// use char_rnn::train::{Decay, TrainConfig, Trainer, train};
    /// let corpus = Corpus::parse(b"anna\nhannah\nhanna\n", "example", LetterCase::Lower)?;
    /// let decay = Decay::None; // others depend on the number of iterations
    /// let short = TrainConfig { iterations: 50, hidden: 8, decay, ..TrainConfig::default() };
    /// let long = TrainConfig { iterations: 80, ..short.clone() };
    /// let (first, device) = (train(&corpus, &short, &mut ())?, candle_core::Device::Cpu);
    /// let resumed = Trainer::resume(&corpus, &long, &first, &device)?.run(&mut ())?;
    /// assert_eq!(resumed.progress, train(&corpus, &long, &mut ())?.progress);
    /// # Ok::<(), char_rnn::Error>(())
    /// ```
    pub fn resume(
        corpus: &'a Corpus,
        config: &TrainConfig,
        trained: &Trained,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        let (network, done) =
            (trained.model.config(), trained.progress.iteration.saturating_add(1));
        let is_factored = trained.state.contains_key(FACTORS[0]);
        if config.factored_input != is_factored {
            let rule = "the run was begun otherwise, which cannot change";
            return Err(Error::setting("factored_input", !is_factored, rule));
        }
        check_resumable(corpus, config, network, done)?;
        check_sizes(corpus, config, network, device)?;
        let vars = VarMap::new();
        for (name, tensor) in trained.model.parameters() {
            let own = tensor.to_dtype(config.dtype)?.to_device(device)?.copy()?;
            let mut vars = vars.data().lock().expect("this map has no other holder yet");
            vars.insert(name.to_string(), Var::from_tensor(&own)?);
        }
        let mut trainer = Self::with_variables(corpus, config, network, &vars)?;
        trainer.optimize.load_state(&keep_state(&trained.state, config))?;
        trainer.history = trained.history.clone();
        let digest = trainer.held_out_digest();
        let before = trained.validation.as_ref().filter(|v| Some(v.names.as_str()) == digest);
        match (&mut trainer.validator, before) {
            (Some(validator), Some(before)) => {
                validator.load(before, config.dtype, device)?;
                let since = validator.since_best();
                if config.patience > 0 && config.is_done(done, since) {
                    let rule = format!(
                        "the last {since} evaluations brought no improvement, so that training has \
                         ended; give a larger number to continue"
                    );
                    return Err(Error::setting("patience", config.patience, rule));
                }
            }
            // Losses on other names are no part of the curve.
            _ => trainer.history.validation = Series::default(),
        }
        trainer.next = done;
        (trainer.loss, trainer.smoothed) = (trained.progress.loss, trained.progress.smoothed);
        Ok(trainer)
    }

    /// Whether all iterations are done, or the patience is exhausted.
    pub fn is_done(&self) -> bool {
        self.config.is_done(self.next, self.validator.as_ref().map_or(0, Validator::since_best))
    }

    /// The digest of the held-out names, as in [`Validation::names`].
    pub fn held_out_digest(&self) -> Option<&str> {
        self.validator.as_ref().map(Validator::digest)
    }

    /// The numbers of names to train on and of names held out.
    pub fn sizes(&self) -> (usize, usize) {
        (self.examples.len(), self.validator.as_ref().map_or(0, Validator::len))
    }

    /// The n-gram model of the training names on the held-out names, if there are any.
    pub fn baseline(&self) -> Option<Baseline> {
        let validator = self.validator.as_ref()?;
        Some(match &self.smoothing {
            Some(smoothing) => validator.baseline(smoothing.model()),
            None => {
                let names = names_of(&self.examples);
                validator.baseline(&NGram::choose(&names, self.vocabulary.size()))
            }
        })
    }

    /// Trains until [all is done](Self::is_done) or `observer` breaks; another call continues.
    ///
    /// # Errors
    /// Where the loss or a parameter is no longer finite ([`Error::Diverged`]), or the device fails.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Trained> {
        while !self.is_done() {
            let now = self.step(observer)?;
            if now.iteration.is_multiple_of(self.config.eval_every) {
                self.evaluate(&now, observer)?;
            }
            if observer.iteration(&now).is_break() {
                break;
            }
        }
        self.trained()
    }

    /// One iteration: take the next names, optimize, smooth the loss.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Progress> {
        let (iteration, config) = (self.next, &self.config);
        // The next names of the shuffled list, round and round. The product itself may overflow.
        let (size, count) = (config.batch_size, self.examples.len());
        let first = (iteration % count as u64) * (size as u64 % count as u64) % count as u64;
        let in_turn = (0..size).map(|i| (first as usize + i) % count);
        self.indices.clear();
        self.indices.extend(in_turn.clone());
        // The longest first: `hand` then has no padding.
        let length = |index: usize| self.examples[index].1.len();
        self.indices.sort_unstable_by_key(|&index| (Reverse(length(index)), index));
        self.batch.fill(self.indices.iter().map(|&index| self.examples[index].1.as_slice()));
        if let Some(smoothing) = &self.smoothing {
            smoothing.apply(&mut self.batch, &self.indices);
        }
        if config.dropout > 0. {
            let entries = size * config.hidden;
            self.batch.set_dropout(config.seed.dropout(iteration, config.dropout, entries));
        }
        for index in in_turn {
            let (name, characters) = &self.examples[index];
            observer.example(iteration, index, name, characters);
        }

        let rate = config.decay.rate(config.learning_rate, iteration, config.iterations);
        let mut stats = self.history.gradients.keeps_next().then(Stats::default);
        self.loss = self.optimize.optimize(&self.batch, rate, stats.as_mut())?;
        // Some methods sum the loss in f64: a sum that is no f32 is infinite by all of them.
        let limit = if config.dtype == DType::F32 { f32::MAX.into() } else { f64::MAX };
        let loss = if self.loss * size as f64 > limit { f64::INFINITY } else { self.loss };
        check_finite(iteration, "loss", loss)?;
        let weight = smoothing_weight(config, iteration);
        self.smoothed = self.smoothed * (1. - weight) + self.loss * weight;
        // The mean of few names has no meaning yet.
        let seen = (iteration + 1).saturating_mul(size as u64);
        if seen >= 1000 && self.smoothed > self.max_loss {
            let (what, value) = ("smoothed loss".to_string(), self.smoothed);
            return Err(Error::Diverged { iteration, what, value });
        }
        self.next = iteration + 1;

        let now = Progress { iteration, loss: self.loss, smoothed: self.smoothed };
        self.history.loss.push(iteration, || now.smoothed);
        self.history.each.push(iteration, || now.loss);
        self.history.gradients.push(iteration, || stats.unwrap_or_default());
        if let Some(stats) = &stats {
            observer.gradients(&now, stats);
        }
        Ok(now)
    }

    /// Computes the loss of the held-out names, and samples names.
    fn evaluate(&mut self, now: &Progress, observer: &mut dyn Observer) -> Result<()> {
        let (iteration, config, model) = (now.iteration, &self.config, self.optimize.model()?);
        if let Some(validator) = &mut self.validator {
            let loss = validator.loss(model)?;
            check_finite(iteration, "held-out loss", loss)?;
            validator.record(iteration, loss, model)?;
            self.history.validation.push(iteration, || loss);
            observer.validation(now, loss);
        }
        let names = Sampler::new(model, config.seed, self.max_length, 0..config.samples)?
            .collect::<candle_core::Result<Vec<_>>>()?;
        self.history.push_samples(iteration, &names, self.vocabulary);
        observer.samples(now, &names);
        Ok(())
    }

    /// The result after the last iteration, of which there was at least one.
    fn trained(&mut self) -> Result<Trained> {
        let iteration = self.next - 1;
        let progress = Progress { iteration, loss: self.loss, smoothed: self.smoothed };
        let (state, model) = (self.optimize.state()?, self.optimize.model()?.clone());
        let parameters =
            model.parameters().map(|(name, tensor)| (format!("parameter {name}"), tensor));
        let states = state.iter().map(|(name, tensor)| (format!("state {name}"), tensor));
        for (what, tensor) in parameters.into_iter().chain(states) {
            let sum = tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
            check_finite(iteration, &what, sum)?;
        }
        let validation = match &mut self.validator {
            Some(validator) => {
                let loss = validator.loss(&model)?;
                check_finite(iteration, "held-out loss", loss)?;
                if self.next >= self.config.iterations {
                    validator.keep_if_best(iteration, loss, &model)?;
                }
                Some(validator.results(loss))
            }
            None => None,
        };
        Ok(Trained { model, progress, state, history: self.history.clone(), validation })
    }
}

/// Checks that a network with these sizes can continue on `corpus` after `done` iterations.
fn check_resumable(
    corpus: &Corpus,
    config: &TrainConfig,
    network: Config,
    done: u64,
) -> Result<()> {
    if config.iterations <= done {
        let rule = format!("{done} are done already, and it counts from the first");
        return Err(Error::setting("iterations", config.iterations, rule));
    }
    if config.hidden != network.hidden {
        let rule = format!("the network has {} hidden units, which cannot change", network.hidden);
        return Err(Error::setting("hidden", config.hidden, rule));
    }
    if corpus.vocabulary().size() != network.vocabulary {
        return Err(Error::Names {
            origin: corpus.origin().to_string(),
            problem: format!(
                "the list has {} characters and the network {}, which cannot change",
                corpus.vocabulary().size() - 1,
                network.vocabulary - 1
            ),
        });
    }
    Ok(())
}

/// Refuses networks and minibatches that need more memory than there is, or on a GPU have more
/// entries than candle's kernels can count.
fn check_sizes(
    corpus: &Corpus,
    config: &TrainConfig,
    network: Config,
    device: &Device,
) -> Result<()> {
    if device.is_cpu() {
        let bytes = memory(corpus, config);
        return match has_memory(bytes) {
            true => Ok(()),
            false => Err(Error::Device(format!(
                "training would take about {:.1} GiB of memory, which is more than there is: use a \
                 smaller `batch_size` or `hidden`",
                bytes as f64 / f64::from(1 << 30)
            ))),
        };
    }
    match network.too_many_entries(rows_of(corpus, config)) {
        Some(count) => Err(Error::Device(format!(
            "with {} names in a batch a tensor would have {count} entries, and on a GPU they must be \
             fewer than {MAX_ENTRIES}: use a smaller `batch_size` or `hidden`, or the CPU",
            config.batch_size
        ))),
        None => Ok(()),
    }
}

/// The rows of a minibatch, at most.
fn rows_of(corpus: &Corpus, config: &TrainConfig) -> usize {
    config.batch_size.saturating_mul(corpus.longest() + 1)
}

/// The bytes that training takes at its peak on the CPU, rather too few than too many. The factors are
/// those of measured runs.
pub(crate) fn memory(corpus: &Corpus, config: &TrainConfig) -> u128 {
    let rows = rows_of(corpus, config);
    let list: usize = corpus.names().iter().map(|name| name.len() + 1).sum();
    let (n, v) = (config.hidden as u128, corpus.vocabulary().size() as u128);
    let of_a_row = match config.backprop {
        GradientMethod::Unrolled => 8,
        GradientMethod::Autograd => 5,
        GradientMethod::Hand => 3,
    };
    let of_a_parameter = match config.optimizer {
        OptimizerKind::Sgd => 8,
        OptimizerKind::AdamW => 20,
    };
    let numbers = of_a_row * rows as u128 * (n + v) + of_a_parameter * n * (n + 2 * v);
    // Soft targets, in double precision and as the kernels take them, and the n-gram model.
    let (targets, counts) = match config.smoothing > 0. {
        true => (rows as u128 * v * (8 + config.dtype.size_in_bytes() as u128), 40 * list as u128),
        false => (0, 0),
    };
    numbers * config.dtype.size_in_bytes() as u128 + targets + counts
}

/// The first value of the smoothed loss: the loss of seven characters, each as likely as any other.
/// The notebook's `get_initial_loss(vocab_size, dino_names)`, whose second argument is 7 there.
pub(crate) fn initial_loss(vocabulary: usize) -> f64 {
    -(1. / vocabulary as f64).ln() * 7.
}

/// The names of `examples` as indices.
fn names_of(examples: &[(&String, Vec<u32>)]) -> Vec<Vec<u32>> {
    examples.iter().map(|(_, name)| name.clone()).collect()
}

/// The weight of an iteration's loss in the smoothed loss: 0.001 a name, and in the notebook's run
/// 0.001. Outside of that the weights of all iterations so far sum to 1, so that the smoothed loss
/// starts from the first loss.
fn smoothing_weight(config: &TrainConfig, iteration: u64) -> f64 {
    match config.seed {
        RngSource::Notebook => 0.001,
        RngSource::Seed(_) => {
            // 1 - 0.999^x as an exponential, which takes a third of the time of a power.
            let missing = |names: f64| (names * 0.999_f64.ln()).exp_m1();
            let size = config.batch_size as f64;
            missing(size) / missing(size * (iteration as f64 + 1.))
        }
    }
}

fn check_finite(iteration: u64, what: &str, value: f64) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::Diverged { iteration, what: what.to_string(), value })
}
