//! The log and the picture of a run: `--log` and `--plot`.

use super::args::DeviceName;
use super::draw::{self, check_svg};
use super::error::{Failure, message};
use super::files::{self, is_same_place};
use super::flags::OUTPUT;
use super::json_log::{End, JsonLog, Line};
use super::progress::Bar;
use crate::Error;
use crate::checkpoint::PROGRAM;
use crate::data::{Corpus, LetterCase, shown};
use crate::model::PARAMETERS;
use crate::sample::SampledName;
use crate::train::{Progress, Stats, TrainConfig, Trainer};
use clap::Args;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a line may wait in the buffer.
const FLUSH: Duration = Duration::from_secs(1);

/// What a failure to write the log during training means.
const CONTINUES: &str = "; training continues without it";

/// What to write of a run.
#[derive(Args, Default)]
pub struct Flags {
    /// Draw losses, gradients and sampled names when training ends
    #[arg(long, value_name = "FILE.svg", help_heading = OUTPUT)]
    plot: Option<PathBuf>,

    /// Log iterations as JSON lines; only --resume appends to a log
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    log: Option<PathBuf>,
}

impl Flags {
    /// Requires that the files can be written and are none of those in `taken`, each with the rule
    /// that it would break.
    pub fn check<'a>(
        &'a self,
        taken: impl IntoIterator<Item = (Option<&'a Path>, &'static str)>,
    ) -> crate::Result<()> {
        let mut taken: Vec<_> = taken.into_iter().collect();
        for (name, path) in [("log", &self.log), ("plot", &self.plot)] {
            let Some(path) = path else { continue };
            let is_taken = |other: &Path| is_same_place(path, other);
            if let Some((_, rule)) = taken.iter().find(|(other, _)| other.is_some_and(is_taken)) {
                return Err(Error::setting(name, path.display(), *rule));
            }
            taken.push((Some(path), "it is where --log is written"));
        }
        if let Some(path) = &self.plot {
            check_svg(path, "plot")?;
            files::check_writable(path)?;
        }
        Ok(())
    }
}

/// The run that is saved, logged and drawn.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub corpus: &'a Corpus,
    pub case: LetterCase,
    pub config: &'a TrainConfig,
    /// The path of the list; `None` for the built-in one.
    pub list: Option<&'a Path>,
    /// The path of the model.
    pub model: Option<&'a Path>,
    pub device: DeviceName,
}

/// The first line of the log of a run, and of one resumed after `done` iterations.
fn settings_of(run: &Run, done: u64) -> Value {
    let Run { corpus, case, config, list, model, device } = run;
    let mut fields = config.fields();
    fields.extend([
        ("program".to_string(), json!(PROGRAM)),
        ("list".to_string(), json!(list.map(|path| path.display().to_string()))),
        ("list_sha256".to_string(), json!(corpus.digest())),
        ("names".to_string(), json!(corpus.names().len())),
        ("characters".to_string(), json!(corpus.vocabulary().size() - 1)),
        ("keep_case".to_string(), json!(*case == LetterCase::Keep)),
        ("model".to_string(), json!(model.map(|path| path.display().to_string()))),
        ("iterations_done".to_string(), json!(done)),
        ("device".to_string(), json!(device.to_string())),
    ]);
    fields.into()
}

/// Collects the measurements of each iteration and writes them to the log. A log that cannot be
/// written is reported once, and training continues without it.
pub struct Metrics<'a> {
    flags: &'a Flags,
    pub run: Run<'a>,
    bar: Bar,
    log: Option<JsonLog>,
    /// The measurements of the current iteration so far.
    line: Line,
    flushed: Instant,
    /// The number of iterations that are done.
    iterations: u64,
    failed: bool,
}

