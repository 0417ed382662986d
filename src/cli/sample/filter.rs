//! Which sampled names are printed.

use super::super::args::list_bytes;
use super::super::sampled::Sampled;
use crate::Error;
use crate::data::{KnownNames, Spelling, folded, parse_listed};
use aho_corasick::AhoCorasick;
use clap::Args;
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::parse::Parser;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// The flags that choose among sampled names.
#[derive(Args)]
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// Skip the names that the model was trained on, and names cut off at the maximum length
    #[arg(long)]
    pub new: bool,

    /// Skip names that were printed before
    #[arg(long)]
    unique: bool,

    /// Skip names cut off at the maximum length
    #[arg(long)]
    complete: bool,

    /// Print only names that match REGEX; case counts if it has a capital
    #[arg(long, value_name = "REGEX")]
    matching: Vec<String>,

    /// Skip names that match REGEX
    #[arg(long, value_name = "REGEX")]
    excluding: Vec<String>,

    /// Skip names that contain a line of FILE, in any case
    #[arg(long, value_name = "FILE")]
    excluding_words: Option<PathBuf>,
}

/// Accepts names by [`Filters`], and counts the others by reason.
pub struct Filter<'a> {
    known: Option<&'a KnownNames>,
    skips_cut: bool,
    min_length: usize,
    matching: Vec<Regex>,
    excluding: Vec<Regex>,
    words: Option<AhoCorasick>,
    seen: Option<HashSet<String>>,
    rejected: BTreeMap<&'static str, u64>,
}

impl<'a> Filter<'a> {
    /// The filter of these flags, where `known` are the names that the model was trained on.
    pub fn new(
        flags: &Filters,
        known: Option<&'a KnownNames>,
        min_length: usize,
    ) -> crate::Result<Self> {
        let known = match (known, flags.new) {
            (_, false) => None,
            (Some(known), true) => Some(known),
            (None, true) => {
                let rule = "the model file has no run, and so no names that are known";
                return Err(Error::setting("new", "given", rule));
            }
        };
        let all = |name, patterns: &[String]| -> crate::Result<Vec<Regex>> {
            patterns.iter().map(|pattern| regex(name, pattern)).collect()
        };
        Ok(Self {
            known,
            // The start of a name of the list is not new because it was cut off.
            skips_cut: flags.complete || flags.new,
            min_length,
            matching: all("matching", &flags.matching)?,
            excluding: all("excluding", &flags.excluding)?,
            words: flags.excluding_words.as_deref().map(words).transpose()?,
            seen: flags.unique.then(HashSet::new),
            rejected: BTreeMap::new(),
        })
    }

    /// Whether names are chosen by more than their length.
    pub fn is_choosing(&self) -> bool {
        self.skips_cut
            || self.seen.is_some()
            || self.words.is_some()
            || !self.matching.is_empty()
            || !self.excluding.is_empty()
    }

    /// Whether the name is to be printed.
    pub fn accepts(&mut self, sampled: &Sampled) -> bool {
        let reason = self.reason_against(sampled);
        if let Some(reason) = reason {
            *self.rejected.entry(reason).or_default() += 1;
        }
        reason.is_none()
    }

    fn reason_against(&mut self, Sampled { name, text, ended }: &Sampled) -> Option<&'static str> {
        let matches = |regex: &Regex| regex.is_match(name);
        if name.is_empty() {
            return Some("empty");
        }
        // Trimming may have made it too short.
        if self.min_length > 1 && text.chars().count() < self.min_length {
            return Some("too short (--min-length)");
        }
        if self.skips_cut && !ended {
            return Some("cut off (--max-length)");
        }
        if self.known.is_some_and(|known| known.contains(name)) {
            return Some("in the list (--new)");
        }
        if !self.matching.iter().all(matches) {
            return Some("not matching (--matching)");
        }
        if self.excluding.iter().any(matches) {
            return Some("excluded (--excluding)");
        }
        if self.words.as_ref().is_some_and(|words| words.is_match(&folded(name))) {
            return Some("with an excluded word (--excluding-words)");
        }
        let is_repeated = self.seen.as_mut().is_some_and(|seen| !seen.insert(name.clone()));
        is_repeated.then_some("printed already (--unique)")
    }

    /// How many names were sampled and not printed, and why.
    pub fn rejected(&self) -> String {
        let reasons = self.rejected.iter().map(|(reason, count)| format!("{count} {reason}"));
        reasons.collect::<Vec<_>>().join(", ")
    }
}

/// The words of a file, to be searched in [`folded`] names.
fn words(path: &Path) -> crate::Result<AhoCorasick> {
    let (bytes, origin) = list_bytes(Some(path))?;
    let listed = parse_listed(&bytes, &origin, &Spelling::lower())?;
    AhoCorasick::new(listed.iter().map(|word| folded(&word.name)))
        .map_err(|error| Error::names(&origin, error.to_string()))
}

/// The regular expression of the flag `name`. Case is ignored unless a letter of the pattern is a
/// capital, as in ripgrep's `--smart-case`.
fn regex(name: &'static str, pattern: &str) -> crate::Result<Regex> {
    // As names are.
    let pattern: String = pattern.nfc().collect();
    let wrong = |problem: String| Error::setting(name, format!("{pattern:?}"), problem);
    Parser::new().parse(&pattern).map_err(|error| {
        let (at, kind) = (error.span().start.column, error.kind());
        wrong(format!("at its character {at}: {kind}"))
    })?;
    // In `\S`, `\p{Lu}` and the name of a group is no letter.
    let other = Regex::new(r"\\([pP](\{.*?\}|.)|.)|\(\?P?<\w+>").expect("a valid pattern");
    let has_capital = other.replace_all(&pattern, "").contains(char::is_uppercase);
    RegexBuilder::new(&pattern).case_insensitive(!has_capital).build().map_err(|error| {
        let message = error.to_string();
        wrong(message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_counts_if_a_letter_of_the_pattern_is_a_capital() {
        for (pattern, name, expected) in [
            ("^ty.*us$", "Tyrannosaurus", true),
            ("^Ty", "Tyra", true),
            ("^TY", "Tyra", false),
            (r"^\S+$", "tyra", true),
            (r"\p{Lu}", "McKay", true),
            ("[A-C]", "abc", false),
            ("[a-c]", "ABC", true),
            ("[^a-c]", "ABC", false),
            (r"(?P<Ty>t\PLy?)", "T-", true),
            ("(?i)TY", "tyra", true),
            ("e\u{301}", "Éva", true),
            ("straße", "STRASSE", false),
        ] {
            assert_eq!(regex("matching", pattern).unwrap().is_match(name), expected, "{pattern}");
        }
        for (pattern, part) in [("a(b", "character 2: unclosed group"), (r"\p{X}", "not found")] {
            let message = regex("matching", pattern).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains('\n'), "{message}");
        }
    }
}
