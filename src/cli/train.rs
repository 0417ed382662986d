//! `char-rnn train`: train on a list.

use super::args::{
    List, STANDARD_INPUT, count, list_bytes, open_device, warning, whole_number, with_ending,
};
use super::best::{self, Measuring};
use super::error::{Failure, message};
use super::files::{FileLock, is_same_place};
use super::flags::{OPTIMIZATION, OUTPUT, RUNTIME, TrainFlags};
use super::job::Job;
use super::log::{self, Log};
use super::notebook_log::NotebookLog;
use super::progress::{Bar, Live, rounded};
use super::resume::{ResumedRun, quoted};
use super::sampled::{Sampled, Source};
use super::saving::Saver;
use super::session::Session;
use super::signals::Signals;
use crate::Error;
use crate::checkpoint::{self, Run};
use crate::data::{Corpus, KnownNames, LetterCase, Restored};
use crate::random::RngSource;
use crate::sample::{SampleOptions, max_length_for};
use crate::train::{TrainConfig, Trained, Trainer};
use candle_core::Device;
use clap::Args;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use unicode_width::UnicodeWidthStr;

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
  char-rnn train --best towns.txt                better names, which takes longer
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
    #[arg(long, conflicts_with_all = ["resume", "notebook", "validation", "patience"])]
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
    device: String,
}

/// What there is before training.
struct Prepared {
    resumed: Option<ResumedRun>,
    /// Whether the output is a model that the run does not continue.
    replaces: bool,
    corpus: Corpus,
    config: TrainConfig,
    measured: Option<Measuring>,
}

impl Train {
    pub fn run(self) -> Result<(), Failure> {
        let device = open_device(&self.device)?;
        let output = self.output_path()?;
        self.check_checkpoint_every(output.is_some())?;
        self.check_log(output.as_deref())?;
        // Locked before it is read, so that no other run continues it at the same time.
        let lock = output.as_deref().map(FileLock::new).transpose()?;
        let (bar, signals) = (Bar::new(self.quiet), Signals::watch(lock));
        let nothing_saved = "; nothing is saved";
        let Prepared { resumed, replaces, corpus, config, measured } =
            signals.interrupt(nothing_saved, &bar, || {
                self.prepare(output.as_deref(), &device, &bar)
            })?;
        let before = resumed.as_ref().map(|resumed| &resumed.run);
        let trainer = || match before {
            Some(before) => Trainer::resume(&corpus, &config, &before.trained, &device),
            None => Trainer::new(&corpus, &config, &device),
        };
        let changes = match &resumed {
            Some(resumed) => resumed.changes(&config, &corpus, self.force)?,
            None => vec![],
        };
        let trainer = signals.interrupt(nothing_saved, &bar, trainer)?;
        let (list, model) = (self.list.path.as_deref(), output.as_deref());
        let job = Job { corpus: &corpus, config: &config, list, model, device: &self.device };
        match &resumed {
            Some(resumed) => resumed.warn(&trainer, &bar),
            None => {
                let lines = warning(&corpus).into_iter().chain(capitals(&corpus));
                lines.for_each(|line| bar.say(&line));
            }
        }
        let saver = model.map(|path| Saver::new(path, replaces, job, changes, before));
        let progress = before.map(|before| before.trained.progress);
        let log = Log::open(self.log.as_deref(), job, progress, &bar)?;
        let done = before.map_or(0, Run::iterations);
        bar.start(config.iterations, done);
        let every = self.checkpoint_every;
        let session = Session { job, trainer, bar, log, saver, every, signals };
        match config.seed {
            RngSource::Notebook => self.train_notebook(session, done),
            RngSource::Seed(_) => self.train(session, done, measured),
        }
    }

    /// Reads the run to resume and the list, and chooses the settings.
    fn prepare(
        &self,
        output: Option<&Path>,
        device: &Device,
        bar: &Bar,
    ) -> Result<Prepared, Failure> {
        let resumed = self.resume.as_deref().map(|path| ResumedRun::load(path, device));
        let resumed = resumed.transpose()?;
        let before = resumed.as_ref().map(|resumed| &resumed.run);
        let replaces = output.map_or(Ok(false), |path| self.replaces(path))?;
        let mut config = self.flags.resolve(before.map(|before| &before.config))?;
        let corpus = self.read_list(resumed.as_ref())?;
        let mut measured = None;
        if self.best {
            let applied = |candidate: &TrainConfig| {
                let mut config = self.flags.resolve(Some(candidate))?;
                self.flags.set_length(&mut config, &corpus, 0, true)?;
                Ok(config)
            };
            let choice = best::choose(&corpus, applied, device, bar)?;
            (config, measured) = (choice.config, choice.measured);
        } else {
            let has_length = self.flags.notebook || resumed.is_some();
            let done = before.map_or(0, Run::iterations);
            self.flags.set_length(&mut config, &corpus, done, has_length)?;
        }
        Ok(Prepared { resumed, replaces, corpus, config, measured })
    }

