//! The training state of a model file: metadata and tensors.
//!
//! | in the file | |
//! | --- | --- |
//! | metadata `training` | [`Metadata`] as JSON |
//! | tensors `state.a`, `state.projection`, `state.embedding`, `state.adamw.*` | [`crate::train::OptimizeState`] |
//! | tensor `history` | the loss curve, f64, (points, 2): mean and smoothed loss |
//! | tensor `history.gradients` | f64, (points, 11): an iteration, and of each parameter the norm of its gradient and the share clipped |
//! | tensor `history.validation` | f64, (points, 2): an iteration, and the loss of the held-out names |
//! | tensors `last.*` | the last parameters, where those of the model are the best |
//! | tensors `best.*` | the best parameters, where those of the model are the last and no worse |
//!
//! No generator is stored: [`crate::random`] says why.

use crate::data::{Corpus, LetterCase};
use crate::error::Error;
use crate::model::{CharRnn, PARAMETERS, char_rnn};
use crate::train::optimize::check_state;
use crate::train::{
    Best, GradientStats, History, LossCurve, OptimizeState, Point, Progress, Stats, Thinning,
    TrainConfig, Trained, Validation,
};
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

const STATE: &str = "state.";
const LOSSES: &str = "history";
const GRADIENTS: &str = "history.gradients";
const VALIDATION: &str = "history.validation";
const LAST: &str = "last.";
const BEST: &str = "best.";

/// The list of names of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListInfo {
    /// The number of names.
    pub names: usize,
    /// Their digest: [`crate::data::Corpus::digest`].
    pub sha256: String,
    /// The length of the longest, in characters.
    pub longest: usize,
    /// Whether they were lower-cased.
    pub case: LetterCase,
}

impl ListInfo {
    /// Of the names of `corpus`, which were read with this letter `case`.
    pub fn of(corpus: &Corpus, case: LetterCase) -> Self {
        let (names, longest) = (corpus.names().len(), corpus.longest());
        Self { names, sha256: corpus.digest(), longest, case }
    }
}

/// A change of the configuration on resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The first iteration with the new value.
    pub iteration: u64,
    /// The field of the configuration, or `keep_case` or `list`.
    pub field: String,
    /// The old value.
    pub from: String,
    /// The new value.
    pub to: String,
}

/// The JSON in the file's metadata. An unknown field means a newer version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    /// The version of this program that wrote the file.
    pub program: String,
    pub config: TrainConfig,
    pub list: ListInfo,
    pub changes: Vec<Change>,
    progress: Progress,
    history_stride: u64,
    history_sum: f64,
    history_gradients: Thinning,
    history_validation: Thinning,
    history_samples: Thinning,
    /// The sampled names, by iteration.
    samples: Vec<(u64, Vec<String>)>,
    validation: Option<ValidationState>,
}

/// A [`Validation`] without its network.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidationState {
    names: String,
    loss: f64,
    since_best: u64,
    best: Option<(u64, f64)>,
}

impl Metadata {
    pub fn new(
        program: &str,
        config: &TrainConfig,
        list: &ListInfo,
        changes: &[Change],
        trained: &Trained,
    ) -> Self {
        let Trained { progress, history, validation, .. } = trained;
        Self {
            program: program.to_string(),
            config: config.clone(),
            list: list.clone(),
            changes: changes.to_vec(),
            progress: *progress,
            history_stride: history.loss.stride(),
            history_sum: history.loss.sum(),
            history_gradients: history.gradients.counts(),
            history_validation: history.validation.counts(),
            history_samples: history.samples.counts(),
            samples: history.samples.values().to_vec(),
            validation: validation.as_ref().map(|validation| ValidationState {
                names: validation.names.clone(),
                loss: validation.loss,
                since_best: validation.since_best,
                best: validation.best.as_ref().map(|best| (best.iteration, best.loss)),
            }),
        }
    }
}

/// The tensors of the state.
pub(super) fn tensors(trained: &Trained) -> candle_core::Result<Vec<(String, Tensor)>> {
    let Trained { model, state, history, validation, .. } = trained;
    let mut tensors: Vec<(String, Tensor)> =
        state.iter().map(|(name, tensor)| (format!("{STATE}{name}"), tensor.clone())).collect();
    let mut add = |name: &str, rows: Vec<Vec<f64>>, columns: usize| {
        let numbers: Vec<f64> = rows.concat();
        let shape = (numbers.len() / columns, columns);
        tensors.push((name.to_string(), Tensor::from_vec(numbers, shape, &Device::Cpu)?));
        candle_core::Result::Ok(())
    };
    let points = history.loss.points().iter();
    add(LOSSES, points.map(|point| vec![point.loss, point.smoothed]).collect(), 2)?;
    let gradients = history.gradients.values().iter().map(|(iteration, stats)| {
        let pairs = stats.iter().flat_map(|stats| [stats.norm, stats.clipped]);
        std::iter::once(*iteration as f64).chain(pairs).collect()
    });
    add(GRADIENTS, gradients.collect(), 1 + 2 * PARAMETERS.len())?;
    if validation.is_some() {
        let losses = history.validation.values().iter();
        add(VALIDATION, losses.map(|&(at, loss)| vec![at as f64, loss]).collect(), 2)?;
    }
    // The network that is not the model itself.
    let other = validation.as_ref().and_then(|validation| {
        let best = validation.best.as_ref()?;
        Some(validation.better().map_or((BEST, &best.model), |_| (LAST, model)))
    });
    if let Some((prefix, other)) = other {
        let parameters = other.parameters().into_iter();
        tensors
            .extend(parameters.map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())));
    }
    Ok(tensors)
}

