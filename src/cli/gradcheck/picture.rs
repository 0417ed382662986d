//! The results of `char-rnn gradcheck` as pictures.

use crate::cli::draw::{HeatMap, LineChart, Picture, Scale, Series, heat_maps};
use crate::gradcheck::{ByStep, Checked, Comparison, Pair, Scope, Sizes, StepSizes, TENSORS};

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
    let scope = if matches!(first.scope, Scope::All) { &second.scope } else { &first.scope };
    let entries = match scope {
        Scope::Entries(entries) => Some(entries),
        _ => None,
    };
    let maps = |(index, tensor): (usize, &Comparison)| {
        let (g1, g2) = (first.at(index, scope), second.at(index, scope));
        let difference = g1.iter().zip(&g2).map(|(g1, g2)| (g1 - g2).abs()).collect();
        let map = |title, values, scale| HeatMap {
            title,
            axes: axes(tensor.tensor, scope).map(str::to_string),
            columns: columns(tensor, scope),
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
    let maps: Vec<[HeatMap; 2]> =
        pair.tensors.iter().take(TENSORS.len()).enumerate().map(maps).collect();
    let report = &checked.report;
    let (dtype, device, sizes) = (report.dtype, &report.device, sizes(&report.sizes));
    let legend = match scope {
        Scope::All | Scope::Directions(_) => "White: no difference.",
        Scope::Entries(_) => "White: no difference. Grey: not compared.",
    };
    let notes =
        [format!("{dtype} on {device}; {sizes}; bound {:.0e}", pair.bound), legend.to_string()];
    heat_maps(&format!("Gradients: {} and {}", pair.methods[0], pair.methods[1]), &notes, &maps)
}

fn columns(tensor: &Comparison, scope: &Scope) -> usize {
    match scope {
        Scope::Directions(_) => tensor.compared,
        _ => *tensor.shape.last().expect("no tensor is a scalar"),
    }
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
fn axes(tensor: &str, scope: &Scope) -> [&'static str; 2] {
    match tensor {
        _ if matches!(scope, Scope::Directions(_)) => ["", "random direction"],
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

/// Lines of the norm of the gradient by steps back, for each factor of `waa`.
pub fn by_step(found: &ByStep) -> Picture {
    let series = |(k, scale): (usize, &f64)| Series {
        name: format!("waa x {scale}"),
        points: found.steps.iter().map(|step| (step.back as f64, step.of_last_loss[k])).collect(),
        pale: false,
    };
    LineChart {
        title: "Gradient of the last step's loss by steps back through time".to_string(),
        subtitle: sizes(&found.sizes),
        x: "steps back".to_string(),
        y: "||dL_T/da_t||".to_string(),
        logarithmic: [false, true],
        least: [vec![], vec![]],
        series: found.scales.iter().enumerate().map(series).collect(),
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
