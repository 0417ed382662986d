//! The names that a model was trained on, compactly: a set of hashes that the model file stores.
//!
//! Names are compared in capitals, trimmed and composed (NFC), so that names that are shown alike are
//! the same whatever rule restores their capitals. A name's fingerprint is the first four bytes of
//! the SHA-256 of that text in UTF-8, as a little-endian number. Every name of the list is found. A false positive has the probability of
//! the number of names over 2^32: 3 in 10 million for the built-in dinosaurs.

use super::letters::in_capitals;
use sha2::{Digest, Sha256};

/// A set of names as fingerprints, four bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNames {
    /// Sorted, without duplicates.
    fingerprints: Vec<u32>,
}

impl KnownNames {
    /// The set of `names`.
    ///
    /// ```
    /// use char_rnn::data::KnownNames;
    /// let known = KnownNames::of(["ada", "bob"]);
    /// assert!(known.contains("Ada") && !known.contains("eve"));
    /// ```
    pub fn of(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let fingerprint = |name| fingerprint(AsRef::as_ref(&name));
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
        if !fingerprints.is_sorted_by(|a, b| a < b) {
            return Err("the fingerprints of its names are not in order".to_string());
        }
        Ok(Self { fingerprints })
    }

    /// The names of both sets.
    pub fn union(&self, other: &Self) -> Self {
        Self::sorted([&self.fingerprints[..], &other.fingerprints].concat())
    }

    /// The fingerprints, sorted.
    pub(crate) fn fingerprints(&self) -> &[u32] {
        &self.fingerprints
    }

    /// Whether `name`, in any case, is in the set.
    pub fn contains(&self, name: &str) -> bool {
        self.fingerprints.binary_search(&fingerprint(name)).is_ok()
    }
}

fn fingerprint(name: &str) -> u32 {
    let digest: [u8; 32] = Sha256::digest(in_capitals(name)).into();
    u32::from_le_bytes(*digest.first_chunk().expect("32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fingerprint_is_the_start_of_the_sha_256() {
        // The empty text's digest begins e3b0c442, that of "ABC" b5d4045c.
        assert_eq!(KnownNames::of([""]).fingerprints(), [0x42c4_b0e3]);
        let abc = KnownNames::of(["abc", "abc"]);
        assert_eq!(abc.fingerprints(), [0x5c04_d4b5]);
    }

    proptest! {
        #[test]
        fn the_names_of_the_list_and_no_others_are_found(
            names in prop::collection::vec("[iıſsée\u{301} ]{0,3}|.{0,8}", 0..40),
            count in any::<prop::sample::Index>(),
        ) {
            let capitals: Vec<String> = names.iter().map(|name| in_capitals(name)).collect();
            let (one, other) = names.split_at(count.index(names.len() + 1));
            let known = KnownNames::of(one);
            for name in &capitals {
                prop_assert_eq!(known.contains(name), capitals[..one.len()].contains(name));
            }
            let all = known.union(&KnownNames::of(other));
            prop_assert_eq!(&all, &KnownNames::of(&names));
            let stored = all.fingerprints().to_vec();
            let twice = KnownNames::from_fingerprints([&stored[..], &stored].concat());
            prop_assert_eq!(twice.is_err(), !stored.is_empty());
            prop_assert_eq!(KnownNames::from_fingerprints(stored), Ok(all));
        }
    }
}
