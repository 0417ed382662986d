//! Characters and their indices.
//!
//! Index 0 is `'\n'`, the end of a name; the others follow in the order of their code points, as in
//! the notebook's `sorted(set(data))`. A character is a Unicode scalar value: a letter with a
//! combining mark and without a composed form is two.

use super::spelling::{LetterCase, shown};
use crate::error::{Error, Result};
use std::collections::{BTreeSet, HashMap};

/// The index of `'\n'`, the end of a name.
pub const END: u32 = 0;

/// The distinct characters of a list of names, and `'\n'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    characters: Vec<char>,
    indices: HashMap<char, u32>,
}

impl Vocabulary {
    /// The vocabulary of `names`: each distinct character, and `'\n'`.
    ///
    /// ```
    /// use char_rnn::data::Vocabulary;
    /// let vocabulary = Vocabulary::of(["ada", "bob"]);
    /// assert_eq!(vocabulary.characters(), ['\n', 'a', 'b', 'd', 'o']);
    /// assert_eq!(vocabulary.encode("dab")?, [3, 1, 2]);
    /// # Ok::<(), char_rnn::Error>(())
    /// ```
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut distinct: BTreeSet<char> = names.into_iter().flat_map(str::chars).collect();
        distinct.remove(&'\n');
        let characters = std::iter::once('\n').chain(distinct).collect();
        Self::index(characters)
    }

    /// The vocabulary that lists `characters` in index order, as a model file does.
    ///
    /// # Errors
    /// A message if the first is not `'\n'` or one occurs twice.
    pub fn from_characters(characters: &str) -> std::result::Result<Self, String> {
        let characters: Vec<char> = characters.chars().collect();
        if characters.first() != Some(&'\n') {
            return Err("the vocabulary does not start with a line end".to_string());
        }
        let count = characters.len();
        let vocabulary = Self::index(characters);
        if vocabulary.indices.len() != count {
            return Err("the vocabulary has a character twice".to_string());
        }
        Ok(vocabulary)
    }

    fn index(characters: Vec<char>) -> Self {
        let indices = (0u32..).zip(&characters).map(|(i, &c)| (c, i)).collect();
        Self { characters, indices }
    }

    /// The number of characters, `'\n'` included: the `n_x` and `n_y` of the model.
    pub fn size(&self) -> usize {
        self.characters.len()
    }

    /// The characters in index order; the first is `'\n'`.
    pub fn characters(&self) -> &[char] {
        &self.characters
    }

    /// The indices of the characters of `text`.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`] names the first character that is not in the vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        text.chars()
            .map(|character| {
                self.indices.get(&character).copied().ok_or(Error::UnknownCharacter { character })
            })
            .collect()
    }

    /// The text of `indices`.
    ///
    /// # Panics
    /// On an index that is not below [`size`](Self::size).
    pub fn decode(&self, indices: &[u32]) -> String {
        indices.iter().map(|&index| self.characters[index as usize]).collect()
    }

    /// The name of `indices` as it is [`shown`].
    ///
    /// # Panics
    /// As [`decode`](Self::decode).
    pub fn show(&self, indices: &[u32], case: LetterCase) -> String {
        shown(&self.decode(indices), case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_line_end_has_index_0() {
        let vocabulary = Vocabulary::of(["b\ta"]);
        assert_eq!(vocabulary.characters(), ['\n', '\t', 'a', 'b']);
        assert_eq!(vocabulary.encode("\n").unwrap(), [END]);
    }

    #[test]
    fn the_error_names_the_unknown_character() {
        let error = Vocabulary::of(["ab"]).encode("abc").unwrap_err();
        assert!(error.to_string().contains("'c'"), "{error}");
    }

    #[test]
    fn stored_vocabularies_start_with_the_line_end_and_have_no_duplicates() {
        assert!(Vocabulary::from_characters("ab").is_err());
        assert!(Vocabulary::from_characters("").is_err());
        assert!(Vocabulary::from_characters("\naa").is_err());
        assert!(Vocabulary::from_characters("\n\n").is_err());
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(names in prop::collection::vec(".*", 1..8)) {
            let vocabulary = Vocabulary::of(names.iter().map(String::as_str));
            for name in &names {
                prop_assert_eq!(&vocabulary.decode(&vocabulary.encode(name).unwrap()), name);
            }
            let written: String = vocabulary.characters().iter().collect();
            prop_assert_eq!(Vocabulary::from_characters(&written).unwrap(), vocabulary);
        }
    }
}
