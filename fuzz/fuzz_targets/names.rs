//! Parses any bytes as a list of names: an error, or clean names that round-trip through the
//! vocabulary.

#![no_main]

use char_rnn::data::{Corpus, END, LetterCase, MAX_NAME_LENGTH, Vocabulary, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for case in [LetterCase::Lower, LetterCase::Keep] {
        if let Ok(corpus) = Corpus::parse(bytes, "fuzz", case) {
            check(&corpus, case);
        }
    }
});

fn check(corpus: &Corpus, case: LetterCase) {
    let vocabulary = corpus.vocabulary();
    assert!(!corpus.names().is_empty());
    assert!(vocabulary.size() > 1);
    for (name, indices) in corpus.names().iter().zip(corpus.encoded()) {
        assert!(!name.is_empty() && name.trim() == name && !name.starts_with('\u{feff}'));
        assert!(name.chars().count() <= MAX_NAME_LENGTH);
        assert!(!name.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')));
        assert!(!indices.contains(&END));
        assert!(indices.iter().all(|&index| (index as usize) < vocabulary.size()));
        assert_eq!(&vocabulary.decode(&indices), name);
        assert_eq!(encode(name, vocabulary, case).unwrap(), indices);
    }
    let characters: String = vocabulary.characters().iter().collect();
    assert_eq!(&Vocabulary::from_characters(&characters).unwrap(), vocabulary);
    // Cleaning is idempotent.
    let again = Corpus::parse(corpus.names().join("\n").as_bytes(), "again", case).unwrap();
    assert_eq!(again.names(), corpus.names());
    assert_eq!(again.digest(), corpus.digest());
}
