//! The training loop, told in the notebook's order: take an example, go forward, go backward,
//! clip, update, smooth the loss, and now and then look at what the network has learned.

mod inputs;
mod settings;

pub use settings::Settings;

use crate::batch::Batch;
use crate::corpus::Corpus;
use crate::engine::{ADAMW, Carried, Engine, Gradients, StepLoss, engine};
use crate::error::{Error, Result};
use crate::history::History;
use crate::model::{CharRnn, Config, MOST_ENTRIES, initialize};
use crate::optim::Algorithm;
use crate::sample::{MAX_LENGTH, Names, Sampled};
use crate::validation::{HeldOut, Validation};
use crate::vocab::Vocabulary;
use candle_core::{DType, Var};
use candle_nn::VarMap;
use inputs::Inputs;
use std::ops::ControlFlow;

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
///
/// On the CPU it is told after each iteration. Another device learns up to a few dozen iterations
/// before their losses are read and they are told of, one by one and in order, so that it does not
/// stand still after each.
pub trait Observer {
    /// The first thing that is told of an iteration, once for each of its examples: the `index`-th of the shuffled list, its name and characters.
    fn example(&mut self, _iteration: u64, _index: usize, _name: &str, _characters: &[u32]) {}
    /// After an iteration whose gradients were measured: see [`History::gradients`].
    fn gradients(&mut self, _progress: &Progress, _gradients: &Gradients) {}
    /// After an iteration at which the held-out names were looked at: their loss, in nats a name.
    fn validated(&mut self, _progress: &Progress, _loss: f64) {}
    /// After an iteration at which names were sampled.
    fn samples(&mut self, _progress: &Progress, _names: &[Sampled]) {}
    /// After an iteration, the last thing that is told of it. To break ends training there.
    fn iteration(&mut self, _progress: &Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// An observer that looks away.
impl Observer for () {}

/// What training leaves: a network, and all that training it further needs.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The network with its last parameters. It shares them with the [`Training`] that it came
    /// from, and they change when that runs on.
    pub model: CharRnn,
    /// The last iteration's progress.
    pub progress: Progress,
    /// What the engine would begin the next iteration with.
    pub carried: Carried,
    /// Its course so far.
    pub history: History,
    /// What the held-out names told, where there are any.
    pub validation: Option<Validation>,
}

impl Trained {
    /// The network to use: the last, or where held-out names say that an earlier one was better,
    /// the best.
    pub fn chosen(&self) -> &CharRnn {
        let better = self.validation.as_ref().and_then(Validation::better);
        better.map_or(&self.model, |best| &best.model)
    }
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
    Training::new(corpus, settings)?.run(observer)
}

/// The most iterations whose losses wait on a device to be read together.
const LONGEST_STRETCH: u64 = 64;

/// Refuses batches that are too large for a GPU, before anything is learned.
fn check_batches(
    examples: &[(&String, Vec<u32>)],
    settings: &Settings,
    config: Config,
) -> Result<()> {
    let steps = 1 + examples.iter().map(|(_, indices)| indices.len()).max().unwrap_or(0);
    let rows = settings.batch_size.saturating_mul(steps);
    match config.too_many_entries(rows) {
        Some(count) if !settings.device.is_cpu() => Err(Error::Device(format!(
            "with {} names in a batch a tensor would have {count} entries, and on a GPU they must be \
             fewer than {MOST_ENTRIES}: a smaller --batch-size or --hidden takes fewer, and --device cpu \
             has no such bound",
            settings.batch_size
        ))),
        _ => Ok(()),
    }
}

/// An iteration of which nothing has been told yet.
struct Learned {
    loss: StepLoss,
    gradients: Option<Gradients>,
}

/// A run that can be stopped after any iteration, by its observer, and go on: at once, or from
/// what it left, with the same results to the last bit.
pub struct Training<'a> {
    settings: Settings,
    /// The shuffled list.
    examples: Vec<(&'a String, Vec<u32>)>,
    held_out: Option<HeldOut>,
    vocabulary: &'a Vocabulary,
    engine: Box<dyn Engine>,
    batch: Batch,
    /// All batches on the device, where that is worth it.
    inputs: Option<Inputs>,
    /// The iteration that comes next.
    next: u64,
    loss: f64,
    smoothed: f64,
    history: History,
    /// Empty between iterations: kept for its memory.
    learned: Vec<Learned>,
}

impl<'a> Training<'a> {
    /// A run at its beginning.
    ///
    /// # Errors
    /// Where a setting is out of range ([`Settings::check`]), no name can be held out
    /// ([`Corpus::held_out`]), or the device fails.
    pub fn new(corpus: &'a Corpus, settings: &Settings) -> Result<Self> {
        settings.check()?;
        let config = Config { vocabulary: corpus.vocabulary().size(), hidden: settings.hidden };
        let vars =
            initialize(config, settings.randomness.normals(), settings.dtype, &settings.device)?;
        Self::with_network(corpus, settings, config, &vars)
    }

