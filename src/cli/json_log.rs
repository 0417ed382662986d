//! What training measured as JSON, a line for each iteration.
//!
//! | line | |
//! | --- | --- |
//! | `{"settings": ...}` | the first of each run, and of each that goes on |
//! | `{"iteration": ..., "loss": ..., "smoothed": ..., ...}` | an iteration; `gradients`, `validation` and `names` where there were any |
//! | `{"end": ..., ...}` | the last: how the run ended |

use super::metrics::{End, Measured, Sink};
use char_rnn::Error;
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
    /// gone on with where the run itself goes on, `resumed_at` an iteration, and what it tells of
    /// iterations from there on is cut off: they are run again. Says whether something was.
    pub fn open(
        path: &Path,
        resumed_at: Option<u64>,
        settings: &Value,
    ) -> char_rnn::Result<(Self, bool)> {
        let cannot_write = |source: io::Error| Error::Write { path: path.to_path_buf(), source };
        let refuse = |problem: &str| cannot_write(io::Error::other(problem));
        let mut cut = false;
        let found = path.metadata();
        let file = match (&found, resumed_at) {
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
        if let Some(resumed_at) = resumed_at.filter(|_| !is_new && is_file()) {
            let kept = kept(BufReader::new(&file), resumed_at).map_err(cannot_write)?;
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

/// How many bytes of a log tell of what was before the iteration `resumed_at`; or why it is none.
fn kept(mut log: impl BufRead, resumed_at: u64) -> io::Result<Result<u64, String>> {
    #[derive(Deserialize)]
    struct Read {
        iteration: Option<u64>,
    }
    let (mut kept, mut line) = (0, Vec::new());
    for number in 1.. {
        line.clear();
        let length = log.read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            break;
        }
        match serde_json::from_slice::<Read>(&line) {
            _ if number == 1 && !line.starts_with(b"{\"settings\":") => {
                return Ok(Err("it is not the log of a run; choose another file".to_string()));
            }
            Ok(Read { iteration: Some(iteration) }) if iteration >= resumed_at => break,
            // A run that was killed may have left a piece of a line.
            _ if !line.ends_with(b"\n") => break,
            Ok(_) => kept += length,
            Err(error) => {
                return Ok(Err(format!("line {number} of it is not of a log: {error}")));
            }
        }
    }
    Ok(Ok(kept))
}

impl Sink for JsonLog {
    fn write(&mut self, measured: &Measured) -> io::Result<()> {
        #[derive(Serialize)]
        struct Gradient {
            norm: f64,
            clipped: f64,
        }
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
        let gradients = measured.named_gradients().map(|gradients| {
            gradients
                .map(|(name, gradient)| {
                    (name, Gradient { norm: gradient.norm, clipped: gradient.clipped })
                })
                .collect()
        });
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

    fn kept_of(log: &str, resumed_at: u64) -> Result<&str, String> {
        kept(log.as_bytes(), resumed_at).unwrap().map(|kept| &log[..kept as usize])
    }

    const LOG: &str = "{\"settings\":{}}\n{\"iteration\":0,\"loss\":1}\n{\"iteration\":1}\n\
                       {\"end\":\"stopped\"}\n{\"settings\":{}}\n{\"iteration\":2}\n";

    #[test]
    fn what_is_run_again_is_cut_off_and_so_is_a_piece_of_a_line() {
        assert_eq!(kept_of(LOG, 3).unwrap(), LOG);
        assert_eq!(kept_of(LOG, 2).unwrap(), &LOG[..LOG.find("{\"iteration\":2").unwrap()]);
        assert_eq!(kept_of(LOG, 1).unwrap(), &LOG[..LOG.find("{\"iteration\":1").unwrap()]);
        assert_eq!(kept_of(&format!("{LOG}{{\"iterat"), 9).unwrap(), LOG);
        assert_eq!(kept_of(&format!("{LOG}{{\"iteration\":3}}"), 9).unwrap(), LOG);
        assert_eq!(kept_of("", 9).unwrap(), "");
    }

    #[test]
    fn a_file_that_is_no_log_is_left_alone() {
        for text in ["anna\nbob\n", "{\"iteration\":0}\n", "{}", "[1, 2]\n", "\n"] {
            assert!(kept_of(text, 9).unwrap_err().contains("not the log"), "{text}");
        }
        let damaged = LOG.replace("{\"end\"", "{end");
        assert!(kept_of(&damaged, 9).unwrap_err().contains("line 4"));
    }

    #[test]
    fn a_log_is_begun_anew_or_gone_on_with_and_by_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let open = |resumed_at| JsonLog::open(&path, resumed_at, &json!({"a": 1}));
        let (first, cut) = open(None).unwrap();
        assert!(!cut);
        assert!(open(Some(0)).err().unwrap().to_string().contains("another char-rnn"));
        drop(first);
        assert!(open(None).err().unwrap().to_string().contains("--resume"));
        std::fs::write(&path, LOG).unwrap();
        let (second, cut) = open(Some(2)).unwrap();
        assert!(cut);
        drop(second);
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, after) = text.split_at(LOG.find("{\"iteration\":2").unwrap());
        assert!(LOG.starts_with(before));
        assert_eq!(after, "{\"settings\":{\"a\":1}}\n");
        assert!(JsonLog::open(folder.path(), None, &json!({})).is_err());
        assert!(JsonLog::open(folder.path(), Some(1), &json!({})).is_err());
    }
}
