//! `char-rnn train`: learn a list.

use super::metrics::{self, Metrics};
use super::notebook_log::NotebookLog;
use super::progress::{Bar, Live, rounded};
use super::resumption::{self, Begun, quoted};
use super::sample::pick;
use super::saving::{self, Saver};
use super::settings::SettingsFlags;
use super::signals::{Signal, Signals};
use super::{DeviceName, Failure, List, whole_number};
use candle_core::Device;
use char_rnn::checkpoint;
use char_rnn::corpus::{Case, Corpus};
use char_rnn::output_file::Claim;
use char_rnn::random::Randomness;
use char_rnn::train::{Observer, Settings, Trained, Training};
use clap::Args;
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

    #[command(flatten)]
    settings: SettingsFlags,

    /// Where to do the arithmetic: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,

    /// Add the notebook's debug lines to its log
    #[arg(long, requires = "notebook")]
    verbose: bool,

    #[command(flatten)]
    metrics: metrics::Flags,

    /// Print names alone: nothing on standard error but errors
    #[arg(short, long)]
    quiet: bool,
}

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
        let base = begun.as_ref().map(|begun| &begun.resume.settings);
        let mut settings = self.settings.over(base, device)?;
        let case = match &begun {
            Some(begun) if !self.list.keep_case => begun.record.case,
            _ => self.list.case(),
        };
        let list = List { path: self.list.path.clone(), keep_case: case == Case::Keep };
        let corpus = list.read()?;
        let done = begun.as_ref().map_or(0, |begun| begun.record.iterations);
        self.settings.count_epochs(&mut settings, &corpus, done)?;
        let (mut training, changes) = match &begun {
            Some(begun) => {
                let path = self.list.path.as_deref();
                let new = begun.changes(&settings, case, &corpus, path, self.force)?;
                let training = Training::resume(&corpus, &settings, &begun.resume.trained)?;
                (training, [begun.resume.changes.clone(), new].concat())
            }
            None => (Training::new(&corpus, &settings)?, Vec::new()),
        };
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
        if begun.as_ref().is_some_and(|begun| begun.has_learned_others(&training)) {
            bar.say(&format!(
                "Other names are held out from here on; they were learned in the first {done} \
                 iterations, so that their loss is too low"
            ));
        }
        let before = begun.as_ref().map(|begun| begun.resume.trained.progress);
        let mut metrics = Metrics::open(&self.metrics, run, before, &bar)?;
        let signals = Signals::watch();
        if settings.randomness == Randomness::Notebook {
            let alone = output.is_none();
            let (examples, _) = training.sizes();
            let mut log =
                NotebookLog::new(bar.clone(), &corpus, case, self.verbose, examples, alone);
            let trained =
                self.learn(&mut training, &mut log, &mut metrics, &bar, &mut saver, &signals)?;
            if trained.validation.is_some() {
                bar.say(held_out_of(&trained).trim_start_matches(", "));
            }
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

    /// Where the model goes; the notebook saves none unless asked.
    fn output_path(&self) -> Option<PathBuf> {
        if let Some(path) = self.output.as_ref().or(self.resume.as_ref()) {
            return Some(path.clone());
        }
        if self.settings.notebook {
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
            Some((path, saved.record.iterations, saved.resume.ok()?.settings.iterations))
        });
        let mut outcome = String::new();
        if let Some((path, done, all)) = saved {
            outcome +=
                &format!("; {} holds the run after {done} of {all} iterations", path.display());
            if own == Some(path) && saver.is_some_and(Saver::has_saved) {
                let command = resumption::command(path, self.list.path.as_deref(), self.device);
                let rate = settings.learning_rate / 2.;
                outcome += &format!("; to go on from there: {command} --learning-rate {rate:?}");
            } else {
                outcome += ", as it was before";
            }
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
        let held_out = held_out_of(trained);
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

/// The loss of the held-out names, where there are any, and which network did best on them.
fn held_out_of(trained: &Trained) -> String {
    trained.validation.as_ref().map_or(String::new(), |validation| {
        let last = rounded(validation.loss);
        match validation.better() {
            None => format!(", held out {last}"),
            Some(best) => format!(
                ", held out {last}; by the network of iteration {}, where that was {}",
                best.iteration,
                rounded(best.loss)
            ),
        }
    })
}

fn kept_as(kept: &Path) -> String {
    format!("; the older model is kept as {}", kept.display())
}
