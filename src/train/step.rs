//! The passes of a training step, which [`tensors`](super::tensors) and [`hand`](super::hand) have.

use super::factors::Factors;
use super::observer::Stats;
use super::optimizer::Optimizer;
use crate::data::Batch;
use crate::model::{CharRnn, CharRnnState};
use candle_core::Result;

/// A network in training: its variables, and what updates them.
pub(super) struct Network {
    pub model: CharRnn,
    pub optimizer: Optimizer,
    /// The variables behind `wax`, in a factored input.
    pub factors: Option<Factors>,
}

/// The passes of a training step. Each takes what the one before it has left.
pub(super) trait Step {
    /// The forward pass: the loss of `batch`. An index outside the vocabulary is an error.
    fn forward(&mut self, network: &Network, batch: &Batch) -> Result<()>;

    /// The backward pass: the gradients of the loss.
    fn backward(&mut self, network: &Network, batch: &Batch) -> Result<()>;

    /// Clamps the gradients to [-max, max]; `stats` receives their statistics before.
    fn clip(&mut self, max: f64, stats: Option<&mut Stats>) -> Result<()>;

    /// Updates the parameters by the gradients.
    fn update(&mut self, network: &mut Network, learning_rate: f64) -> Result<()>;

    /// The loss in nats, summed over the steps and averaged over the names. Read last: on a GPU it
    /// waits for the step.
    fn loss(&self) -> Result<f64>;

    /// Brings the variables and the optimizer up to date. Returns the state, (B, n_a).
    fn store(&mut self, network: &mut Network) -> Result<Option<CharRnnState>>;

    /// Continues from the variables, the optimizer and this state.
    fn load(&mut self, network: &Network, state: Option<CharRnnState>) -> Result<()>;
}
