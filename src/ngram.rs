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
    /// let total: f64 = model.probabilities(&[1]).iter().sum();
    /// assert!((total - 1.).abs() < 1e-12);
    /// ```
    pub fn new(names: &[Vec<u32>], vocabulary: usize, order: usize, discount: f64) -> Self {
        assert!(order > 0 && discount > 0. && discount < 1., "order {order}, discount {discount}");
        let distinct: BTreeSet<&Vec<u32>> = names.iter().collect();
        let outside = distinct.iter().find(|name| name.iter().any(|&y| y as usize >= vocabulary));
        assert_eq!(outside, None, "the vocabulary is {vocabulary}");
        Self::of(
            distinct.into_iter().flat_map(|name| occurrences(name)),
            vocabulary,
            order,
            discount,
        )
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
            let suffix = model.nodes[node].suffix as usize;
            for i in 0..model.nodes[node].counts.len() {
                let (y, _) = model.nodes[node].counts[i];
                model.nodes[suffix].add(y);
            }
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
        let mut best = (f64::INFINITY, None);
        for order in ORDERS {
            let mut model = Self::new(names, vocabulary, order, DISCOUNTS[0]);
            let mut discount_of_order = (f64::INFINITY, 0.);
            for discount in DISCOUNTS {
                model.discount = discount;
                let loss: f64 = compared.iter().map(|name| model.loss_of(name, true)).sum();
                if loss < discount_of_order.0 {
                    discount_of_order = (loss, discount);
                }
            }
            model.discount = discount_of_order.1;
            if discount_of_order.0 >= best.0 {
                break;
            }
            best = (discount_of_order.0, Some(model));
        }
        best.1.expect("a loss is finite")
    }

    /// The length of an n-gram, the predicted character included.
    pub fn order(&self) -> usize {
        self.order
    }

    /// D.
    pub fn discount(&self) -> f64 {
        self.discount
    }

    /// The probability of each character, by index, after `context`, the beginning of a name.
    pub fn probabilities(&self, context: &[u32]) -> Vec<f64> {
        let mut probabilities = vec![0.; self.vocabulary];
        self.write(&self.path(self.longest(context)), None, &mut probabilities);
        probabilities
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
        let loss =
            |(context, y)| -self.probability(&self.path(self.longest(context)), y, left_out).ln();
        occurrences(name).map(loss).sum()
    }

    /// The node of the longest context of each character of a counted name, and of its end.
    pub(crate) fn nodes(&self, name: &[u32]) -> Vec<u32> {
        occurrences(name).map(|(context, _)| self.longest(context)).collect()
    }

    /// Writes the probabilities after the context of `node` to `p`, (n_y), without one occurrence
    /// of `y` there.
    pub(crate) fn write_left_out(&self, node: u32, y: u32, p: &mut [f64]) {
        self.write(&self.path(node), Some(y), p);
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
            match self.longer.get(&(node, character)) {
                Some(&next) => node = next,
                None => break,
            }
        }
        node
    }

    /// The nodes from the root to `node`.
    fn path(&self, node: u32) -> Vec<&Node> {
        let mut path = vec![&self.nodes[node as usize]];
        let mut node = node;
        while node != 0 {
            node = self.nodes[node as usize].suffix;
            path.push(&self.nodes[node as usize]);
        }
        path.reverse();
        path
    }

    /// The number of nodes of `path`, from its end, in which the occurrence of `y` is counted:
    /// where it is the only one, the shorter context counts it too.
    fn counted(path: &[&Node], y: u32) -> usize {
        let only = path.iter().rev().take_while(|node| node.count(y) == 1).count();
        (only + 1).min(path.len())
    }

    /// The probability of `y`, without one occurrence of it if it is `left_out`.
    fn probability(&self, path: &[&Node], y: u32, left_out: bool) -> f64 {
        let first = path.len() - if left_out { Self::counted(path, y) } else { 0 };
        let mut p = 1. / self.vocabulary as f64;
        for (depth, node) in path.iter().enumerate() {
            let out = u32::from(depth >= first);
            let (count, total) = (node.count(y) - out, node.total - out);
            if total > 0 {
                let kinds = node.counts.len() - usize::from(out == 1 && count == 0);
                let (total, discount) = (f64::from(total), self.discount);
                p = p * discount * kinds as f64 / total
                    + (f64::from(count) - discount).max(0.) / total;
            }
        }
        p
    }

    /// [`probability`](Self::probability) of all characters, without one occurrence of `left_out`.
    fn write(&self, path: &[&Node], left_out: Option<u32>, p: &mut [f64]) {
        let first = path.len() - left_out.map_or(0, |y| Self::counted(path, y));
        p.fill(1. / self.vocabulary as f64);
        for (depth, node) in path.iter().enumerate() {
            let left_out = left_out.filter(|_| depth >= first);
            let out = u32::from(left_out.is_some());
            let (total, discount) = (f64::from(node.total - out), self.discount);
            if total == 0. {
                continue;
            }
            let gone = left_out.is_some_and(|y| node.count(y) == 1);
            let backoff = discount * (node.counts.len() - usize::from(gone)) as f64 / total;
            p.iter_mut().for_each(|p| *p *= backoff);
            for &(y, count) in &node.counts {
                let count = count - u32::from(left_out == Some(y));
                p[y as usize] += (f64::from(count) - discount).max(0.) / total;
            }
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
    use crate::data::{Corpus, encode};
    use proptest::prelude::*;

    /// The fixture is of `scripts/kneser_ney.py`.
    #[test]
    fn losses_are_those_of_a_plain_implementation() {
        #[derive(serde::Deserialize)]
        struct Case {
            order: usize,
            discount: f64,
            losses: Vec<f64>,
        }
        #[derive(serde::Deserialize)]
        struct Fixture {
            counted: Vec<String>,
            names: Vec<String>,
            cases: Vec<Case>,
        }
        let fixture: Fixture =
            serde_json::from_str(include_str!("../tests/fixtures/kneser_ney.json")).unwrap();
        let vocabulary = Corpus::dinos().vocabulary().clone();
        let encoded = |names: &[String]| -> Vec<Vec<u32>> {
            names
                .iter()
                .map(|name| encode(name, &vocabulary, Default::default()).unwrap())
                .collect()
        };
        let (counted, names) = (encoded(&fixture.counted), encoded(&fixture.names));
        for Case { order, discount, losses } in fixture.cases {
            let model = NGram::new(&counted, vocabulary.size(), order, discount);
            for (name, expected) in names.iter().zip(losses) {
                let found = model.loss(name);
                assert!((found - expected).abs() < 1e-12 * expected, "{order} {found} {expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_losses_are_their_logarithms(
            names in prop::collection::vec(prop::collection::vec(1u32..5, 0..7), 1..9),
            name in prop::collection::vec(1u32..5, 0..9),
            (order, discount) in (1usize..6, 0.01f64..0.99),
        ) {
            let model = NGram::new(&names, 5, order, discount);
            let mut loss = 0.;
            for (context, y) in occurrences(&name) {
                let p = model.probabilities(context);
                prop_assert!((p.iter().sum::<f64>() - 1.).abs() < 1e-12);
                loss -= p[y as usize].ln();
            }
            prop_assert!((model.loss(&name) - loss).abs() < 1e-9 * loss);
        }

        #[test]
        fn an_occurrence_left_out_is_predicted_as_if_it_had_not_been_counted(
            names in prop::collection::btree_set(prop::collection::vec(1u32..4, 0..6), 2..8),
            place in any::<prop::sample::Index>(),
            order in 1usize..6,
        ) {
            let names: Vec<Vec<u32>> = names.into_iter().collect();
            let all: Vec<(&[u32], u32)> = names.iter().flat_map(|name| occurrences(name)).collect();
            let place = place.index(all.len());
            let (context, y) = all[place];
            let others = all.iter().enumerate().filter(|(i, _)| *i != place).map(|(_, &one)| one);
            let without = NGram::of(others, 4, order, 0.7);
            let model = NGram::new(&names, 4, order, 0.7);
            let mut found = vec![0.; 4];
            model.write_left_out(model.longest(context), y, &mut found);
            for (found, expected) in found.iter().zip(without.probabilities(context)) {
                prop_assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
            let path = model.path(model.longest(context));
            prop_assert!((model.probability(&path, y, true) - found[y as usize]).abs() < 1e-12);
        }
    }

    #[test]
    fn the_chosen_model_is_the_best_on_characters_left_out() {
        let corpus = Corpus::dinos();
        let names = corpus.encoded();
        let size = corpus.vocabulary().size();
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
