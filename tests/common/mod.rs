//! Runs the program in a folder of its own.

// Each test file uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A temporary folder in which the program runs.
pub struct Folder(TempDir);

/// The exit status of a run and its output.
#[derive(Debug)]
pub struct Run {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with three short names in `names.txt`.
    pub fn with_names() -> Self {
        let folder = Self::new();
        folder.write("names.txt", "anna\nbob\ncleo\n");
        folder
    }

    /// The same, and a model trained on them in `names.safetensors`.
    pub fn with_model() -> Self {
        let folder = Self::with_names();
        folder.succeeds("train names.txt --hidden 8 --iterations 300 --quiet");
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), contents).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    /// All files with their contents.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.path()).unwrap().map(Result::unwrap);
        entries
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    /// The program with `arguments`, separated by spaces.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_char-rnn"));
        command.args(arguments.split_whitespace()).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &str) -> Run {
        let output = self.command(arguments).output().unwrap();
        let run = Run {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!run.stderr.contains("panicked"), "{arguments}: {run:?}");
        run
    }

    /// Standard output of a run that must succeed.
    pub fn succeeds(&self, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_eq!(run.status, Some(0), "{arguments}: {run:?}");
        run.stdout
    }

    /// The one line on standard error of a run that must be refused: with status 2, nothing on
    /// standard output and no change to a file.
    pub fn refuses(&self, arguments: &str) -> String {
        let run = self.refused(arguments);
        assert!(run.stderr.starts_with("char-rnn: "), "{arguments}: {run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{arguments}: {run:?}");
        run.stderr
    }

    /// The first line on standard error of a run whose command line clap must refuse.
    pub fn misused(&self, arguments: &str) -> String {
        let run = self.refused(arguments);
        let first = run.stderr.lines().next().unwrap().to_string();
        assert!(first.starts_with("error: "), "{arguments}: {run:?}");
        first
    }

    /// A run that must be refused as in [`refuses`](Self::refuses), in any number of lines.
    pub fn refused(&self, arguments: &str) -> Run {
        let before = self.files();
        let run = self.run(arguments);
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{arguments}: {run:?}");
        assert!(self.files() == before, "{arguments} changed a file");
        run
    }
}

/// The model file of [`Folder::with_model`] without its run: five tensors, a format, a vocabulary.
pub fn without_run(model: &[u8]) -> Vec<u8> {
    let file = safetensors::SafeTensors::deserialize(model).unwrap();
    let tensors = ["wax", "waa", "wya", "b", "by"].map(|name| (name, file.tensor(name).unwrap()));
    let metadata = [("format", "char-rnn"), ("vocabulary", "\nabcelno")]
        .map(|(key, value)| (key.to_string(), value.to_string()));
    safetensors::serialize(tensors, Some(metadata.into())).unwrap()
}

/// The model file `good` with another header.
pub fn with_header(good: &[u8], edit: impl FnOnce(&str) -> String) -> Vec<u8> {
    let (length, rest) = good.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut header = edit(std::str::from_utf8(header).unwrap()).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

#[track_caller]
pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}
