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
use std::collections::BTreeSet;
use std::ops::Range;

/// The orders that [`NGram::choose`] compares.
const ORDERS: std::ops::RangeInclusive<usize> = 2..=8;
/// The discounts that it compares.
const DISCOUNTS: [f64; 8] = [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
/// The maximum numbers of names and of characters on which it compares them.
const COMPARED: [usize; 2] = [2000, 40_000];
/// The contexts that it counts, at most: half as many as the list has characters, or so many. With
/// them the counts take less than 40 bytes a character.
const MAX_NODES: usize = 1 << 16;

/// A context.
#[derive(Debug, Clone)]
struct Node {
    /// The node of the context without its first character; the root is its own.
    suffix: u32,
    /// The first character of the context.
    character: u32,
    /// c(h).
    total: u32,
    /// Where its counts begin; they end where those of the node before it begin.
    counts: u32,
    /// The first of the contexts with one more character before; the next node has the end.
    children: u32,
}

/// An interpolated Kneser-Ney model of names, each the indices of its characters.
#[derive(Debug, Clone)]
pub struct NGram {
    order: usize,
    discount: f64,
    vocabulary: usize,
    /// A tree of contexts, read backwards, level by level; the first is the root, the empty context.
    /// Those with the same suffix are in the order of their characters.
    nodes: Vec<Node>,
    /// c(h y): the characters after each context in ascending order, each with its count.
    counts: Vec<(u32, u32)>,
}

/// Distinct names one after another, each with its start before it, and the places in them.
struct Text {
    characters: Vec<u32>,
    /// Each place is that of the last character of a context.
    places: Vec<u32>,
}

impl Text {
    /// The text of `names`, its places in the order of their contexts of up to `longest` characters.
    fn of(names: &[Vec<u32>], longest: usize) -> Self {
        let distinct: BTreeSet<&Vec<u32>> = names.iter().collect();
        let length = distinct.iter().map(|name| name.len() + 1).sum();
        let mut characters = Vec::with_capacity(length);
        for name in distinct {
            characters.push(START);
            characters.extend(name);
        }
        let mut places: Vec<u32> = (0..characters.len() as u32).collect();
        let text = Self { characters, places: Vec::new() };
        places.sort_unstable_by(|&a, &b| text.context(a, longest).cmp(text.context(b, longest)));
        Self { places, ..text }
    }

    /// The context that ends at `place`, read backwards.
    fn context(&self, place: u32, longest: usize) -> impl Iterator<Item = u32> {
        let mut is_before_start = false;
        let characters = self.characters[..=place as usize].iter().rev().copied();
        characters
            .take(longest)
            .take_while(move |&c| !std::mem::replace(&mut is_before_start, c == START))
    }

    /// The number of different contexts of up to `longest` characters, the empty one included.
    fn count_contexts(&self, longest: usize) -> usize {
        let context = |place| self.context(place, longest);
        let first = self.places.first().map_or(0, |&place| context(place).count());
        let new = self.places.windows(2).map(|two| {
            let common = context(two[0]).zip(context(two[1])).take_while(|(a, b)| a == b).count();
            context(two[1]).count() - common
        });
        1 + first + new.sum::<usize>()
    }

    /// The character after the context that ends at `place`.
    fn next(&self, place: u32) -> u32 {
        let next = self.characters.get(place as usize + 1);
        next.copied().filter(|&next| next != START).unwrap_or(END)
    }
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
        check(names, vocabulary);
        let text = Text::of(names, order - 1);
        Self::of(&text, vocabulary, order, discount, usize::MAX).expect("there is no maximum")
    }

    /// Counts characters after their contexts; none if there are more than `max` contexts.
    fn of(text: &Text, vocabulary: usize, order: usize, discount: f64, max: usize) -> Option<Self> {
        let (nodes, spans) = contexts(text, order, max)?;
        let counts = Vec::with_capacity(nodes.len());
        let mut model = Self { order, discount, vocabulary, nodes, counts };
        let mut after: Vec<u32> = Vec::new();
        // Longer contexts come later, so that the counts of a node's children are complete.
        for node in (0..model.nodes.len()).rev() {
            after.clear();
            let children = model.children(node);
            if children.is_empty() {
                let places = &text.places[spans[node].0 as usize..spans[node].1 as usize];
                after.extend(places.iter().map(|&place| text.next(place)));
            }
            for child in children {
                let before = (child > node + 1).then(|| model.nodes[child - 1].counts as usize);
                let end = before.unwrap_or(model.counts.len());
                let counts = &model.counts[model.nodes[child].counts as usize..end];
                after.extend(counts.iter().map(|&(y, _)| y));
            }
            after.sort_unstable();
            let Node { total, counts, .. } = &mut model.nodes[node];
            (*total, *counts) = (after.len() as u32, model.counts.len() as u32);
            let same = after.chunk_by(|a, b| a == b);
            model.counts.extend(same.map(|same| (same[0], same.len() as u32)));
        }
        Some(model)
    }

    /// Counts `names` with the order and the discount that predict each character of them best when
    /// that occurrence is not counted.
    ///
    /// # Panics
    /// If there are no names, or an index is outside the vocabulary.
    pub fn choose(names: &[Vec<u32>], vocabulary: usize) -> Self {
        check(names, vocabulary);
        let characters: usize = names.iter().map(|name| name.len() + 1).sum();
        let [most_names, most_characters] = COMPARED;
        let every = names.len().div_ceil(most_names).max(characters.div_ceil(most_characters));
        let compared: Vec<&Vec<u32>> = names.iter().step_by(every).collect();
        let text = Text::of(names, ORDERS.end() - 1);
        let max = MAX_NODES.max(text.places.len() / 2);
        let count = |order, discount, max| Self::of(&text, vocabulary, order, discount, max);
        let mut best: Option<(f64, usize, f64)> = None;
        for order in ORDERS {
            let Some(mut model) = count(order, DISCOUNTS[0], max) else { break };
            let losses = DISCOUNTS.map(|discount| {
                model.discount = discount;
                compared.iter().map(|name| model.loss_of(name, true)).sum::<f64>()
            });
            let of_order = losses.into_iter().zip(DISCOUNTS);
            let (loss, discount) =
                of_order.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are discounts");
            if best.is_some_and(|(lowest, ..)| loss >= lowest) {
                break;
            }
            best = Some((loss, order, discount));
        }
        // Counted again, rather than kept beside the next one: lists can be long. One with more
        // characters than nodes has a shorter order.
        let (_, order, discount) = best.unwrap_or((f64::NAN, *ORDERS.start(), DISCOUNTS[0]));
        count(order, discount, usize::MAX).expect("there is no maximum")
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
            let out = left_out.then_some(y);
            -self.probability(self.longest(context), out, y).ln()
        };
        occurrences(name).map(loss).sum()
    }

    /// The node of the longest context of each character of a counted name, and of its end.
    pub(crate) fn nodes(&self, name: &[u32]) -> Vec<u32> {
        occurrences(name).map(|(context, _)| self.longest(context)).collect()
    }

    /// The node of the longest end of `context` that was counted.
    fn longest(&self, context: &[u32]) -> u32 {
        let mut node = 0;
        for character in backwards(context).take(self.order - 1) {
            let children = self.children(node);
            let nodes = &self.nodes[children.clone()];
            match nodes.binary_search_by_key(&character, |child| child.character) {
                Ok(found) => node = children.start + found,
                Err(_) => break,
            }
        }
        node as u32
    }

    /// The contexts with one more character before that of `node`.
    fn children(&self, node: usize) -> Range<usize> {
        let end = self.nodes.get(node + 1).map_or(self.nodes.len(), |next| next.children as usize);
        self.nodes[node].children as usize..end
    }

    /// The counts after the context of `node`, without one occurrence of `left_out`.
    fn level(&self, node: u32, left_out: Option<u32>) -> Level<'_> {
        let Node { total, counts, suffix, .. } = self.nodes[node as usize];
        let end = (node as usize).checked_sub(1).map(|before| self.nodes[before].counts as usize);
        let counts = &self.counts[counts as usize..end.unwrap_or(self.counts.len())];
        let is_only = |&y: &u32| counts.binary_search(&(y, 1)).is_ok();
        let gone = left_out.filter(is_only);
        let total = f64::from(total - u32::from(left_out.is_some()));
        let kinds = (counts.len() - usize::from(gone.is_some())) as f64;
        // Without any count the shorter context decides.
        let (scale, backoff) =
            if total == 0. { (0., 1.) } else { (1. / total, self.discount * kinds / total) };
        Level { counts, left_out, gone, scale, discount: self.discount, backoff, suffix }
    }

    /// The probability of `y` after the context of `node`. One occurrence of `left_out` after this
    /// context is not counted.
    fn probability(&self, node: u32, left_out: Option<u32>, y: u32) -> f64 {
        let level = self.level(node, left_out);
        let shorter = match node {
            0 => 1. / self.vocabulary as f64,
            _ => self.probability(level.suffix, level.gone, y),
        };
        let at = level.counts.binary_search_by_key(&y, |&(y, _)| y);
        at.map_or(0., |at| level.share(level.counts[at])) + level.backoff * shorter
    }

    /// Writes `scale` times the probabilities of all characters to `p`, as
    /// [`probability`](Self::probability) has them. What no context has seen gets its common share
    /// at once.
    pub(crate) fn write(&self, node: u32, left_out: Option<u32>, scale: f64, p: &mut [f64]) {
        let level = self.level(node, left_out);
        match node {
            0 => p.fill(scale * level.backoff / self.vocabulary as f64),
            _ => self.write(level.suffix, level.gone, scale * level.backoff, p),
        }
        for &counted in level.counts {
            p[counted.0 as usize] += scale * level.share(counted);
        }
    }
}

