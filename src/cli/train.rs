//! `char-rnn train`: learn a list.

use super::metrics::{self, Metrics};
use super::notebook_log::NotebookLog;
use super::progress::{Bar, Live, rounded};
use super::resumption::{self, Begun, quoted};
use super::sample::pick;
use super::saving::{self, Saver};
use super::signals::{Signal, Signals};
use super::{DeviceName, Failure, List, Precision, real_number, whole_number};
use candle_core::Device;
use char_rnn::checkpoint;
use char_rnn::corpus::{Case, Corpus};
use char_rnn::engine::Backprop;
use char_rnn::optim::{Algorithm, Decay};
use char_rnn::output_file::Claim;
use char_rnn::random::Randomness;
use char_rnn::train::{Observer, Settings, Trained, Training};
use clap::{Args, ValueEnum};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Learn a list of names and save the model
///
/// Prints names that the network makes as it learns, and at the end some that are not in the list.
/// The model is saved for `char-rnn sample`. Names go to standard output; how training goes
/// (iteration, loss in nats a name, smoothed) goes to standard error.
///
/// Ctrl-C ends training after its iteration and saves the model, and --resume goes on from there
/// as if nothing had happened. A second Ctrl-C ends it at once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn train                                 learn the built-in dinosaurs
  char-rnn train towns.txt                       learn a list, save towns.safetensors
  char-rnn train towns.txt --hidden 100 -o big.safetensors
  char-rnn train towns.txt --validation 0.1 --patience 5                    until it learns no more
  char-rnn train --resume towns.safetensors towns.txt                       after Ctrl-C
  char-rnn train --resume towns.safetensors towns.txt --iterations 90000    more of it
  char-rnn train --notebook | diff - notebook.log")]
pub struct Train {
    #[command(flatten)]
    list: List,

    /// Where to save the model [default: NAMES with .safetensors for its ending, in this folder;
    /// with --resume, its file]
    ///
    /// An older model in its place is replaced once training is done; if it is stopped before, the
    /// older one is kept beside it. Any other file is left alone and refused.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Go on with the run that is saved in FILE, as if it had never been stopped
    ///
    /// It needs the same list; settings that are not given are those of the run. --iterations
    /// counts from the first iteration. --learning-rate may change on the way.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,

    /// With --resume, change the list or settings on the way; without, replace an unfinished run
    #[arg(long)]
    force: bool,

    /// Save the model every N iterations [default: once a minute]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    checkpoint_every: Option<u64>,

    /// How many times to learn a name, or a batch of names, going round the list [default: 35000]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    iterations: Option<u64>,

    /// How many times to go round the list, instead of --iterations
    #[arg(long, value_name = "N", conflicts_with = "iterations")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    epochs: Option<u64>,

    /// Hold out this share of the list: do not learn it, and judge by it
    ///
    /// Such as 0.1. Which names depends on the seed; a name that stands twice is not parted. Their
    /// loss is shown with the others', and the saved model is the one that did best on them.
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    validation: Option<f64>,

    /// With --validation, end after N looks (see --sample-every) that found it no better
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    patience: Option<u64>,

    /// How many names to learn side by side each time [default: 1]
    ///
    /// The loss is their mean, so that the learning rate keeps its meaning; each has a hidden
    /// state of its own.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    batch_size: Option<usize>,

    /// Begin each name from the zero state, as new names begin
    ///
    /// Without it a name begins with what the network remembers of the name before it, as in the
    /// notebook. New names are then a little less like the list's.
    #[arg(long)]
    zero_state: bool,

    /// Hidden units: how much the network can remember [default: 50]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    hidden: Option<usize>,

    /// How the weights follow from the gradients [default: sgd]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<Optimizer>,

    /// How far to step down the gradient [default: 0.01, and 0.003 for adamw]
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    learning_rate: Option<f64>,

    /// How the learning rate falls: none, cosine, or step:N:X [default: none]
    ///
    /// cosine: to zero at the last iteration. step:N:X: after each N iterations, times X.
    #[arg(long, value_name = "HOW")]
    decay: Option<Decay>,

