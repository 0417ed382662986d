//! The notebook in scalar loops: the definition that every fast path is tested against.
//!
//! The functions have the notebook's names and follow its order. Nothing here is fast, and nothing
//! is shared with the code that is. They are generic over the [`Number`], so that a dual number can
//! take exact derivatives through them.
//!
//! Shapes: `wax` (n_a, n_x), `waa` (n_a, n_a), `wya` (n_y, n_a), `b` and `a` (n_a), `by` (n_y);
//! `X[t]` is the index of the input at step t, `None` for the zero vector, `Y[t]` that of the target.
//! Where a size is zero, a row has another length or an index is out of range, the loops panic.

#![allow(clippy::needless_range_loop)] // indices as in the equations

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// What the loops need of a number.
pub trait Number:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
{
    /// The nearest value to `x`.
    fn from_f64(x: f64) -> Self;
    /// e to this power.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
}

impl Number for f64 {
    fn from_f64(x: f64) -> Self {
        x
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
}

/// A matrix as its rows.
pub type Matrix<N> = Vec<Vec<N>>;

/// The parameters, or their gradients.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Parameters<N> {
    pub wax: Matrix<N>,
    pub waa: Matrix<N>,
    pub wya: Matrix<N>,
    pub b: Vec<N>,
    pub by: Vec<N>,
}

impl<N: Number> Parameters<N> {
    /// All zero.
    pub fn zeros(n_a: usize, n_x: usize) -> Self {
        let zero = N::from_f64(0.);
        Self {
            wax: vec![vec![zero; n_x]; n_a],
            waa: vec![vec![zero; n_a]; n_a],
            wya: vec![vec![zero; n_a]; n_x],
            b: vec![zero; n_a],
            by: vec![zero; n_x],
        }
    }

    /// The parameters out of their values, row by row, in the order of the fields.
    ///
    /// # Panics
    /// Where a length is not that of its shape.
    pub fn from_flat(n_a: usize, n_x: usize, flat: [&[N]; 5]) -> Self {
        let [wax, waa, wya, b, by] = flat;
        assert_eq!(flat.map(<[N]>::len), [n_a * n_x, n_a * n_a, n_x * n_a, n_a, n_x]);
        let rows = |values: &[N], columns| values.chunks(columns).map(<[N]>::to_vec).collect();
        let (wax, waa, wya) = (rows(wax, n_x), rows(waa, n_a), rows(wya, n_a));
        Self { wax, waa, wya, b: b.to_vec(), by: by.to_vec() }
    }

    /// The values row by row, in the order of the fields.
    pub fn flat(&self) -> [Vec<N>; 5] {
        let Self { wax, waa, wya, b, by } = self;
        [wax.concat(), waa.concat(), wya.concat(), b.clone(), by.clone()]
    }

    fn n_a(&self) -> usize {
        self.b.len()
    }

    fn n_x(&self) -> usize {
        self.by.len()
    }
}

#[cfg(test)]
impl Parameters<f64> {
    /// The parameters of a candle module.
    pub(crate) fn of(model: &crate::model::CharRnn) -> Self {
        let flat = model.parameters().map(|(_, tensor)| {
            let tensor = tensor.to_dtype(candle_core::DType::F64).unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        });
        let crate::model::Config { vocabulary, hidden } = model.config();
        Self::from_flat(hidden, vocabulary, flat.each_ref().map(Vec::as_slice))
    }
}

/// What the forward pass keeps for the backward pass, by time step.
#[derive(Debug, Clone)]
pub struct Cache<N> {
    /// The probabilities of the next character, (T, n_y).
    pub y_hat: Matrix<N>,
    /// The states, (T + 1, n_a): `a[0]` is `a_prev`, and `a[t + 1]` the state after step t.
    pub a: Matrix<N>,
}

/// Probabilities: `exp(z - max z)` over their sum.
///
/// # Panics
/// Where there are no logits.
pub fn softmax<N: Number>(z: &[N]) -> Vec<N> {
    let max = z.iter().fold(z[0], |max, &z| if z > max { z } else { max });
    let e: Vec<N> = z.iter().map(|&z| (z - max).exp()).collect();
    let sum = e.iter().fold(N::from_f64(0.), |sum, &e| sum + e);
    e.into_iter().map(|e| e / sum).collect()
}

/// One time step: the new state and the probabilities of the next character.
pub fn rnn_step_forward<N: Number>(
    parameters: &Parameters<N>,
    a_prev: &[N],
    x: Option<usize>,
) -> (Vec<N>, Vec<N>) {
    let Parameters { wax, waa, wya, b, by } = parameters;
    let mut a = vec![];
    for i in 0..parameters.n_a() {
        let mut sum = b[i];
        if let Some(x) = x {
            sum += wax[i][x];
        }
        for (&w, &a) in waa[i].iter().zip(a_prev) {
            sum += w * a;
        }
        a.push(sum.tanh());
    }
    let mut z = vec![];
    for k in 0..parameters.n_x() {
        let mut sum = by[k];
        for (&w, &a) in wya[k].iter().zip(&a) {
            sum += w * a;
        }
        z.push(sum);
    }
    (a, softmax(&z))
}

