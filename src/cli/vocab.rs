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
        let quoted = quoted(vocabulary.characters().iter().copied());

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

fn quoted(characters: impl Iterator<Item = char>) -> Vec<String> {
    characters.map(|character| python_str(&character.to_string())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Both were printed by Python 3.11.
    #[test]
    fn dictionaries_of_at_most_80_characters_are_on_one_line() {
        let pretty = |text: &str| pretty_dictionary(&quoted(text.chars()));
        let line =
            r"{0: '\n', 1: 'a', 2: 'b', 3: 'c', 4: 'd', 5: 'e', 6: '\\', 7: '\\', 8: '\u200d'}";
        assert_eq!(line.len(), 80);
        assert_eq!(pretty("\nabcde\\\\\u{200d}"), line);
        let lines = r"{   0: '\n',
    1: 'a',
    2: 'b',
    3: 'c',
    4: 'd',
    5: '\\',
    6: '\\',
    7: '\\',
    8: '\u200d'}";
        assert_eq!(pretty("\nabcd\\\\\\\u{200d}"), lines);
    }
}