    /// A run at its beginning, of the network of these variables.
    fn with_network(
        corpus: &'a Corpus,
        settings: &Settings,
        config: Config,
        vars: &VarMap,
    ) -> Result<Self> {
        let mut examples: Vec<(&String, Vec<u32>)> =
            corpus.names().iter().zip(corpus.encoded()).collect();
        let mut held_out = None;
        if settings.validation > 0. {
            let mut is_held_out =
                corpus.held_out(settings.validation, settings.randomness)?.into_iter();
            let (judges, others): (Vec<_>, Vec<_>) =
                examples.into_iter().partition(|_| is_held_out.next() == Some(true));
            let (texts, indices) = judges.into_iter().unzip();
            held_out = Some(HeldOut::new(indices, texts));
            examples = others;
        }
        settings.randomness.shuffle(&mut examples);
        check_batches(&examples, settings, config)?;
        let indices: Vec<&[u32]> = examples.iter().map(|(_, indices)| &indices[..]).collect();
        let inputs = Inputs::new(&indices, settings.batch_size, &settings.device)?;
        // More would have nothing to do, and a file may ask for a thousand.
        let threads = settings.threads.min(settings.batch_size);
        Ok(Self {
            settings: settings.clone(),
            inputs,
            examples,
            held_out,
            vocabulary: corpus.vocabulary(),
            engine: engine(settings.backprop, config, vars, settings.descent(), threads)?,
            batch: Batch::default(),
            next: 0,
            loss: f64::NAN,
            smoothed: initial_loss(config.vocabulary),
            history: History::default(),
            learned: Vec::new(),
        })
    }

    /// The run that left `trained`, after its last iteration. With the same list and settings the
    /// results are those of a run that never stopped: the order of the list and the sampled names
    /// follow from the seed and the number of the iteration ([`crate::random`]), and everything
    /// else is in `trained`.
    ///
    /// With held-out names the network at the end of a run that was done is among those of which
    /// the best is kept, also where more iterations are added.
    ///
    /// Other settings take effect from here on. With another batch size the hidden states begin at
    /// zero again, with another optimizer its running means, and with other names held out the
    /// search for the best.
    ///
    /// # Errors
    /// Where a setting is out of range ([`Settings::check`]), the run is done already, the network
    /// has other sizes than the settings and the list, or the device fails.
    ///
    /// ```
    /// use char_rnn::{corpus::{Case, Corpus}, train::{Settings, Training, train}};
    /// let corpus = Corpus::parse(b"anna\nhannah\nhanna\n", "example", Case::Lower)?;
    /// let short = Settings { iterations: 50, hidden: 8, ..Settings::default() };
    /// let long = Settings { iterations: 80, ..short.clone() };
    /// let resumed = Training::resume(&corpus, &long, &train(&corpus, &short, &mut ())?)?.run(&mut ())?;
    /// assert_eq!(resumed.progress, train(&corpus, &long, &mut ())?.progress);
    /// # Ok::<(), char_rnn::Error>(())
    /// ```
    pub fn resume(corpus: &'a Corpus, settings: &Settings, trained: &Trained) -> Result<Self> {
        settings.check()?;
        let done = trained.progress.iteration + 1;
        if settings.iterations <= done {
            return Err(Error::Setting {
                name: "--iterations",
                value: settings.iterations.to_string(),
                rule: format!("{done} are done already, and it counts from the first"),
            });
        }
        let config = trained.model.config();
        if settings.hidden != config.hidden {
            return Err(Error::Setting {
                name: "--hidden",
                value: settings.hidden.to_string(),
                rule: format!(
                    "the network has {} hidden units, and cannot change its size",
                    config.hidden
                ),
            });
        }
        if corpus.vocabulary().size() != config.vocabulary {
            return Err(Error::Names {
                origin: "the list".to_string(),
                problem: format!(
                    "it is written with {} characters and the network knows {}, which cannot change",
                    corpus.vocabulary().size() - 1,
                    config.vocabulary - 1
                ),
            });
        }
        let vars = VarMap::new();
        for (name, tensor) in trained.model.parameters() {
            let own = tensor.to_dtype(settings.dtype)?.to_device(&settings.device)?.copy()?;
            let mut vars = vars.data().lock().expect("nobody else has this map yet");
            vars.insert(name.to_string(), Var::from_tensor(&own)?);
        }
        let mut training = Self::with_network(corpus, settings, config, &vars)?;
        let mut carried = trained.carried.clone();
        let size = carried.get("a").map(|a| a.dim(0)).transpose()?;
        if size != Some(settings.batch_size) {
            carried.remove("a");
        }
        if settings.optimizer != Algorithm::AdamW {
            carried.retain(|name, _| !name.starts_with(ADAMW));
        }
        training.engine.carry_on(&carried)?;
        training.history = trained.history.clone();
        let before = trained.validation.as_ref().filter(|before| {
            training.held_out.as_ref().is_some_and(|held_out| held_out.told_of(before))
        });
        if before.is_none() {
            // The losses of other names are no part of the curve.
            training.history.forget_validation();
        }
        if let (Some(held_out), Some(before)) = (&mut training.held_out, before) {
            held_out.go_on(before, settings.dtype, &settings.device)?;
            if let Some(patience) = settings.patience
                && settings.is_done(done, held_out.since())
            {
                return Err(Error::Setting {
                    name: "--patience",
                    value: patience.to_string(),
                    rule: format!(
                        "the held-out names were looked at {} times since the best of them, so \
                         that training has ended; give a larger number to go on",
                        held_out.since()
                    ),
                });
            }
        }
        training.next = done;
        (training.loss, training.smoothed) = (trained.progress.loss, trained.progress.smoothed);
        Ok(training)
    }

