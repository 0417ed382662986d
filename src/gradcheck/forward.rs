//! The reference on a problem, in any of its numbers.

use super::problem::{Problem, Sequence, TENSORS};
use crate::reference::{Matrix, Number, Parameters, rnn_backward, rnn_forward};
use std::slice::from_mut;

/// The arguments of [`rnn_forward`] for each sequence.
pub(super) struct Forward<'a, N> {
    parameters: Parameters<N>,
    a0: Matrix<N>,
    sequences: &'a [Sequence],
}

impl<'a, N: Number> Forward<'a, N> {
    pub fn new(problem: &'a Problem) -> Self {
        let number = |values: &Vec<f64>| values.iter().copied().map(N::from_f64).collect();
        let flat = problem.parameters.flat().each_ref().map(number);
        let sizes = problem.sizes();
        let flat = flat.each_ref().map(Vec::as_slice);
        Self {
            parameters: Parameters::from_flat(sizes.hidden, sizes.vocabulary, flat),
            a0: problem.a0.iter().map(number).collect(),
            sequences: &problem.sequences,
        }
    }

    /// The entry with the flat index `at` of the gradient's tensor `index` of [`TENSORS`].
    pub fn entry(&mut self, index: usize, at: usize) -> &mut N {
        let Parameters { wax, waa, wya, b, by } = &mut self.parameters;
        let rows: &mut [Vec<N>] = match TENSORS[index] {
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

    /// The loss of each character in nats, sequence by sequence, and the last states, (B, n_a).
    pub fn losses(&self) -> [Vec<N>; 2] {
        let (mut losses, mut last) = (vec![], vec![]);
        for (Sequence { x, y }, a0) in self.sequences.iter().zip(&self.a0) {
            let (_, cache) = rnn_forward(x, y, a0, &self.parameters);
            losses.extend(cache.y_hat.iter().zip(y).map(|(y_hat, &y)| -y_hat[y].ln()));
            last.extend(cache.a.last().expect("a_prev at least"));
        }
        [losses, last]
    }

    /// The values of [`TENSORS`], the loss character by character.
    pub fn backward(&self) -> [Vec<N>; 8] {
        let Parameters { b, by, .. } = &self.parameters;
        let mut sums = Parameters::zeros(b.len(), by.len()).flat();
        let mut da0 = vec![];
        for (Sequence { x, y }, a0) in self.sequences.iter().zip(&self.a0) {
            let (_, cache) = rnn_forward(x, y, a0, &self.parameters);
            let (gradients, da) = rnn_backward(x, y, &self.parameters, &cache);
            for (sum, gradient) in sums.iter_mut().flatten().zip(gradients.flat().concat()) {
                *sum += gradient;
            }
            da0.extend(da);
        }
        let ([wax, waa, wya, b, by], [losses, last]) = (sums, self.losses());
        [wax, waa, wya, b, by, da0, losses, last]
    }
}
