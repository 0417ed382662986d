//! Interpolated Kneser-Ney: a language model that counts. It is the baseline for the network, and
//! where training asks for it, the source of soft targets.
//!
//! The probability of the character `y` after the context `h`, the characters before it (Chen and
//! Goodman 1999, "An empirical study of smoothing techniques for language modeling", equation 20):
//!
//! ```text
//! p(y | h) = max(c(h y) - D, 0) / c(h) + D n(h) / c(h) p(y | h')
//! ```
//!
//! `h'` is `h` without its first character, `c(h)` the sum of `c(h y)` over y, `n(h)` the number of
//! different characters after `h`, and D the discount. Below the empty context is the uniform
//! distribution. `c` is the number of occurrences for contexts of `order - 1` characters and for
//! those that begin with the start of a name; else it is the number of different characters before
//! `h y`. A name that the list has twice is counted once.

use crate::data::{END, START};
use std::collections::{BTreeSet, HashMap};

/// The orders that [`NGram::choose`] compares.
const ORDERS: std::ops::RangeInclusive<usize> = 2..=8;
/// The discounts that it compares.
const DISCOUNTS: [f64; 8] = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
/// The maximum number of names on which it compares them.
const COMPARED: usize = 2000;

/// The counts after one context.
#[derive(Debug, Clone)]
struct Node {
    /// The node of the context without its first character; the root is its own.
    suffix: u32,
    /// c(h).
    total: u32,
    /// The characters after the context in ascending order, each with its count.
    counts: Vec<(u32, u32)>,
}

impl Node {
    fn add(&mut self, y: u32) {
        self.total += 1;
        match self.counts.binary_search_by_key(&y, |&(y, _)| y) {
            Ok(at) => self.counts[at].1 += 1,
            Err(at) => self.counts.insert(at, (y, 1)),
        }
    }

    /// c(h y).
    fn count(&self, y: u32) -> u32 {
        let found = self.counts.binary_search_by_key(&y, |&(y, _)| y);
        found.map_or(0, |at| self.counts[at].1)
    }
}

/// An interpolated Kneser-Ney model of names, each the indices of its characters.
#[derive(Debug, Clone)]
pub struct NGram {
    order: usize,
    discount: f64,
    vocabulary: usize,
    /// A tree of contexts, read backwards; the first is the root, the empty context.
    nodes: Vec<Node>,
    /// The node of a context with one more character before it.
    longer: HashMap<(u32, u32), u32>,
}

impl NGram {
    /// Counts `names`, over a vocabulary of this size, the end of a name included.
    ///
    /// # Panics
    /// If the order is 0, the discount is not between 0 and 1, or an index is outside the
    /// vocabulary.
    ///
    /// ```
    /// use char_rnn::ngram::NGram;
    /// let model = NGram::new(&[vec![1, 2], vec![1, 3]], 4, 3, 0.75);
    /// assert!(model.loss(&[1, 2]) < model.loss(&[2, 1]));
    /// ```
    pub fn new(names: &[Vec<u32>], vocabulary: usize, order: usize, discount: f64) -> Self {
        assert!(order > 0 && discount > 0. && discount < 1., "order {order}, discount {discount}");
        let distinct: BTreeSet<&Vec<u32>> = names.iter().collect();
        let outside = distinct.iter().find(|name| name.iter().any(|&y| y as usize >= vocabulary));
        assert_eq!(outside, None, "the vocabulary is {vocabulary}");
        let counted = distinct.into_iter().flat_map(|name| occurrences(name));
        Self::of(counted, vocabulary, order, discount)
    }

    /// Counts characters after their contexts.
    fn of<'a>(
        occurrences: impl Iterator<Item = (&'a [u32], u32)>,
        vocabulary: usize,
        order: usize,
        discount: f64,
    ) -> Self {
        let root = Node { suffix: 0, total: 0, counts: vec![] };
        let (nodes, longer) = (vec![root], HashMap::new());
        let mut model = Self { order, discount, vocabulary, nodes, longer };
        for (context, y) in occurrences {
            let node = model.insert(context);
            model.nodes[node].add(y);
        }
        // Longer contexts come later, so that the counts of a node are complete in its turn.
        for node in (1..model.nodes.len()).rev() {
            let (shorter, longer) = model.nodes.split_at_mut(node);
            let Node { suffix, counts, .. } = &longer[0];
            counts.iter().for_each(|&(y, _)| shorter[*suffix as usize].add(y));
        }
        model
    }

