//! The results of `char-rnn gradcheck` as text.

use super::picture::sizes;
use crate::gradcheck::{Comparison, Pair, Report, StepSizes, TENSORS};
use clap::builder::styling::{AnsiColor, Style};
use std::io::{Result, Write};

const HEADING: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

pub fn print_report(out: &mut impl Write, report: &Report, origin: &str) -> Result<()> {
    writeln!(out, "{HEADING}{} on {}{HEADING:#}: {origin}", report.dtype, report.device)?;
    writeln!(out, "{}", sizes(&report.sizes))?;
    writeln!(out, "differences: (L(w + h) - L(w - h)) / 2h in f64 with h = {:e}", report.step)?;
    for pair in &report.pairs {
        print_pair(out, pair)?;
    }
    let comparisons: Vec<_> = report.pairs.iter().flat_map(|pair| &pair.tensors).collect();
    let (all, failed) =
        (comparisons.len(), comparisons.iter().filter(|tensor| !tensor.agree).count());
    match failed {
        0 => writeln!(out, "\n{GOOD}All {all} comparisons are within their bounds.{GOOD:#}\n"),
        _ => writeln!(out, "\n{BAD}{failed} of {all} comparisons are out of bounds.{BAD:#}\n"),
    }
}

fn print_pair(out: &mut impl Write, pair: &Pair) -> Result<()> {
    let [first, second] = &pair.methods;
    let bound = pair.bound;
    writeln!(out, "\n{HEADING}{first} and {second}{HEADING:#}, relative error at most {bound:e}")?;
    writeln!(
        out,
        "{FAINT}  {:<6} {:>9} {:>15}  {:>10}  {:>12}  {:>14}  {:>11}{FAINT:#}",
        "tensor", "shape", "compared", "rel. error", "largest diff", "at", "cosine"
    )?;
    pair.tensors.iter().try_for_each(|tensor| print_comparison(out, tensor))
}

fn print_comparison(out: &mut impl Write, tensor: &Comparison) -> Result<()> {
    let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
    let entries: usize = tensor.shape.iter().product();
    let compared = match tensor.compared {
        all if all == entries => "all".to_string(),
        some => format!("{some} of {entries}"),
    };
    let at = match tensor.largest_difference {
        0. => String::new(),
        _ => format!("{:?}", tensor.at),
    };
    let (style, verdict) = if tensor.agree { (GOOD, "ok") } else { (BAD, "OUT OF BOUNDS") };
    writeln!(
        out,
        "  {:<6} {:>9} {compared:>15}  {:>10}  {:>12}  {at:>14}  {:>11.8}  \
         {style}{verdict}{style:#}",
        tensor.tensor,
        shape.join(" x "),
        short(tensor.relative_error),
        short(tensor.largest_difference),
        tensor.cosine,
    )
}

fn short(error: f64) -> String {
    if error == 0. { "0".to_string() } else { format!("{error:.1e}") }
}

pub fn print_step_sizes(out: &mut impl Write, found: &StepSizes, origin: &str) -> Result<()> {
    writeln!(out, "{HEADING}Central differences by step size h{HEADING:#}: {origin}")?;
    writeln!(out, "{}", sizes(&found.sizes))?;
    writeln!(
        out,
        "relative error against the gradient of hand, f64; the smallest of each is marked"
    )?;
    write!(out, "\n{FAINT}  {:<8}", "h")?;
    for (tensor, entries) in TENSORS.iter().zip(found.entries) {
        write!(out, " {:>11}", format!("{tensor} ({entries})"))?;
    }
    writeln!(out, "{FAINT:#}")?;
    for row in &found.steps {
        write!(out, "  {:<8}", format!("{:.1e}", row.step))?;
        for (error, best) in row.relative_errors.iter().zip(found.best) {
            let error = short(*error);
            match best == row.step {
                true => write!(out, " {GOOD}{:>11}{GOOD:#}", format!("> {error}"))?,
                false => write!(out, " {error:>11}")?,
            }
        }
        writeln!(out)?;
    }
    let (style, verdict) = if found.agree { (GOOD, "within") } else { (BAD, "not all within") };
    writeln!(
        out,
        "\n{style}At its best step each tensor's error is {verdict} the bound of {:e}.{style:#}",
        found.bound
    )
}
