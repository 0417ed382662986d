//! The spelling of names: as the network is trained on them, and as they are shown.

use super::capitals::{Capitals, restored_by_others, title};
use super::letters::{composed, normalized};
use crate::text::name_variants;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How capital letters are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum LetterCase {
    /// In lower case, if the list has a rule that restores its capitals; as characters if not.
    #[default]
    Auto,
    /// In lower case, as in the notebook: a smaller vocabulary trains faster.
    Lower,
    /// As characters.
    Keep,
}

name_variants!(LetterCase, "letter case": Auto = "auto", Lower = "lower", Keep = "keep");

/// Capitals are restored if at least this share of the names come back, in percent.
const RESTORABLE: usize = 80;

/// How the names of a list are learned, and how they are shown.
///
/// ```
/// use char_rnn::data::Spelling;
/// assert_eq!(Spelling::lower().shown("new york"), "New york");
/// assert_eq!(Spelling::lower().shown("'abd"), "'Abd");
/// assert_eq!(Spelling::lower().shown("ǆemal"), "ǅemal");
/// assert_eq!(Spelling::keep().shown("new york"), "new york");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spelling {
    /// None where capitals are characters.
    capitals: Option<Capitals>,
}

/// How many names of a list its rule for capitals restores, each by the rule of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The number of distinct names that come back.
    pub names: usize,
    /// The number of distinct names.
    pub of: usize,
}

impl Spelling {
    /// Lower case; shown is the first letter of a name as a capital.
    pub fn lower() -> Self {
        Self { capitals: Some(Capitals::default()) }
    }

    /// Capitals are characters; names are shown as the network makes them.
    pub fn keep() -> Self {
        Self { capitals: None }
    }

    /// The rule of a list of `names`, and how good it is. There is none in a list without mixed
    /// case: it is learned in lower case.
    pub(super) fn of(names: BTreeSet<String>) -> (Self, Option<Restored>) {
        let has = |is: fn(char) -> bool| names.iter().any(|name| name.contains(is));
        if !has(char::is_lowercase) || !has(char::is_uppercase) {
            return (Self::lower(), None);
        }
        let lower = |name: String| (Self::lower().clean(&name), name);
        let names: Vec<(String, String)> =
            names.into_iter().map(lower).map(|(lower, name)| (name, lower)).collect();
        let restored = Restored { names: restored_by_others(&names), of: names.len() };
        let capitals =
            (restored.names * 100 >= restored.of * RESTORABLE).then(|| Capitals::of(&names));
        (Self { capitals }, Some(restored))
    }

    /// Whether names are learned in lower case.
    pub fn is_lower(&self) -> bool {
        self.capitals.is_some()
    }

    /// A name as it is shown: trimmed, composed (NFC) and, if it was learned in lower case, with
    /// its capitals.
    pub fn shown(&self, name: &str) -> String {
        let name = normalized(name);
        match &self.capitals {
            Some(capitals) => composed(capitals.restore(&name)),
            None => name,
        }
    }

    /// A line composed, and lower-cased if names are. Lower-casing can decompose letters (such as a
    /// dotted capital I), so the result is composed again.
    pub(super) fn clean(&self, line: &str) -> String {
        let text = composed(line.to_string());
        if self.is_lower() { composed(text.to_lowercase()) } else { text }
    }

    /// The start of a name composed, in each case in which a name may start so: lower-cased if
    /// names are, else as it is given, in lower case, with one capital, with all, in capitals.
    pub(super) fn prefixes(&self, prefix: &str) -> Vec<String> {
        // With a letter after it, a capital sigma at its end does not become the final sigma.
        let mut lower = Self::lower().clean(&format!("{prefix}a"));
        lower.pop();
        if self.is_lower() {
            return vec![lower];
        }
        let cases = [Capitals::default().restore(&lower), title(&lower), lower.to_uppercase()];
        let cases = [self.clean(prefix), lower].into_iter().chain(cases);
        cases.map(composed).collect()
    }

    /// Refuses what no list has.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.capitals.as_ref().map_or(Ok(()), Capitals::check)
    }
}

/// `text` as it is searched and compared in any case.
#[cfg(feature = "cli")]
pub(crate) fn folded(text: &str) -> String {
    Spelling::lower().clean(text).replace('ς', "σ")
}

#[cfg(test)]
mod tests {
    use super::super::letters::trimmed;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_letter_is_shown_in_titlecase() {
        for (name, expected) in [
            ("éva", "Éva"),
            ("e\u{301}va", "Éva"),
            ("i\u{307}nci", "İnci"),
            ("თამარ", "თამარ"),
            ("ßen", "Ssen"),
            ("ﬂora", "Flora"),
            ("ǌegoš", "ǋegoš"),
            ("ᾠδή", "ᾨδή"),
            ("և", "Եւ"),
            ("ΐ", "\u{3aa}\u{301}"),
            ("ʻiolani", "ʻIolani"),
            ("(anna)", "(Anna)"),
            ("각a", "각a"),
            ("5th street", "5th street"),
            ("ⅳ", "Ⅳ"),
            ("\u{200e}ana \u{ad}", "Ana"),
            ("'", "'"),
            ("", ""),
        ] {
            assert_eq!(Spelling::lower().shown(name), expected, "{name:?}");
        }
        assert_eq!(Spelling::keep().shown(" e\u{301}va"), "éva");
    }

    #[test]
    fn a_stored_rule_that_brings_a_control_character_is_refused() {
        let check = |word: &str| {
            let json = format!(r#"{{"styles":{{"":"upper"}},"words":{{"-":{{"a":"{word}"}}}}}}"#);
            let spelling: Spelling = serde_json::from_str(&json).unwrap();
            spelling.check().map(|()| spelling.shown("a-a"))
        };
        assert_eq!(check("aB").unwrap(), "A-aB");
        assert!(check("a\\u001b[2J").is_err() && check("\\u2028").is_err());
    }

    #[test]
    fn a_sigma_at_the_end_of_a_prefix_is_not_final() {
        for (text, prefix, whole) in
            [("ΝΙΚΟΣ", "νικοσ", "νικος"), ("ΑΣ Σ", "ας σ", "ας σ"), ("", "", "")]
        {
            assert_eq!(Spelling::lower().prefixes(text), [prefix]);
            assert_eq!(Spelling::lower().clean(text), whole);
        }
        let cases = ["nEw y", "new y", "New y", "New Y", "NEW Y"];
        assert_eq!(Spelling::keep().prefixes("nEw y"), cases);
    }

    proptest! {
        #[test]
        fn a_shown_name_is_trimmed_and_composed(name in "(?s).{0,12}") {
            for spelling in [Spelling::lower(), Spelling::keep()] {
                let shown = spelling.shown(&name);
                prop_assert_eq!(trimmed(&shown), &shown);
                prop_assert_eq!(composed(shown.clone()), shown);
            }
        }
    }
}
