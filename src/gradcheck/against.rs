//! A reader's own gradients, from a file of NumPy's, and which known mistake gives just these.

use super::compare::{Comparison, bound, compare};
use super::forward::Forward;
use super::gradients::Gradients;
use super::mistakes::{MISTAKES, Mistake, planted};
use super::npz::{self, Array};
use super::problem::{Problem, Sequence, Sizes};
use super::rounding::Rounding;
use crate::error::{Error, Result};
use crate::reference::Parameters;
use candle_core::DType;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The arrays that a file must have, with the notebook's names.
const INPUTS: [&str; 8] = ["Wax", "Waa", "Wya", "b", "by", "a_prev", "X", "Y"];

/// Those that are compared, of which it may have any: the gradients in the order of
/// [`TENSORS`](super::TENSORS), of which the notebook's last is that of `a_prev`.
const COMPARED: [&str; 8] = ["dWax", "dWaa", "dWya", "db", "dby", "da_next", "loss", "a_last"];

/// The number of worst entries that are reported.
const WORST: usize = 5;

/// Pairs of mistakes are tried where a forward pass takes fewer multiplications.
const MAX_WORK_FOR_PAIRS: usize = 1_000_000;

/// The notebook's learning rate.
const LEARNING_RATE: f64 = 0.01;

/// The result for a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Against {
    /// The sizes of its network.
    pub sizes: Sizes,
    /// The arrays compared: the reader's first, and the reference's.
    pub arrays: Vec<Comparison>,
    /// Whether the loss and the last state, where the file has them, are right. If they are not,
    /// the forward pass is to blame.
    pub forward_agrees: bool,
    /// The known mistakes that give wrong arrays.
    pub diagnoses: Vec<Diagnosis>,
    /// The wrong arrays that none gives.
    pub unexplained: Vec<Unexplained>,
    /// Whether all arrays are right.
    pub agree: bool,
}

/// Wrong arrays and what gives just these numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The arrays.
    pub arrays: Vec<&'static str>,
    /// The mistake; several where they give the same numbers.
    pub mistakes: Vec<String>,
}

/// A wrong array that no known mistake gives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unexplained {
    /// The array.
    pub array: &'static str,
    /// Its entries with the largest errors, the largest first.
    pub worst: Vec<Entry>,
}

/// An entry of a wrong array.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its index.
    pub at: Vec<usize>,
    /// The value in the file.
    pub given: f64,
    /// The right value.
    pub right: f64,
}

/// Compares the gradients in the file `path`, of `np.savez`, with the reference's; `clip` clamps
/// the latter to [-clip, clip] first, as the notebook's `clip` does.
///
/// # Errors
/// [`Error::NumpyFile`] if the file cannot be read, or an array is missing, unknown or misshapen.
pub fn against(path: &Path, clip: Option<f64>) -> Result<Against> {
    let file = Reader { path, arrays: npz::read(path)? };
    let problem = file.problem()?;
    let given = file.compared(&problem)?;
    let clip = clip.unwrap_or(f64::INFINITY);
    // Where an array is in f32, so may have been all of the computation.
    let [in_f64, in_f32] = Rounding::of(&problem);
    let (dtype, rounding) = match file.arrays.values().any(|array| array.is_single) {
        true => (DType::F32, in_f32),
        false => (DType::F64, in_f64),
    };
    let right = right(&problem, clip);
    let check = Check { problem: &problem, clip, given, right, dtype, rounding };
    let arrays: Vec<Comparison> =
        check.given.keys().map(|&i| check.compare(i, &check.right)).collect();
    let is_wrong = |i: &usize| !check.compare(*i, &check.right).agree;
    let wrong: Vec<usize> = check.given.keys().copied().filter(is_wrong).collect();
    let (diagnoses, rest) = check.diagnose(&wrong);
    Ok(Against {
        sizes: problem.sizes(),
        forward_agrees: !wrong.iter().any(|&i| i >= 6),
        agree: wrong.is_empty(),
        unexplained: rest.into_iter().map(|i| check.unexplained(i)).collect(),
        arrays,
        diagnoses,
    })
}

/// A file's arrays.
struct Reader<'a> {
    path: &'a Path,
    arrays: BTreeMap<String, Array>,
}

