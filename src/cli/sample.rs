//! `char-rnn sample`: sample names from a saved model.

use super::args::{DeviceName, real_number, say, whole_number};
use super::error::Failure;
use crate::Error;
use crate::checkpoint::{self, Checkpoint};
use crate::data::{KnownNames, LetterCase, Vocabulary, encode_prefix, shown, trimmed};
use crate::eval::evaluate;
use crate::model::CharRnn;
use crate::random::RngSource;
use crate::sample::{SampleOptions, SampledName, Sampler};
use clap::Args;
use serde::Serialize;
use std::collections::HashSet;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write, stdout};
use std::path::PathBuf;

/// Sample names from a saved model
#[derive(Args)]
#[command(after_help = "\
Notes:
  The same model and seed give the same names; a smaller --count gives the first of them.
  Sampling ends after 10,000 names and 100 more for each requested one, if too few pass the filters;
  then the exit status is 1.

Examples:
  char-rnn sample dinos.safetensors -n 20
  char-rnn sample dinos.safetensors -n 20 --seed 1        the same names each time
  char-rnn sample dinos.safetensors --prefix Tyra --new   new names that start with Tyra
  char-rnn sample dinos.safetensors --temperature 0.5     more likely, less varied names
  char-rnn sample dinos.safetensors -n 100 --unique --sort --with-probability")]
pub struct Sample {
    /// Model file, as saved by `char-rnn train`
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    #[command(flatten)]
    sampling: Sampling,

    #[command(flatten)]
    output: Output,

    /// Device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Runtime")]
    device: DeviceName,
}

#[derive(Args)]
#[command(next_help_heading = "Sampling")]
struct Sampling {
    /// Number of names
    #[arg(short = 'n', long = "count", value_name = "N", default_value = "10")]
    #[arg(value_parser = whole_number::<u64>)]
    count: u64,

    /// Random seed [default: another one each time]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>)]
    seed: Option<u64>,

    /// Sampling temperature
    #[arg(long, value_name = "X", default_value = "1")]
    #[arg(value_parser = real_number)]
    temperature: f64,

    /// Sample from the N most likely characters
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>)]
    top_k: Option<usize>,

    /// Sample from the most likely characters with total probability P
    #[arg(long, value_name = "P")]
    #[arg(value_parser = real_number)]
    top_p: Option<f64>,

    /// Start each name with TEXT
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    /// Minimum length of a name, in characters
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    #[arg(value_parser = whole_number::<usize>)]
    min_length: usize,

    /// Maximum length of a name, in characters [default: 50, more for a list of longer names]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>)]
    max_length: Option<usize>,

    /// Skip the names that the model was trained on, and names cut off at the maximum length
    #[arg(long)]
    new: bool,

    /// Skip names that were printed before
    #[arg(long)]
    unique: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// Append the log-probability of each name (unfiltered), in nats
    #[arg(long)]
    with_probability: bool,

    /// Sort by probability, the most likely name first
    #[arg(long)]
    sort: bool,

    /// Print each name as a JSON object
    #[arg(long)]
    json: bool,
}

impl Sample {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &self.device.open()?)?;
        let options = self.options(&saved)?;
        let known = match (&saved.run, self.sampling.new) {
            (_, false) => None,
            (Some(run), true) => Some(&run.known),
            (None, true) => {
                let rule = "the model file has no run, and so no names that are known";
                return Err(Error::setting("new", "given", rule).into());
            }
        };
        let rng = RngSource::Seed(self.sampling.seed.unwrap_or_else(rand::random));
        let mut filter = Filter { known, seen: self.sampling.unique.then(HashSet::new) };
        let mut printer = Printer::new(&saved, &self.output);
        let (count, mut cut) = (self.sampling.count, 0);
        let (vocabulary, case) = (&saved.vocabulary, saved.case());
        let (found, tries) =
            sample_until(&saved.model, vocabulary, case, rng, &options, count, |name| {
                let accepted = filter.accepts(&name);
                if accepted {
                    cut += u64::from(!name.ended);
                    printer.push(name)?;
                }
                Ok(accepted)
            })?;
        printer.finish()?;
        if cut > 0 {
            say(&format!(
                "char-rnn: {cut} of {found} names were cut off at {} characters (--max-length)",
                options.max_length
            ));
        }
        if found < count {
            let mut others = vec!["empty"];
            others.extend(filter.known.map(|_| "in the list or cut off (--new)"));
            others.extend(filter.seen.map(|_| "printed already (--unique)"));
            return Err(Failure::Check(format!(
                "found only {found} of {count} names in {tries} samples: the others were {}",
                others.join(" or ")
            )));
        }
        Ok(())
    }

    fn options(&self, saved: &Checkpoint) -> crate::Result<SampleOptions> {
        let flags = &self.sampling;
        let prefix = flags.prefix.as_deref().map(|text| {
            encode_prefix(text, &saved.vocabulary, saved.case())
                .map_err(|error| Error::setting("prefix", format!("{text:?}"), error.to_string()))
        });
        let options = SampleOptions {
            temperature: flags.temperature,
            top_k: flags.top_k,
            top_p: flags.top_p,
            prefix: prefix.transpose()?.unwrap_or_default(),
            min_length: flags.min_length,
            max_length: flags.max_length.unwrap_or_else(|| saved.max_length()),
        };
        options.check()?;
        Ok(options)
    }
}

