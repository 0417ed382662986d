//! The known mistakes, a line each: departures from the notebook's passes, and from the sums of one
//! array.

use super::pass::{Choices, Steps, mix, one_hot, plus, times};
use crate::reference::softmax;

/// A mistake of the passes. Of those with the same subject only one is made at a time.
pub(super) struct Departure {
    pub subject: &'static str,
    /// What is wrong; `{k}` stands for [`Choices::k`].
    pub what: &'static str,
    pub change: fn(&mut Choices),
}

const fn d(subject: &'static str, what: &'static str, change: fn(&mut Choices)) -> Departure {
    Departure { subject, what, change }
}

pub(super) const DEPARTURES: &[Departure] = &[
    d("b", "b is forgotten in the forward pass", |c| c.biases[0] = 0.),
    d("by", "by is forgotten in the forward pass", |c| c.biases[1] = 0.),
    d("forward", "Waa is transposed in the forward pass", |c| c.forward_waa = |[waa, _]| Some(waa)),
    d("forward", "Waa a_{t-1} is forgotten in the forward pass", |c| c.forward_waa = |_| None),
    d("earlier", "a_prev is taken as zero", |c| c.earlier = |t| (t > 0).then_some(t)),
    d("earlier", "every step reads a_prev, not the state before it", |c| c.earlier = |_| Some(0)),
    d("tanh", "relu in place of tanh in the forward pass", |c| c.activation = |z| z.max(0.)),
    d("tanh", "sigmoid in place of tanh in the forward pass", |c| {
        c.activation = |z| 1. / (1. + (-z).exp());
    }),
    d("tanh", "tanh is forgotten in the forward pass", |c| c.activation = |z| z),
    d("x", "x_t is the target, Y[t], in the forward pass", |c| {
        c.input = |s, t, n| one_hot(Some(s.y[t]), n);
    }),
    d("x", "x_t is x_{t-1} in the forward pass", |c| {
        c.input = |s, t, n| one_hot(t.checked_sub(1).and_then(|t| s.x[t]), n);
    }),
    d("x", "None is taken as the character of index 0", |c| {
        c.input = |s, t, n| one_hot(s.x[t].or(Some(0)), n);
    }),
    d("x", "None is taken as the last character: x[-1] = 1", |c| {
        c.input = |s, t, n| one_hot(s.x[t].or(Some(n - 1)), n);
    }),
    d("x", "None sets all of x: x[None] = 1", |c| {
        c.input = |s, t, n| s.x[t].map_or(vec![1.; n], |x| one_hot(Some(x), n));
    }),
    d("x", "x_t is zero at each step of the forward pass", |c| c.input = |_, _, n| vec![0.; n]),
    d("output", "the logits are made of a_{t-1}", |c| c.output_of = |t| t),
    d("softmax", "y_hat is exp(z - max z), not divided by its sum", |c| {
        c.softmax = |z| {
            let max = z.iter().copied().fold(f64::MIN, f64::max);
            z.iter().map(|z| (z - max).exp()).collect()
        };
    }),
    d("softmax", "y_hat is exp(z), not divided by its sum", |c| {
        c.softmax = |z| z.iter().map(|z| z.exp()).collect();
    }),
    d("softmax", "softmax is applied twice", |c| c.softmax = |z| softmax(&softmax(z))),
    d("softmax", "the softmax is over the wrong axis: each probability is 1", |c| {
        c.softmax = |z| vec![1.; z.len()];
    }),
    d("softmax", "sigmoid in place of softmax", |c| {
        c.softmax = |z| z.iter().map(|z| 1. / (1. + (-z).exp())).collect();
    }),
    d("dy", "the one-hot target is not subtracted from the softmax", |c| c.dy = |_, _, _| {}),
    d("dy", "the one-hot target is added to the softmax, not subtracted", |c| {
        c.dy = |dy, s, t| dy[s.y[t]] += 1.;
    }),
    d("dy", "the target is subtracted twice: y_hat was changed in place", |c| {
        c.dy = |dy, s, t| dy[s.y[t]] -= 2.;
    }),
    d("dy", "1 is subtracted from every entry of dy, not from that of the target", |c| {
        c.dy = |dy, _, _| dy.iter_mut().for_each(|dy| *dy -= 1.);
    }),
    d("dy", "the target of the next step is subtracted from the softmax", |c| {
        c.dy = |dy, s, t| dy[s.y[(t + 1).min(s.y.len() - 1)]] -= 1.;
    }),
    d("dy", "the target of the step before, Y[t-1], is subtracted from the softmax", |c| {
        c.dy = |dy, s, t| dy[s.y[(t + s.y.len() - 1) % s.y.len()]] -= 1.;
    }),
    d("dy", "the targets are subtracted in the reverse order", |c| {
        c.dy = |dy, s, t| dy[s.y[s.y.len() - 1 - t]] -= 1.;
    }),
    d("dy", "dy is the gradient by the probabilities, -1/y_hat at the target", |c| {
        c.dy = |dy, s, t| {
            let p = dy[s.y[t]];
            dy.fill(0.);
            dy[s.y[t]] = -1. / p;
        };
    }),
    d("dy", "the input, X[t], is subtracted from the softmax, not the target", |c| {
        c.dy = |dy, s, t| s.x[t].into_iter().for_each(|x| dy[x] -= 1.);
    }),
    d("dy", "X[t] is subtracted from the softmax, and None from all of it: dy[None] -= 1", |c| {
        c.dy = |dy, s, t| match s.x[t] {
            Some(x) => dy[x] -= 1.,
            None => dy.iter_mut().for_each(|dy| *dy -= 1.),
        };
    }),
    d("dy", "X[t] is subtracted from the softmax, and -1 is the last character", |c| {
        c.dy = |dy, s, t| dy[s.x[t].unwrap_or(dy.len() - 1)] -= 1.;
    }),
    d("dy", "dy has the factor y_hat (1 - y_hat)", |c| {
        c.dy = |dy, s, t| {
            let p = dy.to_vec();
            dy[s.y[t]] -= 1.;
            dy.iter_mut().zip(p).for_each(|(dy, p)| *dy *= p * (1. - p));
        };
    }),
    d("slope", "the factor 1 - a_t^2 of tanh is missing", |c| c.slope = |_, _| 1.),
    d("slope", "tanh has the factor 1 - a_t in place of 1 - a_t^2", |c| c.slope = |_, a| 1. - a),
    d("slope", "tanh has the factor 1 + a_t^2 in place of 1 - a_t^2", |c| {
        c.slope = |_, a| 1. + a * a
    }),
    d("slope", "tanh has the factor a_t^2 - 1 in place of 1 - a_t^2", |c| {
        c.slope = |_, a| a * a - 1.
    }),
    d("slope", "tanh has the factor a_t^2 in place of 1 - a_t^2", |c| c.slope = |_, a| a * a),
    d("slope", "tanh has the factor (1 - a_t)^2 in place of 1 - a_t^2", |c| {
        c.slope = |_, a| (1. - a) * (1. - a);
    }),
    d("slope", "tanh has the factor (1 - a_t^2)^2 in place of 1 - a_t^2", |c| {
        c.slope = |_, a| (1. - a * a) * (1. - a * a);
    }),
    d("slope", "tanh has the factor 1 - a_{t-1}^2, not 1 - a_t^2", |c| c.slope = |a, _| 1. - a * a),
    d("slope", "1 - tanh(a)^2 in place of 1 - a^2: tanh is applied twice", |c| {
        c.slope = |_, a| 1. - a.tanh() * a.tanh();
    }),
    d("slope", "tanh has the slope of sigmoid, a_t (1 - a_t)", |c| c.slope = |_, a| a * (1. - a)),
    d("slope", "tanh has the slope of relu: 1 where a_t > 0, else 0", |c| {
        c.slope = |_, a| f64::from(a > 0.);
    }),
    d("slope", "da is divided by 1 - a_t^2, not multiplied", |c| {
        c.slope = |_, a| 1. / (1. - a * a)
    }),
    d("slope", "tanh has the factor sqrt(1 - a_t^2)", |c| c.slope = |_, a| (1. - a * a).sqrt()),
    d("da", "Wya^T dy_t is not added to da_t", |c| {
        c.combine = |_, next, slope| [next, slope * next]
    }),
    d("da", "Wya^T dy_t is subtracted from da_t", |c| {
        c.combine = |out, next, slope| [next - out, slope * (next - out)];
    }),
    d("da", "da_next is subtracted from da_t", |c| {
        c.combine = |out, next, slope| [out - next, slope * (out - next)];
    }),
    d("da", "da_next is added after the factor 1 - a_t^2, to da_raw", |c| {
        c.combine = |out, next, slope| [out + next, slope * out + next];
    }),
    d("da", "Wya^T dy_t is added after the factor 1 - a_t^2, to da_raw", |c| {
        c.combine = |out, next, slope| [out + next, out + slope * next];
    }),
    d("da", "da_next is not added to da_t", |c| c.combine = |out, _, slope| [out, slope * out]),
    d("out", "Wya is not transposed in the backward pass", |c| {
        c.backward_wya = |[wya, wya_t]| if wya.len() == wya_t.len() { wya_t } else { wya };
    }),
    d("carry", "the state's gradient is not carried back to the step before", |c| {
        c.carry = |c| vec![0.; c.da.len()];
    }),
    d("carry", "the state's gradient is carried back one step too far", |c| {
        c.carry = |c| mix(c.waa[0], c.before[1]);
    }),
    d("carry", "the state's gradient is carried back with the wrong sign", |c| {
        c.carry = |c| times(&mix(c.waa[0], c.da_raw), -1.);
    }),
    d("carry", "Waa is not transposed in the backward pass", |c| {
        c.carry = |c| mix(c.waa[1], c.da_raw)
    }),
    d("carry", "da_next is Waa^T da, not Waa^T da_raw", |c| c.carry = |c| mix(c.waa[0], c.da)),
    d("carry", "da_next is Waa da, not Waa^T da_raw", |c| c.carry = |c| mix(c.waa[1], c.da)),
    d("carry", "da_next is da_raw, without Waa^T", |c| c.carry = |c| c.da_raw.to_vec()),
    d("carry", "da_next is da, without Waa^T", |c| c.carry = |c| c.da.to_vec()),
    d("carry", "da_next is added to what it was: += for =", |c| {
        c.carry = |c| plus(c.before[0], &mix(c.waa[0], c.da_raw));
    }),
    d("loop", "the steps are run forwards, not backwards", |c| c.order = |n, _| (0..n).collect()),
];

