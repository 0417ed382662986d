//! Capitals of names that are learned in lower case: the rule that restores them.
//!
//! A word is a run of letters with their marks. Its position is what is directly before it in the
//! name. A word of the list is written as the list most often writes it in its position, which
//! keeps McKay, NASA and "the"; another one as most words of the list are in its position. So "-le-"
//! is small in Saint-Jean-le-Vieux, and a new word after the same hyphen has a capital.

use super::letters::{composed, first_letter, titlecase};
use crate::text::breaks_lines;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// How the letters of a word are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    /// The first letter as a capital.
    Title,
    Lower,
    Upper,
}

impl Style {
    /// In their order, the first of equally frequent ones is preferred.
    const ALL: [Self; 3] = [Self::Title, Self::Lower, Self::Upper];

    /// `word`, which is in lower case, in this style.
    fn apply(self, word: &str) -> String {
        match (self, first_letter(word)) {
            (Self::Upper, _) => word.to_uppercase(),
            (Self::Title, Some((at, letter))) => {
                format!("{}{}{}", &word[..at], titlecase(letter), &word[at + letter.len_utf8()..])
            }
            _ => word.to_string(),
        }
    }

    /// The style that gives `written` from `word`; none where all styles do, as in scripts without
    /// capitals, or none does, as for McKay.
    fn of(written: &str, word: &str) -> Option<Self> {
        match Self::ALL.map(|style| style.apply(word) == written) {
            [true, false, _] => Some(Self::Title),
            [false, true, _] => Some(Self::Lower),
            [false, false, true] => Some(Self::Upper),
            _ => None,
        }
    }
}

/// The rule, by position: the empty text for the first word of a name, else the character before
/// the word, any digit as "0".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capitals {
    /// How unknown words are written; in other positions in lower case.
    styles: BTreeMap<String, Style>,
    /// The words of the list that are written otherwise.
    words: BTreeMap<String, BTreeMap<String, String>>,
}

/// The rule of a list without mixed case: the first letter of a name is a capital.
impl Default for Capitals {
    fn default() -> Self {
        let styles = BTreeMap::from([(FIRST.to_string(), Style::Title)]);
        Self { styles, words: BTreeMap::new() }
    }
}

/// The position of the first word.
const FIRST: &str = "";

impl Capitals {
    /// The rule of a list: its distinct names as they are written, and in lower case.
    pub fn of(names: &[(String, String)]) -> Self {
        let counts = Counts::of(names);
        let mut capitals = Self { styles: BTreeMap::new(), words: BTreeMap::new() };
        for &position in counts.styles.keys() {
            capitals.styles.insert(position.to_string(), counts.style(position));
        }
        for &(position, word) in counts.words.keys() {
            let written = counts.written(position, word);
            if written != counts.style(position).apply(word) {
                let words = capitals.words.entry(position.to_string()).or_default();
                words.insert(word.to_string(), written);
            }
        }
        capitals
    }

    /// `name`, which is in lower case, with its capitals.
    pub fn restore(&self, name: &str) -> String {
        rewritten(name, |position, word| {
            let written = self.words.get(position).and_then(|words| words.get(word));
            let style = self.styles.get(position).copied().unwrap_or(Style::Lower);
            written.cloned().unwrap_or_else(|| style.apply(word))
        })
    }

    /// Refuses a rule that no list has. A control character could reach a terminal.
    pub fn check(&self) -> Result<(), String> {
        let mut words = self.words.values().flat_map(BTreeMap::values);
        match words.find(|word| word.contains(breaks_lines)) {
            Some(_) => Err("a word of its list has a control character".to_string()),
            None => Ok(()),
        }
    }
}