    /// What adamw takes from each weight at a step, over the learning rate [default: 0.01]
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    weight_decay: Option<f64>,

    /// Clamp each entry of the gradients to [-X, X]; inf clamps nothing [default: 5]
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    clip: Option<f64>,

    /// Chooses the first weights, the order of the list and the names printed [default: 1]
    ///
    /// The same list, settings and seed give the same model and names on every run.
    #[arg(long, value_name = "N", conflicts_with = "notebook")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    seed: Option<u64>,

    /// Print names, and look at those held out, every N iterations [default: 2000]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    sample_every: Option<u64>,

    /// How many names to print then, and at the end [default: 7]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    samples: Option<u64>,

    /// How many threads learn the names of a batch side by side [default: 1]
    ///
    /// Of use for large batches of large networks. Another number changes the last digits.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    threads: Option<usize>,

    /// The number type: single or double precision [default: f32]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<Precision>,

    /// Where to do the arithmetic: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,

    /// Where the gradient comes from [default: autograd]
    #[arg(long, value_name = "WAY")]
    backprop: Option<Way>,

    /// Do exactly what the notebook does, and print its log
    ///
    /// Double precision, NumPy's random numbers and the notebook's seeds. Flags beside it override
    /// what it sets. The model is saved only where -o says so, or --resume.
    #[arg(long)]
    notebook: bool,

    /// Add the notebook's debug lines to its log
    #[arg(long, requires = "notebook")]
    verbose: bool,

    #[command(flatten)]
    metrics: metrics::Flags,

    /// Print names alone: nothing on standard error but errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// A graph node for each op of each time step: the slow reference
    Unrolled,
    /// Candle's autograd over fused ops
    Autograd,
    /// No graph: backpropagation through time derived by hand, the fastest
    Hand,
}

#[derive(Clone, Copy, ValueEnum)]
enum Optimizer {
    /// Stochastic gradient descent, the notebook's
    Sgd,
    /// Adam with decoupled weight decay: it chooses each weight's step
    Adamw,
}

/// AdamW's steps are of the size of the learning rate, whatever the size of the gradient.
const ADAMW_LEARNING_RATE: f64 = 0.003;