/// Those with a number of steps, from 1 on.
pub(super) const COUNTED: &[Departure] = &[
    d("loop", "only the last {k} of the steps are run backwards", |c| {
        c.order = |n, k| (n - k..n).rev().collect();
    }),
    d("loop", "only the first {k} of the steps are run backwards", |c| {
        c.order = |_, k| (0..k).rev().collect();
    }),
    d("loop", "da_next is zeroed every {k} steps, counted from the first", |c| {
        c.is_cut = |t, _, k| (t + 1) % k == 0;
    }),
    d("loop", "da_next is zeroed every {k} steps, counted from the last", |c| {
        c.is_cut = |t, n, k| (n - 1 - t) % k == 0;
    }),
    d("loop", "the loss of a step is carried back {k} steps only: truncated", |c| c.window = Some),
];

/// A mistake of one array.
pub(super) struct ArrayDeparture {
    /// The arrays in which it is made, by their index.
    pub arrays: &'static [usize],
    pub what: &'static str,
    pub change: fn(&mut Steps),
}

const fn a(arrays: &'static [usize], what: &'static str, change: fn(&mut Steps)) -> ArrayDeparture {
    ArrayDeparture { arrays, what, change }
}

const SUMS: &[usize] = &[0, 1, 2, 3, 4];

