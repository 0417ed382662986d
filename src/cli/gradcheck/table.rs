//! The results of `char-rnn gradcheck` as text.

use crate::cli::args::count;
use crate::cli::error::with_flags;
use crate::gradcheck::{Against, Cause, Comparison, Entry, Letter, Report, Sizes, TENSORS};
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
    for name in TENSORS {
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
    if let Some(Sizes { hidden: n_a, vocabulary: n_x, steps, .. }) = found.sizes {
        writeln!(out, "n_a = {n_a}, n_x = {n_x}, {steps} steps; yours and the reference's")?;
    }
    if !found.arrays.is_empty() {
        print_arrays(out, found)?;
    }
    if let Some(letter) = &found.letter {
        print_letter(out, letter)?;
    }
    for (i, causes) in found.explanations.iter().enumerate() {
        writeln!(out, "{}", if i == 0 { "" } else { "or" })?;
        for Cause { arrays, what } in causes {
            writeln!(out, "{BAD}{}{BAD:#}: {}", arrays.join(", "), with_flags(what))?;
        }
    }
    if !found.worst.is_empty() {
        writeln!(out, "\nNo known mistake gives these numbers. The largest differences:")?;
        let [at, yours, right] = ["at", "yours", "right"];
        writeln!(out, "{FAINT}  array   {at:>10} {yours:>24} {right:>24}{FAINT:#}")?;
    }
    for Entry { array, at, given, right } in &found.worst {
        writeln!(out, "  {array:<7} {:>10} {given:>24} {right:>24}", format!("{at:?}"))?;
    }
    let precision = if found.single.is_empty() { "" } else { " to single precision" };
    if found.agree {
        writeln!(out, "\n{GOOD}All is right{precision}.{GOOD:#}")?;
    }
    Ok(())
}

fn print_arrays(out: &mut impl Write, found: &Against) -> Result<()> {
    writeln!(
        out,
        "\n{FAINT}  {:<12} {:>9}  {:>10}  {:>8}  {:>12}  {:>12}{FAINT:#}",
        "array", "shape", "rel. error", "at most", "largest diff", "at"
    )?;
    // Loss and last state first.
    let is_gradient = |array: &&Comparison| array.tensor.starts_with('d');
    let arrays = found.arrays.iter();
    for array in arrays.clone().filter(|a| !is_gradient(a)).chain(arrays.filter(is_gradient)) {
        let (style, verdict) = match array.tensor {
            name if found.uncertain.contains(&name) => (FAINT, "cannot be compared: rounding"),
            name if found.single.contains(&name) => (GOOD, "ok in single precision"),
            _ if array.agree => (GOOD, "ok"),
            _ => (BAD, "WRONG"),
        };
        writeln!(
            out,
            "  {:<12} {:>9}  {:>10}  {:>8}  {:>12}  {:>12}  {style}{verdict}{style:#}",
            array.tensor,
            shape(array),
            short(array.relative_error),
            short(array.bound),
            short(array.largest_difference),
            at(array),
        )?;
    }
    Ok(())
}

/// The first wrong letter, and the most likely ones there.
fn print_letter(out: &mut impl Write, letter: &Letter) -> Result<()> {
    let Letter { at, given, right, probabilities, explained } = letter;
    let index = |index: &Option<usize>| index.map_or("the end".to_string(), |i| i.to_string());
    let (given, right) = (index(given), index(right));
    writeln!(out, "\n{BAD}indices[{at}]{BAD:#} is {given}; the notebook's sample has {right}")?;
    for (whose, p) in [("right", Some(probabilities)), ("yours", explained.as_ref())] {
        let Some(p) = p.filter(|p| !p.is_empty()) else { continue };
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&i, &j| p[j].total_cmp(&p[i]));
        let most = order.iter().take(6).map(|&i| format!("{i}: {:.3}", p[i]));
        let most = most.collect::<Vec<_>>().join(", ");
        writeln!(out, "  the probabilities there, {whose}: {most}")?;
    }
    Ok(())
}

fn shape(tensor: &Comparison) -> String {
    tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// The index of the largest difference, if there are a difference and an index.
fn at(tensor: &Comparison) -> String {
    let is_shown = tensor.largest_difference != 0. && !tensor.at.is_empty();
    if is_shown { format!("{:?}", tensor.at) } else { String::new() }
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
