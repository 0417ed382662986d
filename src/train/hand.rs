//! A training step by `hand` on the CPU, on slices.
//!
//! It keeps the parameters, AdamW's moments and the state as slices of its own from step to step, and
//! allocates nothing.

use super::bptt::Bptt;
use super::config::TrainConfig;
use super::observer::Stats;
use super::optimizer::{GradientStats, OptimizerKind};
use super::step::{Network, Step};
use crate::data::Batch;
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
    /// The rows of the last minibatch, of all names.
    rows: usize,
    /// (B, n_a); empty before the first minibatch.
    state: Vec<F>,
    loss: f64,
    /// Whether the variables have the parameters as they are.
    is_stored: bool,
}

/// The variables behind `wax^T`, (n_x, n_a), as in [`super::factors`]: the product of the embedding,
/// (n_x, n_a), and the projection, (n_a, n_a), transposed.
#[derive(Default)]
struct Factors<F> {
    /// The projection and the embedding.
    values: [Vec<F>; 2],
    gradients: [Vec<F>; 2],
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
        Pass::new(self.rows, self.config.hidden)
    }
}

impl<F: Float> Factors<F> {
    /// The gradients, from that of `wax^T`.
    fn backward(&mut self, dwax_t: &[F], Config { vocabulary: v, hidden: n }: Config) {
        let [projection, embedding] = &self.values;
        let [d_projection, d_embedding] = &mut self.gradients;
        let (dwax, dwax_t) = (Matrix::transposed(dwax_t, n), Matrix::rows(dwax_t, n));
        let (embedding, scratch) = (Matrix::rows(embedding, n), &mut self.scratch);
        let projection = Matrix::rows(projection, n);
        product([n, v, n], dwax, embedding, d_projection, scratch);
        product([v, n, n], dwax_t, projection, d_embedding, scratch);
    }

    /// Sets `wax^T` to the product.
    fn multiply(&mut self, wax_t: &mut [F], Config { vocabulary: v, hidden: n }: Config) {
        let [projection, embedding] = &self.values;
        let (a, b) = (Matrix::rows(embedding, n), Matrix::transposed(projection, n));
        product([v, n, n], a, b, wax_t, &mut self.scratch);
    }
}

impl<F: Float> Step for OnSlices<F> {
    fn forward(&mut self, _network: &Network, batch: &Batch) -> Result<()> {
        batch.check_indices(self.config.vocabulary)?;
        self.rows = batch.x().len();
        let _pass = self.pass();
        let length = batch.size() * self.config.hidden;
        if !self.carry_state || self.state.len() != length {
            self.state.clear();
            self.state.resize(length, F::ZERO);
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
            factors.backward(dwax_t, self.config);
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
        let mut steps = self.parameters.iter_mut().zip(&mut self.bptt.gradients);
        let factored = self.factors.is_some().then(|| steps.next()).flatten();
        let factors = self.factors.iter_mut();
        let factors = factors.flat_map(|f| f.values.iter_mut().zip(&mut f.gradients));
        let steps = factors.chain(steps);
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
        if let (Some(factors), Some((wax_t, _))) = (&mut self.factors, factored) {
            factors.multiply(wax_t, self.config);
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
            factors.multiply(wax_t, self.config);
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
