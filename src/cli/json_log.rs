//! A log of training in JSON lines.
//!
//! | line | |
//! | --- | --- |
//! | `{"settings": ...}` | the first of a run, and of each time that it is resumed |
//! | `{"iteration": ..., "loss": ..., "smoothed": ..., ...}` | an iteration; with `gradients`, `validation` and `names` where there are any |
//! | `{"end": ..., ...}` | the last: how the run ended |

use crate::Error;
use crate::text::excerpt;
use crate::train::{GradientStats, Progress};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// The line of an iteration.
#[derive(Serialize, Default)]
pub struct Line {
    pub iteration: u64,
    pub loss: f64,
    pub smoothed: f64,
    /// By the names of the tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradients: Option<BTreeMap<&'static str, GradientStats>>,
    /// The loss of the held-out names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// The names that were sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// The last line of a run.
#[derive(Serialize)]
pub struct End {
    /// `done`, `stopped`, `diverged` or `failed`.
    pub end: &'static str,
    /// How many iterations are done, counted from the very first.
    pub iterations: u64,
    /// The signal or the error that ended the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// An open log.
pub struct JsonLog {
    file: BufWriter<File>,
    line: Vec<u8>,
}

impl JsonLog {
    /// Opens the log at `path` and writes a line of `settings`. An existing file is refused, unless
    /// the run is resumed after the progress `before` and the file is its log up to there at least:
    /// then the lines of later iterations, which will run again, are cut off. Also returns whether
    /// there were any.
    pub fn open(
        path: &Path,
        before: Option<Progress>,
        settings: &Value,
    ) -> crate::Result<(Self, bool)> {
        let cannot_write = |source: io::Error| Error::write(path, source);
        let refuse = |problem: &str| cannot_write(io::Error::other(problem));
        let mut cut = false;
        let found = path.metadata();
        let file = match (&found, before) {
            // A pipe or a terminal: its reader has the earlier lines.
            (Ok(found), _) if !found.is_file() && !found.is_dir() => {
                File::options().write(true).open(path)
            }
            (Ok(found), Some(_)) if found.is_file() => {
                File::options().read(true).write(true).open(path)
            }
            (Ok(_), _) => {
                return Err(refuse(
                    "it exists already, and only a resumed run (--resume) appends to a log; choose \
                     another file",
                ));
            }
            (Err(_), _) if path.is_symlink() => {
                return Err(refuse("it is a broken link; choose another file"));
            }
            (Err(_), _) => File::create_new(path),
        };
        let mut file = file.map_err(cannot_write)?;
        let is_file = || file.metadata().is_ok_and(|opened| opened.is_file());
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if is_file() => {
                return Err(refuse("another char-rnn is writing it; choose another file"));
            }
            // A pipe may be shared, and not every file system has locks.
            _ => {}
        }
        let is_new = found.is_err();
        if let Some(before) = before.filter(|_| !is_new && is_file()) {
            let kept = kept(BufReader::new(&file), &before).map_err(cannot_write)?;
            let kept = kept.map_err(|problem| refuse(&problem))?;
            cut = kept < file.metadata().map_err(cannot_write)?.len();
            file.set_len(kept).map_err(cannot_write)?;
            file.seek(SeekFrom::Start(kept)).map_err(cannot_write)?;
        }
        let mut log = Self { file: BufWriter::with_capacity(1 << 16, file), line: Vec::new() };
        let settings = BTreeMap::from([("settings", settings)]);
        if let Err(source) = log.add(&settings).and_then(|()| log.flush()) {
            if is_new {
                // On a full disk: an empty file would be refused next time.
                let _ = std::fs::remove_file(path);
            }
            return Err(cannot_write(source));
        }
        Ok((log, cut))
    }

    /// Adds a line.
    pub fn add(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        // In one piece, so that the buffer is flushed between lines.
        self.file.write_all(&self.line)
    }

