//! A list of names: reading, cleaning, encoding.
//!
//! A list is UTF-8 text with one name a line. Line ends are Unix's or Windows's; a byte-order mark
//! may start any line (lists get concatenated); the last line end may be missing. Names are
//! composed to Unicode's NFC, lower-cased unless asked otherwise (as in the notebook) and trimmed;
//! blank lines are skipped. A name that occurs twice is two examples, as in the notebook.

use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use unicode_normalization::UnicodeNormalization;

/// The maximum length of a name, in characters. BPTT runs over whole names, so it bounds the memory
/// of a training step; real names are far shorter.
pub const MAX_NAME_LENGTH: usize = 1000;

/// The maximum size of a list, in bytes. It ends the reading of an endless pipe.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// The built-in dinosaurs: `data/README.md` names source and licence.
const DINOS: &str = include_str!("../../data/dinos.txt");

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
        Self::parse(DINOS.as_bytes(), "the built-in list", LetterCase::Lower)
            .expect("a test parses the built-in list")
    }

    /// Reads the list in the file at `path`.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read, else as [`parse`](Self::parse).
    pub fn read(path: &Path, case: LetterCase) -> Result<Self> {
        Self::parse(&read_bytes(path)?, &path.display().to_string(), case)
    }

    /// Parses a list; error messages call it `origin`.
    ///
    /// # Errors
    /// [`Error::Names`] for text that is not UTF-8, a control character, a name longer than
    /// [`MAX_NAME_LENGTH`] (each with its line), a list without names, and one with a single
    /// distinct character.
    ///
    /// ```
    /// use char_rnn::data::{Corpus, LetterCase};
    /// let corpus = Corpus::parse(b"Ada\r\n\r\n Bob", "example", LetterCase::Lower)?;
    /// assert_eq!(corpus.names(), ["ada", "bob"]);
    /// # Ok::<(), char_rnn::Error>(())
    /// ```
    pub fn parse(bytes: &[u8], origin: &str, case: LetterCase) -> Result<Self> {
        let (names, characters) = clean_names(bytes, origin, case)?;
        let vocabulary = Vocabulary::of(names.iter().map(String::as_str));
        if let [_end, only] = vocabulary.characters() {
            return Err(Error::Names {
                origin: origin.to_string(),
                problem: format!(
                    "all names consist of the one character {only:?}: there is nothing to learn"
                ),
            });
        }
        Ok(Self { names, vocabulary, characters })
    }

    /// The names, in the list's order; at least one, none empty.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The vocabulary of the names.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The number of characters in the cleaned text, line ends and blank lines included: the
    /// notebook's `data_size`.
    pub fn characters(&self) -> usize {
        self.characters
    }

    /// The SHA-256 of the names, each with a line end after it, in hexadecimal.
    pub fn digest(&self) -> String {
        digest(&self.names)
    }

    /// Each name as indices into the vocabulary, in the list's order, without the final `'\n'`.
    pub fn encoded(&self) -> Vec<Vec<u32>> {
        let encode = |name: &String| self.vocabulary.encode(name);
        self.names.iter().map(encode).collect::<Result<_>>().expect("the vocabulary of these names")
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

/// Reads the names in the file at `path`, cleaned and in the list's order, for evaluation with the
/// vocabulary of a model.
///
/// # Errors
/// As [`Corpus::read`], but a single distinct character is allowed.
pub fn read_names(path: &Path, case: LetterCase) -> Result<Vec<String>> {
    Ok(clean_names(&read_bytes(path)?, &path.display().to_string(), case)?.0)
}

/// Encodes `text`, a name or a prefix, as indices into `vocabulary`, cleaned as the names of a list
/// are. White space at its end stays: a second word may follow.
///
/// # Errors
/// [`Error::UnknownCharacter`] names the first character that is not in the vocabulary, or a line
/// end.
///
/// ```
/// use char_rnn::data::{Corpus, LetterCase, encode};
/// let vocabulary = Corpus::dinos().vocabulary().clone();
/// assert_eq!(encode("Tyra", &vocabulary, LetterCase::Lower)?, [20, 25, 18, 1]);
/// assert!(encode("Tyra", &vocabulary, LetterCase::Keep).is_err());
/// # Ok::<(), char_rnn::Error>(())
/// ```
pub fn encode(text: &str, vocabulary: &Vocabulary, case: LetterCase) -> Result<Vec<u32>> {
    let cleaned = clean(text, case);
    let cleaned = cleaned.trim_start_matches(|c| is_blank(c) && !breaks_lines(c));
    match cleaned.chars().find(|&c| breaks_lines(c)) {
        Some(character) => Err(Error::UnknownCharacter { character }),
        None => vocabulary.encode(cleaned),
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::read(path, source))?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(Error::Names {
            origin: path.display().to_string(),
            problem: format!("the list is larger than the maximum of {} MiB", MAX_LIST_BYTES >> 20),
        });
    }
    Ok(bytes)
}

