//! `char-rnn train`: train on a list.

use super::args::{DeviceName, List, STANDARD_INPUT, count, warnings, whole_number, with_ending};
use super::best;
use super::error::Failure;
use super::files::{FileLock, is_same_place};
use super::flags::{OPTIMIZATION, OUTPUT, RUNTIME, TrainFlags};
use super::metrics::{self, Metrics};
use super::notebook_log::NotebookLog;
use super::progress::{Bar, Live, rounded};
use super::resume::{self, ResumedRun, quoted};
use super::sample::{Sampled, sample_until};
use super::saving::{self, Saver};
use super::signals::{Signal, Signals};
use crate::Error;
use crate::checkpoint;
use crate::data::{Corpus, LetterCase, shown};
use crate::random::RngSource;
use crate::sample::{SampleOptions, max_length_for};
use crate::train::{Observer, TrainConfig, Trained, Trainer};
use candle_core::Device;
use clap::Args;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A list with fewer names is learned by heart with the default settings.
const FEW_NAMES: usize = 500;

/// Train on a list of names and save the model
#[derive(Args)]
#[command(after_help = "\
Notes:
  Names go to standard output, progress (iteration, smoothed loss in nats a name) to standard error.
  Ctrl-C stops after the iteration and saves the run, which --resume continues.
  A second Ctrl-C stops at once.

Examples:
  char-rnn train                                 train on the built-in dinosaurs
  char-rnn train towns.txt                       train on a list, save towns.safetensors
  char-rnn train --best towns.txt                better names, in a few seconds
  char-rnn train towns.txt --hidden 100 -o big.safetensors
  char-rnn train towns.txt --validation 0.1 --patience 5                    stop early
  char-rnn train --resume towns.safetensors towns.txt                       after Ctrl-C
  char-rnn train --resume towns.safetensors towns.txt --iterations 90000    train longer
  char-rnn train --notebook | diff - notebook.log")]
pub struct Train {
    #[command(flatten)]
    list: List,

    #[command(flatten)]
    flags: TrainFlags,

    /// Choose the settings for the best names; other flags override them
    #[arg(long, conflicts_with_all = ["resume", "notebook", "validation"])]
    #[arg(help_heading = OPTIMIZATION)]
    best: bool,

    /// Model file [default: NAMES.safetensors, in this folder; or --resume]
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    output: Option<PathBuf>,

    /// Continue the run in FILE, on the same list, as if it had never stopped
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    resume: Option<PathBuf>,

    /// Allow another list or configuration, or replace an unfinished run
    #[arg(long, help_heading = OUTPUT)]
    force: bool,

    /// Save the run every N iterations [default: once a minute]
    #[arg(long, value_name = "N", value_parser = whole_number::<u64>, help_heading = OUTPUT)]
    checkpoint_every: Option<u64>,

    /// Log iterations as JSON lines; only --resume appends to a log
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    log: Option<PathBuf>,

    /// Add the notebook's debug lines to its log
    #[arg(long, requires = "notebook", help_heading = OUTPUT)]
    verbose: bool,

    /// Print names only: nothing on standard error but errors
    #[arg(short, long, help_heading = OUTPUT)]
    quiet: bool,

    /// Device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = RUNTIME)]
    device: DeviceName,
}