impl Train {
    pub fn run(self) -> Result<(), Failure> {
        let device = self.device.open()?;
        let output = self.output_path();
        self.check_checkpoints(output.is_some())?;
        self.metrics.check([
            (output.as_deref(), "it is where the model goes"),
            (self.resume.as_deref(), "it is the run to go on with"),
            (self.list.path.as_deref(), "it is the list"),
        ])?;
        // Claimed before it is read, so that nobody else goes on from it meanwhile.
        let _claim = output.as_deref().map(Claim::new).transpose()?;
        if let Some(path) = &output {
            checkpoint::check_writable(path)?;
        }
        let begun = match &self.resume {
            Some(path) => Some(Begun::load(path, &device)?),
            None => None,
        };
        let mut settings = self.settings(begun.as_ref(), device)?;
        let case = match &begun {
            Some(begun) if !self.list.keep_case => begun.record.case,
            _ => self.list.case(),
        };
        let list = List { path: self.list.path.clone(), keep_case: case == Case::Keep };
        let corpus = list.read()?;
        if let Some(epochs) = self.epochs {
            settings.iterations = settings.iterations_of(epochs, &corpus)?;
        }
        let (mut training, changes) = match &begun {
            Some(begun) => {
                let path = self.list.path.as_deref();
                let new = begun.changes(&settings, case, &corpus, path, self.force)?;
                let training = Training::resume(&corpus, &settings, &begun.resume.trained)?;
                (training, [begun.resume.changes.clone(), new].concat())
            }
            None => (Training::new(&corpus, &settings)?, Vec::new()),
        };
        let done = begun.as_ref().map_or(0, |begun| begun.record.iterations);
        let bar = Bar::new(settings.iterations, done, self.quiet);
        let mut saver = match &output {
            Some(path) => {
                let replaces = self.replaces(path)?;
                let mut saver = Saver::new(path, replaces, &corpus, case, &settings, changes, &bar);
                if let Some(known) = begun.as_ref().and_then(|begun| begun.known.as_ref()) {
                    saver.also_knows(known);
                }
                Some(saver)
            }
            None => None,
        };
        let run = metrics::Run {
            corpus: &corpus,
            case,
            settings: &settings,
            list: self.list.path.as_deref(),
            model: output.as_deref(),
            device: self.device.to_string(),
        };
        let resumed_at = begun.is_some().then_some(done);
        let mut metrics = Metrics::open(&self.metrics, run, resumed_at, &bar)?;
        let signals = Signals::watch();
        if settings.randomness == Randomness::Notebook {
            let alone = output.is_none();
            let (examples, _) = training.sizes();
            let mut log =
                NotebookLog::new(bar.clone(), &corpus, case, self.verbose, examples, alone);
            self.learn(&mut training, &mut log, &mut metrics, &bar, &mut saver, &signals)?;
            log.finish()?;
            return metrics.finish();
        }

        let (names, held_out) = training.sizes();
        let held_out = match held_out {
            0 => String::new(),
            _ => format!(", and {held_out} held out"),
        };
        let names = format!("{names} names{held_out}");
        let characters = corpus.vocabulary().size() - 1;
        let (hidden, iterations) = (settings.hidden, settings.iterations);
        bar.say(&match done {
            0 => format!(
                "Learning {names}, written with {characters} characters: \
                 {hidden} hidden units, {iterations} iterations"
            ),
            _ => format!(
                "Going on after {done} of {iterations} iterations: {names}, \
                 written with {characters} characters, {hidden} hidden units"
            ),
        });
        let mut live = Live::new(bar.clone(), &corpus, case);
        let trained =
            self.learn(&mut training, &mut live, &mut metrics, &bar, &mut saver, &signals)?;
        self.print_new_names(&mut live, &corpus, &settings, &trained)?;
        if let Some(path) = &output {
            live.bar
                .say(&format!("\nSaved {0}; for more names: char-rnn sample {0}", path.display()));
        }
        live.finish()?;
        metrics.finish()
    }

    /// The settings: those of the command line, then those of the run that goes on.
    fn settings(&self, begun: Option<&Begun>, device: Device) -> char_rnn::Result<Settings> {
        let mut base = begun.map_or_else(Settings::default, |begun| begun.resume.settings.clone());
        // A run that is the notebook's already keeps what was given beside it.
        if self.notebook && base.randomness != Randomness::Notebook {
            let Settings { dtype, randomness, .. } = Settings::notebook();
            base = Settings { dtype, randomness, ..base };
        }
        let optimizer = match self.optimizer {
            Some(Optimizer::Sgd) => Algorithm::Sgd,
            Some(Optimizer::Adamw) => Algorithm::AdamW,
            None => base.optimizer,
        };
        let usual_rate = match optimizer {
            same if same == base.optimizer => base.learning_rate,
            Algorithm::AdamW => ADAMW_LEARNING_RATE,
            Algorithm::Sgd => Settings::default().learning_rate,
        };
        if self.weight_decay.is_some() && optimizer != Algorithm::AdamW {
            return Err(char_rnn::Error::Setting {
                name: "--weight-decay",
                value: self.weight_decay.unwrap_or_default().to_string(),
                rule: "it belongs to --optimizer adamw".to_string(),
            });
        }
        let settings = Settings {
            iterations: self.iterations.unwrap_or(base.iterations),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            hidden: self.hidden.unwrap_or(base.hidden),
            learning_rate: self.learning_rate.unwrap_or(usual_rate),
            clip: self.clip.unwrap_or(base.clip),
            optimizer,
            decay: self.decay.unwrap_or(base.decay),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            zero_state: self.zero_state || base.zero_state,
            validation: self.validation.unwrap_or(base.validation),
            patience: self.patience.or(base.patience),
            sample_every: self.sample_every.unwrap_or(base.sample_every),
            samples: self.samples.unwrap_or(base.samples),
            backprop: match self.backprop {
                Some(Way::Unrolled) => Backprop::Unrolled,
                Some(Way::Autograd) => Backprop::Autograd,
                Some(Way::Hand) => Backprop::Hand,
                None => base.backprop,
            },
            threads: self.threads.unwrap_or(base.threads),
            dtype: self.dtype.map_or(base.dtype, Precision::dtype),
            randomness: self.seed.map_or(base.randomness, Randomness::Seed),
            device,
        };
        settings.check()?;
        Ok(settings)
    }

