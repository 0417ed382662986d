//! `char-rnn info`: the contents of a model file.

use super::args::{count, json_text};
use super::error::{Failure, flag};
use super::progress::rounded;
use super::python::visible;
use super::resume::quoted;
use crate::checkpoint::{self, Checkpoint};
use crate::data::LetterCase;
use crate::model::PARAMETERS;
use crate::random::RngSource;
use crate::text::{escaped, excerpt};
use crate::train::{LossCurve, TrainConfig};
use candle_core::Device;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write, stdout};
use std::path::{Path, PathBuf};

/// Show what is in a model file: sizes, configuration, progress
#[derive(Args)]
pub struct Info {
    /// Model file
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Print JSON, with the whole history
    #[arg(long)]
    json: bool,
}

impl Info {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &Device::Cpu)?;
        let mut out = BufWriter::new(stdout().lock());
        match self.json {
            true => writeln!(out, "{}", json_text(&as_json(&self.model, &saved)))?,
            false => print(&mut out, &self.model, &saved)?,
        }
        Ok(out.flush()?)
    }
}

fn parameters(saved: &Checkpoint) -> usize {
    saved.model().parameters().iter().map(|(_, tensor)| tensor.elem_count()).sum()
}

fn as_json(path: &Path, saved: &Checkpoint) -> Value {
    let (model, history) = (saved.model(), &saved.trained.history);
    let shapes: BTreeMap<_, _> =
        model.parameters().iter().map(|(name, tensor)| (*name, tensor.dims().to_vec())).collect();
    let gradients = history.gradients.values().iter().map(|(iteration, stats)| {
        json!([iteration, PARAMETERS.iter().zip(stats).collect::<BTreeMap<_, _>>()])
    });
    let points = history.loss.points();
    json!({
        "file": path.display().to_string(),
        "program": saved.program,
        "vocabulary": saved.vocabulary.characters().iter().collect::<String>(),
        "parameters": parameters(saved),
        "shapes": shapes,
        "config": saved.config,
        "list": saved.list,
        "progress": saved.trained.progress,
        "changes": saved.changes,
        "validation": saved.trained.validation.as_ref().map(|validation| json!({
            "names_sha256": validation.names,
            "loss": validation.loss,
            "since_best": validation.since_best,
            "best_iteration": validation.best.as_ref().map(|best| best.iteration),
            "best_loss": validation.best.as_ref().map(|best| best.loss),
        })),
        "history": {
            "iterations_per_point": history.loss.stride(),
            "loss": points.iter().map(|point| point.loss).collect::<Vec<_>>(),
            "smoothed_loss": points.iter().map(|point| point.smoothed).collect::<Vec<_>>(),
            "validation": history.validation.values(),
            "gradients": gradients.collect::<Value>(),
            "samples": history.samples.values(),
        },
    })
}

