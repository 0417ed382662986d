//! Prints sampled names, at once or sorted.

use super::super::error::Failure;
use super::super::sampled::Sampled;
use crate::checkpoint::Checkpoint;
use crate::data::folded;
use crate::eval::evaluate;
use clap::Args;
use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write, stdout};

/// The flags of the output.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Append the log-probability of each name (unfiltered), in nats
    #[arg(long)]
    with_probability: bool,

    /// Sort by probability, the most likely name first
    #[arg(long)]
    sort: bool,

    /// Sort by edit distance to NAME, the most similar name first
    #[arg(long, value_name = "NAME")]
    like: Option<String>,

    /// Print each name as a JSON object
    #[arg(long)]
    json: bool,
}

/// The maximum number of names that are evaluated before one is printed.
const BATCH: usize = 256;

pub struct Printer<'a> {
    saved: &'a Checkpoint,
    flags: &'a Output,
    out: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
    is_first: bool,
    pending: Vec<Sampled>,
    /// The number of names to print together: at first 1, so that the first name is printed at once.
    /// Sorted names are printed at the end only.
    batch: usize,
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
    pub fn new(saved: &'a Checkpoint, flags: &'a Output) -> Self {
        let (out, is_terminal) = (BufWriter::new(stdout().lock()), stdout().is_terminal());
        let batch = if flags.sort || flags.like.is_some() { usize::MAX } else { 1 };
        Self { saved, flags, out, is_terminal, is_first: true, pending: Vec::new(), batch }
    }

    /// Takes a name to print.
    pub fn push(&mut self, name: Sampled) -> Result<(), Failure> {
        self.pending.push(name);
        if self.pending.len() < self.batch {
            return Ok(());
        }
        if self.flags.with_probability {
            self.batch = BATCH.min(2 * self.batch);
        }
        self.print()?;
        if std::mem::take(&mut self.is_first) || self.is_terminal {
            self.out.flush()?;
        }
        Ok(())
    }

    /// Prints the names that are left.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.print()?;
        Ok(self.out.flush()?)
    }

    fn print(&mut self) -> Result<(), Failure> {
        let mut names: Vec<(Sampled, Option<f64>)> =
            self.pending.drain(..).map(|name| (name, None)).collect();
        if self.flags.with_probability || self.flags.sort {
            let encode = |(name, _): &(Sampled, _)| self.saved.vocabulary.encode(&name.text);
            let encoded = names.iter().map(encode).collect::<crate::Result<Vec<_>>>()?;
            let losses = evaluate(&self.saved.model, &encoded)?.losses;
            for ((_, log_probability), loss) in names.iter_mut().zip(losses) {
                *log_probability = Some(-loss);
            }
        }
        if self.flags.sort {
            names.sort_by(|(_, a), (_, b)| b.unwrap_or(0.).total_cmp(&a.unwrap_or(0.)));
        }
        if let Some(like) = self.flags.like.as_deref().map(folded) {
            names.sort_by_cached_key(|(name, _)| strsim::levenshtein(&folded(&name.name), &like));
        }
        for (name, log_probability) in &names {
            self.print_line(name, log_probability.filter(|_| self.flags.with_probability))?;
        }
        Ok(())
    }

    fn print_line(&mut self, name: &Sampled, log_probability: Option<f64>) -> io::Result<()> {
        let Sampled { name, ended, .. } = name;
        match log_probability {
            _ if self.flags.json => {
                let line = NameLine { name, ended: *ended, log_probability };
                writeln!(self.out, "{}", serde_json::to_string(&line)?)
            }
            Some(log_probability) => writeln!(self.out, "{name}\t{log_probability:.4}"),
            None => writeln!(self.out, "{name}"),
        }
    }
}