/// The counts after a context.
struct Level<'m> {
    counts: &'m [(u32, u32)],
    left_out: Option<u32>,
    /// The character that is left out, if that was its only occurrence here: then it does not count
    /// for the shorter context either.
    gone: Option<u32>,
    /// 1 / c(h).
    scale: f64,
    discount: f64,
    /// D n(h) / c(h).
    backoff: f64,
    suffix: u32,
}

impl Level<'_> {
    /// max(c(h y) - D, 0) / c(h).
    fn share(&self, (y, count): (u32, u32)) -> f64 {
        let count = count - u32::from(self.left_out == Some(y));
        (f64::from(count) - self.discount).max(0.) * self.scale
    }
}

/// The first of the sorted places of a context, and the one after its last.
type Span = (u32, u32);

/// The contexts of `text` of fewer than `order` characters, level by level, without counts, and the
/// places of each; none if there are more than `max`.
fn contexts(text: &Text, order: usize, max: usize) -> Option<(Vec<Node>, Vec<Span>)> {
    let count = text.count_contexts(order - 1);
    if count > max {
        return None;
    }
    let node = |suffix, character| Node { suffix, character, total: 0, counts: 0, children: 0 };
    // To grow them would take up to three times the memory.
    let (mut nodes, mut spans) = (Vec::with_capacity(count), Vec::with_capacity(count));
    nodes.push(node(0, END));
    spans.push((0, text.places.len() as u32));
    let (mut at, mut length, mut next_level) = (0, 0, 1);
    while at < nodes.len() {
        if at == next_level {
            (length, next_level) = (length + 1, nodes.len());
        }
        nodes[at].children = nodes.len() as u32;
        // Nothing is before the start of a name.
        if length + 1 < order && nodes[at].character != START {
            let (mut start, end) = spans[at];
            let before = |place: u32| text.characters[place as usize - length];
            let places = &text.places[start as usize..end as usize];
            for same in places.chunk_by(|&a, &b| before(a) == before(b)) {
                nodes.push(node(at as u32, before(same[0])));
                spans.push((start, start + same.len() as u32));
                start += same.len() as u32;
            }
        }
        at += 1;
    }
    Some((nodes, spans))
}