    /// Trains with the notebook's log on standard output.
    fn train_notebook(&self, mut session: Session, done: u64) -> Result<(), Failure> {
        let Session { job, trainer, bar, .. } = &session;
        let mut names = NotebookLog::new(bar.clone(), *job, trainer.sizes().0 as u64);
        if self.verbose {
            names.write_debug_lines(done == 0);
        }
        let trained = session.train(&mut names)?;
        if trained.validation.is_some() {
            session.bar.say(held_out_of(&trained).trim_start_matches(", "));
        }
        names.finish()?;
        session.log.finish()
    }

    /// Trains, prints names on the way, and new ones at the end.
    fn train(
        &self,
        mut session: Session,
        done: u64,
        measured: Option<Measuring>,
    ) -> Result<(), Failure> {
        let job = session.job;
        session.bar.say(&introduction(&session.trainer, &job, done));
        let mut live = Live::new(session.bar.clone(), job.corpus);
        let trained = session.train(&mut live)?;
        if let Some(saver) = &session.saver {
            print_new_names(&mut live, &job, &trained, saver.known())?;
            live.bar.say("");
            let report = match measured.map(Measuring::wait) {
                Some(Ok((_, comparison))) => Some(comparison),
                Some(Err(error)) => Some(format!("No loss of held-out names: {}", message(&error))),
                None if self.quiet => None,
                None => {
                    let baseline = session.trainer.baseline();
                    baseline.map(|baseline| best::comparison(&trained, &baseline))
                }
            };
            report.iter().for_each(|report| live.bar.say(report));
            live.bar.say(&format!("Saved {}", saver.path().display()));
            let commands = self.next_commands(saver.path());
            let width = commands.iter().map(|(command, _)| command.width()).max().unwrap_or(0);
            for (command, purpose) in commands {
                let padding = " ".repeat(width - command.width());
                live.bar.say(&format!("  {command}{padding}    # {purpose}"));
            }
        }
        live.finish()?;
        session.log.finish()
    }

    /// The commands to paste after a run that was saved to `path`, and what they are for.
    fn next_commands(&self, path: &Path) -> Vec<(String, &'static str)> {
        let mut commands = Vec::new();
        let list = self.list.path.as_deref();
        // Standard input cannot be read again.
        if !self.best && self.resume.is_none() && list != Some(Path::new(STANDARD_INPUT)) {
            let mut command = "char-rnn train --best".to_string();
            command.extend(self.list.case.map(|case| format!(" --case {case}")));
            command.extend(list.map(|list| format!(" {}", quoted(list))));
            command.extend(self.output.as_deref().map(|output| format!(" -o {}", quoted(output))));
            commands.push((command, "better names, in its place"));
        }
        let model = quoted(path);
        commands.push((format!("char-rnn sample {model}"), "more names"));
        commands.push((format!("char-rnn export {model} --format html"), "a page for the browser"));
        commands
    }

    /// The list, as a resumed run has read it.
    fn read_list(&self, resumed: Option<&ResumedRun>) -> Result<Corpus, Failure> {
        let (bytes, origin) = list_bytes(self.list.path.as_deref())?;
        let parse = |case| Corpus::parse(&bytes, &origin, case);
        let Some(resumed) = resumed else {
            let notebook = self.flags.notebook.then_some(LetterCase::Lower);
            return Ok(parse(self.list.case.or(notebook).unwrap_or_default())?);
        };
        let before = &resumed.run.list;
        let mut corpus = parse(self.list.case.unwrap_or(before.case))?;
        // Another list, to which the rule does not apply as it did.
        if self.list.case.is_none() && corpus.spelling().is_lower() != before.spelling.is_lower() {
            let lower = before.spelling.is_lower();
            corpus = parse(if lower { LetterCase::Lower } else { LetterCase::Keep })?;
        }
        resumed.adopt(corpus, self.list.path.as_deref())
    }

    /// Requires that the log is none of the other files of the run.
    fn check_log(&self, output: Option<&Path>) -> crate::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        for (other, rule) in [
            (output, "it is the model file"),
            (self.resume.as_deref(), "it is the run to resume"),
            (self.list.path.as_deref(), "it is the list"),
        ] {
            if other.is_some_and(|other| is_same_place(log, other)) {
                return Err(Error::setting("log", log.display(), rule));
            }
        }
        log::check(log, self.resume.is_some())
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

