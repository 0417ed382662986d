//! A list of names: reading, cleaning, encoding.
//!
//! A list is UTF-8 text with one name a line. Line ends may be Unix's or Windows's, a byte-order
//! mark may open it (or any line: lists are put together), the last line end may be missing. Names
//! are composed to Unicode's NFC, lower-cased unless asked otherwise (as the notebook does) and
//! stripped of the white space around them; blank lines are skipped. A name that stands twice in
//! the list is learned twice, as in the notebook.

use crate::error::{Error, Result};
use crate::random::Randomness;
use crate::vocab::Vocabulary;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use unicode_normalization::UnicodeNormalization;

/// The longest name that is accepted, in characters. A name is unrolled whole through time, so
/// its length bounds the memory of a training step; no real name comes near the limit.
pub const LONGEST_NAME: usize = 1000;

/// The largest list that is read, in bytes: a thousand times the largest real one, and a stop to
/// reading an endless pipe.
const LARGEST_LIST: u64 = 1 << 30;

/// The dinosaurs that are built into the program: see `data/README.md` for source and licence.
const DINOS: &str = include_str!("../data/dinos.txt");

/// What happens to capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// Names are lower-cased, as the notebook does: fewer characters, learned faster.
    #[default]
    Lower,
    /// Names are kept as they are written.
    Keep,
}

/// A cleaned list of names and its vocabulary.
#[derive(Debug, Clone)]
pub struct Corpus {
    names: Vec<String>,
    vocabulary: Vocabulary,
    characters: usize,
}

impl Corpus {
    /// The built-in list of dinosaurs.
    pub fn dinos() -> Self {
        Self::parse(DINOS.as_bytes(), "the built-in list", Case::Lower)
            .expect("the built-in list is tested to be a good one")
    }

    /// Reads the list in the file at `path`.
    ///
    /// # Errors
    /// [`Error::Read`] where the file cannot be read, else as [`parse`](Self::parse).
    pub fn read(path: &Path, case: Case) -> Result<Self> {
        Self::parse(&bytes_of(path)?, &path.display().to_string(), case)
    }

    /// The list that `bytes` hold; `origin` is what error messages call it.
    ///
    /// # Errors
    /// [`Error::Names`] for text that is not UTF-8, a control character, a name longer than
    /// [`LONGEST_NAME`] (each with its line), a list without names, and one with a single
    /// distinct character, from which there is nothing to learn.
    ///
    /// ```
    /// use char_rnn::corpus::{Case, Corpus};
    /// let corpus = Corpus::parse(b"Ada\r\n\r\n Bob", "example", Case::Lower)?;
    /// assert_eq!(corpus.names(), ["ada", "bob"]);
    /// # Ok::<(), char_rnn::Error>(())
    /// ```
    pub fn parse(bytes: &[u8], origin: &str, case: Case) -> Result<Self> {
        let (names, characters) = names_of(bytes, origin, case)?;
        let vocabulary = Vocabulary::of(names.iter().map(String::as_str));
        if let [_end, only] = vocabulary.characters() {
            return Err(Error::Names {
                origin: origin.to_string(),
                problem: format!(
                    "every name is made of the one character {only:?}; there is nothing to learn from that"
                ),
            });
        }
        Ok(Self { names, vocabulary, characters })
    }

    /// The names, in the list's order; at least one, none empty.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The characters of the names.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The number of characters in the cleaned text, line ends and blank lines included: the
    /// notebook's `data_size`.
    pub fn characters(&self) -> usize {
        self.characters
    }

    /// The SHA-256 of the names, each with a line end after it, in hexadecimal: equal where the
    /// same names are learned in the same order.
    pub fn digest(&self) -> String {
        digest(&self.names)
    }