    /// Counts `names` with the order and the discount that predict each character of them best when
    /// that occurrence is not counted.
    ///
    /// # Panics
    /// If there are no names, or an index is outside the vocabulary.
    pub fn choose(names: &[Vec<u32>], vocabulary: usize) -> Self {
        let every = names.len().div_ceil(COMPARED);
        let compared: Vec<&Vec<u32>> = names.iter().step_by(every).collect();
        let mut best: Option<(f64, Self)> = None;
        for order in ORDERS {
            let mut model = Self::new(names, vocabulary, order, DISCOUNTS[0]);
            let losses = DISCOUNTS.map(|discount| {
                model.discount = discount;
                compared.iter().map(|name| model.loss_of(name, true)).sum::<f64>()
            });
            let of_order = losses.into_iter().zip(DISCOUNTS);
            let (loss, discount) =
                of_order.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are discounts");
            model.discount = discount;
            if best.as_ref().is_some_and(|(lowest, _)| loss >= *lowest) {
                break;
            }
            best = Some((loss, model));
        }
        best.expect("there are orders").1
    }

    /// The length of an n-gram, the predicted character included.
    pub fn order(&self) -> usize {
        self.order
    }

    /// D.
    pub fn discount(&self) -> f64 {
        self.discount
    }

    /// The loss of `name`, `-ln p(name)` in nats, its end included.
    ///
    /// # Panics
    /// If an index is outside the vocabulary.
    pub fn loss(&self, name: &[u32]) -> f64 {
        assert!(name.iter().all(|&y| (y as usize) < self.vocabulary), "{name:?}");
        self.loss_of(name, false)
    }

    /// The loss of `name`; of a counted name, if `left_out`, each of its characters predicted
    /// without that occurrence.
    fn loss_of(&self, name: &[u32], left_out: bool) -> f64 {
        let loss = |(context, y)| {
            let mut p = [0.];
            self.write(self.longest(context), left_out.then_some(y), y, &mut p);
            -p[0].ln()
        };
        occurrences(name).map(loss).sum()
    }

    /// The node of the longest context of each character of a counted name, and of its end.
    pub(crate) fn nodes(&self, name: &[u32]) -> Vec<u32> {
        occurrences(name).map(|(context, _)| self.longest(context)).collect()
    }

    /// The node of the longest context, created with those on the way.
    fn insert(&mut self, context: &[u32]) -> usize {
        let mut node = 0;
        for character in backwards(context).take(self.order - 1) {
            let next = self.nodes.len() as u32;
            let found = *self.longer.entry((node, character)).or_insert(next);
            if found == next {
                self.nodes.push(Node { suffix: node, total: 0, counts: vec![] });
            }
            node = found;
        }
        node as usize
    }

    /// The node of the longest end of `context` that was counted.
    fn longest(&self, context: &[u32]) -> u32 {
        let mut node = 0;
        for character in backwards(context).take(self.order - 1) {
            let Some(&next) = self.longer.get(&(node, character)) else { break };
            node = next;
        }
        node
    }

    /// Writes the probabilities after the context of `node` to `p`: those of the characters from
    /// index `first` on. One occurrence of `left_out` after this context is not counted.
    pub(crate) fn write(&self, node: u32, left_out: Option<u32>, first: u32, p: &mut [f64]) {
        let here = &self.nodes[node as usize];
        // Without its only occurrence `h y` does not count for the shorter context either.
        let gone = left_out.filter(|&y| here.count(y) == 1);
        if node == 0 {
            p.fill(1. / self.vocabulary as f64);
        } else {
            self.write(here.suffix, gone, first, p);
        }
        let total = f64::from(here.total - u32::from(left_out.is_some()));
        if total == 0. {
            return;
        }
        let kinds = here.counts.len() - usize::from(gone.is_some());
        let backoff = self.discount * kinds as f64 / total;
        p.iter_mut().for_each(|p| *p *= backoff);
        let start = here.counts.partition_point(|&(y, _)| y < first);
        for &(y, count) in &here.counts[start..] {
            let Some(p) = p.get_mut((y - first) as usize) else { break };
            let count = count - u32::from(left_out == Some(y));
            *p += (f64::from(count) - self.discount).max(0.) / total;
        }
    }
}

