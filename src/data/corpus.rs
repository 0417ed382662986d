//! A list of names: reading, cleaning, encoding.
//!
//! A list is UTF-8 text with one name a line. Line ends are Unix's, Windows's or those of old Macs,
//! as in the notebook; the last one may be missing. Names are composed to Unicode's NFC,
//! lower-cased where their capitals follow from a rule ([`Spelling`]), and trimmed of white space and format
//! characters such as byte-order marks. Blank lines are skipped. A name that occurs twice is two
//! examples.

use super::faults::Faults;
use super::letters::{trimmed, trimmed_start};
use super::spelling::{LetterCase, Restored, Spelling};
use super::vocabulary::Vocabulary;
use super::warnings::{repaired, warning};
use crate::error::{Error, Result};
use crate::text::breaks_lines;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The maximum length of a name, in characters. BPTT runs over whole names, so it bounds the memory
/// of a training step; real names are far shorter.
pub const MAX_NAME_LENGTH: usize = 1000;

/// The maximum size of a list, in bytes. It ends the reading of an endless pipe. Training on a list
/// of short names takes up to 25 times its size in memory.
const MAX_LIST_BYTES: u64 = 128 << 20;

/// The built-in dinosaurs: `data/README.md` names source and licence.
pub const DINOS: &str = include_str!("../../data/dinos.txt");

/// A cleaned list of names and its vocabulary.
#[derive(Debug, Clone)]
pub struct Corpus {
    origin: String,
    names: Vec<String>,
    vocabulary: Vocabulary,
    characters: usize,
    case: LetterCase,
    spelling: Spelling,
    restored: Option<Restored>,
    warning: Option<String>,
}

/// A name of a list and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The number of its line, counted from 1.
    pub line: usize,
    /// As the list has it, trimmed only.
    pub text: String,
    /// The name, cleaned.
    pub name: String,
}

impl Corpus {
    /// The built-in list of dinosaurs.
    pub fn dinos() -> Self {
        Self::parse(DINOS.as_bytes(), "the built-in list", LetterCase::Auto)
            .expect("a test parses the built-in list")
    }

    /// Reads the list in the file at `path`.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read, else as [`parse`](Self::parse).
    pub fn read(path: &Path, case: LetterCase) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::read(path, source))?;
        Self::parse(&read_bytes(file, path)?, &path.display().to_string(), case)
    }

    /// Parses a list; error messages call it `origin`.
    ///
    /// # Errors
    /// [`Error::Names`] for a list without names, or with lines that are not UTF-8, have control
    /// characters or are longer than [`MAX_NAME_LENGTH`].
    ///
    /// ```
    /// use char_rnn::data::{Corpus, LetterCase};
    /// let corpus = Corpus::parse(b"Ada\r\n\r\n Bob", "example", LetterCase::Lower)?;
    /// assert_eq!(corpus.names(), ["ada", "bob"]);
    /// # Ok::<(), char_rnn::Error>(())
    /// ```
    pub fn parse(bytes: &[u8], origin: &str, case: LetterCase) -> Result<Self> {
        let mut names = Vec::new();
        let (spelling, restored) = match case {
            LetterCase::Auto => {
                for_each_name(bytes, origin, &Spelling::keep(), |_, _, name| {
                    names.push(name.to_string());
                })?;
                let all = std::mem::take(&mut names);
                // Capitals that are halves of letters follow no rule.
                Spelling::of(all.into_iter().filter(|name| repaired(name).is_none()).collect())
            }
            LetterCase::Lower => (Spelling::lower(), None),
            LetterCase::Keep => (Spelling::keep(), None),
        };
        let mut listed = Vec::new();
        let characters = for_each_name(bytes, origin, &spelling, |line, text, name| {
            names.push(name.to_string());
            listed.push((line, text));
        })?;
        let warning = warning(&listed);
        let vocabulary = Vocabulary::of(names.iter().map(String::as_str));
        let origin = origin.to_string();
        Ok(Self { origin, names, vocabulary, characters, case, spelling, restored, warning })
    }

    /// Replaces the vocabulary of the list by that of a network, which may have more characters.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`] for the first character that it does not have.
    pub fn with_vocabulary(self, vocabulary: &Vocabulary) -> Result<Self> {
        let own: String = self.vocabulary.characters().iter().collect();
        vocabulary.encode(&own)?;
        Ok(Self { vocabulary: vocabulary.clone(), ..self })
    }

    /// What may be wrong with the list, in a sentence.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// How capitals were asked to be learned.
    pub fn case(&self) -> LetterCase {
        self.case
    }

    /// How the names are learned and shown.
    pub fn spelling(&self) -> &Spelling {
        &self.spelling
    }

    /// How many names the rule for capitals restores, where [`LetterCase::Auto`] found capitals.
    pub fn restored(&self) -> Option<Restored> {
        self.restored
    }

    /// What error messages call the list: its file.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The length of the longest name, in characters.
    pub fn longest(&self) -> usize {
        self.names.iter().map(|name| name.chars().count()).max().unwrap_or(0)
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

/// Parses a list for evaluation with the vocabulary of a model; error messages call it `origin`.
///
/// # Errors
/// [`Error::Names`] for a list that [`Corpus::parse`] refuses.
pub fn parse_listed(bytes: &[u8], origin: &str, spelling: &Spelling) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for_each_name(bytes, origin, spelling, |line, text, name| {
        listed.push(Listed { line, text: text.to_string(), name: name.to_string() });
    })?;
    Ok(listed)
}