    /// Where the model goes; the notebook saves none unless asked.
    fn output_path(&self) -> Option<PathBuf> {
        if let Some(path) = self.output.as_ref().or(self.resume.as_ref()) {
            return Some(path.clone());
        }
        if self.notebook {
            return None;
        }
        let stem = self.list.path.as_deref().and_then(Path::file_stem);
        let mut file = PathBuf::from(stem.unwrap_or("dinos".as_ref()));
        file.as_mut_os_string().push(".safetensors");
        Some(file)
    }

    fn check_checkpoints(&self, saves: bool) -> char_rnn::Result<()> {
        let rule = match self.checkpoint_every {
            Some(0) => "it must be at least 1",
            Some(_) if !saves => "the notebook's run is saved only where -o says so",
            _ => return Ok(()),
        };
        let value = self.checkpoint_every.unwrap_or_default().to_string();
        Err(char_rnn::Error::Setting { name: "--checkpoint-every", value, rule: rule.to_string() })
    }

    /// Whether there is a model at `path` that this run does not go on from. Refuses to replace an
    /// unfinished run.
    fn replaces(&self, path: &Path) -> char_rnn::Result<bool> {
        let same = |other: &PathBuf| same_file::is_same_file(other, path).unwrap_or(false);
        if !path.exists() || self.resume.as_ref().is_some_and(same) {
            return Ok(false);
        }
        let Ok(older) = checkpoint::load(path, &Device::Cpu) else {
            // An empty file is nobody's loss; a damaged model may be somebody's.
            return Ok(path.metadata().is_ok_and(|metadata| metadata.len() > 0));
        };
        match &older.resume {
            Ok(run) if run.is_unfinished() && !self.force => Err(char_rnn::Error::ModelFile {
                path: path.to_path_buf(),
                problem: format!(
                    "this run was stopped after {} of {} iterations; go on with --resume {}, \
                     choose another file with -o, or add --force to begin anew in its place",
                    older.record.iterations,
                    run.settings.iterations,
                    quoted(path)
                ),
            }),
            _ => Ok(true),
        }
    }

    /// Trains, saves and tells how it ended; if it diverges, says how to go on.
    fn learn(
        &self,
        training: &mut Training,
        observer: &mut dyn Observer,
        metrics: &mut Metrics,
        bar: &Bar,
        saver: &mut Option<Saver>,
        signals: &Signals,
    ) -> Result<Trained, Failure> {
        let every = self.checkpoint_every.into();
        let settings = metrics.settings();
        let ended = match saving::run(training, observer, metrics, bar, every, saver, signals) {
            Ok(trained) => {
                self.save(training, &trained, settings, bar, saver, signals).map(|()| trained)
            }
            Err(Failure::Library(error @ char_rnn::Error::Diverged { .. })) => {
                bar.finish();
                Err(Failure::Diverged(error, self.left_of(settings, saver.as_ref())))
            }
            Err(failure) => Err(failure),
        };
        metrics.end(&ended, training);
        ended
    }

