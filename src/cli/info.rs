//! `char-rnn info`: what a model file holds.

use super::resumption::quoted;
use super::{Failure, progress::rounded};
use candle_core::Device;
use char_rnn::checkpoint::{self, Saved};
use char_rnn::corpus::Case;
use char_rnn::history::{History, LossCurve};
use char_rnn::model::PARAMETERS;
use char_rnn::optim::{Algorithm, Decay};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write, stdout};
use std::path::{Path, PathBuf};

/// Show what is in a model: its size, how it was trained, and whether training can go on
#[derive(Args)]
pub struct Info {
    /// The model: a file that `char-rnn train` saved
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Print the answer as JSON, with the whole loss curve
    #[arg(long)]
    json: bool,
}

impl Info {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &Device::Cpu)?;
        let mut out = BufWriter::new(stdout().lock());
        match self.json {
            true => writeln!(out, "{:#}", as_json(&self.model, &saved))?,
            false => print(&mut out, &self.model, &saved)?,
        }
        Ok(out.flush()?)
    }
}

fn parameters(saved: &Saved) -> usize {
    saved.model.parameters().iter().map(|(_, tensor)| tensor.elem_count()).sum()
}

/// Of each gradient that was measured the iteration, the norms and the shares that were clipped.
fn gradients(history: &History) -> serde_json::Value {
    let measured = history.gradients.values().iter().map(|(iteration, gradients)| {
        json!([iteration, PARAMETERS.iter().zip(gradients).collect::<BTreeMap<_, _>>()])
    });
    measured.collect()
}

fn as_json(path: &Path, saved: &Saved) -> serde_json::Value {
    let shapes: serde_json::Map<_, _> = saved
        .model
        .parameters()
        .iter()
        .map(|(name, tensor)| (name.to_string(), json!(tensor.dims())))
        .collect();
    let (resume, history, problem) = match &saved.resume {
        Ok(resume) => {
            let (settings, history) = (&resume.settings, &resume.trained.history);
            let points = history.loss.points();
            (
                json!({
                    "iterations": settings.iterations,
                    "batch_size": settings.batch_size,
                    "sample_every": settings.sample_every,
                    "samples": settings.samples,
                    "threads": settings.threads,
                    "validation": settings.validation,
                    "patience": settings.patience,
                    "held_out": resume.trained.validation.as_ref().map(|validation| json!({
                        "names_sha256": validation.names,
                        "loss": validation.loss,
                        "looks_since_best": validation.since,
                        "best_iteration": validation.best.as_ref().map(|best| best.iteration),
                        "best_loss": validation.best.as_ref().map(|best| best.loss),
                    })),
                    "list_sha256": resume.list,
                    "loss": resume.trained.progress.loss,
                    "changes": resume.changes,
                }),
                json!({
                    "iterations_per_point": history.loss.stride(),
                    "loss": points.iter().map(|point| point.loss).collect::<Vec<_>>(),
                    "validation": history.validation.values(),
                    "gradients": gradients(history),
                    "samples": history.samples.values(),
                    "smoothed_loss": points.iter().map(|point| point.smoothed).collect::<Vec<_>>(),
                }),
                json!(null),
            )
        }
        Err(problem) => (json!(null), json!(null), json!(problem)),
    };
    let config = saved.model.config();
    json!({
        "file": path.display().to_string(),
        "hidden": config.hidden,
        "vocabulary": saved.vocabulary.characters().iter().collect::<String>(),
        "dtype": saved.model.dtype().as_str(),
        "parameters": parameters(saved),
        "shapes": shapes,
        "training": saved.record,
        "resume": resume,
        "no_resume": problem,
        "history": history,
    })
}

fn print(out: &mut impl Write, path: &Path, saved: &Saved) -> Result<(), Failure> {
    let (record, config) = (&saved.record, saved.model.config());
    let resume = saved.resume.as_ref();
    let mut line = |what: &str, text: String| writeln!(out, "{what:<11} {}", harmless(&text));
    line("model", path.display().to_string())?;
    line(
        "network",
        format!(
            "{} hidden units, {} characters with the end of a name, {} parameters in {}",
            config.hidden,
            config.vocabulary,
            parameters(saved),
            saved.model.dtype().as_str()
        ),
    )?;
    line("characters", saved.vocabulary.characters()[1..].iter().collect())?;
    let case = match record.case {
        Case::Lower => "in lower case",
        Case::Keep => "as they are written",
    };
    let digest = resume.map_or(String::new(), |run| format!(", SHA-256 {}", run.list));
    line("list", format!("{} names, {case}{digest}", record.names))?;
    let all = resume.map_or(String::new(), |run| format!(" of {}", run.settings.iterations));
    line(
        "trained",
        format!(
            "{}{all} iterations by {}, to a smoothed loss of {} nats a name",
            record.iterations,
            record.backprop,
            rounded(record.smoothed_loss)
        ),
    )?;
    let batch =
        resume.map_or(String::new(), |run| format!("--batch-size {} ", run.settings.batch_size));
    let optimizer = match record.optimizer {
        Algorithm::Sgd => String::new(),
        Algorithm::AdamW => {
            format!("--optimizer adamw --weight-decay {} ", record.weight_decay)
        }
    };
    let decay = match record.decay {
        Decay::None => String::new(),
        decay => format!(" --decay {decay}"),
    };
    let zero_state = if record.zero_state { "--zero-state " } else { "" };
    line(
        "settings",
        format!(
            "{batch}{zero_state}{optimizer}--learning-rate {}{decay} --clip {} --seed {}",
            record.learning_rate,
            record.clip.unwrap_or(f64::INFINITY),
            record.seed
        ),
    )?;
    line("saved by", record.program.clone())?;
    let run = match resume {
        Ok(run) => run,
        Err(problem) => return Ok(line("resume", format!("no: {problem}"))?),
    };
    for change in &run.changes {
        line(
            "changed",
            format!(
                "after {} iterations: {} from {} to {}",
                change.iteration, change.setting, change.from, change.to
            ),
        )?;
    }
    if let Some(validation) = &run.trained.validation {
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
            } + &format!(", of --validation {}", run.settings.validation),
        )?;
    }
    if let Some((lowest, highest, bars)) = sparkline(&run.trained.history.loss) {
        let (lowest, highest) = (rounded(lowest), rounded(highest));
        line("loss", format!("{bars}  smoothed, from {lowest} to {highest}"))?;
    }
    let more = match run.is_unfinished() {
        true => "",
        false if record.iterations < run.settings.iterations => " --patience N, to wait longer",
        false => " --iterations N, to add to them",
    };
    line("resume", format!("char-rnn train --resume {} [NAMES]{more}", quoted(path)))?;
    Ok(())
}

/// The text without control characters, which a file of another's making may have anywhere and
/// which must not reach the terminal.
fn harmless(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().collect() } else { c.to_string() };
    text.chars().map(escaped).collect()
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
        // Where all are alike this is not a number, and becomes 0.
        BARS[(height.round() as usize).min(7)]
    });
    Some((lowest, highest, bars.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use char_rnn::train::Progress;

    fn bars(losses: &[f64]) -> String {
        let mut curve = LossCurve::default();
        for (iteration, &smoothed) in (0..).zip(losses) {
            curve.push(&Progress { iteration, loss: 0., smoothed });
        }
        sparkline(&curve).unwrap().2
    }

    #[test]
    fn a_curve_is_drawn_from_its_lowest_to_its_highest_loss() {
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
