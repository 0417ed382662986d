//! The known mistakes of a backward pass: one list, one pass that makes any of them.
//!
//! [`prove`] plants each and reports the tensors by which the check finds it; [`super::against`]
//! computes what each gives and compares that with a reader's gradients.

use super::compare::{Pair, bound};
use super::gradients::{Gradients, Scope};
use super::numeric::{STEP, central_differences, default_entries, exact, is_small};
use super::problem::{Problem, Sequence};
use super::rounding::Rounding;
use crate::error::Result;
use crate::reference::{Matrix, rnn_forward};
use crate::train::GradientMethod;
use Mistake::*;
use candle_core::{DType, Device};
use serde::Serialize;

/// A mistake in one term of the equations of the module `train::bptt`, or in how the terms of the
/// steps are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // MISTAKES has the descriptions
pub enum Mistake {
    NoOneHot,
    OneHotOfNextStep,
    SoftmaxNotNormalised,
    SoftmaxAxis,
    MeanOverSteps,
    MeanOverNames,
    MaskForgotten,
    APrevZero,
    DwyaOfEarlierState,
    FromOutputForgotten,
    FromOutputSign,
    CarryForgotten,
    CarryOneStepTooFar,
    CarrySign,
    CarryWaaNotTransposed,
    CarryOfDa,
    TanhSlopeMissing,
    TanhSlopeNotSquared,
    TanhSlopeOfEarlierState,
    TanhSlopePlus,
    Da0Forgotten,
    Da0WaaNotTransposed,
    Da0WithoutSlope,
    DwaaOfSameState,
    DwaxOfTarget,
    DwaxOfEarlierInput,
    DwaxNoneIsFirstCharacter,
    Sign,
    Transposed,
    OnlyLastStep,
    OnlyFirstStep,
    LastStepMissing,
    FirstStepMissing,
    OnlyFirstName,
    ClippedSteps,
    ClippedSums,
}

/// A mistake of the list.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Known {
    /// Which.
    pub mistake: Mistake,
    /// What is wrong, in words.
    pub what: &'static str,
    /// The tensors whose gradients it makes wrong.
    pub tensors: &'static [&'static str],
}

const ALL: &[&str] = &["wax", "waa", "wya", "b", "by", "a0"];
/// All that depend on the gradient of the hidden state.
const HIDDEN: &[&str] = &["wax", "waa", "b", "a0"];
/// Those that are sums over the steps.
const SUMS: &[&str] = &["wax", "waa", "wya", "b", "by"];
/// The sums whose first term is not zero: x_1 is.
const FROM_FIRST: &[&str] = &["waa", "wya", "b", "by"];