/// All steps of `x` from the state `a_prev`. Returns the loss, summed over the steps, in nats.
pub fn rnn_forward<N: Number>(
    x: &[Option<usize>],
    y: &[usize],
    a_prev: &[N],
    parameters: &Parameters<N>,
) -> (N, Cache<N>) {
    let mut loss = N::from_f64(0.);
    let mut cache = Cache { y_hat: vec![], a: vec![a_prev.to_vec()] };
    for t in 0..x.len() {
        let (a, y_hat) = rnn_step_forward(parameters, &cache.a[t], x[t]);
        loss -= y_hat[y[t]].ln();
        cache.a.push(a);
        cache.y_hat.push(y_hat);
    }
    (loss, cache)
}

/// Adds one step's share to `gradients`. `dy` is the gradient of the logits; `da_next` that of the
/// state through the step after, and afterwards that of `a_prev`.
pub fn rnn_step_backward<N: Number>(
    dy: &[N],
    gradients: &mut Parameters<N>,
    da_next: &mut Vec<N>,
    parameters: &Parameters<N>,
    x: Option<usize>,
    a: &[N],
    a_prev: &[N],
) {
    let (n_a, one) = (parameters.n_a(), N::from_f64(1.));
    let mut da = da_next.clone();
    for k in 0..parameters.n_x() {
        gradients.by[k] += dy[k];
        for i in 0..n_a {
            gradients.wya[k][i] += dy[k] * a[i];
            da[i] += parameters.wya[k][i] * dy[k];
        }
    }
    *da_next = vec![N::from_f64(0.); n_a];
    for i in 0..n_a {
        let da_raw = (one - a[i] * a[i]) * da[i]; // back through tanh
        gradients.b[i] += da_raw;
        if let Some(x) = x {
            gradients.wax[i][x] += da_raw;
        }
        for j in 0..n_a {
            gradients.waa[i][j] += da_raw * a_prev[j];
            da_next[j] += parameters.waa[i][j] * da_raw;
        }
    }
}

/// Back through all steps. Returns the gradients of the parameters and of the first state.
pub fn rnn_backward<N: Number>(
    x: &[Option<usize>],
    y: &[usize],
    parameters: &Parameters<N>,
    cache: &Cache<N>,
) -> (Parameters<N>, Vec<N>) {
    let mut gradients = Parameters::zeros(parameters.n_a(), parameters.n_x());
    let mut da_next = vec![N::from_f64(0.); parameters.n_a()];
    for t in (0..x.len()).rev() {
        let mut dy = cache.y_hat[t].clone();
        dy[y[t]] -= N::from_f64(1.);
        let (a, a_prev) = (&cache.a[t + 1], &cache.a[t]);
        rnn_step_backward(&dy, &mut gradients, &mut da_next, parameters, x[t], a, a_prev);
    }
    (gradients, da_next)
}

/// Clamps every entry to [-max, max].
pub fn clip<N: Number>(gradients: &mut Parameters<N>, max: N) {
    let Parameters { wax, waa, wya, b, by } = gradients;
    let rows = wax.iter_mut().chain(waa).chain(wya).chain([b, by]);
    for g in rows.flatten() {
        *g = if *g > max { max } else { *g };
        *g = if *g < -max { -max } else { *g };
    }
}

/// One step of gradient descent.
pub fn update_parameters<N: Number>(
    parameters: &mut Parameters<N>,
    gradients: &Parameters<N>,
    learning_rate: N,
) {
    let Parameters { wax, waa, wya, b, by } = parameters;
    let rows = wax.iter_mut().chain(waa).chain(wya).chain([b, by]);
    let Parameters { wax, waa, wya, b, by } = gradients;
    let steps = wax.iter().chain(waa).chain(wya).chain([b, by]);
    for (w, g) in rows.flatten().zip(steps.flatten()) {
        *w -= learning_rate * *g;
    }
}

/// Forward, backward, clip, update. Returns the loss, the clipped gradients and the last state.
pub fn optimize<N: Number>(
    x: &[Option<usize>],
    y: &[usize],
    a_prev: &[N],
    parameters: &mut Parameters<N>,
    learning_rate: N,
) -> (N, Parameters<N>, Vec<N>) {
    let (loss, mut cache) = rnn_forward(x, y, a_prev, parameters);
    let (mut gradients, _) = rnn_backward(x, y, parameters, &cache);
    clip(&mut gradients, N::from_f64(5.));
    update_parameters(parameters, &gradients, learning_rate);
    (loss, gradients, cache.a.pop().expect("a_prev at least"))
}

/// A name: character by character until the index `newline`, which is not part of it, or 50
/// characters. `uniform` gives the numbers in [0, 1) that choose them; the notebook seeds NumPy
/// anew for each.
pub fn sample<N: Number>(
    parameters: &Parameters<N>,
    newline: usize,
    mut uniform: impl FnMut() -> N,
) -> Vec<usize> {
    let (mut x, mut indices) = (None, vec![]);
    let mut a = vec![N::from_f64(0.); parameters.n_a()];
    while indices.len() < 50 {
        let (a_next, y_hat) = rnn_step_forward(parameters, &a, x);
        a = a_next;
        // np.random.choice: the first index whose cumulative probability exceeds the number.
        let zero = N::from_f64(0.);
        let total = y_hat.iter().fold(zero, |sum, &p| sum + p);
        let (u, mut cumulative) = (uniform(), zero);
        let exceeds = |&p: &N| {
            cumulative += p;
            cumulative / total > u
        };
        let index = y_hat.iter().position(exceeds).unwrap_or(y_hat.len() - 1);
        if index == newline {
            break;
        }
        indices.push(index);
        x = Some(index);
    }
    indices
}
