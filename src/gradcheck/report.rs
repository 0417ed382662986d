//! The checks: all methods against each other, and the error of differences by step size.

use super::compare::{Pair, bound};
use super::gradients::{Gradients, Scope};
use super::numeric::{
    DIFFERENCES, DIRECTIONS, EXACT, STEP, Taylor, central_differences, default_entries, exact,
    is_small,
};
use super::ops::{OpComparison, compare_ops};
use super::problem::{Problem, Sizes, TENSORS};
use super::rounding::Rounding;
use crate::error::{Error, Result};
use crate::train::GradientMethod;
use candle_core::{DType, Device, DeviceLocation};
use serde::Serialize;
use std::array::from_fn;

/// The step sizes of [`step_sizes`] in half decades: 1 to 1e-12.
const HALF_DECADES: std::ops::RangeInclusive<i32> = 0..=24;

/// The options of a check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The most entries of each tensor whose derivatives are taken one by one, at least 1; by
    /// default 200 differences, or fewer for a large network, and all exact derivatives of a small
    /// one.
    pub entries: Option<usize>,
    /// Selects the entries if not all are taken.
    pub seed: u64,
}

impl Options {
    fn entries(&self, default: usize) -> Result<usize> {
        match self.entries {
            Some(0) => Err(Error::setting("entries", 0, "it must be at least 1")),
            entries => Ok(entries.unwrap_or(default)),
        }
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The number type of the derived gradients: `f32` or `f64`.
    pub dtype: &'static str,
    /// Their device.
    pub device: String,
    /// The sizes of the problem.
    pub sizes: Sizes,
    /// The step of the central differences.
    pub step: f64,
    /// Each method with each other.
    pub pairs: Vec<Pair>,
    /// For each method the slope of its Taylor remainders; none in f32, whose rounding hides it.
    pub taylor: Vec<TaylorSlopes>,
    /// `autograd` and `unrolled` for each op alone.
    pub ops: Vec<OpComparison>,
    /// The methods that do not repeat their results bit for bit.
    pub unrepeatable: Vec<GradientMethod>,
    /// Whether every comparison is within its bound, and every method repeats its results.
    pub agree: bool,
}

/// The slopes of the Taylor remainders |L(w + h v) - L(w) - h <g, v>| over halved steps h, along
/// random vectors v through all entries of a tensor: 2 if the gradient g is right, 1 if not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaylorSlopes {
    /// The method of g.
    pub method: String,
    /// For each of [`TENSORS`]; `None` where the remainders are as small as the rounding of the
    /// loss.
    pub slopes: [Option<f64>; 6],
    /// Whether they are 2 within 0.1.
    pub agree: bool,
}

/// The result of a check with the gradients that it compared.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The result.
    pub report: Report,
    /// By method, in the order of the pairs.
    pub gradients: Vec<Gradients>,
}

