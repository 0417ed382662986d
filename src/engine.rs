//! A training step by each of the ways back: forward, backward, clip, update.
//!
//! All ways mean the same and differ in where the gradient comes from. The hidden state is
//! carried from each step's examples to the next's, cut from the graph.

use crate::batch::Batch;
use crate::model::{CharRnn, CharRnnState, Config, char_rnn};
use crate::optim::{ClippedSgd, ClippedSgdConfig};
use candle_core::{DType, Result};
use candle_nn::{Optimizer, RNN, VarBuilder, VarMap};
use std::fmt;

/// Where the gradient comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backprop {
    /// Candle's primitive ops, a node of the graph for each op of each time step: the reference.
    Unrolled,
    /// Candle's autograd.
    #[default]
    Autograd,
}

impl fmt::Display for Backprop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unrolled => "unrolled",
            Self::Autograd => "autograd",
        })
    }
}

/// A network in training.
pub struct Engine {
    model: CharRnn,
    optimizer: ClippedSgd,
    state: Option<CharRnnState>,
}

impl Engine {
    /// The engine that trains `vars`, the variables of a network of this `config`.
    ///
    /// # Errors
    /// Where the variables do not fit the network.
    pub fn new(
        _backprop: Backprop,
        config: Config,
        vars: VarMap,
        optimizer: ClippedSgdConfig,
    ) -> Result<Self> {
        let variables = vars.all_vars();
        let (dtype, device) = (variables[0].dtype(), variables[0].device().clone());
        let model = char_rnn(config, VarBuilder::from_varmap(&vars, dtype, &device))?;
        Ok(Self { model, optimizer: ClippedSgd::new(variables, optimizer)?, state: None })
    }

    /// Learns `batch` from the state that the last batch left, the zero state at first, and
    /// returns its loss in nats, summed over the characters.
    ///
    /// # Errors
    /// Where an index is outside the vocabulary, the batch has another size than the last one, or
    /// the device fails.
    pub fn step(&mut self, batch: &Batch) -> Result<f64> {
        let start = match self.state.take() {
            Some(state) => state,
            None => self.model.zero_state(batch.size())?,
        };
        let forward = self.model.loss_unrolled(batch, &start)?;
        self.optimizer.backward_step(&forward.loss)?;
        self.state = Some(forward.last);
        forward.loss.to_dtype(DType::F64)?.to_scalar()
    }

    /// The network, its parameters as they stand now.
    pub fn model(&self) -> &CharRnn {
        &self.model
    }
}