/// Encodes a name as indices into `vocabulary`, cleaned as the names of a list are.
///
/// # Errors
/// [`Error::UnknownCharacter`] for a line end or a character that is not in the vocabulary.
///
/// ```
/// use char_rnn::data::{Corpus, Spelling, encode};
/// let vocabulary = Corpus::dinos().vocabulary().clone();
/// assert_eq!(encode("Tyra", &vocabulary, &Spelling::lower())?, [20, 25, 18, 1]);
/// assert!(encode("Tyra", &vocabulary, &Spelling::keep()).is_err());
/// # Ok::<(), char_rnn::Error>(())
/// ```
pub fn encode(name: &str, vocabulary: &Vocabulary, spelling: &Spelling) -> Result<Vec<u32>> {
    encode_cleaned(trimmed(&spelling.clean(name)), vocabulary)
}

/// Encodes the start of a name, which may end within a word, in each case that `vocabulary` can
/// write: at least one, first that of `prefix`. White space at its end stays: a second word may
/// follow.
///
/// # Errors
/// [`Error::UnknownCharacter`] for a line end or a character that is not in the vocabulary.
pub fn encode_prefix(
    prefix: &str,
    vocabulary: &Vocabulary,
    spelling: &Spelling,
) -> Result<Vec<Vec<u32>>> {
    let mut encoded: Vec<Vec<u32>> = Vec::new();
    let mut unknown = None;
    for case in spelling.prefixes(prefix) {
        match encode_cleaned(trimmed_start(&case), vocabulary) {
            Ok(indices) if encoded.contains(&indices) => {}
            Ok(indices) => encoded.push(indices),
            Err(error) => unknown = unknown.or(Some(error)),
        }
    }
    unknown.filter(|_| encoded.is_empty()).map_or(Ok(encoded), Err)
}

fn encode_cleaned(text: &str, vocabulary: &Vocabulary) -> Result<Vec<u32>> {
    match text.chars().find(|&c| breaks_lines(c)) {
        Some(character) => Err(Error::UnknownCharacter { character }),
        None => vocabulary.encode(text),
    }
}

/// The bytes of a list; error messages call it `path`.
pub(crate) fn read_bytes(file: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::read(path, source))?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        let problem =
            format!("the list is larger than the maximum of {} MiB", MAX_LIST_BYTES >> 20);
        return Err(Error::names(&path.display().to_string(), problem));
    }
    Ok(bytes)
}

/// Calls `take` with each name in `bytes`: the number of its line, the line trimmed, and the name
/// cleaned. There is at least one, and none is empty. Returns the number of characters, cleaned.
fn for_each_name<'b>(
    bytes: &'b [u8],
    origin: &str,
    spelling: &Spelling,
    mut take: impl FnMut(usize, &'b str, &str),
) -> Result<usize> {
    // The end of a text file in DOS.
    let end = bytes.iter().rposition(|&byte| byte != 0x1a).map_or(0, |last| last + 1);
    let (mut names, mut characters) = (0, 0);
    let mut faults = Faults::default();
    for line in lines(&bytes[..end]) {
        faults.lines += 1;
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                let found = format!("byte {} is 0x{:02x}, which is not UTF-8", at + 1, line[at]);
                faults.add(&found, "text in an older encoding needs to be saved as UTF-8");
                continue;
            }
        };
        let cleaned = spelling.clean(text);
        characters += cleaned.chars().count();
        let (text, name) = (trimmed(text), trimmed(&cleaned));
        let length = name.chars().count();
        if length == 0 || faults.add_control(text) {
            continue;
        }
        if length > MAX_NAME_LENGTH {
            let found = format!("{length} characters, more than {MAX_NAME_LENGTH}");
            faults.add(&found, "a list has one name a line");
            continue;
        }
        names += 1;
        take(faults.lines, text, name);
    }
    let problem = match faults.message(bytes) {
        Some(problem) => problem,
        None if names > 0 => return Ok(characters),
        None if bytes.is_empty() => "the list is empty; it should have one name a line".to_string(),
        None => "the list has only blank lines; it should have one name a line".to_string(),
    };
    Err(Error::names(origin, problem))
}

