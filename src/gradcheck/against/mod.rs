//! A reader's own results, from a file of NumPy's: gradients, `clip` and `sample`.

mod arrays;
mod clipped;
mod departures;
mod explain;
mod file;
mod npz;
mod pass;
mod sampled;
mod solved;
mod update;

pub use arrays::Cause;
pub use sampled::Letter;

use crate::error::{Error, Result};
use crate::gradcheck::compare::{Comparison, bound, compare, unravel};
use crate::gradcheck::forward::Forward;
use crate::gradcheck::problem::{Problem, Sizes};
use crate::gradcheck::rounding::Rounding;
use arrays::{COMPARED, Given, norm};
use candle_core::DType;
use explain::explain;
use file::{CLIPPED, LIMITS, Reader, compared_shape};
use serde::Serialize;
use solved::short;
use std::collections::BTreeMap;
use std::path::Path;

/// The number of worst entries that are reported.
const WORST: usize = 10;

/// The part of an array that rounding may be, above which it cannot be compared.
const MAX_ROUNDING: f64 = 0.01;

/// The rounding that is allowed, as a multiple of that of a gradient method: NumPy has functions and
/// orders of its own, and a chaotic network makes any difference larger.
const NUMPY: f64 = 8.;

/// The result for a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Against {
    /// The sizes of the network, if gradients are compared with its parameters.
    pub sizes: Option<Sizes>,
    /// The arrays compared: the reader's first, and the reference's.
    pub arrays: Vec<Comparison>,
    /// Arrays that are right to single precision alone.
    pub single: Vec<&'static str>,
    /// Arrays that cannot be compared, as rounding may be as large as they are; they count as right.
    pub uncertain: Vec<&'static str>,
    /// The first letter of a sample that is not the notebook's.
    pub letter: Option<Letter>,
    /// The smallest sets of causes of what is wrong; several if they give the same numbers.
    pub explanations: Vec<Vec<Cause>>,
    /// The worst entries of wrong arrays, if nothing explains them.
    pub worst: Vec<Entry>,
    /// Whether all is right.
    pub agree: bool,
}

impl Against {
    /// Adds the explanations of another part of the file: each beside each.
    fn explain(&mut self, others: Vec<Vec<Cause>>) {
        if self.explanations.is_empty() || others.is_empty() {
            return self.explanations.extend(others);
        }
        let both = |causes: &Vec<Cause>| {
            others.iter().map(|other| [&causes[..], other].concat()).collect::<Vec<_>>()
        };
        self.explanations = self.explanations.iter().flat_map(both).collect();
    }
}

/// An entry of a wrong array.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The array.
    pub array: &'static str,
    /// The index.
    pub at: Vec<usize>,
    /// The value in the file.
    pub given: f64,
    /// The right value.
    pub right: f64,
}

/// Compares what the file `path`, of `np.savez`, has with the reference: gradients with the
/// parameters, clamped to [-clip, clip] first as the notebook's `clip` does; gradients after `clip`
/// with those before; `indices` with the notebook's `sample`.
///
/// # Errors
/// [`Error::Setting`] if `clip` is not above 0;
/// [`Error::NumpyFile`] if the file cannot be read, an array is missing,
/// unknown or misshapen, or rounding is so large that the arrays cannot be compared.
pub fn against(path: &Path, clip: Option<f64>) -> Result<Against> {
    if let Some(clip) = clip.filter(|clip| clip.is_nan() || *clip <= 0.) {
        return Err(Error::setting("clip", clip, "it must be above 0"));
    }
    let mut file = Reader::open(path)?;
    let mut all = Against {
        sizes: None,
        arrays: vec![],
        single: vec![],
        uncertain: vec![],
        letter: None,
        explanations: vec![],
        worst: vec![],
        agree: true,
    };
    let is_clip = CLIPPED.iter().chain(&LIMITS).any(|name| file.has(name));
    let is_sample = file.has("indices") || file.has("seed");
    if is_clip {
        let (arrays, explanations) = clipped::check(&mut file)?;
        (all.arrays, all.explanations) = (arrays, explanations);
    }
    if is_sample {
        let (letter, explanations) = sampled::check(&mut file)?;
        all.letter = letter;
        all.explain(explanations);
    }
    if file.has("X") || file.has("a_prev") || !(is_clip || is_sample) {
        gradients(&mut file, clip.unwrap_or(f64::INFINITY), &mut all)?;
    }
    all.agree = all.letter.is_none() && all.arrays.iter().all(|array| array.agree);
    Ok(all)
}

