//! Derivatives of the reference's loss from its forward pass alone: exact ones, along entries and
//! along random directions, and central differences.

use super::forward::Forward;
use super::gradients::{Gradients, Scope};
use super::numbers::{Dual, LANES, directions};
use super::problem::{Entries, Problem, Sizes, TENSORS};
use super::rounding::Rounding;
use std::array::from_fn;

/// The names of these methods in a report.
pub const EXACT: &str = "exact";
/// Exact derivatives along random directions through all entries of a tensor.
pub const DIRECTIONS: &str = "directions";
/// Central differences.
pub const DIFFERENCES: &str = "differences";

/// The step h: near the minimum of the error in f64, where the O(h^2) of the formula and the
/// rounding of the loss, O(eps / h), are equal.
pub const STEP: f64 = 1e-5;

/// The most entries of a tensor whose differences are taken by default.
const MAX_DEFAULT_ENTRIES: usize = 200;

/// The multiplications that central differences, or exact derivatives, may take by default:
/// seconds.
const MAX_DEFAULT_WORK: usize = 1_000_000_000;

/// The default number of entries of a tensor: 200, fewer if `passes` times their differences would
/// take long, at least 10.
pub(super) fn default_entries(sizes: Sizes, passes: usize) -> usize {
    let each = 2 * TENSORS.len() * passes * sizes.forward_work();
    (MAX_DEFAULT_WORK / each.max(1)).clamp(10, MAX_DEFAULT_ENTRIES)
}

/// Whether the exact derivative of every entry is a matter of seconds.
pub(super) fn is_small(problem: &Problem) -> bool {
    let entries: usize = problem.shapes().iter().map(|shape| shape.iter().product::<usize>()).sum();
    entries.saturating_mul(problem.sizes().forward_work()) < MAX_DEFAULT_WORK
}

/// Exact derivatives of the loss by the entries of `scope`, or along its directions, in f64.
pub fn exact(problem: &Problem, scope: Scope) -> Gradients {
    let mut forward = Forward::<Dual>::new(problem);
    let (losses, last) = forward.losses();
    let derivatives = |forward: &Forward<Dual>| {
        let (losses, _) = forward.losses();
        from_fn::<f64, LANES, _>(|lane| losses.iter().map(|loss| loss.tangent[lane]).sum())
    };
    let values = from_fn(|index| {
        let length = problem.shapes()[index].iter().product();
        let entries: Vec<usize> = match &scope {
            Scope::All => (0..length).collect(),
            Scope::Entries(entries) => entries.0[index].clone(),
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
    });
    let value = |values: Vec<Dual>| values.iter().map(|dual| dual.value).collect::<Vec<f64>>();
    Gradients {
        method: if matches!(scope, Scope::Directions(_)) { DIRECTIONS } else { EXACT }.to_string(),
        values,
        loss: Some(value(losses).iter().sum()),
        last: Some(value(last)),
        scope,
        rounding: Rounding::default(),
    }
}

/// Central differences of the loss with the step `step`, at `entries` of each tensor, in f64.
/// Their error is estimated from those with twice the step, and from the rounding of the loss,
/// `rounding`; see [`Rounding`].
pub fn central_differences(
    problem: &Problem,
    step: f64,
    entries: Entries,
    rounding: &Rounding,
) -> Gradients {
    let mut forward = Forward::<f64>::new(problem);
    let mut values: [Vec<f64>; 6] = Default::default();
    let mut error = Rounding::default();
    for (index, at) in entries.0.iter().enumerate() {
        let mut difference = |at, step| {
            let middle = *forward.entry(index, at);
            let (high, low) = (middle + step, middle - step);
            let mut losses = |value| {
                *forward.entry(index, at) = value;
                forward.losses().0
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
        let noise = rounding.loss / step * (at.len() as f64).sqrt();
        error.gradients[index] = f64::sqrt(truncation) + noise;
    }
    let (method, scope) = (DIFFERENCES.to_string(), Scope::Entries(entries));
    Gradients { method, values, loss: None, last: None, scope, rounding: error }
}

/// The slope of the Taylor remainder |L(w + h v) - L(w) - h <g, v>| over halved steps h, for random
/// unit vectors v through all entries of a tensor: 2 for a right gradient g and 1 for a wrong one.
/// The steps are the four smallest whose remainder is a hundred times the rounding of the loss;
/// `None` where there are fewer: g is right as far as f64 shows.
pub(super) struct Taylor<'a> {
    problem: &'a Problem,
    floor: f64,
    seed: u64,
    /// For each tensor and direction L(w + h v) - L(w) from the smallest step on, as needed.
    changes: [[Vec<f64>; DIRECTIONS_OF_TAYLOR]; 6],
}

const DIRECTIONS_OF_TAYLOR: usize = 2;
const HALVINGS: std::ops::RangeInclusive<i32> = 6..=21;
const POINTS: usize = 4;

impl<'a> Taylor<'a> {
    pub fn new(problem: &'a Problem, rounding: &Rounding, seed: u64) -> Self {
        let floor = 100. * rounding.loss;
        Self { problem, floor, seed: seed.wrapping_add(1000), changes: Default::default() }
    }

    /// The unit vectors of a tensor.
    fn vectors(&self, index: usize) -> [Vec<f64>; DIRECTIONS_OF_TAYLOR] {
        let length = self.problem.shapes()[index].iter().product();
        let mut draw = directions(self.seed, index);
        let drawn: Vec<_> = (0..length).map(|_| draw()).collect();
        from_fn(|lane| {
            let vector = drawn.iter().map(|lanes| lanes[lane]);
            let norm = vector.clone().map(|v| v * v).sum::<f64>().sqrt();
            vector.map(|v| v / norm).collect()
        })
    }

    /// The slope for the gradient `g` of the tensor `index`.
    pub fn slope(&mut self, index: usize, g: &[f64]) -> Option<f64> {
        let vectors = self.vectors(index);
        let dot = |v: &Vec<f64>| v.iter().zip(g).map(|(v, g)| v * g).sum::<f64>();
        let along = vectors.each_ref().map(dot);
        let mut forward = Forward::<f64>::new(self.problem);
        let (start, mut remainders) = (forward.losses().0, vec![]);
        for (at, halvings) in HALVINGS.rev().enumerate() {
            let h = 0.5f64.powi(halvings);
            let mut square = 0.;
            for (lane, vector) in vectors.iter().enumerate() {
                let changes = &mut self.changes[index][lane];
                if changes.len() == at {
                    let middle: Vec<f64> =
                        (0..vector.len()).map(|i| *forward.entry(index, i)).collect();
                    let mut set = |i: usize, value| *forward.entry(index, i) = value;
                    middle.iter().zip(vector).enumerate().for_each(|(i, (m, v))| set(i, m + h * v));
                    let moved = forward.losses().0;
                    middle.iter().enumerate().for_each(|(i, &m)| *forward.entry(index, i) = m);
                    changes.push(moved.iter().zip(&start).map(|(a, b)| a - b).sum());
                }
                square += (changes[at] - h * along[lane]).powi(2);
            }
            let remainder = f64::sqrt(square);
            if remainder.is_nan() || remainder > self.floor {
                remainders.push(remainder);
            }
            if remainders.len() == POINTS {
                return Some((remainders[POINTS - 1] / remainders[0]).log2() / (POINTS - 1) as f64);
            }
        }
        None
    }
}