impl Reader<'_> {
    fn error(&self, problem: String) -> Error {
        Error::numpy_file(self.path, problem)
    }

    fn array(&self, name: &str) -> Result<&Array> {
        self.arrays.get(name).ok_or_else(|| {
            let inputs = INPUTS.join(", ");
            self.error(format!("it has no array {name}; it needs {inputs} and the gradients"))
        })
    }

    /// The values of an array of this shape; (n), (n, 1) and (1, n) are the same.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let array = self.array(name)?;
        let trimmed =
            |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<usize>>();
        if array.shape != shape && trimmed(&array.shape) != trimmed(shape) {
            let reversed: Vec<usize> = array.shape.iter().rev().copied().collect();
            let hint = if reversed == shape { ": it is transposed" } else { "" };
            let shapes = (tuple(&array.shape), tuple(shape));
            return Err(self.error(format!("{name} is {}, not {}{hint}", shapes.0, shapes.1)));
        }
        Ok(array.values.clone())
    }

    fn finite(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let values = self.values(name, shape)?;
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.error(format!("{name} has the value {value}"))),
            None => Ok(values),
        }
    }

    /// Indices from `lowest` to `n_x - 1`.
    fn indices(&self, name: &str, lowest: f64, n_x: usize) -> Result<Vec<f64>> {
        let length = self.array(name)?.values.len();
        let values = self.values(name, &[length])?;
        let is_index = |v: &f64| v.fract() == 0. && (lowest..n_x as f64).contains(v);
        match values.iter().position(|value| !is_index(value)) {
            Some(t) => Err(self.error(format!(
                "{name}[{t}] is {}, not an index from {lowest} to {}",
                values[t],
                n_x - 1
            ))),
            None => Ok(values),
        }
    }

    fn problem(&self) -> Result<Problem> {
        let is_known = |name: &&String| INPUTS.iter().chain(&COMPARED).any(|known| known == name);
        if let Some(name) = self.arrays.keys().find(|name| !is_known(name)) {
            let (inputs, compared) = (INPUTS.join(", "), COMPARED.join(", "));
            return Err(self.error(format!(
                "it has an array {name}; those of the notebook are {inputs}, and to compare \
                 {compared}"
            )));
        }
        let &[n_a, n_x] = &self.array("Wax")?.shape[..] else {
            let shape = tuple(&self.array("Wax")?.shape);
            return Err(self.error(format!("Wax is {shape}, not (n_a, n_x)")));
        };
        let steps = self.array("X")?.values.len();
        let sizes = Sizes { hidden: n_a, vocabulary: n_x, steps, batch: 1 };
        sizes.check().map_err(|e| self.error(e.to_string()))?;
        let wax = self.finite("Wax", &[n_a, n_x])?;
        let waa = self.finite("Waa", &[n_a, n_a])?;
        let wya = self.finite("Wya", &[n_x, n_a])?;
        let (b, by) = (self.finite("b", &[n_a, 1])?, self.finite("by", &[n_x, 1])?);
        let a_prev = self.finite("a_prev", &[n_a, 1])?;
        let x = self.indices("X", -1., n_x)?;
        let y = self.indices("Y", 0., n_x)?;
        if x.len() != y.len() {
            return Err(self.error(format!("X has {} steps and Y has {}", x.len(), y.len())));
        }
        let x = x.into_iter().map(|x| (x >= 0.).then_some(x as usize)).collect();
        let sequence = Sequence { x, y: y.into_iter().map(|y| y as usize).collect() };
        let parameters = Parameters::from_flat(n_a, n_x, [&wax, &waa, &wya, &b, &by]);
        Problem::sequence(parameters, sequence, a_prev)
    }

    /// The arrays to compare, by their position in [`COMPARED`].
    fn compared(&self, problem: &Problem) -> Result<BTreeMap<usize, Vec<f64>>> {
        let mut found = BTreeMap::new();
        for (i, name) in COMPARED.into_iter().enumerate() {
            if self.arrays.contains_key(name) {
                found.insert(i, self.values(name, &shape(problem, i))?);
            }
        }
        match found.is_empty() {
            true => Err(self.error(format!("it has none of {}", COMPARED.join(", ")))),
            false => Ok(found),
        }
    }
}

