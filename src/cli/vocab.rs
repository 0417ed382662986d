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
        writeln!(out, "{}", pretty_dictionary(&quoted))?;
        out.flush()?;
        Ok(())
    }
}

/// `pprint.PrettyPrinter(indent=4).pprint(dict(enumerate(...)))`: on one line where it fits into
/// 80 characters, else an entry a line.
fn pretty_dictionary(quoted: &[String]) -> String {
    let entries: Vec<String> = quoted
        .iter()
        .enumerate()
        .map(|(index, character)| format!("{index}: {character}"))
        .collect();
    let line = format!("{{{}}}", entries.join(", "));
    if line.chars().count() <= 80 { line } else { format!("{{   {}}}", entries.join(",\n    ")) }
}

/// A character as Python's `repr` writes it.
pub(super) fn python(character: char) -> String {
    let code = u32::from(character);
    match character {
        '\n' => r"'\n'".to_string(),
        '\'' => "\"'\"".to_string(),
        '\\' => r"'\\'".to_string(),
        c if is_printable(c) => format!("'{c}'"),
        _ if code <= 0xff => format!(r"'\x{code:02x}'"),
        _ if code <= 0xffff => format!(r"'\u{code:04x}'"),
        _ => format!(r"'\U{code:08x}'"),
    }
}

/// Python's `str.isprintable`. Rust's debug form escapes the same characters, quotes and the
/// backslash apart, and combining marks only where nothing precedes them.
fn is_printable(character: char) -> bool {
    matches!(character, '"' | '\'' | '\\') || format!("a{character}").escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both are what Python 3.11 prints.
    #[test]
    fn a_dictionary_of_up_to_80_characters_stands_on_one_line() {
        let pretty = |text: &str| pretty_dictionary(&text.chars().map(python).collect::<Vec<_>>());
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

    #[test]
    fn characters_are_quoted_as_python_quotes_them() {
        for (character, quoted) in [
            ('a', "'a'"),
            ('"', "'\"'"),
            ('\'', "\"'\""),
            (' ', "' '"),
            ('\\', r"'\\'"),
            ('각', "'각'"),
            ('\u{301}', "'\u{301}'"),
            ('\u{a0}', r"'\xa0'"),
            ('\u{ad}', r"'\xad'"),
            ('\u{200d}', r"'\u200d'"),
            ('\u{3000}', r"'\u3000'"),
            ('\u{e000}', r"'\ue000'"),
            ('\u{feff}', r"'\ufeff'"),
            ('\u{e0001}', r"'\U000e0001'"),
        ] {
            assert_eq!(python(character), quoted);
        }
    }
}