    /// Which of the names to hold out, to judge by and not to learn from: a `share` of the distinct
    /// names, at least one and not all. A name that stands twice is held out twice or not at all.
    /// The choice depends on the seed and the names, not on their order.
    ///
    /// # Errors
    /// [`Error::Names`] where there are not two distinct names.
    ///
    /// # Panics
    /// Where `share` is not between 0 and 1.
    pub fn held_out(&self, share: f64, randomness: Randomness) -> Result<Vec<bool>> {
        assert!(share > 0. && share < 1., "a share is between 0 and 1, not {share}");
        // The order of their hashes is a random one, and a name more or less moves few others.
        let hash = |name: &String| {
            let hasher = Sha256::new_with_prefix(format!("{randomness}\n"));
            <[u8; 32]>::from(hasher.chain_update(name).finalize())
        };
        let hashes: Vec<[u8; 32]> = self.names.iter().map(hash).collect();
        let distinct: BTreeSet<&[u8; 32]> = hashes.iter().collect();
        if distinct.len() < 2 {
            return Err(Error::Names {
                origin: "the list".to_string(),
                problem: "it has no two different names, so none can be held out: leave \
                          --validation away"
                    .to_string(),
            });
        }
        let count = (distinct.len() as f64 * share).round() as usize;
        let held_out: BTreeSet<&[u8; 32]> =
            distinct.iter().take(count.clamp(1, distinct.len() - 1)).copied().collect();
        Ok(hashes.iter().map(|hash| held_out.contains(hash)).collect())
    }

    /// Each name as indices into the vocabulary, in the list's order, without the final `'\n'`.
    pub fn encoded(&self) -> Vec<Vec<u32>> {
        self.names
            .iter()
            .map(|name| {
                self.vocabulary.encode(name).expect("the vocabulary is that of these names")
            })
            .collect()
    }
}

/// The SHA-256 of names, each with a line end after it, in hexadecimal.
pub(crate) fn digest<'n>(names: impl IntoIterator<Item = &'n String>) -> String {
    let mut hasher = Sha256::new();
    for name in names {
        hasher.update(name);
        hasher.update("\n");
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names in the file at `path`, cleaned and in the list's order: a list to be judged by a model
/// and not learned, so that it needs no vocabulary of its own.
///
/// # Errors
/// As [`Corpus::read`], but a single distinct character will do.
pub fn read_names(path: &Path, case: Case) -> Result<Vec<String>> {
    Ok(names_of(&bytes_of(path)?, &path.display().to_string(), case)?.0)
}

/// `text`, a name or the beginning of one, as indices into `vocabulary`, cleaned as the names of a
/// list are. White space at its end stays: a second word may follow.
///
/// # Errors
/// [`Error::UnknownCharacter`] names the first character that the vocabulary does not have; a line
/// end is none.
///
/// ```
/// use char_rnn::corpus::{Case, Corpus, encode};
/// let vocabulary = Corpus::dinos().vocabulary().clone();
/// assert_eq!(encode("Tyra", &vocabulary, Case::Lower)?, [20, 25, 18, 1]);
/// assert!(encode("Tyra", &vocabulary, Case::Keep).is_err());
/// # Ok::<(), char_rnn::Error>(())
/// ```
pub fn encode(text: &str, vocabulary: &Vocabulary, case: Case) -> Result<Vec<u32>> {
    let cleaned = clean(text, case);
    let cleaned = cleaned.trim_start_matches(|c| is_blank(c) && !breaks_lines(c));
    match cleaned.chars().find(|&c| breaks_lines(c)) {
        Some(character) => Err(Error::UnknownCharacter { character }),
        None => vocabulary.encode(cleaned),
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_LIST + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::read(path, source))?;
    if bytes.len() as u64 > LARGEST_LIST {
        return Err(Error::Names {
            origin: path.display().to_string(),
            problem: format!(
                "the list is larger than {} MiB, the most that is read; give a part of it",
                LARGEST_LIST >> 20
            ),
        });
    }
    Ok(bytes)
}

/// The names that `bytes` hold, cleaned; at least one, none empty. And the number of characters of
/// the cleaned text.
fn names_of(bytes: &[u8], origin: &str, case: Case) -> Result<(Vec<String>, usize)> {
    let wrong = |problem: String| Error::Names { origin: origin.to_string(), problem };
    let text = std::str::from_utf8(bytes).map_err(|e| wrong(not_utf8(bytes, e)))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);

    let mut names = Vec::new();
    let mut characters = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let ended = line.ends_with('\n');
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let cleaned = clean(line, case);
        characters += cleaned.chars().count() + usize::from(ended);

        let name = cleaned.trim_matches(is_blank);
        if let Some(found) = name.chars().find(|&c| breaks_lines(c)) {
            return Err(wrong(format!(
                "line {number} has the control character U+{:04X}, which no name can have; \
                 a list is plain text with one name a line",
                u32::from(found)
            )));
        }
        let length = name.chars().count();
        if length > LONGEST_NAME {
            return Err(wrong(format!(
                "line {number} is {length} characters long; the longest name that can be \
                 learned has {LONGEST_NAME} (is there one name a line?)"
            )));
        }
        if !name.is_empty() {
            names.push(name.to_string());
        }
    }
    if names.is_empty() {
        let what = if bytes.is_empty() { "is empty" } else { "has only blank lines" };
        return Err(wrong(format!("the list {what}; it should have one name a line")));
    }
    Ok((names, characters))
}

