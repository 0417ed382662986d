//! The results of `char-rnn gradcheck` as text.

use crate::cli::args::count;
use crate::cli::error::with_flags;
use crate::gradcheck::{Against, Comparison, Report, Sizes, TENSORS};
use clap::builder::styling::{AnsiColor, Style};
use std::io::{Result, Write};

const HEADING: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

/// The relative errors: a row for each pair, a column for each tensor.
pub fn print_summary(out: &mut impl Write, report: &Report, origin: &str) -> Result<()> {
    print_heading(out, report, origin)?;
    write!(out, "\n{FAINT}  {:<21} {:>6}", "relative error", "bound")?;
    for name in TENSORS.iter().chain(&["loss", "a_last"]) {
        write!(out, " {name:>6}")?;
    }
    writeln!(out, "  shared{FAINT:#}")?;
    for pair in &report.pairs {
        write!(out, "  {:<21} {:>6}", pair.methods.join(", "), format!("{:.0e}", pair.bound))?;
        for tensor in &pair.tensors {
            let (mark, style) = if tensor.agree { ("", Style::new()) } else { ("!", BAD) };
            let error = tensor.relative_error;
            let cell = if error == 0. { "0".to_string() } else { format!("{mark}{error:.0e}") };
            write!(out, " {style}{cell:>6}{style:#}")?;
        }
        writeln!(out, "{}  {}", "      -".repeat(8 - pair.tensors.len()), pair.shared)?;
    }
    print_rest(out, report)?;
    print_verdict(out, report)
}

/// The result without its comparisons.
pub fn print_result(out: &mut impl Write, report: &Report, origin: &str) -> Result<()> {
    print_heading(out, report, origin)?;
    print_verdict(out, report)
}

fn print_heading(out: &mut impl Write, report: &Report, origin: &str) -> Result<()> {
    writeln!(out, "{HEADING}{} on {}{HEADING:#}: {origin}", report.dtype, report.device)?;
    writeln!(out, "{}", sizes(&report.sizes))
}

/// Repetition, and what the pairs prove.
fn print_rest(out: &mut impl Write, report: &Report) -> Result<()> {
    let repeated = match &report.unrepeatable[..] {
        [] => "the same bits".to_string(),
        methods => {
            let methods: Vec<String> = methods.iter().map(ToString::to_string).collect();
            format!("other bits by {}", methods.join(", "))
        }
    };
    writeln!(out, "\nEach method twice: {repeated}")?;
    let proof = match report.device.as_str() {
        "cpu" => {
            "autograd and hand share the kernels: their agreement proves the graph. What proves the\n\
             derivation is unrolled, exact, directions and differences, which share no code with it."
        }
        _ => {
            "Here unrolled and autograd are both candle's autograd over its primitive ops: their\n\
             agreement proves little. What proves the derivation of hand is each other method."
        }
    };
    writeln!(out, "{proof}\n")
}

fn print_verdict(out: &mut impl Write, report: &Report) -> Result<()> {
    let tensors = report.pairs.iter().flat_map(|pair| &pair.tensors);
    let (all, failed) = (tensors.clone().count(), tensors.filter(|tensor| !tensor.agree).count());
    match failed {
        0 => writeln!(out, "{GOOD}All {all} comparisons are within their bounds.{GOOD:#}\n"),
        _ => writeln!(out, "{BAD}{failed} of {all} comparisons are out of bounds.{BAD:#}\n"),
    }
}

pub fn print_against(out: &mut impl Write, found: &Against) -> Result<()> {
    let Sizes { hidden, vocabulary, steps, .. } = found.sizes;
    writeln!(
        out,
        "n_a = {hidden}, n_x = {vocabulary}, {steps} steps; yours and the reference's\n"
    )?;
    if !found.forward_agrees {
        writeln!(out, "{BAD}The forward pass is wrong: correct it before the gradients.{BAD:#}\n")?;
    }
    writeln!(
        out,
        "{FAINT}  {:<7} {:>9}  {:>10}  {:>8}  {:>12}  {:>12}{FAINT:#}",
        "array", "shape", "rel. error", "at most", "largest diff", "at"
    )?;
    // Loss and last state first.
    let is_gradient = |array: &&Comparison| array.tensor.starts_with('d');
    let arrays = found.arrays.iter();
    for array in arrays.clone().filter(|a| !is_gradient(a)).chain(arrays.filter(is_gradient)) {
        let (style, verdict) = if array.agree { (GOOD, "ok") } else { (BAD, "WRONG") };
        writeln!(
            out,
            "  {:<7} {:>9}  {:>10}  {:>8}  {:>12}  {:>12}  {style}{verdict}{style:#}",
            array.tensor,
            shape(array),
            short(array.relative_error),
            short(array.bound),
            short(array.largest_difference),
            at(array),
        )?;
    }
    for diagnosis in &found.diagnoses {
        let arrays = diagnosis.arrays.join(", ");
        let mistakes = with_flags(&diagnosis.mistakes.join("\n  or "));
        writeln!(out, "\n{BAD}{arrays}{BAD:#}: {mistakes}")?;
    }
    for unexplained in &found.unexplained {
        let array = unexplained.array;
        writeln!(out, "\n{BAD}{array}{BAD:#}: no known mistake gives these numbers")?;
        writeln!(out, "{FAINT}  {:>14} {:>24} {:>24}{FAINT:#}", "at", "yours", "right")?;
        for entry in &unexplained.worst {
            let at = format!("{:?}", entry.at);
            writeln!(out, "  {at:>14} {:>24} {:>24}", entry.given, entry.right)?;
        }
    }
    if found.agree {
        writeln!(out, "\n{GOOD}All arrays are right.{GOOD:#}")?;
    }
    Ok(())
}

fn shape(tensor: &Comparison) -> String {
    tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// The index of the largest difference, if there are a difference and an index.
fn at(tensor: &Comparison) -> String {
    match tensor.largest_difference {
        0. => String::new(),
        _ if tensor.at.is_empty() => String::new(),
        _ => format!("{:?}", tensor.at),
    }
}

fn short(error: f64) -> String {
    if error == 0. { "0".to_string() } else { format!("{error:.1e}") }
}

fn sizes(sizes: &Sizes) -> String {
    let count = |number: usize, what| count(number as u64, what);
    format!(
        "{}, {}, {} of up to {}",
        count(sizes.hidden, "hidden unit"),
        count(sizes.vocabulary, "character"),
        count(sizes.batch, "name"),
        count(sizes.steps, "step"),
    )
}