/// Compares the gradients, the loss and the last state.
fn gradients(file: &mut Reader, clip: f64, all: &mut Against) -> Result<()> {
    let problem = file.problem()?;
    let right = right(&problem, clip);
    let roundings = Rounding::of(&problem);
    let is_f32 = |values: &[f64]| values.iter().all(|&v| f64::from(v as f32) == v);
    let all_f32 = problem.parameters().flat().iter().all(|values| is_f32(values));
    let (mut given, mut worst_rounding) = (BTreeMap::new(), 0.);
    for name in file.those(&COMPARED) {
        let i = COMPARED.iter().position(|known| *known == name).expect("one of them");
        let shape = compared_shape(&problem.sizes(), i);
        let values = file.values(name, &shape)?;
        let bounds = [DType::F64, DType::F32].map(|dtype| {
            let Rounding { gradients: [wax, waa, wya, b, by, a0], loss, last } =
                roundings[usize::from(dtype == DType::F32)];
            [bound(dtype, false), NUMPY * [wax, waa, wya, b, by, a0, loss, last][i]]
        });
        let compared = bounds.map(|b| compare(name, shape.clone(), [&values, &right[i]], None, b));
        // Computed in single precision: saved so, or as doubles, or from parameters that are.
        let is_single = file.is_single(name) || !compared[0].agree && (is_f32(&values) || all_f32);
        let may_be_single = is_single && (file.is_single(name) || compared[1].agree);
        let which = usize::from(may_be_single);
        let whole = Some([values.clone(), right[i].clone()]);
        let comparison = Comparison { whole, ..compared[which].clone() };
        let norm = norm(&right[i]);
        // NaN where f32 overflows.
        let rounding = bounds[which][1];
        let is_large = rounding > MAX_ROUNDING * norm || rounding.is_nan();
        if is_large && comparison.relative_error.is_finite() {
            worst_rounding = f64::max(rounding / norm, worst_rounding);
            all.uncertain.push(name);
            all.arrays.push(Comparison { agree: true, ..comparison });
            continue;
        }
        if which == 1 && comparison.agree && !compared[0].agree {
            all.single.push(name);
        }
        given.insert(i, Given::new(values, &right[i], comparison.agree, bounds[which]));
        all.arrays.push(comparison);
    }
    if given.is_empty() && all.uncertain.is_empty() {
        return Err(file.error(format!("it has none of {}", COMPARED.join(", "))));
    }
    let is_wrong = given.values().any(|given| !given.is_right);
    if !is_wrong && !all.uncertain.is_empty() {
        let size = if (MAX_ROUNDING..1.).contains(&worst_rounding) {
            short(worst_rounding)
        } else {
            "the size".to_string()
        };
        let advice = "use smaller weights, fewer steps, or f64";
        let names = all.uncertain.join(", ");
        return Err(file.error(format!(
            "{names} cannot be compared: rounding grows to {size} of them here; {advice}"
        )));
    }
    all.sizes = Some(problem.sizes());
    if is_wrong {
        let found = explain(&problem, &given, clip);
        if found.is_empty() {
            all.worst = worst(&problem, &given, &right);
        }
        all.explain(found);
    }
    Ok(())
}

/// The right arrays, in the order of [`COMPARED`].
fn right(problem: &Problem, clip: f64) -> [Vec<f64>; 8] {
    let found = Forward::<f64>::new(problem).backward();
    let loss = vec![found.losses.iter().sum()];
    let [mut wax, mut waa, mut wya, mut b, mut by, da] = found.gradients;
    for gradient in [&mut wax, &mut waa, &mut wya, &mut b, &mut by] {
        gradient.iter_mut().for_each(|g| *g = g.clamp(-clip, clip));
    }
    [wax, waa, wya, b, by, da, loss, found.last]
}

/// The entries of wrong arrays with the largest errors, the largest first.
fn worst(problem: &Problem, given: &BTreeMap<usize, Given>, right: &[Vec<f64>; 8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (&i, given) in given.iter().filter(|(_, given)| !given.is_right) {
        let pairs = given.values.iter().zip(&right[i]).enumerate();
        entries.extend(pairs.map(|(at, (&given, &right))| (i, at, given, right)));
    }
    // An entry that is not finite before any other.
    let error = |(_, _, given, right): &(_, _, f64, f64)| {
        let error = (given - right).abs();
        if error.is_finite() { error } else { f64::INFINITY }
    };
    entries.sort_by(|a, b| error(b).total_cmp(&error(a)));
    entries.truncate(WORST);
    let entry = |(i, at, given, right)| Entry {
        array: COMPARED[i],
        at: unravel(at, &compared_shape(&problem.sizes(), i)),
        given,
        right,
    };
    entries.into_iter().map(entry).collect()
}
