//! Backpropagation through time, derived by hand: the notebook's `rnn_forward` and `rnn_backward`
//! over whole minibatches. The numbers in the code are those of the equations here.
//!
//! # Forward
//!
//! For step t of one sequence, with column vectors (the code has them as rows, B sequences side by
//! side):
//!
//! ```text
//! (1)  pre_t = wax x_t + waa a_{t-1} + b    x_t one-hot: the product is a column of wax;
//!                                           at the first step x_t is zero
//! (2)  a_t   = tanh(pre_t)
//! (3)  z_t   = wya a_t + by
//! (4)  loss  = s sum over t of -ln softmax(z_t)[y_t]
//! ```
//!
//! `s` is the caller's `scale`: 1 gives the notebook's sum, 1 / B the mean over a minibatch. A step
//! with `y_t =` [`IGNORE_INDEX`](crate::data::IGNORE_INDEX) is padding and not in the sum.
//!
//! With dropout, (3), (6) and (7) have `m a_t` in place of `a_t`, where the mask `m` is the same at
//! every step, so that (7) is multiplied by it as well. With soft targets `q_t`, the loss is
//! `-s sum over t and k of q_tk ln softmax(z_t)_k`, and (5) has `q_t` in place of `onehot(y_t)`.
//!
//! # Backward
//!
//! Write `dq` for the gradient of the loss with respect to `q`. Softmax and logarithm cancel to
//!
//! ```text
//! (5)  dz_t   = s (softmax(z_t) - onehot(y_t)),  or 0 at a padded step
//! ```
//!
//! Through (3), which is linear:
//!
//! ```text
//! (6)  dwya   = sum over t of dz_t a_t^T         dby = sum over t of dz_t
//! (7)  from_output_t = wya^T dz_t
//! ```
//!
//! `a_t` is used twice: by the output at t and, through (1), by the state at t + 1. The gradients of
//! the two uses add, and `tanh' = 1 - tanh^2`:
//!
//! ```text
//! (8)  da_t   = from_output_t + waa^T dpre_{t+1}      no second term at the last step
//! (9)  dpre_t = (1 - a_t^2) da_t                      element by element
//! (10) da_0   = waa^T dpre_1
//! ```
//!
//! (8) and (9) run backwards in time and are the only sequential part. The parameters in (1) are the
//! same at every step, so their gradients are sums over time, and a sum of outer products is one
//! matrix product:
//!
//! ```text
//! (11) dwaa   = sum over t of dpre_t a_{t-1}^T        db = sum over t of dpre_t
//! (12) dwax   = sum over t of dpre_t x_t^T            x_t one-hot: dpre_t is added to column x_t
//! ```
//!
//! Padding needs no care in (8) to (12): it comes last, `dz` is 0 there, so `dpre` is 0 from the end
//! back to the last real step. On slices, step t has the rows of the names that are as long and no
//! others ([`Batch::step_sizes`]): R rows in place of T B.
//!
//! # Cost
//!
//! `R (6 n_a^2 + 6 n_a n_x)` operations. (1), (8) and (11) have a third of the first term each,
//! and of these (1) and (8) are sequential in time; (3), (6) and (7) have a third of the second.

use crate::data::Batch;
use crate::kernels::Element;
use crate::kernels::cross_entropy::cross_entropy;
use crate::kernels::product::Scratch;
use crate::kernels::projection::{
    output_weight_gradient, project_input, project_input_backward, project_output,
    project_output_backward, sum_rows,
};
use crate::kernels::recurrence::{
    recurrence_backward, recurrence_forward, recurrence_weight_gradient,
};
use crate::model::{CharRnn, CharRnnState, Config, Loss, one_hot};
use crate::ops::{self, primitive};
use candle_core::{D, Result, Tensor, WithDType};
use candle_nn::ops::log_softmax;

/// The gradients of the parameters, in their order and shapes.
pub(crate) type Gradients = [Tensor; 5];

/// The results of both passes.
pub(crate) struct StepResult {
    /// The loss in nats, summed over the steps and the names.
    pub loss: f64,
    /// Its gradients.
    pub gradients: Gradients,
    /// Its gradient by the first states, (B, n_a), where they need one.
    pub da0: Option<Tensor>,
    /// The state of each name after its own last step, (B, n_a), without a graph.
    pub last: CharRnnState,
}

