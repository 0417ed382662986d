//! The run of a model file, from which training continues: the JSON in the metadata, and tensors.
//!
//! | in the file | |
//! | --- | --- |
//! | metadata `run` | [`Metadata`] as JSON |
//! | tensor `known_names` | [`KnownNames`], u32 |
//! | tensors `state.a`, `state.projection`, `state.embedding`, `state.adamw.*` | [`OptimizeState`] |
//! | tensors `last.*` | the last parameters, where those of the model are the best |
//! | tensors `best.*` | the best parameters, where those of the model are the last and no worse |
//!
//! No generator is stored: [`crate::random`] says why.

use super::container::tensor_of;
use super::network;
use crate::data::{Corpus, KnownNames, LetterCase, Spelling};
use crate::model::CharRnn;
use crate::train::optimize::check_state;
use crate::train::{Best, History, OptimizeState, Progress, TrainConfig, Trained, Validation};
use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

const KNOWN_NAMES: &str = "known_names";
const STATE: &str = "state.";
const LAST: &str = "last.";
const BEST: &str = "best.";

/// The version of [`Metadata`] and its tensors.
pub(super) const VERSION: u64 = 6;

/// A run, and everything that training needs to continue.
#[derive(Debug, Clone)]
pub struct Run {
    /// The configuration. `iterations` is the number asked for.
    pub config: TrainConfig,
    /// The result of training, from which it can continue.
    pub trained: Trained,
    /// The list of names.
    pub list: ListInfo,
    /// The names that the network was trained on.
    pub known: KnownNames,
    /// The changes of the configuration on resume, the oldest first.
    pub changes: Vec<Change>,
    /// The program that wrote the file, with its version.
    pub program: String,
}

impl Run {
    /// The number of iterations done.
    pub fn iterations(&self) -> u64 {
        self.trained.progress.iteration.saturating_add(1)
    }

    /// Whether training ended before it was done.
    pub fn is_unfinished(&self) -> bool {
        let since_best = self.trained.validation.as_ref().map_or(0, |v| v.since_best);
        !self.config.is_done(self.iterations(), since_best)
    }
}

/// The list of names of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListInfo {
    /// The number of names.
    pub names: usize,
    /// Their digest: [`Corpus::digest`].
    pub sha256: String,
    /// The length of the longest, in characters.
    pub longest: usize,
    /// How their capitals were asked to be learned.
    pub case: LetterCase,
    /// How they are learned and shown.
    pub spelling: Spelling,
}

impl ListInfo {
    /// Of the names of `corpus`.
    pub fn of(corpus: &Corpus) -> Self {
        let (names, longest) = (corpus.names().len(), corpus.longest());
        let (case, spelling) = (corpus.case(), corpus.spelling().clone());
        Self { names, sha256: corpus.digest(), longest, case, spelling }
    }
}

/// A change of the configuration on resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The first iteration with the new value.
    pub iteration: u64,
    /// The field of the configuration, or `case` or `list`.
    pub field: String,
    /// The old value.
    pub from: String,
    /// The new value.
    pub to: String,
}

/// The JSON in the file's metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    version: u64,
    program: String,
    config: TrainConfig,
    list: ListInfo,
    changes: Vec<Change>,
    progress: Progress,
    history: History,
    validation: Option<Losses>,
}

/// A [`Validation`] without its network.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Losses {
    names: String,
    loss: f64,
    since_best: u64,
    best: Option<(u64, f64)>,
}

impl From<&Run> for Metadata {
    fn from(run: &Run) -> Self {
        let Run { config, trained, list, changes, program, .. } = run.clone();
        let validation = trained.validation.map(|validation| Losses {
            names: validation.names,
            loss: validation.loss,
            since_best: validation.since_best,
            best: validation.best.map(|best| (best.iteration, best.loss)),
        });
        let (progress, history) = (trained.progress, trained.history);
        Self { version: VERSION, program, config, list, changes, progress, history, validation }
    }
}

/// The tensors of a run beside those of its network.
pub(super) fn tensors(run: &Run) -> candle_core::Result<Vec<(String, Tensor)>> {
    let Trained { model, state, validation, .. } = &run.trained;
    let known = Tensor::new(run.known.fingerprints(), &Device::Cpu)?;
    let mut tensors = vec![(KNOWN_NAMES.to_string(), known)];
    tensors.extend(state.iter().map(|(name, tensor)| (format!("{STATE}{name}"), tensor.clone())));
    // The network that is not the model itself.
    if let Some(validation) = validation
        && let Some(best) = &validation.best
    {
        let (prefix, other) = validation.better().map_or((BEST, &best.model), |_| (LAST, model));
        let parameters = other.parameters().into_iter();
        tensors
            .extend(parameters.map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())));
    }
    Ok(tensors)
}

/// The run that this `metadata` and the tensors of `file` hold, whose network is `model`.
///
/// # Errors
/// Says what does not fit.
pub(super) fn restore(
    metadata: Metadata,
    file: &SafeTensors,
    model: CharRnn,
) -> Result<Run, String> {
    let Metadata { program, config, list, changes, progress, history, validation, .. } = metadata;
    if config.hidden != model.config().hidden || config.dtype != model.dtype() {
        return Err("its configuration does not fit its network".to_string());
    }
    config.check().map_err(|error| error.to_string())?;
    list.spelling.check()?;
    let mut state = OptimizeState::new();
    for name in file.names() {
        if let Some(own) = name.strip_prefix(STATE) {
            state.insert(own.to_string(), tensor_of(file, name, model.device())?);
        }
    }
    check_state(&state, model.config(), &config)?;
    if progress.iteration.checked_add(1).is_none_or(|iterations| !history.is_of(iterations)) {
        return Err("its history is not that of its iterations".to_string());
    }
    let mut trained = Trained { model, progress, state, history, validation: None };
    if let Some(Losses { names, loss, since_best, best }) = validation {
        let mut validation = Validation { names, loss, best: None, since_best };
        if let Some((iteration, best_loss)) = best {
            if iteration > progress.iteration {
                return Err(format!("its best network is of the iteration {iteration}"));
            }
            let is_better = best_loss < loss;
            let prefix = if is_better { LAST } else { BEST };
            let mut model = network(file, prefix, trained.model.config(), trained.model.device())?;
            if model.dtype() != config.dtype {
                return Err(format!("its tensors {prefix} do not fit its configuration"));
            }
            if is_better {
                std::mem::swap(&mut model, &mut trained.model);
            }
            validation.best = Some(Best { iteration, loss: best_loss, model });
        }
        trained.validation = Some(validation);
    }
    Ok(Run { config, trained, list, known: known_names(file)?, changes, program })
}

/// The names that the model was trained on.
fn known_names(file: &SafeTensors) -> Result<KnownNames, String> {
    let view = file.tensor(KNOWN_NAMES).map_err(|_| format!("it has no tensor {KNOWN_NAMES:?}"))?;
    if view.dtype() != Dtype::U32 || view.shape().len() != 1 {
        return Err(format!("its tensor {KNOWN_NAMES:?} is not a vector of U32"));
    }
    let fingerprint = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    KnownNames::from_fingerprints(view.data().chunks_exact(4).map(fingerprint).collect())
}
