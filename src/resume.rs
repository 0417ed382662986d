//! What a model file holds beside the model so that its training can go on, to the last bit.
//!
//! | in the file | |
//! | --- | --- |
//! | tensor `state.a` | the hidden state that the next names begin with, (B, n_a) |
//! | tensors `state.adamw.step`, `state.adamw.wax`, ... | AdamW's number of steps, and its running means, (2, ...) |
//! | tensor `history` | the loss curve, f64, (points, 2): mean and smoothed loss |
//! | tensor `history.gradients` | f64, (points, 11): an iteration, and of each tensor the gradient's norm and the share that was clipped |
//! | tensor `history.validation` | f64, (points, 2): an iteration, and the loss of the held-out names |
//! | tensors `last.wax`, ... | the last parameters, where those of the model are better |
//! | tensors `best.wax`, ... | the best parameters of a look at the held-out names, where those of the model are the last and no worse |
//! | metadata `resume` | as JSON, what the record leaves out of the settings and of the progress |
//!
//! [`crate::history`] tells of the points. There are no generators to save: [`crate::random`] says
//! why.

use crate::checkpoint::Record;
use crate::engine::{ADAMW, Carried, Gradients, STEP};
use crate::history::{History, LossCurve, Point, Thinning};
use crate::model::{CharRnn, PARAMETERS, char_rnn};
use crate::optim::{Algorithm, Gradient};
use crate::train::{Progress, Settings, Trained};
use crate::validation::{Best, Validation};
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The metadata's key.
pub(crate) const KEY: &str = "resume";
const STATE: &str = "state.";
const LOSSES: &str = "history";
const GRADIENTS: &str = "history.gradients";
const VALIDATION: &str = "history.validation";
const LAST: &str = "last.";
const BEST: &str = "best.";

/// A run that can go on.
#[derive(Debug, Clone)]
pub struct Resume {
    /// Its settings as they were last, on the device that the file was loaded to. `iterations` is
    /// how many were asked for.
    pub settings: Settings,
    /// What it left: [`crate::train::Training::resume`] goes on from there.
    pub trained: Trained,
    /// The list that it learned: [`crate::corpus::Corpus::digest`].
    pub list: String,
    /// What was changed on the way, the oldest first.
    pub changes: Vec<Change>,
}

/// A run that went on in another way than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The first iteration of which it holds.
    pub iteration: u64,
    /// The setting, spelled as on the command line.
    pub setting: String,
    /// Its value before.
    pub from: String,
    /// Its value since.
    pub to: String,
}

/// The metadata's JSON. An unknown field is something that this version does not know how to go
/// on with.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// How many iterations were asked for.
    iterations: u64,
    batch_size: usize,
    sample_every: u64,
    samples: u64,
    /// The SHA-256 of the names.
    list: String,
    /// The last iteration's loss.
    loss: f64,
    history_stride: u64,
    history_sum: f64,
    changes: Vec<Change>,
    // What follows is missing from the files of older versions, which had none of it.
    #[serde(default)]
    gradients: Thinning,
    #[serde(default)]
    samples_seen: Thinning,
    /// The sampled names that are kept, by iteration.
    #[serde(default)]
    names: Vec<(u64, Vec<String>)>,
    /// The share of the list that is held out.
    #[serde(default)]
    validation: f64,
    #[serde(default)]
    patience: Option<u64>,
    #[serde(default)]
    held_out: Option<WrittenValidation>,
    #[serde(default = "one")]
    threads: usize,
}

fn one() -> usize {
    1
}

/// A [`Validation`] without its network.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenValidation {
    names: String,
    loss: f64,
    since: u64,
    best_iteration: Option<u64>,
    best_loss: Option<f64>,
    looks: Thinning,
}

impl Resume {
    /// Whether the run ended before it was done.
    pub fn is_unfinished(&self) -> bool {
        let since = self.trained.validation.as_ref().map_or(0, |validation| validation.since);
        !self.settings.is_done(self.trained.progress.iteration + 1, since)
    }

