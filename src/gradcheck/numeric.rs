//! Derivatives of the reference's loss from its forward pass alone: exact ones, along entries and
//! along random directions, and central differences.

use super::forward::Forward;
use super::gradients::{Gradients, Scope};
use super::numbers::{Dual, LANES, directions};
use super::problem::{Entries, GRADIENTS, LOSS, Problem, Sizes};
use super::rounding::Rounding;
use std::array::from_fn;

/// The names of these methods in a report.
pub(super) const EXACT: &str = "exact";
/// Exact derivatives along random directions through all entries of a tensor.
pub(super) const DIRECTIONS: &str = "directions";
/// Central differences.
pub(super) const DIFFERENCES: &str = "differences";

/// The step h: near the minimum of the error in f64, where the O(h^2) of the formula and the
/// rounding of the loss, O(eps / h), are equal.
pub(super) const STEP: f64 = 1e-5;

/// The most entries of a tensor whose differences are taken by default.
const MAX_DEFAULT_ENTRIES: usize = 200;

/// The multiplications that central differences, or exact derivatives, may take by default:
/// seconds.
const MAX_DEFAULT_WORK: usize = 1_000_000_000;

/// The default number of entries of a tensor: 200, fewer if their differences, with two steps each,
/// would take long, at least 10.
pub(super) fn default_entries(sizes: Sizes) -> usize {
    let each = 4 * GRADIENTS * sizes.forward_work();
    (MAX_DEFAULT_WORK / each.max(1)).clamp(10, MAX_DEFAULT_ENTRIES)
}

/// Whether the exact derivative of every entry is a matter of seconds.
pub(super) fn is_small(problem: &Problem) -> bool {
    let shapes = &problem.shapes()[..GRADIENTS];
    let entries: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
    entries.saturating_mul(problem.sizes().forward_work()) < MAX_DEFAULT_WORK
}

/// Exact derivatives of the loss by the entries of `scope`, or along its directions, in f64.
pub(super) fn exact(problem: &Problem, scope: Scope) -> Gradients {
    let mut forward = Forward::<Dual>::new(problem);
    let loss_and_last = forward.losses();
    let derivatives = |forward: &Forward<Dual>| {
        let [losses, _] = forward.losses();
        from_fn::<f64, LANES, _>(|lane| losses.iter().map(|loss| loss.tangent[lane]).sum())
    };
    let gradient = |index: usize| {
        let length = problem.shapes()[index].iter().product();
        let entries: Vec<usize> = match &scope {
            Scope::All => (0..length).collect(),
            Scope::Entries(entries) => entries[index].clone(),
            Scope::Directions(seed) => {
                let mut draw = directions(*seed, index);
                (0..length).for_each(|at| forward.entry(index, at).tangent = draw());
                let along = derivatives(&forward);
                (0..length).for_each(|at| forward.entry(index, at).tangent = [0.; LANES]);
                return along.to_vec();
            }
        };
        let mut values = Vec::with_capacity(entries.len());
        for some in entries.chunks(LANES) {
            for (lane, &at) in some.iter().enumerate() {
                forward.entry(index, at).tangent[lane] = 1.;
            }
            values.extend(&derivatives(&forward)[..some.len()]);
            some.iter().for_each(|&at| forward.entry(index, at).tangent = [0.; LANES]);
        }
        values
    };
    let mut values: Vec<Vec<f64>> = (0..GRADIENTS).map(gradient).collect();
    let value = |values: Vec<Dual>| values.iter().map(|dual| dual.value).collect::<Vec<f64>>();
    let [losses, last] = loss_and_last.map(value);
    values.extend([vec![losses.iter().sum()], last]);
    let method = if matches!(scope, Scope::Directions(_)) { DIRECTIONS } else { EXACT };
    Gradients { method: method.to_string(), values, scope, rounding: Rounding::default() }
}

/// Central differences of the loss with the step `step`, at `entries` of each tensor, in f64.
/// Their error is estimated from those with twice the step, and from the rounding of the loss,
/// `rounding`.
pub(super) fn central_differences(
    problem: &Problem,
    step: f64,
    entries: Entries,
    rounding: &Rounding,
) -> Gradients {
    let mut forward = Forward::<f64>::new(problem);
    let mut values = vec![vec![]; GRADIENTS];
    let mut error = Rounding::default();
    for (index, at) in entries.iter().enumerate() {
        let mut difference = |at, step| {
            let middle = *forward.entry(index, at);
            let (high, low) = (middle + step, middle - step);
            let mut losses = |value| {
                *forward.entry(index, at) = value;
                let [losses, _] = forward.losses();
                losses
            };
            let (above, below) = (losses(high), losses(low));
            *forward.entry(index, at) = middle;
            // Subtracted character by character: the sums are larger, and so is their rounding.
            let change: f64 = above.iter().zip(&below).map(|(a, b)| a - b).sum();
            change / (high - low) // not 2 h: the sums are rounded
        };
        let mut truncation = 0.;
        for &at in at {
            let (found, wide) = (difference(at, step), difference(at, 2. * step));
            truncation += (found - wide).powi(2);
            values[index].push(found);
        }
        let noise = rounding[LOSS] / step * (at.len() as f64).sqrt();
        error[index] = f64::sqrt(truncation) + noise;
    }
    let (method, scope) = (DIFFERENCES.to_string(), Scope::Entries(entries));
    Gradients { method, values, scope, rounding: error }
}