    /// What there is of a run that diverged, and of what it was to replace.
    fn left_of(&self, settings: &Settings, saver: Option<&Saver>) -> String {
        let own = saver.filter(|saver| !saver.replaces()).map(Saver::path);
        let saved = own.into_iter().chain(self.resume.as_deref()).find_map(|path| {
            let saved = checkpoint::load(path, &Device::Cpu).ok()?;
            saved.resume.is_ok().then_some((path, saved.record.iterations))
        });
        let mut outcome = String::new();
        if let Some((path, iterations)) = saved {
            let command = resumption::command(path, self.list.path.as_deref(), self.device);
            outcome += &format!(
                "; {} holds the run after {iterations} of {} iterations; to go on from there: \
                 {command} --learning-rate {:?}",
                path.display(),
                settings.iterations,
                settings.learning_rate / 2.
            );
        }
        if let Some(saver) = saver.filter(|saver| saver.replaces()) {
            outcome += &format!("; the older model in {} is as it was", saver.path().display());
        }
        outcome + &saver.and_then(Saver::kept).map(kept_as).unwrap_or_default()
    }

    /// Saves the run as it ended; if a signal ended it, says how to go on.
    fn save(
        &self,
        training: &Training,
        trained: &Trained,
        settings: &Settings,
        bar: &Bar,
        saver: &mut Option<Saver>,
        signals: &Signals,
    ) -> Result<(), Failure> {
        bar.finish();
        if training.is_done() && trained.progress.iteration + 1 < settings.iterations {
            bar.say(&format!(
                "Ended after {} of {} iterations: the last {} looks found the held-out names no \
                 better",
                trained.progress.iteration + 1,
                settings.iterations,
                settings.patience.unwrap_or_default()
            ));
        }
        let stopped: Option<Signal> = signals.caught().filter(|_| !training.is_done());
        match (saver.as_mut(), stopped) {
            (Some(saver), None) => saver.save_finished(trained)?,
            (Some(saver), Some(_)) => saver.save_unfinished(trained)?,
            (None, _) => {}
        }
        // What is left to do can be done again.
        signals.let_go();
        let Some(signal) = stopped else { return Ok(()) };
        let (done, all) = (trained.progress.iteration + 1, settings.iterations);
        let outcome = match saver {
            None => "; nothing is saved, for want of -o".to_string(),
            Some(saver) => {
                let file = quoted(saver.path());
                let command =
                    resumption::command(saver.path(), self.list.path.as_deref(), self.device);
                let kept = saver.kept().map(kept_as);
                format!("; saved as {file}; to go on: {command}{}", kept.unwrap_or_default())
            }
        };
        Err(Failure::Stopped(signal, format!(" after {done} of {all} iterations{outcome}")))
    }

    /// Ends with names that are not in the list, each once.
    fn print_new_names(
        &self,
        live: &mut Live,
        corpus: &Corpus,
        settings: &Settings,
        trained: &Trained,
    ) -> Result<(), Failure> {
        let (model, vocabulary) = (trained.chosen(), corpus.vocabulary());
        let mut seen: HashSet<String> = corpus.names().iter().cloned().collect();
        let mut new = Vec::new();
        let found = pick(model, vocabulary, settings.randomness, settings.samples, |name| {
            let is_new = seen.insert(name.to_string());
            if is_new {
                new.push(name.to_string());
            }
            Ok(is_new)
        })?;
        let held_out = trained.validation.as_ref().map_or(String::new(), |validation| {
            let last = rounded(validation.loss);
            match validation.better() {
                None => format!(", held out {last}"),
                Some(best) => format!(
                    ", held out {last}; by the network of iteration {}, where that was {}",
                    best.iteration,
                    rounded(best.loss)
                ),
            }
        });
        live.bar.say(&format!(
            "New names, after {} iterations with the loss at {}{held_out}:",
            trained.progress.iteration + 1,
            rounded(trained.progress.smoothed)
        ));
        live.print(new.iter().map(String::as_str));
        if found < settings.samples {
            live.bar.say(&format!(
                "No more than {found} of {} were found: the network repeats the list, or itself",
                settings.samples
            ));
        }
        Ok(())
    }
}

fn kept_as(kept: &Path) -> String {
    format!("; the older model is kept as {}", kept.display())
}