/// The run that this `metadata` and these tensors hold: `names` are those of all tensors, and
/// `tensor` reads one. `model` is the network that the file holds.
///
/// # Errors
/// Says what does not fit.
pub(super) fn restore(
    metadata: &Metadata,
    names: &[&str],
    tensor: impl Fn(&str) -> Result<Tensor, String>,
    model: CharRnn,
) -> Result<Trained, String> {
    let Metadata { config, progress, .. } = metadata;
    if config.hidden != model.config().hidden || config.dtype != model.dtype() {
        return Err("its configuration does not fit its network".to_string());
    }
    config.check().map_err(|error| error.to_string())?;
    let iterations =
        progress.iteration.checked_add(1).ok_or("its number of iterations is too large")?;

    let mut state = OptimizeState::new();
    for &name in names {
        if let Some(own) = name.strip_prefix(STATE) {
            state.insert(own.to_string(), tensor(name)?);
        }
    }
    check_state(&state, model.config(), config)?;

    let history = history_of(metadata, iterations, &tensor)?;
    let mut trained = Trained { model, progress: *progress, state, history, validation: None };
    if let Some(stored) = &metadata.validation {
        let ValidationState { names, loss, since_best, best } = stored;
        let (loss, since_best) = (*loss, *since_best);
        let mut validation = Validation { names: names.clone(), loss, best: None, since_best };
        if let Some((at, best_loss)) = *best {
            check_iteration(at as f64, progress)?;
            let is_better = best_loss < loss;
            let prefix = if is_better { LAST } else { BEST };
            let mut best = network(prefix, &trained.model, &tensor)?;
            if is_better {
                std::mem::swap(&mut best, &mut trained.model);
            }
            validation.best = Some(Best { iteration: at, loss: best_loss, model: best });
        }
        trained.validation = Some(validation);
    }
    Ok(trained)
}

/// The course of the run, of this many iterations.
fn history_of(
    metadata: &Metadata,
    iterations: u64,
    tensor: &impl Fn(&str) -> Result<Tensor, String>,
) -> Result<History, String> {
    let rows = |name, columns| tensor(name).and_then(|tensor| rows(&tensor, columns));
    let iteration = |at| check_iteration(at, &metadata.progress);
    let mut history = History::default();
    let points = rows(LOSSES, 2)?;
    let points = points.iter().map(|row| Point { loss: row[0], smoothed: row[1] }).collect();
    let (stride, sum) = (metadata.history_stride, metadata.history_sum);
    history.loss = LossCurve::from_parts(stride, points, sum, iterations)?;
    let gradients = rows(GRADIENTS, 1 + 2 * PARAMETERS.len())?;
    let gradients = gradients.iter().map(|row| {
        let stats = |i| GradientStats { norm: row[1 + 2 * i], clipped: row[2 + 2 * i] };
        Ok((iteration(row[0])?, Stats::from(std::array::from_fn(stats))))
    });
    history
        .gradients
        .restore(metadata.history_gradients, gradients.collect::<Result<_, String>>()?)?;
    let losses = match metadata.validation {
        Some(_) => rows(VALIDATION, 2)?,
        None => vec![],
    };
    let losses = losses.iter().map(|row| Ok((iteration(row[0])?, row[1])));
    history
        .validation
        .restore(metadata.history_validation, losses.collect::<Result<_, String>>()?)?;
    for &(at, _) in &metadata.samples {
        iteration(at as f64)?;
    }
    history.samples.restore(metadata.history_samples, metadata.samples.clone())?;
    Ok(history)
}

/// The iteration that a file stores as `at`, which may not be after the last.
fn check_iteration(at: f64, last: &Progress) -> Result<u64, String> {
    match at.fract() == 0. && (0. ..=last.iteration as f64).contains(&at) {
        true => Ok(at as u64),
        false => Err(format!("its history has an iteration {at}")),
    }
}

/// The network of the tensors whose names begin with `prefix`, of the sizes and the number type of
/// `like`.
fn network(
    prefix: &str,
    like: &CharRnn,
    tensor: &impl Fn(&str) -> Result<Tensor, String>,
) -> Result<CharRnn, String> {
    let (config, dtype) = (like.config(), like.dtype());
    let mut tensors = HashMap::new();
    for name in PARAMETERS {
        let full = format!("{prefix}{name}");
        let tensor = tensor(&full)?;
        if tensor.dims() != config.shape(name) || tensor.dtype() != dtype {
            return Err(format!("its tensor {full:?} does not fit the network"));
        }
        tensors.insert(name.to_string(), tensor);
    }
    char_rnn(config, VarBuilder::from_tensors(tensors, dtype, like.device()))
        .map_err(|error| Error::from(error).to_string())
}

/// The rows of a table with this many columns.
fn rows(table: &Tensor, columns: usize) -> Result<Vec<Vec<f64>>, String> {
    if table.dims().len() != 2 || table.dims()[1] != columns {
        return Err(format!("its history is {:?}, not (points, {columns})", table.dims()));
    }
    let table = table.to_device(&Device::Cpu).and_then(|table| table.to_vec2::<f64>());
    table.map_err(|error| Error::from(error).to_string())
}