/// Loss and gradients on slices, for one size of model. It owns the gradients and its working
/// memory, which grow to the largest minibatch and are then reused: a step allocates nothing.
pub(crate) struct Bptt<F> {
    n_a: usize,
    n_x: usize,
    /// Of `wax^T`, `waa`, `wya`, `b` and `by`, row by row, by the last backward pass.
    pub gradients: [Vec<F>; 5],
    /// The inputs and targets, (R), where these are not those of the whole batch.
    x: Vec<u32>,
    y: Vec<u32>,
    /// a_0, (B, n_a), then a_1, .. a_T, (R, n_a).
    states: Vec<F>,
    /// a_{t-1} of each row, (R, n_a), where these are not the first R states.
    earlier: Vec<F>,
    /// from_output, then dpre, (R, n_a).
    dpre: Vec<F>,
    /// (R, n_x).
    z: Vec<F>,
    /// (R, n_x).
    dz: Vec<F>,
    scratch: Scratch<F>,
    /// The dropout mask, (B, n_a), and the states times the mask, (R, n_a).
    mask: Vec<F>,
    masked: Vec<F>,
    /// The soft targets, (R, n_x).
    q: Vec<F>,
}

impl<F: Element> Bptt<F> {
    /// For models with `n_a` hidden units and `n_x` characters.
    ///
    /// # Panics
    /// Where a size is zero.
    pub fn new(n_a: usize, n_x: usize) -> Self {
        assert!(n_a > 0 && n_x > 0, "n_a and n_x must be positive");
        Self {
            n_a,
            n_x,
            gradients: [n_x * n_a, n_a * n_a, n_x * n_a, n_a, n_x].map(|size| vec![F::ZERO; size]),
            x: vec![],
            y: vec![],
            states: vec![],
            earlier: vec![],
            dpre: vec![],
            z: vec![],
            dz: vec![],
            scratch: Scratch::default(),
            mask: vec![],
            masked: vec![],
            q: vec![],
        }
    }

    /// The forward pass, (1) to (5). Returns the loss of `batch` in nats times `scale`, from the states
    /// `a0`, (B, n_a).
    ///
    /// The parameters are `wax^T`, (n_x, n_a), where a character is a row, `waa`, `wya`, `b` and `by`.
    ///
    /// # Panics
    /// Where a length does not fit, or an index is outside the vocabulary.
    pub fn forward(&mut self, parameters: [&[F]; 5], batch: &Batch, a0: &[F], scale: F) -> f64 {
        let (n_a, n_x) = (self.n_a, self.n_x);
        let (size, sizes) = (batch.size(), batch.step_sizes());
        let [wax_t, waa, wya, b, by] = parameters;
        assert_eq!(parameters.map(<[F]>::len), self.gradients.each_ref().map(Vec::len));
        assert_eq!(a0.len(), size * n_a, "a0 is not (B, n_a)");
        let (mut x, mut y) = (batch.x(), batch.y());
        if !is_full(batch) {
            pack(x, size, sizes, 1, |&x| x, &mut self.x);
            pack(y, size, sizes, 1, |&y| y, &mut self.y);
            (x, y) = (&self.x, &self.y);
        }
        let rows = x.len();
        self.states.resize((rows + size) * n_a, F::ZERO);
        self.dpre.resize(rows * n_a, F::ZERO);
        self.z.resize(rows * n_x, F::ZERO);
        self.dz.resize(rows * n_x, F::ZERO);
        // (1), (2). The states first hold the part outside the recurrence, wax x + b.
        let (first, states) = self.states.split_at_mut(size * n_a);
        first.copy_from_slice(a0);
        project_input(wax_t, b, x, states);
        recurrence_forward(waa, first, states, sizes, n_a, &mut self.scratch);
        // (3) to (5): the loss and dz need the same exponentials.
        let of = |x: &f64| F::from_f64(*x);
        pack(batch.dropout().unwrap_or_default(), size, &[size], n_a, of, &mut self.mask);
        pack(batch.soft_targets().unwrap_or_default(), size, sizes, n_x, of, &mut self.q);
        self.masked.clear();
        let outputs = if self.mask.is_empty() {
            &*states
        } else {
            self.masked.extend_from_slice(states);
            drop_out(&mut self.masked, &self.mask, sizes, n_a);
            &self.masked
        };
        project_output(outputs, wya, by, &mut self.z, n_a, &mut self.scratch);
        let q = Some(&self.q[..]).filter(|q| !q.is_empty());
        cross_entropy(&self.z, y, q, n_x, scale, &mut self.dz)
    }

