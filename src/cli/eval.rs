//! `char-rnn eval`: the loss of a model on a list of names.

use super::args::{count, list_bytes, open_device, say};
use super::error::Failure;
use super::progress::Bar;
use super::signals::Signals;
use crate::checkpoint::{self, Checkpoint, Run};
use crate::data::{Listed, digest, parse_listed};
use crate::eval::{Encoded, Evaluation, Likeness, evaluate, evaluate_stateful};
use crate::ngram::NGram;
use crate::random::RngSource;
use crate::sample::Sampler;
use crate::text::escaped;
use clap::Args;
use clap::builder::styling::Style;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;

/// Evaluate a saved model on a list of names
#[derive(Args)]
#[command(after_help = "\
Notes:
  The end of a name counts as a character. Names start from the zero state, as in sampling; the loss
  with the state kept from name to name is printed too, and how 1,000 sampled names compare with
  NAMES. The distance between two distributions is from 0 (the same) to 1 (total variation).

Examples:
  char-rnn eval dinos.safetensors                  on the built-in list
  char-rnn eval towns.safetensors towns.txt
  char-rnn eval towns.safetensors others.txt --baseline towns.txt
  char-rnn eval towns.safetensors others.txt --json
  grep ville others.txt | char-rnn eval towns.safetensors -")]
pub struct Eval {
    /// Model file, as saved by `char-rnn train`
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// List of names, one a line, in UTF-8; - is standard input [default: dinosaurs]
    #[arg(value_name = "NAMES")]
    names: Option<PathBuf>,

    /// Compare with a Kneser-Ney n-gram model of this list
    #[arg(long, value_name = "NAMES", help_heading = "Data")]
    baseline: Option<PathBuf>,

    /// Print JSON, with the line, spelling and loss of each name
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Runtime")]
    device: String,
}

/// The number of names sampled for comparison with the list.
const SAMPLED: u64 = 1000;

/// The number of hardest and of easiest names that are printed.
const EXTREMES: usize = 5;

const HEADING: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

impl Eval {
    pub fn run(self) -> Result<(), Failure> {
        Signals::watch(None).interrupt("", &Bar::new(true), || self.evaluate())
    }

    fn evaluate(&self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &open_device(&self.device)?)?;
        let (bytes, list) = list_bytes(self.names.as_deref())?;
        let (listed, encoded) = encoded(&bytes, &list, &saved, "no name can be evaluated: each")?;
        let evaluation = evaluate(&saved.model, &encoded.names)?;
        let stateful = evaluate_stateful(&saved.model, &encoded.names)?;
        let stateful = stateful / encoded.names.len() as f64;
        let mut notes = Vec::from_iter(left_out(&listed, &encoded, "in evaluation"));
        let baseline = match &self.baseline {
            Some(path) => {
                let (bytes, origin) = list_bytes(Some(path))?;
                let problem = "it cannot be counted: each of its names";
                let (counted_list, counted) = self::encoded(&bytes, &origin, &saved, problem)?;
                notes.extend(left_out(&counted_list, &counted, "in counting"));
                notes.extend(saved.run.as_ref().and_then(|run| held_out(run, &counted_list)));
                let model = NGram::choose(&counted.names, saved.vocabulary.size());
                let nats = encoded.names.iter().map(|name| model.loss(name)).sum::<f64>();
                Some((model, nats / evaluation.characters() as f64))
            }
            None => None,
        };
        let sampled =
            Sampler::new(&saved.model, RngSource::Seed(1), saved.max_length(), 0..SAMPLED)?
                .map(|name| name.map(|name| name.indices))
                .collect::<candle_core::Result<Vec<_>>>()?;
        let likeness = Likeness::of(&sampled, &encoded.names);
        let list = escaped(&list);
        let report =
            Report { list, listed, encoded, evaluation, stateful, baseline, likeness, saved };
        let mut out = anstream::stdout().lock();
        if self.json {
            writeln!(out, "{:#}", report.json())?;
            return Ok(out.flush()?);
        }
        report.print(&mut out)?;
        out.flush()?;
        for note in notes {
            say(&format!("char-rnn: {note}"));
        }
        Ok(())
    }
}

/// The names of a list that cannot be used for a `purpose`, in a sentence.
fn left_out(listed: &[Listed], encoded: &Encoded, purpose: &str) -> Option<String> {
    let (all, used) = (listed.len(), encoded.names.len());
    (used < all).then(|| {
        format!(
            "{} of {all} names were left out {purpose}, for they have characters unknown to the \
             model: {}",
            all - used,
            unknown(encoded)
        )
    })
}

/// Whether the network has seen fewer of the names of `counted` than the n-gram model, in a sentence.
fn held_out(run: &Run, counted: &[Listed]) -> Option<String> {
    let is_list = digest(counted.iter().map(|listed| &listed.name)) == run.list.sha256;
    (is_list && run.trained.validation.is_some()).then(|| {
        format!(
            "the n-gram counts all {} names, of which a share of {} was held out from the network",
            counted.len(),
            run.config.validation
        )
    })
}

