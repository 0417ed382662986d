//! The notebook's passes with their [`Choices`] left open: with [`Choices::default`] it is
//! [`crate::reference`], written by the equations: products first, then sums over the steps.

use super::choices::{Carry, Choices, plus, product, times};
use crate::gradcheck::problem::Problem;
use crate::reference::{Matrix, Parameters};

/// The results of a pass, step by step.
#[derive(Clone)]
pub(super) struct Steps<'a> {
    pub problem: &'a Problem,
    pub x: Matrix<f64>,
    /// The states, from a_prev on.
    pub a: Matrix<f64>,
    pub losses: Vec<f64>,
    pub y_hat: Matrix<f64>,
    pub dy: Matrix<f64>,
    pub da: Matrix<f64>,
    pub da_raw: Matrix<f64>,
    pub da_next: Vec<f64>,
    /// The steps in the order in which they are added up.
    pub order: Vec<usize>,
    /// Limits of each term, and of the sum after each step.
    pub clips: [f64; 2],
}

/// Forward and backward over the first sequence of `problem`.
pub(super) fn pass<'a>(problem: &'a Problem, choices: &Choices) -> Steps<'a> {
    let (sequence, a_prev) = (&problem.sequences[0], &problem.a0[0]);
    let (steps, n_x) = (sequence.x.len(), problem.parameters.by.len());
    let mut s = Steps {
        problem,
        x: (0..steps).map(|t| (choices.input)(sequence, t, n_x)).collect(),
        a: vec![a_prev.clone()],
        losses: vec![],
        y_hat: vec![],
        // Zeros where the loop does not come.
        dy: vec![vec![0.; n_x]; steps],
        da: vec![vec![0.; a_prev.len()]; steps],
        da_raw: vec![vec![0.; a_prev.len()]; steps],
        da_next: vec![0.; a_prev.len()],
        order: (choices.order)(steps, choices.k),
        clips: [f64::INFINITY; 2],
    };
    if (choices.earlier)(0).is_none() {
        s.a[0].fill(0.);
    }
    for t in 0..steps {
        let earlier = (choices.earlier)(t).map_or(vec![0.; a_prev.len()], |t| s.a[t].clone());
        s.a.push(state(&problem.parameters, choices, &s.x[t], &earlier));
        let logits = logits(&problem.parameters, choices, &s.a[(choices.output_of)(t)]);
        let y_hat = (choices.softmax)(&logits);
        s.losses.push(-y_hat[sequence.y[t]].ln());
        s.y_hat.push(y_hat);
    }
    s.backward(choices);
    s
}

/// The state after `earlier`.
pub(super) fn state(
    p: &Parameters<f64>,
    choices: &Choices,
    x: &[f64],
    earlier: &[f64],
) -> Vec<f64> {
    let pre = plus(&times(&p.b, choices.b), &product(&p.wax, x));
    let pre = plus(&pre, &(choices.forward_waa)(&p.waa, earlier));
    pre.into_iter().map(choices.activation).collect()
}

/// The logits of a state.
pub(super) fn logits(p: &Parameters<f64>, choices: &Choices, a: &[f64]) -> Vec<f64> {
    plus(&times(&p.by, choices.by), &product(&p.wya, a))
}

impl Steps<'_> {
    fn backward(&mut self, choices: &Choices) {
        let (p, sequence) = (&self.problem.parameters, &self.problem.sequences[0]);
        let (steps, k) = (self.y_hat.len(), choices.k);
        let zero = vec![0.; p.b.len()];
        let (mut next, mut last) = (zero.clone(), zero.clone());
        let mut parts: Matrix<f64> = vec![]; // of da_next, by the step of the loss, the nearest first
        for t in self.order.clone() {
            let mut dy = self.y_hat[t].clone();
            (choices.dy)(&mut dy, sequence, t);
            let out = (choices.backward_wya)(&p.wya, &dy);
            let slopes = self.a[t].iter().zip(&self.a[t + 1]).map(|(&a, &b)| (choices.slope)(a, b));
            let slopes: Vec<f64> = slopes.collect();
            let each = out.iter().zip(&next).zip(&slopes);
            let each = each.map(|((&out, &next), &slope)| (choices.combine)(out, next, slope));
            let (da, da_raw): (Vec<f64>, Vec<f64>) = each.map(|[da, raw]| (da, raw)).unzip();
            let carry = |da: &[f64], da_raw: &[f64]| {
                let (waa, before) = (&p.waa, [&next[..], &last]);
                (choices.carry)(&Carry { waa, da, da_raw, before, t, steps, k })
            };
            next = match (choices.window)(k) {
                None => carry(&da, &da_raw),
                Some(window) => {
                    parts.insert(0, out);
                    parts.truncate(window);
                    for part in &mut parts {
                        let raw = part.iter().zip(&slopes).map(|(da, slope)| da * slope);
                        *part = carry(part, &raw.collect::<Vec<_>>());
                    }
                    parts.iter().fold(zero.clone(), |sum, part| plus(&sum, part))
                }
            };
            last.clone_from(&da_raw);
            (self.dy[t], self.da[t], self.da_raw[t]) = (dy, da, da_raw);
        }
        self.da_next = next;
    }

    /// dWax, dWaa, dWya, db, dby, da_next, the loss or the last state.
    pub fn array(&self, i: usize) -> Vec<f64> {
        match i {
            0 => self.sum(|t| [&self.da_raw[t], &self.x[t]]),
            1 => self.sum(|t| [&self.da_raw[t], &self.a[t]]),
            2 => self.sum(|t| [&self.dy[t], &self.a[t + 1]]),
            3 => self.sum(|t| [&self.da_raw[t], &[1.]]),
            4 => self.sum(|t| [&self.dy[t], &[1.]]),
            5 => self.da_next.clone(),
            6 => vec![self.losses.iter().sum()],
            _ => self.a[self.a.len() - 1].clone(),
        }
    }

    /// The sum over the steps of the outer product of two vectors.
    fn sum<'s>(&self, term: impl Fn(usize) -> [&'s [f64]; 2]) -> Vec<f64> {
        let [each, all] = self.clips;
        let mut sum = vec![0.; term(0).map(<[f64]>::len).iter().product()];
        for &t in &self.order {
            let [left, right] = term(t);
            for (sum, u) in sum.chunks_exact_mut(right.len()).zip(left) {
                for (sum, v) in sum.iter_mut().zip(right) {
                    *sum = (*sum + (u * v).clamp(-each, each)).clamp(-all, all);
                }
            }
        }
        sum
    }
}
