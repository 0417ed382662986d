//! `char-rnn explain`: the predictions of a model at each character of a name.

use super::args::open_device;
use super::error::Failure;
use super::python::{python_str, visible};
use crate::Error;
use crate::checkpoint::{self, Checkpoint};
use crate::data::{END, Vocabulary, encode};
use crate::eval::{Step, explain};
use crate::gradient_norms::{GradientNorms, gradient_norms};
use clap::Args;
use clap::builder::styling::{AnsiColor, Style};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;
use unicode_width::UnicodeWidthStr;

/// Show the predictions of a saved model at each character of a name
#[derive(Args)]
#[command(after_help = "\
Notes:
  The surprise of a character is its loss in nats; the surprises sum to the loss of the name.
  --json adds the norms of the gradients of each log-probability by the earlier states and inputs.
  On a terminal, probabilities of 0.5 and above are green, down to 0.1 yellow, and below red.

Examples:
  char-rnn explain dinos.safetensors Tyrannosaurus
  char-rnn explain towns.safetensors \"New York\" --json")]
pub struct Explain {
    /// Model file, as saved by `char-rnn train`
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Name; lower-cased if the model has learned names so
    #[arg(value_name = "NAME")]
    name: String,

    /// Print JSON
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Runtime")]
    device: String,
}

/// The number of other characters that are printed.
const ALTERNATIVES: usize = 5;

const FAINT: Style = Style::new().dimmed();

impl Explain {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &open_device(&self.device)?)?;
        let spelling = saved.spelling();
        let name = encode(&self.name, &saved.vocabulary, &spelling).map_err(|error| {
            Error::setting("NAME", format!("{:?}", self.name), error.to_string())
        })?;
        let steps = explain(&saved.model, &name, ALTERNATIVES)?;
        let loss: f64 = steps.iter().map(|step| -step.log_probability).sum();
        let mut out = anstream::stdout().lock();
        if self.json {
            let steps = steps.iter().zip(gradient_norms(&saved.model, &name)?);
            let steps: Value =
                steps.map(|(step, norms)| as_json(step, &norms, &saved.vocabulary)).collect();
            let name = saved.vocabulary.show(&name, &spelling);
            let answer = json!({ "name": name, "nats": loss, "steps": steps });
            writeln!(out, "{answer:#}")?;
        } else {
            print(&mut out, &steps, &name, &saved, loss)?;
        }
        Ok(out.flush()?)
    }
}

/// A character as it is printed.
fn label(index: u32, vocabulary: &Vocabulary) -> String {
    match vocabulary.characters()[index as usize] {
        _ if index == END => "end".to_string(),
        space if space.is_whitespace() => python_str(&space.to_string()),
        character => visible(character),
    }
}

/// The prediction as JSON; the end of a name is null.
fn as_json(step: &Step, gradients: &[GradientNorms], vocabulary: &Vocabulary) -> Value {
    let character =
        |index: u32| (index != END).then(|| vocabulary.characters()[index as usize].to_string());
    let alternatives: Vec<Value> = step
        .alternatives
        .iter()
        .map(|&(other, probability)| {
            json!({ "character": character(other), "probability": probability })
        })
        .collect();
    json!({
        "character": character(step.index),
        "probability": step.log_probability.exp(),
        "nats": -step.log_probability,
        "alternatives": alternatives,
        "gradient_norms": gradients,
    })
}

fn style(step: &Step) -> Style {
    match step.log_probability.exp() {
        likely if likely >= 0.5 => AnsiColor::Green.on_default(),
        unlikely if unlikely < 0.1 => AnsiColor::Red.on_default().bold(),
        _ => AnsiColor::Yellow.on_default(),
    }
}

fn print(
    out: &mut impl Write,
    steps: &[Step],
    name: &[u32],
    saved: &Checkpoint,
    loss: f64,
) -> io::Result<()> {
    let vocabulary = &saved.vocabulary;
    let mut letters: Vec<char> = vocabulary.show(name, &saved.spelling()).chars().collect();
    // Some letters have capitals of several characters.
    if letters.len() != name.len() {
        letters = vocabulary.decode(name).chars().collect();
    }
    let letters = letters.into_iter().map(visible).chain([".".to_string()]);
    for (step, letter) in steps.iter().zip(letters) {
        let style = style(step);
        write!(out, "{style}{letter}{style:#}")?;
    }
    let characters = steps.len() as f64;
    writeln!(out, "  {loss:.4} nats, {:.4} a character\n", loss / characters)?;
    writeln!(out, "{FAINT}       probability  surprise  instead{FAINT:#}")?;
    for step in steps {
        let label = label(step.index, vocabulary);
        let padding = " ".repeat(5usize.saturating_sub(label.width()));
        let others: Vec<String> = step
            .alternatives
            .iter()
            .map(|&(other, p)| format!("{} {p:.3}", self::label(other, vocabulary)))
            .collect();
        let (style, others) = (style(step), others.join("  "));
        let (p, surprise) = (step.log_probability.exp(), -step.log_probability);
        writeln!(out, "  {style}{label}{style:#}{padding}{p:11.6}  {surprise:8.4}  {others}")?;
    }
    Ok(())
}
