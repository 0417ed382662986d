//! `char-rnn vocab`: the vocabulary of a list, as the notebook's first cells print it.

use super::args::{List, list_bytes, say, warning};
use super::error::Failure;
use super::python::python_str;
use crate::data::Corpus;
use clap::Args;
use std::io::{BufWriter, Write, stdout};

/// Show the vocabulary of a list, as the notebook's first cells print it
#[derive(Args)]
#[command(after_help = "\
Notes:
  Line ends count as characters.")]
pub struct Vocab {
    #[command(flatten)]
    list: List,
}

impl Vocab {
    pub fn run(self) -> Result<(), Failure> {
        let (bytes, origin) = list_bytes(self.list.path.as_deref())?;
        let corpus = Corpus::parse(&bytes, &origin, self.list.case.unwrap_or_default())?;
        if let Some(warning) = warning(&corpus) {
            say(&warning);
        }
        let vocabulary = corpus.vocabulary();
        let quoted: Vec<String> =
            vocabulary.characters().iter().map(|c| python_str(&c.to_string())).collect();
        let mut out = BufWriter::new(stdout().lock());
        writeln!(
            out,
            "There are {} total characters and {} unique characters in your data.",
            corpus.characters(),
            vocabulary.size()
        )?;
        writeln!(out, "[{}]", quoted.join(", "))?;
        writeln!(out, "{}", pretty_dictionary(&quoted))?;
        Ok(out.flush()?)
    }
}

/// `pprint.PrettyPrinter(indent=4).pprint(dict(enumerate(...)))`: on one line of at most 80
/// characters, else an entry a line.
fn pretty_dictionary(quoted: &[String]) -> String {
    let entries: Vec<String> = quoted
        .iter()
        .enumerate()
        .map(|(index, character)| format!("{index}: {character}"))
        .collect();
    let line = format!("{{{}}}", entries.join(", "));
    if line.chars().count() <= 80 { line } else { format!("{{   {}}}", entries.join(",\n    ")) }
}

/// `tests/cli.rs` has both forms as Python prints them.
#[cfg(test)]
#[test]
fn dictionaries_of_at_most_80_characters_are_on_one_line() {
    let pretty = |last: usize| pretty_dictionary(&["'a'".to_string(), "x".repeat(last)]);
    assert_eq!((pretty(67).len(), pretty(67).lines().count()), (80, 1));
    assert_eq!(pretty(68).lines().count(), 2);
}
