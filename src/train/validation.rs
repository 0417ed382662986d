//! Held-out names: evaluate on them, keep the best parameters, stop early.

use crate::data::digest;
use crate::error::Result;
use crate::eval::evaluate;
use crate::model::CharRnn;
use crate::ngram::NGram;
use candle_core::{DType, Device};

/// The results on the held-out names so far.
#[derive(Debug, Clone)]
pub struct Validation {
    /// The SHA-256 of the held-out names, sorted, in hexadecimal. Losses on other names cannot be
    /// compared.
    pub names: String,
    /// The loss after the last iteration, in nats a name, from the zero state.
    pub loss: f64,
    /// The best network of all evaluations.
    pub best: Option<Best>,
    /// Evaluations without improvement since then.
    pub since_best: u64,
}

/// How an n-gram model of the training names predicts the held-out names.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// The order of the model.
    pub order: usize,
    /// The number of held-out names.
    pub names: usize,
    /// The number of their characters, the ends of names included.
    pub characters: usize,
    /// The loss of the model.
    pub nats_per_character: f64,
}

/// A network after an iteration.
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
    /// The best network, where it is better than the last.
    pub fn better(&self) -> Option<&Best> {
        self.best.as_ref().filter(|best| best.loss < self.loss)
    }
}

/// Evaluates a network in training.
pub(crate) struct Validator {
    names: Vec<Vec<u32>>,
    digest: String,
    best: Option<Best>,
    since_best: u64,
}

impl Validator {
    /// On these names, as indices and as text.
    pub fn new(names: Vec<Vec<u32>>, mut texts: Vec<&String>) -> Self {
        // The digest does not depend on their order.
        texts.sort();
        Self { names, digest: digest(texts), best: None, since_best: 0 }
    }

    /// The digest of the names: [`Validation::names`].
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The loss of an n-gram model.
    pub fn baseline(&self, model: &NGram) -> Baseline {
        let names = self.names.len();
        let characters = names + self.names.iter().map(Vec::len).sum::<usize>();
        let nats: f64 = self.names.iter().map(|name| model.loss(name)).sum();
        let nats_per_character = nats / characters as f64;
        Baseline { order: model.order(), names, characters, nats_per_character }
    }

    /// Continues from the results of an earlier run on the same names.
    pub fn load(&mut self, before: &Validation, dtype: DType, device: &Device) -> Result<()> {
        self.since_best = before.since_best;
        self.best = match &before.best {
            Some(Best { iteration, loss, model }) => {
                let model = model.map(|tensor| tensor.to_dtype(dtype)?.to_device(device))?;
                Some(Best { iteration: *iteration, loss: *loss, model })
            }
            None => None,
        };
        Ok(())
    }

    /// The loss of the names, in nats a name.
    pub fn loss(&self, model: &CharRnn) -> Result<f64> {
        Ok(evaluate(model, &self.names)?.nats_per_name())
    }

    /// Records the loss of an evaluation, and keeps the network if it is the best so far.
    pub fn record(&mut self, iteration: u64, loss: f64, model: &CharRnn) -> Result<()> {
        // A file may hold any number.
        self.since_best = self.since_best.saturating_add(1);
        self.keep_if_best(iteration, loss, model)
    }

    /// Keeps the network if it is the best so far; at the end of a run, which counts as no
    /// evaluation.
    pub fn keep_if_best(&mut self, iteration: u64, loss: f64, model: &CharRnn) -> Result<()> {
        if self.best.as_ref().is_none_or(|best| loss < best.loss) {
            // A copy: the variables change at the next step.
            let model = model.map(|tensor| tensor.detach().copy())?;
            (self.best, self.since_best) = (Some(Best { iteration, loss, model }), 0);
        }
        Ok(())
    }

    /// Evaluations without improvement since the best.
    pub fn since_best(&self) -> u64 {
        self.since_best
    }

    /// The results, for a network that has this loss now.
    pub fn results(&self, loss: f64) -> Validation {
        let (names, best) = (self.digest.clone(), self.best.clone());
        Validation { names, loss, best, since_best: self.since_best }
    }
}