impl Train {
    pub fn run(self) -> Result<(), Failure> {
        let device = self.device.open()?;
        let output = self.output_path()?;
        self.check_checkpoint_every(output.is_some())?;
        if let Some(log) = &self.log {
            let taken = [
                (output.as_deref(), "it is the model file"),
                (self.resume.as_deref(), "it is the run to resume"),
                (self.list.path.as_deref(), "it is the list"),
            ];
            metrics::check_path(log, taken)?;
        }
        // Locked before it is read, so that no other run continues it at the same time.
        let _lock = output.as_deref().map(FileLock::new).transpose()?;
        let resumed = self.resume.as_deref().map(|path| ResumedRun::load(path, &device));
        let resumed = resumed.transpose()?;
        if let Some(path) = &output {
            checkpoint::check_writable(path).map_err(|error| match error {
                Error::ModelFile { path, problem } => {
                    Error::model_file(&path, problem + "; choose another file with -o")
                }
                error => error,
            })?;
        }
        let before = resumed.as_ref().map(|resumed| &resumed.checkpoint);
        let mut config = self.flags.resolve(before.map(|before| &before.config))?;
        let case = match before {
            Some(before) if !self.list.keep_case => before.list.case,
            _ => self.list.case(),
        };
        let list = List { path: self.list.path.clone(), keep_case: case == LetterCase::Keep };
        let mut corpus = list.read()?;
        if let Some(resumed) = &resumed {
            corpus = resumed.adopt(corpus, self.list.path.as_deref())?;
        }
        let done = before.map_or(0, |before| before.iterations());
        let signals = Signals::watch();
        if self.best {
            let applied = |candidate: &TrainConfig| self.flags.resolve(Some(candidate));
            config = best::choose(&corpus, applied, &device, &signals, self.quiet)?;
        }
        self.flags.count_epochs(&mut config, &corpus, done)?;
        let (mut trainer, changes) = match &resumed {
            Some(resumed) => {
                let new = resumed.changes(&config, case, &corpus, self.force)?;
                let before = &resumed.checkpoint;
                let trainer = Trainer::resume(&corpus, &config, &before.trained, &device)?;
                (trainer, [before.changes.clone(), new].concat())
            }
            None => (Trainer::new(&corpus, &config, &device)?, vec![]),
        };
        let bar = Bar::new(config.iterations, done, self.quiet);
        let warnings = if resumed.is_some() { vec![] } else { warnings(&corpus) };
        for warning in warnings {
            bar.say(&warning);
        }
        let run = metrics::Run {
            corpus: &corpus,
            case,
            config: &config,
            list: self.list.path.as_deref(),
            model: output.as_deref(),
            device: self.device,
        };
        let mut saver = match &output {
            Some(path) => Some(Saver::new(path, self.replaces(path)?, run, changes, before, &bar)),
            None => None,
        };
        if resumed.as_ref().is_some_and(|resumed| resumed.has_trained_on_held_out(&trainer)) {
            bar.say(&format!(
                "Other names are held out from here on; the first {done} iterations trained on \
                 them, so that their loss is too low"
            ));
        }
        let progress = before.map(|before| before.trained.progress);
        let mut metrics = Metrics::open(self.log.as_deref(), run, progress, &bar)?;
        if config.seed == RngSource::Notebook {
            let alone = output.is_none();
            let mut log =
                NotebookLog::new(bar.clone(), &corpus, case, self.verbose, &trainer, alone);
            let trained =
                self.train(&mut trainer, &mut log, &mut metrics, &bar, &mut saver, &signals)?;
            if trained.validation.is_some() {
                bar.say(held_out_of(&trained).trim_start_matches(", "));
            }
            log.finish()?;
            return metrics.finish();
        }

        bar.say(&introduction(&trainer, &corpus, &config, done));
        let mut live = Live::new(bar.clone(), &corpus, case);
        let trained =
            self.train(&mut trainer, &mut live, &mut metrics, &bar, &mut saver, &signals)?;
        self.print_new_names(&mut live, &corpus, case, &config, &trained)?;
        if let Some(path) = &output {
            live.bar.say("");
            if corpus.names().len() < FEW_NAMES && !self.best {
                live.bar.say("The list is short: train --best makes better names from it");
            }
            if !self.quiet
                && let Some(baseline) = trainer.baseline()
            {
                live.bar.say(&best::comparison(&trained, &baseline));
            }
            let (file, quoted) = (path.display(), quoted(path));
            live.bar.say(&format!("Saved {file}; for more names: char-rnn sample {quoted}"));
        }
        live.finish()?;
        metrics.finish()
    }

