//! The arrays of a file, and the causes of wrong ones.

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
        let largest = values.iter().chain(right).fold(0., |most: f64, v| v.abs().max(most));
        let scale = if largest > 0. { largest } else { 1. };
        let norm = distance(&values, &vec![0.; values.len()], scale);
        let strict = 2. * bound * norm + floor / scale;
        // A wrong pass may amplify rounding more; but what explains an array is far nearer to it
        // than the right one.
        let loose = (200. * bound * norm).min(distance(&values, right, scale) / 100.);
        Self { values, scale, is_right, limit: if is_right { strict } else { strict.max(loose) } }
    }

    /// Whether these values, of the entries from `start` on, are those of the file.
    pub fn is(&self, start: usize, values: &[f64]) -> bool {
        distance(&self.values[start..][..values.len()], values, self.scale) <= self.limit
    }
}

/// The Euclidean norm.
pub(super) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64], scale: f64) -> f64 {
    a.iter().zip(b).map(|(a, b)| ((a - b) / scale).powi(2)).sum::<f64>().sqrt()
}

/// The smallest sets of at most `most` mistakes such that each array, by its position in `arrays`,
/// has one of its own.
pub(super) fn cover(
    sets: &BTreeMap<usize, Vec<String>>,
    arrays: &[&'static str],
    most: usize,
) -> Vec<Vec<Cause>> {
    let names: BTreeSet<&String> = sets.values().flatten().collect();
    let with = |chosen: &[&String]| {
        let causes = chosen.iter().enumerate().map(|(n, name)| {
            let is_of = |set: &[String]| {
                set.contains(name) && !chosen[..n].iter().any(|before| set.contains(before))
            };
            let of = sets.iter().filter(|(_, set)| is_of(set)).map(|(&i, _)| arrays[i]);
            Cause { arrays: of.collect(), what: name.to_string() }
        });
        let is_covered = |set: &Vec<String>| chosen.iter().any(|name| set.contains(name));
        sets.values().all(is_covered).then(|| causes.collect::<Vec<_>>())
    };
    if sets.is_empty() || most == 0 {
        return vec![];
    }
    let mut found: Vec<Vec<Cause>> = names.iter().filter_map(|name| with(&[name])).collect();
    if found.is_empty() && most > 1 {
        let pairs = names.iter().enumerate();
        let pairs =
            pairs.flat_map(|(i, one)| names.iter().skip(i + 1).map(move |two| [*one, *two]));
        found = pairs.filter_map(|pair| with(&pair)).collect();
    }
    found
}