impl<'a> Metrics<'a> {
    /// Opens the log, if there is to be one; `before` is the last progress of a resumed run.
    pub fn open(
        flags: &'a Flags,
        run: Run<'a>,
        before: Option<Progress>,
        bar: &Bar,
    ) -> crate::Result<Self> {
        let iterations = before.map_or(0, |before| before.iteration + 1);
        let mut log = None;
        if let Some(path) = &flags.log {
            let (opened, cut) = JsonLog::open(path, before, &settings_of(&run, iterations))?;
            if cut {
                bar.say(&format!(
                    "{} is ahead of the model: cut off from iteration {iterations} on",
                    path.display()
                ));
            }
            log = Some(opened);
        }
        let (bar, line, flushed) = (bar.clone(), Line::default(), Instant::now());
        Ok(Self { flags, run, bar, log, line, flushed, iterations, failed: false })
    }

    /// Hands all lines to the operating system.
    pub fn flush(&mut self) {
        self.flushed = Instant::now();
        self.write(CONTINUES, JsonLog::flush);
    }

    /// Logs how the run `ended` and draws it.
    pub fn end<T>(&mut self, ended: &Result<T, Failure>, trainer: &Trainer) {
        let (end, because) = match ended {
            Ok(_) if trainer.is_done() => ("done", None),
            Ok(_) => ("stopped", None),
            Err(Failure::Stopped(signal, _)) => ("stopped", Some(signal.name().to_string())),
            Err(Failure::Diverged(error, _)) => ("diverged", Some(message(error))),
            Err(failure) => ("failed", Some(failure.to_string())),
        };
        let end = End { end, iterations: self.iterations, because };
        self.write("", |log| log.add(&end).and_then(|()| log.flush()));
        if let Err(error) = self.draw(trainer) {
            self.bar.warn(&format!("char-rnn: {}", message(&error)));
            self.failed = true;
        }
    }

    fn draw(&self, trainer: &Trainer) -> crate::Result<()> {
        let Some(path) = &self.flags.plot else { return Ok(()) };
        let Run { corpus, case, config, list, .. } = self.run;
        let title = match list.and_then(Path::file_name) {
            Some(name) => name.to_string_lossy(),
            None => "The built-in dinosaurs".into(),
        };
        let (names, history) = (corpus.names().len(), trainer.history());
        let run = draw::Run { title: &title, names, config, history };
        run.picture(|name| shown(name, case)).save(path)
    }

    /// Fails if anything could not be written.
    pub fn finish(self) -> Result<(), Failure> {
        if self.failed { Err(Failure::AlreadyReported) } else { Ok(()) }
    }

    /// Writes to the log, and closes it after an error; `consequence` ends the error's message.
    fn write(&mut self, consequence: &str, write: impl FnOnce(&mut JsonLog) -> io::Result<()>) {
        let (Some(log), Some(path)) = (&mut self.log, &self.flags.log) else { return };
        if let Err(source) = write(log) {
            let error = Error::write(path, source);
            self.bar.warn(&format!("char-rnn: {}{consequence}", message(&error)));
            (self.log, self.failed) = (None, true);
        }
    }
}

/// What an [`Observer`](crate::train::Observer) receives.
impl Metrics<'_> {
    pub fn gradients(&mut self, stats: &Stats) {
        self.line.gradients = Some(PARAMETERS.into_iter().zip(*stats).collect());
    }

    pub fn validation(&mut self, loss: f64) {
        self.line.validation = Some(loss);
    }

    pub fn samples(&mut self, names: &[SampledName]) {
        if self.log.is_none() {
            return;
        }
        let Run { corpus, case, .. } = self.run;
        let name = |sampled: &SampledName| corpus.vocabulary().show(&sampled.indices, case);
        self.line.names = Some(names.iter().map(name).collect());
    }

    /// Ends an iteration.
    pub fn iteration(&mut self, progress: &Progress) {
        let Progress { iteration, loss, smoothed } = *progress;
        self.iterations = iteration + 1;
        let line = std::mem::take(&mut self.line);
        let line = Line { iteration, loss, smoothed, ..line };
        self.write(CONTINUES, |log| log.add(&line));
        if self.log.is_some() && self.flushed.elapsed() >= FLUSH {
            self.flush();
        }
    }
}
