//! Lines over a pair of axes.

use super::axis::{self, Axis, position};
use super::picture::{Area, Drawn, FAINT, GRID, INK, Picture, font, write};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// The space left of a chart for the labels of its y axis, and right of it for the legend.
pub(super) const LEFT: i32 = 168;
const RIGHT: i32 = 300;

/// The colours of Okabe and Ito, safe for colour-blind readers, without the yellow, which is too
/// light for a line on white.
const LINES: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    INK,
];

/// A line of a chart.
pub(crate) struct Series {
    pub(crate) name: String,
    /// (x, y) in the order in which they are joined. A point that is not on the axes (not finite,
    /// or not positive on a logarithmic axis) leaves a gap; one between two gaps is a dot.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether the line is thin and pale.
    pub(crate) pale: bool,
}

/// Lines over a pair of axes.
pub(crate) struct LineChart {
    pub(crate) title: String,
    /// A line below the title; may be empty.
    pub(crate) subtitle: String,
    /// The titles of the axes. Where x is not logarithmic, it counts something.
    pub(crate) x: String,
    pub(crate) y: String,
    /// Whether the x axis, and whether the y axis, is logarithmic.
    pub(crate) logarithmic: [bool; 2],
    /// Positions on the x axis, and on the y axis, that are shown in any case.
    pub(crate) least: [Vec<f64>; 2],
    /// The lines; after seven, colours repeat.
    pub(crate) series: Vec<Series>,
}

impl LineChart {
    /// The chart as a picture.
    pub(crate) fn picture(self) -> Picture {
        Picture::new(1800, 1080, |area| {
            write(area, &self.title, font(34, INK), (LEFT, 48), HPos::Left)?;
            write(area, &self.subtitle, font(24, INK), (LEFT, 94), HPos::Left)?;
            self.draw(&area.clone().shrink((0, 140), (1800, 910)), 110)
        })
    }

    /// Draws lines, axes and legend; the labels of the x axis are in the lowest `below`.
    pub(super) fn draw(&self, area: &Area, below: i32) -> Drawn {
        let [log_x, log_y] = self.logarithmic;
        let place = |&(x, y): &(f64, f64)| Some((position(x, log_x)?, position(y, log_y)?));
        let lines = self.series.iter().map(|series| series.points.iter().map(place).collect());
        let lines: Vec<Vec<Option<(f64, f64)>>> = lines.collect();
        let least = |axis: usize| self.least[axis].iter().copied();
        let points = || lines.iter().flatten().flatten();
        let x = points().map(|at| at.0).chain(least(0));
        let x = Axis::fit(&self.x, x, [true, log_x]);
        let y = points().map(|at| at.1).chain(least(1));
        let y = Axis::fit(&self.y, y, [log_y, log_y]);

        let (width, height) = area.dim_in_pixel();
        let (right, bottom) = (width as i32 - RIGHT, height as i32 - below);
        let field = area.clone().shrink((0, 0), (right, height));
        let mut chart = axis::chart(&field, [&x, &y], [LEFT, below, 0], GRID)?;
        area.draw(&Rectangle::new([(LEFT, 0), (right, bottom)], FAINT))?;
        for (i, (series, line)) in self.series.iter().zip(lines).enumerate() {
            let RGBColor(r, g, b) = LINES[i % LINES.len()];
            let [r, g, b] = [r, g, b].map(|part| if series.pale { part / 2 + 127 } else { part });
            let style = RGBColor(r, g, b).stroke_width(if series.pale { 2 } else { 4 });
            for run in line.split(Option::is_none) {
                let run: Vec<_> = run.iter().flatten().copied().collect();
                match run[..] {
                    [] => continue,
                    [dot] => chart.draw_series([Circle::new(dot, 6, style.filled())])?,
                    _ => chart.draw_series([PathElement::new(run, style)])?,
                };
            }
            let at = 24 + 40 * i as i32;
            area.draw(&PathElement::new([(right + 32, at), (right + 80, at)], style))?;
            write(area, &series.name, font(24, INK), (right + 96, at), HPos::Left)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_points_of_a_chart_become_xml() {
        for logarithmic in [[false, false], [true, true]] {
            for points in [vec![], vec![(1., 1.)], vec![(0., f64::NAN), (1., 2.), (-1., 0.)]] {
                let chart = LineChart {
                    title: "<t>".to_string(),
                    subtitle: String::new(),
                    x: "x".to_string(),
                    y: "y".to_string(),
                    logarithmic,
                    least: [vec![], vec![3.]],
                    series: vec![Series { name: "s".to_string(), points, pale: false }],
                };
                roxmltree::Document::parse(&chart.picture().svg).unwrap();
            }
        }
    }
}
