//! The log of a run: `--log`.

use super::args::DeviceName;
use super::error::{Failure, message};
use super::files::is_same_place;
use super::json_log::{End, JsonLog, Line};
use super::progress::Bar;
use crate::Error;
use crate::checkpoint::PROGRAM;
use crate::data::{Corpus, LetterCase};
use crate::model::PARAMETERS;
use crate::sample::SampledName;
use crate::train::{Progress, Stats, TrainConfig, Trainer};
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a line may wait in the buffer.
const FLUSH: Duration = Duration::from_secs(1);

/// What a failure to write the log during training means.
const CONTINUES: &str = "; training continues without it";

/// Requires that the log at `path` is none of the files in `taken`, each with the rule that it would
/// break.
pub fn check_path<'a>(
    path: &Path,
    taken: impl IntoIterator<Item = (Option<&'a Path>, &'static str)>,
) -> crate::Result<()> {
    let is_taken = |other: &Path| is_same_place(path, other);
    match taken.into_iter().find(|(other, _)| other.is_some_and(is_taken)) {
        Some((_, rule)) => Err(Error::setting("log", path.display(), rule)),
        None => Ok(()),
    }
}

/// The run that is saved and logged.
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
    path: Option<&'a Path>,
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
    /// Opens the log at `path`, if there is to be one; `before` is the last progress of a resumed run.
    pub fn open(
        path: Option<&'a Path>,
        run: Run<'a>,
        before: Option<Progress>,
        bar: &Bar,
    ) -> crate::Result<Self> {
        let iterations = before.map_or(0, |before| before.iteration + 1);
        let mut log = None;
        if let Some(path) = path {
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
        Ok(Self { path, run, bar, log, line, flushed, iterations, failed: false })
    }

    /// Hands all lines to the operating system.
    pub fn flush(&mut self) {
        self.flushed = Instant::now();
        self.write(CONTINUES, JsonLog::flush);
    }

    /// Logs how the run `ended`.
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
    }

    /// Fails if anything could not be written.
    pub fn finish(self) -> Result<(), Failure> {
        if self.failed { Err(Failure::AlreadyReported) } else { Ok(()) }
    }

    /// Writes to the log, and closes it after an error; `consequence` ends the error's message.
    fn write(&mut self, consequence: &str, write: impl FnOnce(&mut JsonLog) -> io::Result<()>) {
        let (Some(log), Some(path)) = (&mut self.log, self.path) else { return };
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