/// Requires that `names` are of the vocabulary.
fn check(names: &[Vec<u32>], vocabulary: usize) {
    let outside = names.iter().find(|name| name.iter().any(|&y| y as usize >= vocabulary));
    assert_eq!(outside, None, "the vocabulary is {vocabulary}");
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
    use crate::random::RngSource;
    use proptest::prelude::*;

    /// The probabilities of all characters after `context`, without one occurrence of `left_out`.
    fn probabilities(model: &NGram, context: &[u32], left_out: Option<u32>) -> Vec<f64> {
        let mut p = vec![0.; model.vocabulary];
        model.write(model.longest(context), left_out, 1., &mut p);
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

            let mut text = Text::of(&names, order - 1);
            let place = text.places.remove(place.index(text.places.len()));
            let without = NGram::of(&text, 4, order, discount, usize::MAX).unwrap();
            let (mut context, y) = (text.context(place, 99).collect::<Vec<_>>(), text.next(place));
            // Without the start.
            context.pop();
            context.reverse();
            let found = probabilities(&model, &context, Some(y));
            for (found, expected) in found.iter().zip(probabilities(&without, &context, None)) {
                prop_assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
            let one = model.probability(model.longest(&context), Some(y), y);
            prop_assert!((one - found[y as usize]).abs() < 1e-15);
        }
    }

    /// Names of several words out of a few have many contexts, of which more make it better.
    #[test]
    fn a_long_list_gets_a_shorter_order_instead_of_more_memory() {
        let mut random = RngSource::Seed(1).uniforms(0);
        let mut below = |n: f64| (random.draw() * n) as u32;
        let words: Vec<Vec<u32>> =
            (0..300).map(|_| (0..12).map(|_| 1 + below(26.)).collect()).collect();
        let names: Vec<Vec<u32>> = (0..2500)
            .map(|_| (0..6).flat_map(|_| words[below(300.) as usize].clone()).collect())
            .collect();
        let characters: usize = names.iter().map(|name| name.len() + 1).sum();
        let model = NGram::choose(&names, 27);
        assert!(model.order() < 8 && model.nodes.len() <= characters / 2, "{}", model.order());
        assert!(NGram::new(&names, 27, model.order() + 1, 0.75).nodes.len() > characters / 2);
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