    pub(crate) fn to_json(&self) -> String {
        let Trained { history, progress, validation, .. } = &self.trained;
        let written = Written {
            iterations: self.settings.iterations,
            batch_size: self.settings.batch_size,
            sample_every: self.settings.sample_every,
            samples: self.settings.samples,
            list: self.list.clone(),
            loss: progress.loss,
            history_stride: history.loss.stride(),
            history_sum: history.loss.sum(),
            changes: self.changes.clone(),
            gradients: history.gradients.counts(),
            samples_seen: history.samples.counts(),
            names: history.samples.values().to_vec(),
            validation: self.settings.validation,
            patience: self.settings.patience,
            threads: self.settings.threads,
            held_out: validation.as_ref().map(|validation| WrittenValidation {
                names: validation.names.clone(),
                loss: validation.loss,
                since: validation.since,
                best_iteration: validation.best.as_ref().map(|best| best.iteration),
                best_loss: validation.best.as_ref().map(|best| best.loss),
                looks: history.validation.counts(),
            }),
        };
        serde_json::to_string(&written).expect("plain data")
    }

    pub(crate) fn tensors(&self) -> candle_core::Result<Vec<(String, Tensor)>> {
        let Trained { model, carried, history, validation, .. } = &self.trained;
        let mut tensors: Vec<(String, Tensor)> = carried
            .iter()
            .map(|(name, tensor)| (format!("{STATE}{name}"), tensor.clone()))
            .collect();
        let mut add = |name: &str, rows: Vec<Vec<f64>>, columns: usize| {
            let numbers: Vec<f64> = rows.concat();
            let shape = (numbers.len() / columns, columns);
            tensors.push((name.to_string(), Tensor::from_vec(numbers, shape, &Device::Cpu)?));
            candle_core::Result::Ok(())
        };
        let points = history.loss.points().iter();
        add(LOSSES, points.map(|point| vec![point.loss, point.smoothed]).collect(), 2)?;
        let gradients = history.gradients.values().iter().map(|(iteration, gradients)| {
            let pairs = gradients.iter().flat_map(|gradient| [gradient.norm, gradient.clipped]);
            std::iter::once(*iteration as f64).chain(pairs).collect()
        });
        add(GRADIENTS, gradients.collect(), 1 + 2 * PARAMETERS.len())?;
        if let Some(validation) = validation {
            let looks = history.validation.values().iter();
            add(VALIDATION, looks.map(|&(at, loss)| vec![at as f64, loss]).collect(), 2)?;
            // The one that is not the model itself.
            let other = match (validation.better(), &validation.best) {
                (Some(_), _) => Some((LAST, model)),
                (None, Some(best)) => Some((BEST, &best.model)),
                (None, None) => None,
            };
            if let Some((prefix, other)) = other {
                let parameters = other.parameters().into_iter();
                tensors.extend(
                    parameters.map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())),
                );
            }
        }
        Ok(tensors)
    }

    /// The run in a file with this metadata, the tensors of these names, and this record and
    /// model.
    ///
    /// # Errors
    /// Says why there is none.
    pub(crate) fn read(
        metadata: &HashMap<String, String>,
        names: &[&str],
        tensor: impl Fn(&str) -> Result<Tensor, String>,
        record: &Record,
        model: &CharRnn,
    ) -> Result<Self, String> {
        let json = metadata.get(KEY).ok_or(
            "its training cannot go on: the file holds a model alone, as older versions saved it",
        )?;
        let wrong = |problem: String| {
            format!(
                "its training cannot go on: what the file says of it is damaged, or of a newer \
                 char-rnn than {}: {problem}",
                env!("CARGO_PKG_VERSION")
            )
        };
        let written: Written =
            serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
        let settings = Settings {
            iterations: written.iterations,
            batch_size: written.batch_size,
            hidden: model.config().hidden,
            optimizer: record.optimizer,
            learning_rate: record.learning_rate,
            decay: record.decay,
            weight_decay: record.weight_decay,
            zero_state: record.zero_state,
            validation: written.validation,
            patience: written.patience,
            clip: record.clip.unwrap_or(f64::INFINITY),
            sample_every: written.sample_every,
            samples: written.samples,
            backprop: record.backprop.parse().map_err(wrong)?,
            threads: written.threads,
            dtype: model.dtype(),
            device: model.device().clone(),
            randomness: record.seed.parse().map_err(wrong)?,
        };
        settings.check().map_err(|error| wrong(error.to_string()))?;
        let Some(last) = record.iterations.checked_sub(1) else {
            return Err(wrong("no iteration was run".to_string()));
        };
        let progress =
            Progress { iteration: last, loss: written.loss, smoothed: record.smoothed_loss };

        let mut carried = Carried::new();
        for &name in names {
            if let Some(state) = name.strip_prefix(STATE) {
                carried.insert(state.to_string(), tensor(name).map_err(wrong)?);
            }
        }
        let expected = carried_shapes(&settings, model);
        if let Some(unknown) = carried.keys().find(|name| !expected.contains_key(*name)) {
            return Err(wrong(format!("it has a state {unknown:?}")));
        }
        for (name, shape) in &expected {
            match carried.get(name) {
                Some(state) if state.dims() == shape => {}
                Some(state) => {
                    let found = state.dims();
                    return Err(wrong(format!("its state {name:?} is {found:?}, not {shape:?}")));
                }
                None => return Err(wrong(format!("it has no state {name:?}"))),
            }
        }

        let rows = |name: &str, columns: usize| {
            // An older version's file does not have it.
            let present = names.contains(&name) || name == LOSSES;
            if present {
                tensor(name).and_then(|tensor| rows(&tensor, columns))
            } else {
                Ok(vec![])
            }
        };
        let was_run = |at: f64| match at.fract() == 0. && (0. ..=last as f64).contains(&at) {
            true => Ok(at as u64),
            false => Err(format!("its history tells of iteration {at}")),
        };
        let mut history = History::default();
        let points = rows(LOSSES, 2).map_err(wrong)?;
        let points = points.iter().map(|row| Point { loss: row[0], smoothed: row[1] }).collect();
        let (stride, sum) = (written.history_stride, written.history_sum);
        history.loss =
            LossCurve::from_parts(stride, points, sum, record.iterations).map_err(wrong)?;
        let gradients = rows(GRADIENTS, 1 + 2 * PARAMETERS.len()).map_err(wrong)?;
        let gradients = gradients.iter().map(|row| {
            let gradient = |i| Gradient { norm: row[1 + 2 * i], clipped: row[2 + 2 * i] };
            Ok((was_run(row[0])?, Gradients::from(std::array::from_fn(gradient))))
        });
        let gradients = gradients.collect::<Result<_, _>>().map_err(wrong)?;
        history.gradients.refill(written.gradients, gradients).map_err(wrong)?;
        for &(at, _) in &written.names {
            was_run(at as f64).map_err(wrong)?;
        }
        history.samples.refill(written.samples_seen, written.names).map_err(wrong)?;
        let looks = rows(VALIDATION, 2).map_err(wrong)?;
        let looks = looks.iter().map(|row| Ok((was_run(row[0])?, row[1])));
        let looks = looks.collect::<Result<_, _>>().map_err(wrong)?;
        let counts = written.held_out.as_ref().map_or(Thinning::default(), |told| told.looks);
        history.validation.refill(counts, looks).map_err(wrong)?;

        let mut trained =
            Trained { model: model.clone(), progress, carried, history, validation: None };
        if let Some(told) = written.held_out {
            let (names, loss, since) = (told.names, told.loss, told.since);
            let mut validation = Validation { names, loss, best: None, since };
            if let (Some(iteration), Some(loss)) = (told.best_iteration, told.best_loss) {
                was_run(iteration as f64).map_err(wrong)?;
                let other = |prefix| network(prefix, model, &tensor).map_err(wrong);
                let best = match loss < validation.loss {
                    true => {
                        trained.model = other(LAST)?;
                        model.clone()
                    }
                    false => other(BEST)?,
                };
                validation.best = Some(Best { iteration, loss, model: best });
            }
            trained.validation = Some(validation);
        }
        Ok(Self { settings, trained, list: written.list, changes: written.changes })
    }
}

/// What an engine of these settings carries, by name, and its shapes.
fn carried_shapes(settings: &Settings, model: &CharRnn) -> BTreeMap<String, Vec<usize>> {
    let state = ("a".to_string(), vec![settings.batch_size, settings.hidden]);
    let mut shapes = BTreeMap::from([state]);
    if settings.optimizer == Algorithm::AdamW {
        shapes.insert(format!("{ADAMW}{STEP}"), vec![]);
        for name in PARAMETERS {
            shapes.insert(format!("{ADAMW}{name}"), [&[2], &*model.config().shape(name)].concat());
        }
    }
    shapes
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
        .map_err(|error| error.to_string())
}

/// The rows of a table of so many columns.
fn rows(table: &Tensor, columns: usize) -> Result<Vec<Vec<f64>>, String> {
    if table.dims().len() != 2 || table.dims()[1] != columns {
        return Err(format!("its history is {:?}, not (points, {columns})", table.dims()));
    }
    let table = table.to_device(&Device::Cpu).and_then(|table| table.to_vec2::<f64>());
    table.map_err(|error| error.to_string())
}
