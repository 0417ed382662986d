//! The network, batch and initial state of a check, and their gradients by each method.

use crate::checkpoint::Checkpoint;
use crate::data::{Batch, Corpus};
use crate::error::{Error, Result};
use crate::model::{CharRnnState, Config, PARAMETERS, char_rnn};
use crate::random::RngSource;
use crate::reference::{Matrix, Parameters};
use crate::train::GradientMethod;
use crate::train::gradients::loss_and_gradients;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use serde::Serialize;

/// The tensors whose gradients are compared: the parameters and the initial state.
pub const TENSORS: [&str; 6] = ["wax", "waa", "wya", "b", "by", "a0"];

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
    /// Validates the sizes.
    ///
    /// # Errors
    /// [`Error::Setting`] for a size that is out of range, or for sizes that together take too
    /// long to check.
    pub fn check(&self) -> Result<()> {
        for (name, value, low, high) in [
            ("hidden", self.hidden, 1, 2048),
            ("vocabulary", self.vocabulary, 2, 10_000),
            ("steps", self.steps, 1, 1001),
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
    fn shapes(&self) -> [Vec<usize>; 6] {
        let config = self.config();
        TENSORS.map(|name| match name {
            "a0" => vec![self.batch, self.hidden],
            _ => config.shape(name),
        })
    }

    fn config(&self) -> Config {
        Config { vocabulary: self.vocabulary, hidden: self.hidden }
    }
}

/// A network, a batch and an initial state: the point at which the gradients are taken.
#[derive(Debug, Clone)]
pub struct Problem {
    parameters: Parameters<f64>,
    batch: Batch,
    a0: Matrix<f64>,
}

impl Problem {
    /// Builds a problem from its parts; `a0` is (B, n_a).
    ///
    /// # Errors
    /// If the shapes do not fit together, or an index is outside the vocabulary.
    pub fn new(parameters: Parameters<f64>, batch: Batch, a0: Matrix<f64>) -> Result<Self> {
        let Parameters { wax, waa, wya, b, by } = &parameters;
        let (n_a, n_x, size) = (b.len(), by.len(), batch.size());
        for (name, matrix, rows, columns) in [
            ("wax", wax, n_a, n_x),
            ("waa", waa, n_a, n_a),
            ("wya", wya, n_x, n_a),
            ("a0", &a0, size, n_a),
        ] {
            if matrix.len() != rows || matrix.iter().any(|row| row.len() != columns) {
                let message = format!("{name} must be {rows} rows of {columns} values");
                return Err(candle_core::Error::Msg(message).into());
            }
        }
        crate::ops::check_indices(batch.x(), n_x)?;
        crate::ops::check_indices(batch.y(), n_x)?;
        Ok(Self { parameters, batch, a0 })
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
        let mut flat: [Vec<f64>; 6] = sizes.shapes().map(|shape| vec![0.; shape.iter().product()]);
        for (values, deviation) in flat.iter_mut().zip(deviations) {
            values.fill_with(|| normal() * deviation);
        }
        let [wax, waa, wya, b, by, a0] = &mut flat;
        a0.fill_with(|| normal().tanh());
        let parameters = Parameters::from_flat(hidden, vocabulary, [wax, waa, wya, b, by]);
        let a0 = a0.chunks(hidden).map(<[f64]>::to_vec).collect();

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
        Self::new(parameters, Batch::new(names.iter().map(Vec::as_slice)), a0)
    }

    /// A trained network and `batch` names of `corpus`, selected by `seed`, from the zero state.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`] if a name of the list has a character that is not in the
    /// vocabulary of the model; else as [`Sizes::check`].
    pub fn trained(saved: &Checkpoint, corpus: &Corpus, batch: usize, seed: u64) -> Result<Self> {
        let Config { vocabulary, hidden } = saved.model().config();
        let names = corpus.names().iter().map(|name| saved.vocabulary.encode(name));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        RngSource::Seed(seed).shuffle(&mut names);
        names.truncate(batch);
        let steps = 1 + names.iter().map(Vec::len).max().unwrap_or(0);
        Sizes { hidden, vocabulary, steps, batch: names.len() }.check()?;

        let flat = saved.model().parameters().map(|(_, tensor)| to_f64(tensor));
        let flat = flat.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
        let flat = std::array::from_fn(|i| flat[i].as_slice());
        let parameters = Parameters::from_flat(hidden, vocabulary, flat);
        let a0 = vec![vec![0.; hidden]; names.len()];
        Self::new(parameters, Batch::new(names.iter().map(Vec::as_slice)), a0)
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters<f64> {
        &self.parameters
    }

    /// The names.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The initial state, (B, n_a).
    pub fn a0(&self) -> &Matrix<f64> {
        &self.a0
    }

    /// The sizes.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.parameters.b.len(),
            vocabulary: self.parameters.by.len(),
            steps: self.batch.steps(),
            batch: self.batch.size(),
        }
    }

    /// The shapes of [`TENSORS`].
    pub fn shapes(&self) -> [Vec<usize>; 6] {
        self.sizes().shapes()
    }

    /// The values of [`TENSORS`], row by row.
    fn flat(&self) -> [Vec<f64>; 6] {
        let [wax, waa, wya, b, by] = self.parameters.flat();
        [wax, waa, wya, b, by, self.a0.concat()]
    }

    /// The same problem with each value rounded to `dtype`.
    pub(super) fn rounded(&self, dtype: DType) -> Self {
        let mut problem = self.clone();
        if dtype == DType::F32 {
            let Parameters { wax, waa, wya, b, by } = &mut problem.parameters;
            let rows = wax.iter_mut().chain(waa).chain(wya).chain([b, by]).chain(&mut problem.a0);
            rows.flatten().for_each(|value| *value = f64::from(*value as f32));
        }
        problem
    }

    /// Indices of entries of each tensor: all of a tensor with no more than `limit`, else that
    /// many, drawn uniformly by `seed`.
    pub fn entries(&self, limit: usize, seed: u64) -> Entries {
        Entries(self.shapes().map(|shape| {
            let mut at: Vec<usize> = (0..shape.iter().product()).collect();
            if at.len() > limit {
                RngSource::Seed(seed).shuffle(&mut at);
                at.truncate(limit);
                at.sort_unstable();
            }
            at
        }))
    }

    /// The gradients by `method`, computed in `dtype` on `device`. A tensor that candle's graph
    /// does not reach has a gradient of zero.
    ///
    /// # Errors
    /// If the device fails, or `dtype` is neither `F32` nor `F64`.
    pub fn derived(
        &self,
        method: GradientMethod,
        dtype: DType,
        device: &Device,
    ) -> Result<Gradients> {
        let variable = |(values, shape): (Vec<f64>, Vec<usize>)| {
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
            Var::from_tensor(&tensor.to_dtype(dtype)?.to_device(device)?)
        };
        let variables = self.flat().into_iter().zip(self.shapes()).map(variable);
        let variables = variables.collect::<candle_core::Result<Vec<_>>>()?;
        let tensors = variables.iter().map(|variable| variable.as_tensor().clone());
        let named = PARAMETERS.map(str::to_string).into_iter().zip(tensors).collect();
        let vb = VarBuilder::from_tensors(named, dtype, device);
        let model = char_rnn(self.sizes().config(), vb)?;
        let start = CharRnnState::new(variables[5].as_tensor().clone());

        let found = loss_and_gradients(method, &model, &self.batch, &start, 1)?;
        let [wax, waa, wya, b, by] = found.gradients.each_ref().map(to_f64);
        let da0 = match &found.da0 {
            Some(da0) => to_f64(da0)?,
            // The graph does not reach it.
            None => vec![0.; variables[5].elem_count()],
        };
        let values = [wax?, waa?, wya?, b?, by?, da0];
        Ok(Gradients { method: method.to_string(), values, entries: None })
    }
}

