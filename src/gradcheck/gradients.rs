//! The results of a method: loss, last state and gradients.

use super::numbers::{LANES, directions};
use super::problem::{Entries, Problem, to_f64};
use super::rounding::Rounding;
use crate::error::Result;
use crate::model::CharRnnState;
use crate::train::GradientMethod;
use crate::train::bptt::StepResult;
use crate::train::gradients::loss_and_gradients;
use candle_core::{DType, Device};

/// The entries of the gradients that a method computes.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// Every entry.
    All,
    /// Some of them.
    Entries(Entries),
    /// The derivatives along eight random directions through all entries, which this seed gives.
    Directions(u64),
}

/// The results of one method.
#[derive(Debug, Clone)]
pub(super) struct Gradients {
    /// The name of the method.
    pub method: String,
    /// The gradients of [`TENSORS`](super::TENSORS), row by row; of the entries of `scope` alone.
    pub values: [Vec<f64>; 6],
    /// The loss, in nats, if the method computes it.
    pub loss: Option<f64>,
    /// The state after the last step of each name, (B, n_a), if the method computes it.
    pub last: Option<Vec<f64>>,
    /// The entries in `values`.
    pub scope: Scope,
    /// The error that rounding, and the truncation of differences, may leave; zero if not known.
    pub rounding: Rounding,
}

impl Gradients {
    /// Whether the results are the same, bit for bit.
    pub fn is_identical(&self, other: &Self) -> bool {
        let values = |of: &Self| {
            let all = of.values.iter().flatten().chain(&of.loss).chain(of.last.iter().flatten());
            all.map(|value| value.to_bits()).collect::<Vec<u64>>()
        };
        values(self) == values(other)
    }

    /// The values of the tensor `index` in the scope of another method.
    pub fn at(&self, index: usize, scope: &Scope) -> Vec<f64> {
        let values = &self.values[index];
        match (&self.scope, scope) {
            (Scope::All, Scope::Entries(entries)) => {
                entries.0[index].iter().map(|&at| values[at]).collect()
            }
            (Scope::All, Scope::Directions(seed)) => {
                let mut draw = directions(*seed, index);
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
            _ => values.clone(),
        }
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
        let from = |a0| loss_and_gradients(method, &model, self.batch(), &CharRnnState::new(a0));
        let mut found = from(a0.clone())?;
        if method == GradientMethod::Autograd {
            // In training the initial state is no variable, and the graph has other nodes.
            found = StepResult { da0: found.da0, ..from(a0.detach())? };
        }
        let [wax, waa, wya, b, by] = found.gradients.each_ref().map(to_f64);
        let da0 = match &found.da0 {
            Some(da0) => to_f64(da0)?,
            // The graph does not reach it.
            None => vec![0.; a0.elem_count()],
        };
        Ok(Gradients {
            method: method.to_string(),
            values: [wax?, waa?, wya?, b?, by?, da0],
            loss: Some(found.loss),
            last: Some(to_f64(found.last.a())?),
            scope: Scope::All,
            rounding: Rounding::default(),
        })
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
