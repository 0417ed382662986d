//! The results of `char-rnn gradcheck` as pictures.

use crate::cli::draw::{HeatMap, LineChart, Picture, Scale, Series, heat_maps};
use crate::gradcheck::{Checked, Comparison, Pair, Sizes, StepSizes};

/// For each tensor a heat map of its gradient by the pair's first method, beside one of the
/// absolute difference from the second's.
///
/// # Panics
/// If the pair is not one of this check's.
pub fn pair(checked: &Checked, pair: &Pair) -> Picture {
    let [first, second] = pair.methods.each_ref().map(|method| {
        let mut gradients = checked.gradients.iter();
        gradients.find(|gradients| &gradients.method == method).expect("a method of this check")
    });
    let entries = first.entries.as_ref().or(second.entries.as_ref());
    let maps = |(index, tensor): (usize, &Comparison)| {
        let (g1, g2) = (first.at(index, entries), second.at(index, entries));
        let difference = g1.iter().zip(&g2).map(|(g1, g2)| (g1 - g2).abs()).collect();
        let map = |title, values, scale| HeatMap {
            title,
            axes: axes(tensor.tensor).map(str::to_string),
            columns: *tensor.shape.last().expect("no tensor is a scalar"),
            values: cells(tensor, values, entries.map(|entries| &entries.0[index][..])),
            scale,
        };
        let verdict = if tensor.agree { "" } else { ": OUT OF BOUNDS" };
        let title = format!("|difference|, relative error {:.1e}{verdict}", tensor.relative_error);
        [
            map(format!("gradient of {}, {}", tensor.tensor, first.method), g1, Scale::Signed),
            map(title, difference, Scale::Logarithmic),
        ]
    };
    let maps: Vec<[HeatMap; 2]> = pair.tensors.iter().enumerate().map(maps).collect();
    let report = &checked.report;
    let (dtype, device, sizes) = (report.dtype, &report.device, sizes(&report.sizes));
    let legend = match pair.is_complete() {
        true => "White: no difference.",
        false => "White: no difference. Grey: not compared.",
    };
    let notes =
        [format!("{dtype} on {device}; {sizes}; bound {:.0e}", pair.bound), legend.to_string()];
    heat_maps(&format!("Gradients: {} and {}", pair.methods[0], pair.methods[1]), &notes, &maps)
}

/// A cell for each entry of the tensor, empty if it is not one of `entries`.
fn cells(tensor: &Comparison, values: Vec<f64>, entries: Option<&[usize]>) -> Vec<Option<f64>> {
    let Some(entries) = entries else { return values.into_iter().map(Some).collect() };
    let mut cells = vec![None; tensor.shape.iter().product()];
    for (&at, value) in entries.iter().zip(values) {
        cells[at] = Some(value);
    }
    cells
}

/// What the rows and the columns of a tensor stand for.
fn axes(tensor: &str) -> [&'static str; 2] {
    match tensor {
        "wax" => ["hidden unit", "input character"],
        "waa" => ["hidden unit", "previous hidden unit"],
        "wya" => ["output character", "hidden unit"],
        "by" => ["", "output character"],
        "a0" => ["name", "hidden unit"],
        _ => ["", "hidden unit"],
    }
}

/// A line for each tensor: the error of central differences by step size.
pub fn step_sizes(found: &StepSizes) -> Picture {
    let series = |(i, name): (usize, &&str)| Series {
        name: name.to_string(),
        points: found.steps.iter().map(|step| (step.step, step.relative_errors[i])).collect(),
        pale: false,
    };
    LineChart {
        title: "Error of central differences by step size".to_string(),
        subtitle: format!("f64; {}; against the gradient of hand", sizes(&found.sizes)),
        x: "step h".to_string(),
        y: "relative error".to_string(),
        logarithmic: [true, true],
        least: [vec![], vec![]],
        series: found.tensors.iter().enumerate().map(series).collect(),
    }
    .picture()
}

/// The sizes in words.
pub fn sizes(sizes: &Sizes) -> String {
    let plural = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    };
    format!(
        "{}, {}, {} of up to {}",
        plural(sizes.hidden, "hidden unit"),
        plural(sizes.vocabulary, "character"),
        plural(sizes.batch, "name"),
        plural(sizes.steps, "step"),
    )
}