    /// The backward pass, (6) to (9), (11) and (12). Parameters and `batch` are those of the last
    /// forward pass. Returns the gradients of `wax^T`, `waa`, `wya`, `b` and `by`.
    pub fn backward(&mut self, parameters: [&[F]; 5], batch: &Batch) -> &mut [Vec<F>; 5] {
        let (n_a, size, sizes) = (self.n_a, batch.size(), batch.step_sizes());
        let scratch = &mut self.scratch;
        let [_, waa, wya, ..] = parameters;
        let [dwax_t, dwaa, dwya, db, dby] = &mut self.gradients;
        let states = &self.states[size * n_a..];
        // (6), (7).
        let outputs = if self.masked.is_empty() { states } else { &self.masked };
        output_weight_gradient(&self.dz, outputs, dwya, dby, scratch);
        project_output_backward(&self.dz, wya, &mut self.dpre, n_a, scratch);
        if !self.mask.is_empty() {
            drop_out(&mut self.dpre, &self.mask, sizes, n_a);
        }
        // (8), (9).
        recurrence_backward(waa, states, &mut self.dpre, sizes, n_a, scratch);
        // (11), (12).
        let (mut x, mut earlier) = (batch.x(), &self.states[..self.dpre.len()]);
        if !is_full(batch) {
            let mut before = &self.states[..];
            self.earlier.clear();
            for (count, count_before) in sizes.iter().zip([&size].into_iter().chain(sizes)) {
                self.earlier.extend_from_slice(&before[..count * n_a]);
                before = &before[count_before * n_a..];
            }
            (x, earlier) = (&self.x, &self.earlier);
        }
        recurrence_weight_gradient(&self.dpre, earlier, dwaa, n_a, scratch);
        project_input_backward(x, &self.dpre, dwax_t, n_a);
        sum_rows(&self.dpre, db);
        &mut self.gradients
    }

    /// Writes the state of each sequence after its own last step to `last`, (B, n_a). `batch` is that
    /// of the last call.
    pub fn last_states(&self, batch: &Batch, last: &mut [F]) {
        let (size, sizes) = (batch.size(), batch.step_sizes());
        for (i, &row) in batch.last_rows().iter().enumerate() {
            let before = size + sizes[..row as usize / size].iter().sum::<usize>();
            let state = &self.states[(before + i) * self.n_a..][..self.n_a];
            last[i * self.n_a..][..self.n_a].copy_from_slice(state);
        }
    }
}

/// Whether each step has the rows of all names.
fn is_full(batch: &Batch) -> bool {
    batch.step_sizes().last() == Some(&batch.size())
}

/// The first rows of each step, of the `size` that `from` has, one after another.
fn pack<T, U>(
    from: &[T],
    size: usize,
    sizes: &[usize],
    columns: usize,
    convert: impl Fn(&T) -> U,
    to: &mut Vec<U>,
) {
    to.clear();
    for (step, count) in from.chunks_exact(size * columns).zip(sizes) {
        to.extend(step[..count * columns].iter().map(&convert));
    }
}

/// Multiplies the rows of each step by those of the dropout mask.
fn drop_out<F: Element>(mut rows: &mut [F], mask: &[F], sizes: &[usize], n: usize) {
    for size in sizes {
        let (step, rest) = rows.split_at_mut(size * n);
        step.iter_mut().zip(mask).for_each(|(x, &m)| *x = *x * m);
        rows = rest;
    }
}

