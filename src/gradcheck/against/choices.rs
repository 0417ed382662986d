//! The notebook's passes, choice by choice: the right one, and the known mistakes.

use crate::gradcheck::problem::Sequence;
use crate::reference::{Matrix, softmax};

/// A mistake: another choice. Of one subject only one is made at a time.
pub(super) struct Departure<C: 'static> {
    /// The name of the choice.
    pub subject: &'static str,
    /// What is wrong; `{k}` stands for [`Choices::k`], from 1 on.
    pub what: &'static str,
    pub change: fn(&mut C),
}

/// What da_next is made of.
pub(super) struct Carry<'a> {
    pub waa: &'a Matrix<f64>,
    pub da: &'a [f64],
    pub da_raw: &'a [f64],
    /// da_next as it was, and da_raw of the step before this one in the loop.
    pub before: [&'a [f64]; 2],
    /// The step, their number, and [`Choices::k`].
    pub t: usize,
    pub steps: usize,
    pub k: usize,
}

impl Carry<'_> {
    fn right(&self) -> Vec<f64> {
        transposed_product(self.waa, self.da_raw)
    }

    fn unless(&self, is_zeroed: bool) -> Vec<f64> {
        if is_zeroed && self.t > 0 { vec![0.; self.da.len()] } else { self.right() }
    }
}

