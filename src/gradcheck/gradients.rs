//! The results of a method: gradients, loss and last states.

use super::numbers::{LANES, directions};
use super::problem::{GRADIENTS, Problem, to_f64};
use super::rounding::Rounding;
use crate::error::Result;
use crate::model::CharRnnState;
use crate::train::GradientMethod;
use crate::train::bptt::StepResult;
use crate::train::gradients::loss_and_gradients;
use candle_core::{DType, Device};

/// The names of the methods by the reference: exact derivatives by each entry.
pub(super) const EXACT: &str = "exact";
/// Exact derivatives along random directions through all entries of a tensor.
pub(super) const DIRECTIONS: &str = "directions";
/// Central differences along the same.
pub(super) const DIFFERENCES: &str = "differences";

/// The results of one method.
#[derive(Debug, Clone)]
pub(super) struct Gradients {
    /// The name of the method.
    pub method: String,
    /// The values of [`TENSORS`](super::TENSORS), row by row. Differences are gradients only.
    pub values: Vec<Vec<f64>>,
    /// The seed of the random directions through all entries of a gradient, if its derivatives along
    /// these are in its place.
    pub directions: Option<u64>,
    /// The error that rounding, and the truncation of differences, may leave; zero if not known.
    pub rounding: Rounding,
}

impl Gradients {
    /// Whether the results are the same, bit for bit.
    pub fn is_identical(&self, other: &Self) -> bool {
        let bits = |of: &Self| of.values.concat().into_iter().map(f64::to_bits).collect::<Vec<_>>();
        bits(self) == bits(other)
    }

    /// The values of the tensor `index`, a gradient along these directions if there are any.
    pub fn at(&self, index: usize, along: Option<u64>) -> Vec<f64> {
        let values = &self.values[index];
        let (Some(seed), None, 0..GRADIENTS) = (along, self.directions, index) else {
            return values.clone();
        };
        let mut draw = directions(seed, index);
        let mut sums = [0.; LANES];
        // Summed in parts: millions of terms would lose digits in a single sum.
        for values in values.chunks(1024) {
            let mut part = [0.; LANES];
            for value in values {
                part.iter_mut().zip(draw()).for_each(|(sum, v)| *sum += value * v);
            }
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        sums.to_vec()
    }
}

impl Problem {
    /// The gradients by `method`, computed in `dtype` on `device`. A tensor that candle's graph
    /// does not reach has a gradient of zero.
    ///
    /// # Errors
    /// If the device fails, or `dtype` is neither `F32` nor `F64`.
    pub(super) fn derived(
        &self,
        method: GradientMethod,
        dtype: DType,
        device: &Device,
    ) -> Result<Gradients> {
        let (model, a0) = self.module(dtype, device)?;
        let batch = self.batch();
        let from = |a0| loss_and_gradients(method, &model, &batch, &CharRnnState::new(a0));
        let mut found = from(a0.clone())?;
        if method == GradientMethod::Autograd {
            // In training the initial state is no variable, and the graph has other nodes.
            found = StepResult { da0: found.da0, ..from(a0.detach())? };
        }
        let mut values =
            found.gradients.iter().map(to_f64).collect::<candle_core::Result<Vec<_>>>()?;
        values.extend([
            // None if the graph does not reach it.
            found.da0.as_ref().map_or(Ok(vec![0.; a0.elem_count()]), to_f64)?,
            vec![found.loss],
            to_f64(found.last.a())?,
        ]);
        let (method, rounding) = (method.to_string(), Rounding::default());
        Ok(Gradients { method, values, directions: None, rounding })
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::{Sizes, TENSORS};
    use super::*;
    use crate::data::IGNORE_INDEX;

    #[test]
    fn a_random_problem_is_padded_and_all_its_gradients_are_large() {
        let sizes = Sizes { hidden: 40, vocabulary: 27, steps: 9, batch: 5 };
        let problem = Problem::random(sizes, 1).unwrap();
        assert_eq!(problem.sizes(), sizes);
        assert!(problem.batch().y().contains(&IGNORE_INDEX));
        let gradients = problem.derived(GradientMethod::Hand, DType::F64, &Device::Cpu).unwrap();
        for (name, values) in TENSORS.iter().zip(&gradients.values) {
            let mean = values.iter().map(|g| g.abs()).sum::<f64>() / values.len() as f64;
            assert!(mean > 0.01, "{name}: {mean}");
        }
    }
}
