//! The results of `char-rnn gradcheck` as text.

use super::picture::sizes;
use crate::cli::error::with_flags;
use crate::gradcheck::{
    Against, ByStep, Comparison, DIRECTIONS, Pair, Planted, Report, Sizes, StepSizes, TENSORS,
};
use clap::builder::styling::{AnsiColor, Style};
use std::io::{Result, Write};

const HEADING: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

/// The relative errors: a row for each pair, a column for each tensor.
pub fn print_summary<W: Write>(out: &mut W, report: &Report, origin: &str) -> Result<()> {
    print_heading(out, report, origin)?;
    write!(out, "\n{FAINT}  {:<21} {:>6}", "relative error", "bound")?;
    for name in TENSORS.iter().chain(&["loss", "a_last"]) {
        write!(out, " {name:>6}")?;
    }
    writeln!(out, "  shared{FAINT:#}")?;
    let print_cells = |out: &mut W, cells: &[(String, bool)], shared: &str| -> Result<()> {
        for (cell, agree) in cells {
            let style = if *agree { Style::new() } else { BAD };
            write!(out, " {style}{cell:>6}{style:#}")?;
        }
        writeln!(out, "{}  {shared}", "      -".repeat(8 - cells.len()))
    };
    for pair in &report.pairs {
        write!(out, "  {:<21} {:>6}", pair.methods.join(", "), format!("{:.0e}", pair.bound))?;
        let cell = |tensor: &Comparison| {
            let mark = if tensor.agree { "" } else { "!" };
            let error = tensor.relative_error;
            let cell = if error == 0. { "0".to_string() } else { format!("{mark}{error:.0e}") };
            (cell, tensor.agree)
        };
        print_cells(out, &pair.tensors.iter().map(cell).collect::<Vec<_>>(), pair.shared)?;
    }
    for slopes in &report.taylor {
        let name = format!("Taylor, {}", slopes.method);
        write!(out, "  {name:<21} {:>6}", "2±0.1")?;
        let cell = |slope: Option<f64>| match slope {
            None => ("flat".to_string(), true),
            Some(slope) => (format!("{slope:.2}"), (slope - 2.).abs() <= 0.1),
        };
        print_cells(out, &slopes.slopes.map(cell), "none")?;
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

/// Ops, repetition, and what the pairs prove.
fn print_rest(out: &mut impl Write, report: &Report) -> Result<()> {
    write!(out, "\nEach op alone, autograd and unrolled:\n ")?;
    for op in &report.ops {
        let style = if op.agree { Style::new() } else { BAD };
        let (name, error) = (op.op, short(op.relative_error));
        write!(out, " {style}{name} {error}{style:#}")?;
    }
    let repeated = match &report.unrepeatable[..] {
        [] => "the same bits".to_string(),
        methods => {
            let methods: Vec<String> = methods.iter().map(ToString::to_string).collect();
            format!("other bits by {}", methods.join(", "))
        }
    };
    writeln!(out, "\nEach method twice: {repeated}")?;
    writeln!(
        out,
        "autograd and hand share the kernels: their agreement proves the graph. What proves the\n\
         derivation is unrolled, exact, directions and differences, which share no code with it.\n"
    )
}

fn print_verdict(out: &mut impl Write, report: &Report) -> Result<()> {
    let pairs = report.pairs.iter().flat_map(|pair| &pair.tensors).map(|tensor| tensor.agree);
    let taylor = report.taylor.iter().map(|slopes| slopes.agree);
    let all: Vec<bool> = pairs.chain(taylor).chain(report.ops.iter().map(|op| op.agree)).collect();
    let (all, failed) = (all.len(), all.iter().filter(|agree| !**agree).count());
    match failed {
        0 => writeln!(out, "{GOOD}All {all} comparisons are within their bounds.{GOOD:#}\n"),
        _ => writeln!(out, "{BAD}{failed} of {all} comparisons are out of bounds.{BAD:#}\n"),
    }
}

pub fn print_report(out: &mut impl Write, report: &Report, origin: &str) -> Result<()> {
    print_heading(out, report, origin)?;
    writeln!(out, "exact: derivatives of the reference's loss in dual numbers, in f64")?;
    writeln!(out, "differences: (L(w + h) - L(w - h)) / 2h in f64 with h = {:e}", report.step)?;
    for pair in &report.pairs {
        print_pair(out, pair)?;
    }
    print_rest(out, report)?;
    print_verdict(out, report)
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

pub fn print_proof(
    out: &mut impl Write,
    found: &[Planted],
    of: &Sizes,
    origin: &str,
) -> Result<()> {
    writeln!(out, "{HEADING}Planted mistakes{HEADING:#}: {origin}\n{}", sizes(of))?;
    writeln!(out, "\n{FAINT}  {:<68}found by{FAINT:#}", "mistake")?;
    for planted in found {
        write!(out, "  {:<68}", planted.known.what)?;
        match (planted.agree, planted.has_effect) {
            (true, true) => writeln!(out, "{}", planted.found.join(" "))?,
            (true, false) => writeln!(out, "{FAINT}changes nothing here{FAINT:#}")?,
            (false, _) => {
                let missed = planted.missed_by.join(", ");
                writeln!(out, "{BAD}{} NOT BY {missed}{BAD:#}", planted.found.join(" "))?;
            }
        }
    }
    let (count, missed) = (found.len(), found.iter().filter(|planted| !planted.agree).count());
    match missed {
        0 => writeln!(out, "\n{GOOD}Every method finds them all, in the same tensors.{GOOD:#}"),
        _ => writeln!(out, "\n{BAD}{missed} of {count} mistakes are not found.{BAD:#}"),
    }
}

pub fn print_by_step(out: &mut impl Write, found: &ByStep, origin: &str) -> Result<()> {
    writeln!(out, "{HEADING}Gradients through time{HEADING:#}: {origin}")?;
    writeln!(out, "{}", sizes(&found.sizes))?;
    writeln!(out, "\n{:12}{:<32}{:<32}", "", "||dL_T/da_t||, the last loss", "||dL/da_t||, all")?;
    write!(out, "{FAINT}  {:<8}", "back")?;
    for scale in found.scales.iter().chain(&found.scales) {
        write!(out, " {:>10}", format!("waa x {scale}"))?;
    }
    writeln!(out, "{FAINT:#}")?;
    for step in &found.steps {
        write!(out, "  {:<8}", step.back)?;
        for norm in step.of_last_loss.iter().chain(&step.of_all_losses) {
            write!(out, " {:>10}", format!("{norm:.2e}"))?;
        }
        writeln!(out)?;
    }
    writeln!(out, "\nThe gradients of the parameters, clamped to [-{0}, {0}]:", found.clip)?;
    for (scale, clamped) in found.scales.iter().zip(&found.clamped) {
        let (before, after) = (clamped.norm, clamped.clamped_norm);
        let share = 100. * clamped.share;
        writeln!(
            out,
            "  waa x {scale:<4} norm {before:.3e}, then {after:.3e}; {share:.1} % clamped"
        )?;
    }
    writeln!(
        out,
        "The clamp bounds an exploding gradient where it is summed; it restores no vanished one."
    )
}

fn print_pair(out: &mut impl Write, pair: &Pair) -> Result<()> {
    let [first, second] = &pair.methods;
    let bound = pair.bound;
    writeln!(out, "\n{HEADING}{first} and {second}{HEADING:#}, relative error at most {bound:e}")?;
    writeln!(
        out,
        "{FAINT}  {:<7} {:>9} {:>13}  {:>10}  {:>8}  {:>12}  {:>12}  {:>11}{FAINT:#}",
        "tensor", "shape", "compared", "rel. error", "at most", "largest diff", "at", "cosine"
    )?;
    let directions = second == DIRECTIONS;
    pair.tensors.iter().try_for_each(|tensor| print_comparison(out, tensor, directions))
}

fn print_comparison(out: &mut impl Write, tensor: &Comparison, directions: bool) -> Result<()> {
    let entries: usize = tensor.shape.iter().product();
    let compared = match tensor.compared {
        some if directions && tensor.tensor.len() < 4 => format!("{some} along v"),
        all if all == entries => "all".to_string(),
        some => format!("{some} of {entries}"),
    };
    let (style, verdict) = if tensor.agree { (GOOD, "ok") } else { (BAD, "OUT OF BOUNDS") };
    writeln!(
        out,
        "  {:<7} {:>9} {compared:>13}  {:>10}  {:>8}  {:>12}  {:>12}  {:>11.8}  \
         {style}{verdict}{style:#}",
        tensor.tensor,
        shape(tensor),
        short(tensor.relative_error),
        short(tensor.bound),
        short(tensor.largest_difference),
        at(tensor),
        tensor.cosine,
    )
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