pub(super) const ARRAY_DEPARTURES: &[ArrayDeparture] = &[
    a(SUMS, "assigned where it should be added to: = for +=", |s| {
        s.order.drain(..s.order.len() - 1);
    }),
    a(SUMS, "only the last step contributes", |s| s.order.truncate(1)),
    a(SUMS, "the last step is missing in the sum", |s| _ = s.order.remove(0)),
    a(SUMS, "the first step is missing in the sum", |s| _ = s.order.pop()),
    a(&[0], "dWax has x_{t+1}, the target, in place of x_t", |s| {
        let (y, n) = (&s.pass.sequence.y, s.x[0].len());
        s.x = y.iter().map(|&y| one_hot(Some(y), n)).collect();
    }),
    a(&[0], "dWax has x_{t-1} in place of x_t", |s| s.x.insert(0, one_hot(None, s.x[0].len()))),
    a(&[0], "dWax takes None as the character of index 0", |s| none_is(s, |n| one_hot(Some(0), n))),
    a(&[0], "dWax takes None as the last character: x[-1] = 1", |s| {
        none_is(s, |n| one_hot(Some(n - 1), n));
    }),
    a(&[0], "dWax takes None as all characters: x[None] = 1", |s| none_is(s, |n| vec![1.; n])),
    a(&[0, 1, 3], "it has da in place of da_raw", |s| s.da_raw = s.da.clone()),
    a(&[1], "dWaa has a_t in place of a_{t-1}", |s| drop(s.a.remove(0))),
    a(&[1], "dWaa has a_prev in place of a_{t-1}", |s| {
        let first = s.a[0].clone();
        s.a.fill(first);
    }),
    a(&[1], "dWaa has the last state in place of a_prev: a[-1] of a list", |s| {
        s.a[0] = s.a[s.a.len() - 1].clone();
    }),
    a(&[1], "dWaa has zeros in place of a_prev", |s| s.a[0].fill(0.)),
    a(&[2], "dWya has a_{t-1} in place of a_t", |s| s.a.insert(0, vec![])),
    a(&[2], "dWya has the last state in place of a_t", |s| {
        let last = s.a[s.a.len() - 1].clone();
        s.a.fill(last);
    }),
    a(&[2, 4], "it has y_hat in place of dy", |s| s.dy = s.y_hat.clone()),
    a(&[5], "Waa is not transposed in the gradient of a_prev", |s| {
        s.da_next = mix(&s.pass.waa_t, &s.da_raw[0]);
    }),
    a(&[5], "da_next is Waa^T da, not Waa^T da_raw, at the first step", |s| {
        s.da_next = mix(&s.pass.problem.parameters().waa, &s.da[0]);
    }),
    a(&[5], "da_next is da of the first step", |s| s.da_next = s.da[0].clone()),
    a(&[5], "da_next is da_raw of the first step", |s| s.da_next = s.da_raw[0].clone()),
    a(&[6], "the loss is that of the last step: = for +=", |s| {
        s.losses.drain(..s.losses.len() - 1);
    }),
    a(&[6], "the loss of the last step is missing", |s| _ = s.losses.pop()),
    a(&[6], "the loss of the first step is missing", |s| _ = s.losses.remove(0)),
    a(&[6], "the loss is that of the first step", |s| s.losses.truncate(1)),
    a(&[7], "a_last is a[-1], which is a_prev", |s| s.a.truncate(1)),
    a(&[7], "a_last is the state before the last", |s| drop(s.a.pop())),
    a(&[7], "a_last is the first state, a[0]", |s| s.a.truncate(2)),
];

/// Where X has None.
fn none_is(s: &mut Steps, x: fn(usize) -> Vec<f64>) {
    let n = s.x[0].len();
    let inputs = s.x.iter_mut().zip(&s.pass.sequence.x);
    inputs.filter(|(_, x)| x.is_none()).for_each(|(found, _)| *found = x(n));
}
