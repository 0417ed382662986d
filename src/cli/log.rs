//! `--log`: training in JSON lines.
//!
//! | line | |
//! | --- | --- |
//! | `{"settings": ...}` | the first of a run, and of each time that it is resumed |
//! | `{"iteration": ..., "loss": ..., "smoothed": ..., ...}` | an iteration; with `gradients`, `validation` and `names` where there are any |
//! | `{"end": ..., ...}` | the last: how the run ended |

use super::error::{Failure, message};
use super::job::Job;
use super::progress::Bar;
use crate::Error;
use crate::checkpoint::PROGRAM;
use crate::checkpoint::atomic::temporary_beside;
use crate::model::PARAMETERS;
use crate::sample::SampledName;
use crate::train::{GradientStats, Observer, Progress, Stats};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a line may wait in the buffer.
const FLUSH: Duration = Duration::from_secs(1);

/// What a failure to write the log during training means.
const CONTINUES: &str = "; training continues without it";

/// The line of an iteration.
#[derive(Serialize, Default)]
struct Iteration {
    iteration: u64,
    loss: f64,
    smoothed: f64,
    /// By the names of the tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    gradients: Option<BTreeMap<&'static str, GradientStats>>,
    /// The loss of the held-out names.
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<f64>,
    /// The names that were sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Vec<String>>,
}

/// The last line of a run.
#[derive(Serialize)]
struct End {
    /// `done`, `stopped`, `diverged` or `failed`.
    end: &'static str,
    /// How many iterations are done, counted from the very first.
    iterations: u64,
    /// The signal or the error that ended the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
}

/// The first line of the log of a run, and of one resumed after `done` iterations.
fn settings_of(job: &Job, done: u64) -> Value {
    let Job { corpus, config, list, model, device } = job;
    let path = |path: &Option<&Path>| json!(path.map(|path| path.display().to_string()));
    let mut fields = config.fields();
    fields.extend([
        ("program".to_string(), json!(PROGRAM)),
        ("list".to_string(), path(list)),
        ("list_sha256".to_string(), json!(corpus.digest())),
        ("names".to_string(), json!(corpus.names().len())),
        ("characters".to_string(), json!(corpus.vocabulary().size() - 1)),
        ("case".to_string(), json!(corpus.case())),
        ("lower_case".to_string(), json!(corpus.spelling().is_lower())),
        ("model".to_string(), path(model)),
        ("iterations_done".to_string(), json!(done)),
        ("device".to_string(), json!(device.to_string())),
    ]);
    json!({ "settings": fields })
}

/// Writes the measurements of each iteration to the log, if there is one. A log that cannot be written
/// is reported once, and training continues without it.
pub struct Log<'a> {
    path: &'a Path,
    job: Job<'a>,
    bar: Bar,
    /// None without a log, and after it has failed.
    file: Option<BufWriter<File>>,
    /// The measurements of the current iteration so far.
    line: Iteration,
    flushed: Instant,
    /// The number of iterations that are done.
    iterations: u64,
    failed: bool,
}

impl<'a> Log<'a> {
    /// Opens the log at `path`; `before` is the last progress of a resumed run.
    pub fn open(
        path: Option<&'a Path>,
        job: Job<'a>,
        before: Option<Progress>,
        bar: &Bar,
    ) -> crate::Result<Self> {
        let iterations = before.map_or(0, |before| before.iteration + 1);
        let mut file = None;
        if let Some(path) = path {
            let (opened, cut) = open(path, before, &settings_of(&job, iterations))?;
            if cut {
                let path = path.display();
                bar.say(&format!(
                    "{path} is ahead of the model: cut off from iteration {iterations} on"
                ));
            }
            file = Some(opened);
        }
        let (path, bar) = (path.unwrap_or("".as_ref()), bar.clone());
        let (line, flushed) = (Iteration::default(), Instant::now());
        Ok(Self { path, job, bar, file, line, flushed, iterations, failed: false })
    }

    /// Hands all lines to the operating system.
    pub fn flush(&mut self) {
        self.flushed = Instant::now();
        self.write(CONTINUES, BufWriter::flush);
    }

