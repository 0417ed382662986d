//! What training measured as JSON, a line for each iteration.
//!
//! | line | |
//! | --- | --- |
//! | `{"settings": ...}` | the first of each run, and of each that goes on |
//! | `{"iteration": ..., "loss": ..., "smoothed": ..., ...}` | an iteration; `gradients`, `validation` and `names` where there were any |
//! | `{"end": ..., ...}` | the last: how the run ended |

use super::metrics::{End, Measured, Sink};
use char_rnn::Error;
use char_rnn::optim::Gradient;
use char_rnn::train::Progress;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// A log that grows.
pub struct JsonLog {
    file: BufWriter<File>,
    line: Vec<u8>,
}

impl JsonLog {
    /// Begins the log at `path`, with a line of `settings`. A file that is there already is only
    /// gone on with where the run itself goes on, with the progress `before`, and where it is the
    /// log of that run up to there; what it tells of later iterations is cut off: they are run
    /// again. Says whether something was.
    pub fn open(
        path: &Path,
        before: Option<Progress>,
        settings: &Value,
    ) -> char_rnn::Result<(Self, bool)> {
        let cannot_write = |source: io::Error| Error::Write { path: path.to_path_buf(), source };
        let refuse = |problem: &str| cannot_write(io::Error::other(problem));
        let mut cut = false;
        let found = path.metadata();
        let file = match (&found, before) {
            // A pipe or a terminal: who reads it has what came before.
            (Ok(found), _) if !found.is_file() && !found.is_dir() => {
                File::options().write(true).open(path)
            }
            (Ok(found), Some(_)) if found.is_file() => {
                File::options().read(true).write(true).open(path)
            }
            (Ok(_), _) => {
                return Err(refuse(
                    "it is there already, and only a run that goes on (--resume) adds to a log; \
                     choose another file",
                ));
            }
            (Err(_), _) if path.is_symlink() => {
                return Err(refuse("it is a link to nowhere; choose another file"));
            }
            (Err(_), _) => File::create_new(path),
        };
        let mut file = file.map_err(cannot_write)?;
        let is_file = || file.metadata().is_ok_and(|opened| opened.is_file());
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if is_file() => {
                return Err(refuse("another char-rnn is writing it; choose another file"));
            }
            // A pipe may be shared; and where there are no locks there are none to respect.
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
                // What is begun on a full disk stands in nobody's way.
                let _ = std::fs::remove_file(path);
            }
            return Err(cannot_write(source));
        }
        Ok((log, cut))
    }

    fn add(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        // In one piece, so that the buffer is handed on between lines.
        self.file.write_all(&self.line)
    }
}

/// How many bytes of a log tell of the iterations up to that of `before`, the last that was saved;
/// or why it is not the log of that run, or not of all of it.
fn kept(mut log: impl BufRead, before: &Progress) -> io::Result<Result<u64, String>> {
    #[derive(Deserialize)]
    struct Read {
        iteration: Option<u64>,
        smoothed: Option<f64>,
    }
    if !log.fill_buf()?.is_empty() && !log.fill_buf()?.starts_with(b"{\"settings\":") {
        return Ok(Err("it is not the log of a run; choose another file".to_string()));
    }
    // Where one number of a run is the same to the last bit, all are.
    let expected = (before.iteration, Some(before.smoothed));
    let (mut kept, mut line, mut last) = (0, Vec::new(), None);
    for number in 1.. {
        line.clear();
        let length = log.read_until(b'\n', &mut line)? as u64;
        // A run that was killed may have left a piece of a line.
        if !line.ends_with(b"\n") {
            break;
        }
        match serde_json::from_slice::<Read>(&line) {
            Ok(Read { iteration: Some(iteration), .. }) if iteration > before.iteration => break,
            Ok(Read { iteration, smoothed }) => {
                kept += length;
                last = iteration.map(|iteration| (iteration, smoothed)).or(last);
            }
            // What a power cut left of lines that are cut off anyway.
            Err(_) if last == Some(expected) => break,
            Err(error) => {
                return Ok(Err(format!(
                    "line {number} of it is not of a log ({error}); choose another file"
                )));
            }
        }
    }
    // A log without iterations is of a run that was stopped before any.
    Ok(match last {
        Some(last) if last != expected => Err(format!(
            "it is the log of another run, or does not reach iteration {}, the last that was \
             saved; choose another file",
            before.iteration
        )),
        _ => Ok(kept),
    })
}

impl Sink for JsonLog {
    fn write(&mut self, measured: &Measured) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            iteration: u64,
            loss: f64,
            smoothed: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            gradients: Option<BTreeMap<&'static str, Gradient>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            validation: Option<f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            names: Option<&'a [String]>,
        }
        let gradients = measured.named_gradients().map(Iterator::collect);
        let Measured { progress, validation, names, .. } = measured;
        self.add(&Line {
            iteration: progress.iteration,
            loss: progress.loss,
            smoothed: progress.smoothed,
            gradients,
            validation: *validation,
            names: names.as_deref(),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn end(&mut self, end: &End) -> io::Result<()> {
        self.add(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The progress after so many iterations of the run of [`LOG`].
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
    fn what_is_run_again_is_cut_off_and_so_is_a_piece_of_a_line() {
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
    fn the_log_of_another_run_and_one_with_a_gap_are_left_alone() {
        for (log, iterations) in [(LOG, 4), (&LOG.replace("0.2", "0.20000000000000004"), 2)] {
            let message = kept_of(log, iterations).unwrap_err();
            assert!(message.contains("the log of another run, or does not reach"), "{message}");
        }
    }

    #[test]
    fn a_file_that_is_no_log_is_left_alone() {
        for text in ["anna\nbob\n", "{\"iteration\":0}\n", "{}", "[1, 2]\n", "\n"] {
            assert!(kept_of(text, 3).unwrap_err().contains("not the log"), "{text}");
        }
        let damaged = LOG.replace("{\"end\"", "{end");
        assert!(kept_of(&damaged, 3).unwrap_err().contains("line 4"));
    }

    #[test]
    fn a_log_is_begun_anew_or_gone_on_with_and_by_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let open = |before| JsonLog::open(&path, before, &json!({"a": 1}));
        let (first, cut) = open(None).unwrap();
        assert!(!cut);
        assert!(open(Some(after(1))).err().unwrap().to_string().contains("another char-rnn"));
        drop(first);
        assert!(open(None).err().unwrap().to_string().contains("--resume"));
        std::fs::write(&path, LOG).unwrap();
        let (second, cut) = open(Some(after(2))).unwrap();
        assert!(cut);
        drop(second);
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, after_it) = text.split_at(LOG.find("{\"iteration\":2").unwrap());
        assert!(LOG.starts_with(before));
        assert_eq!(after_it, "{\"settings\":{\"a\":1}}\n");
        assert!(JsonLog::open(folder.path(), None, &json!({})).is_err());
        assert!(JsonLog::open(folder.path(), Some(after(1)), &json!({})).is_err());
    }
}
