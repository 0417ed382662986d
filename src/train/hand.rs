//! A training step by `hand` on the CPU, on slices.
//!
//! It keeps the parameters, AdamW's moments and the state as slices of its own from step to step, and
//! allocates nothing.

use super::bptt::Bptt;
use super::config::TrainConfig;
use super::observer::Stats;
use super::optimizer::{GradientStats, OptimizerKind};
use super::step::{Network, Step};
use crate::data::{Batch, START};
use crate::kernels::Element;
use crate::kernels::product::{Matrix, Scratch, product};
use crate::kernels::threads::Pass;
use crate::kernels::update::{AdamW, adamw_descent, adamw_moments, clamp, descend};
use crate::model::{CharRnnState, Config};
use crate::ops::Float;
use candle_core::{Device, Result, Tensor, Var};

/// The parameters as slices. `wax` is transposed, (n_x, n_a): [`Bptt`] reads its columns as rows.
pub(super) struct OnSlices<F> {
    config: Config,
    optimizer: OptimizerKind,
    weight_decay: f64,
    carry_state: bool,
    bptt: Bptt<F>,
    /// `wax^T`, `waa`, `wya`, `b` and `by`.
    parameters: [Vec<F>; 5],
    factors: Option<Factors<F>>,
    /// AdamW's two moments of each variable.
    moments: Vec<Vec<F>>,
    steps: u64,
    /// The rows of the last minibatch, of all steps.
    rows: usize,
    /// (B, n_a); empty before the first minibatch.
    state: Vec<F>,
    loss: f64,
    /// Whether the variables have the parameters as they are.
    is_stored: bool,
}

/// The variables behind `wax^T`, (n_x, n_a), as in [`super::factors`]: the product of the embedding,
/// (n_x, n_a), and the projection, (n_a, n_a), transposed.
///
/// Only the rows of the minibatch's characters are multiplied. Of 2,400 characters 32 names have
/// some 200: with all rows the products took half of the step's time.
#[derive(Default)]
struct Factors<F> {
    /// The projection and the embedding.
    values: [Vec<F>; 2],
    gradients: [Vec<F>; 2],
    /// The distinct input characters of the minibatch, and their rows of the embedding.
    characters: Vec<u32>,
    rows: Vec<F>,
    /// Their rows of `wax^T` or of its gradient.
    of_wax_t: Vec<F>,
    scratch: Scratch<F>,
}

impl<F: Float> OnSlices<F> {
    pub fn new(config: Config, settings: &TrainConfig) -> Self {
        Self {
            config,
            optimizer: settings.optimizer,
            weight_decay: settings.weight_decay,
            carry_state: settings.carry_state,
            bptt: Bptt::new(config.hidden, config.vocabulary),
            parameters: Default::default(),
            factors: None,
            moments: vec![],
            steps: 0,
            rows: 0,
            state: vec![],
            loss: f64::NAN,
            is_stored: true,
        }
    }

    fn pass(&self) -> Pass {
        Pass::new(self.state.len() / self.config.hidden, self.rows, self.config.hidden)
    }
}

impl<F: Float> Factors<F> {
    /// Sets the rows of `wax^T` that the inputs `x` need to the product.
    fn forward(&mut self, x: &[u32], wax_t: &mut [F], n: usize) {
        self.characters.clear();
        self.characters.extend(x.iter().filter(|&&character| character != START));
        self.characters.sort_unstable();
        self.characters.dedup();
        let [projection, embedding] = &self.values;
        gather(embedding, &self.characters, n, &mut self.rows);
        let (a, b) = (Matrix::rows(&self.rows, n), Matrix::transposed(projection, n));
        let count = self.characters.len();
        self.of_wax_t.resize(count * n, F::ZERO);
        product([count, n, n], a, b, &mut self.of_wax_t, &mut self.scratch);
        scatter(&self.of_wax_t, &self.characters, n, wax_t);
    }

    /// The gradients, from that of `wax^T`, which is zero but in the rows of the minibatch.
    fn backward(&mut self, dwax_t: &[F], n: usize) {
        let [d_projection, d_embedding] = &mut self.gradients;
        gather(dwax_t, &self.characters, n, &mut self.of_wax_t);
        let (count, scratch) = (self.characters.len(), &mut self.scratch);
        let dwax = Matrix::transposed(&self.of_wax_t, n);
        product([n, count, n], dwax, Matrix::rows(&self.rows, n), d_projection, scratch);
        let projection = Matrix::rows(&self.values[0], n);
        let dwax_t = Matrix::rows(&self.of_wax_t, n);
        product([count, n, n], dwax_t, projection, &mut self.rows, scratch);
        d_embedding.fill(F::ZERO);
        scatter(&self.rows, &self.characters, n, d_embedding);
    }
}

impl<F: Float> Step for OnSlices<F> {
    fn forward(&mut self, _network: &Network, batch: &Batch) -> Result<()> {
        batch.check_indices(self.config.vocabulary)?;
        self.rows = batch.step_sizes().iter().sum();
        let length = batch.size() * self.config.hidden;
        if !self.carry_state || self.state.len() != length {
            self.state.clear();
            self.state.resize(length, F::ZERO);
        }
        let _pass = self.pass();
        if let Some(factors) = &mut self.factors {
            factors.forward(batch.x(), &mut self.parameters[0], self.config.hidden);
        }
        let parameters = self.parameters.each_ref().map(Vec::as_slice);
        let scale = Element::from_f64(1. / batch.size() as f64);
        self.loss = self.bptt.forward(parameters, batch, &self.state, scale);
        self.bptt.last_states(batch, &mut self.state);
        Ok(())
    }