/// The shape of an array of [`COMPARED`], as the notebook has it.
fn shape(problem: &Problem, i: usize) -> Vec<usize> {
    let shapes = problem.shapes();
    match i {
        0..3 => shapes[i].clone(),
        3 | 4 => vec![shapes[i][0], 1],
        6 => vec![],
        _ => vec![shapes[5][1], 1],
    }
}

/// A shape as NumPy prints it.
fn tuple(shape: &[usize]) -> String {
    match shape {
        [one] => format!("({one},)"),
        sizes => {
            let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
            format!("({})", sizes.join(", "))
        }
    }
}

/// The arrays of the file beside the right ones.
struct Check<'a> {
    problem: &'a Problem,
    clip: f64,
    given: BTreeMap<usize, Vec<f64>>,
    right: [Vec<f64>; 8],
    dtype: DType,
    rounding: Rounding,
}

impl<'a> Check<'a> {
    /// The array `i` of the file against that of `other`.
    fn compare(&self, i: usize, other: &[Vec<f64>; 8]) -> Comparison {
        self.compare_values(i, &self.given[&i], &other[i])
    }

    fn compare_values(&self, i: usize, a: &[f64], b: &[f64]) -> Comparison {
        let Rounding { gradients, loss, last } = self.rounding;
        let floor = if i < 6 { gradients[i] } else { [loss, last][i - 6] };
        let bounds = [bound(self.dtype, false), floor];
        compare(COMPARED[i], shape(self.problem, i), [a, b], None, bounds)
    }

    /// Whether `other` is right where the file is, and the arrays of `wrong` that it gives.
    fn explains(&self, wrong: &[usize], other: &[Vec<f64>; 8]) -> (Vec<usize>, usize) {
        let differs = |i: &usize| !self.compare_values(*i, &other[*i], &self.right[*i]).agree;
        let (wrong, right): (Vec<usize>, Vec<usize>) =
            self.given.keys().copied().partition(|i| wrong.contains(i));
        let gives = |i: &usize| differs(i) && self.compare(*i, other).agree;
        (wrong.into_iter().filter(gives).collect(), right.iter().filter(|i| differs(i)).count())
    }

    /// The mistakes that give the arrays of `wrong`, and those that none gives.
    fn diagnose(&self, wrong: &[usize]) -> (Vec<Diagnosis>, Vec<usize>) {
        let mut found = Vec::new();
        let mut rest = wrong.to_vec();
        let mut explain = |candidates: Vec<(String, [Vec<f64>; 8])>| {
            let mut candidates: Vec<_> = candidates
                .into_iter()
                .map(|(what, other)| (what, self.explains(wrong, &other)))
                .collect();
            loop {
                for (_, (arrays, _)) in &mut candidates {
                    arrays.retain(|i| rest.contains(i));
                }
                // Most wrong arrays, then fewest right ones that it would make wrong.
                let rank = |(_, (arrays, others)): &(_, (Vec<usize>, usize))| {
                    (arrays.len(), std::cmp::Reverse(*others))
                };
                let best = candidates.iter().max_by_key(|candidate| rank(candidate));
                let Some((_, best)) = best.filter(|(_, (arrays, _))| !arrays.is_empty()).cloned()
                else {
                    return;
                };
                let same = candidates.iter().filter(|(_, candidate)| *candidate == best);
                let mistakes = same.map(|(what, _)| what.clone()).collect();
                let arrays = best.0.iter().map(|&i| COMPARED[i]).collect();
                found.push(Diagnosis { arrays, mistakes });
                rest.retain(|i| !best.0.contains(i));
            }
        };
        let single = MISTAKES.iter().map(|known| known.mistake);
        let mut candidates: Vec<_> =
            single.clone().map(|m| (describe(m).to_string(), self.planted(&[m]))).collect();
        candidates.extend(self.other_files());
        explain(candidates);
        if self.problem.sizes().forward_work() < MAX_WORK_FOR_PAIRS {
            let pairs = single.clone().enumerate();
            let pairs = pairs.flat_map(|(i, m)| single.clone().skip(i + 1).map(move |n| [m, n]));
            let both = |[m, n]: [Mistake; 2]| format!("{}, and {}", describe(m), describe(n));
            explain(pairs.map(|pair| (both(pair), self.planted(&pair))).collect());
        }
        (found, rest)
    }

