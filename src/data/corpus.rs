//! A list of names: reading, cleaning, encoding.
//!
//! A list is UTF-8 text with one name a line. Line ends are Unix's, Windows's or those of old Macs,
//! as in the notebook; the last one may be missing. Names are composed to Unicode's NFC, lower-cased
//! unless asked otherwise (as in the notebook) and trimmed of white space and format characters, such
//! as byte-order marks; blank lines are skipped. A name that occurs twice is two examples, as in the
//! notebook.

use super::faults::{Faults, suspicion};
use super::spelling::{LetterCase, clean, clean_prefix, has_inner_capital, trimmed, trimmed_start};
use super::vocabulary::Vocabulary;
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
    /// The number of names with capitals after their first letter, which were lower-cased.
    inner_capitals: usize,
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
        Self::parse(DINOS.as_bytes(), "the built-in list", LetterCase::Lower)
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
    /// [`Error::Names`] for a list without names, and for one with lines that are not UTF-8, have
    /// control characters or are longer than [`MAX_NAME_LENGTH`]: with their number, the first of
    /// them, and what they may be instead.
    ///
    /// ```
    /// use char_rnn::data::{Corpus, LetterCase};
    /// let corpus = Corpus::parse(b"Ada\r\n\r\n Bob", "example", LetterCase::Lower)?;
    /// assert_eq!(corpus.names(), ["ada", "bob"]);
    /// # Ok::<(), char_rnn::Error>(())
    /// ```
    pub fn parse(bytes: &[u8], origin: &str, case: LetterCase) -> Result<Self> {
        let (mut names, mut inner_capitals) = (Vec::new(), 0);
        let characters = for_each_name(bytes, origin, case, |_, text, name| {
            names.push(name.to_string());
            inner_capitals += usize::from(case == LetterCase::Lower && has_inner_capital(text));
        })?;
        let vocabulary = Vocabulary::of(names.iter().map(String::as_str));
        Ok(Self { origin: origin.to_string(), names, vocabulary, characters, inner_capitals })
    }

    /// The same list with the vocabulary of a network, which may have more characters.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`] for the first character that it does not have.
    pub fn with_vocabulary(self, vocabulary: &Vocabulary) -> Result<Self> {
        let own: String = self.vocabulary.characters().iter().collect();
        vocabulary.encode(&own)?;
        Ok(Self { vocabulary: vocabulary.clone(), ..self })
    }

    /// What the list may be instead of a list of names, in a sentence.
    pub fn warning(&self) -> Option<String> {
        suspicion(&self.names)
    }

    /// The number of names with a capital after the first letter that [`LetterCase::Lower`] removed.
    pub fn lost_capitals(&self) -> usize {
        self.inner_capitals
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
/// As [`Corpus::parse`].
pub fn parse_listed(bytes: &[u8], origin: &str, case: LetterCase) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for_each_name(bytes, origin, case, |line, text, name| {
        listed.push(Listed { line, text: text.to_string(), name: name.to_string() });
    })?;
    Ok(listed)
}

/// Encodes a name as indices into `vocabulary`, cleaned as the names of a list are.
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
pub fn encode(name: &str, vocabulary: &Vocabulary, case: LetterCase) -> Result<Vec<u32>> {
    encode_cleaned(trimmed(&clean(name, case)), vocabulary)
}

/// The same for the start of a name, which may end within a word. White space at its end stays: a
/// second word may follow.
///
/// # Errors
/// As [`encode`].
pub fn encode_prefix(prefix: &str, vocabulary: &Vocabulary, case: LetterCase) -> Result<Vec<u32>> {
    encode_cleaned(trimmed_start(&clean_prefix(prefix, case)), vocabulary)
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
    file.take(MAX_LIST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::read(path, source))?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(Error::Names {
            origin: path.display().to_string(),
            problem: format!("the list is larger than the maximum of {} MiB", MAX_LIST_BYTES >> 20),
        });
    }
    Ok(bytes)
}

