//! The `hand` method on the CPU, on slices from step to step.
//!
//! It keeps the parameters, AdamW's moments and the state as slices of its own, the one exception to
//! [`super::optimize`]: with the tensors of [`super::bptt::on_slices`] in their place, a step of the
//! notebook takes 1.39 times as long, one of 256 hidden units and 32 names up to 1.04 times.

use super::bptt::Bptt;
use super::config::TrainConfig;
use super::optimizer::{ClippedOptimizer, GradientStats, OptimizerKind};
use crate::data::Batch;
use crate::kernels::Element;
use crate::kernels::update::{
    AdamW, ClippedDescent, adamw_descent, adamw_moments, clipped_descent,
};
use crate::model::{CharRnnState, Config};
use crate::ops::Float;
use candle_core::{DType, Device, Result, Tensor};

/// A network in training whose numbers are in slices.
pub(super) trait OnSlices {
    /// The loss of `batch` in nats, summed over the steps and averaged over the names.
    ///
    /// # Errors
    /// Where an index is outside the vocabulary.
    fn backpropagate(&mut self, batch: &Batch) -> Result<f64>;

    /// Clips the gradients of `batch`, that of the last [`backpropagate`](Self::backpropagate), and
    /// updates the parameters. `stats` receives the statistics of the gradients.
    fn clip_and_update(
        &mut self,
        batch: &Batch,
        learning_rate: f64,
        stats: Option<&mut [GradientStats; 5]>,
    );

    /// Writes parameters and moments to the variables of `optimizer`. Returns the state, (B, n_a).
    fn store(&mut self, optimizer: &mut ClippedOptimizer) -> Result<Option<CharRnnState>>;

    /// Takes parameters and moments from the variables of `optimizer`, and this state.
    fn load(&mut self, optimizer: &ClippedOptimizer, state: Option<&CharRnnState>) -> Result<()>;
}

pub(super) fn on_slices(model: Config, config: &TrainConfig) -> Result<Box<dyn OnSlices>> {
    fn new<F: Float>(model: Config, config: &TrainConfig) -> Hand<F> {
        Hand {
            model,
            optimizer: config.optimizer,
            clip: config.clip,
            weight_decay: config.weight_decay,
            carry_state: config.carry_state,
            bptt: Bptt::new(model.hidden, model.vocabulary),
            parameters: Default::default(),
            moments: vec![],
            steps: 0,
            state: vec![],
            is_stored: true,
        }
    }
    Ok(match config.dtype {
        DType::F64 => Box::new(new::<f64>(model, config)),
        _ => Box::new(new::<f32>(model, config)),
    })
}

struct Hand<F> {
    model: Config,
    optimizer: OptimizerKind,
    clip: f64,
    weight_decay: f64,
    carry_state: bool,
    bptt: Bptt<F>,
    /// `wax^T`, `waa`, `wya`, `b` and `by`.
    parameters: [Vec<F>; 5],
    /// AdamW's two moments of each.
    moments: Vec<Vec<F>>,
    steps: u64,
    /// (B, n_a); empty before the first minibatch.
    state: Vec<F>,
    /// Whether the variables have the parameters as they are.
    is_stored: bool,
}

impl<F: Float> OnSlices for Hand<F> {
    fn backpropagate(&mut self, batch: &Batch) -> Result<f64> {
        batch.check_indices(self.model.vocabulary)?;
        let length = batch.size() * self.model.hidden;
        if !self.carry_state || self.state.len() != length {
            self.state.clear();
            self.state.resize(length, F::ZERO);
        }
        let parameters = self.parameters.each_ref().map(Vec::as_slice);
        let scale = Element::from_f64(1. / batch.size() as f64);
        let loss = self.bptt.backpropagate(parameters, batch, &self.state, scale);
        self.bptt.last_states(batch, &mut self.state);
        Ok(loss)
    }

    fn clip_and_update(
        &mut self,
        batch: &Batch,
        learning_rate: f64,
        stats: Option<&mut [GradientStats; 5]>,
    ) {
        self.steps += 1;
        self.is_stored = false;
        let gradients = self.bptt.gradients(batch);
        if let Some(stats) = stats {
            *stats = gradients.each_ref().map(|gradient| GradientStats::of(gradient, self.clip));
        }
        let steps = self.parameters.iter_mut().zip(gradients);
        match self.optimizer {
            OptimizerKind::Sgd => {
                let descent = ClippedDescent::new(learning_rate, self.clip);
                steps.for_each(|(w, g)| clipped_descent(w, g, descent));
            }
            OptimizerKind::AdamW => {
                let step = AdamW::new(self.steps, learning_rate, self.weight_decay, self.clip);
                for ((w, g), moments) in steps.zip(&mut self.moments) {
                    adamw_moments(moments, g, &step);
                    adamw_descent(w, moments, &step);
                }
            }
        }
    }

    fn store(&mut self, optimizer: &mut ClippedOptimizer) -> Result<Option<CharRnnState>> {
        if !std::mem::replace(&mut self.is_stored, true) {
            for (i, (values, var)) in self.parameters.iter().zip(optimizer.vars()).enumerate() {
                var.set(&tensor(i, values, var)?)?;
            }
            let moments = self.moments.iter().zip(optimizer.state().1).enumerate();
            let moments = moments.map(|(i, (values, var))| tensor(i, values, var));
            let moments = moments.collect::<Result<Vec<_>>>()?;
            optimizer.load_state(self.steps, &moments)?;
        }
        let hidden = self.model.hidden;
        Ok(match self.state.len() / hidden {
            0 => None,
            size => {
                let a = Tensor::from_slice(&self.state, (size, hidden), &Device::Cpu)?;
                Some(CharRnnState::new(a))
            }
        })
    }

    fn load(&mut self, optimizer: &ClippedOptimizer, state: Option<&CharRnnState>) -> Result<()> {
        for (i, (own, var)) in self.parameters.iter_mut().zip(optimizer.vars()).enumerate() {
            *own = values(i, var)?;
        }
        let (steps, moments) = optimizer.state();
        let moments = moments.iter().enumerate().map(|(i, moments)| values(i, moments));
        (self.steps, self.moments) = (steps, moments.collect::<Result<_>>()?);
        self.state = match state {
            Some(state) => state.a().flatten_all()?.to_vec1()?,
            None => vec![],
        };
        Ok(())
    }
}

/// The place of `wax` in the parameters. It is transposed here: [`Bptt`] reads its columns as rows.
const WAX: usize = 0;

/// The tensor like `var`, of parameter `i` or its moments, with these `values`.
fn tensor<F: Float>(i: usize, values: &[F], var: &Tensor) -> Result<Tensor> {
    let like = if i == WAX { var.t()? } else { var.clone() };
    let tensor = Tensor::from_slice(values, like.shape(), &Device::Cpu)?;
    if i == WAX { tensor.t()?.contiguous() } else { Ok(tensor) }
}

/// The values of `var`, of parameter `i` or its moments.
fn values<F: Float>(i: usize, var: &Tensor) -> Result<Vec<F>> {
    let tensor = if i == WAX { var.t()? } else { var.clone() };
    tensor.flatten_all()?.to_vec1()
}
