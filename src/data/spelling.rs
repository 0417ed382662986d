//! The spelling of names: as the network is trained on them, and as they are shown.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// What happens to capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterCase {
    /// Names are lower-cased, as in the notebook: a smaller vocabulary trains faster.
    #[default]
    Lower,
    /// Names keep their capital letters.
    Keep,
}

/// A line composed, and lower-cased if `case` says so. Lower-casing can decompose letters (such as
/// a dotted capital I), so the result is composed again.
pub(super) fn clean(line: &str, case: LetterCase) -> String {
    let text = composed(line.to_string());
    if case == LetterCase::Lower { composed(text.to_lowercase()) } else { text }
}

/// The start of a name composed, and lower-cased if `case` says so.
pub(super) fn clean_prefix(prefix: &str, case: LetterCase) -> String {
    // With a letter after it, a capital sigma at its end does not become the final sigma.
    let mut cleaned = clean(&format!("{prefix}a"), case);
    cleaned.pop();
    cleaned
}

/// `text` in Unicode's NFC. (Without the short way for ASCII here and below, sampling a name takes
/// 1.17 times as long.)
fn composed(text: String) -> String {
    if text.is_ascii() { text } else { text.nfc().collect() }
}

/// `text` without white space and format characters around it: byte-order marks, zero-width spaces,
/// soft hyphens, direction marks.
pub(crate) fn trimmed(text: &str) -> &str {
    let text = trimmed_start(text);
    let mut characters = text.char_indices().rev().peekable();
    while let Some((at, last)) = characters.next() {
        let shapes_what_is_before = match last {
            // A joiner after a virama shapes the letter (RFC 5892, appendix A).
            '\u{200c}' | '\u{200d}' => {
                characters.peek().is_some_and(|&(_, c)| canonical_combining_class(c) == 9)
            }
            // The flags of regions end with tags.
            '\u{e0020}'..='\u{e007f}' => true,
            _ => false,
        };
        if shapes_what_is_before || !is_blank(last) {
            return &text[..at + last.len_utf8()];
        }
    }
    ""
}

/// `text` without white space and format characters at its start.
pub(super) fn trimmed_start(text: &str) -> &str {
    text.trim_start_matches(is_blank)
}

fn is_blank(character: char) -> bool {
    // U+0085 is rather half of a letter that was decoded as Latin-1.
    character.is_whitespace() && character != '\u{85}'
        || !character.is_ascii() && character.general_category() == GeneralCategory::Format
}

/// A name as it is shown, and as names are compared: trimmed, composed (NFC) and, if it was
/// lower-cased, with its first letter in titlecase.
///
/// ```
/// use char_rnn::data::{LetterCase, shown};
/// assert_eq!(shown("new york", LetterCase::Lower), "New york");
/// assert_eq!(shown("'abd", LetterCase::Lower), "'Abd");
/// assert_eq!(shown("ǆemal", LetterCase::Lower), "ǅemal");
/// assert_eq!(shown("new york", LetterCase::Keep), "new york");
/// ```
pub fn shown(name: &str, case: LetterCase) -> String {
    let name = composed(name.to_string());
    let name = trimmed(&name);
    let Some((at, letter)) = first_letter(name).filter(|_| case == LetterCase::Lower) else {
        return name.to_string();
    };
    composed(format!("{}{}{}", &name[..at], titlecase(letter), &name[at + letter.len_utf8()..]))
}

/// The first letter of `name` and its byte offset. Apostrophes, other signs and modifier letters
/// (such as the Hawaiian okina) may precede it, a number may not: "5th" has no capital.
pub(crate) fn first_letter(name: &str) -> Option<(usize, char)> {
    let is_letter = |c: char| {
        c.is_ascii_alphabetic()
            || c.is_alphabetic() && c.general_category() != GeneralCategory::ModifierLetter
    };
    let mut characters = name.char_indices();
    characters.find(|&(_, c)| c.is_numeric() || is_letter(c)).filter(|&(_, c)| is_letter(c))
}

/// Unicode's titlecase of `letter`, which can be several characters.
pub(crate) fn titlecase(letter: char) -> String {
    match unicode_case_mapping::to_titlecase(letter) {
        [0, ..] => letter.to_string(),
        mapped => mapped.into_iter().filter(|&code| code > 0).filter_map(char::from_u32).collect(),
    }
}

/// Whether `name` has small letters, and capitals after its first letter.
pub(super) fn has_inner_capital(name: &str) -> bool {
    let inner = first_letter(name).map_or(name, |(at, letter)| &name[at + letter.len_utf8()..]);
    inner.contains(char::is_uppercase) && name.contains(char::is_lowercase)
}

#[cfg(test)]
mod tests {
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
            assert_eq!(shown(name, LetterCase::Lower), expected, "{name:?}");
        }
        assert_eq!(shown(" e\u{301}va", LetterCase::Keep), "éva");
    }

    #[test]
    fn format_characters_are_trimmed_and_joiners_stay_where_they_shape_a_letter() {
        for (text, expected) in [
            ("\u{200b}\u{ad}Ida\u{2060} \u{200f}", "Ida"),
            ("می\u{200c}نا\u{200c}", "می\u{200c}نا"),
            ("ന\u{d4d}\u{200d}", "ന\u{d4d}\u{200d}"),
            ("🏴\u{e0067}\u{e007f}", "🏴\u{e0067}\u{e007f}"),
            ("\u{200d}\u{feff}\u{2066}\u{e0067}", ""),
        ] {
            assert_eq!(trimmed(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_sigma_at_the_end_of_a_prefix_is_not_final() {
        for (text, prefix, whole) in
            [("ΝΙΚΟΣ", "νικοσ", "νικος"), ("ΑΣ Σ", "ας σ", "ας σ"), ("", "", "")]
        {
            assert_eq!(clean_prefix(text, LetterCase::Lower), prefix);
            assert_eq!(clean(text, LetterCase::Lower), whole);
        }
        assert_eq!(clean_prefix("ΝΙΚΟΣ", LetterCase::Keep), "ΝΙΚΟΣ");
    }

    proptest! {
        #[test]
        fn a_shown_name_is_trimmed_and_composed(name in "(?s).{0,12}") {
            for case in [LetterCase::Lower, LetterCase::Keep] {
                let shown = shown(&name, case);
                prop_assert_eq!(trimmed(&shown), &shown);
                prop_assert_eq!(composed(shown.clone()), shown);
            }
        }
    }
}