/// Calls `take` with each name in `bytes`: the number of its line, the line trimmed, and the name
/// cleaned. There is at least one, and none is empty. Returns the number of characters of the cleaned
/// text.
fn for_each_name(
    bytes: &[u8],
    origin: &str,
    case: LetterCase,
    mut take: impl FnMut(usize, &str, &str),
) -> Result<usize> {
    // The end of a text file in DOS.
    let end = bytes.iter().rposition(|&byte| byte != 0x1a).map_or(0, |last| last + 1);
    let (mut all, mut names, mut characters) = (0, 0, 0);
    let mut faults = Faults::default();
    for (line, ended) in lines(&bytes[..end]) {
        all += 1;
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                let found = format!("byte {} is 0x{:02x}, which is not UTF-8", at + 1, line[at]);
                faults.add(all, &found, "text in an older encoding needs to be saved as UTF-8");
                continue;
            }
        };
        let cleaned = clean(text, case);
        characters += cleaned.chars().count() + usize::from(ended);
        let (text, name) = (trimmed(text), trimmed(&cleaned));
        let length = name.chars().count();
        if name.is_empty() || faults.add_control(all, text) {
            continue;
        }
        if length > MAX_NAME_LENGTH {
            let found = format!("{length} characters, more than {MAX_NAME_LENGTH}");
            faults.add(all, &found, "a list has one name a line");
            continue;
        }
        names += 1;
        take(all, text, name);
    }
    let problem = faults.message(all, bytes).or_else(|| {
        let what = if bytes.is_empty() { "is empty" } else { "has only blank lines" };
        (names == 0).then(|| format!("the list {what}; it should have one name a line"))
    });
    match problem {
        Some(problem) => Err(Error::Names { origin: origin.to_string(), problem }),
        None => Ok(characters),
    }
}

