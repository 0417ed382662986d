//! A reader's own results, from a file of NumPy's: gradients, `clip` and `sample`.

mod arrays;
mod choices;
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
use crate::gradcheck::compare::{Comparison, bound, compare, norm, unravel, worst};
use crate::gradcheck::forward::Forward;
use crate::gradcheck::problem::{LOSS, Problem, Sizes};
use crate::gradcheck::rounding::rounding;
use arrays::{COMPARED, Given, short};
use candle_core::DType;
use explain::explain;
use file::{CLIPPED, LIMITS, Reader, compared_shape};
use serde::Serialize;
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
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
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
/// with those before; `indices` with the notebook's `sample`. With `whole` the comparisons keep the
/// arrays.
///
/// # Errors
/// [`Error::Setting`] if `clip` is not above 0;
/// [`Error::NumpyFile`] if the file cannot be read, an array is missing,
/// unknown or misshapen, or rounding is so large that the arrays cannot be compared.
pub fn against(path: &Path, clip: Option<f64>, whole: bool) -> Result<Against> {
    if let Some(clip) = clip.filter(|clip| clip.is_nan() || *clip <= 0.) {
        return Err(Error::setting("clip", clip, "it must be above 0"));
    }
    let mut file = Reader::open(path)?;
    let mut all = Against::default();
    let is_clip = CLIPPED.iter().chain(&LIMITS).any(|name| file.has(name));
    let is_sample = file.has("indices") || file.has("seed");
    if is_clip {
        (all.arrays, all.explanations) = clipped::check(&mut file, whole)?;
    }
    if is_sample {
        let (letter, explanations) = sampled::check(&mut file)?;
        all.letter = letter;
        all.explain(explanations);
    }
    if file.has("X") || file.has("a_prev") || !(is_clip || is_sample) {
        gradients(&mut file, clip.unwrap_or(f64::INFINITY), whole, &mut all)?;
    }
    all.agree = all.letter.is_none() && all.arrays.iter().all(|array| array.agree);
    Ok(all)
}

/// Compares the gradients, the loss and the last state.
fn gradients(file: &mut Reader, clip: f64, whole: bool, all: &mut Against) -> Result<()> {
    let problem = file.problem()?;
    let right = right(&problem, clip);
    let roundings = rounding(&problem);
    let is_f32 = |values: &[f64]| values.iter().all(|&v| f64::from(v as f32) == v);
    let all_f32 = problem.parameters.flat().iter().all(|values| is_f32(values));
    let (mut given, mut worst_rounding) = (BTreeMap::new(), 0.);
    for (i, name) in file.those(&COMPARED) {
        let shape = compared_shape(&problem.sizes(), i);
        let values = file.values(name, &shape)?;
        let bounds = [(DType::F64, 0), (DType::F32, 1)]
            .map(|(dtype, n)| [bound(dtype, false), NUMPY * roundings[n][i]]);
        let compared = bounds.map(|b| compare(name, shape.clone(), [&values, &right[i]], b));
        // Computed in single precision: saved so, or as doubles, or from parameters that are.
        let is_single = file.is_single(name)
            || !compared[0].agree && (is_f32(&values) || all_f32) && compared[1].agree;
        let which = usize::from(is_single);
        let is_double = compared[0].agree;
        let [_, rounding] = bounds[which];
        let mut comparison = compared[which].clone();
        comparison.whole = whole.then(|| [values.clone(), right[i].clone()]);
        let norm = norm(right[i].iter().copied());
        // NaN where f32 overflows.
        let is_large = rounding > MAX_ROUNDING * norm || rounding.is_nan();
        if is_large && comparison.relative_error.is_finite() {
            worst_rounding = f64::max(rounding / norm, worst_rounding);
            all.uncertain.push(name);
            comparison.agree = true;
        } else {
            let agree = comparison.agree;
            all.single.extend((is_single && agree && !is_double).then_some(name));
            given.insert(i, Given::new(values, &right[i], agree, bounds[which]));
        }
        all.arrays.push(comparison);
    }
    if given.is_empty() && all.uncertain.is_empty() {
        return Err(file.error(format!("it has none of {}", COMPARED.join(", "))));
    }
    let is_wrong = given.values().any(|given| !given.is_right);
    if !is_wrong && !all.uncertain.is_empty() {
        let is_part = (MAX_ROUNDING..1.).contains(&worst_rounding);
        let size = if is_part { short(worst_rounding) } else { "the size".to_string() };
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
            all.worst = worst_entries(&problem, &given, &right);
        }
        all.explain(found);
    }
    Ok(())
}

/// The right arrays, in the order of [`COMPARED`].
fn right(problem: &Problem, clip: f64) -> [Vec<f64>; 8] {
    let mut arrays = Forward::<f64>::new(problem).backward();
    for gradient in &mut arrays[..5] {
        gradient.iter_mut().for_each(|g| *g = g.clamp(-clip, clip));
    }
    arrays[LOSS] = vec![arrays[LOSS].iter().sum()];
    arrays
}

/// The entries of wrong arrays with the largest errors, the largest first.
fn worst_entries(
    problem: &Problem,
    given: &BTreeMap<usize, Given>,
    right: &[Vec<f64>; 8],
) -> Vec<Entry> {
    let of_array = |(&i, given): (&usize, &Given)| {
        let shape = compared_shape(&problem.sizes(), i);
        let entry = |at: usize| Entry {
            array: COMPARED[i],
            at: unravel(at, &shape),
            given: given.values[at],
            right: right[i][at],
        };
        worst([&given.values, &right[i]], WORST).into_iter().map(entry).collect::<Vec<_>>()
    };
    let wrong = given.iter().filter(|(_, given)| !given.is_right);
    let entries: Vec<Entry> = wrong.flat_map(of_array).collect();
    let (given, right): (Vec<f64>, Vec<f64>) = entries.iter().map(|e| (e.given, e.right)).unzip();
    worst([&given, &right], WORST).into_iter().map(|at| entries[at].clone()).collect()
}