    /// Logs how the run ended, as far as it should.
    pub fn end<T>(&mut self, ended: &Result<T, Failure>, is_done: bool) {
        let (end, because) = match ended {
            Ok(_) if is_done => ("done", None),
            Ok(_) => ("stopped", None),
            Err(Failure::Stopped(signal, _)) => ("stopped", Some(signal.to_string())),
            Err(Failure::Diverged(error, _)) => ("diverged", Some(message(error))),
            Err(failure) => ("failed", Some(failure.to_string())),
        };
        let end = End { end, iterations: self.iterations, because };
        self.write("", |file| add(file, &end).and_then(|()| file.flush()));
    }

    /// Fails if the log could not be written.
    pub fn finish(&self) -> Result<(), Failure> {
        if self.failed { Err(Failure::AlreadyReported) } else { Ok(()) }
    }

    /// Writes to the log, and closes it after an error; `consequence` ends the error's message.
    fn write(
        &mut self,
        consequence: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) {
        let Some(file) = &mut self.file else { return };
        if let Err(source) = write(file) {
            let error = Error::write(self.path, source);
            self.bar.warn(&format!("char-rnn: {}{consequence}", message(&error)));
            (self.file, self.failed) = (None, true);
        }
    }
}

impl Observer for Log<'_> {
    fn gradients(&mut self, _: &Progress, stats: &Stats) {
        self.line.gradients = Some(PARAMETERS.into_iter().zip(*stats).collect());
    }

    fn validation(&mut self, _: &Progress, loss: f64) {
        self.line.validation = Some(loss);
    }

    fn samples(&mut self, _: &Progress, names: &[SampledName]) {
        if self.file.is_some() {
            let (vocabulary, spelling) = (self.job.corpus.vocabulary(), self.job.corpus.spelling());
            let name = |sampled: &SampledName| vocabulary.show(&sampled.indices, spelling);
            self.line.names = Some(names.iter().map(name).collect());
        }
    }

    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        let Progress { iteration, loss, smoothed } = *progress;
        self.iterations = iteration + 1;
        let line = std::mem::take(&mut self.line);
        let line = Iteration { iteration, loss, smoothed, ..line };
        self.write(CONTINUES, |file| add(file, &line));
        if self.file.is_some() && self.flushed.elapsed() >= FLUSH {
            self.flush();
        }
        ControlFlow::Continue(())
    }
}

/// Refuses a `path` where no log can be written, or is one that only a resumed run `appends` to.
pub fn check(path: &Path, appends: bool) -> crate::Result<()> {
    match path.metadata() {
        Ok(found) if found.is_dir() || found.is_file() && !appends => Err(refusal(
            path,
            "it exists already, and only a resumed run (--resume) appends to a log",
        )),
        Ok(_) => Ok(()),
        Err(_) if path.is_symlink() => Err(refusal(path, "it is a broken link")),
        Err(_) => temporary_beside(path).map(|_| ()),
    }
}

fn refusal(path: &Path, problem: &str) -> Error {
    Error::write(path, io::Error::other(format!("{problem}; choose another file")))
}

/// Opens the log at `path` and writes the line of `settings`. An existing file is refused, unless the
/// run is resumed after the progress `before` and the file is its log up to there at least: then the
/// lines of later iterations, which will run again, are cut off. Also returns whether there were any.
fn open(
    path: &Path,
    before: Option<Progress>,
    settings: &Value,
) -> crate::Result<(BufWriter<File>, bool)> {
    check(path, before.is_some())?;
    let cannot_write = |source: io::Error| Error::write(path, source);
    let found = path.metadata();
    let is_file = found.as_ref().is_ok_and(|found| found.is_file());
    // A pipe or a terminal is written only: its reader has the earlier lines.
    let mut options = File::options();
    options.read(is_file).write(true).create_new(found.is_err());
    let mut file = options.open(path).map_err(cannot_write)?;
    // A new file is locked too. Not every file system has locks.
    let locked = file.try_lock();
    if is_file && matches!(locked, Err(TryLockError::WouldBlock)) {
        return Err(refusal(path, "another char-rnn is writing it"));
    }
    let mut cut = false;
    if let Some(before) = before.filter(|_| is_file) {
        let length = file.metadata().map_err(cannot_write)?.len();
        let kept = kept(BufReader::new(&file), &before, length).map_err(cannot_write)?;
        let kept = kept.ok_or_else(|| {
            let iteration = before.iteration;
            refusal(
                path,
                &format!(
                    "it is not the log of this run, or does not reach iteration {iteration}, the \
                     last that was saved"
                ),
            )
        })?;
        cut = kept < length;
        file.set_len(kept).map_err(cannot_write)?;
        file.seek(SeekFrom::Start(kept)).map_err(cannot_write)?;
    }
    let mut file = BufWriter::with_capacity(1 << 16, file);
    if let Err(source) = add(&mut file, settings).and_then(|()| file.flush()) {
        if found.is_err() {
            // On a full disk: an empty file would be refused next time.
            let _ = std::fs::remove_file(path);
        }
        return Err(cannot_write(source));
    }
    Ok((file, cut))
}

