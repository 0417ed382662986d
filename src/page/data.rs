//! What the page shows of a model: one JSON value.

use crate::checkpoint::{Checkpoint, Run};
use crate::error::Result;
use crate::ops::{values, with_float};
use crate::train::config::text;
use crate::train::{GradientStats, Validation};
use candle_core::{Device, Tensor};
use serde_json::{Map, Value, json};

/// The value: what is needed to sample and to predict, and of a run its settings and its course.
pub(super) fn data(saved: &Checkpoint, title: &str) -> Result<Value> {
    let mut parameters = Map::new();
    for (name, tensor) in saved.model.parameters() {
        parameters.insert(name.to_string(), base64::encode(bytes(tensor)?).into());
    }
    Ok(json!({
        "title": title,
        "vocabulary": saved.vocabulary.characters().iter().collect::<String>(),
        "dtype": saved.model.dtype().as_str(),
        "parameters": parameters,
        "max_length": saved.max_length(),
        "spelling": saved.spelling(),
        "run": saved.run.as_ref().map(run),
    }))
}

/// The numbers of a tensor, row by row, little-endian.
fn bytes(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let tensor = tensor.to_device(&Device::Cpu)?.contiguous()?;
    with_float!(tensor.dtype(), "a page", F => {
        values!(values: F = tensor);
        Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    })
}

fn run(run: &Run) -> Value {
    let known = run.known.fingerprints().iter().flat_map(|known| known.to_le_bytes());
    let history = &run.trained.history;
    let losses = |values: &[(u64, f64)]| {
        values.iter().map(|&(iteration, loss)| json!([iteration, rounded(loss)])).collect::<Value>()
    };
    let gradients = history.gradients.values().iter().map(|(iteration, stats)| {
        let of = |part: fn(&GradientStats) -> f64| stats.iter().map(part);
        let norms = of(|stats| stats.norm).map(rounded);
        let clipped = of(|stats| stats.clipped).map(rounded);
        json!([iteration, norms.collect::<Value>(), clipped.collect::<Value>()])
    });
    let settings = run.config.fields().into_iter().map(|(name, value)| json!([name, text(&value)]));
    let changes =
        run.changes.iter().map(|c| json!([c.iteration, c.field, c.from, c.to])).collect::<Value>();
    let better = run.trained.validation.as_ref().and_then(Validation::better);
    json!({
        "known": base64::encode(known.collect::<Vec<u8>>()),
        "program": run.program,
        "names": run.list.names,
        "loss": rounded(run.trained.progress.smoothed),
        "settings": settings.collect::<Value>(),
        "changes": changes,
        "iteration": better.map_or(run.trained.progress.iteration, |best| best.iteration),
        "each": losses(history.each.values()),
        "smoothed": losses(history.loss.values()),
        "held_out": losses(history.validation.values()),
        "gradients": gradients.collect::<Value>(),
        "samples": history.samples.values(),
    })
}

/// Five digits: more than a chart shows.
pub(super) fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}
