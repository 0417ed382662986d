//! The page of two gradients: heat maps of each and of their difference, for every tensor.

use super::data::rounded;
use super::fill::{CHARTS, filled};
use crate::gradcheck::{Comparison, largest, worst};
use serde_json::{Value, json};

/// The most entries of a tensor that are drawn: its first rows.
const MAX_ENTRIES: usize = 250_000;

/// The number of worst entries that are marked.
const WORST: usize = 5;

/// The page of the comparisons that have both gradients whole: one file in UTF-8. `sides` names the
/// two, `title` the place that they come from; `characters`, if there are any, those of the indices
/// of the vocabulary. It has 16 bytes for each entry, and 30 KB more.
///
/// ```
/// use candle_core::{DType, Device};
/// use char_rnn::gradcheck::{Options, Problem, Sizes, check};
/// use char_rnn::page::gradients_page;
/// let sizes = Sizes { hidden: 5, vocabulary: 3, steps: 3, batch: 2 };
/// let problem = Problem::random(sizes, 1)?;
/// let options = Options { whole: true, ..Options::default() };
/// let report = check(&problem, DType::F64, &Device::Cpu, &options)?;
/// let characters = ['\n', 'a', 'b'];
/// let page = gradients_page(report.shown(), ["autograd", "hand"], "seed 1", &characters);
/// assert!(page.starts_with("<!doctype html>"));
/// # Ok::<(), char_rnn::Error>(())
/// ```
pub fn gradients_page(
    tensors: &[Comparison],
    sides: [&str; 2],
    title: &str,
    characters: &[char],
) -> String {
    let data = json!({
        "title": title,
        "sides": sides,
        "characters": characters,
        "tensors": tensors.iter().filter_map(tensor).collect::<Value>(),
    });
    let scripts = [CHARTS, include_str!("gradients.js")];
    filled("Gradients", include_str!("gradients.html"), &scripts, &data)
}

/// A tensor: its first rows by each side and of their difference. One with one column lies as a row.
fn tensor(compared: &Comparison) -> Option<Value> {
    let [g1, g2] = compared.whole.as_ref()?;
    let columns = match compared.shape[..] {
        [_, ref rest @ ..] if rest.iter().any(|&n| n > 1) => rest.iter().product(),
        _ => g1.len(),
    };
    let difference: Vec<f64> = g1.iter().zip(g2).map(|(g1, g2)| g1 - g2).collect();
    let worst = worst([g1, g2], WORST).into_iter().filter(|&at| difference[at] != 0.).map(|at| {
        let [g1, g2, difference] = [g1[at], g2[at], difference[at]].map(rounded);
        json!([at / columns, at % columns, g1, g2, difference])
    });
    let drawn_columns = columns.min(MAX_ENTRIES);
    let drawn = g1.len().min(MAX_ENTRIES / drawn_columns * drawn_columns);
    let [g1, g2, difference] = [g1, g2, &difference].map(|g| &g[..drawn]);
    let scale = |all: &[&[f64]]| largest(all.concat().iter().filter(|value| value.is_finite()));
    let (both, apart) = (scale(&[g1, g2]), scale(&[difference]));
    Some(json!({
        "name": compared.tensor,
        "shape": compared.shape,
        "rows": drawn / drawn_columns,
        "columns": drawn_columns,
        "relative_error": rounded(compared.relative_error),
        "bound": rounded(compared.bound),
        "agree": compared.agree,
        "scales": [both, both, apart],
        "values": [encoded(g1, both), encoded(g2, both), encoded(difference, apart)],
        "worst": worst.collect::<Value>(),
    }))
}

/// The values over the scale, in f32: from -1 to 1, or not finite.
fn encoded(values: &[f64], scale: f64) -> String {
    let scale = if scale > 0. { scale } else { 1. };
    let bytes = values.iter().flat_map(|value| ((value / scale) as f32).to_le_bytes());
    base64::encode(bytes.collect::<Vec<_>>())
}
