//! Backpropagation through time, derived and written by hand over whole sequences: the seed's
//! `rnn_forward` and `rnn_backward`.
//!
//! No graph and no tensors: a [`Bptt`] owns its gradients and its working memory, which grow to the
//! largest sequence seen and are then reused. After that an iteration allocates nothing.
//!
//! # Forward
//!
//! For step t of one sequence (column vectors; the code has them as rows, `B` sequences side by
//! side):
//!
//! ```text
//! (1)  pre_t = wax x_t + waa a_{t-1} + b         x_t one-hot: the product is a column of wax; the zero vector at the first step
//! (2)  a_t   = tanh(pre_t)
//! (3)  z_t   = wya a_t + by
//! (4)  loss  = s sum over t of -ln softmax(z_t)[y_t]
//! ```
//!
//! `s` is the caller's `scale`: 1 gives the seed's sum, `1 / names` the mean over a batch. A step
//! with `y_t =` [`NONE`] is padding and not in the sum.
//!
//! # Backward
//!
//! Write `dq` for the gradient of the loss by `q`. Softmax and logarithm cancel to
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
//! `a_t` is used twice: by the output at t and, through (1), by the state at t + 1. Gradients of
//! uses add, and `tanh' = 1 - tanh^2`:
//!
//! ```text
//! (8)  da_t   = from_output_t + waa^T dpre_{t+1}      the second term is absent at the last step
//! (9)  dpre_t = (1 - a_t^2) da_t                      element by element
//! (10) da_0   = waa^T dpre_1
//! ```
//!
//! (8) and (9) run backwards in time: this is the only part that is sequential. The parameters in (1) are the same at every step, so their gradients are sums
//! over time, and a sum of outer products is one matrix product:
//!
//! ```text
//! (11) dwaa   = sum over t of dpre_t a_{t-1}^T        db = sum over t of dpre_t
//! (12) dwax   = sum over t of dpre_t x_t^T            x_t one-hot: dpre_t is added to column x_t
//! ```
//!
//! A padded step needs no care in (8) to (12): padding comes last, `dz` is 0 there, so `dpre` is 0
//! from the end back to the last real step.
//!
//! # Cost
//!
//! `T B (6 n_a^2 + 6 n_a v)` operations, a third of them in (1), which is sequential in time, a
//! third in (8), likewise, and a third in (11).

use crate::kernels::cross_entropy::cross_entropy;
use crate::kernels::matmul::Packed;
use crate::kernels::projection::{
    project_input, project_input_backward, project_output, project_output_backward,
};
use crate::kernels::recurrence::{
    pack_for_backward, pack_for_forward, recurrence_backward, recurrence_forward,
    recurrence_weight_gradient,
};
use crate::kernels::transpose::transpose;
use crate::kernels::update::{add_in_place, clip_in_place, clipped_descent};
use crate::kernels::{Element, NONE};

/// The five tensors of the model, row-major, or their gradients, which have the same shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<F> {
    /// Hidden units.
    pub n_a: usize,
    /// Size of the vocabulary: characters in and characters out (`n_x = n_y`).
    pub n_x: usize,
    /// Input to hidden, (n_a, n_x).
    pub wax: Vec<F>,
    /// Hidden to hidden, (n_a, n_a).
    pub waa: Vec<F>,
    /// Hidden to output, (n_x, n_a).
    pub wya: Vec<F>,
    /// Hidden bias, (n_a).
    pub b: Vec<F>,
    /// Output bias, (n_x).
    pub by: Vec<F>,
}

impl<F: Element> Parameters<F> {
    /// All zero.
    ///
    /// # Panics
    ///
    /// When a size is zero.
    pub fn zeros(n_a: usize, n_x: usize) -> Self {
        assert!(n_a > 0 && n_x > 0, "n_a and n_x must be positive");
        Self {
            n_a,
            n_x,
            wax: vec![F::ZERO; n_a * n_x],
            waa: vec![F::ZERO; n_a * n_a],
            wya: vec![F::ZERO; n_x * n_a],
            b: vec![F::ZERO; n_a],
            by: vec![F::ZERO; n_x],
        }
    }