const fn known(mistake: Mistake, what: &'static str, tensors: &'static [&'static str]) -> Known {
    Known { mistake, what, tensors }
}

/// The known mistakes. Those from `Sign` on are made in each tensor by itself.
pub const MISTAKES: &[Known] = &[
    known(NoOneHot, "the one-hot target is not subtracted from the softmax", ALL),
    known(OneHotOfNextStep, "the target of the next step is subtracted from the softmax", ALL),
    known(SoftmaxNotNormalised, "the softmax is not divided by its sum", ALL),
    known(SoftmaxAxis, "the softmax is over the wrong axis: each probability is 1", ALL),
    known(MeanOverSteps, "the mean over the steps in place of the sum", ALL),
    known(MeanOverNames, "the mean over the names in place of the sum", ALL),
    known(MaskForgotten, "padded steps are not masked", ALL),
    known(APrevZero, "a_prev is taken as zero", ALL),
    known(DwyaOfEarlierState, "dWya has a_{t-1} in place of a_t", &["wya"]),
    known(FromOutputForgotten, "Wya^T dy_t is not added to da_t", HIDDEN),
    known(FromOutputSign, "Wya^T dy_t is subtracted from da_t", HIDDEN),
    known(CarryForgotten, "the state's gradient is not carried back to the step before", HIDDEN),
    known(CarryOneStepTooFar, "the state's gradient is carried back one step too far", HIDDEN),
    known(CarrySign, "the state's gradient is carried back with the wrong sign", HIDDEN),
    known(CarryWaaNotTransposed, "Waa is not transposed in the backward pass", HIDDEN),
    known(CarryOfDa, "da_t is carried back before the factor 1 - a_t^2", HIDDEN),
    known(TanhSlopeMissing, "the factor 1 - a_t^2 of tanh is missing", HIDDEN),
    known(TanhSlopeNotSquared, "tanh has the factor 1 - a_t in place of 1 - a_t^2", HIDDEN),
    known(TanhSlopeOfEarlierState, "tanh has the factor 1 - a_{t-1}^2, not 1 - a_t^2", HIDDEN),
    known(TanhSlopePlus, "tanh has the factor 1 + a_t^2 in place of 1 - a_t^2", HIDDEN),
    known(Da0Forgotten, "the gradient of a_prev is zero", &["a0"]),
    known(Da0WaaNotTransposed, "Waa is not transposed in the gradient of a_prev", &["a0"]),
    known(Da0WithoutSlope, "the gradient of a_prev lacks the factor 1 - a_1^2", &["a0"]),
    known(DwaaOfSameState, "dWaa has a_t in place of a_{t-1}", &["waa"]),
    known(DwaxOfTarget, "dWax has x_{t+1} in place of x_t", &["wax"]),
    known(DwaxOfEarlierInput, "dWax has x_{t-1} in place of x_t", &["wax"]),
    known(DwaxNoneIsFirstCharacter, "dWax takes None as the character of index 0", &["wax"]),
    known(Sign, "the sign is wrong", ALL),
    known(Transposed, "the array is transposed", &["waa"]), // and wax, wya, where they are square
    known(OnlyLastStep, "only the last step contributes", SUMS),
    known(OnlyFirstStep, "only the first step contributes: = in place of +=", SUMS),
    known(LastStepMissing, "the last step is missing in the sum", SUMS),
    known(FirstStepMissing, "the first step is missing in the sum", FROM_FIRST),
    known(OnlyFirstName, "only the first name contributes", SUMS),
    known(ClippedSteps, "the gradient of each step is clipped before the sum", SUMS),
    known(ClippedSums, "the sum is clipped within the loop, after each step", SUMS),
];

/// `m v`, or `m^T v` if `transposed`.
fn product(m: &Matrix<f64>, v: &[f64], transposed: bool) -> Vec<f64> {
    let at = |i: usize, j: usize| if transposed { m[j][i] } else { m[i][j] };
    let rows = if transposed { m[0].len() } else { m.len() };
    (0..rows).map(|i| (0..v.len()).map(|j| at(i, j) * v[j]).sum()).collect()
}

/// The backward pass name by name and step by step, with these mistakes in it; padded steps are
/// run too, as the gradient methods run them. `clip` is for the mistakes that clip. Without a
/// mistake it is [`crate::reference::rnn_backward`] written as the equations are.
pub fn planted(problem: &Problem, mistakes: &[Mistake], clip: f64) -> Gradients {
    let has = |mistake| mistakes.contains(&mistake);
    let names = problem.sequences();
    let padded = problem.sizes().steps;
    let mut sums = problem.shapes().map(|shape| vec![0.; shape.iter().product()]);
    let (mut loss, mut last, mut da0) = (0., vec![], vec![]);
    for (i, (name, a0)) in names.iter().zip(problem.a0()).enumerate() {
        let (name, x, y_hat, a) = forward(problem, name, a0, &has);
        let steps = name.y.len();
        let mean = match () {
            () if has(MeanOverSteps) => 1. / steps as f64,
            () if has(MeanOverNames) => 1. / names.len() as f64,
            () => 1.,
        };
        loss -= (0..steps).map(|t| y_hat[t][name.y[t]].ln()).sum::<f64>() * mean;
        last.extend(&a[steps]);
        let p = problem.parameters();
        let zero = vec![0.; p.b.len()];
        let (mut carried, mut dpre_after, mut da_after) = (zero.clone(), zero.clone(), zero);
        for t in (0..padded).rev() {
            // (5)
            let mut dz = y_hat[t].clone();
            let target = if has(OneHotOfNextStep) && t + 1 < steps { t + 1 } else { t };
            if let (Some(&target), false) = (name.y.get(target), has(NoOneHot)) {
                dz[target] -= 1.;
            }
            let is_masked = t >= steps && !has(MaskForgotten);
            dz.iter_mut().for_each(|dz| *dz *= if is_masked { 0. } else { mean });
            // (7), (8)
            let from_output = product(&p.wya, &dz, true);
            let from_next = product(&p.waa, &carried, !has(CarryWaaNotTransposed));
            let sign = |wrong, missing| match () {
                () if has(missing) => 0.,
                () if has(wrong) => -1.,
                () => 1.,
            };
            let (s1, s2) =
                (sign(FromOutputSign, FromOutputForgotten), sign(CarrySign, CarryForgotten));
            let da = from_output.iter().zip(&from_next).map(|(o, n)| s1 * o + s2 * n);
            let da: Vec<f64> = da.collect();
            // (9)
            let slope = |r: usize| match () {
                () if has(TanhSlopeMissing) => 1.,
                () if has(TanhSlopeNotSquared) => 1. - a[t + 1][r],
                () if has(TanhSlopeOfEarlierState) => 1. - a[t][r] * a[t][r],
                () if has(TanhSlopePlus) => 1. + a[t + 1][r] * a[t + 1][r],
                () => 1. - a[t + 1][r] * a[t + 1][r],
            };
            let dpre: Vec<f64> = da.iter().enumerate().map(|(r, da)| slope(r) * da).collect();
            // (6), (11), (12): the terms of the sums, as outer products.
            let input = match () {
                () if has(DwaxOfTarget) => name.y.get(t).copied(),
                () if has(DwaxOfEarlierInput) => t.checked_sub(1).and_then(|t| x[t]),
                () if has(DwaxNoneIsFirstCharacter) => x[t].or(Some(0)),
                () => x[t],
            };
            let mut hot = vec![0.; p.by.len()];
            input.into_iter().for_each(|input| hot[input] = 1.);
            let state = if has(DwyaOfEarlierState) { &a[t] } else { &a[t + 1] };
            let earlier = if has(DwaaOfSameState) { &a[t + 1] } else { &a[t] };
            let (is_first, is_last) = (t == 0, t + 1 == steps);
            let is_missing = has(OnlyLastStep) && !is_last
                || has(OnlyFirstStep) && !is_first
                || has(LastStepMissing) && is_last
                || has(FirstStepMissing) && is_first
                || has(OnlyFirstName) && i > 0;
            let terms: [(&[f64], &[f64]); 5] =
                [(&dpre, &hot), (&dpre, earlier), (&dz, state), (&dpre, &[1.]), (&dz, &[1.])];
            for (sum, (u, v)) in sums.iter_mut().zip(terms) {
                for (sums, u) in sum.chunks_exact_mut(v.len()).zip(u) {
                    for (sum, v) in sums.iter_mut().zip(v) {
                        let term = if is_missing { 0. } else { u * v };
                        let bounds = |mistake| if has(mistake) { clip } else { f64::INFINITY };
                        let (step, all) = (bounds(ClippedSteps), bounds(ClippedSums));
                        *sum = (*sum + term.clamp(-step, step)).clamp(-all, all);
                    }
                }
            }
            carried = match () {
                () if has(CarryOneStepTooFar) => dpre_after,
                () if has(CarryOfDa) => da.clone(),
                () => dpre.clone(),
            };
            (dpre_after, da_after) = (dpre, da);
        }
        // (10)
        let first = if has(Da0WithoutSlope) { da_after } else { dpre_after };
        let scale = if has(Da0Forgotten) { 0. } else { 1. };
        let gradient = product(&p.waa, &first, !has(Da0WaaNotTransposed));
        da0.extend(gradient.iter().map(|g| scale * g));
    }
    let [wax, waa, wya, b, by, _] = sums;
    let mut values = [wax, waa, wya, b, by, da0];
    for (values, shape) in values.iter_mut().zip(problem.shapes()).take(3) {
        if let (true, &[n, m]) = (has(Transposed) && shape[0] == shape[1], &shape[..]) {
            *values = (0..n * m).map(|at| values[at % m * n + at / m]).collect();
        }
    }
    if has(Sign) {
        values.iter_mut().flatten().for_each(|value| *value = -*value);
    }
    Gradients {
        method: mistakes.iter().map(|mistake| format!("{mistake:?}")).collect(),
        values,
        loss: Some(loss),
        last: Some(last),
        scope: Scope::All,
        rounding: Rounding::default(),
    }
}

/// (1) to (3) to the end of the longest name: the name, its padded inputs, probabilities by step,
/// and states, of which the first is the initial one.
#[allow(clippy::type_complexity)]
fn forward<'a>(
    problem: &Problem,
    name: &'a Sequence,
    a0: &[f64],
    has: &impl Fn(Mistake) -> bool,
) -> (&'a Sequence, Vec<Option<usize>>, Matrix<f64>, Matrix<f64>) {
    let (mut x, mut y) = (name.x.clone(), name.y.clone());
    x.resize(problem.sizes().steps, None);
    y.resize(x.len(), 0); // the target of a padded step does not matter here
    let zero = vec![0.; a0.len()];
    let a0 = if has(APrevZero) { &zero } else { a0 };
    let (_, cache) = rnn_forward(&x, &y, a0, problem.parameters());
    let mut y_hat = cache.y_hat;
    for y_hat in &mut y_hat {
        let largest = y_hat.iter().fold(0., |most: f64, &p| p.max(most));
        if has(SoftmaxNotNormalised) {
            y_hat.iter_mut().for_each(|p| *p /= largest); // exp(z - max z)
        }
        if has(SoftmaxAxis) {
            y_hat.fill(1.);
        }
    }
    (name, x, y_hat, cache.a)
}

