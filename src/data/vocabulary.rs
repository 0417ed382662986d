//! Characters and their indices.
//!
//! Index 0 is `'\n'`, the end of a name; the others follow in the order of their code points, as in
//! the notebook's `sorted(set(data))`. A character is a Unicode scalar value: a letter with a
//! combining mark and without a composed form is two.

use super::spelling::Spelling;
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
        let characters: String = std::iter::once('\n').chain(distinct).collect();
        Self::from_characters(&characters).expect("they are distinct, and the line end is first")
    }

    /// The vocabulary that lists `characters` in index order, as a model file does.
    ///
    /// # Errors
    /// A message if the first is not `'\n'` or one occurs twice.
    pub fn from_characters(characters: &str) -> std::result::Result<Self, String> {
        let characters: Vec<char> = characters.chars().collect();
        let indices: HashMap<char, u32> = (0..).zip(&characters).map(|(i, &c)| (c, i)).collect();
        if characters.first() != Some(&'\n') {
            return Err("the vocabulary does not start with a line end".to_string());
        }
        if indices.len() != characters.len() {
            return Err("the vocabulary has a character twice".to_string());
        }
        Ok(Self { characters, indices })
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
        let index = |character| {
            self.indices.get(&character).copied().ok_or(Error::UnknownCharacter { character })
        };
        text.chars().map(index).collect()
    }

    /// The text of `indices`.
    ///
    /// # Panics
    /// On an index that is not below [`size`](Self::size).
    pub fn decode(&self, indices: &[u32]) -> String {
        indices.iter().map(|&index| self.characters[index as usize]).collect()
    }

    /// The name of `indices` as it is shown in this `spelling`.
    ///
    /// # Panics
    /// On an index that is not below [`size`](Self::size).
    pub fn show(&self, indices: &[u32], spelling: &Spelling) -> String {
        spelling.shown(&self.decode(indices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stored_vocabularies_start_with_the_line_end_and_have_no_duplicates() {
        for wrong in ["ab", "", "\naa", "\n\n"] {
            assert!(Vocabulary::from_characters(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(names in prop::collection::vec("(?s).*", 1..8)) {
            let vocabulary = Vocabulary::of(names.iter().map(String::as_str));
            for name in &names {
                prop_assert_eq!(&vocabulary.decode(&vocabulary.encode(name).unwrap()), name);
            }
            prop_assert_eq!(vocabulary.encode("\n").unwrap(), [END]);
            prop_assert!(vocabulary.characters()[1..].is_sorted());
            let written: String = vocabulary.characters().iter().collect();
            prop_assert_eq!(Vocabulary::from_characters(&written).unwrap(), vocabulary);
        }
    }
}
