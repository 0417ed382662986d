//! What a model file holds beside the model so that its training can go on, to the last bit.
//!
//! | in the file | |
//! | --- | --- |
//! | tensor `state.a` | the hidden state that the next names begin with, (B, n_a) |
//! | tensor `history` | the loss curve ([`crate::history`]), f64, (points, 2): mean and smoothed loss |
//! | metadata `resume` | as JSON, what the record leaves out of the settings and of the progress |
//!
//! Whatever else an engine carries stands beside `state.a` as `state.` and its name. There are no
//! generators to save: [`crate::random`] says why.

use crate::checkpoint::Record;
use crate::engine::Carried;
use crate::history::{History, Point};
use crate::model::CharRnn;
use crate::train::{Progress, Settings, Trained};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The metadata's key.
pub(crate) const KEY: &str = "resume";
const STATE: &str = "state.";
const HISTORY: &str = "history";

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
}

impl Resume {
    /// Whether fewer iterations were run than asked for.
    pub fn is_unfinished(&self) -> bool {
        self.trained.progress.iteration + 1 < self.settings.iterations
    }

    pub(crate) fn to_json(&self) -> String {
        let history = &self.trained.history;
        let written = Written {
            iterations: self.settings.iterations,
            batch_size: self.settings.batch_size,
            sample_every: self.settings.sample_every,
            samples: self.settings.samples,
            list: self.list.clone(),
            loss: self.trained.progress.loss,
            history_stride: history.stride(),
            history_sum: history.sum(),
            changes: self.changes.clone(),
        };
        serde_json::to_string(&written).expect("plain data")
    }

    pub(crate) fn tensors(&self) -> candle_core::Result<Vec<(String, Tensor)>> {
        let points = self.trained.history.points();
        let numbers: Vec<f64> =
            points.iter().flat_map(|point| [point.loss, point.smoothed]).collect();
        let history = Tensor::from_vec(numbers, (points.len(), 2), &Device::Cpu)?;
        let carried = self.trained.carried.iter();
        let states = carried.map(|(name, tensor)| (format!("{STATE}{name}"), tensor.clone()));
        Ok(states.chain([(HISTORY.to_string(), history)]).collect())
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
            learning_rate: record.learning_rate,
            clip: record.clip.unwrap_or(f64::INFINITY),
            sample_every: written.sample_every,
            samples: written.samples,
            backprop: record.backprop.parse().map_err(wrong)?,
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
        let expected = [settings.batch_size, settings.hidden];
        match carried.get("a") {
            Some(a) if a.dims() == expected => {}
            Some(a) => {
                return Err(wrong(format!("its state is {:?}, not {expected:?}", a.dims())));
            }
            None => return Err(wrong("it has no state".to_string())),
        }

        let points = tensor(HISTORY).and_then(|history| points(&history)).map_err(wrong)?;
        let (stride, sum) = (written.history_stride, written.history_sum);
        let history = History::from_parts(stride, points, sum, record.iterations).map_err(wrong)?;
        let trained = Trained { model: model.clone(), progress, carried, history };
        Ok(Self { settings, trained, list: written.list, changes: written.changes })
    }
}

fn points(history: &Tensor) -> Result<Vec<Point>, String> {
    let rows = history.to_device(&Device::Cpu).and_then(|history| history.to_vec2::<f64>());
    rows.map_err(|error| error.to_string())?
        .into_iter()
        .map(|row| match row[..] {
            [loss, smoothed] => Ok(Point { loss, smoothed }),
            _ => Err("its history is not of two columns".to_string()),
        })
        .collect()
}
