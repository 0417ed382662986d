//! Derivatives of the reference's loss from its forward pass alone: exact ones, by each entry and along
//! random directions, and central differences along these.

use super::compare::norm;
use super::forward::Forward;
use super::gradients::{DIFFERENCES, DIRECTIONS, EXACT, Gradients};
use super::numbers::{Dual, LANES, directions};
use super::problem::{GRADIENTS, LOSS, Problem};
use super::rounding::Rounding;
use std::array::from_fn;
use std::ops::Range;

/// The step h: near the minimum of the error in f64, where the O(h^2) of the formula and the
/// rounding of the loss, O(eps / h), are equal.
pub(super) const STEP: f64 = 1e-5;

/// The most multiplications of the exact derivatives by each entry: seconds.
const MAX_WORK: usize = 1_000_000_000;

/// Whether the exact derivative by each entry is a matter of seconds.
pub(super) fn is_small(problem: &Problem) -> bool {
    let entries: usize = (0..GRADIENTS).map(|index| problem.length(index)).sum();
    entries.saturating_mul(problem.sizes().forward_work()) < MAX_WORK
}

/// Exact derivatives of the loss by each entry, or along the directions of `seed`, in f64.
pub(super) fn exact(problem: &Problem, seed: Option<u64>) -> Gradients {
    let mut forward = Forward::<Dual>::new(problem);
    let value = |values: Vec<Dual>| values.iter().map(|dual| dual.value).collect::<Vec<f64>>();
    let [losses, last] = forward.losses().map(value);
    let gradient = |index: usize| {
        let length = problem.length(index);
        let mut derivatives = |entries: Range<usize>, tangent: &mut dyn FnMut(usize) -> _| {
            entries.clone().for_each(|at| forward.entry(index, at).tangent = tangent(at));
            let [losses, _] = forward.losses();
            entries.for_each(|at| forward.entry(index, at).tangent = [0.; LANES]);
            from_fn::<f64, LANES, _>(|lane| losses.iter().map(|loss| loss.tangent[lane]).sum())
        };
        if let Some(seed) = seed {
            let mut draw = directions(seed, index);
            return derivatives(0..length, &mut |_| draw()).to_vec();
        }
        let some = |first: usize| {
            let end = length.min(first + LANES);
            let one = |at| from_fn(|lane| f64::from(at == first + lane));
            derivatives(first..end, &mut { one })[..end - first].to_vec()
        };
        (0..length).step_by(LANES).flat_map(some).collect()
    };
    let mut values: Vec<Vec<f64>> = (0..GRADIENTS).map(gradient).collect();
    values.extend([vec![losses.iter().sum()], last]);
    let method = if seed.is_some() { DIRECTIONS } else { EXACT };
    Gradients {
        method: method.to_string(),
        values,
        directions: seed,
        rounding: Rounding::default(),
    }
}

/// Central differences of the loss along the directions of `seed`, in f64. Their error is estimated
/// from those with twice the step, and from the rounding of the loss, `rounding`.
pub(super) fn central_differences(problem: &Problem, seed: u64, rounding: &Rounding) -> Gradients {
    let mut forward = Forward::<f64>::new(problem);
    let mut values = vec![vec![]; GRADIENTS];
    let mut errors = Rounding::default();
    for index in 0..GRADIENTS {
        let mut draw = directions(seed, index);
        let middle: Vec<f64> =
            (0..problem.length(index)).map(|at| *forward.entry(index, at)).collect();
        let vectors: Vec<[f64; LANES]> = middle.iter().map(|_| draw()).collect();
        let (mut truncation, mut noise) = (0., 0.);
        for lane in 0..LANES {
            let size = norm(vectors.iter().map(|vector| vector[lane]));
            let mut losses = |step: f64| {
                for (at, (middle, vector)) in middle.iter().zip(&vectors).enumerate() {
                    *forward.entry(index, at) = middle + step / size * vector[lane];
                }
                let [losses, _] = forward.losses();
                losses
            };
            let mut difference = |step: f64| {
                // Subtracted character by character: the sums are larger, and so is their rounding.
                let both = losses(step).into_iter().zip(losses(-step));
                both.map(|(above, below)| above - below).sum::<f64>() / (2. * step) * size
            };
            let (found, wide) = (difference(STEP), difference(2. * STEP));
            truncation += (found - wide).powi(2);
            noise += (rounding[LOSS] / STEP * size).powi(2);
            values[index].push(found);
        }
        (0..middle.len()).for_each(|at| *forward.entry(index, at) = middle[at]);
        errors[index] = f64::sqrt(truncation) + f64::sqrt(noise);
    }
    let method = DIFFERENCES.to_string();
    Gradients { method, values, directions: Some(seed), rounding: errors }
}
