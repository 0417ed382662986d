//! The axes of a chart.

use super::picture::{Area, Drawn, FAINT, INK, font};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::ops::Range;

pub(super) type Chart<'a> =
    ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An axis of a chart.
pub(super) struct Axis<'a> {
    pub(super) title: &'a str,
    /// Its ends, and all positions on it: of a logarithmic axis the logarithms.
    pub(super) ends: Range<f64>,
    pub(super) logarithmic: bool,
    /// The most labels.
    pub(super) labels: usize,
}

impl<'a> Axis<'a> {
    /// An axis that has all `positions` on it. One that is `whole`, as a logarithmic one is, begins
    /// and ends at whole numbers and has no labels between them.
    pub(super) fn fit(
        title: &'a str,
        positions: impl Iterator<Item = f64>,
        [whole, logarithmic]: [bool; 2],
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        positions.for_each(|at| (low, high) = (low.min(at), high.max(at)));
        if low > high {
            (low, high) = (0., 1.);
        }
        // f64 cannot distinguish the labels of a shorter axis.
        let shortest = 1e-6 * low.abs().max(high.abs());
        let margin = match high - low {
            length if length <= shortest => shortest.max(0.5),
            _ if whole => 0.,
            length => 0.03 * length,
        };
        let (start, end) = (low - margin, high + margin);
        let ends = if whole { start.floor()..end.ceil() } else { start..end };
        let labels = if whole { (ends.end - ends.start).min(6.) as usize + 1 } else { 7 };
        Self { title, ends, logarithmic, labels }
    }

    fn label(&self, position: f64) -> String {
        let Range { start, end } = self.ends;
        if self.logarithmic {
            let plain = start >= -3. && end <= 4.;
            return if plain { 10f64.powf(position).to_string() } else { format!("1e{position}") };
        }
        // Without rounding errors.
        let rounded: f64 = format!("{position:.8e}").parse().expect("it was written as a number");
        match rounded.abs() {
            size if size < 1e-9 * (end - start).abs() => "0".to_string(),
            1e-4..1e6 => rounded.to_string(),
            _ => format!("{rounded:e}"),
        }
    }
}

/// The position of `value` on an axis. Beyond 1e300 the length of the axis could overflow.
pub(super) fn position(value: f64, logarithmic: bool) -> Option<f64> {
    let position = if logarithmic { value.log10() } else { value };
    (position.abs() <= 1e300).then_some(position)
}

/// A chart with these axes, whose labels are in the given widths left, below and right of it.
pub(super) fn chart<'a>(
    area: &Area<'a>,
    [x, y]: [&Axis; 2],
    [left, below, right]: [i32; 3],
    grid: RGBColor,
) -> Drawn<Chart<'a>> {
    let margin = left.min(12);
    let mut chart = ChartBuilder::on(area)
        .margin_left(margin)
        .set_label_area_size(LabelAreaPosition::Left, left - margin)
        .set_label_area_size(LabelAreaPosition::Bottom, below)
        .set_label_area_size(LabelAreaPosition::Right, right)
        .build_cartesian_2d(x.ends.clone(), y.ends.clone())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(grid)
        .axis_style(FAINT)
        .set_all_tick_mark_size(6)
        .x_labels(x.labels)
        .y_labels(y.labels)
        .x_label_formatter(&|at| x.label(*at))
        .y_label_formatter(&|at| y.label(*at))
        .label_style(font(22, FAINT))
        .axis_desc_style(font(22, INK))
        .x_desc(x.title)
        .y_desc(y.title)
        .draw()?;
    Ok(chart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plotters::coord::ranged1d::BoldPoints;
    use proptest::prelude::*;

    fn labels(positions: &[f64], whole: [bool; 2]) -> Vec<String> {
        let axis = Axis::fit("", positions.iter().copied(), whole);
        let points = RangedCoordf64::from(axis.ends.clone()).key_points(BoldPoints(axis.labels));
        points.iter().map(|&at| axis.label(at)).collect()
    }

    #[test]
    fn labels_are_round() {
        let (linear, whole, logarithmic) = ([false; 2], [true, false], [true; 2]);
        for (kind, ends, expected) in [
            (linear, [3., 97.], "20 40 60 80"),
            (whole, [0., 34_999.], "0 5000 10000 15000 20000 25000 30000"),
            (whole, [0., 1.], "0 1"),
            (linear, [22.08, 22.31], "22.1 22.15 22.2 22.25 22.3"),
            (linear, [-0.4, 0.4], "-0.4 -0.2 0 0.2 0.4"),
            (whole, [0., 7e9], "0 2e9 4e9 6e9"),
            (linear, [0., 4e-7], "0 1e-7 2e-7 3e-7 4e-7"),
            (logarithmic, [-12., 0.], "1e-12 1e-10 1e-8 1e-6 1e-4 1e-2 1e0"),
            (logarithmic, [-1.7, 2.5], "0.01 0.1 1 10 100 1000"),
            (logarithmic, [0.5, 0.5], "1 10"),
        ] {
            assert_eq!(labels(&ends, kind).join(" "), expected);
        }
    }

    proptest! {
        #[test]
        fn any_positions_have_an_axis_with_few_and_different_labels(
            positions in prop::collection::vec(-1e300f64..1e300, 0..5),
            near in -1e9f64..1e9,
            kind in prop::sample::select(vec![[false; 2], [true, false]]),
        ) {
            for positions in [positions, vec![near, near * (1. + 1e-8)]] {
                let axis = Axis::fit("", positions.iter().copied(), kind);
                for at in &positions {
                    prop_assert!((axis.ends.start..=axis.ends.end).contains(at));
                }
                let mut labels = labels(&positions, kind);
                prop_assert!(labels.len() <= 9, "{labels:?}");
                let all = labels.len();
                labels.dedup();
                prop_assert_eq!(labels.len(), all);
            }
        }
    }
}
