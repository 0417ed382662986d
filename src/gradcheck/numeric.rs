//! Central differences of the loss.

use super::problem::{Entries, Gradients, Problem, Sizes, TENSORS};
use crate::data::{Batch, IGNORE_INDEX, START};
use crate::reference::{Matrix, Parameters, rnn_forward};
use std::slice::from_mut;

/// The name of central differences in a report.
pub const DIFFERENCES: &str = "differences";

/// The step h: near the minimum of the error in f64, where the O(h^2) of the formula and the
/// rounding of the loss, O(eps / h), are equal.
pub const STEP: f64 = 1e-5;

/// The most entries of a tensor whose differences are taken by default.
const MAX_DEFAULT_ENTRIES: usize = 500;

/// The multiplications that central differences may take by default: seconds.
const MAX_DEFAULT_WORK: usize = 4_000_000_000;

/// The default number of entries of a tensor: 500, fewer if `passes` times their differences would
/// take long, at least 10.
pub(super) fn default_entries(sizes: Sizes, passes: usize) -> usize {
    let each = 2 * TENSORS.len() * passes * sizes.forward_work();
    (MAX_DEFAULT_WORK / each.max(1)).clamp(10, MAX_DEFAULT_ENTRIES)
}

/// Central differences of the loss with the step `step`, at `entries` of each tensor, in f64.
pub fn central_differences(problem: &Problem, step: f64, entries: Entries) -> Gradients {
    let mut forward = Forward::new(problem);
    let mut values: [Vec<f64>; 6] = Default::default();
    for (index, (values, at)) in values.iter_mut().zip(&entries.0).enumerate() {
        values.extend(at.iter().map(|&at| {
            let middle = *forward.entry(index, at);
            let (high, low) = (middle + step, middle - step);
            *forward.entry(index, at) = high;
            let above = forward.losses();
            *forward.entry(index, at) = low;
            let below = forward.losses();
            *forward.entry(index, at) = middle;
            // Subtracted character by character: the sums are larger, and so is their rounding.
            let change: f64 = above.iter().zip(&below).map(|(a, b)| a - b).sum();
            change / (high - low) // not 2 h: the sums are rounded
        }));
    }
    Gradients { method: DIFFERENCES.to_string(), values, entries: Some(entries) }
}

/// The arguments of [`rnn_forward`] for each name.
struct Forward {
    parameters: Parameters<f64>,
    names: Vec<(Vec<Option<usize>>, Vec<usize>)>,
    a0: Matrix<f64>,
}

impl Forward {
    fn new(problem: &Problem) -> Self {
        let batch = problem.batch();
        let names = (0..batch.size()).map(|i| name(batch, i)).collect();
        Self { parameters: problem.parameters().clone(), names, a0: problem.a0().clone() }
    }

    /// The entry with the flat index `at` of the tensor `index` of [`TENSORS`].
    fn entry(&mut self, index: usize, at: usize) -> &mut f64 {
        let Parameters { wax, waa, wya, b, by } = &mut self.parameters;
        let rows: &mut [Vec<f64>] = match TENSORS[index] {
            "wax" => wax,
            "waa" => waa,
            "wya" => wya,
            "b" => from_mut(b),
            "by" => from_mut(by),
            _ => &mut self.a0,
        };
        let columns = rows[0].len();
        &mut rows[at / columns][at % columns]
    }

    /// The loss of each character in nats, name by name.
    fn losses(&self) -> Vec<f64> {
        let mut losses = vec![];
        for ((x, y), a0) in self.names.iter().zip(&self.a0) {
            let (_, cache) = rnn_forward(x, y, a0, &self.parameters);
            losses.extend(cache.y_hat.iter().zip(y).map(|(y_hat, &y)| -y_hat[y].ln()));
        }
        losses
    }
}

/// X and Y of the name `i`, without padding.
fn name(batch: &Batch, i: usize) -> (Vec<Option<usize>>, Vec<usize>) {
    let rows = (i..batch.x().len()).step_by(batch.size());
    let rows = rows.map(|row| (batch.x()[row], batch.y()[row]));
    rows.take_while(|&(_, y)| y != IGNORE_INDEX)
        .map(|(x, y)| ((x != START).then_some(x as usize), y as usize))
        .unzip()
}