/// The lines of a list, and those of its names that the model can read: one at least, or else the
/// error begins with `problem`.
fn encoded(
    bytes: &[u8],
    origin: &str,
    saved: &Checkpoint,
    problem: &str,
) -> crate::Result<(Vec<Listed>, Encoded)> {
    let listed = parse_listed(bytes, origin, &saved.spelling())?;
    let names = listed.iter().map(|listed| listed.name.as_str());
    let encoded = Encoded::new(names, &saved.vocabulary);
    if encoded.names.is_empty() {
        let characters = unknown(&encoded);
        let problem = format!("{problem} has characters unknown to the model ({characters})");
        return Err(crate::Error::Names { origin: origin.to_string(), problem });
    }
    Ok((listed, encoded))
}

struct Report {
    list: String,
    listed: Vec<Listed>,
    encoded: Encoded,
    evaluation: Evaluation,
    /// The mean loss of a name in stateful evaluation, in nats.
    stateful: f64,
    /// An n-gram model, and its loss in nats a character.
    baseline: Option<(NGram, f64)>,
    likeness: Likeness,
    saved: Checkpoint,
}

impl Report {
    /// The number of names with unknown characters.
    fn left_out(&self) -> usize {
        self.listed.len() - self.encoded.names.len()
    }

    /// The `i`-th evaluated name.
    fn name(&self, i: usize) -> &Listed {
        &self.listed[self.encoded.places[i]]
    }

    fn json(&self) -> Value {
        let evaluation = &self.evaluation;
        let losses = evaluation.losses.iter().enumerate();
        let losses: Vec<Value> = losses
            .map(|(i, loss)| {
                let Listed { line, text, .. } = self.name(i);
                json!({ "line": line, "name": text, "nats": loss })
            })
            .collect();
        json!({
            "names": losses.len(),
            "characters": evaluation.characters(),
            "nats_per_name": evaluation.nats_per_name(),
            "nats_per_name_with_state_carried": self.stateful,
            "nats_per_character": evaluation.nats_per_character(),
            "bits_per_character": evaluation.bits_per_character(),
            "perplexity": evaluation.perplexity(),
            "baseline": self.baseline.as_ref().map(|(model, nats)| json!({
                "order": model.order(),
                "discount": model.discount(),
                "nats_per_character": nats,
            })),
            "likeness": self.likeness,
            "left_out": self.left_out(),
            "unknown_characters": self.encoded.unknown,
            "losses": losses,
        })
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (evaluation, names) = (&self.evaluation, self.encoded.names.len());
        writeln!(
            out,
            "{HEADING}{}{HEADING:#}: {}, {} characters with the ends of names",
            self.list,
            count(names as u64, "name"),
            evaluation.characters()
        )?;
        writeln!(out, "  loss        {:9.4} nats a name", evaluation.nats_per_name())?;
        let carries = self.saved.run.as_ref().is_some_and(|run| run.config.carry_state);
        let trained = if carries { ", as in training" } else { "" };
        writeln!(out, "              {:9.4} with the state kept{trained}", self.stateful)?;
        writeln!(out, "              {:9.4} nats a character", evaluation.nats_per_character())?;
        writeln!(out, "              {:9.4} bits a character", evaluation.bits_per_character())?;
        if let Some((model, nats)) = &self.baseline {
            let order = model.order();
            writeln!(out, "              {nats:9.4} by a Kneser-Ney {order}-gram of the baseline")?;
        }
        writeln!(out, "  perplexity  {:9.4} a character", evaluation.perplexity())?;
        let Likeness { sampled, in_list, distinct, first_characters, lengths } = self.likeness;
        writeln!(
            out,
            "  sampled     {sampled:>9} names: {distinct} different, {in_list} in the list"
        )?;
        writeln!(out, "              {first_characters:9.4} distance of first letters")?;
        writeln!(out, "              {lengths:9.4} distance of lengths")?;

        let order = evaluation.by_difficulty();
        // No name is in both lists.
        let easiest = EXTREMES.min(names / 2);
        let hardest: Vec<usize> = order[easiest..].iter().rev().take(EXTREMES).copied().collect();
        self.print_names(out, "Hardest", &hardest)?;
        self.print_names(out, "Easiest", &order[..easiest])
    }

    fn print_names(&self, out: &mut impl Write, heading: &str, names: &[usize]) -> io::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n{HEADING}{heading}{HEADING:#} {FAINT}nats a character, a name{FAINT:#}")?;
        let spelling = self.saved.spelling();
        for &i in names {
            let loss = self.evaluation.losses[i];
            let per_character = loss / self.evaluation.lengths[i] as f64;
            let name = spelling.shown(&self.name(i).name);
            writeln!(out, "  {per_character:8.4} {loss:9.4}  {name}")?;
        }
        Ok(())
    }
}

/// The maximum number of characters that a message lists.
const LISTED: usize = 20;

/// The unknown characters, those of most names first.
fn unknown(encoded: &Encoded) -> String {
    let mut characters = Vec::from_iter(&encoded.unknown);
    characters.sort_by_key(|&(_, names)| std::cmp::Reverse(names));
    let more = characters.len().saturating_sub(LISTED);
    let mut listed: Vec<String> =
        characters.iter().take(LISTED).map(|(c, names)| format!("{c:?} in {names}")).collect();
    listed.extend((more > 0).then(|| format!("and {more} more")));
    listed.join(", ")
}
