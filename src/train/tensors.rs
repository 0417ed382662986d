//! A training step on tensors: by candle's autograd, and by `hand` on another device than the CPU.

use super::gradients::{Forward, GradientMethod, Gradients, forward};
use super::observer::Stats;
use super::optimize::{Network, Step};
use super::optimizer::GradientStats;
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
    /// Those of the parameters, and those of the variables: other ones with a factored input.
    gradients: Option<(Gradients, Vec<Tensor>)>,
}

impl OnTensors {
    pub fn new(method: GradientMethod, carry_state: bool) -> Self {
        Self { method, carry_state, state: None, loss: None, forward: None, gradients: None }
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
        (self.loss, self.state) = (Some(forward.loss.clone()), Some(forward.last.clone()));
        self.forward = Some((forward, start));
        Ok(())
    }

    fn backward(&mut self, network: &Network, batch: &Batch) -> Result<()> {
        let (forward, start) = self.forward.take().expect("forward comes before backward");
        let (gradients, _) = forward.backward(&network.model, batch, &start)?;
        let mut of_variables = gradients.to_vec();
        if let Some(factors) = &network.factors {
            of_variables.splice(..1, factors.gradients(&gradients[0])?);
        }
        self.gradients = Some((gradients, of_variables));
        Ok(())
    }

    fn clip(&mut self, max: f64, stats: Option<&mut Stats>) -> Result<()> {
        let (gradients, of_variables) =
            self.gradients.as_mut().expect("backward comes before clip");
        if let Some(stats) = stats {
            for (stats, gradient) in stats.iter_mut().zip(gradients) {
                *stats = GradientStats::of_tensor(gradient, max)?;
            }
        }
        of_variables.iter_mut().try_for_each(|gradient| {
            *gradient = clamp(gradient, max)?;
            Ok(())
        })
    }

    fn update(&mut self, network: &mut Network, learning_rate: f64) -> Result<()> {
        let (_, gradients) = self.gradients.take().expect("clip comes before update");
        network.optimizer.step_with(&gradients, learning_rate)?;
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