    /// The arrays with these mistakes.
    fn planted(&self, mistakes: &[Mistake]) -> [Vec<f64>; 8] {
        let limit = if self.clip.is_finite() { self.clip } else { 5. };
        let Gradients { values, loss, last, .. } = planted(self.problem, mistakes, limit);
        arrays(values, loss.into_iter().collect(), last.unwrap_or_default(), self.clip)
    }

    /// What a file has that was saved in another way than it should be.
    fn other_files(&self) -> Vec<(String, [Vec<f64>; 8])> {
        let mut others = Vec::new();
        let largest = self.given.range(..5).flat_map(|(_, values)| values);
        let largest = largest.fold(0., |most: f64, value| value.abs().max(most));
        if self.clip.is_finite() {
            let what = "the gradients are not clipped; compare them without `clip`";
            others.push((what.to_string(), right(self.problem, f64::INFINITY)));
            // And not clipped after the sum.
            let Gradients { values, .. } =
                planted(self.problem, &[Mistake::ClippedSteps], self.clip);
            let [.., loss, last] = self.right.clone();
            let what = describe(Mistake::ClippedSteps).to_string();
            others.push((what, arrays(values, loss, last, f64::INFINITY)));
        } else {
            let what = format!("the gradients are clipped; compare them with `clip` {largest}");
            others.push((what, right(self.problem, largest)));
        }
        // w + learning rate * dw is what the parameters were before the update.
        let mut parameters = self.problem.parameters().flat();
        for (&i, gradient) in self.given.range(..5) {
            let update = parameters[i].iter_mut().zip(gradient);
            update.for_each(|(w, g)| *w += LEARNING_RATE * g);
        }
        let sizes = self.problem.sizes();
        let flat = parameters.each_ref().map(Vec::as_slice);
        let before = Parameters::from_flat(sizes.hidden, sizes.vocabulary, flat);
        let [sequence] = self.problem.sequences() else { return others };
        let a_prev = self.problem.a0()[0].clone();
        if let Ok(problem) = Problem::sequence(before, sequence.clone(), a_prev) {
            let what = "the parameters are those after update_parameters; save them before";
            others.push((what.to_string(), right(&problem, self.clip)));
        }
        others
    }

    fn unexplained(&self, i: usize) -> Unexplained {
        let (given, right) = (&self.given[&i], &self.right[i]);
        let error = |&at: &usize| (given[at] - right[at]).abs();
        let mut order: Vec<usize> = (0..given.len()).collect();
        order.sort_by(|a, b| {
            // An entry that is not finite before any other.
            let key = |at| if error(at).is_finite() { error(at) } else { f64::INFINITY };
            key(b).total_cmp(&key(a))
        });
        order.truncate(WORST);
        let shape = shape(self.problem, i);
        let entry = |at: usize| Entry {
            at: super::compare::unravel(at, &shape),
            given: given[at],
            right: right[at],
        };
        Unexplained { array: COMPARED[i], worst: order.into_iter().map(entry).collect() }
    }
}

fn describe(mistake: Mistake) -> &'static str {
    let known = MISTAKES.iter().find(|known| known.mistake == mistake);
    known.expect("every mistake is listed").what
}

/// The right arrays, in the order of [`COMPARED`].
fn right(problem: &Problem, clip: f64) -> [Vec<f64>; 8] {
    let found = Forward::<f64>::new(problem).backward();
    arrays(found.gradients, vec![found.losses.iter().sum()], found.last, clip)
}

fn arrays(gradients: [Vec<f64>; 6], loss: Vec<f64>, last: Vec<f64>, clip: f64) -> [Vec<f64>; 8] {
    let [mut wax, mut waa, mut wya, mut b, mut by, da] = gradients;
    for gradient in [&mut wax, &mut waa, &mut wya, &mut b, &mut by] {
        gradient.iter_mut().for_each(|g| *g = g.clamp(-clip, clip));
    }
    [wax, waa, wya, b, by, da, loss, last]
}