/// The names in `bytes`, cleaned; at least one, none empty. And the number of characters of the
/// cleaned text.
fn clean_names(bytes: &[u8], origin: &str, case: LetterCase) -> Result<(Vec<String>, usize)> {
    let invalid = |problem: String| Error::Names { origin: origin.to_string(), problem };
    let text = std::str::from_utf8(bytes).map_err(|e| invalid(not_utf8(bytes, e)))?;

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
            return Err(invalid(format!(
                "line {number} has the control character U+{:04X}; \
                 a list is plain text with one name a line",
                u32::from(found)
            )));
        }
        let length = name.chars().count();
        if length > MAX_NAME_LENGTH {
            return Err(invalid(format!(
                "line {number} is {length} characters long; the maximum length of a name is \
                 {MAX_NAME_LENGTH} (is there one name a line?)"
            )));
        }
        if !name.is_empty() {
            names.push(name.to_string());
        }
    }
    if names.is_empty() {
        let what = if bytes.is_empty() { "is empty" } else { "has only blank lines" };
        return Err(invalid(format!("the list {what}; it should have one name a line")));
    }
    Ok((names, characters))
}

/// A line composed, and lower-cased if `case` says so. Lower-casing can decompose letters (such as
/// a dotted capital I), so the result is composed again.
fn clean(line: &str, case: LetterCase) -> String {
    match case {
        LetterCase::Keep => composed(line),
        LetterCase::Lower => composed(&composed(line).to_lowercase()),
    }
}

/// `text` in Unicode's NFC.
pub(crate) fn composed(text: &str) -> String {
    text.nfc().collect()
}

/// White space or a byte-order mark.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}

