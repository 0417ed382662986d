//! `char-rnn eval`: how well a model predicts a list of names.

use super::{DeviceName, Failure, shown};
use anstyle::Style;
use char_rnn::checkpoint;
use char_rnn::corpus::{Corpus, read_names};
use char_rnn::eval::{Encoded, Evaluation, carried, evaluate};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// Score a list of names with a saved model
///
/// Prints the mean loss of a name and of a character, in nats and in bits, the perplexity, and the
/// names that are hardest and easiest for the model. The end of a name counts as a character.
///
/// Each name starts from the zero state, as in sampling. Training carries the state on from one
/// name to the next: what a name costs then, in the list's order, is printed beside it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn eval dinos.safetensors                  on the list that is built in
  char-rnn eval towns.safetensors towns.txt
  char-rnn eval towns.safetensors others.txt --json")]
pub struct Eval {
    /// The model: a file that `char-rnn train` saved
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// The list: a UTF-8 text file with one name a line [default: the built-in dinosaurs]
    ///
    /// It is cleaned as the model's own was. Names with characters that the model has never seen
    /// cannot be scored: they are left out, and the characters reported.
    #[arg(value_name = "NAMES")]
    names: Option<PathBuf>,

    /// Print the answer as JSON, with the loss of each name
    #[arg(long)]
    json: bool,

    /// Where to do the arithmetic: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
}

/// How many of the hardest and of the easiest names are shown.
const EXTREMES: usize = 5;

const HEADING: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

impl Eval {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &self.device.open()?)?;
        let case = saved.record.case;
        let names = match &self.names {
            Some(path) => read_names(path, case)?,
            None => Corpus::dinos().names().to_vec(),
        };
        let encoded = Encoded::new(&names, &saved.vocabulary);
        if encoded.names.is_empty() {
            return Err(char_rnn::Error::Names {
                origin: self.list(),
                problem: format!(
                    "no name can be scored: each has characters that the model has never seen ({})",
                    unknown(&encoded)
                ),
            }
            .into());
        }
        let evaluation = evaluate(&saved.model, &encoded.names)?;
        let carried = carried(&saved.model, &encoded.names)? / encoded.names.len() as f64;
        let left_out = names.len() - encoded.names.len();
        let mut out = anstream::stdout().lock();
        if self.json {
            let scored = encoded.places.iter().zip(&evaluation.losses);
            let scored: Vec<Value> = scored
                .map(|(&place, loss)| json!({ "name": shown(&names[place], case), "nats": loss }))
                .collect();
            let answer = json!({
                "names": scored.len(),
                "characters": evaluation.characters(),
                "nats_per_name": evaluation.nats_per_name(),
                "nats_per_name_with_state_carried": carried,
                "nats_per_character": evaluation.nats_per_character(),
                "bits_per_character": evaluation.bits_per_character(),
                "perplexity": evaluation.perplexity(),
                "left_out": left_out,
                "unknown_characters": encoded.unknown,
                "losses": scored,
            });
            writeln!(out, "{answer:#}")?;
            return Ok(out.flush()?);
        }
        writeln!(
            out,
            "{HEADING}{}{HEADING:#}: {} names, {} characters with the ends of names",
            self.list(),
            encoded.names.len(),
            evaluation.characters()
        )?;
        writeln!(out, "  loss        {:9.4} nats a name", evaluation.nats_per_name())?;
        let trained = if saved.record.zero_state { "" } else { ", as in training" };
        writeln!(out, "              {carried:9.4} with the state carried on{trained}")?;
        writeln!(out, "              {:9.4} nats a character", evaluation.nats_per_character())?;
        writeln!(out, "              {:9.4} bits a character", evaluation.bits_per_character())?;
        writeln!(out, "  perplexity  {:9.4} a character", evaluation.perplexity())?;

        let order = evaluation.by_difficulty();
        // Of few names none is both.
        let easiest = EXTREMES.min(order.len() / 2);
        let hardest: Vec<usize> = order[easiest..].iter().rev().take(EXTREMES).copied().collect();
        let mut show = |heading: &str, chosen: &[usize]| {
            writeln!(
                out,
                "\n{HEADING}{heading}{HEADING:#} {FAINT}nats a character, a name{FAINT:#}"
            )?;
            chosen.iter().try_for_each(|&name| {
                let (each, all) = costs(&evaluation, name);
                let name = shown(&names[encoded.places[name]], case);
                writeln!(out, "  {each:8.4} {all:9.4}  {name}")
            })
        };
        show("Hardest", &hardest)?;
        show("Easiest", &order[..easiest])?;
        out.flush()?;
        if left_out > 0 {
            let _ = writeln!(
                std::io::stderr(),
                "\nchar-rnn: {left_out} of {} names were left out, for they have characters that the model has never seen: {}",
                names.len(),
                unknown(&encoded)
            );
        }
        Ok(())
    }

    fn list(&self) -> String {
        match &self.names {
            Some(path) => path.display().to_string(),
            None => "the built-in list".to_string(),
        }
    }
}

/// What a name costs a character, and all in all.
fn costs(evaluation: &Evaluation, name: usize) -> (f64, f64) {
    let loss = evaluation.losses[name];
    (loss / evaluation.lengths[name] as f64, loss)
}

/// How many characters an error or a warning lists.
const LISTED: usize = 20;

/// The characters that the model has never seen, those of most names first.
fn unknown(encoded: &Encoded) -> String {
    let mut characters: Vec<(char, usize)> =
        encoded.unknown.iter().map(|(&character, &names)| (character, names)).collect();
    characters.sort_by_key(|&(_, names)| std::cmp::Reverse(names));
    let mut listed: Vec<String> = characters
        .iter()
        .take(LISTED)
        .map(|(character, names)| format!("{character:?} in {names}"))
        .collect();
    if characters.len() > LISTED {
        listed.push(format!("and {} more", characters.len() - LISTED));
    }
    listed.join(", ")
}