/// Adds a line, in one piece, so that the buffer is flushed between lines.
fn add(file: &mut BufWriter<File>, line: &impl Serialize) -> io::Result<()> {
    file.write_all(&[&serde_json::to_vec(line)?[..], b"\n"].concat())
}

/// The length in bytes of a log, which is `length` in all, up to the iteration of `before`, the last
/// that was saved; None where it is not a log of that run up to there.
fn kept(mut log: impl BufRead, before: &Progress, length: u64) -> io::Result<Option<u64>> {
    #[derive(Deserialize)]
    struct Read {
        iteration: Option<u64>,
        smoothed: Option<f64>,
    }
    if length > 0 && !log.fill_buf()?.starts_with(b"{\"settings\":") {
        return Ok(None);
    }
    let (mut kept, mut line, mut last) = (0, Vec::new(), None);
    loop {
        line.clear();
        let bytes = log.read_until(b'\n', &mut line)? as u64;
        // What is no line of a log, such as the part of a line that a killed run leaves, is cut off.
        match serde_json::from_slice::<Read>(&line) {
            Ok(Read { iteration, .. }) if iteration > Some(before.iteration) => break,
            Ok(Read { iteration, smoothed }) if line.ends_with(b"\n") => {
                kept += bytes;
                last = iteration.map(|iteration| (iteration, smoothed)).or(last);
            }
            _ => break,
        }
    }
    // Runs with the same smoothed loss, to the last bit, are the same. A log without iterations is
    // that of a run that was stopped before its first.
    let is_of_run =
        last.map_or(kept == length, |last| last == (before.iteration, Some(before.smoothed)));
    Ok(is_of_run.then_some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "{\"settings\":{}}\n{\"iteration\":0,\"smoothed\":0.1}\n\
                       {\"iteration\":1,\"smoothed\":0.2}\n{\"end\":\"stopped\"}\n\
                       {\"settings\":{}}\n{\"iteration\":2,\"smoothed\":0.3}\n";

    /// The progress after these iterations of the run of [`LOG`].
    fn after(iterations: u64) -> Progress {
        let iteration = iterations - 1;
        Progress { iteration, loss: 0., smoothed: [0.1, 0.2, 0.3, 0.4][iteration as usize] }
    }

    #[test]
    fn a_log_is_kept_up_to_the_last_iteration_that_was_saved_and_any_other_file_refused() {
        let until = |part: &str| Some(&LOG[..LOG.find(part).unwrap()]);
        for (log, iterations, expected) in [
            (LOG, 3, Some(LOG)),
            (LOG, 2, until("{\"iteration\":2")),
            (LOG, 1, until("{\"iteration\":1")),
            (&format!("{LOG}{{\"iterat"), 3, Some(LOG)),
            (&format!("{LOG}{{\"iteration\":3}}"), 3, Some(LOG)),
            (&format!("{LOG}\0\0\0\n"), 3, Some(LOG)),
            ("", 3, Some("")),
            ("{\"settings\":{}}\n", 3, Some("{\"settings\":{}}\n")),
            // A gap, another run, a damaged line, other files.
            (LOG, 4, None),
            (&LOG.replace("0.2", "0.20000000000000004"), 2, None),
            (&LOG.replace("{\"end\"", "{end"), 3, None),
            ("anna\nbob\n", 3, None),
            ("{\"iteration\":0}\n", 3, None),
            ("{}", 3, None),
            ("[1, 2]\n", 3, None),
            ("\n", 3, None),
            ("{\"settings\":{}}\nanna\n", 3, None),
        ] {
            let kept = kept(log.as_bytes(), &after(iterations), log.len() as u64).unwrap();
            assert_eq!(kept.map(|kept| &log[..kept as usize]), expected, "{log} {iterations}");
        }
    }

    #[test]
    fn a_log_is_written_by_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let _first = open(&path, None, &json!({"settings": 1})).unwrap();
        let second = open(&path, Some(after(1)), &json!({"settings": 1}));
        assert!(second.unwrap_err().to_string().contains("another char-rnn"));
    }
}