    /// Whether all iterations are done, or patience is at its end.
    pub fn is_done(&self) -> bool {
        self.settings.is_done(self.next, self.held_out.as_ref().map_or(0, HeldOut::since))
    }

    /// The course so far, also of a run that has failed.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Which names are held out, as [`Validation::names`] has it.
    pub fn held_out_digest(&self) -> Option<&str> {
        self.held_out.as_ref().map(HeldOut::digest)
    }

    /// How many names are learned, and how many held out.
    pub fn sizes(&self) -> (usize, usize) {
        (self.examples.len(), self.held_out.as_ref().map_or(0, HeldOut::len))
    }

    /// Trains until [all is done](Self::is_done) or `observer` breaks; called again, goes on.
    ///
    /// # Errors
    /// Where the loss or a parameter stops being finite ([`Error::Diverged`]), or the device
    /// fails.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Trained> {
        while !self.is_done() {
            let first = self.next;
            let mut learned = std::mem::take(&mut self.learned);
            for iteration in first..first + self.stretch() {
                learned.push(self.learn(iteration)?);
            }
            let told = self.tell(first, &learned, observer)?;
            learned.clear();
            self.learned = learned;
            if told.is_break() {
                break;
            }
        }
        self.trained()
    }

    /// How many iterations are learned next before anything is told of them. On the CPU one; another
    /// device is not waited for until the network is looked at or a gradient is measured.
    fn stretch(&self) -> u64 {
        let Settings { device, iterations, sample_every, .. } = &self.settings;
        if device.is_cpu() {
            return 1;
        }
        let until_look = (sample_every - self.next % sample_every) % sample_every + 1;
        let until_measured = self.history.gradients.until_kept();
        LONGEST_STRETCH.min(iterations - self.next).min(until_look).min(until_measured)
    }

    /// Which examples an iteration learns: the next of the shuffled list, round and round.
    fn examples_of(&self, iteration: u64) -> impl Iterator<Item = usize> + Clone + use<> {
        let (size, count) = (self.settings.batch_size, self.examples.len());
        // Iteration times size, whose remainder this is, may be too large for a number; and a list
        // has fewer than 2^32 names.
        let first = (iteration % count as u64) * (size as u64 % count as u64) % count as u64;
        (0..size).map(move |i| (first as usize + i) % count)
    }