/// The lines of `bytes`, each with one character for its end: "\n", "\r\n" or "\r", as Python reads
/// text.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut after_return = false;
    bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')).filter(move |line| {
        let is_end = after_return && *line == b"\n";
        after_return = line.ends_with(b"\r");
        !is_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_normalization::{UnicodeNormalization, is_nfc};

    fn parse(text: &str) -> Result<Corpus> {
        Corpus::parse(text.as_bytes(), "names.txt", LetterCase::Lower)
    }

    #[test]
    fn the_built_in_list_has_1318_lower_case_names() {
        let corpus = Corpus::dinos();
        assert_eq!((corpus.names().len(), corpus.vocabulary().size()), (1318, 27));
        assert!(corpus.names().is_sorted() && corpus.names().iter().eq(DINOS.lines()));
        assert_eq!((corpus.restored(), corpus.warning()), (None, None));
    }

    #[test]
    fn a_list_is_learned_in_lower_case_if_its_capitals_follow_from_the_other_names() {
        let parsed = |list: &str, case| Corpus::parse(list.as_bytes(), "", case).unwrap();
        let auto = |list: &str| {
            let corpus = parsed(list, LetterCase::Auto);
            (corpus.spelling().is_lower(), corpus.restored().map(|restored| restored.names))
        };
        let towns = "Ely\nBath\nLeek\nYork\nDover";
        for (list, expected) in [
            (towns, (true, Some(5))),
            // A name that occurs twice is one.
            (&format!("{towns}\nMcAlister\nMcAlister"), (true, Some(5))),
            (&format!("{towns}\nMcAlister\nMacBeth"), (false, Some(5))),
            ("ely\nbath", (true, None)),
            ("ELY\nBATH", (true, None)),
            ("თამარ\n東京", (true, None)),
        ] {
            assert_eq!(auto(list), expected, "{list}");
        }
        assert_eq!(parsed("Ely\nMcBeth", LetterCase::Auto).names(), ["Ely", "McBeth"]);
        assert_eq!(parsed("Ely\nMcBeth", LetterCase::Lower).names(), ["ely", "mcbeth"]);
        assert_eq!(parsed(towns, LetterCase::Keep).names()[0], "Ely");
    }

    /// The digest is that of `sha256sum`.
    #[test]
    fn digest_depends_on_the_cleaned_names_and_their_order() {
        let digest = |text: &str| parse(text).unwrap().digest();
        let expected = "50a1624a20175c33c9e2890958e3222e0ac606474b7b8cd35987a18f1ffb9fef";
        assert_eq!(digest("\u{feff}Ada\r\n\r\n  BOB"), expected);
        assert!(digest("bob\nada\n") != expected && digest("adab\nob\n") != expected);
    }

    /// `tests/cli.rs` has the lists without names.
    #[test]
    fn all_bad_lines_are_reported_at_once_with_what_they_look_like() {
        let longest = "ab".repeat(MAX_NAME_LENGTH / 2);
        assert!(parse(&longest).is_ok());
        let too_long = format!("ada\n{longest}a");
        for (list, parts) in [
            (too_long.as_bytes(), &["line 2 (1001 char"][..]),
            (
                b"ada\nbo\xff\n\xe9va\n",
                &["2 of 3 lines", "line 2 (byte 3 is 0xff", "line 3", "UTF-8"],
            ),
            (b"ada\t1\n\nbo\t2", &["2 of 3 lines", "line 1 (a tab), line 3 (a tab)", "`cut -f1`"]),
            (
                "Ren\u{c3}\u{a9}\nN\u{c3}\u{85}\nBo".as_bytes(),
                &["1 of 3 lines", "line 2 (U+0085)", "letters were lost"],
            ),
            ("O\u{92}Shea\nBo".as_bytes(), &["line 1 (U+0092)", "letters were lost"]),
            (
                "Ada\u{85}Bo\nEve\u{2028}Al".as_bytes(),
                &["line 1 (U+0085), line 2 (U+2028)", "end lines"],
            ),
            (
                b"a\x1b\0\nb\x01\nc\x01\nd\x01\ne\x01\nf\x01\n\0\xff\n",
                &["7 of 7", "line 1 (U+0000, U+001B)", "line 5 (U+0001) and 2 more", "plain text"],
            ),
        ] {
            let message = Corpus::parse(list, "", LetterCase::Lower).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn the_blanks_after_a_prefix_stay_and_line_ends_are_no_characters() {
        let corpus = parse("josé maria\n각\n").unwrap();
        let prefix = encode_prefix(" JOSE\u{301} ", corpus.vocabulary(), &Spelling::lower());
        assert_eq!(corpus.vocabulary().decode(&prefix.unwrap()[0]), "josé ");
        for (text, character) in [("jose", 'e'), ("j\no", '\n'), ("j\u{2028}o", '\u{2028}')] {
            let message =
                encode(text, corpus.vocabulary(), &Spelling::lower()).unwrap_err().to_string();
            assert!(message.contains(&format!("{character:?}")), "{message}");
        }
    }

    /// Names and what surrounds them, in lines that end as those of any system.
    const LIST: &str = "([ \t\u{3000}\u{feff}\u{200b}\u{ad}]{0,2}([A-Z][A-Za-z ]?[a-z])?\
                        [ \t\u{2060}\u{200e}]{0,2}(\n|\r\n|\r)){0,9}[a-z]{0,2}";

    proptest! {
        #[test]
        fn names_are_the_trimmed_lines_that_python_reads(text in LIST, dos_end in "\u{1a}{0,2}") {
            let python = text.replace("\r\n", "\n").replace('\r', "\n");
            let is_letter = |c: char| c.is_ascii_alphabetic();
            let names = (1..).zip(python.lines()).filter(|(_, line)| line.contains(is_letter));
            let expected: Vec<Listed> = names
                .map(|(line, text)| (line, text.trim_matches(|c| !is_letter(c)).to_string()))
                .map(|(line, text)| Listed { line, name: text.to_lowercase(), text })
                .collect();
            let bytes = (text + &dos_end).into_bytes();
            let listed = parse_listed(&bytes, "", &Spelling::lower()).unwrap_or_default();
            prop_assert_eq!(&listed, &expected);
            let Ok(corpus) = Corpus::parse(&bytes, "", LetterCase::Lower) else { return Ok(()) };
            prop_assert!(corpus.names().iter().eq(expected.iter().map(|listed| &listed.name)));
            prop_assert_eq!(corpus.characters(), python.chars().count());
        }

        /// Bytes that are no text must not panic either.
        #[test]
        fn names_of_any_text_are_clean_and_round_trip_through_the_vocabulary(
            bytes in prop_oneof![
                4 => "(?s).{0,80}".prop_map(String::into_bytes),
                1 => prop::collection::vec(any::<u8>(), 0..200),
            ],
            case in prop::sample::select(&LetterCase::ALL[..]),
        ) {
            let Ok(corpus) = Corpus::parse(&bytes, "", case) else { return Ok(()) };
            let spelling = corpus.spelling();
            let listed = parse_listed(&bytes, "", spelling).unwrap();
            prop_assert_eq!(listed.len(), corpus.names().len());
            for (Listed { text, name, .. }, indices) in listed.iter().zip(corpus.encoded()) {
                prop_assert!(!name.is_empty() && is_nfc(name) && !name.contains(breaks_lines));
                prop_assert!(!indices.contains(&crate::data::END));
                prop_assert_eq!(&corpus.vocabulary().decode(&indices), name);
                for text in [name, text, &text.nfd().collect()] {
                    let encoded = encode(text, corpus.vocabulary(), spelling);
                    prop_assert_eq!(&encoded.unwrap(), &indices);
                }
            }
            let case = if spelling.is_lower() { LetterCase::Lower } else { LetterCase::Keep };
            let again = Corpus::parse(corpus.names().join("\n").as_bytes(), "", case).unwrap();
            prop_assert_eq!(again.names(), corpus.names());
        }
    }
}
