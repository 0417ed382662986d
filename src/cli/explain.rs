//! `char-rnn explain`: a name through a model's eyes.

use super::{DeviceName, Failure, read_in, shown};
use anstyle::{AnsiColor, Style};
use char_rnn::checkpoint;
use char_rnn::corpus::Case;
use char_rnn::eval::{Step, explain};
use char_rnn::vocab::{END, Vocabulary};
use clap::Args;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;
use unicode_width::UnicodeWidthStr;

/// Show what a saved model expects at each character of a name
///
/// For each character, and for the end of the name, it prints the probability that the model gave
/// to it, the surprise (the opposite of the probability's logarithm, in nats) and the likeliest
/// other characters. The surprises sum to the loss of the name. The name starts from the zero state,
/// as in sampling.
///
/// On a terminal the name is coloured: green what the model would have bet on (a probability of a
/// half or more), red what surprised it (less than a tenth), yellow what is between.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn explain dinos.safetensors Tyrannosaurus
  char-rnn explain towns.safetensors \"New York\" --json")]
pub struct Explain {
    /// The model: a file that `char-rnn train` saved
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// The name; it is lower-cased unless the model was trained with --keep-case
    #[arg(value_name = "NAME")]
    name: String,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,

    /// Where to do the arithmetic: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
}

/// How many other characters are shown.
const ALTERNATIVES: usize = 5;

const FAINT: Style = Style::new().dimmed();

impl Explain {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &self.device.open()?)?;
        let name = read_in(&saved, "NAME", self.name.trim_end())?;
        let steps = explain(&saved.model, &name, ALTERNATIVES)?;
        let loss: f64 = steps.iter().map(|step| -step.log_probability).sum();
        let mut out = anstream::stdout().lock();
        if self.json {
            let steps: Vec<Value> =
                steps.iter().map(|step| as_json(step, &saved.vocabulary)).collect();
            let name = shown(&saved.vocabulary.decode(&name), saved.record.case);
            let answer = json!({ "name": name, "nats": loss, "steps": steps });
            writeln!(out, "{answer:#}")?;
        } else {
            print(&mut out, &steps, &saved.vocabulary, saved.record.case, loss)?;
        }
        Ok(out.flush()?)
    }
}

/// A character as it is shown; the end of a name has no other sign.
fn sign(index: u32, vocabulary: &Vocabulary) -> String {
    match vocabulary.characters()[index as usize] {
        _ if index == END => "end".to_string(),
        space if space.is_whitespace() => format!("{space:?}"),
        character => character.to_string(),
    }
}

/// The end of a name is null.
fn as_json(step: &Step, vocabulary: &Vocabulary) -> Value {
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
    vocabulary: &Vocabulary,
    case: Case,
    loss: f64,
) -> io::Result<()> {
    for (at, step) in steps.iter().enumerate() {
        let letter = vocabulary.decode(&[step.index]);
        let letter = match step.index {
            END => ".".to_string(),
            _ if at == 0 => shown(&letter, case),
            _ => letter,
        };
        let style = style(step);
        write!(out, "{style}{letter}{style:#}")?;
    }
    let characters = steps.len() as f64;
    writeln!(out, "  {loss:.4} nats, {:.4} a character\n", loss / characters)?;
    writeln!(out, "{FAINT}       probability  surprise  instead{FAINT:#}")?;
    for step in steps {
        let sign = sign(step.index, vocabulary);
        let padding = " ".repeat(5usize.saturating_sub(sign.width()));
        let others: Vec<String> = step
            .alternatives
            .iter()
            .map(|&(other, probability)| {
                format!("{} {probability:.3}", self::sign(other, vocabulary))
            })
            .collect();
        let style = style(step);
        writeln!(
            out,
            "  {style}{sign}{style:#}{padding}{:11.6}  {:8.4}  {}",
            step.log_probability.exp(),
            -step.log_probability,
            others.join("  ")
        )?;
    }
    Ok(())
}
