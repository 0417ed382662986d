//! The arrays of a file, and the causes of wrong ones.

use crate::gradcheck::compare::{largest, norm};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The arrays that are compared: the gradients in the order of `TENSORS`, of which the notebook's
/// last is that of `a_prev`, and the results of the forward pass.
pub(super) const COMPARED: [&str; 8] =
    ["dWax", "dWaa", "dWya", "db", "dby", "da_next", "loss", "a_last"];

/// A mistake and the wrong arrays that it makes wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cause {
    /// The arrays.
    pub arrays: Vec<&'static str>,
    /// The mistake.
    pub what: String,
}

/// An array of a file.
pub(super) struct Given {
    pub values: Vec<f64>,
    /// The largest value, or 1.
    scale: f64,
    pub is_right: bool,
    /// The distance, over `scale`, at which other values are the same.
    limit: f64,
}

impl Given {
    /// An array with the right one, and the bounds of the relative error and of the distance.
    pub fn new(values: Vec<f64>, right: &[f64], is_right: bool, [bound, floor]: [f64; 2]) -> Self {
        let largest = largest(values.iter().chain(right));
        let scale = if largest > 0. { largest } else { 1. };
        let size = norm(values.iter().map(|v| v / scale));
        let strict = 2. * bound * size + floor / scale;
        // A wrong pass may amplify rounding more; but what explains an array is far nearer to it
        // than the right one.
        let loose = (200. * bound * size).min(distance(&values, right, scale) / 100.);
        Self { values, scale, is_right, limit: if is_right { strict } else { strict.max(loose) } }
    }

    /// Whether these values are those of the file.
    pub fn is(&self, values: &[f64]) -> bool {
        values.len() == self.values.len()
            && distance(&self.values, values, self.scale) <= self.limit
    }
}

fn distance(a: &[f64], b: &[f64], scale: f64) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| (a - b) / scale))
}

/// The mistakes of each wrong array, by its position in the list of arrays.
pub(super) type Mistakes = BTreeMap<usize, Vec<String>>;

/// The smallest sets of at most `most` mistakes such that each array has one of its own.
pub(super) fn cover(mistakes: &Mistakes, arrays: &[&'static str], most: usize) -> Vec<Vec<Cause>> {
    let sets = (0..=most).map(|size| covers(mistakes, &[], size)).find(|sets| !sets.is_empty());
    let causes = |set: &BTreeSet<&String>| -> Vec<Cause> {
        // Where two mistakes give an array, it is the first one's.
        let cause_of = |of: &[String]| set.iter().copied().find(|what| of.contains(what));
        let cause = |what: &&String| {
            let own = mistakes.iter().filter(|(_, of)| cause_of(of) == Some(what));
            Cause { arrays: own.map(|(&i, _)| arrays[i]).collect(), what: what.to_string() }
        };
        set.iter().map(cause).collect()
    };
    sets.unwrap_or_default().iter().map(causes).collect()
}

/// The sets of `chosen` and at most `more` mistakes that each array has one of.
fn covers<'a>(
    mistakes: &'a Mistakes,
    chosen: &[&'a String],
    more: usize,
) -> BTreeSet<BTreeSet<&'a String>> {
    let is_covered = |of: &&Vec<String>| chosen.iter().any(|what| of.contains(what));
    match mistakes.values().find(|of| !is_covered(of)) {
        None => BTreeSet::from([chosen.iter().copied().collect()]),
        Some(_) if more == 0 => BTreeSet::new(),
        Some(of) => of
            .iter()
            .flat_map(|what| covers(mistakes, &[chosen, &[what]].concat(), more - 1))
            .collect(),
    }
}

/// Three digits.
pub(super) fn short(x: f64) -> String {
    if x != 0. && x.abs() < 1e-4 {
        return format!("{x:.2e}");
    }
    let digits = if x == 0. { 0 } else { (2 - x.abs().log10().floor() as i32).clamp(0, 12) };
    let text = format!("{x:.*}", digits as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}