    /// Whether there is a model at `path` that this run does not continue. Refuses what cannot be
    /// written, and to replace an unfinished run.
    fn replaces(&self, path: &Path) -> crate::Result<bool> {
        check_writable(path)?;
        let same = |other: &PathBuf| is_same_place(other, path);
        if !path.exists() || self.resume.as_ref().is_some_and(same) {
            return Ok(false);
        }
        let older = checkpoint::load(path, &Device::Cpu).ok().and_then(|older| older.run);
        if let Some(older) = older.filter(|older| older.is_unfinished() && !self.force) {
            let problem = format!(
                "this run was stopped after {} of {} iterations; continue it with --resume {}, \
                 choose another file with -o, or add --force to start anew in its place",
                older.iterations(),
                older.config.iterations,
                quoted(path)
            );
            return Err(Error::model_file(path, problem));
        }
        // A damaged model is kept too; an empty file is not.
        Ok(path.metadata().is_ok_and(|metadata| metadata.len() > 0))
    }
}

/// As [`checkpoint::check_writable`], with the flag that helps.
fn check_writable(path: &Path) -> crate::Result<()> {
    checkpoint::check_writable(path).map_err(|error| match error {
        Error::ModelFile { path, problem } => {
            Error::model_file(&path, problem + "; choose another file with -o")
        }
        error => error,
    })
}

/// Prints names that are not `known`, each once.
fn print_new_names(
    live: &mut Live,
    job: &Job,
    trained: &Trained,
    known: &KnownNames,
) -> Result<(), Failure> {
    let Job { corpus, config, .. } = *job;
    let (model, wanted, spelling) = (trained.chosen(), config.samples, corpus.spelling());
    let (mut new, mut seen) = (Vec::new(), HashSet::new());
    let max_length = max_length_for(corpus.longest());
    let options = SampleOptions { max_length, ..SampleOptions::default() };
    let accept = |Sampled { name, ended, .. }: Sampled| {
        let is_known = name.is_empty() || known.contains(&name);
        let is_new = ended && !is_known && seen.insert(name.clone());
        if is_new {
            new.push(name);
        }
        Ok(ControlFlow::Continue(is_new))
    };
    let (vocabulary, rng) = (corpus.vocabulary(), config.seed);
    let source = Source { model, vocabulary, spelling, rng, options };
    let found = source.sample(wanted, wanted.saturating_mul(100).saturating_add(10_000), accept)?;
    live.bar.say(&format!(
        "New names, after {} with the loss at {}{}:",
        count(trained.progress.iteration + 1, "iteration"),
        rounded(trained.progress.smoothed),
        held_out_of(trained)
    ));
    live.print(&new);
    if found < wanted {
        live.bar.say(&format!(
            "No more than {found} of {wanted} were found: the others were in the list, repeated or \
             cut off"
        ));
    }
    Ok(())
}

/// What becomes of the capitals of a list, where its own rule decides.
fn capitals(corpus: &Corpus) -> Option<String> {
    let Restored { names, of } = corpus.restored()?;
    Some(match corpus.spelling().is_lower() {
        true => format!(
            "Names are learned in lower case; their capitals are restored: {names} of {of} names \
             come back"
        ),
        false => format!(
            "Capitals are learned as characters: if they were restored, {names} of {of} names would \
             come back"
        ),
    })
}

/// The first line: what is trained.
fn introduction(trainer: &Trainer, job: &Job, done: u64) -> String {
    let (Job { corpus, config, .. }, (names, held_out)) = (job, trainer.sizes());
    let held_out = match held_out {
        0 => String::new(),
        _ => format!(", and {held_out} held out"),
    };
    let names = count(names as u64, "name");
    let characters = count(corpus.vocabulary().size() as u64 - 1, "character");
    let sizes = format!("{characters}, {}", count(config.hidden as u64, "hidden unit"));
    let iterations = count(config.iterations, "iteration");
    // Not the loss of names, as it is elsewhere.
    let loss = match (config.smoothing > 0., config.dropout > 0.) {
        (false, false) => "",
        (true, false) => "; the loss is that of soft targets",
        (false, true) => "; the loss is that with dropout",
        (true, true) => "; the loss is that of soft targets with dropout",
    };
    match done {
        0 => format!("Training on {names}{held_out}: {sizes}, {iterations}{loss}"),
        _ => format!("Continuing after {done} of {iterations}: {names}{held_out}, {sizes}{loss}"),
    }
}

/// The loss of the held-out names, if there are any, and that of the best network.
fn held_out_of(trained: &Trained) -> String {
    let Some(validation) = &trained.validation else { return String::new() };
    let best = validation.better().map(|best| {
        let (iteration, loss) = (best.iteration, rounded(best.loss));
        format!("; by the best network, of iteration {iteration}, with held out {loss}")
    });
    format!(", held out {}{}", rounded(validation.loss), best.unwrap_or_default())
}
