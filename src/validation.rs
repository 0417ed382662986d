//! Judging a network in training by names that it does not learn from, and keeping it as it was
//! when it did best.

use crate::corpus::digest;
use crate::error::Result;
use crate::eval::evaluate;
use crate::model::CharRnn;
use candle_core::{DType, Device};

/// What the held-out names have told so far.
#[derive(Debug, Clone)]
pub struct Validation {
    /// The SHA-256 of the held-out names, sorted, in hexadecimal: the losses of others cannot be
    /// compared.
    pub names: String,
    /// The loss after the last iteration, in nats a name: [`crate::eval`] says from which state.
    pub loss: f64,
    /// When the network did best, of the times that it was looked at.
    pub best: Option<Best>,
    /// How many looks since then found it no better.
    pub since: u64,
}

/// A network as it was after an iteration.
#[derive(Debug, Clone)]
pub struct Best {
    /// The iteration, counted from 0.
    pub iteration: u64,
    /// Its loss on the held-out names, in nats a name.
    pub loss: f64,
    /// The network.
    pub model: CharRnn,
}

impl Validation {
    /// The best network, where it was better than the last.
    pub fn better(&self) -> Option<&Best> {
        self.best.as_ref().filter(|best| best.loss < self.loss)
    }
}

/// The held-out names of a run.
pub(crate) struct HeldOut {
    names: Vec<Vec<u32>>,
    digest: String,
    best: Option<Best>,
    since: u64,
}

impl HeldOut {
    /// These names, as indices and as text.
    pub(crate) fn new(names: Vec<Vec<u32>>, mut texts: Vec<&String>) -> Self {
        // In another order they are the same names.
        texts.sort();
        Self { names, digest: digest(texts), best: None, since: 0 }
    }

    /// Their digest: [`Validation::names`].
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether it is these names that told this.
    pub(crate) fn told_of(&self, before: &Validation) -> bool {
        before.names == self.digest
    }

    /// Goes on from what the same names have told before.
    pub(crate) fn go_on(
        &mut self,
        before: &Validation,
        dtype: DType,
        device: &Device,
    ) -> Result<()> {
        self.since = before.since;
        self.best = match &before.best {
            Some(Best { iteration, loss, model }) => {
                let model = model.map(|tensor| tensor.to_dtype(dtype)?.to_device(device))?;
                Some(Best { iteration: *iteration, loss: *loss, model })
            }
            None => None,
        };
        Ok(())
    }

    /// Their loss, in nats a name.
    pub(crate) fn loss(&self, model: &CharRnn) -> Result<f64> {
        Ok(evaluate(model, &self.names)?.nats_per_name())
    }

    /// Takes note of the loss after an iteration, and of the network where it is the best yet.
    pub(crate) fn note(&mut self, iteration: u64, loss: f64, model: &CharRnn) -> Result<()> {
        // A file may say any number.
        self.since = self.since.saturating_add(1);
        self.note_the_end(iteration, loss, model)
    }

    /// The same of the network at the end of a run, which is no look: patience does not count it.
    pub(crate) fn note_the_end(
        &mut self,
        iteration: u64,
        loss: f64,
        model: &CharRnn,
    ) -> Result<()> {
        if self.best.as_ref().is_none_or(|best| loss < best.loss) {
            // Its variables will change.
            let model = model.map(|tensor| tensor.detach().copy())?;
            (self.best, self.since) = (Some(Best { iteration, loss, model }), 0);
        }
        Ok(())
    }

    /// How many looks since the best found the network no better.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// What they have told, of a network that has this loss now.
    pub(crate) fn told(&self, loss: f64) -> Validation {
        let (names, best) = (self.digest.clone(), self.best.clone());
        Validation { names, loss, best, since: self.since }
    }
}
