//! The network, batch and initial state of a check.

use crate::data::{Batch, check_indices};
use crate::error::{Error, Result};
use crate::model::{CharRnn, Config, PARAMETERS, char_rnn};
use crate::random::RngSource;
use crate::reference::{Matrix, Parameters};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use serde::Serialize;

/// What is compared: the gradients of the parameters and of the initial state, the loss, and the
/// states after the last step of each name.
pub(crate) const TENSORS: [&str; 8] = ["wax", "waa", "wya", "b", "by", "a0", "loss", "a_last"];
/// The number of gradients among [`TENSORS`].
pub(super) const GRADIENTS: usize = 6;
/// The loss among [`TENSORS`].
pub(super) const LOSS: usize = 6;

/// The most multiplications of one forward pass that a check accepts: with all methods, about a
/// minute.
const MAX_FORWARD_WORK: usize = 200_000_000;

/// The sizes of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// n_a: hidden units.
    pub hidden: usize,
    /// n_x = n_y: characters, with the end of a name.
    pub vocabulary: usize,
    /// T: steps of the longest name, with its end.
    pub steps: usize,
    /// B: names in the batch.
    #[serde(rename = "names")]
    pub batch: usize,
}

impl Sizes {
    /// The most steps of a name.
    pub(super) const MAX_STEPS: usize = 1001;

    /// Validates the sizes.
    ///
    /// # Errors
    /// [`Error::Setting`] for a size that is out of range, or for sizes that together take too
    /// long to check.
    pub fn check(&self) -> Result<()> {
        for (name, value, low, high) in [
            ("hidden", self.hidden, 1, 2048),
            ("vocabulary", self.vocabulary, 2, 10_000),
            ("steps", self.steps, 1, Self::MAX_STEPS),
            ("batch", self.batch, 1, 4096),
        ] {
            if !(low..=high).contains(&value) {
                let rule = format!("it must be from {low} to {high}");
                return Err(Error::setting(name, value, rule));
            }
        }
        if self.forward_work() > MAX_FORWARD_WORK {
            let rule = format!(
                "with {} hidden units, {} characters and {} steps the check would take too long; \
                 reduce one of them",
                self.hidden, self.vocabulary, self.steps
            );
            return Err(Error::setting("batch", self.batch, rule));
        }
        Ok(())
    }

    /// The multiplications of a forward pass, at most.
    pub(super) fn forward_work(&self) -> usize {
        self.steps * self.batch * self.hidden * (self.hidden + self.vocabulary)
    }

    /// The shapes of [`TENSORS`].
    pub(super) fn shapes(&self) -> [Vec<usize>; 8] {
        let config = self.config();
        TENSORS.map(|name| match name {
            "a0" | "a_last" => vec![self.batch, self.hidden],
            "loss" => vec![],
            _ => config.shape(name),
        })
    }

    fn config(&self) -> Config {
        Config { vocabulary: self.vocabulary, hidden: self.hidden }
    }
}

/// The notebook's `X` and `Y`. This is not the layout of [`Batch`], which the gradient methods share:
/// an error of the latter is one that the reference does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    /// The input of each step; `None` is the zero vector.
    pub x: Vec<Option<usize>>,
    /// The target of each step.
    pub y: Vec<usize>,
}

/// A network, names and their initial states: the point at which the gradients are taken.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(super) parameters: Parameters<f64>,
    /// The names, as the reference reads them.
    pub(super) sequences: Vec<Sequence>,
    /// The initial states, (B, n_a).
    pub(super) a0: Matrix<f64>,
}

impl Problem {
    /// Builds a problem from its parts; `names` are indices without the final `'\n'`, `a0` is
    /// (B, n_a).
    ///
    /// # Errors
    /// If the shapes do not fit together, there are no names, or an index is outside the
    /// vocabulary.
    pub fn new(parameters: Parameters<f64>, names: &[Vec<u32>], a0: Matrix<f64>) -> Result<Self> {
        if names.is_empty() {
            return Err(Error::setting("batch", 0, "it must be at least 1"));
        }
        // In a batch some indices outside of every vocabulary are padding.
        names.iter().try_for_each(|name| check_indices(name, parameters.by.len()))?;
        let Parameters { wax, waa, wya, b, by } = &parameters;
        let (n_a, n_x) = (b.len(), by.len());
        for (name, matrix, rows, columns) in [
            ("wax", wax, n_a, n_x),
            ("waa", waa, n_a, n_a),
            ("wya", wya, n_x, n_a),
            ("a0", &a0, names.len(), n_a),
        ] {
            if matrix.len() != rows || matrix.iter().any(|row| row.len() != columns) {
                let message = format!("{name} must be {rows} rows of {columns} values");
                return Err(candle_core::Error::Msg(message).into());
            }
        }
        // X = [None] + name, Y = name + ['\n']
        let sequence = |name: &Vec<u32>| {
            let name = || name.iter().map(|&index| index as usize);
            let x = std::iter::once(None).chain(name().map(Some)).collect();
            Sequence { x, y: name().chain([0]).collect() }
        };
        let sequences = names.iter().map(sequence).collect();
        Ok(Self { parameters, sequences, a0 })
    }

