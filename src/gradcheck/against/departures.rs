//! The known mistakes of one array, made in its sum over the steps.

use super::choices::{one_hot, product, transposed_product};
use super::pass::Steps;

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
        let (y, n) = (&s.problem.sequences[0].y, s.x[0].len());
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
        s.da_next = product(&s.problem.parameters.waa, &s.da_raw[0]);
    }),
    a(&[5], "da_next is Waa^T da, not Waa^T da_raw, at the first step", |s| {
        s.da_next = transposed_product(&s.problem.parameters.waa, &s.da[0]);
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
    let inputs = s.x.iter_mut().zip(&s.problem.sequences[0].x);
    inputs.filter(|(_, x)| x.is_none()).for_each(|(found, _)| *found = x(n));
}
