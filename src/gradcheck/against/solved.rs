//! Mistakes of one array whose number is found in the file: a factor, a limit, another array.

use super::arrays::{COMPARED, Given, norm};
use super::pass::{plus, times};
use crate::gradcheck::problem::Problem;
use std::collections::BTreeMap;

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
        self.given[&self.i].is(0, values)
    }

    /// The number of wrong arrays.
    fn wrong(&self) -> usize {
        self.given.values().filter(|given| !given.is_right).count()
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
        if self.i < 6 {
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
        let steps = self.problem.sizes().steps as f64;
        let over = "the mean over the steps in place of the sum";
        let known = [
            (-1., "the sign is wrong".to_string()),
            (
                2.,
                "2 times the right values: added twice, or computed twice without zeroing?".into(),
            ),
            (0.01, "0.01 times the right values: the learning rate".into()),
            (-0.01, "-0.01 times the right values: the learning rate, negated".into()),
            (1. / steps, format!("1/{steps} times the right values: {over}")),
            (-1. / steps, format!("-1/{steps} times the right values: {over}, and the sign")),
            (steps, format!("{steps} times the right values: once for each step")),
            (1. / 2f64.ln(), "1/ln 2 times the right values: log2 in place of log".into()),
            (1. / 10f64.ln(), "1/ln 10 times the right values: log10 in place of log".into()),
            (0.5, "half the right values".into()),
        ];
        let clamped = |k: f64| {
            let values = times(&self.value, k);
            let clip = if self.i < 5 { self.clip } else { f64::INFINITY };
            values.into_iter().map(|g| g.clamp(-clip, clip)).collect::<Vec<_>>()
        };
        if let Some((_, what)) = known.iter().find(|(k, _)| *k != 1. && self.is(&clamped(*k))) {
            return vec![what.clone()];
        }
        let product = |a: &[f64]| a.iter().zip(&self.value).map(|(a, b)| a * b).sum::<f64>();
        let k = product(&self.given[&self.i].values) / product(&self.value);
        // One number is a multiple of any other.
        let is_other = (k - 1.).abs() > 1e-4;
        let is_found =
            is_other && self.value.iter().filter(|v| **v != 0.).count() > 1 && self.is(&clamped(k));
        let (inverse, k3) = ((1. / k).round(), short(k));
        let what = match k {
            _ if inverse > 1. && (1. / k - inverse).abs() < 1e-5 => {
                format!("1/{inverse} times the right values: a mean over {inverse}?")
            }
            _ if k > 1.5 && (k - k.round()).abs() < 1e-5 => {
                format!(
                    "{} times the right values: computed {} times without zeroing?",
                    k.round(),
                    k.round()
                )
            }
            0.0..1. => format!("{k3} times the right values (clipped by norm?)"),
            _ => format!("{k3} times the right values"),
        };
        // With a limit that may be common to several arrays.
        let given = &self.given[&self.i].values;
        let largest = given.iter().fold(0., |most: f64, g| g.abs().max(most));
        let own =
            [("scaled to its own norm", norm(given)), ("scaled to its largest entry", largest)];
        let own = own.map(|(what, limit)| format!("{what}, {}, one array at a time", short(limit)));
        let is_scaled = is_found && (0.0..1.).contains(&k) && self.i < 5 && self.wrong() > 1;
        let names = [what].into_iter().chain(own.into_iter().filter(|_| is_scaled));
        if is_found { names.collect() } else { vec![] }
    }

    /// Other clips than that of the file.
    fn clips(&self) -> Vec<String> {
        let (given, v) = (&self.given[&self.i].values, &self.value);
        let [low, high] = [
            given.iter().copied().fold(f64::INFINITY, f64::min),
            given.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ];
        let most = high.max(-low);
        let is = |low: f64, high: f64| {
            self.is(&v.iter().map(|g| g.max(low).min(high)).collect::<Vec<_>>())
        };
        // One number is its own limit.
        let all = || self.given.range(..5).flat_map(|(_, given)| &given.values);
        let is_limit = |limit: f64| all().filter(|g| **g == limit).count() > 1;
        let mut names = vec![];
        if self.clip.is_finite() && self.is(v) {
            names.push("the gradients are not clipped; compare them without `clip`".to_string());
        }
        if all().filter(|g| g.abs() == most).count() > 1 && is(-most, most) {
            names.push(format!("the gradients are clipped; compare them with `clip` {most}"));
        }
        if low < high && is_limit(high) && is(f64::MIN, high) {
            names.push(format!("clipped from above only, at {high}"));
        }
        if low < high && is_limit(low) && is(low, f64::MAX) {
            names.push(format!("clipped from below only, at {low}"));
        }
        if low == 0. && high > 0. && is_limit(high) && is(0., high) {
            names.push(format!("clipped to 0 from below, and to {high}"));
        }
        if given.len() > 1 && low == high && low < 0. {
            names.push(format!("every entry is {low}: np.clip has its bounds exchanged"));
        }
        names
    }

    /// A multiple of the parameter is added.
    fn decay(&self) -> Option<String> {
        let parameter = &self.problem.parameters().flat()[self.i];
        let given = &self.given[&self.i].values;
        let squares: f64 = parameter.iter().map(|w| w * w).sum();
        let rest = given.iter().zip(&self.value).zip(parameter);
        let factor = rest.map(|((g, v), w)| (g - v) * w).sum::<f64>() / squares;
        let values: Vec<f64> =
            self.value.iter().zip(parameter).map(|(v, w)| v + factor * w).collect();
        let is_found = parameter.iter().filter(|w| **w != 0.).count() > 1 && self.is(&values);
        is_found.then(|| format!("weight decay: {} times the parameter is added", short(factor)))
    }

    /// Another array in its place.
    fn others(&self) -> Vec<String> {
        let mut names = vec![];
        let shapes = self.problem.shapes();
        let turned = |values: &[f64], shape: &[usize]| -> Vec<f64> {
            let (n, m) = (values.len() / shape[shape.len() - 1], shape[shape.len() - 1]);
            (0..n * m).map(|at| values[at % n * m + at / n]).collect()
        };
        for (j, values) in self.gradients.iter().enumerate() {
            let (name, len) = (COMPARED[j], self.value.len());
            let pair = [COMPARED[self.i.min(j)], COMPARED[self.i.max(j)]].join(" and ");
            let is_square = shapes[j].len() == 2 && shapes[j][0] == shapes[j][1];
            if j == self.i {
                if is_square && self.is(&turned(values, &shapes[j])) {
                    names.push("the array is transposed".to_string());
                }
            } else if values.len() == len && self.is(&plus(values, &self.value)) {
                names.push(format!("{pair} are one array, to which both are added"));
            } else if values.len() == len && self.is(values) {
                let is_exchanged = self.given.get(&j).is_some_and(|given| given.is(0, &self.value));
                names.push(if is_exchanged {
                    pair + " are exchanged"
                } else {
                    format!("it holds {name}")
                });
            } else if j < 3 && values.len() == len && self.is(&turned(values, &shapes[j])) {
                names.push(format!("it holds {name}, transposed"));
            }
        }
        let parameters = self.problem.parameters().flat();
        if parameters.get(self.i).is_some_and(|parameter| self.is(parameter)) {
            names.push("it holds the parameter, not its gradient".to_string());
        }
        names
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
