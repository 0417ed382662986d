//! Arguments and output that commands share.

use crate::data::{Corpus, DINOS, LetterCase, read_bytes};
use crate::device::cuda;
use crate::error::{Error, Result};
use crate::text::{escaped, is_invisible};
use candle_core::Device;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Write};
use std::num::{IntErrorKind, ParseIntError};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The list of names.
#[derive(Args)]
pub struct List {
    /// List of names, one a line, in UTF-8; - is standard input [default: dinosaurs]
    #[arg(value_name = "NAMES", help_heading = "Data")]
    pub path: Option<PathBuf>,

    /// Capital letters: auto, lower or keep [default: auto]
    #[arg(long, value_name = "RULE", value_parser = letter_case(), help_heading = "Data")]
    #[arg(hide_possible_values = true)]
    pub case: Option<LetterCase>,
}

fn letter_case() -> impl TypedValueParser<Value = LetterCase> {
    PossibleValuesParser::new(LetterCase::NAMES).try_map(|name| name.parse::<LetterCase>())
}

/// What is unusual about a list and may not be intended, in a line.
pub fn warning(corpus: &Corpus) -> Option<String> {
    Some(format!("char-rnn: {}: {}", corpus.origin(), corpus.warning()?))
}

/// The path of a list that is read from standard input.
pub const STANDARD_INPUT: &str = "-";

/// The bytes of the list at `path` or the built-in one, and what messages call it.
pub fn list_bytes(path: Option<&Path>) -> Result<(Vec<u8>, String)> {
    let Some(path) = path else { return Ok((DINOS.into(), "the built-in list".to_string())) };
    if path == Path::new(STANDARD_INPUT) {
        let origin = "standard input";
        return Ok((read_bytes(io::stdin().lock(), origin.as_ref())?, origin.to_string()));
    }
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    Ok((read_bytes(file, path)?, path.display().to_string()))
}

/// Opens the device called `name`: cpu, cuda or cuda:N.
pub fn open_device(name: &str) -> Result<Device> {
    let ordinal = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok()),
    };
    let rule = "a device is cpu, cuda or cuda:N, where N is the number of a GPU";
    cuda(ordinal.ok_or_else(|| Error::setting("device", format!("{name:?}"), rule))?)
}

/// The argument parser of counts and seeds. The library checks their ranges.
pub fn whole_number<N: FromStr<Err = ParseIntError>>(text: &str) -> std::result::Result<N, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => "the number is too large".to_string(),
        _ => "a whole number is needed, 0 or more, in digits only, such as 35000".to_string(),
    })
}

/// The argument parser of rates and limits.
pub fn real_number(text: &str) -> std::result::Result<f64, String> {
    text.parse().map_err(|_| "a number is needed, such as 0.01".to_string())
}

/// The default output of a command: the name of `input` with another ending, in this folder.
pub fn with_ending(input: &Path, ending: &str) -> PathBuf {
    let mut output = PathBuf::from(input.file_stem().unwrap_or("model".as_ref()));
    output.as_mut_os_string().push(ending);
    output
}

/// Writes a line to standard error. Whatever paths and files have brought into it is escaped, also
/// line ends. A closed standard error does not stop the work.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", escaped(line));
}

/// JSON as text; in its strings, what serde_json leaves invisible is escaped.
pub fn json_text(value: &Value) -> String {
    let escape = |c: char| match c != '\n' && is_invisible(c) {
        true => c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect(),
        false => c.to_string(),
    };
    format!("{value:#}").chars().map(escape).collect()
}

/// A number of things: "1 name", "2 names".
pub fn count(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}