    /// The tensors by the seed's names: wax, waa, wya, b, by.
    pub fn tensors(&self) -> [(&'static str, &[F]); 5] {
        [
            ("wax", &self.wax),
            ("waa", &self.waa),
            ("wya", &self.wya),
            ("b", &self.b),
            ("by", &self.by),
        ]
    }

    /// The same, to change.
    pub fn tensors_mut(&mut self) -> [(&'static str, &mut [F]); 5] {
        [
            ("wax", &mut self.wax),
            ("waa", &mut self.waa),
            ("wya", &mut self.wya),
            ("b", &mut self.b),
            ("by", &mut self.by),
        ]
    }

    /// Adds `others`, element by element.
    ///
    /// # Panics
    ///
    /// When the shapes differ.
    pub fn add(&mut self, others: &Self) {
        for ((_, own), (_, other)) in self.tensors_mut().into_iter().zip(others.tensors()) {
            add_in_place(own, other);
        }
    }

    /// The seed's `clip`: every element into `-clip ..= clip`.
    pub fn clip(&mut self, clip: F) {
        for (_, g) in self.tensors_mut() {
            clip_in_place(g, clip);
        }
    }

    /// The seed's `update_parameters` after its `clip`: `w -= rate * clamp(g, -clip, clip)`. The
    /// gradients stay as they are.
    ///
    /// # Panics
    ///
    /// When the shapes differ, or `clip` is negative or NaN.
    pub fn descend(&mut self, gradients: &Self, rate: F, clip: F) {
        for ((_, w), (_, g)) in self.tensors_mut().into_iter().zip(gradients.tensors()) {
            clipped_descent(w, g, rate, clip);
        }
    }

    /// Panics unless every tensor has the length that `n_a` and `n_x` ask for.
    fn check(&self) {
        let (n, v) = (self.n_a, self.n_x);
        for ((name, tensor), length) in self.tensors().into_iter().zip([n * v, n * n, v * n, n, v])
        {
            assert_eq!(tensor.len(), length, "{name} has a wrong length");
        }
    }
}

/// The engine: gradients and working memory for one size of model.
///
/// ```
/// use char_rnn::bptt::{Bptt, Parameters};
/// use char_rnn::kernels::NONE;
///
/// let mut parameters = Parameters::<f64>::zeros(5, 3);
/// let mut bptt = Bptt::new(5, 3);
/// // The name "2 2", then the end, 0. Before the first character there is none.
/// let (x, y) = ([NONE, 2, 2], [2, 2, 0]);
/// let loss = bptt.loss_and_gradients(&parameters, &x, &y, 3, 1, &[0.0; 5], 1.0);
/// assert!((loss - 3.0 * 3f64.ln()).abs() < 1e-12); // knowing nothing: ln(vocabulary) a character
/// parameters.descend(bptt.gradients(), 0.01, 5.0);
/// let better = bptt.loss_and_gradients(&parameters, &x, &y, 3, 1, &[0.0; 5], 1.0);
/// assert!(better < loss);
/// ```
#[derive(Clone, Debug)]
pub struct Bptt<F> {
    gradients: Parameters<F>,
    da0: Vec<F>,
    steps: usize,
    batch: usize,
    /// a_0, a_1, .. a_T, (T + 1, B, n_a): so that (11) finds all a_{t-1} in one block.
    states: Vec<F>,
    /// from_output, then dpre, (T, B, n_a).
    dpre: Vec<F>,
    /// (T, B, n_x).
    z: Vec<F>,
    /// (T, B, n_x).
    dz: Vec<F>,
    /// wax^T and then its gradient, (n_x, n_a).
    wax_t: Vec<F>,
    packed: Packed<F>,
}

impl<F: Element> Bptt<F> {
    /// For models with `n_a` hidden units and `vocabulary` characters.
    ///
    /// # Panics
    ///
    /// When a size is zero.
    pub fn new(n_a: usize, vocabulary: usize) -> Self {
        Self {
            gradients: Parameters::zeros(n_a, vocabulary),
            da0: Vec::new(),
            steps: 0,
            batch: 0,
            states: Vec::new(),
            dpre: Vec::new(),
            z: Vec::new(),
            dz: Vec::new(),
            wax_t: vec![F::ZERO; n_a * vocabulary],
            packed: Packed::new(),
        }
    }

    /// Runs `batch` sequences of `steps` steps forward and backward. Returns the loss in nats times
    /// `scale`; gradients and states are then at hand below.
    ///
    /// `x` and `y` are (T, B), time-major; `a0` is (B, n_a). [`NONE`] in `x` is the zero vector, in
    /// `y` a padded step.
    ///
    /// # Panics
    ///
    /// When a length does not fit, or an index is not below the vocabulary.
    #[allow(clippy::too_many_arguments)]
    pub fn loss_and_gradients(
        &mut self,
        parameters: &Parameters<F>,
        x: &[u32],
        y: &[u32],
        steps: usize,
        batch: usize,
        a0: &[F],
        scale: F,
    ) -> f64 {
        let Parameters { n_a, n_x, wax, waa, wya, b, by } = parameters;
        let (n, v) = (*n_a, *n_x);
        parameters.check();
        assert_eq!(
            (n, v),
            (self.gradients.n_a, self.gradients.n_x),
            "the engine is for another size"
        );
        assert!(batch > 0, "an empty batch");
        assert_eq!(x.len(), steps * batch, "x is not (T, B)");
        assert_eq!(y.len(), steps * batch, "y is not (T, B)");
        assert_eq!(a0.len(), batch * n, "a0 is not (B, n_a)");
        self.resize(steps, batch);
        let gradients = &mut self.gradients;
        let packed = &mut self.packed;
        let (dpre, z, dz) = (&mut self.dpre[..], &mut self.z[..], &mut self.dz[..]);

        // (1), (2). The states first hold what the recurrence does not: wax x + b.
        let (first, states) = self.states.split_at_mut(batch * n);
        first.copy_from_slice(a0);
        transpose(wax, n, v, &mut self.wax_t);
        project_input(&self.wax_t, b, x, states);
        pack_for_forward(packed, waa, batch, n);
        recurrence_forward(packed, first, states, batch, n);
        // (3) to (5).
        project_output(states, wya, by, z, n, packed);
        let loss = cross_entropy(z, y, v, scale, dz);

        // (6), (7).
        let (dwya, dby) = (&mut gradients.wya, &mut gradients.by);
        project_output_backward(dz, states, wya, dpre, dwya, dby, n, packed);
        // (8) to (10).
        pack_for_backward(packed, waa, batch, n);
        recurrence_backward(packed, states, dpre, &mut self.da0, batch, n);
        // (11): all a_{t-1} are the states but the last.
        let rows = steps * batch;
        let earlier = &self.states[..rows * n];
        recurrence_weight_gradient(dpre, earlier, &mut gradients.waa, n, packed);
        // (11) for b, and (12).
        project_input_backward(x, dpre, &mut self.wax_t, &mut gradients.b);
        transpose(&self.wax_t, v, n, &mut gradients.wax);
        loss
    }

    /// Sets the lengths of the working memory. Allocates only when they exceed all earlier ones.
    fn resize(&mut self, steps: usize, batch: usize) {
        let (n, v) = (self.gradients.n_a, self.gradients.n_x);
        (self.steps, self.batch) = (steps, batch);
        self.states.resize((steps + 1) * batch * n, F::ZERO);
        self.dpre.resize(steps * batch * n, F::ZERO);
        self.z.resize(steps * batch * v, F::ZERO);
        self.dz.resize(steps * batch * v, F::ZERO);
        self.da0.resize(batch * n, F::ZERO);
    }

    /// The gradients of the last [`loss_and_gradients`](Self::loss_and_gradients), not clipped.
    pub fn gradients(&self) -> &Parameters<F> {
        &self.gradients
    }

    /// The same, to change: to clip, or to accumulate.
    pub fn gradients_mut(&mut self) -> &mut Parameters<F> {
        &mut self.gradients
    }

    /// The gradient of `a0`, (B, n_a).
    pub fn gradient_of_initial_state(&self) -> &[F] {
        &self.da0
    }

    /// The logits, (T, B, n_x).
    pub fn logits(&self) -> &[F] {
        &self.z
    }

    /// The states a_1 .. a_T, (T, B, n_a). Those of padded steps are there, but mean nothing.
    pub fn states(&self) -> &[F] {
        let first = self.batch * self.gradients.n_a;
        self.states.get(first..).unwrap_or_default()
    }

    /// The state of `sequence` after `step` steps, (n_a); its `a0` after 0.
    ///
    /// # Panics
    ///
    /// When the last run had fewer steps or sequences.
    pub fn state(&self, sequence: usize, step: usize) -> &[F] {
        assert!(sequence < self.batch && step <= self.steps, "no such state");
        let n = self.gradients.n_a;
        &self.states[(step * self.batch + sequence) * n..][..n]
    }

    /// The states to carry on with, (B, n_a): of each sequence the one at its own last step,
    /// padding left out. `y` is that of the last run.
    ///
    /// # Panics
    ///
    /// When `y` is not (T, B), or `carried` not (B, n_a).
    pub fn last_states(&self, y: &[u32], carried: &mut [F]) {
        let n = self.gradients.n_a;
        assert_eq!(y.len(), self.steps * self.batch, "y is not (T, B)");
        assert_eq!(carried.len(), self.batch * n, "carried is not (B, n_a)");
        for (i, carried) in carried.chunks_exact_mut(n).enumerate() {
            let padded = (0..self.steps).rev().take_while(|t| y[t * self.batch + i] == NONE);
            carried.copy_from_slice(self.state(i, self.steps - padded.count()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::tests::{assert_close, noise, on_every_path, tolerance};

    /// A model, sequences of different lengths side by side, and a first state.
    struct Case<F> {
        parameters: Parameters<F>,
        x: Vec<u32>,
        y: Vec<u32>,
        a0: Vec<F>,
        steps: usize,
        batch: usize,
    }

    fn case<F: Element>(n: usize, v: usize, steps: usize, batch: usize) -> Case<F> {
        let mut parameters = Parameters::zeros(n, v);
        for (seed, (_, w)) in parameters.tensors_mut().into_iter().enumerate() {
            let scale = F::from_f64(1.0 / (n as f64).sqrt());
            let values = noise::<F>(w.len(), seed as u64 + 1);
            w.iter_mut().zip(values).for_each(|(w, x)| *w = x * scale);
        }
        let rows = steps * batch;
        let mut x: Vec<u32> = (0..rows).map(|r| ((r * 7919 + r / 3) % v) as u32).collect();
        let mut y: Vec<u32> = (0..rows).map(|r| ((r * 104729 + r / 2) % v) as u32).collect();
        x[..batch].fill(NONE);
        for t in 0..steps {
            for i in 0..batch {
                // Sequence i is i mod 4 steps shorter, but has one at least.
                if t > 0 && t + i % 4 >= steps {
                    (x[t * batch + i], y[t * batch + i]) = (NONE, NONE);
                }
            }
        }
        let a0 = noise(batch * n, 99);
        Case { parameters, x, y, a0, steps, batch }
    }

    impl<F: Element> Case<F> {
        fn run(&self, bptt: &mut Bptt<F>, scale: f64) -> f64 {
            let scale = F::from_f64(scale);
            bptt.loss_and_gradients(
                &self.parameters,
                &self.x,
                &self.y,
                self.steps,
                self.batch,
                &self.a0,
                scale,
            )
        }

        fn bptt(&self) -> Bptt<F> {
            Bptt::new(self.parameters.n_a, self.parameters.n_x)
        }

        /// The seed's two loops over time for one sequence, in scalar f64: loss, gradients in the
        /// seed's order, da0, and the last state.
        fn naive(&self, i: usize) -> (f64, [Vec<f64>; 6], Vec<f64>) {
            let f = |x: &[F]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
            let p = &self.parameters;
            let (n, v) = (p.n_a, p.n_x);
            let (wax, waa, wya, b, by) = (f(&p.wax), f(&p.waa), f(&p.wya), f(&p.b), f(&p.by));
            let x: Vec<u32> = self.x.iter().copied().skip(i).step_by(self.batch).collect();
            let y: Vec<u32> =
                self.y.iter().copied().skip(i).step_by(self.batch).filter(|&y| y != NONE).collect();
            let mut a = vec![f(&self.a0[i * n..][..n])];
            let (mut probabilities, mut loss) = (Vec::new(), 0.0);
            for t in 0..y.len() {
                let mut now = b.clone();
                for r in 0..n {
                    if x[t] != NONE {
                        now[r] += wax[r * v + x[t] as usize];
                    }
                    for c in 0..n {
                        now[r] += waa[r * n + c] * a[t][c];
                    }
                    now[r] = now[r].tanh();
                }
                let mut z = by.clone();
                for c in 0..v {
                    for r in 0..n {
                        z[c] += wya[c * n + r] * now[r];
                    }
                }
                let sum: f64 = z.iter().map(|z| z.exp()).sum();
                let q: Vec<f64> = z.iter().map(|z| z.exp() / sum).collect();
                loss -= q[y[t] as usize].ln();
                probabilities.push(q);
                a.push(now);
            }
            let mut g = [n * v, n * n, v * n, n, v, n].map(|length| vec![0.0; length]);
            let mut carried = vec![0.0; n];
            for t in (0..y.len()).rev() {
                let mut dz = probabilities[t].clone();
                dz[y[t] as usize] -= 1.0;
                let mut da = carried;
                for c in 0..v {
                    g[4][c] += dz[c];
                    for r in 0..n {
                        g[2][c * n + r] += dz[c] * a[t + 1][r];
                        da[r] += wya[c * n + r] * dz[c];
                    }
                }
                carried = vec![0.0; n];
                for r in 0..n {
                    let dpre = (1.0 - a[t + 1][r] * a[t + 1][r]) * da[r];
                    g[3][r] += dpre;
                    if x[t] != NONE {
                        g[0][r * v + x[t] as usize] += dpre;
                    }
                    for c in 0..n {
                        g[1][r * n + c] += dpre * a[t][c];
                        carried[c] += waa[r * n + c] * dpre;
                    }
                }
            }
            g[5] = carried;
            let last = a.pop().expect("a0 at least");
            (loss, g, last)
        }
    }

    fn check<F: Element>(n: usize, v: usize, steps: usize, batch: usize, bptt: &mut Bptt<F>) {
        let case = case::<F>(n, v, steps, batch);
        let scale = 0.5;
        let loss = case.run(bptt, scale);
        let bound = 5.0 * tolerance::<F>();
        let mut last = vec![F::ZERO; batch * n];
        bptt.last_states(&case.y, &mut last);
        let mut total = 0.0;
        let mut sums = [n * v, n * n, v * n, n, v].map(|length| vec![0.0; length]);
        let g = |x: &[f64], s: f64| x.iter().map(|x| F::from_f64(x * s)).collect::<Vec<F>>();
        for i in 0..batch {
            let (loss, gradients, state) = case.naive(i);
            total += loss * scale;
            for (sum, gradient) in sums.iter_mut().zip(&gradients) {
                sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g);
            }
            assert_close(
                "da0",
                &bptt.gradient_of_initial_state()[i * n..][..n],
                &g(&gradients[5], scale),
                bound,
            );
            assert_close("last state", &last[i * n..][..n], &g(&state, 1.0), bound);
        }
        assert!((loss - total).abs() <= bound * (1.0 + total), "{loss} instead of {total}");
        for ((name, got), want) in bptt.gradients().tensors().into_iter().zip(&sums) {
            assert_close(name, got, &g(want, scale), bound);
        }
    }

    #[test]
    fn loss_gradients_and_states_equal_those_of_the_naive_loops() {
        let shapes: &[(usize, usize, usize, usize)] = if cfg!(miri) {
            &[(9, 5, 3, 2)]
        } else {
            &[
                (1, 2, 1, 1),
                (7, 27, 5, 1),
                (50, 27, 13, 1),
                (50, 27, 6, 5),
                (50, 1000, 3, 2),
                (257, 27, 2, 3),
                (8, 8, 4, 16),
                (3, 5, 9, 2),
                (64, 30, 7, 33),
            ]
        };
        for &(n, v, steps, batch) in shapes {
            on_every_path(|| check::<f32>(n, v, steps, batch, &mut Bptt::new(n, v)));
            on_every_path(|| check::<f64>(n, v, steps, batch, &mut Bptt::new(n, v)));
        }
    }

    #[test]
    fn what_ran_before_does_not_matter() {
        let mut bptt = Bptt::new(50, 27);
        for (steps, batch) in [(13, 4), (1, 1), (20, 1), (2, 9), (13, 4)] {
            check::<f64>(50, 27, steps, batch, &mut bptt);
        }
    }

    #[test]
    fn gradients_equal_central_differences() {
        for (n, v, steps, batch) in [(5, 4, 6, 1), (9, 7, 4, 3)] {
            let mut case = case::<f64>(n, v, steps, batch);
            let mut bptt = case.bptt();
            case.run(&mut bptt, 1.0);
            let mut analytic: Vec<Vec<f64>> =
                bptt.gradients().tensors().iter().map(|(_, g)| g.to_vec()).collect();
            analytic.push(bptt.gradient_of_initial_state().to_vec());
            let h = 1e-6;
            for (tensor, gradient) in analytic.iter().enumerate() {
                for (at, &g) in gradient.iter().enumerate() {
                    let mut loss_at = |step: f64| {
                        fn element(case: &mut Case<f64>, tensor: usize, at: usize) -> &mut f64 {
                            match tensor {
                                5 => &mut case.a0[at],
                                _ => {
                                    let tensors = case.parameters.tensors_mut();
                                    &mut tensors.into_iter().nth(tensor).expect("five tensors").1
                                        [at]
                                }
                            }
                        }
                        let before = *element(&mut case, tensor, at);
                        *element(&mut case, tensor, at) = before + step;
                        let loss = case.run(&mut bptt, 1.0);
                        *element(&mut case, tensor, at) = before;
                        loss
                    };
                    let difference = (loss_at(h) - loss_at(-h)) / (2.0 * h);
                    assert!(
                        (difference - g).abs() < 1e-8 * (1.0 + g.abs()),
                        "tensor {tensor}, element {at}: {g} and {difference}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_padded_batch_is_the_sum_of_its_sequences() {
        let case = case::<f64>(20, 11, 8, 6);
        let mut bptt = case.bptt();
        let together = case.run(&mut bptt, 1.0);
        let (mut loss, mut waa) = (0.0, vec![0.0; 400]);
        let mut one = case.bptt();
        for i in 0..6 {
            let pick = |x: &[u32]| x.iter().copied().skip(i).step_by(6).collect::<Vec<u32>>();
            let y: Vec<u32> = pick(&case.y).into_iter().filter(|&y| y != NONE).collect();
            let x = &pick(&case.x)[..y.len()];
            loss += one.loss_and_gradients(
                &case.parameters,
                x,
                &y,
                y.len(),
                1,
                &case.a0[i * 20..][..20],
                1.0,
            );
            waa.iter_mut().zip(&one.gradients().waa).for_each(|(s, g)| *s += g);
        }
        assert!((loss - together).abs() < 1e-12 * loss);
        assert_close("waa", &bptt.gradients().waa, &waa, 1e-13);
    }

    #[test]
    fn a_nan_in_the_parameters_reaches_loss_and_parameters() {
        let mut case = case::<f32>(50, 27, 4, 1);
        case.parameters.waa[1234] = f32::NAN;
        let mut bptt = case.bptt();
        assert!(case.run(&mut bptt, 1.0).is_nan());
        case.parameters.descend(bptt.gradients(), 0.01, 5.0);
        assert!(case.parameters.by.iter().all(|w| w.is_nan()));
    }

    #[test]
    #[should_panic(expected = "x holds the index 27, but the vocabulary has 27 characters")]
    fn a_character_outside_the_vocabulary_panics() {
        let parameters = Parameters::<f32>::zeros(4, 27);
        Bptt::new(4, 27).loss_and_gradients(&parameters, &[27], &[0], 1, 1, &[0.0; 4], 1.0);
    }
}
