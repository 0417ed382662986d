//! The notebook's passes with their choices left open: a mistake is another choice.
//!
//! With [`Choices::default`] it is [`crate::reference`], written by the equations: products first,
//! then sums over the steps. [`super::departures`] lists the other choices.

use crate::gradcheck::problem::{Problem, Sequence};
use crate::reference::{Matrix, softmax};
use std::ops::Range;

/// What a reader of the notebook decides, line by line.
#[derive(Clone)]
pub(super) struct Choices {
    /// A number for the choices that need one.
    pub k: usize,
    // The forward pass.
    /// x_t; of the sequence, t and n_x.
    pub input: fn(&Sequence, usize, usize) -> Vec<f64>,
    /// The factors of b and by.
    pub biases: [f64; 2],
    /// Out of Waa and its transpose, m of m^T a_{t-1}; none is no such term.
    pub forward_waa: for<'a> fn([&'a Matrix<f64>; 2]) -> Option<&'a Matrix<f64>>,
    /// The state that step t reads: an index of `a`, `None` for zeros.
    pub earlier: fn(usize) -> Option<usize>,
    pub activation: fn(f64) -> f64,
    /// The index in `a` of the state from which step t makes its logits.
    pub output_of: fn(usize) -> usize,
    pub softmax: fn(&[f64]) -> Vec<f64>,
    // The backward pass.
    /// Out of Wya and its transpose, m of m^T dy_t.
    pub backward_wya: for<'a> fn([&'a Matrix<f64>; 2]) -> &'a Matrix<f64>,
    /// y_hat_t becomes dy_t.
    pub dy: fn(&mut [f64], &Sequence, usize),
    /// The slope of tanh; of a_{t-1} and a_t.
    pub slope: fn(f64, f64) -> f64,
    /// da and da_raw; of Wya^T dy, da_next and the slope.
    pub combine: fn(f64, f64, f64) -> [f64; 2],
    pub carry: fn(&Carry) -> Vec<f64>,
    /// The steps in the order in which they are run; of T and `k`.
    pub order: fn(usize, usize) -> Vec<usize>,
    /// Whether da_next is zero before step t; of t, T and `k`.
    pub is_cut: fn(usize, usize, usize) -> bool,
    /// The number of steps back that the loss of a step is carried, if not all; of `k`.
    pub window: fn(usize) -> Option<usize>,
}

/// What da_next is made of.
pub(super) struct Carry<'a> {
    /// Waa, and its transpose.
    pub waa: [&'a Matrix<f64>; 2],
    pub da: &'a [f64],
    pub da_raw: &'a [f64],
    /// da_next as it was, and da_raw of the step before this one in the loop.
    pub before: [&'a [f64]; 2],
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            k: 0,
            input: |s, t, n| one_hot(s.x[t], n),
            biases: [1., 1.],
            forward_waa: |[_, waa_t]| Some(waa_t),
            earlier: Some,
            activation: f64::tanh,
            output_of: |t| t + 1,
            softmax,
            backward_wya: |[wya, _]| wya,
            dy: |dy, s, t| dy[s.y[t]] -= 1.,
            slope: |_, a| 1. - a * a,
            combine: |out, next, slope| [out + next, slope * (out + next)],
            carry: |c| mix(c.waa[0], c.da_raw),
            order: |steps, _| (0..steps).rev().collect(),
            is_cut: |_, _, _| false,
            window: |_| None,
        }
    }
}

/// The rows of a matrix, each times its number, added up: m^T v.
pub(super) fn mix(m: &Matrix<f64>, v: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.; m[0].len()];
    for (row, &v) in m.iter().zip(v).filter(|(_, v)| **v != 0.) {
        sum.iter_mut().zip(row).for_each(|(sum, m)| *sum += v * m);
    }
    sum
}

pub(super) fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

pub(super) fn times(a: &[f64], factor: f64) -> Vec<f64> {
    a.iter().map(|a| factor * a).collect()
}

/// A vector of `n` zeros, with a one at `index`.
pub(super) fn one_hot(index: Option<usize>, n: usize) -> Vec<f64> {
    (0..n).map(|i| if Some(i) == index { 1. } else { 0. }).collect()
}

fn transposed(m: &Matrix<f64>) -> Matrix<f64> {
    (0..m[0].len()).map(|j| m.iter().map(|row| row[j]).collect()).collect()
}

/// The network and a sequence, the matrices transposed too.
pub(super) struct Pass<'a> {
    pub problem: &'a Problem,
    pub sequence: &'a Sequence,
    a_prev: &'a [f64],
    wax_t: Matrix<f64>,
    pub waa_t: Matrix<f64>,
    wya_t: Matrix<f64>,
}

/// The results of a pass, step by step.
#[derive(Clone)]
pub(super) struct Steps<'a> {
    pub pass: &'a Pass<'a>,
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

impl<'a> Pass<'a> {
    /// The pass over the first sequence of `problem`.
    pub fn new(problem: &'a Problem) -> Self {
        let p = problem.parameters();
        let [wax_t, waa_t, wya_t] = [&p.wax, &p.waa, &p.wya].map(transposed);
        let (a_prev, sequence) = (&problem.a0()[0], &problem.sequences()[0]);
        Self { problem, sequence, a_prev, wax_t, waa_t, wya_t }
    }

