//! `char-rnn vocab`: the notebook's first cells.

use super::{Failure, List};
use clap::Args;
use std::io::{BufWriter, Write, stdout};

/// Show the characters of a list and their indices
///
/// Prints what the notebook's first cells print: the number of characters, line ends included,
/// and of distinct ones, the distinct ones in order, and the index of each.
#[derive(Args)]
pub struct Vocab {
    #[command(flatten)]
    list: List,
}

impl Vocab {
    pub fn run(self) -> Result<(), Failure> {
        let corpus = self.list.read()?;
        let vocabulary = corpus.vocabulary();
        let quoted: Vec<String> = vocabulary.characters().iter().map(|&c| python(c)).collect();

        let mut out = BufWriter::new(stdout().lock());
        writeln!(
            out,
            "There are {} total characters and {} unique characters in your data.",
            corpus.characters(),
            vocabulary.size()
        )?;
        writeln!(out, "[{}]", quoted.join(", "))?;
        // Python's pprint with an indent of 4.
        let width = (quoted.len() - 1).to_string().len();
        let rows: Vec<String> = quoted
            .iter()
            .enumerate()
            .map(|(index, character)| {
                let padding = if width == 1 { "" } else { "    " };
                let lead = if index == 0 { "{   " } else { padding };
                format!("{lead}{index}: {character}")
            })
            .collect();
        writeln!(out, "{}}}", rows.join(",\n"))?;
        out.flush()?;
        Ok(())
    }
}

/// A character as Python's `repr` writes it.
pub(super) fn python(character: char) -> String {
    let code = u32::from(character);
    match character {
        '\n' => r"'\n'".to_string(),
        '\'' => "\"'\"".to_string(),
        '\\' => r"'\\'".to_string(),
        ' ' => "' '".to_string(),
        c if c.is_control() || c.is_whitespace() => match code {
            0..=0xff => format!(r"'\x{code:02x}'"),
            _ => format!(r"'\u{code:04x}'"),
        },
        c => format!("'{c}'"),
    }
}