/// The characters of a name and its end, each with the characters before it.
fn occurrences(name: &[u32]) -> impl Iterator<Item = (&[u32], u32)> {
    (0..=name.len()).map(|t| (&name[..t], name.get(t).copied().unwrap_or(END)))
}

/// A context from its last character to the start of the name.
fn backwards(context: &[u32]) -> impl Iterator<Item = u32> {
    context.iter().rev().copied().chain([START])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Corpus;
    use proptest::prelude::*;

    /// The probabilities of all characters after `context`, without one occurrence of `left_out`.
    fn probabilities(model: &NGram, context: &[u32], left_out: Option<u32>) -> Vec<f64> {
        let mut p = vec![0.; model.vocabulary];
        model.write(model.longest(context), left_out, 0, &mut p);
        p
    }

    /// The fixture is of `scripts/kneser_ney.py`.
    #[test]
    fn losses_are_those_of_a_plain_implementation() {
        let fixture = include_str!("../tests/fixtures/kneser_ney.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
        let vocabulary = Corpus::dinos().vocabulary().clone();
        let encoded = |names: &str| -> Vec<Vec<u32>> {
            let names = fixture[names].as_array().unwrap().iter();
            names.map(|name| vocabulary.encode(name.as_str().unwrap()).unwrap()).collect()
        };
        for case in fixture["cases"].as_array().unwrap() {
            let order = case["order"].as_u64().unwrap() as usize;
            let discount = case["discount"].as_f64().unwrap();
            let model = NGram::new(&encoded("counted"), vocabulary.size(), order, discount);
            let losses = case["losses"].as_array().unwrap();
            assert_eq!(losses.len(), 24);
            for (name, expected) in encoded("names").iter().zip(losses) {
                let (found, expected) = (model.loss(name), expected.as_f64().unwrap());
                assert!((found - expected).abs() < 1e-12 * expected, "{order} {found} {expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_are_those_without_an_occurrence_left_out(
            names in prop::collection::vec(prop::collection::vec(1u32..4, 0..7), 1..9),
            name in prop::collection::vec(1u32..4, 0..9),
            place in any::<prop::sample::Index>(),
            (order, discount) in (1usize..6, 0.01f64..0.99),
        ) {
            let model = NGram::new(&names, 4, order, discount);
            let mut loss = 0.;
            for (context, y) in occurrences(&name) {
                let p = probabilities(&model, context, None);
                prop_assert!((p.iter().sum::<f64>() - 1.).abs() < 1e-12);
                loss -= p[y as usize].ln();
            }
            prop_assert!((model.loss(&name) - loss).abs() < 1e-9 * loss);

            let distinct: BTreeSet<&Vec<u32>> = names.iter().collect();
            let all: Vec<(&[u32], u32)> =
                distinct.into_iter().flat_map(|name| occurrences(name)).collect();
            let place = place.index(all.len());
            let (context, y) = all[place];
            let others = [&all[..place], &all[place + 1..]].concat();
            let without = NGram::of(others.into_iter(), 4, order, discount);
            let found = probabilities(&model, context, Some(y));
            for (found, expected) in found.iter().zip(probabilities(&without, context, None)) {
                prop_assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
            let mut one = [0.];
            model.write(model.longest(context), Some(y), y, &mut one);
            prop_assert_eq!(one[0], found[y as usize]);
        }
    }

    #[test]
    fn the_chosen_model_is_the_best_on_characters_left_out() {
        let corpus = Corpus::dinos();
        let (names, size) = (corpus.encoded(), corpus.vocabulary().size());
        let model = NGram::choose(&names, size);
        let loss = |model: &NGram| names.iter().map(|name| model.loss_of(name, true)).sum::<f64>();
        let chosen = loss(&model);
        for (order, discount) in [(model.order() - 1, model.discount()), (model.order(), 0.6)] {
            assert!(chosen < loss(&NGram::new(&names, size, order, discount)));
        }
        // A name that is not left out is predicted much better than it deserves.
        assert!(names.iter().map(|name| model.loss(name)).sum::<f64>() < 0.7 * chosen);
    }
}