/// Both passes by [`Bptt`] for a model on the CPU, as tensors: what the gradient check compares.
pub(crate) fn on_slices(
    model: &CharRnn,
    batch: &Batch,
    start: &CharRnnState,
) -> Result<StepResult> {
    fn flat<F: WithDType>(tensor: &Tensor) -> Result<Vec<F>> {
        tensor.flatten_all()?.to_vec1()
    }
    model.check_start(batch, start)?;
    batch.check_indices(model.config().vocabulary)?;
    let Config { vocabulary, hidden } = model.config();
    let [wax, waa, wya, b, by] = model.parameters().map(|(_, tensor)| tensor);
    let (device, states) = (model.device(), start.a().shape());
    ops::with_float!(model.dtype(), "hand", F => {
        let parameters: [Vec<F>; 5] =
            [flat(&wax.t()?)?, flat(waa)?, flat(wya)?, flat(b)?, flat(by)?];
        let parameters = parameters.each_ref().map(Vec::as_slice);
        let (mut bptt, a0) = (Bptt::<F>::new(hidden, vocabulary), flat(start.a())?);
        let loss = bptt.forward(parameters, batch, &a0, <F as Element>::ONE);
        let mut last = a0;
        bptt.last_states(batch, &mut last);
        let last = CharRnnState::new(Tensor::from_vec(last, states, device)?);
        let [dwax_t, others @ ..] = bptt.backward(parameters, batch).clone();
        let dwax = Tensor::from_vec(dwax_t, (vocabulary, hidden), device)?.t()?.contiguous()?;
        let [dwaa, dwya, db, dby] = others;
        let tensor = |values: Vec<F>, like: &Tensor| Tensor::from_vec(values, like.shape(), device);
        // (10).
        bptt.dpre.truncate(states.elem_count());
        let dpre_1 = Tensor::from_vec(bptt.dpre, states, device)?;
        let da0 = start.a().track_op().then(|| dpre_1.matmul(&waa.detach())).transpose()?;
        let gradients =
            [dwax, tensor(dwaa, waa)?, tensor(dwya, wya)?, tensor(db, b)?, tensor(dby, by)?];
        Ok(StepResult { loss, gradients, da0, last })
    })
}

/// What the forward pass in tensor operations keeps for the backward pass.
pub(crate) struct Kept {
    x: Tensor,
    /// All a_{t-1}, and all a_t, (T * B, n_a).
    earlier: Tensor,
    a: Tensor,
    /// (T * B, n_a).
    outputs: Tensor,
    /// (T * B, n_y).
    dz: Tensor,
}

/// The forward pass, (1) to (5), in tensor operations without a graph: for any device. Returns the sum
/// of the losses, and what the gradients of `scale` times this sum need.
pub(crate) fn forward(
    model: &CharRnn,
    batch: &Batch,
    start: &CharRnnState,
    scale: f64,
) -> Result<(Loss, Kept)> {
    model.check_start(batch, start)?;
    batch.check_indices(model.config().vocabulary)?;
    let [wax, waa, wya, b, by] = model.parameters().map(|(_, tensor)| tensor.detach());
    let device = model.device();
    let [x, _] = batch.x_and_y_on(device)?;
    let (steps, size) = (batch.steps(), batch.size());

    // (1), (2).
    let (px, waa_t) = (primitive::project_input(&x, &wax, &b)?, waa.t()?);
    let mut states = vec![start.a().detach()];
    for t in 0..steps {
        let px = px.narrow(0, t * size, size)?;
        states.push((px + states[t].matmul(&waa_t)?)?.tanh()?);
    }
    let (earlier, a) = (Tensor::cat(&states[..steps], 0)?, Tensor::cat(&states[1..], 0)?);
    // (3), (4).
    let outputs = batch.drop_out(&a)?;
    let z = primitive::project_output(&outputs, &wya, &by)?;
    let q = match batch.soft_targets_like(&z)? {
        Some(q) => q,
        None => one_hot(batch.y(), model.config().vocabulary, z.dtype(), device)?,
    };
    let log_probabilities = log_softmax(&z, D::Minus1)?;
    let loss = (&log_probabilities * &q)?.sum_all()?.neg()?;
    // (5). A row of q sums to 1, or where padded to 0.
    let softmax = log_probabilities.exp()?.broadcast_mul(&q.sum_keepdim(D::Minus1)?)?;
    let dz = ((softmax - q)? * scale)?;
    let last = CharRnnState::new(a.index_select(&batch.last_rows_on(device)?, 0)?);
    Ok((Loss { loss, last }, Kept { x, earlier, a, outputs, dz }))
}

