//! `char-rnn sample`: sample names from a saved model.

mod filter;
mod printer;

use super::args::{open_device, real_number, say, whole_number};
use super::error::Failure;
use super::sampled::Source;
use super::signals::Signals;
use crate::Error;
use crate::checkpoint::{self, Checkpoint};
use crate::data::encode_prefix;
use crate::eval::explain;
use crate::random::RngSource;
use crate::sample::SampleOptions;
use clap::Args;
use filter::{Filter, Filters};
use indicatif::ProgressBar;
use printer::{Output, Printer};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Sample names from a saved model
#[derive(Args)]
#[command(after_help = "\
Notes:
  The same model and seed give the same names; a smaller --count gives the first of them.
  Sampling ends after a million names and 100 more for each requested one, if too few pass the
  filters; then the exit status is 1. Ctrl-C keeps what was found.

Examples:
  char-rnn sample dinos.safetensors -n 20
  char-rnn sample dinos.safetensors -n 20 --seed 1        the same names each time
  char-rnn sample dinos.safetensors --prefix Tyra --new   new names that start with Tyra
  char-rnn sample dinos.safetensors --matching 'raptor$'  names that end in raptor
  char-rnn sample dinos.safetensors --temperature 0.5     more likely, less varied names
  char-rnn sample dinos.safetensors -n 100 --unique --sort --with-probability")]
pub struct Sample {
    /// Model file, as saved by `char-rnn train`
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    #[command(flatten)]
    sampling: Sampling,

    #[command(flatten)]
    filters: Filters,

    #[command(flatten)]
    output: Output,

    /// Device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Runtime")]
    device: String,
}

#[derive(Args)]
#[command(next_help_heading = "Sampling")]
struct Sampling {
    /// Number of names [default: 10; at temperature 0 one for each prefix]
    #[arg(short = 'n', long = "count", value_name = "N")]
    #[arg(value_parser = whole_number::<u64>)]
    count: Option<u64>,

    /// Random seed [default: another one each time]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>)]
    seed: Option<u64>,

    /// Sampling temperature; 0 takes the likeliest character
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

    /// Start each name with TEXT, in any case; given several times, in turn
    #[arg(long, value_name = "TEXT")]
    prefix: Vec<String>,

    /// Minimum length of a name, in characters
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    #[arg(value_parser = whole_number::<usize>)]
    min_length: usize,

    /// Maximum length of a name, in characters [default: 50, more for a list of longer names]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>)]
    max_length: Option<usize>,
}

/// The maximum number of samples, apart from 100 for each requested name.
const MAX_SAMPLES: u64 = 1_000_000;

/// The number of names without `--count`.
const COUNT: u64 = 10;

impl Sample {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &open_device(&self.device)?)?;
        let options = self.options(&saved)?;
        let known = saved.run.as_ref().map(|run| &run.known);
        let mut filter = Filter::new(&self.filters, known, options.min_length)?;
        // One sample of each prefix shows all names.
        let different = options.is_deterministic().then_some(options.prefixes.len().max(1) as u64);
        let count = self.sampling.count.unwrap_or(different.unwrap_or(COUNT));
        let limit = match different {
            Some(different) if filter.is_choosing() => different,
            Some(different) => different.max(count),
            None => count.saturating_mul(100).saturating_add(MAX_SAMPLES),
        };
        let source = Source {
            model: &saved.model,
            vocabulary: &saved.vocabulary,
            spelling: &saved.spelling(),
            rng: RngSource::Seed(self.sampling.seed.unwrap_or_else(rand::random)),
            options,
        };
        let (signals, spinner) = (Signals::watch(None), ProgressBar::new_spinner());
        let mut printer = Printer::new(&saved, &self.output);
        let (mut samples, mut accepted, mut cut) = (0u64, 0u64, 0);
        let found = source.sample(count, limit, |name| {
            samples += 1;
            // Not for a search that takes a moment only.
            if samples.is_multiple_of(10_000) {
                spinner.set_message(format!("{accepted} of {count} names in {samples} samples"));
                spinner.tick();
            }
            if signals.caught().is_some() {
                return Ok(ControlFlow::Break(()));
            }
            let is_accepted = filter.accepts(&name);
            if is_accepted {
                cut += u64::from(!name.ended);
                accepted += 1;
                spinner.suspend(|| printer.push(name))?;
            }
            Ok(ControlFlow::Continue(is_accepted))
        })?;
        spinner.finish_and_clear();
        printer.finish()?;
        let max_length = source.options.max_length;
        if cut > 0 {
            say(&format!(
                "char-rnn: {cut} of {found} names were cut off at {max_length} characters \
                 (--max-length)"
            ));
        }
        let found_few = format!("only {found} of {count} names in {samples} samples");
        if let Some(signal) = signals.caught().filter(|_| found < count) {
            return Err(Failure::Stopped(signal, format!("; found {found_few}")));
        }
        if found < count {
            let rejected = filter.rejected();
            return Err(Failure::Check(format!("found {found_few}; the others were {rejected}")));
        }
        Ok(())
    }

    fn options(&self, saved: &Checkpoint) -> crate::Result<SampleOptions> {
        let flags = &self.sampling;
        let prefixes = flags.prefix.iter().map(|text| {
            prefix(text, saved)
                .map_err(|error| Error::setting("prefix", format!("{text:?}"), error.to_string()))
        });
        let options = SampleOptions {
            temperature: flags.temperature,
            top_k: flags.top_k,
            top_p: flags.top_p,
            prefixes: prefixes.collect::<crate::Result<_>>()?,
            min_length: flags.min_length,
            max_length: flags.max_length.unwrap_or_else(|| saved.max_length()),
        };
        options.check()?;
        Ok(options)
    }
}

/// The start of a name, in the likeliest of the cases in which the model can write it.
fn prefix(text: &str, saved: &Checkpoint) -> crate::Result<Vec<u32>> {
    let cases = encode_prefix(text, &saved.vocabulary, &saved.spelling())?;
    let mut best = (f64::NEG_INFINITY, Vec::new());
    for case in cases {
        let steps = explain(&saved.model, &case, 0)?;
        // Not the end of the name.
        let likelihood = steps[..case.len()].iter().map(|step| step.log_probability).sum();
        if best.1.is_empty() || likelihood > best.0 {
            best = (likelihood, case);
        }
    }
    Ok(best.1)
}
