//! The check: all methods against each other.

use super::compare::{Comparison, Pair, bound, shared};
use super::gradients::{DIFFERENCES, DIRECTIONS, EXACT, Gradients};
use super::numeric::{STEP, central_differences, exact, is_small};
use super::problem::{Problem, Sizes};
use super::rounding::rounding;
use crate::error::Result;
use crate::train::GradientMethod;
use candle_core::{DType, Device, DeviceLocation};
use serde::Serialize;

/// The pair whose gradients a report can have whole.
const SHOWN: [&str; 2] = ["autograd", "hand"];

/// The options of a check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Selects the random directions.
    pub seed: u64,
    /// Whether the report keeps the gradients of `autograd` and `hand`, for [`Report::shown`].
    pub whole: bool,
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
    /// The methods that do not repeat their results bit for bit.
    pub unrepeatable: Vec<GradientMethod>,
    /// Whether every comparison is within its bound, and every method repeats its results.
    pub agree: bool,
}

impl Report {
    /// The tensors of `autograd` and `hand`, with both gradients whole if [`Options::whole`].
    pub fn shown(&self) -> &[Comparison] {
        let pair = self.pairs.iter().find(|pair| pair.methods == SHOWN);
        pair.map_or(&[], |pair| &pair.tensors)
    }
}

/// Computes loss, last states and gradients of `problem`, rounded to `dtype`, by every method,
/// exactly, and by central differences, and compares each with each.
///
/// # Errors
/// If `dtype` is neither `F32` nor `F64`, or the device fails.
pub fn check(
    problem: &Problem,
    dtype: DType,
    device: &Device,
    options: &Options,
) -> Result<Report> {
    let is_f32 = dtype == DType::F32;
    let problem = problem.map(|value| if is_f32 { f64::from(value as f32) } else { value });
    let sizes = problem.sizes();
    let [in_f64, in_f32] = rounding(&problem);
    let rounding = if is_f32 { in_f32 } else { in_f64 };
    let (mut gradients, mut unrepeatable) = (Vec::new(), Vec::new());
    for method in GradientMethod::ALL {
        let [first, again] = [(); 2].map(|()| problem.derived(method, dtype, device));
        let first = Gradients { rounding, ..first? };
        if !first.is_identical(&again?) {
            unrepeatable.push(method);
        }
        gradients.push(first);
    }
    let by_entry = is_small(&problem).then_some(None);
    for seed in by_entry.into_iter().chain([Some(options.seed)]) {
        gradients.push(Gradients { rounding: in_f64, ..exact(&problem, seed) });
    }
    gradients.push(central_differences(&problem, options.seed, &in_f64));

    let mut pairs = Vec::new();
    for (i, second) in gradients.iter().enumerate() {
        for first in &gradients[..i] {
            // Directions are derivatives of exact.
            if first.method == DIRECTIONS || [&first.method, &second.method] == [EXACT, DIRECTIONS]
            {
                continue;
            }
            let bound = bound(dtype, second.method == DIFFERENCES);
            let methods = [&first.method[..], &second.method];
            let shared = shared(methods, device.is_cpu());
            let mut pair = Pair { shared, ..Pair::of(&problem, first, second, bound) };
            if options.whole && methods == SHOWN {
                let both = first.values.iter().zip(&second.values);
                for (tensor, (g1, g2)) in pair.tensors.iter_mut().zip(both) {
                    tensor.whole = Some([g1.clone(), g2.clone()]);
                }
            }
            pairs.push(pair);
        }
    }
    let agree = pairs.iter().all(|pair| pair.agree) && unrepeatable.is_empty();
    let device = match device.location() {
        DeviceLocation::Cpu => "cpu".to_string(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    };
    Ok(Report { dtype: dtype.as_str(), device, sizes, step: STEP, pairs, unrepeatable, agree })
}