fn print(out: &mut impl Write, path: &Path, saved: &Checkpoint) -> Result<(), Failure> {
    let Checkpoint { config, list, trained, .. } = saved;
    let network = saved.model().config();
    let mut line = |what: &str, text: String| writeln!(out, "{what:<11} {}", escaped(&text));
    line("model", path.display().to_string())?;
    line(
        "network",
        format!(
            "{}, {} characters with the end of a name, {} parameters in {}",
            count(network.hidden as u64, "hidden unit"),
            network.vocabulary,
            parameters(saved),
            saved.model().dtype().as_str()
        ),
    )?;
    line("characters", saved.vocabulary.characters()[1..].iter().copied().map(visible).collect())?;
    let case = match list.case {
        LetterCase::Lower => "in lower case",
        LetterCase::Keep => "as they are written",
    };
    let names = count(list.names as u64, "name");
    line("list", format!("{names}, {case}, SHA-256 {}", excerpt(&list.sha256)))?;
    line(
        "trained",
        format!(
            "{} of {} iterations, to a smoothed loss of {} nats a name",
            saved.iterations(),
            config.iterations,
            rounded(trained.progress.smoothed)
        ),
    )?;
    line("flags", flags_of(config))?;
    line("saved by", excerpt(&saved.program))?;
    for change in &saved.changes {
        line(
            "changed",
            excerpt(&format!(
                "after {} iterations: {} from {} to {}",
                change.iteration,
                flag(&change.field),
                change.from,
                change.to
            )),
        )?;
    }
    if let Some(validation) = &trained.validation {
        let last = rounded(validation.loss);
        line(
            "held out",
            match validation.better() {
                Some(best) => format!(
                    "{} nats a name after iteration {}, which is this model; {last} after the last",
                    rounded(best.loss),
                    best.iteration
                ),
                None => format!("{last} nats a name after the last iteration"),
            },
        )?;
    }
    if let Some((lowest, highest, bars)) = sparkline(&trained.history.loss) {
        let (lowest, highest) = (rounded(lowest), rounded(highest));
        line("loss", format!("{bars}  smoothed, from {lowest} to {highest}"))?;
    }
    let more = match saved.is_unfinished() {
        true => "",
        false if saved.iterations() < config.iterations => " --patience N, with a larger N",
        false => " --iterations N, with a larger N",
    };
    line("resume", format!("char-rnn train --resume {} [NAMES]{more}", quoted(path)))?;
    Ok(())
}

/// The flags that give this configuration, without those of default values.
pub fn flags_of(config: &TrainConfig) -> String {
    let base = match config.seed {
        RngSource::Notebook => TrainConfig::notebook(),
        RngSource::Seed(_) => TrainConfig::default(),
    };
    let notebook = (config.seed == RngSource::Notebook).then(|| "--notebook".to_string());
    let flags: Vec<String> = base
        .differences(config)
        .into_iter()
        .map(|found| match (found.field.as_str(), found.to.as_str()) {
            ("carry_state", "off") => "--zero-state".to_string(),
            (field, "on") => flag(field),
            (field, value) => format!("{} {value}", flag(field)),
        })
        .chain(notebook)
        .collect();
    match flags.is_empty() {
        true => "none: all defaults".to_string(),
        false => flags.join(" "),
    }
}

/// The smoothed loss as bars, at most so many, with the lowest and the highest of them.
fn sparkline(curve: &LossCurve) -> Option<(f64, f64, String)> {
    const COLUMNS: usize = 50;
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let points = curve.points();
    let columns = points.len().min(COLUMNS);
    // The last of each column's points, so that the last bar is the last loss.
    let losses: Vec<f64> =
        (1..=columns).map(|column| points[column * points.len() / columns - 1].smoothed).collect();
    let lowest = losses.iter().copied().reduce(f64::min)?;
    let highest = losses.iter().copied().reduce(f64::max)?;
    let bars = losses.iter().map(|loss| {
        let height = (loss - lowest) / (highest - lowest) * 7.;
        // Where all are equal this is NaN, and becomes 0.
        BARS[(height.round() as usize).min(7)]
    });
    Some((lowest, highest, bars.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Progress;

    fn bars(losses: &[f64]) -> String {
        let mut curve = LossCurve::default();
        for (iteration, &smoothed) in (0..).zip(losses) {
            curve.push(&Progress { iteration, loss: 0., smoothed });
        }
        sparkline(&curve).unwrap().2
    }

    #[test]
    fn the_curve_spans_its_lowest_and_its_highest_loss() {
        assert_eq!(bars(&[8., 7., 6., 5., 4., 3., 2., 1.]), "█▇▆▅▄▃▂▁");
        assert_eq!(bars(&[3., 3.]), "▁▁");
        assert_eq!(bars(&[2.]), "▁");
        let long: Vec<f64> = (0..5000).map(f64::from).collect();
        let long = bars(&long);
        assert_eq!(long.chars().count(), 50);
        assert!(long.starts_with('▁') && long.ends_with('█'));
        assert_eq!(sparkline(&LossCurve::default()), None);
    }
}