/// A sampled name.
pub(super) struct Sampled {
    /// As it is shown.
    pub name: String,
    /// As the network made it, trimmed.
    text: String,
    /// Whether the network ended it; if not, the maximum length did.
    pub ended: bool,
}

/// Rejects training names, and names that were seen before, where it has these sets.
struct Filter<'a> {
    known: Option<&'a KnownNames>,
    seen: Option<HashSet<String>>,
}

impl Filter<'_> {
    fn accepts(&mut self, Sampled { name, ended, .. }: &Sampled) -> bool {
        // The start of a name of the list is not new because it was cut off.
        self.known.is_none_or(|known| *ended && !known.contains(name))
            && self.seen.as_mut().is_none_or(|seen| seen.insert(name.clone()))
    }
}

/// The maximum number of names in an evaluation.
const BATCH: usize = 256;

struct Printer<'a> {
    saved: &'a Checkpoint,
    flags: &'a Output,
    out: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
    is_first: bool,
    /// Names without a log-probability yet.
    pending: Vec<Sampled>,
    /// The size of the next batch to evaluate. The first is 1, so that the first name is printed at
    /// once; then it doubles.
    batch: usize,
    /// Names to sort, with their log-probabilities.
    evaluated: Vec<(Sampled, f64)>,
}

/// A name as JSON.
#[derive(Serialize)]
struct NameLine<'a> {
    name: &'a str,
    ended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_probability: Option<f64>,
}

impl<'a> Printer<'a> {
    fn new(saved: &'a Checkpoint, flags: &'a Output) -> Self {
        Self {
            saved,
            flags,
            out: BufWriter::new(stdout().lock()),
            is_terminal: stdout().is_terminal(),
            is_first: true,
            pending: Vec::new(),
            batch: if flags.sort { BATCH } else { 1 },
            evaluated: Vec::new(),
        }
    }

    fn push(&mut self, name: Sampled) -> Result<(), Failure> {
        if !self.flags.with_probability && !self.flags.sort {
            return Ok(self.print(&name, None)?);
        }
        self.pending.push(name);
        if self.pending.len() >= self.batch {
            self.evaluate()?;
            self.batch = BATCH.min(2 * self.batch);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<(), Failure> {
        let names = std::mem::take(&mut self.pending);
        let encoded: crate::Result<Vec<Vec<u32>>> =
            names.iter().map(|name| self.saved.vocabulary.encode(&name.text)).collect();
        let losses = evaluate(&self.saved.model, &encoded?)?.losses;
        for (name, loss) in names.into_iter().zip(losses) {
            match self.flags.sort {
                true => self.evaluated.push((name, -loss)),
                false => self.print(&name, Some(-loss))?,
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.evaluate()?;
        let mut evaluated = std::mem::take(&mut self.evaluated);
        evaluated.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        for (name, log_probability) in evaluated {
            self.print(&name, Some(log_probability))?;
        }
        Ok(self.out.flush()?)
    }

    fn print(&mut self, sampled: &Sampled, log_probability: Option<f64>) -> io::Result<()> {
        let Sampled { name, ended, .. } = sampled;
        let log_probability = log_probability.filter(|_| self.flags.with_probability);
        match log_probability {
            _ if self.flags.json => {
                let line = NameLine { name, ended: *ended, log_probability };
                serde_json::to_writer(&mut self.out, &line)?;
                writeln!(self.out)?;
            }
            Some(log_probability) => writeln!(self.out, "{name}\t{log_probability:.4}")?,
            None => writeln!(self.out, "{name}")?,
        }
        if self.is_first || self.is_terminal {
            self.is_first = false;
            self.out.flush()?;
        }
        Ok(())
    }
}

/// Samples names until `accept` has accepted `count` of them, or 10,000 and 100 for each of `count`
/// are sampled. Empty names are skipped. Returns how many were accepted, and out of how many.
pub(super) fn sample_until(
    model: &CharRnn,
    vocabulary: &Vocabulary,
    case: LetterCase,
    rng: RngSource,
    options: &SampleOptions,
    count: u64,
    mut accept: impl FnMut(Sampled) -> Result<bool, Failure>,
) -> Result<(u64, u64), Failure> {
    let limit = count.saturating_mul(100).saturating_add(10_000);
    let (mut accepted, mut sampled) = (0, 0);
    while accepted < count && sampled < limit {
        // As many as are missing; after the first round at least 256, so that there are few rounds.
        let round = (count - accepted).max(if sampled == 0 { 1 } else { 256 });
        let end = limit.min(sampled.saturating_add(round));
        for name in Sampler::with_options(model, rng, options.clone(), sampled..end)? {
            let SampledName { indices, ended } = name?;
            let text = trimmed(&vocabulary.decode(&indices)).to_string();
            let name = shown(&text, case);
            // Trimming may have made it too short.
            let long_enough = options.min_length <= 1 || text.chars().count() >= options.min_length;
            if !name.is_empty() && long_enough && accept(Sampled { name, text, ended })? {
                accepted += 1;
            }
            if accepted == count {
                return Ok((accepted, sampled));
            }
        }
        sampled = end;
    }
    Ok((accepted, sampled))
}