    /// Forward and backward.
    pub fn run(&'a self, choices: &Choices) -> Steps<'a> {
        let (steps, n_x) = (self.sequence.x.len(), self.wax_t.len());
        let mut s = Steps {
            pass: self,
            x: (0..steps).map(|t| (choices.input)(self.sequence, t, n_x)).collect(),
            a: vec![self.a_prev.to_vec()],
            losses: vec![],
            y_hat: vec![],
            // Zeros where the loop does not come.
            dy: vec![vec![0.; n_x]; steps],
            da: vec![vec![0.; self.a_prev.len()]; steps],
            da_raw: vec![vec![0.; self.a_prev.len()]; steps],
            da_next: vec![0.; self.a_prev.len()],
            order: (choices.order)(steps, choices.k),
            clips: [f64::INFINITY; 2],
        };
        if (choices.earlier)(0).is_none() {
            s.a[0].fill(0.);
        }
        for t in 0..steps {
            let a = self.state(choices, &s.x[t], (choices.earlier)(t).map(|t| &s.a[t][..]));
            s.a.push(a);
            let y_hat = (choices.softmax)(&self.logits(choices, &s.a[(choices.output_of)(t)]));
            s.losses.push(-y_hat[self.sequence.y[t]].ln());
            s.y_hat.push(y_hat);
        }
        s.backward(choices);
        s
    }

    /// The rows of the array `i` of [`Steps::array`].
    pub fn rows(&self, i: usize) -> usize {
        match i {
            2 | 4 => self.wax_t.len(),
            6 => 1,
            _ => self.a_prev.len(),
        }
    }

    /// The state after `earlier`, `None` for zeros.
    pub fn state(&self, choices: &Choices, x: &[f64], earlier: Option<&[f64]>) -> Vec<f64> {
        let p = self.problem.parameters();
        let mut pre = plus(&times(&p.b, choices.biases[0]), &mix(&self.wax_t, x));
        if let (Some(a), Some(waa)) = (earlier, (choices.forward_waa)([&p.waa, &self.waa_t])) {
            pre = plus(&pre, &mix(waa, a));
        }
        pre.into_iter().map(choices.activation).collect()
    }

    /// The logits of a state.
    pub fn logits(&self, choices: &Choices, a: &[f64]) -> Vec<f64> {
        let by = times(&self.problem.parameters().by, choices.biases[1]);
        plus(&by, &mix(&self.wya_t, a))
    }
}

impl Steps<'_> {
    fn backward(&mut self, choices: &Choices) {
        let p = self.pass.problem.parameters();
        let waa = [&p.waa, &self.pass.waa_t];
        let zero = vec![0.; p.b.len()];
        let (mut next, mut last) = (zero.clone(), zero.clone());
        let mut parts: Matrix<f64> = vec![]; // of da_next, by the step of the loss, the nearest first
        for t in self.order.clone() {
            let mut dy = self.y_hat[t].clone();
            (choices.dy)(&mut dy, self.pass.sequence, t);
            let out = mix((choices.backward_wya)([&p.wya, &self.pass.wya_t]), &dy);
            if (choices.is_cut)(t, self.y_hat.len(), choices.k) {
                next.fill(0.);
            }
            let slopes = self.a[t].iter().zip(&self.a[t + 1]).map(|(&a, &b)| (choices.slope)(a, b));
            let slopes: Vec<f64> = slopes.collect();
            let each = out.iter().zip(&next).zip(&slopes);
            let each = each.map(|((&out, &next), &slope)| (choices.combine)(out, next, slope));
            let (da, da_raw): (Vec<f64>, Vec<f64>) = each.map(|[da, raw]| (da, raw)).unzip();
            let carry = |da: &[f64], da_raw: &[f64]| {
                (choices.carry)(&Carry { waa, da, da_raw, before: [&next, &last] })
            };
            next = match (choices.window)(choices.k) {
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

    /// Some rows of dWax, dWaa, dWya, db, dby, da_next, the loss or the last state.
    pub fn array(&self, i: usize, rows: Range<usize>) -> Vec<f64> {
        match i {
            0 => self.sum(rows, |t| (&self.da_raw[t], &self.x[t])),
            1 => self.sum(rows, |t| (&self.da_raw[t], &self.a[t])),
            2 => self.sum(rows, |t| (&self.dy[t], &self.a[t + 1])),
            3 => self.sum(rows, |t| (&self.da_raw[t], &[1.])),
            4 => self.sum(rows, |t| (&self.dy[t], &[1.])),
            5 => self.da_next[rows].to_vec(),
            6 => vec![self.losses.iter().sum()],
            _ => self.a[self.a.len() - 1][rows].to_vec(),
        }
    }

    /// Some rows of the sum of an outer product over the steps.
    fn sum<'s>(
        &self,
        rows: Range<usize>,
        term: impl Fn(usize) -> (&'s Vec<f64>, &'s [f64]),
    ) -> Vec<f64> {
        let [each, all] = self.clips;
        let mut sum = vec![0.; rows.len() * term(0).1.len()];
        for &t in &self.order {
            let (left, right) = term(t);
            for (sum, &u) in sum.chunks_exact_mut(right.len()).zip(&left[rows.clone()]) {
                for (sum, v) in sum.iter_mut().zip(right) {
                    *sum = (*sum + (u * v).clamp(-each, each)).clamp(-all, all);
                }
            }
        }
        sum
    }
}
