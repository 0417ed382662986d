//! A list of names in any bytes: it is refused, or each name is clean and is spelled by the
//! vocabulary.

#![no_main]

use char_rnn::corpus::{Case, Corpus, LONGEST_NAME, encode};
use char_rnn::vocab::{END, Vocabulary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for case in [Case::Lower, Case::Keep] {
        if let Ok(corpus) = Corpus::parse(bytes, "fuzz", case) {
            check(&corpus, case);
        }
    }
});

fn check(corpus: &Corpus, case: Case) {
    let vocabulary = corpus.vocabulary();
    assert!(!corpus.names().is_empty());
    assert!(vocabulary.size() > 2, "there is something to learn");
    for (name, indices) in corpus.names().iter().zip(corpus.encoded()) {
        assert!(!name.is_empty() && name.trim() == name && !name.starts_with('\u{feff}'));
        assert!(name.chars().count() <= LONGEST_NAME);
        assert!(!name.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')));
        assert!(!indices.contains(&END));
        assert!(indices.iter().all(|&index| (index as usize) < vocabulary.size()));
        assert_eq!(&vocabulary.decode(&indices), name);
        // A person who types a name of the list finds it.
        assert_eq!(encode(name, vocabulary, case).unwrap(), indices);
    }
    let spelled: String = vocabulary.characters().iter().collect();
    assert_eq!(&Vocabulary::from_characters(&spelled).unwrap(), vocabulary);
    // A list that is clean stays as it is.
    let again = Corpus::parse(corpus.names().join("\n").as_bytes(), "again", case).unwrap();
    assert_eq!(again.names(), corpus.names());
    assert_eq!(again.digest(), corpus.digest());
}