    fn backward(&mut self, _network: &Network, batch: &Batch) -> Result<()> {
        let parameters = self.parameters.each_ref().map(Vec::as_slice);
        let _pass = self.pass();
        let [dwax_t, ..] = self.bptt.backward(parameters, batch);
        if let Some(factors) = &mut self.factors {
            factors.backward(dwax_t, self.config.hidden);
        }
        Ok(())
    }

    fn clip(&mut self, max: f64, stats: Option<&mut Stats>) -> Result<()> {
        let _pass = self.pass();
        let gradients = &mut self.bptt.gradients;
        if let Some(stats) = stats {
            *stats = gradients.each_ref().map(|gradient| GradientStats::of(gradient, max));
        }
        let factors = self.factors.iter_mut().flat_map(|factors| &mut factors.gradients);
        factors.chain(gradients).for_each(|gradient| clamp(gradient, Element::from_f64(max)));
        Ok(())
    }

    fn update(&mut self, _network: &mut Network, learning_rate: f64) -> Result<()> {
        let _pass = self.pass();
        self.steps += 1;
        self.is_stored = false;
        let first = usize::from(self.factors.is_some());
        let factors = self.factors.iter_mut();
        let factors = factors.flat_map(|f| f.values.iter_mut().zip(&mut f.gradients));
        let own = self.parameters.iter_mut().zip(&mut self.bptt.gradients);
        let steps = factors.chain(own.skip(first));
        match self.optimizer {
            OptimizerKind::Sgd => {
                steps.for_each(|(w, g)| descend(w, g, Element::from_f64(learning_rate)));
            }
            OptimizerKind::AdamW => {
                let step = AdamW::new(self.steps, learning_rate, self.weight_decay);
                for ((w, g), moments) in steps.zip(&mut self.moments) {
                    adamw_moments(moments, g);
                    adamw_descent(w, moments, &step);
                }
            }
        }
        Ok(())
    }

    fn loss(&self) -> Result<f64> {
        Ok(self.loss)
    }

    fn store(&mut self, network: &mut Network) -> Result<Option<CharRnnState>> {
        if !std::mem::replace(&mut self.is_stored, true) {
            let is_wax = |i| i == 0 && network.factors.is_none();
            let first = usize::from(self.factors.is_some());
            let variables = self.factors.iter().flat_map(|factors| &factors.values);
            let variables = variables.chain(&self.parameters[first..]).enumerate();
            for ((i, values), var) in variables.zip(network.optimizer.vars()) {
                var.set(&tensor(values, var, is_wax(i))?)?;
            }
            if let Some(factors) = &network.factors {
                factors.update_wax()?;
            }
            let moments = self.moments.iter().zip(network.optimizer.state().1).enumerate();
            let moments = moments.map(|(i, (values, var))| tensor(values, var, is_wax(i)));
            let moments = moments.collect::<Result<Vec<_>>>()?;
            network.optimizer.load_state(self.steps, &moments)?;
        }
        let hidden = self.config.hidden;
        let size = self.state.len() / hidden;
        let state = || Tensor::from_slice(&self.state, (size, hidden), &Device::Cpu);
        (size > 0).then(|| state().map(CharRnnState::new)).transpose()
    }

    fn load(&mut self, network: &Network, state: Option<CharRnnState>) -> Result<()> {
        self.factors = network.factors.as_ref().map(|_| Factors::default());
        let is_wax = |i| i == 0 && network.factors.is_none();
        let load = |vars: &[Var]| -> Result<Vec<Vec<F>>> {
            vars.iter().enumerate().map(|(i, var)| values(var, is_wax(i))).collect()
        };
        let mut variables = load(network.optimizer.vars())?.into_iter();
        if let Some(factors) = &mut self.factors {
            for (values, gradient) in factors.values.iter_mut().zip(&mut factors.gradients) {
                *values = variables.next().expect("a factor");
                gradient.resize(values.len(), F::ZERO);
            }
            let [wax_t, ..] = &mut self.parameters;
            wax_t.resize(self.config.vocabulary * self.config.hidden, F::ZERO);
        }
        let first = usize::from(self.factors.is_some());
        self.parameters[first..].iter_mut().zip(variables).for_each(|(own, values)| *own = values);
        let (steps, moments) = network.optimizer.state();
        (self.steps, self.moments) = (steps, load(moments)?);
        self.state = match state {
            Some(state) => state.a().flatten_all()?.to_vec1()?,
            None => vec![],
        };
        Ok(())
    }
}

/// Makes `to` these rows of `from`, of `n` columns.
fn gather<F: Float>(from: &[F], rows: &[u32], n: usize, to: &mut Vec<F>) {
    to.clear();
    rows.iter().for_each(|&row| to.extend_from_slice(&from[row as usize * n..][..n]));
}

/// Writes the rows of `from`, of `n` columns, to these rows of `to`.
fn scatter<F: Float>(from: &[F], rows: &[u32], n: usize, to: &mut [F]) {
    for (from, &row) in from.chunks_exact(n).zip(rows) {
        to[row as usize * n..][..n].copy_from_slice(from);
    }
}

/// The tensor like `var`, a variable or its moments, with these `values`; `wax` is transposed.
fn tensor<F: Float>(values: &[F], var: &Tensor, is_wax: bool) -> Result<Tensor> {
    match is_wax {
        true => Tensor::from_slice(values, var.t()?.shape(), &Device::Cpu)?.t()?.contiguous(),
        false => Tensor::from_slice(values, var.shape(), &Device::Cpu),
    }
}

/// The values of `var`, a variable or its moments; those of `wax` transposed.
fn values<F: Float>(var: &Tensor, is_wax: bool) -> Result<Vec<F>> {
    let tensor = if is_wax { var.t()? } else { var.clone() };
    tensor.flatten_all()?.to_vec1()
}
