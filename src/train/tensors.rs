//! A training step on tensors: by candle's autograd, and by `hand` on another device than the CPU.

use super::factors::FACTORS;
use super::gradients::{Forward, GradientMethod, forward};
use super::observer::Stats;
use super::optimizer::GradientStats;
use super::step::{Network, Step};
use crate::data::Batch;
use crate::model::CharRnnState;
use crate::ops::{clamp, scalar};
use candle_core::{Result, Tensor};
use candle_nn::RNN;

/// The passes of a step, and what each leaves for the next.
pub(super) struct OnTensors {
    method: GradientMethod,
    carry_state: bool,
    /// The state after the last step, (B, n_a).
    state: Option<CharRnnState>,
    loss: Option<Tensor>,
    forward: Option<(Forward, CharRnnState)>,
    /// Those of the variables.
    gradients: Vec<Tensor>,
    /// That of `wax`, where the variables are its factors.
    dwax: Option<Tensor>,
}

impl OnTensors {
    pub fn new(method: GradientMethod, carry_state: bool) -> Self {
        let (state, loss, forward, dwax) = (None, None, None, None);
        Self { method, carry_state, state, loss, forward, gradients: vec![], dwax }
    }
}

impl Step for OnTensors {
    fn forward(&mut self, network: &Network, batch: &Batch) -> Result<()> {
        let (model, names) = (&network.model, batch.size());
        let start = match self.state.take().filter(|_| self.carry_state) {
            Some(state) => state,
            None => model.zero_state(names)?,
        };
        let forward = forward(self.method, model, batch, &start, names)?;
        // Detached: the graph is freed when the backward pass is done.
        (self.loss, self.state) = (Some(forward.loss.detach()), Some(forward.last.clone()));
        self.forward = Some((forward, start));
        Ok(())
    }

    fn backward(&mut self, network: &Network, batch: &Batch) -> Result<()> {
        let (forward, start) = self.forward.take().expect("forward comes before backward");
        let (gradients, _) = forward.backward(&network.model, batch, &start)?;
        self.gradients = Vec::from(gradients);
        if let Some(factors) = &network.factors {
            let of_factors = factors.gradients(&self.gradients[0])?;
            self.dwax = self.gradients.splice(..1, of_factors).next();
        }
        Ok(())
    }

    fn clip(&mut self, max: f64, stats: Option<&mut Stats>) -> Result<()> {
        if let Some(stats) = stats {
            let factors = if self.dwax.is_some() { FACTORS.len() } else { 0 };
            let of_parameters = self.dwax.iter().chain(&self.gradients[factors..]);
            for (stats, gradient) in stats.iter_mut().zip(of_parameters) {
                *stats = GradientStats::of_tensor(gradient, max)?;
            }
        }
        self.gradients.iter_mut().try_for_each(|gradient| clamp(gradient, max))
    }

    fn update(&mut self, network: &mut Network, learning_rate: f64) -> Result<()> {
        network.optimizer.step_with(&self.gradients, learning_rate)?;
        network.factors.as_ref().map_or(Ok(()), |factors| factors.update_wax())
    }

    fn loss(&self) -> Result<f64> {
        scalar(self.loss.as_ref().expect("a step has a loss"))
    }

    fn store(&mut self, _network: &mut Network) -> Result<Option<CharRnnState>> {
        Ok(self.state.clone())
    }

    fn load(&mut self, _network: &Network, state: Option<CharRnnState>) -> Result<()> {
        self.state = state;
        Ok(())
    }
}