/// A mistake and what the check says of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planted {
    /// The mistake.
    #[serde(flatten)]
    pub known: Known,
    /// The tensors by which the check finds it, against exact derivatives: `loss` and `a_last` too.
    pub found: Vec<&'static str>,
    /// The methods that do not find it in the same gradients.
    pub missed_by: Vec<String>,
    /// Whether the mistake changes any gradient of this problem: that of a mean over one name does
    /// not.
    pub has_effect: bool,
    /// Whether the check finds it, by every method, if there is anything to find.
    pub agree: bool,
}

/// Plants each of [`MISTAKES`] in turn and compares the result with the correct methods.
///
/// # Errors
/// If a method fails.
pub fn prove(problem: &Problem) -> Result<Vec<Planted>> {
    let [rounding, _] = Rounding::of(problem);
    let entries = problem.entries(default_entries(problem.sizes(), 2), 1);
    let mut correct = vec![
        exact(problem, Scope::Directions(1)),
        problem.derived(GradientMethod::Unrolled, DType::F64, &Device::Cpu)?,
        problem.derived(GradientMethod::Hand, DType::F64, &Device::Cpu)?,
        central_differences(problem, STEP, entries, &rounding),
    ];
    if is_small(problem) {
        correct.insert(0, exact(problem, Scope::All));
    }
    let right = planted(problem, &[], f64::INFINITY);
    // Small enough that it clips some terms and all sums.
    let clip = 0.05;
    let compare = |known: &Known| {
        let wrong = Gradients { rounding, ..planted(problem, &[known.mistake], clip) };
        let compare = |correct: &Gradients| {
            let is_differences = matches!(correct.scope, Scope::Entries(_));
            Pair::of(problem, &wrong, correct, bound(DType::F64, is_differences)).disagreeing()
        };
        let gradients = |found: &[&'static str]| {
            found.iter().copied().filter(|name| ALL.contains(name)).collect::<Vec<_>>()
        };
        let found = compare(&correct[0]);
        let missed_by: Vec<String> = correct
            .iter()
            .filter(|correct| gradients(&compare(correct)) != gradients(&found))
            .map(|correct| correct.method.clone())
            .collect();
        let has_effect = !compare(&right).is_empty();
        let agree = missed_by.is_empty() && found.is_empty() != has_effect;
        Planted { known: *known, found, missed_by, has_effect, agree }
    };
    Ok(MISTAKES.iter().map(compare).collect())
}