    /// The model file; without -o the notebook's run is not saved.
    fn output_path(&self) -> crate::Result<Option<PathBuf>> {
        if let Some(path) = self.output.as_ref().or(self.resume.as_ref()) {
            return Ok(Some(path.clone()));
        }
        if self.flags.notebook {
            return Ok(None);
        }
        let list = self.list.path.as_deref().unwrap_or("dinos".as_ref());
        if list == Path::new(STANDARD_INPUT) {
            return Err(Error::Names {
                origin: "standard input".to_string(),
                problem: "this list has no name for its model: add `output`".to_string(),
            });
        }
        Ok(Some(with_ending(list, ".safetensors")))
    }

    fn check_checkpoint_every(&self, saves: bool) -> crate::Result<()> {
        let rule = match self.checkpoint_every {
            Some(0) => "it must be at least 1",
            Some(_) if !saves => "the notebook's run is saved only with -o",
            _ => return Ok(()),
        };
        Err(Error::setting("checkpoint_every", self.checkpoint_every.unwrap_or_default(), rule))
    }

    /// Whether there is a model at `path` that this run does not continue. Refuses to replace an
    /// unfinished run.
    fn replaces(&self, path: &Path) -> crate::Result<bool> {
        let same = |other: &PathBuf| is_same_place(other, path);
        if !path.exists() || self.resume.as_ref().is_some_and(same) {
            return Ok(false);
        }
        let Ok(older) = checkpoint::load(path, &Device::Cpu) else {
            // A damaged model is kept too; an empty file is not.
            return Ok(path.metadata().is_ok_and(|metadata| metadata.len() > 0));
        };
        if older.is_unfinished() && !self.force {
            let problem = format!(
                "this run was stopped after {} of {} iterations; continue it with --resume {}, \
                     choose another file with -o, or add --force to start anew in its place",
                older.iterations(),
                older.config.iterations,
                quoted(path)
            );
            return Err(Error::model_file(path, problem));
        }
        Ok(true)
    }

    /// Trains, saves and reports how it ended; after divergence, with how to continue.
    fn train(
        &self,
        trainer: &mut Trainer,
        observer: &mut dyn Observer,
        metrics: &mut Metrics,
        bar: &Bar,
        saver: &mut Option<Saver>,
        signals: &Signals,
    ) -> Result<Trained, Failure> {
        let every = self.checkpoint_every.into();
        let config = metrics.run.config;
        let ended = match saving::run(trainer, observer, metrics, bar, every, saver, signals) {
            Ok(trained) => {
                self.save(trainer, &trained, config, bar, saver, signals).map(|()| trained)
            }
            Err(Failure::Library(error @ Error::Diverged { .. })) => {
                bar.finish();
                Err(Failure::Diverged(error, self.what_is_left(config, saver.as_ref())))
            }
            Err(failure) => Err(failure),
        };
        metrics.end(&ended, trainer);
        ended
    }

    /// What is left of a run that diverged, and of the model that it was to replace.
    fn what_is_left(&self, config: &TrainConfig, saver: Option<&Saver>) -> String {
        let own = saver.filter(|saver| !saver.replaces()).map(Saver::path);
        let saved = own.into_iter().chain(self.resume.as_deref()).find_map(|path| {
            let saved = checkpoint::load(path, &Device::Cpu).ok()?;
            Some((path, saved.iterations(), saved.config.iterations))
        });
        let mut outcome = String::new();
        if let Some((path, done, all)) = saved {
            outcome +=
                &format!("; {} holds the run after {done} of {all} iterations", path.display());
            if own == Some(path) && saver.is_some_and(Saver::has_saved) {
                let command = resume::command(path, self.list.path.as_deref(), self.device);
                let rate = config.learning_rate / 2.;
                outcome += &format!("; to continue from there: {command} --learning-rate {rate:?}");
            } else {
                outcome += ", as it was before";
            }
        }
        if let Some(saver) = saver.filter(|saver| saver.replaces()) {
            outcome += &format!("; the older model in {} is as it was", saver.path().display());
        }
        outcome + &saver.and_then(Saver::kept).map(kept_as).unwrap_or_default()
    }