/// The backward pass, (6) to (12), in tensor operations.
pub(crate) fn backward(
    kept: Kept,
    model: &CharRnn,
    batch: &Batch,
    start: &CharRnnState,
) -> Result<(Gradients, Option<Tensor>)> {
    let Kept { x, earlier, a, outputs, dz } = kept;
    let [wax, waa, wya, ..] = model.parameters().map(|(_, tensor)| tensor.detach());
    let size = batch.size();
    let at = |rows: &Tensor, t: usize| rows.narrow(0, t * size, size);
    // (6), (7).
    let (dwya, dby) = (dz.t()?.matmul(&outputs)?, dz.sum(0)?);
    let from_output = batch.drop_out(&dz.matmul(&wya)?)?;
    // (8), (9).
    let slope = a.sqr()?.affine(-1., 1.)?;
    let mut dpre: Vec<Tensor> = Vec::with_capacity(batch.steps());
    for t in (0..batch.steps()).rev() {
        let da = match dpre.last() {
            Some(dpre_next) => (at(&from_output, t)? + dpre_next.matmul(&waa)?)?,
            None => at(&from_output, t)?,
        };
        dpre.push((da * at(&slope, t)?)?);
    }
    dpre.reverse();
    // (10).
    let da0 = start.a().track_op().then(|| dpre[0].matmul(&waa)).transpose()?;
    // (11), (12).
    let dpre = Tensor::cat(&dpre, 0)?;
    let (dwaa, db) = (dpre.t()?.matmul(&earlier)?, dpre.sum(0)?);
    let dwax = wax.t()?.contiguous()?.zeros_like()?.index_add(&x, &dpre, 0)?.t()?.contiguous()?;
    Ok(([dwax, dwaa, dwya, db, dby], da0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{IGNORE_INDEX, START};
    use crate::kernels::simd::tests::{assert_close, noise, on_every_path, tolerance};
    use crate::kernels::threads::tests::in_parts;
    use crate::kernels::transpose::transpose;
    use crate::model::Config;
    use crate::reference;
    use candle_core::{DType, Device, Var};
    use candle_nn::VarBuilder;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// A model, sequences of different lengths side by side, and their first states.
    struct Problem<F> {
        n_a: usize,
        n_x: usize,
        /// The first is `wax^T`.
        parameters: [Vec<F>; 5],
        batch: Batch,
        a0: Vec<F>,
    }

    impl<F: Element> Problem<F> {
        /// From one sequence of so many steps to one of half as many, the longest first.
        fn new(n_a: usize, n_x: usize, steps: usize, size: usize) -> Self {
            let scale = F::from_f64(1.0 / (n_a as f64).sqrt());
            let mut seed = 0;
            let parameters = [n_x * n_a, n_a * n_a, n_x * n_a, n_a, n_x].map(|length| {
                seed += 1;
                noise::<F>(length, seed).iter().map(|&w| w * scale).collect()
            });
            let names: Vec<Vec<u32>> = (0..size)
                .map(|i| {
                    let length = steps - 1 - i * steps / size / 2;
                    (0..length).map(|t| ((t * 7919 + i * 31 + 1) % n_x) as u32).collect()
                })
                .collect();
            let batch = Batch::new(names.iter().map(Vec::as_slice));
            Self { n_a, n_x, parameters, batch, a0: noise(size * n_a, 99) }
        }

        fn slices(&self) -> [&[F]; 5] {
            self.parameters.each_ref().map(Vec::as_slice)
        }

        fn run(&self, bptt: &mut Bptt<F>, scale: f64) -> f64 {
            let loss = bptt.forward(self.slices(), &self.batch, &self.a0, F::from_f64(scale));
            bptt.backward(self.slices(), &self.batch);
            loss
        }

        /// `wax^T` or its gradient as `wax` would have it, or the other way round.
        fn transposed<T: Element>(&self, x: &[T], rows: usize) -> Vec<T> {
            let mut y = vec![T::ZERO; x.len()];
            transpose(x, rows, x.len() / rows, &mut y);
            y
        }

        /// Loss, gradients and last states by the reference, in f64.
        fn by_reference(&self) -> (f64, [Vec<f64>; 5], Vec<f64>) {
            let f = |x: &[F]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
            let mut wide = self.slices().map(f);
            wide[0] = self.transposed(&wide[0], self.n_x);
            let flat = wide.each_ref().map(Vec::as_slice);
            let parameters = reference::Parameters::from_flat(self.n_a, self.n_x, flat);
            let mut sums = wide.clone().map(|w| vec![0.0; w.len()]);
            let (mut total, mut last) = (0.0, vec![]);
            for i in 0..self.batch.size() {
                let column = |rows: &[u32]| {
                    rows.iter().copied().skip(i).step_by(self.batch.size()).collect::<Vec<u32>>()
                };
                let y: Vec<usize> = column(self.batch.y())
                    .into_iter()
                    .filter(|&y| y != IGNORE_INDEX)
                    .map(|y| y as usize)
                    .collect();
                let x: Vec<Option<usize>> = column(self.batch.x())[..y.len()]
                    .iter()
                    .map(|&x| (x != START).then_some(x as usize))
                    .collect();
                let a0 = f(&self.a0[i * self.n_a..][..self.n_a]);
                let (loss, cache) = reference::rnn_forward(&x, &y, &a0, &parameters);
                let (gradients, _) = reference::rnn_backward(&x, &y, &parameters, &cache);
                total += loss;
                for (sum, gradient) in sums.iter_mut().zip(gradients.flat()) {
                    sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
                }
                last.extend(cache.a.last().unwrap());
            }
            sums[0] = self.transposed(&sums[0], self.n_a);
            (total, sums, last)
        }
    }

    fn check<F: Element>(n_a: usize, n_x: usize, steps: usize, size: usize, bptt: &mut Bptt<F>) {
        let problem = Problem::<F>::new(n_a, n_x, steps, size);
        let scale = 0.5;
        let loss = problem.run(bptt, scale);
        let (total, gradients, last) = problem.by_reference();
        let bound = 5.0 * tolerance::<F>();
        assert!((loss - total * scale).abs() <= bound * (1.0 + total), "{loss}, not {total} / 2");
        let g = |x: &[f64], s: f64| x.iter().map(|x| F::from_f64(x * s)).collect::<Vec<F>>();
        let found = &bptt.gradients;
        for (i, name) in crate::model::PARAMETERS.iter().enumerate() {
            assert_close(name, &found[i], &g(&gradients[i], scale), bound);
        }
        let mut states = vec![F::ZERO; size * n_a];
        bptt.last_states(&problem.batch, &mut states);
        assert_close("last states", &states, &g(&last, 1.0), bound);
    }

    #[test]
    fn loss_gradients_and_states_match_the_reference() {
        #[rustfmt::skip]
        let shapes = [
            (9, 5, 3, 2), (1, 2, 1, 1), (7, 27, 5, 1), (50, 27, 13, 1), (50, 27, 6, 5),
            (50, 1000, 3, 2), (257, 27, 2, 3), (8, 8, 4, 16), (3, 5, 9, 2), (64, 30, 7, 33),
            (67, 5, 3, 1), (128, 9, 3, 1), (144, 27, 2, 1), (46, 3, 2, 1), (50, 27, 5, 32),
            (1, 7, 7, 4), (17, 30, 4, 17),
        ];
        let count = if cfg!(miri) { 1 } else { shapes.len() };
        for &(n, v, steps, size) in &shapes[..count] {
            let of_f32 = || check::<f32>(n, v, steps, size, &mut Bptt::new(n, v));
            let of_f64 = || check::<f64>(n, v, steps, size, &mut Bptt::new(n, v));
            on_every_path(|| in_parts(of_f32));
            on_every_path(|| in_parts(of_f64));
        }
    }

    #[test]
    fn results_do_not_depend_on_earlier_minibatches() {
        let mut bptt = Bptt::new(50, 27);
        for (steps, size) in [(13, 4), (1, 1), (20, 1), (2, 9), (13, 4)] {
            check::<f64>(50, 27, steps, size, &mut bptt);
        }
    }

    #[test]
    fn a_nan_in_a_parameter_reaches_the_loss_and_the_gradients() {
        let mut problem = Problem::<f32>::new(50, 27, 4, 1);
        problem.parameters[1][1234] = f32::NAN;
        let mut bptt = Bptt::new(50, 27);
        assert!(problem.run(&mut bptt, 1.0).is_nan());
        assert!(bptt.gradients[4].iter().all(|g| g.is_nan()));
    }

    #[test]
    #[should_panic(expected = "x holds the index 27, but the vocabulary has 27 characters")]
    fn an_index_outside_the_vocabulary_panics() {
        let problem = Problem::<f32>::new(4, 27, 3, 1);
        let batch = Batch::sequence(&[27], &[0]);
        Bptt::new(4, 27).forward(problem.slices(), &batch, &[0.0; 4], 1.0);
    }

    #[test]
    fn gradients_with_dropout_and_soft_targets_are_central_differences() {
        let problem = Problem::<f64>::new(5, 4, 6, 3);
        let mut batch = problem.batch.clone();
        // Rows that sum to 1, or where padded to 0.
        let q = batch.y().iter().enumerate().flat_map(|(row, &y)| {
            let weights = [1., 2., 3., 4. + row as f64];
            let sum: f64 = weights.iter().sum();
            weights.map(|w| if y == IGNORE_INDEX { 0. } else { w / sum })
        });
        batch.set_soft_targets(q.collect());
        batch.set_dropout((0..15).map(|i| f64::from(i % 3) * 0.75).collect());
        let loss =
            |parameters: [&[f64]; 5]| Bptt::new(5, 4).forward(parameters, &batch, &problem.a0, 0.5);
        let mut bptt = Bptt::new(5, 4);
        bptt.forward(problem.slices(), &batch, &problem.a0, 0.5);
        let mut without = Bptt::new(5, 4);
        problem.run(&mut without, 0.5);
        for (which, gradient) in bptt.backward(problem.slices(), &batch).iter().enumerate() {
            for (i, found) in gradient.iter().enumerate() {
                let at = |h: f64| {
                    let mut parameters = problem.parameters.clone();
                    parameters[which][i] += h;
                    loss(parameters.each_ref().map(Vec::as_slice))
                };
                let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((found - expected).abs() < 1e-8, "{which} {i}: {found} {expected}");
            }
            assert_ne!(gradient, &without.gradients[which]);
        }
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.dims(), b.dims());
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    proptest! {
        #[test]
        fn tensors_and_slices_give_the_same(
            names in prop::collection::vec(prop::collection::vec(0u32..6, 0..7), 1..5),
            n_a in 1usize..9,
            scale in 0.1f64..2.,
            extras: bool,
        ) {
            let problem = Problem::<f64>::new(n_a, 6, 1, names.len());
            let config = Config { vocabulary: 6, hidden: n_a };
            let tensors: HashMap<String, Tensor> = crate::model::PARAMETERS
                .iter()
                .zip(problem.slices())
                .map(|(name, values)| {
                    // The same numbers in any order will do for wax.
                    let tensor = Tensor::from_slice(values, config.shape(name), &Device::Cpu);
                    (name.to_string(), tensor.unwrap())
                })
                .collect();
            let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
            let model = crate::model::char_rnn(config, vb).unwrap();
            let a0 = Tensor::from_slice(&problem.a0, (names.len(), n_a), &Device::Cpu).unwrap();
            let start = CharRnnState::new(Var::from_tensor(&a0).unwrap().into_inner());
            let mut batch = Batch::new(names.iter().map(Vec::as_slice));
            if extras {
                batch.set_dropout((0..names.len() * n_a).map(|i| (i % 3) as f64).collect());
                let q = batch.y().iter().flat_map(|&y| {
                    let [a, b] = if y == IGNORE_INDEX { [0., 0.] } else { [0.1, 0.5] };
                    [a, a, b, a, a, a]
                });
                batch.set_soft_targets(q.collect());
            }

            let slices = on_slices(&model, &batch, &start).unwrap();
            let (Loss { loss, last }, kept) = forward(&model, &batch, &start, scale).unwrap();
            let (gradients, da0) = backward(kept, &model, &batch, &start).unwrap();
            prop_assert!((slices.loss - loss.to_scalar::<f64>().unwrap()).abs() < 1e-11);
            prop_assert!(difference(slices.last.a(), last.a()) < 1e-12);
            let scaled = |slices: &Tensor| (slices * scale).unwrap();
            prop_assert!(difference(&scaled(&slices.da0.unwrap()), &da0.unwrap()) < 1e-11);
            for (a, b) in slices.gradients.iter().zip(&gradients) {
                prop_assert!(difference(&scaled(a), b) < 1e-11);
            }
        }
    }
}