/// Computes loss, last states and gradients of `problem`, rounded to `dtype`, by every method,
/// exactly, and by central differences, and compares each with each.
///
/// # Errors
/// [`Error::Setting`] for zero `entries`; else if `dtype` is neither `F32` nor `F64`, or the
/// device fails.
pub fn check(
    problem: &Problem,
    dtype: DType,
    device: &Device,
    options: &Options,
) -> Result<Checked> {
    let problem = problem.rounded(dtype);
    let sizes = problem.sizes();
    let entries = options.entries(default_entries(sizes, 2))?;
    let [in_f64, in_f32] = Rounding::of(&problem);
    let rounding = if dtype == DType::F64 { in_f64 } else { in_f32 };
    let (mut gradients, mut unrepeatable) = (Vec::new(), Vec::new());
    for method in GradientMethod::ALL {
        let [first, again] = [(); 2].map(|()| problem.derived(method, dtype, device));
        let first = Gradients { rounding, ..first? };
        if !first.is_identical(&again?) {
            unrepeatable.push(method);
        }
        gradients.push(first);
    }
    let derived = gradients.len();
    let entries = problem.entries(entries, options.seed);
    let is_complete = options.entries.is_none() && is_small(&problem);
    let scope = if is_complete { Scope::All } else { Scope::Entries(entries.clone()) };
    for scope in [scope, Scope::Directions(options.seed)] {
        gradients.push(Gradients { rounding: in_f64, ..exact(&problem, scope) });
    }
    gradients.push(central_differences(&problem, STEP, entries, &in_f64));

    let mut pairs = Vec::new();
    for (i, second) in gradients.iter().enumerate() {
        for first in &gradients[..i] {
            // Directions are derivatives of exact, and are not entries.
            if first.method == DIRECTIONS || [&first.method, &second.method] == [EXACT, DIRECTIONS]
            {
                continue;
            }
            let bound = bound(dtype, second.method == DIFFERENCES);
            pairs.push(Pair::of(&problem, first, second, bound));
        }
    }
    let mut taylor = Vec::new();
    if dtype == DType::F64 {
        let mut remainders = Taylor::new(&problem, &in_f64, options.seed);
        for Gradients { method, values, .. } in &gradients[..derived] {
            let slopes = from_fn(|index| remainders.slope(index, &values[index]));
            let agree = slopes.iter().flatten().all(|slope| (slope - 2.).abs() <= 0.1);
            taylor.push(TaylorSlopes { method: method.clone(), slopes, agree });
        }
    }
    let ops = compare_ops(&problem, dtype, device)?;
    let agree = pairs.iter().all(|pair| pair.agree)
        && taylor.iter().all(|taylor| taylor.agree)
        && ops.iter().all(|op| op.agree)
        && unrepeatable.is_empty();
    let device = match device.location() {
        DeviceLocation::Cpu => "cpu".to_string(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    };
    let (dtype, step) = (dtype.as_str(), STEP);
    let report = Report { dtype, device, sizes, step, pairs, taylor, ops, unrepeatable, agree };
    Ok(Checked { report, gradients })
}

impl Checked {
    /// The pair with the largest error relative to its bound. Pairs that fail come first, then
    /// those whose every entry was compared.
    pub fn worst_pair(&self) -> &Pair {
        let rank = |pair: &Pair| (!pair.agree, pair.is_complete());
        let order = |a: &&Pair, b: &&Pair| {
            rank(a).cmp(&rank(b)).then(a.largest_error().total_cmp(&b.largest_error()))
        };
        self.report.pairs.iter().max_by(order).expect("there are pairs")
    }

    /// The pair of these two methods, in either order.
    pub fn pair(&self, methods: [&str; 2]) -> Option<&Pair> {
        let [first, second] = methods;
        self.report.pairs.iter().find(|pair| {
            let pair = pair.methods.each_ref().map(String::as_str);
            pair == [first, second] || pair == [second, first]
        })
    }
}

/// The error of central differences at one step size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepError {
    /// h.
    pub step: f64,
    /// The relative error against the gradient of `hand` in f64, for each of [`TENSORS`].
    pub relative_errors: [f64; 6],
}

/// The error of central differences by step size: proportional to h^2 while the truncation of the
/// formula dominates, and to 1/h once rounding does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepSizes {
    /// The sizes of the problem.
    pub sizes: Sizes,
    /// The names of the tensors, in the order of the errors.
    pub tensors: [&'static str; 6],
    /// The number of entries of each tensor.
    pub entries: [usize; 6],
    /// The errors, from the largest step to the smallest.
    pub steps: Vec<StepError>,
    /// For each tensor the step with the smallest error.
    pub best: [f64; 6],
    /// The bound on the smallest error of each tensor.
    pub bound: f64,
    /// Whether all are within it.
    pub agree: bool,
}

/// Takes central differences of `problem` in f64 with steps from 1 to 1e-12.
///
/// # Errors
/// [`Error::Setting`] for zero `entries`.
pub fn step_sizes(problem: &Problem, options: &Options) -> Result<StepSizes> {
    let sizes = problem.sizes();
    let default = default_entries(sizes, 2 * HALF_DECADES.count()).min(100);
    let entries = problem.entries(options.entries(default)?, options.seed);
    let derived = problem.derived(GradientMethod::Hand, DType::F64, &Device::Cpu)?;
    let bound = bound(DType::F64, true);
    let steps: Vec<StepError> = HALF_DECADES
        .map(|half_decades| {
            let step = 10f64.powf(-f64::from(half_decades) / 2.);
            let no_floor = Rounding::default();
            let differences = central_differences(problem, step, entries.clone(), &no_floor);
            let pair = Pair::of(problem, &derived, &differences, bound);
            StepError { step, relative_errors: from_fn(|i| pair.tensors[i].relative_error) }
        })
        .collect();
    let best: [&StepError; 6] = from_fn(|i| {
        let error = |step: &StepError| step.relative_errors[i];
        let best = steps.iter().min_by(|a, b| error(a).total_cmp(&error(b)));
        best.expect("there are steps")
    });
    let agree = (0..6).all(|i| best[i].relative_errors[i] <= bound);
    Ok(StepSizes {
        sizes,
        tensors: TENSORS,
        entries: entries.0.each_ref().map(Vec::len),
        best: best.map(|step| step.step),
        steps,
        bound,
        agree,
    })
}