/// The values of a float tensor, row by row; f32 becomes f64 exactly.
fn to_f64(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// For each of [`TENSORS`], the flat indices of some of its entries, ascending.
#[derive(Debug, Clone)]
pub struct Entries(pub(crate) [Vec<usize>; 6]);

/// The gradients of [`TENSORS`] by one method.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// The name of the method.
    pub method: String,
    /// Row by row; if there are `entries`, these alone.
    pub values: [Vec<f64>; 6],
    /// The entries that `values` holds; `None` if all.
    pub entries: Option<Entries>,
}

impl Gradients {
    /// The values of the tensor `index` at `entries`; all that there are for `None`.
    pub(crate) fn at(&self, index: usize, entries: Option<&Entries>) -> Vec<f64> {
        let values = &self.values[index];
        match (entries, &self.entries) {
            (Some(entries), None) => entries.0[index].iter().map(|&at| values[at]).collect(),
            _ => values.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IGNORE_INDEX;

    #[test]
    fn a_random_problem_is_padded_and_all_its_gradients_are_large() {
        let sizes = Sizes { hidden: 40, vocabulary: 27, steps: 9, batch: 5 };
        let problem = Problem::random(sizes, 1).unwrap();
        assert_eq!(problem.sizes(), sizes);
        assert!(problem.batch.y().contains(&IGNORE_INDEX));
        let gradients = problem.derived(GradientMethod::Hand, DType::F64, &Device::Cpu).unwrap();
        for (name, values) in TENSORS.iter().zip(&gradients.values) {
            let mean = values.iter().map(|g| g.abs()).sum::<f64>() / values.len() as f64;
            assert!(mean > 0.01, "{name}: {mean}");
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_errors() {
        let sizes = Sizes { hidden: 3, vocabulary: 4, steps: 2, batch: 2 };
        let Problem { parameters, batch, a0 } = Problem::random(sizes, 1).unwrap();
        let mut ragged = parameters.clone();
        ragged.waa[2].pop();
        assert!(Problem::new(ragged, batch.clone(), a0.clone()).is_err());
        assert!(Problem::new(parameters.clone(), batch, a0[1..].to_vec()).is_err());
        let unknown = Batch::new([&[4][..], &[1]]);
        assert!(Problem::new(parameters, unknown, a0).is_err());
    }
}
