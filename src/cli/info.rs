//! `char-rnn info`: the contents of a model file.

use super::args::{count, json_text};
use super::error::{Failure, flag};
use super::progress::rounded;
use super::python::visible;
use super::resume::quoted;
use crate::checkpoint::{self, Change, Checkpoint, Run};
use crate::model::PARAMETERS;
use crate::random::RngSource;
use crate::text::{escaped, excerpt};
use crate::train::TrainConfig;
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
    saved.model.parameters().iter().map(|(_, tensor)| tensor.elem_count()).sum()
}

fn as_json(path: &Path, saved: &Checkpoint) -> Value {
    let shapes: BTreeMap<_, _> = saved
        .model
        .parameters()
        .iter()
        .map(|(name, tensor)| (*name, tensor.dims().to_vec()))
        .collect();
    let mut json = json!({
        "file": path.display().to_string(),
        "vocabulary": saved.vocabulary.characters().iter().collect::<String>(),
        "parameters": parameters(saved),
        "shapes": shapes,
    });
    let Some(run) = &saved.run else { return json };
    let history = &run.trained.history;
    let gradients = history.gradients.values().iter().map(|(iteration, stats)| {
        json!([iteration, PARAMETERS.iter().zip(stats).collect::<BTreeMap<_, _>>()])
    });
    let of_run = json!({
        "program": run.program,
        "config": run.config,
        "list": run.list,
        "progress": run.trained.progress,
        "changes": run.changes,
        "validation": run.trained.validation.as_ref().map(|validation| json!({
            "names_sha256": validation.names,
            "loss": validation.loss,
            "since_best": validation.since_best,
            "best_iteration": validation.best.as_ref().map(|best| best.iteration),
            "best_loss": validation.best.as_ref().map(|best| best.loss),
        })),
        "history": {
            "smoothed_loss": history.loss.values(),
            "loss": history.each.values(),
            "validation": history.validation.values(),
            "gradients": gradients.collect::<Value>(),
            "samples": history.samples.values(),
        },
    });
    if let (Value::Object(json), Value::Object(of_run)) = (&mut json, of_run) {
        json.extend(of_run);
    }
    json
}

type Lines = Vec<(&'static str, String)>;

fn print(out: &mut impl Write, path: &Path, saved: &Checkpoint) -> Result<(), Failure> {
    let network = saved.model.config();
    let characters = saved.vocabulary.characters()[1..].iter().copied();
    let mut lines: Lines = vec![
        ("model", path.display().to_string()),
        (
            "network",
            format!(
                "{}, {} characters with the end of a name, {} parameters in {}",
                count(network.hidden as u64, "hidden unit"),
                network.vocabulary,
                parameters(saved),
                saved.model.dtype().as_str()
            ),
        ),
        ("characters", characters.map(visible).collect()),
    ];
    match &saved.run {
        Some(run) => lines.extend(lines_of(path, run)),
        None => lines.push(("trained", "elsewhere: the file has no run".to_string())),
    }
    for (what, text) in lines {
        writeln!(out, "{what:<11} {}", escaped(&text))?;
    }
    Ok(())
}

/// The lines about a run.
fn lines_of(path: &Path, run: &Run) -> Lines {
    let Run { config, list, trained, .. } = run;
    let case = match list.spelling.is_lower() {
        true => "in lower case",
        false => "with their capitals",
    };
    let (names, sha256) = (count(list.names as u64, "name"), excerpt(&list.sha256));
    let (done, all) = (run.iterations(), config.iterations);
    let loss = rounded(trained.progress.smoothed);
    let mut lines = vec![
        ("list", format!("{names}, {case}, SHA-256 {sha256}")),
        (
            "trained",
            format!("{done} of {all} iterations, to a smoothed loss of {loss} nats a name"),
        ),
        ("flags", flags_of(config)),
        ("saved by", excerpt(&run.program)),
    ];
    for Change { iteration, field, from, to } in &run.changes {
        let change = format!("after {iteration} iterations: {} from {from} to {to}", flag(field));
        lines.push(("changed", excerpt(&change)));
    }
    if let Some(validation) = &trained.validation {
        let last = rounded(validation.loss);
        let held_out = match validation.better() {
            Some(best) => format!(
                "{} nats a name after iteration {}, which is this model; {last} after the last",
                rounded(best.loss),
                best.iteration
            ),
            None => format!("{last} nats a name after the last iteration"),
        };
        lines.push(("held out", held_out));
    }
    let more = if run.is_unfinished() {
        ""
    } else if done < all {
        " --patience N, with a larger N"
    } else {
        " --iterations N, with a larger N"
    };
    lines.push(("resume", format!("char-rnn train --resume {} [NAMES]{more}", quoted(path))));
    lines
}

/// The flags that give this configuration, without those of default values.
pub fn flags_of(config: &TrainConfig) -> String {
    let base = match config.seed {
        RngSource::Notebook => TrainConfig::notebook(),
        RngSource::Seed(_) => TrainConfig {
            // The default follows the iterations.
            eval_every: config.default_evaluations(),
            ..TrainConfig::default()
        },
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
