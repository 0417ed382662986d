//! The command line: one file a command, and here what they share.
//!
//! Names and answers go to standard output, everything else to standard error.

mod eval;
mod explain;
mod export;
mod gradcheck;
mod info;
mod json_log;
mod metrics;
mod notebook_log;
mod plot;
mod progress;
mod resumption;
mod sample;
mod saving;
mod settings;
mod shell;
mod signals;
mod train;
mod vocab;

use candle_core::{DType, Device};
use char_rnn::checkpoint::Saved;
use char_rnn::corpus::{self, Case, Corpus};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::fmt;
use std::io::{self, Write};
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::str::FromStr;

/// Learn a list of names, character by character, and make new ones.
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Start with:
  char-rnn train                          learn the built-in dinosaurs
  char-rnn sample dinos.safetensors       more names from the model that this saved
  char-rnn train --help                   all that can be changed"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::Train>),
    Sample(sample::Sample),
    Info(info::Info),
    Plot(plot::Plot),
    Export(export::Export),
    Eval(eval::Eval),
    Explain(explain::Explain),
    Vocab(vocab::Vocab),
    Gradcheck(gradcheck::Gradcheck),
    Completions(shell::Completions),
    Man(shell::Man),
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Train(command) => command.run(),
            Command::Sample(command) => command.run(),
            Command::Info(command) => command.run(),
            Command::Plot(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Eval(command) => command.run(),
            Command::Explain(command) => command.run(),
            Command::Vocab(command) => command.run(),
            Command::Gradcheck(command) => command.run(),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
        }
    }
}

/// Why a command could not finish.
#[derive(Debug)]
pub enum Failure {
    /// The library's reason.
    Library(char_rnn::Error),
    /// Training left the finite numbers: the library's reason, and how things stand.
    Diverged(char_rnn::Error, String),
    /// Standard output could not be written.
    Output(io::Error),
    /// What was asked about is not so: said in a sentence.
    Check(String),
    /// A signal ended the work: which, and how things stand.
    Stopped(signals::Signal, String),
    /// Something went wrong on the way, and was said then.
    Told,
}

impl Failure {
    /// The exit status: 1 for a check that failed; 2, which clap uses too, for bad usage and input;
    /// for a signal what shells give.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Check(_) => 1,
            Self::Stopped(signal, _) => signal.exit_status(),
            Self::Library(_) | Self::Diverged(..) | Self::Output(_) | Self::Told => 2,
        }
    }

    /// Whether the reader of standard output has gone.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => error.fmt(f),
            Self::Diverged(error, outcome) => write!(f, "{error}{outcome}"),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
            Self::Check(answer) => answer.fmt(f),
            Self::Stopped(signal, outcome) => write!(f, "stopped by {}{outcome}", signal.name()),
            Self::Told => f.write_str("not all went well"),
        }
    }
}

impl From<char_rnn::Error> for Failure {
    fn from(error: char_rnn::Error) -> Self {
        Self::Library(error)
    }
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::Library(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The list of names.
#[derive(Args)]
struct List {
    /// The list: a UTF-8 text file with one name a line [default: the built-in dinosaurs]
    ///
    /// Any script will do. Blank lines and white space around names do not count, and letters
    /// made of several characters are composed (NFC).
    #[arg(value_name = "NAMES")]
    path: Option<PathBuf>,

    /// Keep capital letters instead of lower-casing the names
    ///
    /// Without it names are learned in lower case, which is easier, and shown with a capital.
    #[arg(long)]
    keep_case: bool,
}

impl List {
    fn case(&self) -> Case {
        if self.keep_case { Case::Keep } else { Case::Lower }
    }

    fn read(&self) -> char_rnn::Result<Corpus> {
        match &self.path {
            Some(path) => Corpus::read(path, self.case()),
            None => Ok(Corpus::dinos()),
        }
    }
}

/// Where the arithmetic is done, as asked on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeviceName {
    Cpu,
    Cuda(usize),
}

/// As on the command line.
impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", ordinal)) => match ordinal.parse() {
                Ok(ordinal) => Ok(Self::Cuda(ordinal)),
                Err(_) => Err(format!("{ordinal:?} is not the number of a GPU")),
            },
            _ => Err("a device is cpu, cuda or cuda:N".to_string()),
        }
    }
}

impl DeviceName {
    fn open(self) -> char_rnn::Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => char_rnn::device::cuda(ordinal),
        }
    }
}

/// The argument parser of counts and seeds; what the count may be is the library's business.
fn whole_number<N: FromStr<Err = ParseIntError>>(text: &str) -> Result<N, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => "the number is too large".to_string(),
        _ => "a whole number is needed, 0 or more".to_string(),
    })
}

/// The argument parser of rates and limits.
fn real_number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "a number is needed, such as 0.01".to_string())
}

/// A number type, as asked on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    /// Single precision
    F32,
    /// Double precision
    F64,
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}

/// A name, or the beginning of one, as the model in `saved` reads it; `argument` is what errors call
/// it.
fn read_in(saved: &Saved, argument: &'static str, text: &str) -> char_rnn::Result<Vec<u32>> {
    corpus::encode(text, &saved.vocabulary, saved.record.case).map_err(|error| {
        char_rnn::Error::Setting {
            name: argument,
            value: format!("{text:?}"),
            rule: error.to_string(),
        }
    })
}

/// Writes a line to standard error. That it is closed must not stop the work.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A name as it is shown: a model of lower-cased names gets its capital back, as in the notebook.
fn shown(name: &str, case: Case) -> String {
    let mut characters = name.chars();
    match (case, characters.next()) {
        (Case::Lower, Some(first)) => first.to_uppercase().chain(characters).collect(),
        _ => name.to_string(),
    }
}