    /// Forward, backward, clip, update; the hidden state is carried on to the next example.
    fn learn(&mut self, iteration: u64) -> Result<Learned> {
        let Settings { learning_rate, decay, iterations, zero_state, .. } = self.settings;
        let next = self.examples_of(iteration);
        self.batch.fill(next.map(|index| self.examples[index].1.as_slice()));
        if let Some(inputs) = &self.inputs {
            inputs.place(&mut self.batch, iteration)?;
        }
        if zero_state {
            self.engine.clear_state();
        }
        self.engine.set_learning_rate(decay.rate(learning_rate, iteration, iterations));
        // A stretch ends before another one than its first is measured.
        let measured = iteration == self.next && self.history.gradients.keeps_next();
        let mut gradients = measured.then(Gradients::default);
        let loss = self.engine.measured_step(&self.batch, gradients.as_mut())?;
        Ok(Learned { loss, gradients })
    }

    /// Reads the losses of what was `learned` from iteration `first` on, and tells of it. The
    /// observer may break at any of them; the network has learned them all.
    fn tell(
        &mut self,
        first: u64,
        learned: &[Learned],
        observer: &mut dyn Observer,
    ) -> Result<ControlFlow<()>> {
        let mut told = ControlFlow::Continue(());
        let losses = StepLoss::read_all(learned.iter().map(|learned| &learned.loss))?;
        for ((iteration, learned), loss) in (first..).zip(learned).zip(losses) {
            for index in self.examples_of(iteration) {
                let (name, characters) = &self.examples[index];
                observer.example(iteration, index, name, characters);
            }
            check_finite(iteration, "loss", loss)?;
            self.loss = loss;
            self.smoothed = self.smoothed * 0.999 + self.loss * 0.001;
            let now = Progress { iteration, loss: self.loss, smoothed: self.smoothed };
            self.history.loss.push(&now);
            self.history.gradients.push(iteration, || learned.gradients.unwrap_or_default());
            if let Some(gradients) = &learned.gradients {
                observer.gradients(&now, gradients);
            }
            self.next = iteration + 1;
            if iteration.is_multiple_of(self.settings.sample_every) {
                self.look(&now, observer)?;
            }
            if observer.iteration(&now).is_break() {
                told = ControlFlow::Break(());
            }
        }
        Ok(told)
    }

    /// Looks at what the network has learned: at the held-out names, and at names of its own.
    fn look(&mut self, now: &Progress, observer: &mut dyn Observer) -> Result<()> {
        let (iteration, settings, model) = (now.iteration, &self.settings, self.engine.model()?);
        if let Some(held_out) = &mut self.held_out {
            let loss = held_out.loss(model)?;
            check_finite(iteration, "held-out loss", loss)?;
            held_out.note(iteration, loss, model)?;
            self.history.validation.push(iteration, || loss);
            observer.validated(now, loss);
        }
        let names = Names::new(model, settings.randomness, MAX_LENGTH, 0..settings.samples)?
            .collect::<candle_core::Result<Vec<_>>>()?;
        self.history.push_samples(iteration, &names, self.vocabulary);
        observer.samples(now, &names);
        Ok(())
    }

    /// What there is after the last iteration, of which there was at least one.
    fn trained(&mut self) -> Result<Trained> {
        let iteration = self.next - 1;
        let progress = Progress { iteration, loss: self.loss, smoothed: self.smoothed };
        let (model, carried) = (self.engine.model()?.clone(), self.engine.carried()?);
        let parameters =
            model.parameters().map(|(name, tensor)| (format!("parameter {name}"), tensor));
        let states = carried.iter().map(|(name, tensor)| (format!("state {name}"), tensor));
        for (what, tensor) in parameters.into_iter().chain(states) {
            let sum = tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
            check_finite(iteration, &what, sum)?;
        }
        let validation = match &mut self.held_out {
            Some(held_out) => {
                let loss = held_out.loss(&model)?;
                check_finite(iteration, "held-out loss", loss)?;
                if self.next >= self.settings.iterations {
                    // The end of a run is no look, but the network may be the best there.
                    held_out.note_the_end(iteration, loss, &model)?;
                }
                Some(held_out.told(loss))
            }
            None => None,
        };
        Ok(Trained { model, progress, carried, history: self.history.clone(), validation })
    }
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