/// A line in the form in which it is learned: composed, and lower-cased if `case` says so.
/// Lower-casing can take letters apart (as that of a dotted capital I does), so it is composed again.
fn clean(line: &str, case: Case) -> String {
    match case {
        Case::Keep => composed(line),
        Case::Lower => composed(&composed(line).to_lowercase()),
    }
}

/// `text` in Unicode's NFC.
pub(crate) fn composed(text: &str) -> String {
    text.nfc().collect()
}

/// Whether `character` is nothing to see at the edge of a name: white space, or the byte-order mark.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}

/// Whether `character` would break the rule of one name a line, or a terminal.
pub(crate) fn breaks_lines(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Where the text stops being UTF-8, and a guess at what it is instead.
fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> String {
    let valid = &bytes[..error.valid_up_to()];
    let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
    let start = valid.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let guess = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it looks like UTF-16",
        _ => "it may be in an older encoding",
    };
    format!(
        "line {line} is not UTF-8 at its byte {} (byte {} of the file, 0x{:02x}); {guess}: save it as UTF-8",
        valid.len() - start + 1,
        valid.len() + 1,
        bytes[valid.len()],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Corpus> {
        Corpus::parse(text.as_bytes(), "names.txt", Case::Lower)
    }

    fn refusal(bytes: &[u8]) -> String {
        Corpus::parse(bytes, "names.txt", Case::Lower).unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_list_has_1318_lower_case_names() {
        let corpus = Corpus::dinos();
        assert_eq!(corpus.names().len(), 1318);
        assert_eq!(corpus.vocabulary().size(), 27);
        assert!(corpus.names().is_sorted());
    }

    #[test]
    fn windows_line_ends_a_mark_blank_lines_and_a_missing_last_line_end_are_cleaned_away() {
        let corpus = parse("\u{feff}Ada\r\n\r\n  \t\nBOB  \r\nEve").unwrap();
        assert_eq!(corpus.names(), ["ada", "bob", "eve"]);
    }

    #[test]
    fn the_mark_of_a_list_that_was_put_after_another_is_no_character() {
        let corpus = parse("ada\n\u{feff}bob\n \u{feff}\u{feff} \neve\u{feff}\n").unwrap();
        assert_eq!(corpus.names(), ["ada", "bob", "eve"]);
        assert_eq!(corpus.vocabulary().characters(), ['\n', 'a', 'b', 'd', 'e', 'o', 'v']);
        assert!(refusal("\n\u{feff}\n".as_bytes()).contains("only blank lines"));
    }

    #[test]
    fn decomposed_hangul_and_accents_are_composed() {
        let corpus = parse("\u{1100}\u{1161}\u{11a8}\nJose\u{301}\n").unwrap();
        assert_eq!(corpus.names(), ["각", "josé"]);
    }

    #[test]
    fn case_is_lowered_in_every_script_unless_kept() {
        assert_eq!(parse("ИВАН\nÉva").unwrap().names(), ["иван", "éva"]);
        let kept = Corpus::parse("ИВАН\nÉva".as_bytes(), "", Case::Keep).unwrap();
        assert_eq!(kept.names(), ["ИВАН", "Éva"]);
    }

    #[test]
    fn characters_are_counted_as_the_notebook_counts_them() {
        assert_eq!(parse("ab\ncd").unwrap().characters(), 5);
        assert_eq!(parse("ab\r\ncd\r\n").unwrap().characters(), 6);
    }

    /// The digests are those of `sha256sum`.
    #[test]
    fn the_digest_is_that_of_the_cleaned_names_in_order() {
        let digest = |text: &str| parse(text).unwrap().digest();
        let expected = "50a1624a20175c33c9e2890958e3222e0ac606474b7b8cd35987a18f1ffb9fef";
        assert_eq!(digest("ada\nbob\n"), expected);
        assert_eq!(digest("\u{feff}Ada\r\n\r\n  BOB"), expected);
        assert_ne!(digest("bob\nada\n"), expected);
        assert_ne!(digest("adab\nob\n"), expected);
    }

    #[test]
    fn text_that_is_not_utf8_is_placed_by_line_and_byte() {
        let message = refusal(b"ada\nbo\xff\n");
        assert!(message.contains("line 2") && message.contains("byte 3"), "{message}");
        assert!(message.contains("byte 7 of the file"), "{message}");
        assert!(refusal(b"\xff\xfea\0").contains("UTF-16"));
    }

    #[test]
    fn lists_that_teach_nothing_are_refused() {
        assert!(refusal(b"").contains("is empty"));
        assert!(refusal(b"\n \r\n\t\n").contains("only blank lines"));
        assert!(refusal("\u{feff}".as_bytes()).contains("only blank lines"));
        assert!(refusal(b"aaa\na\n").contains("'a'"));
    }

    #[test]
    fn a_control_character_or_an_endless_line_is_placed_by_line() {
        assert!(refusal(b"ada\nb\0b\n").contains("line 2 has the control character U+0000"));
        assert!(refusal("a\nb\u{2028}c".as_bytes()).contains("U+2028"));
        let longest = "ab".repeat(LONGEST_NAME / 2);
        assert!(parse(&longest).is_ok());
        assert!(refusal(format!("ada\n{longest}a").as_bytes()).contains("line 2 is 1001"));
    }

    #[test]
    fn a_name_to_encode_is_cleaned_as_those_of_the_list() {
        let corpus = parse("josé maria\n각\n").unwrap();
        let encode = |text| encode(text, corpus.vocabulary(), Case::Lower);
        let spelled = |text| corpus.vocabulary().decode(&encode(text).unwrap());
        assert_eq!(spelled(" JOSE\u{301} "), "josé ");
        assert_eq!(spelled("\u{1100}\u{1161}\u{11a8}"), "각");
        for (text, character) in
            [("jose", 'e'), ("j\no", '\n'), ("\n", '\n'), ("j\u{2028}", '\u{2028}')]
        {
            let message = encode(text).unwrap_err().to_string();
            assert!(message.contains(&format!("{character:?}")), "{message}");
        }
    }

    #[test]
    fn a_list_to_be_judged_may_have_one_character() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "AAA\n\na").unwrap();
        assert_eq!(read_names(file.path(), Case::Lower).unwrap(), ["aaa", "a"]);
        std::fs::write(file.path(), "\n").unwrap();
        assert!(read_names(file.path(), Case::Lower).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_list_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Corpus::parse(&bytes, "", Case::Lower);
        }

        #[test]
        fn any_text_gives_clean_names_that_its_vocabulary_spells(
            text in "(?s).{0,80}",
            case in prop::sample::select(&[Case::Lower, Case::Keep][..]),
        ) {
            let Ok(corpus) = Corpus::parse(text.as_bytes(), "", case) else { return Ok(()) };
            for (name, indices) in corpus.names().iter().zip(corpus.encoded()) {
                prop_assert!(!name.is_empty() && !name.contains(breaks_lines));
                prop_assert!(!indices.contains(&crate::vocab::END));
                prop_assert_eq!(&corpus.vocabulary().decode(&indices), name);
                prop_assert_eq!(encode(name, corpus.vocabulary(), case).unwrap(), indices);
            }
            let again = Corpus::parse(corpus.names().join("\n").as_bytes(), "", case).unwrap();
            prop_assert_eq!(again.names(), corpus.names());
        }
    }
}