    /// Hands all lines to the operating system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The length in bytes of a log up to the iteration of `before`, the last that was saved; or why it
/// is not a log of that run up to there.
fn kept(mut log: impl BufRead, before: &Progress) -> io::Result<Result<u64, String>> {
    #[derive(Deserialize)]
    struct Read {
        iteration: Option<u64>,
        smoothed: Option<f64>,
    }
    if !log.fill_buf()?.is_empty() && !log.fill_buf()?.starts_with(b"{\"settings\":") {
        return Ok(Err("it is not the log of a run; choose another file".to_string()));
    }
    // Runs with the same smoothed loss, to the last bit, are the same.
    let expected = (before.iteration, Some(before.smoothed));
    let (mut kept, mut line, mut last) = (0, Vec::new(), None);
    for number in 1.. {
        line.clear();
        let length = log.read_until(b'\n', &mut line)? as u64;
        // A killed run may leave a part of a line.
        if !line.ends_with(b"\n") {
            break;
        }
        match serde_json::from_slice::<Read>(&line) {
            Ok(Read { iteration: Some(iteration), .. }) if iteration > before.iteration => break,
            Ok(Read { iteration, smoothed }) => {
                kept += length;
                last = iteration.map(|iteration| (iteration, smoothed)).or(last);
            }
            // A power failure may damage lines, but those are cut off anyway.
            Err(_) if last == Some(expected) => break,
            Err(error) => {
                return Ok(Err(format!(
                    "its line {number} is not one of a log ({}); choose another file",
                    excerpt(&error.to_string())
                )));
            }
        }
    }
    // A log without iterations is that of a run that was stopped before the first.
    Ok(match last {
        Some(last) if last != expected => Err(format!(
            "it is the log of another run, or does not reach iteration {}, the last that was \
             saved; choose another file",
            before.iteration
        )),
        _ => Ok(kept),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The progress after these iterations of the run of [`LOG`].
    fn after(iterations: u64) -> Progress {
        let iteration = iterations - 1;
        Progress { iteration, loss: 0., smoothed: [0.1, 0.2, 0.3, 0.4][iteration as usize] }
    }

    fn kept_of(log: &str, iterations: u64) -> Result<&str, String> {
        kept(log.as_bytes(), &after(iterations)).unwrap().map(|kept| &log[..kept as usize])
    }

    const LOG: &str = "{\"settings\":{}}\n{\"iteration\":0,\"smoothed\":0.1}\n\
                       {\"iteration\":1,\"smoothed\":0.2}\n{\"end\":\"stopped\"}\n\
                       {\"settings\":{}}\n{\"iteration\":2,\"smoothed\":0.3}\n";

    #[test]
    fn iterations_that_run_again_and_parts_of_lines_are_cut_off() {
        assert_eq!(kept_of(LOG, 3).unwrap(), LOG);
        assert_eq!(kept_of(LOG, 2).unwrap(), &LOG[..LOG.find("{\"iteration\":2").unwrap()]);
        assert_eq!(kept_of(LOG, 1).unwrap(), &LOG[..LOG.find("{\"iteration\":1").unwrap()]);
        assert_eq!(kept_of(&format!("{LOG}{{\"iterat"), 3).unwrap(), LOG);
        assert_eq!(kept_of(&format!("{LOG}{{\"iteration\":3}}"), 3).unwrap(), LOG);
        assert_eq!(kept_of("", 3).unwrap(), "");
        assert_eq!(kept_of(&format!("{LOG}\0\0\0\n"), 3).unwrap(), LOG);
        assert_eq!(kept_of("{\"settings\":{}}\n", 3).unwrap(), "{\"settings\":{}}\n");
    }

    #[test]
    fn the_log_of_another_run_and_one_with_a_gap_are_refused() {
        for (log, iterations) in [(LOG, 4), (&LOG.replace("0.2", "0.20000000000000004"), 2)] {
            let message = kept_of(log, iterations).unwrap_err();
            assert!(message.contains("the log of another run, or does not reach"), "{message}");
        }
    }

    #[test]
    fn a_file_that_is_no_log_is_refused() {
        for text in ["anna\nbob\n", "{\"iteration\":0}\n", "{}", "[1, 2]\n", "\n"] {
            assert!(kept_of(text, 3).unwrap_err().contains("not the log"), "{text}");
        }
        let damaged = LOG.replace("{\"end\"", "{end");
        assert!(kept_of(&damaged, 3).unwrap_err().contains("line 4"));
    }

    #[test]
    fn a_log_is_new_or_resumed_and_written_by_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let open = |before| JsonLog::open(&path, before, &json!({"a": 1}));
        let (first, cut) = open(None).unwrap();
        assert!(!cut);
        assert!(open(Some(after(1))).err().unwrap().to_string().contains("another char-rnn"));
        drop(first);
        std::fs::write(&path, LOG).unwrap();
        let (second, cut) = open(Some(after(2))).unwrap();
        assert!(cut);
        drop(second);
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, after_it) = text.split_at(LOG.find("{\"iteration\":2").unwrap());
        assert!(LOG.starts_with(before));
        assert_eq!(after_it, "{\"settings\":{\"a\":1}}\n");
        assert!(JsonLog::open(folder.path(), Some(after(1)), &json!({})).is_err());
    }
}