/// Whether `character` is a control character or a line or paragraph separator.
pub(crate) fn breaks_lines(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// The position of the first byte that is not UTF-8, and the likely encoding.
fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> String {
    let valid = &bytes[..error.valid_up_to()];
    let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
    let start = valid.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let guess = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it may be UTF-16",
        _ => "it may be in an older encoding",
    };
    format!(
        "line {line} is not UTF-8 at its byte {} (byte {} of the file, 0x{:02x}); {guess}: \
         save it as UTF-8",
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
        Corpus::parse(text.as_bytes(), "names.txt", LetterCase::Lower)
    }

    fn refusal(bytes: &[u8]) -> String {
        Corpus::parse(bytes, "names.txt", LetterCase::Lower).unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_list_has_1318_lower_case_names() {
        let corpus = Corpus::dinos();
        assert_eq!(corpus.names().len(), 1318);
        assert_eq!(corpus.vocabulary().size(), 27);
        assert!(corpus.names().is_sorted());
    }

    #[test]
    fn windows_line_ends_byte_order_marks_and_blank_lines_are_removed() {
        let corpus = parse("\u{feff}Ada\r\n\r\n  \t\nBOB  \r\nEve").unwrap();
        assert_eq!(corpus.names(), ["ada", "bob", "eve"]);
    }

    #[test]
    fn a_byte_order_mark_within_a_list_is_removed() {
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
    fn names_are_lower_cased_in_every_script_unless_kept() {
        assert_eq!(parse("ИВАН\nÉva").unwrap().names(), ["иван", "éva"]);
        let kept = Corpus::parse("ИВАН\nÉva".as_bytes(), "", LetterCase::Keep).unwrap();
        assert_eq!(kept.names(), ["ИВАН", "Éva"]);
    }

    #[test]
    fn characters_are_counted_as_the_notebook_counts_them() {
        assert_eq!(parse("ab\ncd").unwrap().characters(), 5);
        assert_eq!(parse("ab\r\ncd\r\n").unwrap().characters(), 6);
    }

    /// The digest is that of `sha256sum`.
    #[test]
    fn digest_depends_on_the_cleaned_names_and_their_order() {
        let digest = |text: &str| parse(text).unwrap().digest();
        let expected = "50a1624a20175c33c9e2890958e3222e0ac606474b7b8cd35987a18f1ffb9fef";
        assert_eq!(digest("ada\nbob\n"), expected);
        assert_eq!(digest("\u{feff}Ada\r\n\r\n  BOB"), expected);
        assert_ne!(digest("bob\nada\n"), expected);
        assert_ne!(digest("adab\nob\n"), expected);
    }

    #[test]
    fn invalid_utf8_is_reported_with_line_and_byte() {
        let message = refusal(b"ada\nbo\xff\n");
        assert!(message.contains("line 2") && message.contains("byte 3"), "{message}");
        assert!(message.contains("byte 7 of the file"), "{message}");
        assert!(refusal(b"\xff\xfea\0").contains("UTF-16"));
    }

    #[test]
    fn lists_without_names_or_with_one_character_are_refused() {
        assert!(refusal(b"").contains("is empty"));
        assert!(refusal(b"\n \r\n\t\n").contains("only blank lines"));
        assert!(refusal("\u{feff}".as_bytes()).contains("only blank lines"));
        assert!(refusal(b"aaa\na\n").contains("'a'"));
    }

    #[test]
    fn control_characters_and_long_lines_are_reported_with_their_line() {
        assert!(refusal(b"ada\nb\0b\n").contains("line 2 has the control character U+0000"));
        assert!(refusal("a\nb\u{2028}c".as_bytes()).contains("U+2028"));
        let longest = "ab".repeat(MAX_NAME_LENGTH / 2);
        assert!(parse(&longest).is_ok());
        assert!(refusal(format!("ada\n{longest}a").as_bytes()).contains("line 2 is 1001"));
    }

    #[test]
    fn encode_cleans_as_the_list_is_cleaned() {
        let corpus = parse("josé maria\n각\n").unwrap();
        let encode = |text| encode(text, corpus.vocabulary(), LetterCase::Lower);
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
    fn a_list_for_evaluation_may_have_one_character() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "AAA\n\na").unwrap();
        assert_eq!(read_names(file.path(), LetterCase::Lower).unwrap(), ["aaa", "a"]);
        std::fs::write(file.path(), "\n").unwrap();
        assert!(read_names(file.path(), LetterCase::Lower).is_err());
    }

    proptest! {
        #[test]
        fn parsing_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Corpus::parse(&bytes, "", LetterCase::Lower);
        }

        #[test]
        fn names_of_any_text_are_clean_and_round_trip_through_the_vocabulary(
            text in "(?s).{0,80}",
            case in prop::sample::select(&[LetterCase::Lower, LetterCase::Keep][..]),
        ) {
            let Ok(corpus) = Corpus::parse(text.as_bytes(), "", case) else { return Ok(()) };
            for (name, indices) in corpus.names().iter().zip(corpus.encoded()) {
                prop_assert!(!name.is_empty() && !name.contains(breaks_lines));
                prop_assert!(!indices.contains(&crate::data::END));
                prop_assert_eq!(&corpus.vocabulary().decode(&indices), name);
                prop_assert_eq!(encode(name, corpus.vocabulary(), case).unwrap(), indices);
            }
            let again = Corpus::parse(corpus.names().join("\n").as_bytes(), "", case).unwrap();
            prop_assert_eq!(again.names(), corpus.names());
        }
    }
}
