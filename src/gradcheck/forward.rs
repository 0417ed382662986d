//! The reference on a problem, in any of its numbers.

use super::problem::{Problem, Sequence, TENSORS};
use crate::reference::{Matrix, Number, Parameters, rnn_forward, rnn_step_backward};
use std::slice::from_mut;

/// The arguments of [`rnn_forward`] for each sequence.
pub(super) struct Forward<'a, N> {
    pub parameters: Parameters<N>,
    pub a0: Matrix<N>,
    sequences: &'a [Sequence],
}

/// The reference's results on a problem.
pub(super) struct Results<N> {
    /// The loss of each character in nats, sequence by sequence.
    pub losses: Vec<N>,
    /// The last states, (B, n_a).
    pub last: Vec<N>,
    /// The gradients of [`TENSORS`].
    pub gradients: [Vec<N>; 6],
}

impl<'a, N: Number> Forward<'a, N> {
    pub fn new(problem: &'a Problem) -> Self {
        let number = |values: &[f64]| values.iter().copied().map(N::from_f64).collect::<Vec<N>>();
        let flat = problem.parameters().flat().map(|values| number(&values));
        let sizes = problem.sizes();
        let flat = flat.each_ref().map(Vec::as_slice);
        Self {
            parameters: Parameters::from_flat(sizes.hidden, sizes.vocabulary, flat),
            a0: problem.a0().iter().map(|row| number(row)).collect(),
            sequences: problem.sequences(),
        }
    }

    /// The entry with the flat index `at` of the tensor `index` of [`TENSORS`].
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
    pub fn losses(&self) -> (Vec<N>, Vec<N>) {
        let (mut losses, mut last) = (vec![], vec![]);
        for (Sequence { x, y }, a0) in self.sequences.iter().zip(&self.a0) {
            let (_, cache) = rnn_forward(x, y, a0, &self.parameters);
            losses.extend(cache.y_hat.iter().zip(y).map(|(y_hat, &y)| -y_hat[y].ln()));
            last.extend(cache.a.last().expect("a_prev at least"));
        }
        (losses, last)
    }

    /// Forward and backward. The gradients are summed step by step into one sum for all sequences.
    pub fn backward(&self) -> Results<N> {
        let p = &self.parameters;
        let mut sums = Parameters::zeros(p.b.len(), p.by.len());
        let mut da0 = vec![];
        for (Sequence { x, y }, a0) in self.sequences.iter().zip(&self.a0) {
            let (_, cache) = rnn_forward(x, y, a0, p);
            let mut da = vec![N::from_f64(0.); p.b.len()];
            for t in (0..x.len()).rev() {
                let mut dy = cache.y_hat[t].clone();
                dy[y[t]] -= N::from_f64(1.);
                let (a, a_prev) = (&cache.a[t + 1], &cache.a[t]);
                rnn_step_backward(&dy, &mut sums, &mut da, p, x[t], a, a_prev);
            }
            da0.extend(da);
        }
        let (losses, last) = self.losses();
        let [wax, waa, wya, b, by] = sums.flat();
        Results { losses, last, gradients: [wax, waa, wya, b, by, da0] }
    }
}
