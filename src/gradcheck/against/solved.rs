//! Mistakes of one array whose number is found in the file: a factor, a limit, another array.

use super::arrays::{COMPARED, Given, short};
use super::choices::{plus, times};
use super::clipped::CLIP_MISTAKES;
use crate::gradcheck::compare::{largest, norm};
use crate::gradcheck::problem::{GRADIENTS, Problem};
use std::collections::BTreeMap;
use std::f64::consts::{LN_2, LN_10};

/// An array of the file, and what should be there.
pub(super) struct Array<'a> {
    /// Its position in [`COMPARED`].
    pub i: usize,
    /// The arrays of the file.
    pub given: &'a BTreeMap<usize, Given>,
    /// The gradients that should be there, not clipped.
    pub gradients: &'a [Vec<f64>],
    pub value: Vec<f64>,
    pub problem: &'a Problem,
    pub clip: f64,
}

impl Array<'_> {
    fn is(&self, values: &[f64]) -> bool {
        self.given[&self.i].is(values)
    }

    /// The mistakes that give it.
    pub fn mistakes(&self) -> Vec<String> {
        let given = &self.given[&self.i].values;
        if given.iter().all(|g| *g == 0.) {
            return vec!["zero: nothing is ever added to it".to_string()];
        }
        let mut names = self.factor();
        if self.i < 5 {
            names.extend(self.clips());
            names.extend(self.decay());
        }
        if self.i < GRADIENTS {
            names.extend(self.others());
        }
        let (sum, len) = (self.value.iter().sum::<f64>(), given.len());
        for (number, what) in [(sum, "summed to one number"), (sum / len as f64, "averaged")] {
            if len > 1 && self.is(&vec![number; len]) {
                names.push(format!("its entries are {what}"));
            }
        }
        names
    }

    fn factor(&self) -> Vec<String> {
        let given = &self.given[&self.i].values;
        let n = self.problem.sizes().steps as f64;
        let named = |k: &str, why: &str| format!("{k} times the right values: {why}");
        let mean = "the mean over the steps in place of the sum";
        let known = [
            (-1., "the sign is wrong".to_string()),
            (2., named("2", "added twice, or computed twice without zeroing?")),
            (0.01, named("0.01", "the learning rate")),
            (-0.01, named("-0.01", "the learning rate, negated")),
            (1. / n, named(&format!("1/{n}"), mean)),
            (-1. / n, named(&format!("-1/{n}"), &format!("{mean}, and the sign"))),
            (n, named(&n.to_string(), "once for each step")),
            (1. / LN_2, named("1/ln 2", "log2 in place of log")),
            (1. / LN_10, named("1/ln 10", "log10 in place of log")),
            (0.5, "half the right values".to_string()),
        ];
        let clip = if self.i < 5 { self.clip } else { f64::INFINITY };
        let is = |k: f64| {
            let values = times(&self.value, k).into_iter().map(|g| g.clamp(-clip, clip));
            k != 1. && self.is(&values.collect::<Vec<_>>())
        };
        if let Some((_, what)) = known.into_iter().find(|(k, _)| is(*k)) {
            return vec![what];
        }
        let product = |a: &[f64]| a.iter().zip(&self.value).map(|(a, b)| a * b).sum::<f64>();
        let k = product(given) / product(&self.value);
        // One number is a multiple of any other.
        let is_number = self.value.iter().filter(|v| **v != 0.).count() < 2;
        if is_number || (k - 1.).abs() < 1e-4 || !is(k) {
            return vec![];
        }
        let (count, inverse) = (k.round(), (1. / k).round());
        let mut names = vec![match k {
            _ if inverse > 1. && (1. / k - inverse).abs() < 1e-5 => {
                named(&format!("1/{inverse}"), &format!("a mean over {inverse}?"))
            }
            _ if count > 1. && (k - count).abs() < 1e-5 => {
                named(&count.to_string(), &format!("computed {count} times without zeroing?"))
            }
            0.0..1. => format!("{} times the right values (clipped by norm?)", short(k)),
            _ => format!("{} times the right values", short(k)),
        }];
        // With a limit that may be common to several arrays.
        let is_alone = self.given.values().filter(|given| !given.is_right).count() == 1;
        if (0.0..1.).contains(&k) && self.i < 5 && !is_alone {
            let size = norm(given.iter().copied());
            for (what, limit) in [("norm", size), ("largest entry", largest(given))] {
                let limit = short(limit);
                names.push(format!("scaled to its own {what}, {limit}, one array at a time"));
            }
        }
        names
    }

    /// Other clips than that of the file.
    fn clips(&self) -> Vec<String> {
        let all = || self.given.range(..5).flat_map(|(_, given)| &given.values);
        let is =
            |f: &dyn Fn(f64) -> f64| self.is(&self.value.iter().map(|&g| f(g)).collect::<Vec<_>>());
        let mut names = vec![];
        if self.clip.is_finite() && is(&|g| g) {
            names.push("the gradients are not clipped; compare them without `clip`".to_string());
        }
        let given = &self.given[&self.i].values;
        let high = given.iter().copied().fold(f64::NEG_INFINITY, f64::max).abs();
        let low = given.iter().copied().fold(f64::INFINITY, f64::min).abs();
        for limit in if high == low { vec![high] } else { vec![high, low] } {
            // One number is its own limit.
            if limit == 0. || all().filter(|g| g.abs() == limit).count() < 2 {
                continue;
            }
            if is(&|g| g.clamp(-limit, limit)) {
                names.push(format!("the gradients are clipped; compare them with `clip` {limit}"));
            }
            let others = CLIP_MISTAKES.iter().filter(|(_, f)| is(&|g| f(g, limit)));
            names.extend(others.map(|(what, _)| what.replace("{m}", &limit.to_string())));
        }
        names
    }

    /// A multiple of the parameter is added.
    fn decay(&self) -> Option<String> {
        let parameter = &self.problem.parameters.flat()[self.i];
        let dot = |a: &[f64]| a.iter().zip(parameter).map(|(a, w)| a * w).sum::<f64>();
        let rest = plus(&self.given[&self.i].values, &times(&self.value, -1.));
        let factor = dot(&rest) / dot(parameter);
        let is_found = parameter.iter().filter(|w| **w != 0.).count() > 1
            && self.is(&plus(&self.value, &times(parameter, factor)));
        is_found.then(|| format!("weight decay: {} times the parameter is added", short(factor)))
    }

    /// Another array in its place.
    fn others(&self) -> Vec<String> {
        let mut names = vec![];
        let shapes = self.problem.shapes();
        for (j, values) in self.gradients.iter().enumerate() {
            if values.len() != self.value.len() {
                continue;
            }
            let [first, second, name] = [self.i.min(j), self.i.max(j), j].map(|i| COMPARED[i]);
            let columns = shapes[j][shapes[j].len() - 1];
            let turned = (0..columns).flat_map(|column| values[column..].iter().step_by(columns));
            let is_turned = j < 3 && self.is(&turned.copied().collect::<Vec<_>>());
            let is_exchanged = || self.given.get(&j).is_some_and(|given| given.is(&self.value));
            if j == self.i {
                let is_square = shapes[j][0] == columns;
                names.extend(
                    (is_turned && is_square).then(|| "the array is transposed".to_string()),
                );
            } else if self.is(&plus(values, &self.value)) {
                names.push(format!("{first} and {second} are one array, to which both are added"));
            } else if self.is(values) && is_exchanged() {
                names.push(format!("{first} and {second} are exchanged"));
            } else if self.is(values) {
                names.push(format!("it holds {name}"));
            } else if is_turned {
                names.push(format!("it holds {name}, transposed"));
            }
        }
        let parameters = self.problem.parameters.flat();
        if parameters.get(self.i).is_some_and(|parameter| self.is(parameter)) {
            names.push("it holds the parameter, not its gradient".to_string());
        }
        names
    }
}