    /// Random parameters, names and initial state; the same `seed` gives the same problem.
    ///
    /// The parameters are larger than those at the start of training: pre-activations have a
    /// standard deviation of about 1.5, so that `1 - a^2` takes values from 0 to 1 and each state
    /// depends on the earlier ones. The first name has all the steps, the second half of them, the
    /// others a random number: the batch is padded.
    ///
    /// # Errors
    /// As [`Sizes::check`].
    pub fn random(sizes: Sizes, seed: u64) -> Result<Self> {
        sizes.check()?;
        let Sizes { hidden, vocabulary, steps, batch } = sizes;
        let mut normal = RngSource::Seed(seed).normals();
        let by_row = 1. / (hidden as f64).sqrt();
        let deviations = [1., by_row, 2. * by_row, 0.5, 0.5];
        let mut flat = Parameters::zeros(hidden, vocabulary).flat();
        for (values, deviation) in flat.iter_mut().zip(deviations) {
            values.fill_with(|| normal() * deviation);
        }
        let flat = flat.each_ref().map(Vec::as_slice);
        let parameters = Parameters::from_flat(hidden, vocabulary, flat);
        let mut state = || (0..hidden).map(|_| normal().tanh()).collect();
        let a0 = (0..batch).map(|_| state()).collect();

        let mut uniforms = RngSource::Seed(seed).uniforms(0);
        let mut below = |limit: usize| (uniforms.draw() * limit as f64) as usize;
        let lengths: Vec<usize> = (0..batch)
            .map(|i| match i {
                0 => steps - 1,
                1 => (steps - 1) / 2,
                _ => below(steps),
            })
            .collect();
        let names: Vec<Vec<u32>> = lengths
            .into_iter()
            .map(|length| (0..length).map(|_| 1 + below(vocabulary - 1) as u32).collect())
            .collect();
        Self::new(parameters, &names, a0)
    }

    /// The parameters of `model`, and `names`, indices without the final `'\n'`, from the zero state.
    ///
    /// # Errors
    /// As [`Sizes::check`] and [`new`](Self::new).
    pub fn of_model(model: &CharRnn, names: &[Vec<u32>]) -> Result<Self> {
        let Config { vocabulary, hidden } = model.config();
        let steps = 1 + names.iter().map(Vec::len).max().unwrap_or(0);
        Sizes { hidden, vocabulary, steps, batch: names.len() }.check()?;
        let flat = model.parameters().map(|(_, tensor)| to_f64(tensor));
        let flat = flat.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
        let flat = std::array::from_fn(|i| flat[i].as_slice());
        let parameters = Parameters::from_flat(hidden, vocabulary, flat);
        let a0 = vec![vec![0.; hidden]; names.len()];
        Self::new(parameters, names, a0)
    }

    /// The sizes.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.parameters.b.len(),
            vocabulary: self.parameters.by.len(),
            steps: self.sequences.iter().map(|sequence| sequence.x.len()).max().unwrap_or(0),
            batch: self.sequences.len(),
        }
    }

    /// The shapes of [`TENSORS`].
    pub(super) fn shapes(&self) -> [Vec<usize>; 8] {
        self.sizes().shapes()
    }

    /// The number of entries of the tensor `index`.
    pub(super) fn length(&self, index: usize) -> usize {
        self.shapes()[index].iter().product()
    }

    /// This problem with `f` of each parameter and each initial state.
    pub(super) fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        let mut problem = self.clone();
        let Parameters { wax, waa, wya, b, by } = &mut problem.parameters;
        let rows = wax.iter_mut().chain(waa).chain(wya).chain([b, by]).chain(&mut problem.a0);
        rows.flatten().for_each(|value| *value = f(*value));
        problem
    }

    /// The names, as the gradient methods read them.
    pub(super) fn batch(&self) -> Batch {
        let index = |y: &Vec<usize>| y[..y.len() - 1].iter().map(|&y| y as u32).collect();
        let names: Vec<Vec<u32>> =
            self.sequences.iter().map(|Sequence { y, .. }| index(y)).collect();
        Batch::new(names.iter().map(Vec::as_slice))
    }

    /// The parameters as a candle module on `device`, whose variables come with it, and those of
    /// the initial states.
    pub(super) fn module(&self, dtype: DType, device: &Device) -> Result<(CharRnn, Tensor)> {
        let variable = |(values, shape): (Vec<f64>, Vec<usize>)| {
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
            Var::from_tensor(&tensor.to_dtype(dtype)?.to_device(device)?)
        };
        let values = self.parameters.flat().into_iter().chain([self.a0.concat()]);
        let variables = values.zip(self.shapes()).map(variable);
        let variables = variables.collect::<candle_core::Result<Vec<_>>>()?;
        let tensors = variables.iter().map(|variable| variable.as_tensor().clone());
        let named = PARAMETERS.map(str::to_string).into_iter().zip(tensors).collect();
        let vb = VarBuilder::from_tensors(named, dtype, device);
        Ok((char_rnn(self.sizes().config(), vb)?, variables[5].as_tensor().clone()))
    }
}

/// The values of a float tensor, row by row; f32 becomes f64 exactly.
pub(super) fn to_f64(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_do_not_fit_are_errors() {
        let sizes = Sizes { hidden: 3, vocabulary: 4, steps: 2, batch: 2 };
        let Problem { parameters, a0, .. } = Problem::random(sizes, 1).unwrap();
        let names = [vec![1], vec![2]];
        let mut ragged = parameters.clone();
        ragged.waa[2].pop();
        assert!(Problem::new(ragged, &names, a0.clone()).is_err());
        assert!(Problem::new(parameters.clone(), &names, a0[1..].to_vec()).is_err());
        assert!(Problem::new(parameters.clone(), &names, a0.clone()).is_ok());
        assert!(Problem::new(parameters.clone(), &[vec![4], vec![1]], a0.clone()).is_err());
        assert!(Problem::new(parameters.clone(), &[], vec![]).is_err());
    }
}