    /// Saves the run as it ended; after a signal, reports how to continue.
    fn save(
        &self,
        trainer: &Trainer,
        trained: &Trained,
        config: &TrainConfig,
        bar: &Bar,
        saver: &mut Option<Saver>,
        signals: &Signals,
    ) -> Result<(), Failure> {
        bar.finish();
        if trainer.is_done() && trained.progress.iteration + 1 < config.iterations {
            bar.say(&format!(
                "Stopped early, after {} of {} iterations: {} evaluations without improvement",
                trained.progress.iteration + 1,
                config.iterations,
                config.patience
            ));
        }
        let stopped: Option<Signal> = signals.caught().filter(|_| !trainer.is_done());
        match (saver.as_mut(), stopped) {
            (Some(saver), None) => saver.save_finished(trained)?,
            (Some(saver), Some(_)) => saver.save_unfinished(trained)?,
            (None, _) => {}
        }
        // The rest can be done again, and a signal may stop it.
        signals.restore_default();
        let Some(signal) = stopped else { return Ok(()) };
        let (done, all) = (trained.progress.iteration + 1, config.iterations);
        let outcome = match saver {
            None => "; nothing is saved without -o".to_string(),
            Some(saver) => {
                let file = quoted(saver.path());
                let command = resume::command(saver.path(), self.list.path.as_deref(), self.device);
                let kept = saver.kept().map(kept_as);
                format!("; saved as {file}; to continue: {command}{}", kept.unwrap_or_default())
            }
        };
        Err(Failure::Stopped(signal, format!(" after {done} of {all} iterations{outcome}")))
    }

    /// Prints names that are not in the list, each once.
    fn print_new_names(
        &self,
        live: &mut Live,
        corpus: &Corpus,
        case: LetterCase,
        config: &TrainConfig,
        trained: &Trained,
    ) -> Result<(), Failure> {
        let (model, vocabulary, seed) = (trained.chosen(), corpus.vocabulary(), config.seed);
        let mut seen: HashSet<String> =
            corpus.names().iter().map(|name| shown(name, case)).collect();
        let mut new = Vec::new();
        let max_length = max_length_for(corpus.longest());
        let options = SampleOptions { max_length, ..SampleOptions::default() };
        let accept = |sampled: Sampled| {
            let is_new = sampled.ended && seen.insert(sampled.name.clone());
            if is_new {
                new.push(sampled.name);
            }
            Ok(is_new)
        };
        let (found, _) =
            sample_until(model, vocabulary, case, seed, &options, config.samples, accept)?;
        let held_out = held_out_of(trained);
        live.bar.say(&format!(
            "New names, after {} with the loss at {}{held_out}:",
            count(trained.progress.iteration + 1, "iteration"),
            rounded(trained.progress.smoothed)
        ));
        live.print(&new);
        if found < config.samples {
            live.bar.say(&format!(
                "No more than {found} of {} were found: the others were in the list, repeated or \
                 cut off",
                config.samples
            ));
        }
        Ok(())
    }
}

/// The first line: what is trained.
fn introduction(trainer: &Trainer, corpus: &Corpus, config: &TrainConfig, done: u64) -> String {
    let (names, held_out) = trainer.sizes();
    let held_out = match held_out {
        0 => String::new(),
        _ => format!(", and {held_out} held out"),
    };
    let names = count(names as u64, "name");
    let characters = count(corpus.vocabulary().size() as u64 - 1, "character");
    let sizes = format!("{characters}, {}", count(config.hidden as u64, "hidden unit"));
    let iterations = count(config.iterations, "iteration");
    match done {
        0 => format!("Training on {names}{held_out}: {sizes}, {iterations}"),
        _ => format!("Continuing after {done} of {iterations}: {names}{held_out}, {sizes}"),
    }
}

/// The loss of the held-out names, if there are any, and that of the best network.
fn held_out_of(trained: &Trained) -> String {
    trained.validation.as_ref().map_or(String::new(), |validation| {
        let last = rounded(validation.loss);
        match validation.better() {
            None => format!(", held out {last}"),
            Some(best) => format!(
                ", held out {last}; by the best network, of iteration {}, with held out {}",
                best.iteration,
                rounded(best.loss)
            ),
        }
    })
}

fn kept_as(kept: &Path) -> String {
    format!("; the older model is kept as {}", kept.display())
}