/// How many of the distinct `names`, as they are written and in lower case, the rule of all others
/// restores.
pub(super) fn restored_by_others(names: &[(String, String)]) -> usize {
    let (mut counts, mut restored) = (Counts::of(names), 0);
    for (written, lower) in names {
        counts.add(written, lower, -1);
        let by_others = rewritten(lower, |position, word| counts.written(position, word));
        counts.add(written, lower, 1);
        restored += usize::from(composed(by_others) == *written);
    }
    restored
}

/// The words of a list and their styles, counted by position.
#[derive(Default)]
struct Counts<'n> {
    /// By position and word, how often it is written how.
    words: HashMap<(&'n str, &'n str), HashMap<&'n str, i64>>,
    /// How often a word has each of [`Style::ALL`].
    styles: HashMap<&'n str, [i64; 3]>,
}

impl<'n> Counts<'n> {
    fn of(names: &'n [(String, String)]) -> Self {
        let mut counts = Self::default();
        for (written, lower) in names {
            counts.add(written, lower, 1);
        }
        counts
    }

    /// Adds the words of a name `times` times.
    fn add(&mut self, written: &'n str, lower: &'n str, times: i64) {
        let (places, written_places) = (words(lower), words(written));
        // A few letters become several by lower-casing; then the words may not be the same.
        if places.len() != written_places.len() {
            return;
        }
        for ((position, word), (_, as_written)) in places.into_iter().zip(written_places) {
            let (word, as_written) = (&lower[word], &written[as_written]);
            if let Some(style) = Style::of(as_written, word) {
                self.styles.entry(position).or_default()[style as usize] += times;
            }
            *self.words.entry((position, word)).or_default().entry(as_written).or_default() +=
                times;
        }
    }

    /// The most frequent style in `position`.
    fn style(&self, position: &str) -> Style {
        let counts = self.styles.get(position).copied().unwrap_or_default();
        let most = counts.into_iter().max().filter(|&most| most > 0);
        let first = Style::ALL.into_iter().find(|&style| Some(counts[style as usize]) == most);
        first.unwrap_or(Style::Lower)
    }

    /// `word` as it is most often written in `position`, or in the style of the position.
    fn written(&self, position: &str, word: &str) -> String {
        let usual = self.style(position).apply(word);
        let spellings = self.words.get(&(position, word)).into_iter().flatten();
        let best = spellings
            .filter(|&(_, &count)| count > 0)
            // Of equally frequent ones the usual one, then the first in the order of characters.
            .max_by_key(|&(&written, &count)| {
                (count, written == usual, std::cmp::Reverse(written))
            });
        best.map_or(usual, |(written, _)| written.to_string())
    }
}

/// `text`, which is in lower case, with each word in titlecase.
pub(super) fn title(text: &str) -> String {
    rewritten(text, |_, word| Style::Title.apply(word))
}

/// `name` with each word replaced by what `write` gives for its position and itself.
fn rewritten(name: &str, write: impl Fn(&str, &str) -> String) -> String {
    let (mut out, mut end) = (String::with_capacity(name.len()), 0);
    for (position, word) in words(name) {
        out += &name[end..word.start];
        out += &write(position, &name[word.clone()]);
        end = word.end;
    }
    out + &name[end..]
}

/// The words of `name` and their positions.
fn words(name: &str) -> Vec<(&str, Range<usize>)> {
    let mut words: Vec<(&str, Range<usize>)> = Vec::new();
    let (mut position, mut is_in_word, mut is_first) = (FIRST, false, true);
    for (at, character) in name.char_indices() {
        let end = at + character.len_utf8();
        if is_of_a_word(character) {
            match words.last_mut() {
                Some((_, word)) if is_in_word => word.end = end,
                _ => words.push((position, at..end)),
            }
            (is_in_word, is_first) = (true, false);
            continue;
        }
        is_in_word = false;
        is_first &= !character.is_numeric();
        position = match character {
            _ if is_first => FIRST,
            digit if digit.is_numeric() => "0",
            _ => &name[at..end],
        };
    }
    words
}

