//! The page of two gradients: heat maps of each and of their difference, for every tensor.

use super::data::rounded;
use super::fill::{CHARTS, filled};
use crate::gradcheck::Comparison;
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
/// let report = check(&problem, DType::F64, &Device::Cpu, &Options::default())?;
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
    filled(include_str!("gradients.html"), &[CHARTS, include_str!("gradients.js")], &data)
}

/// A tensor: its first rows by each side and of their difference. One with one column lies as a row.
fn tensor(compared: &Comparison) -> Option<Value> {
    let [g1, g2] = compared.whole.as_ref()?;
    let columns = match compared.shape[..] {
        [_, ref rest @ ..] if rest.iter().any(|&n| n > 1) => rest.iter().product(),
        _ => g1.len(),
    };
    let difference: Vec<f64> = g1.iter().zip(g2).map(|(g1, g2)| g1 - g2).collect();
    let mut worst: Vec<usize> = (0..difference.len()).filter(|&at| difference[at] != 0.).collect();
    // An entry that is not finite before any other, as in the comparison.
    let error = |at: usize| match difference[at].abs() {
        error if error.is_finite() => error,
        _ => f64::INFINITY,
    };
    worst.sort_by(|&a, &b| error(b).total_cmp(&error(a)));
    worst.truncate(WORST);
    let worst = worst.into_iter().map(|at| {
        let [g1, g2, difference] = [g1[at], g2[at], difference[at]].map(rounded);
        json!([at / columns, at % columns, g1, g2, difference])
    });
    let drawn_columns = columns.min(MAX_ENTRIES);
    let drawn = g1.len().min(MAX_ENTRIES / drawn_columns * drawn_columns);
    let [g1, g2, difference] = [g1, g2, &difference].map(|g| &g[..drawn]);
    let (both, apart) = (scale(g1).max(scale(g2)), scale(difference));
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

/// The largest finite size.
fn scale(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).filter(|value| value.is_finite()).fold(0., f64::max)
}

/// The values over the scale, in f32: from -1 to 1, or not finite.
fn encoded(values: &[f64], scale: f64) -> String {
    let scale = if scale > 0. { scale } else { 1. };
    let bytes = values.iter().flat_map(|value| ((value / scale) as f32).to_le_bytes());
    base64::encode(bytes.collect::<Vec<_>>())
}
