//! Prints sampled names, at once or sorted.

use super::super::error::Failure;
use super::super::progress::Search;
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

/// The maximum number of names in an evaluation.
const BATCH: usize = 256;

pub struct Printer<'a> {
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
    collected: Vec<(Sampled, Option<f64>)>,
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
        Self {
            saved,
            flags,
            out: BufWriter::new(stdout().lock()),
            is_terminal: stdout().is_terminal(),
            is_first: true,
            pending: Vec::new(),
            batch: 1,
            collected: Vec::new(),
        }
    }

    /// Whether names are printed at the end only.
    fn is_sorting(&self) -> bool {
        self.flags.sort || self.flags.like.is_some()
    }

    /// Takes a name to print. The bar of `search` makes room for it.
    pub fn push(&mut self, name: Sampled, search: &Search) -> Result<(), Failure> {
        if !self.flags.with_probability && !self.flags.sort {
            return search.suspend(|| self.take(name, None));
        }
        self.pending.push(name);
        if self.pending.len() >= self.batch {
            search.suspend(|| self.evaluate())?;
            self.batch = BATCH.min(2 * self.batch);
        }
        Ok(())
    }

    /// Prints the names that are left.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.evaluate()?;
        let mut collected = std::mem::take(&mut self.collected);
        if self.flags.sort {
            collected.sort_by(|(_, a), (_, b)| b.unwrap_or(0.).total_cmp(&a.unwrap_or(0.)));
        }
        if let Some(like) = self.flags.like.as_deref().map(folded) {
            collected.sort_by_cached_key(|(sampled, _)| {
                strsim::levenshtein(&folded(&sampled.name), &like)
            });
        }
        for (name, log_probability) in collected {
            self.print(&name, log_probability)?;
        }
        Ok(self.out.flush()?)
    }

    fn evaluate(&mut self) -> Result<(), Failure> {
        let names = std::mem::take(&mut self.pending);
        let encoded: crate::Result<Vec<Vec<u32>>> =
            names.iter().map(|name| self.saved.vocabulary.encode(&name.text)).collect();
        let losses = evaluate(&self.saved.model, &encoded?)?.losses;
        for (name, loss) in names.into_iter().zip(losses) {
            self.take(name, Some(-loss))?;
        }
        Ok(())
    }

    fn take(&mut self, name: Sampled, log_probability: Option<f64>) -> Result<(), Failure> {
        match self.is_sorting() {
            true => self.collected.push((name, log_probability)),
            false => self.print(&name, log_probability)?,
        }
        Ok(())
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