/// Whether `character` is a letter or belongs to one: a mark, a joiner, a sign such as the Hawaiian
/// okina.
fn is_of_a_word(character: char) -> bool {
    use unicode_properties::GeneralCategory::Format;
    character.is_ascii_alphabetic()
        || !character.is_ascii()
            && (character.is_alphabetic()
                || character.general_category_group() == GeneralCategoryGroup::Mark
                || character.general_category() == Format)
}

#[cfg(test)]
mod tests {
    use super::super::spelling::Spelling;
    use super::*;
    use proptest::prelude::*;

    /// The names of a list as they are written, and in lower case.
    fn pairs(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| (name.to_string(), Spelling::lower().clean(name))).collect()
    }

    #[test]
    fn words_of_the_list_are_written_as_the_list_writes_them_and_others_as_most_are() {
        let french =
            ["Saint-Jean-le-Vieux", "Aix-les-Bains", "la Rochelle", "L'Île-d'Yeu", "Paris"];
        let films = ["The Wind in the Willows", "Henry VIII", "Lost in Space", "The War of Worlds"];
        let dutch = ["'s-Hertogenbosch", "IJmuiden", "Den Haag", "Bergen (Ontario)", "5th Avenue"];
        for (list, name, expected) in [
            (&french[..], "saint-aubin-le-bains", "Saint-Aubin-le-Bains"),
            (&french, "la ferté", "la Ferté"),
            (&french, "vieux-la", "Vieux-La"),
            (&films, "henry in the fog of viii", "Henry in the Fog of VIII"),
            (&films, "willows", "Willows"),
            (&dutch, "ijmuiden (haag)", "IJmuiden (Haag)"),
            (&dutch, "6th den", "6th Den"),
            (&dutch, "'s haag", "'s Haag"),
            // A position that the list does not have.
            (&dutch, "den+haag", "Den+haag"),
            (&["SMITH, John", "JONES, Ann"], "brown, mary", "BROWN, Mary"),
            (&["ǅemal", "ǅezva"], "ǆulis", "ǅulis"),
            (&["ΝΙΚΟΣ", "ΑΡΗΣ"], "παρης", "ΠΑΡΗΣ"),
            (&["Ἀθῆναι", "Nguyễn Văn An"], "trần thị", "Trần Thị"),
            (&["ʻIolani Palace", "Hawaiʻi"], "ʻāina", "ʻĀina"),
            (&["Tiểu", "5ⅳ"], "", ""),
            // Of equally frequent spellings the usual one, or the first.
            (&["Ada", "ADA", "Bo"], "ada", "Ada"),
            (&["aDa", "adA", "Bo"], "ada", "aDa"),
            (&["x y", "x Z"], "x w", "x W"),
        ] {
            assert_eq!(Capitals::of(&pairs(list)).restore(name), expected);
        }
    }

    proptest! {
        #[test]
        fn a_name_is_restored_as_by_the_rule_of_the_others(
            list in prop::collection::btree_set("[aAbB]{1,2}([ -'1][aAB]{1,2}){0,2}|[éÉİıΣσßǆ ]{1,4}", 1..9),
        ) {
            let list: Vec<&str> = list.iter().map(String::as_str).collect();
            let names = pairs(&list);
            let by_hand = (0..names.len()).filter(|&out| {
                let mut others = names.clone();
                let (written, lower) = others.remove(out);
                composed(Capitals::of(&others).restore(&lower)) == written
            });
            prop_assert_eq!(restored_by_others(&names), by_hand.count());
            let rule = Capitals::of(&names);
            for (_, lower) in &names {
                let shown = rule.restore(lower);
                // The same letters, in the rule's own words too.
                prop_assert_eq!(composed(shown.to_uppercase()), composed(lower.to_uppercase()));
            }
            let json = serde_json::to_string(&rule).unwrap();
            prop_assert_eq!(serde_json::from_str::<Capitals>(&json).unwrap(), rule);
        }
    }
}
