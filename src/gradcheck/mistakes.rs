//! The known mistakes of a backward pass: one list, one pass that makes any of them.
//!
//! [`super::against`] computes what each gives and compares that with a reader's gradients. The tests
//! plant each and require that the check finds it by every method, in the tensors that it affects.

use super::gradients::{Gradients, Scope};
use super::problem::{Problem, Sequence};
use super::rounding::Rounding;
use crate::reference::{Matrix, rnn_forward};
use Mistake::*;

/// A mistake in one term of the equations of the module `train::bptt`, or in how the terms of the
/// steps are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
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
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Which.
    pub mistake: Mistake,
    /// What is wrong, in words.
    pub what: &'static str,
    /// The tensors whose gradients it makes wrong: for the tests and docs/gradients.md.
    #[cfg_attr(not(test), expect(dead_code))]
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
pub(super) const MISTAKES: &[Known] = &[
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
pub(super) fn planted(problem: &Problem, mistakes: &[Mistake], clip: f64) -> Gradients {
    let pass = Pass { problem, mistakes, clip };
    let mut sums = problem.shapes().map(|shape| vec![0.; shape.iter().product()]);
    let (mut loss, mut last, mut da0) = (0., vec![], vec![]);
    for (name, a0) in problem.sequences().iter().zip(problem.a0()) {
        let name = pass.forward(name, a0);
        let log_probability = |(y_hat, &y): (&Vec<f64>, &usize)| y_hat[y].ln();
        let total: f64 = name.y_hat.iter().zip(name.y).map(log_probability).sum();
        loss -= total * pass.mean(&name);
        last.extend(&name.a[name.y.len()]);
        let is_counted = last.len() == a0.len() || !pass.has(OnlyFirstName);
        da0.extend(pass.backward(&name, is_counted, &mut sums));
    }
    let [wax, waa, wya, b, by, _] = sums;
    let mut values = [wax, waa, wya, b, by, da0];
    for (values, shape) in values.iter_mut().zip(problem.shapes()).take(3) {
        if let (true, &[n, m]) = (pass.has(Transposed) && shape[0] == shape[1], &shape[..]) {
            *values = (0..n * m).map(|at| values[at % m * n + at / m]).collect();
        }
    }
    if pass.has(Sign) {
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

/// A pass with mistakes.
struct Pass<'a> {
    problem: &'a Problem,
    mistakes: &'a [Mistake],
    clip: f64,
}

/// (1) to (3) of a name, to the end of the longest one.
struct Name<'a> {
    x: Vec<Option<usize>>,
    /// The targets, without padding.
    y: &'a [usize],
    y_hat: Matrix<f64>,
    /// The first is the initial state.
    a: Matrix<f64>,
}

impl Pass<'_> {
    fn has(&self, mistake: Mistake) -> bool {
        self.mistakes.contains(&mistake)
    }

    /// The factor of the loss of a name.
    fn mean(&self, name: &Name) -> f64 {
        let mut count = 1;
        if self.has(MeanOverSteps) {
            count *= name.y.len();
        }
        if self.has(MeanOverNames) {
            count *= self.problem.sequences().len();
        }
        1. / count as f64
    }

    fn forward<'a>(&self, name: &'a Sequence, a0: &[f64]) -> Name<'a> {
        let (mut x, mut y) = (name.x.clone(), name.y.clone());
        x.resize(self.problem.sizes().steps, None);
        y.resize(x.len(), 0); // the target of a padded step does not matter here
        let zero = vec![0.; a0.len()];
        let a0 = if self.has(APrevZero) { &zero } else { a0 };
        let (_, cache) = rnn_forward(&x, &y, a0, self.problem.parameters());
        let mut y_hat = cache.y_hat;
        for y_hat in &mut y_hat {
            let largest = y_hat.iter().fold(0., |most: f64, &p| p.max(most));
            if self.has(SoftmaxNotNormalised) {
                y_hat.iter_mut().for_each(|p| *p /= largest); // exp(z - max z)
            }
            if self.has(SoftmaxAxis) {
                y_hat.fill(1.);
            }
        }
        Name { x, y: &name.y, y_hat, a: cache.a }
    }

    /// Adds the terms of a name to `sums`, or none of them. Returns the gradient of its first state.
    fn backward(&self, name: &Name, is_counted: bool, sums: &mut [Vec<f64>; 6]) -> Vec<f64> {
        let p = self.problem.parameters();
        let zero = vec![0.; p.b.len()];
        let (mut carried, mut dpre_after, mut da_after) = (zero.clone(), zero.clone(), zero);
        for t in (0..name.x.len()).rev() {
            let dz = self.dz(name, t);
            // (7), (8)
            let from_output = product(&p.wya, &dz, true);
            let from_next = product(&p.waa, &carried, !self.has(CarryWaaNotTransposed));
            let s1 = self.sign(FromOutputSign, FromOutputForgotten);
            let s2 = self.sign(CarrySign, CarryForgotten);
            let da = from_output.iter().zip(&from_next).map(|(o, n)| s1 * o + s2 * n);
            let da: Vec<f64> = da.collect();
            // (9)
            let slopes = name.a[t].iter().zip(&name.a[t + 1]).map(|(&a, &b)| self.slope(a, b));
            let dpre: Vec<f64> = slopes.zip(&da).map(|(slope, da)| slope * da).collect();
            if is_counted && !self.is_missing(t, name.y.len()) {
                self.add(name, t, [&dz, &dpre], sums);
            }
            carried = if self.has(CarryOneStepTooFar) {
                dpre_after
            } else if self.has(CarryOfDa) {
                da.clone()
            } else {
                dpre.clone()
            };
            (dpre_after, da_after) = (dpre, da);
        }
        // (10)
        let first = if self.has(Da0WithoutSlope) { da_after } else { dpre_after };
        let scale = if self.has(Da0Forgotten) { 0. } else { 1. };
        let da0 = product(&p.waa, &first, !self.has(Da0WaaNotTransposed));
        da0.iter().map(|g| scale * g).collect()
    }

    /// (5) at step `t`.
    fn dz(&self, name: &Name, t: usize) -> Vec<f64> {
        let mut dz = name.y_hat[t].clone();
        let steps = name.y.len();
        let target = if self.has(OneHotOfNextStep) && t + 1 < steps { t + 1 } else { t };
        if let (Some(&target), false) = (name.y.get(target), self.has(NoOneHot)) {
            dz[target] -= 1.;
        }
        let is_masked = t >= steps && !self.has(MaskForgotten);
        let scale = if is_masked { 0. } else { self.mean(name) };
        dz.iter_mut().for_each(|dz| *dz *= scale);
        dz
    }

    /// The factor of a term that one mistake negates and another forgets.
    fn sign(&self, wrong: Mistake, forgotten: Mistake) -> f64 {
        if self.has(forgotten) {
            0.
        } else if self.has(wrong) {
            -1.
        } else {
            1.
        }
    }

    /// The slope of tanh for a state `a_prev` and the one after it, `a`.
    fn slope(&self, a_prev: f64, a: f64) -> f64 {
        if self.has(TanhSlopeMissing) {
            1.
        } else if self.has(TanhSlopeNotSquared) {
            1. - a
        } else if self.has(TanhSlopeOfEarlierState) {
            1. - a_prev * a_prev
        } else if self.has(TanhSlopePlus) {
            1. + a * a
        } else {
            1. - a * a
        }
    }

    /// Whether step `t` of `steps` is missing in the sums.
    fn is_missing(&self, t: usize, steps: usize) -> bool {
        let (is_first, is_last) = (t == 0, t + 1 == steps);
        self.has(OnlyLastStep) && !is_last
            || self.has(OnlyFirstStep) && !is_first
            || self.has(LastStepMissing) && is_last
            || self.has(FirstStepMissing) && is_first
    }

    /// Adds the terms of step `t` to the sums of (6), (11) and (12): outer products.
    fn add(&self, name: &Name, t: usize, [dz, dpre]: [&[f64]; 2], sums: &mut [Vec<f64>; 6]) {
        let input = if self.has(DwaxOfTarget) {
            name.y.get(t).copied()
        } else if self.has(DwaxOfEarlierInput) {
            t.checked_sub(1).and_then(|t| name.x[t])
        } else if self.has(DwaxNoneIsFirstCharacter) {
            name.x[t].or(Some(0))
        } else {
            name.x[t]
        };
        let mut hot = vec![0.; dz.len()];
        input.into_iter().for_each(|input| hot[input] = 1.);
        let state = &name.a[if self.has(DwyaOfEarlierState) { t } else { t + 1 }];
        let earlier = &name.a[if self.has(DwaaOfSameState) { t + 1 } else { t }];
        let limit = |mistake| if self.has(mistake) { self.clip } else { f64::INFINITY };
        let (step, all) = (limit(ClippedSteps), limit(ClippedSums));
        let terms: [(&[f64], &[f64]); 5] =
            [(dpre, &hot), (dpre, earlier), (dz, state), (dpre, &[1.]), (dz, &[1.])];
        for (sum, (u, v)) in sums.iter_mut().zip(terms) {
            for (sums, u) in sum.chunks_exact_mut(v.len()).zip(u) {
                for (sum, v) in sums.iter_mut().zip(v) {
                    *sum = (*sum + (u * v).clamp(-step, step)).clamp(-all, all);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::{Pair, bound};
    use super::super::numeric::{STEP, central_differences, exact};
    use super::super::problem::{Sizes, TENSORS};
    use super::*;
    use crate::train::GradientMethod;
    use candle_core::{DType, Device};

    /// The clamp of the mistakes that clip, small enough that it clips some terms and all sums.
    const CLIP: f64 = 0.05;

    fn problem() -> Problem {
        Problem::random(Sizes { hidden: 7, vocabulary: 5, steps: 6, batch: 3 }, 1).unwrap()
    }

    /// The gradients of each method, exact ones and central differences, each with its bound.
    fn correct_gradients(problem: &Problem, dtype: DType) -> Vec<(Gradients, f64)> {
        let derived = |method| problem.derived(method, dtype, &Device::Cpu).unwrap();
        let mut all: Vec<_> =
            GradientMethod::ALL.map(|method| (derived(method), bound(dtype, false))).into();
        for scope in [Scope::All, Scope::Entries(problem.entries(1000, 1)), Scope::Directions(1)] {
            all.push((exact(problem, scope), bound(dtype, false)));
        }
        let entries = problem.entries(1000, 1);
        let differences = central_differences(problem, STEP, entries, &Rounding::default());
        all.push((differences, bound(dtype, true)));
        all
    }

    /// The tensors of the gradients that do not agree.
    fn disagreeing(pair: &Pair) -> Vec<&'static str> {
        pair.disagreeing().into_iter().filter(|name| TENSORS.contains(name)).collect()
    }

    #[test]
    fn the_equations_without_a_mistake_match_every_method() {
        let problem = problem();
        for (correct, bound) in correct_gradients(&problem, DType::F64) {
            let pair = Pair::of(&problem, &planted(&problem, &[], CLIP), &correct, bound);
            assert!(pair.agree, "{pair:#?}");
        }
    }

    #[test]
    fn every_method_finds_every_mistake_in_exactly_the_tensors_it_affects() {
        let problem = problem();
        for dtype in [DType::F64, DType::F32] {
            let correct = correct_gradients(&problem, dtype);
            for Known { mistake, tensors, .. } in MISTAKES {
                let wrong = planted(&problem, &[*mistake], CLIP);
                for (correct, bound) in &correct {
                    let found = disagreeing(&Pair::of(&problem, &wrong, correct, *bound));
                    assert_eq!(found, *tensors, "{mistake:?} against {}", correct.method);
                }
            }
        }
    }

    #[test]
    fn a_mistake_in_one_tensor_alone_is_found_in_it_alone() {
        let problem = problem();
        let right = planted(&problem, &[], CLIP);
        for Known { mistake, tensors, .. } in MISTAKES {
            let wrong = planted(&problem, &[*mistake], CLIP);
            for (i, name) in TENSORS.iter().enumerate().filter(|(_, name)| tensors.contains(name)) {
                let mut mixed = right.clone();
                mixed.values[i] = wrong.values[i].clone();
                let directions = exact(&problem, Scope::Directions(7));
                let found = disagreeing(&Pair::of(&problem, &mixed, &directions, 1e-12));
                assert_eq!(found, [*name], "{mistake:?}");
            }
        }
    }

    /// An error of one part in 10^11 in one entry of 2,500 is 100 times the bound of the directions.
    #[test]
    fn directions_find_an_error_in_a_single_entry() {
        let sizes = Sizes { hidden: 50, vocabulary: 5, steps: 6, batch: 2 };
        let problem = Problem::random(sizes, 3).unwrap();
        let right = planted(&problem, &[], CLIP);
        for seed in 0..20 {
            let directions = exact(&problem, Scope::Directions(seed));
            assert!(Pair::of(&problem, &right, &directions, 1e-12).agree);
            let norm = right.values[1].iter().map(|g| g * g).sum::<f64>().sqrt();
            let mut wrong = right.clone();
            wrong.values[1][1234 + seed as usize] += 1e-10 * norm;
            let found = disagreeing(&Pair::of(&problem, &wrong, &directions, 1e-12));
            assert_eq!(found, ["waa"], "{seed}");
        }
    }

    /// The table of docs/gradients.md is this one.
    #[test]
    fn the_known_mistakes_are_documented() {
        let row = |known: &Known| {
            let gradients = known.tensors.iter().map(|name| format!("`{}`", notebook(name)));
            format!("| {} | {} |\n", known.what, gradients.collect::<Vec<_>>().join(" "))
        };
        let table: String = MISTAKES.iter().map(row).collect();
        let documented = include_str!("../../docs/gradients.md").contains(&table);
        assert!(documented, "docs/gradients.md lacks the rows\n{table}");
    }

    /// The notebook's name of the gradient of a tensor.
    fn notebook(tensor: &str) -> String {
        match tensor {
            "a0" => "da_next".to_string(),
            "wax" | "waa" | "wya" => format!("dW{}", &tensor[1..]),
            bias => format!("d{bias}"),
        }
    }
}