/// Makes a type of choices, whose default is the right ones, and the list of its departures, out of
/// each choice, its type, the right value, and the wrong ones with their names.
macro_rules! choices {
    ($(#[$about:meta])* $Choices:ident, $DEPARTURES:ident: $(
        $(#[$doc:meta])*
        $choice:ident: $type:ty = $right:expr => { $($what:literal: $wrong:expr;)* }
    )*) => {
        $(#[$about])*
        pub(super) struct $Choices {
            $($(#[$doc])* pub $choice: $type,)*
        }

        impl Default for $Choices {
            fn default() -> Self {
                Self { $($choice: $right,)* }
            }
        }

        pub(super) const $DEPARTURES: &[Departure<$Choices>] = &[$($(Departure {
            subject: stringify!($choice),
            what: $what,
            change: |choices| choices.$choice = $wrong,
        },)*)*];
    };
}
pub(super) use choices;

choices! {
    /// What a reader of the notebook decides, line by line.
    Choices, DEPARTURES:
    /// A number for the choices that need one.
    k: usize = 0 => {}

    // The forward pass.
    /// The factor of b.
    b: f64 = 1. => { "b is forgotten in the forward pass": 0.; }
    /// The factor of by.
    by: f64 = 1. => { "by is forgotten in the forward pass": 0.; }
    /// Waa a_{t-1}.
    forward_waa: fn(&Matrix<f64>, &[f64]) -> Vec<f64> = product => {
        "Waa is transposed in the forward pass": transposed_product;
        "Waa a_{t-1} is forgotten in the forward pass": |_, a| vec![0.; a.len()];
    }
    /// The state that step t reads: an index of `a`, `None` for zeros.
    earlier: fn(usize) -> Option<usize> = Some => {
        "a_prev is taken as zero": |t| (t > 0).then_some(t);
        "every step reads a_prev, not the state before it": |_| Some(0);
    }
    activation: fn(f64) -> f64 = f64::tanh => {
        "relu in place of tanh in the forward pass": |z| z.max(0.);
        "sigmoid in place of tanh in the forward pass": sigmoid;
        "tanh is forgotten in the forward pass": |z| z;
    }
    /// x_t; of the sequence, t and n_x.
    input: fn(&Sequence, usize, usize) -> Vec<f64> = |s, t, n| one_hot(s.x[t], n) => {
        "x_t is the target, Y[t], in the forward pass": |s, t, n| one_hot(Some(s.y[t]), n);
        "x_t is x_{t-1} in the forward pass":
            |s, t, n| one_hot(t.checked_sub(1).and_then(|t| s.x[t]), n);
        "None is taken as the character of index 0": |s, t, n| one_hot(s.x[t].or(Some(0)), n);
        "None is taken as the last character: x[-1] = 1":
            |s, t, n| one_hot(s.x[t].or(Some(n - 1)), n);
        "None sets all of x: x[None] = 1":
            |s, t, n| s.x[t].map_or(vec![1.; n], |x| one_hot(Some(x), n));
        "x_t is zero at each step of the forward pass": |_, _, n| vec![0.; n];
    }
    /// The index in `a` of the state from which step t makes its logits.
    output_of: fn(usize) -> usize = |t| t + 1 => { "the logits are made of a_{t-1}": |t| t; }
    softmax: fn(&[f64]) -> Vec<f64> = softmax => {
        "y_hat is exp(z - max z), not divided by its sum": |z| {
            let max = z.iter().copied().fold(f64::MIN, f64::max);
            z.iter().map(|z| (z - max).exp()).collect()
        };
        "y_hat is exp(z), not divided by its sum": |z| z.iter().map(|z| z.exp()).collect();
        "softmax is applied twice": |z| softmax(&softmax(z));
        "the softmax is over the wrong axis: each probability is 1": |z| vec![1.; z.len()];
        "sigmoid in place of softmax": |z| z.iter().copied().map(sigmoid).collect();
    }

    // The backward pass.
    /// Wya^T dy_t.
    backward_wya: fn(&Matrix<f64>, &[f64]) -> Vec<f64> = transposed_product => {
        "Wya is not transposed in the backward pass":
            |wya, dy| if wya[0].len() == dy.len() { product } else { transposed_product }(wya, dy);
    }
    /// y_hat_t becomes dy_t.
    dy: fn(&mut [f64], &Sequence, usize) = |dy, s, t| dy[s.y[t]] -= 1. => {
        "the one-hot target is not subtracted from the softmax": |_, _, _| {};
        "the one-hot target is added to the softmax, not subtracted": |dy, s, t| dy[s.y[t]] += 1.;
        "the target is subtracted twice: y_hat was changed in place": |dy, s, t| dy[s.y[t]] -= 2.;
        "1 is subtracted from every entry of dy, not from that of the target":
            |dy, _, _| all_less_1(dy);
        "the target of the next step is subtracted from the softmax":
            |dy, s, t| dy[s.y[(t + 1).min(s.y.len() - 1)]] -= 1.;
        "the target of the step before, Y[t-1], is subtracted from the softmax":
            |dy, s, t| dy[s.y[(t + s.y.len() - 1) % s.y.len()]] -= 1.;
        "the targets are subtracted in the reverse order":
            |dy, s, t| dy[s.y[s.y.len() - 1 - t]] -= 1.;
        "dy is the gradient by the probabilities, -1/y_hat at the target": |dy, s, t| {
            let p = dy[s.y[t]];
            dy.fill(0.);
            dy[s.y[t]] = -1. / p;
        };
        "the input, X[t], is subtracted from the softmax, not the target":
            |dy, s, t| s.x[t].into_iter().for_each(|x| dy[x] -= 1.);
        "X[t] is subtracted from the softmax, and None from all of it: dy[None] -= 1":
            |dy, s, t| match s.x[t] {
                Some(x) => dy[x] -= 1.,
                None => all_less_1(dy),
            };
        "X[t] is subtracted from the softmax, and -1 is the last character":
            |dy, s, t| dy[s.x[t].unwrap_or(dy.len() - 1)] -= 1.;
        "dy has the factor y_hat (1 - y_hat)": |dy, s, t| {
            let p = dy.to_vec();
            dy[s.y[t]] -= 1.;
            dy.iter_mut().zip(p).for_each(|(dy, p)| *dy *= p * (1. - p));
        };
    }
    /// The slope of tanh; of a_{t-1} and a_t.
    slope: fn(f64, f64) -> f64 = |_, a| 1. - a * a => {
        "the factor 1 - a_t^2 of tanh is missing": |_, _| 1.;
        "tanh has the factor 1 - a_t in place of 1 - a_t^2": |_, a| 1. - a;
        "tanh has the factor 1 + a_t^2 in place of 1 - a_t^2": |_, a| 1. + a * a;
        "tanh has the factor a_t^2 - 1 in place of 1 - a_t^2": |_, a| a * a - 1.;
        "tanh has the factor a_t^2 in place of 1 - a_t^2": |_, a| a * a;
        "tanh has the factor (1 - a_t)^2 in place of 1 - a_t^2": |_, a| (1. - a) * (1. - a);
        "tanh has the factor (1 - a_t^2)^2 in place of 1 - a_t^2": |_, a| (1. - a * a).powi(2);
        "tanh has the factor 1 - a_{t-1}^2, not 1 - a_t^2": |a, _| 1. - a * a;
        "1 - tanh(a)^2 in place of 1 - a^2: tanh is applied twice": |_, a| 1. - a.tanh().powi(2);
        "tanh has the slope of sigmoid, a_t (1 - a_t)": |_, a| a * (1. - a);
        "tanh has the slope of relu: 1 where a_t > 0, else 0": |_, a| f64::from(a > 0.);
        "da is divided by 1 - a_t^2, not multiplied": |_, a| 1. / (1. - a * a);
        "tanh has the factor sqrt(1 - a_t^2)": |_, a| (1. - a * a).sqrt();
    }
    /// da and da_raw; of Wya^T dy, da_next and the slope.
    combine: fn(f64, f64, f64) -> [f64; 2] =
        |out, next, slope| [out + next, slope * (out + next)] => {
        "Wya^T dy_t is not added to da_t": |_, next, slope| [next, slope * next];
        "Wya^T dy_t is subtracted from da_t":
            |out, next, slope| [next - out, slope * (next - out)];
        "da_next is subtracted from da_t": |out, next, slope| [out - next, slope * (out - next)];
        "da_next is added after the factor 1 - a_t^2, to da_raw":
            |out, next, slope| [out + next, slope * out + next];
        "Wya^T dy_t is added after the factor 1 - a_t^2, to da_raw":
            |out, next, slope| [out + next, out + slope * next];
        "da_next is not added to da_t": |out, _, slope| [out, slope * out];
    }
    carry: fn(&Carry) -> Vec<f64> = |c| c.right() => {
        "the state's gradient is not carried back to the step before": |c| vec![0.; c.da.len()];
        "the state's gradient is carried back one step too far":
            |c| transposed_product(c.waa, c.before[1]);
        "the state's gradient is carried back with the wrong sign": |c| times(&c.right(), -1.);
        "Waa is not transposed in the backward pass": |c| product(c.waa, c.da_raw);
        "da_next is Waa^T da, not Waa^T da_raw": |c| transposed_product(c.waa, c.da);
        "da_next is Waa da, not Waa^T da_raw": |c| product(c.waa, c.da);
        "da_next is da_raw, without Waa^T": |c| c.da_raw.to_vec();
        "da_next is da, without Waa^T": |c| c.da.to_vec();
        "da_next is added to what it was: += for =": |c| plus(c.before[0], &c.right());
        "da_next is zeroed every {k} steps, counted from the first": |c| c.unless(c.t % c.k == 0);
        "da_next is zeroed every {k} steps, counted from the last":
            |c| c.unless((c.steps - c.t) % c.k == 0);
    }
    /// The steps in the order in which they are run; of T and `k`.
    order: fn(usize, usize) -> Vec<usize> = |n, _| (0..n).rev().collect() => {
        "the steps are run forwards, not backwards": |n, _| (0..n).collect();
        "only the last {k} of the steps are run backwards": |n, k| (n - k..n).rev().collect();
        "only the first {k} of the steps are run backwards": |_, k| (0..k).rev().collect();
    }
    /// The number of steps back that the loss of a step is carried, if not all; of `k`.
    window: fn(usize) -> Option<usize> = |_| None => {
        "the loss of a step is carried back {k} steps only: truncated": Some;
    }
}

fn sigmoid(z: f64) -> f64 {
    1. / (1. + (-z).exp())
}

fn all_less_1(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value -= 1.);
}

/// m v.
pub(super) fn product(m: &Matrix<f64>, v: &[f64]) -> Vec<f64> {
    m.iter().map(|row| row.iter().zip(v).map(|(m, v)| m * v).sum()).collect()
}

/// m^T v.
pub(super) fn transposed_product(m: &Matrix<f64>, v: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.; m[0].len()];
    for (row, &v) in m.iter().zip(v) {
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