/// The lines of `bytes` without their ends, and whether they have one: "\n", "\r\n" or "\r", as
/// Python reads text.
fn lines(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    std::iter::from_fn(move || {
        let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        if bytes.is_empty() {
            return None;
        }
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let one = rest.get(1..).unwrap_or_default();
        bytes = rest.strip_prefix(b"\r\n").unwrap_or(one);
        Some((line, end.is_some()))
    })
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
    fn line_ends_of_all_systems_blank_lines_and_what_surrounds_names_are_removed() {
        for list in [
            "\u{feff}Ada\r\n\r\n  \t\nBOB  \r\nEve",
            "Ada\rBob\r\rEve\r",
            "Ada\nBob\r\nEve\r\n\u{1a}\u{1a}",
            "ada\n\u{feff}bob\n \u{feff}\u{feff} \neve\u{feff}\n",
            "\u{200e}ada\u{200b}\n\u{2060}\u{ad}\nbob\u{200d}\neve",
        ] {
            let corpus = parse(list).unwrap();
            assert_eq!(corpus.names(), ["ada", "bob", "eve"], "{list:?}");
            assert_eq!(corpus.vocabulary().characters(), ['\n', 'a', 'b', 'd', 'e', 'o', 'v']);
        }
        assert!(refusal("\n\u{feff}\n\u{200b}".as_bytes()).contains("only blank lines"));
    }

    #[test]
    fn lines_for_evaluation_are_those_of_the_list() {
        let listed = parse_listed(b"\r\n Ann Lee \rBO\n", "", LetterCase::Lower).unwrap();
        let expected = [(2, "Ann Lee", "ann lee"), (3, "BO", "bo")];
        let listed = listed.iter().map(|l| (l.line, l.text.as_str(), l.name.as_str()));
        assert!(listed.eq(expected));
    }

    #[test]
    fn a_list_takes_a_vocabulary_with_more_characters_only() {
        let (all, own) = (parse("adam\neve").unwrap(), parse("ada\nme").unwrap());
        let adopted = own.clone().with_vocabulary(all.vocabulary()).unwrap();
        assert_eq!((adopted.vocabulary(), adopted.names()), (all.vocabulary(), own.names()));
        assert!(all.with_vocabulary(own.vocabulary()).unwrap_err().to_string().contains("'v'"));
    }

    #[test]
    fn names_that_lose_capitals_are_counted() {
        let lost =
            |list: &str, case| Corpus::parse(list.as_bytes(), "", case).unwrap().lost_capitals();
        let list = "Sankt Pölten\nWels\nSteyr\n";
        assert_eq!((lost(list, LetterCase::Lower), lost(list, LetterCase::Keep)), (1, 0));
        for name in ["WELS", "steyr", "'Abd", "R2D2", "L"] {
            assert_eq!(lost(&format!("{name}\nLinz\n"), LetterCase::Lower), 0);
        }
        assert_eq!((Corpus::dinos().lost_capitals(), Corpus::dinos().warning()), (0, None));
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
    fn all_bad_lines_are_reported_at_once_with_what_they_look_like() {
        for (list, parts) in [
            (
                &b"ada\nbo\xff\n\xe9va\n"[..],
                &["2 of 3 lines", "line 2 (byte 3 is 0xff", "line 3", "UTF-8"][..],
            ),
            (b"ada\t1\n\nbo\t2", &["2 of 3 lines", "line 1 (a tab), line 3 (a tab)", "`cut -f1`"]),
            (
                "Ren\u{c3}\u{a9}\nN\u{c3}\u{85}\nBo".as_bytes(),
                &["1 of 3 lines", "line 2 (U+0085)", "UTF-8 that was decoded as Latin-1"],
            ),
            ("O\u{92}Shea\nBo".as_bytes(), &["line 1 (U+0092)", "Windows-1252"]),
            (
                "Ada\u{85}Bo\nEve\u{2028}Al".as_bytes(),
                &["line 1 (U+0085), line 2 (U+2028)", "end lines"],
            ),
            (b"a\x1b\0\nb", &["line 1 (U+0000, U+001B)", "plain text"]),
            (
                b"a\x01\nb\x01\nc\x01\nd\x01\ne\x01\nf\x01\n\0\xff\n",
                &["7 of 7", "line 5 (U+0001) and 2 more"],
            ),
        ] {
            let message = refusal(list);
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn lists_without_names_are_refused() {
        assert!(refusal(b"").contains("is empty"));
        assert!(refusal(b"\n \r\n\t\n").contains("only blank lines"));
        assert!(refusal("\u{feff}".as_bytes()).contains("only blank lines"));
    }

    #[test]
    fn long_lines_are_reported_with_their_line() {
        let longest = "ab".repeat(MAX_NAME_LENGTH / 2);
        assert!(parse(&longest).is_ok());
        assert!(refusal(format!("ada\n{longest}a").as_bytes()).contains("line 2 (1001 char"));
    }

    #[test]
    fn encode_cleans_as_the_list_is_cleaned() {
        let corpus = parse("josé maria\n각\n").unwrap();
        let encode = |text| encode(text, corpus.vocabulary(), LetterCase::Lower);
        let spelled = |text| corpus.vocabulary().decode(&encode(text).unwrap());
        assert_eq!(spelled(" JOSE\u{301} \u{200b}"), "josé");
        let prefix = encode_prefix(" JOSE\u{301} ", corpus.vocabulary(), LetterCase::Lower);
        assert_eq!(corpus.vocabulary().decode(&prefix.unwrap()), "josé ");
        assert_eq!(spelled("\u{1100}\u{1161}\u{11a8}"), "각");
        for (text, character) in [("jose", 'e'), ("j\no", '\n'), ("j\u{2028}o", '\u{2028}')] {
            let message = encode(text).unwrap_err().to_string();
            assert!(message.contains(&format!("{character:?}")), "{message}");
        }
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
