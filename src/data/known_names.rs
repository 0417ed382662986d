//! The names that a model was trained on, compactly: a set of hashes that the model file stores.
//!
//! A name's fingerprint is the first four bytes of the SHA-256 of its UTF-8 text as [`shown`], as a
//! little-endian number. Every name of the list is found. A false positive has the probability of
//! the number of names over 2^32: 3 in 10 million for the built-in dinosaurs.

use super::spelling::{LetterCase, shown};
use sha2::{Digest, Sha256};

/// A set of names as fingerprints, four bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNames {
    /// Sorted, without duplicates.
    fingerprints: Vec<u32>,
}

impl KnownNames {
    /// The set of `names`, which were read with this letter `case`.
    ///
    /// ```
    /// use char_rnn::data::{KnownNames, LetterCase};
    /// let known = KnownNames::of(["ada", "bob"], LetterCase::Lower);
    /// assert!(known.contains("Ada") && !known.contains("Eve"));
    /// ```
    pub fn of(names: impl IntoIterator<Item = impl AsRef<str>>, case: LetterCase) -> Self {
        let fingerprint = |name| fingerprint(&shown(AsRef::as_ref(&name), case));
        Self::sorted(names.into_iter().map(fingerprint).collect())
    }

    fn sorted(mut fingerprints: Vec<u32>) -> Self {
        fingerprints.sort_unstable();
        fingerprints.dedup();
        Self { fingerprints }
    }

    /// The set that a model file stores.
    ///
    /// # Errors
    /// A message if the fingerprints are not sorted or have duplicates.
    pub(crate) fn from_fingerprints(fingerprints: Vec<u32>) -> Result<Self, String> {
        match fingerprints.is_sorted_by(|a, b| a < b) {
            true => Ok(Self { fingerprints }),
            false => Err("the fingerprints of its names are not in order".to_string()),
        }
    }

    /// The names of both sets.
    pub fn union(&self, other: &Self) -> Self {
        Self::sorted([&self.fingerprints[..], &other.fingerprints].concat())
    }

    /// The fingerprints, sorted.
    pub(crate) fn fingerprints(&self) -> &[u32] {
        &self.fingerprints
    }

    /// Whether `name`, as [`shown`], is in the set.
    pub fn contains(&self, name: &str) -> bool {
        self.fingerprints.binary_search(&fingerprint(name)).is_ok()
    }
}

fn fingerprint(name: &str) -> u32 {
    let digest = Sha256::digest(name.as_bytes());
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEEP: LetterCase = LetterCase::Keep;

    #[test]
    fn a_fingerprint_is_the_start_of_the_sha_256() {
        // The empty text's digest begins e3b0c442, that of "abc" ba7816bf.
        assert_eq!(KnownNames::of([""], KEEP).fingerprints(), [0x42c4_b0e3]);
        assert_eq!(KnownNames::of(["abc", "abc"], KEEP).fingerprints(), [0xbf16_78ba]);
    }

    #[test]
    fn names_are_found_by_what_is_shown() {
        let known = KnownNames::of(["ilse", "\u{17f}ara", "josé"], LetterCase::Lower);
        for sampled in ["ilse", "ılse", "sara", "jose\u{301}", " josé"] {
            assert!(known.contains(&shown(sampled, LetterCase::Lower)), "{sampled}");
        }
        assert!(!known.contains("ilse") && !known.contains("Jose"));
    }

    #[test]
    fn fingerprints_out_of_order_are_refused() {
        assert!(KnownNames::from_fingerprints(vec![1, 3, 2]).is_err());
        assert!(KnownNames::from_fingerprints(vec![1, 1]).is_err());
        assert!(KnownNames::from_fingerprints(vec![]).is_ok());
    }

    #[test]
    fn false_positives_are_rare() {
        let names: Vec<String> = (0..20_000).map(|i| format!("name {i}")).collect();
        let known = KnownNames::of(&names, KEEP);
        let wrong = (0..100_000).filter(|i| known.contains(&format!("other {i}"))).count();
        // 20,000 x 100,000 / 2^32 is about a half.
        assert!(wrong <= 6, "{wrong}");
    }

    proptest! {
        #[test]
        fn every_name_of_the_list_is_found(names in prop::collection::vec(".{0,8}", 0..40)) {
            let known = KnownNames::of(&names, KEEP);
            prop_assert!(names.iter().all(|name| known.contains(&shown(name, KEEP))));
            let again = KnownNames::from_fingerprints(known.fingerprints().to_vec());
            prop_assert_eq!(again.unwrap(), known.clone());
            let (one, other) = names.split_at(names.len() / 3);
            let (one, other) = (KnownNames::of(one, KEEP), KnownNames::of(other, KEEP));
            prop_assert_eq!(one.union(&other), known);
        }
    }
}
