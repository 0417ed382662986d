//! The checks: all methods against each other, and the error of differences by step size.

use super::compare::{Pair, bound};
use super::numeric::{STEP, central_differences, default_entries};
use super::problem::{Gradients, Problem, Sizes, TENSORS};
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
    /// The most entries of each tensor whose differences are taken, at least 1; by default 500,
    /// or fewer for a large network.
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
    /// Whether every comparison is within its bound.
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

/// Computes the gradients of `problem`, rounded to `dtype`, by every method and by central
/// differences, and compares each with each.
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
    let entries = options.entries(default_entries(sizes, 1))?;
    let mut gradients = Vec::new();
    for method in GradientMethod::ALL {
        gradients.push(problem.derived(method, dtype, device)?);
    }
    let entries = problem.entries(entries, options.seed);
    gradients.push(central_differences(&problem, STEP, entries));

    let mut pairs = Vec::new();
    for (i, second) in gradients.iter().enumerate() {
        for first in &gradients[..i] {
            let bound = bound(dtype, second.entries.is_some());
            pairs.push(Pair::of(&problem, first, second, bound));
        }
    }
    let agree = pairs.iter().all(|pair| pair.agree);
    let device = match device.location() {
        DeviceLocation::Cpu => "cpu".to_string(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    };
    let report = Report { dtype: dtype.as_str(), device, sizes, step: STEP, pairs, agree };
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
    let default = default_entries(sizes, HALF_DECADES.count()).min(100);
    let entries = problem.entries(options.entries(default)?, options.seed);
    let derived = problem.derived(GradientMethod::Hand, DType::F64, &Device::Cpu)?;
    let bound = bound(DType::F64, true);
    let steps: Vec<StepError> = HALF_DECADES
        .map(|half_decades| {
            let step = 10f64.powf(-f64::from(half_decades) / 2.);
            let differences = central_differences(problem, step, entries.clone());
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
