//! Candle's graph, by primitive or by fused ops.

use super::workers::Workers;
use super::{Carried, Engine, Gradients, StepLoss, carried_in, carried_of};
use crate::batch::Batch;
use crate::model::{CharRnn, CharRnnState};
use crate::optim::{Descent, DescentConfig, Gradient};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_nn::{Optimizer, RNN};

pub(super) struct Graph {
    model: CharRnn,
    unrolled: bool,
    optimizer: Descent,
    state: Option<CharRnnState>,
    workers: Workers,
}

/// What a batch leads to.
struct Learned {
    loss: StepLoss,
    gradients: GradStore,
    last: CharRnnState,
}

impl Graph {
    pub(super) fn new(
        model: CharRnn,
        variables: Vec<Var>,
        unrolled: bool,
        optimizer: DescentConfig,
        workers: Workers,
    ) -> Result<Self> {
        let optimizer = Descent::new(variables, optimizer)?;
        Ok(Self { model, unrolled, optimizer, state: None, workers })
    }

    /// Goes forward and back; the loss of each name counts `1 / names`.
    fn learn(&self, batch: &Batch, start: &CharRnnState, names: usize) -> Result<Learned> {
        let forward = match self.unrolled {
            true => self.model.loss_unrolled(batch, start)?,
            false => self.model.loss(batch, start)?,
        };
        let loss = match names {
            1 => forward.loss,
            names => (forward.loss / names as f64)?,
        };
        let gradients = loss.backward()?;
        Ok(Learned { loss: StepLoss::of(loss)?, gradients, last: forward.last })
    }

    /// The same, the names of the batch parted among the workers.
    fn learn_in_parts(&self, batch: &Batch, start: &CharRnnState) -> Result<Learned> {
        let mut parts = Vec::new();
        for range in self.workers.parts(batch.size()) {
            let mut part = Batch::default();
            part.fill_part(batch, range.clone());
            parts.push((part, CharRnnState::new(start.a().narrow(0, range.start, range.len())?)));
        }
        let work =
            |(part, start): &mut (Batch, CharRnnState)| self.learn(part, start, batch.size());
        let learned = self.workers.map(&mut parts, work);
        let mut learned = learned.into_iter().collect::<Result<Vec<_>>>()?.into_iter();
        let mut all = learned.next().expect("a batch has a part");
        let mut states = vec![all.last.a().clone()];
        for part in learned {
            all.loss = all.loss.plus(part.loss)?;
            for (_, parameter) in self.model.parameters() {
                if let Some(gradient) = part.gradients.get(parameter) {
                    let sum = match all.gradients.get(parameter) {
                        Some(sum) => (sum + gradient)?,
                        None => gradient.clone(),
                    };
                    all.gradients.insert(parameter, sum);
                }
            }
            states.push(part.last.a().clone());
        }
        all.last = CharRnnState::new(Tensor::cat(&states, 0)?);
        Ok(all)
    }
}

impl Engine for Graph {
    fn measured_step(
        &mut self,
        batch: &Batch,
        gradients: Option<&mut Gradients>,
    ) -> Result<StepLoss> {
        let start = match self.state.take() {
            Some(state) => state,
            None => self.model.zero_state(batch.size())?,
        };
        let learned = match self.workers.parts(batch.size()).len() {
            1 => self.learn(batch, &start, batch.size())?,
            _ => self.learn_in_parts(batch, &start)?,
        };
        if let Some(gradients) = gradients {
            for (measured, (_, parameter)) in gradients.iter_mut().zip(self.model.parameters()) {
                // What the loss does not depend on has no gradient.
                *measured = match learned.gradients.get(parameter) {
                    Some(gradient) => Gradient::of_tensor(gradient, self.optimizer.config().clip)?,
                    None => Gradient::default(),
                };
            }
        }
        self.optimizer.step(&learned.gradients)?;
        self.state = Some(learned.last);
        Ok(learned.loss)
    }

    fn clear_state(&mut self) {
        self.state = None;
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    fn model(&mut self) -> Result<&CharRnn> {
        Ok(&self.model)
    }

    fn carried(&self) -> Result<Carried> {
        carried_of(self.state.as_ref().map(|state| state.a().clone()), self.optimizer.state()?)
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        let (state, moments) = carried_in(carried, &self.model, self.optimizer.config().algorithm)?;
        if let Some((steps, moments)) = moments {
            self.optimizer.go_on(steps, &moments)?;
        }
        self.state = state;
        Ok(())
    }
}
