//! Lines over a common pair of axes.

use super::axis::Axis;
use super::picture::{Anchor, FAINT, GRID, Picture, Rgb, Shape};

/// Okabe and Ito's colours without yellow, which is too light for a line on white.
const LINES: [Rgb; 7] = [
    [0x00, 0x72, 0xb2],
    [0xd5, 0x5e, 0x00],
    [0x00, 0x9e, 0x73],
    [0xcc, 0x79, 0xa7],
    [0xe6, 0x9f, 0x00],
    [0x56, 0xb4, 0xe9],
    [0x22, 0x22, 0x22],
];

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// As the legend calls it.
    pub name: String,
    /// (x, y) in the order in which they are joined. A point that has no place on the chart (not a
    /// number, infinite, or not positive on a logarithmic axis) leaves a gap, and one between two
    /// gaps is a dot.
    pub points: Vec<(f64, f64)>,
    /// Whether it is thin and pale, as what another line sums up.
    pub pale: bool,
}

/// Lines over a common pair of axes.
#[derive(Debug, Clone)]
pub struct LineChart {
    /// Over the chart.
    pub title: String,
    /// A line below the title; may be empty.
    pub subtitle: String,
    /// What runs along.
    pub x: String,
    /// What runs upwards.
    pub y: String,
    /// Whether x, and whether y, are on a logarithmic scale.
    pub logarithmic: [bool; 2],
    /// What of x, and of y, is shown even where no line reaches.
    pub least: [Vec<f64>; 2],
    /// The lines; beyond seven, colours repeat.
    pub series: Vec<Series>,
}

/// Where a chart is drawn: the left, right, upper and lower edge of the field of its lines.
pub(super) type Frame = [f32; 4];

impl LineChart {
    /// The chart as a picture.
    pub fn picture(&self) -> Picture {
        const WIDTH: f32 = 900.;
        const HEIGHT: f32 = 540.;
        let frame @ [left, right, top, bottom] = [84., WIDTH - 130., 70., HEIGHT - 62.];
        let mut picture = Picture::new(WIDTH, HEIGHT);
        picture.text((left, 24.), 17., Anchor::Start, &self.title);
        picture.text((left, 47.), 12., Anchor::Start, &self.subtitle);
        let x = Axis::fit(self.logarithmic[0], self.places_along(), (left, right));
        self.draw(&mut picture, frame, &x);
        self.draw_below(&mut picture, frame, &x);
        picture.text_upwards((24., (top + bottom) / 2.), &self.y);
        picture
    }

    /// The x of all points, and of what is shown beside.
    pub(super) fn places_along(&self) -> impl Iterator<Item = f64> {
        let points = self.series.iter().flat_map(|series| &series.points).map(|point| point.0);
        points.chain(self.least[0].iter().copied())
    }

    /// Draws the lines in their frame, what runs upwards on its left and the legend on its right.
    pub(super) fn draw(&self, picture: &mut Picture, frame: Frame, x: &Axis) {
        let [left, right, top, bottom] = frame;
        let heights = self.series.iter().flat_map(|series| &series.points).map(|point| point.1);
        let heights = heights.chain(self.least[1].iter().copied());
        let mut y = Axis::fit(self.logarithmic[1], heights, (bottom, top));
        y.widen(0.03);
        for (position, _) in x.ticks() {
            let at = x.place(position);
            picture.line(vec![(at, top), (at, bottom)], 0.75, GRID);
        }
        for (position, label) in y.ticks() {
            let at = y.place(position);
            picture.line(vec![(left, at), (right, at)], 0.75, GRID);
            picture.text((left - 8., at), 11., Anchor::End, label);
        }
        let edges = [left, top, right - left, bottom - top];
        picture.shapes.push(Shape::Outline { edges, colour: FAINT });

        for (i, series) in self.series.iter().enumerate() {
            let (colour, width) = match series.pale {
                true => (LINES[i % LINES.len()].map(|part| part / 3 + 170), 1.),
                false => (LINES[i % LINES.len()], 1.8),
            };
            let places: Vec<Option<(f32, f32)>> = series
                .points
                .iter()
                .map(|&(a, b)| Some((x.place(x.position(a)?), y.place(y.position(b)?))))
                .collect();
            for run in places.split(Option::is_none) {
                let run: Vec<(f32, f32)> = run.iter().flatten().copied().collect();
                match run[..] {
                    [] => {}
                    // Round ends make a dot of a line without length.
                    [dot] => picture.line(vec![dot, dot], 4., colour),
                    _ => picture.line(run, width, colour),
                }
            }
            let at = top + 12. + 20. * i as f32;
            picture.line(vec![(right + 16., at), (right + 40., at)], width + 0.6, colour);
            picture.text((right + 48., at), 12., Anchor::Start, &series.name);
        }
    }

    /// Draws what runs along, below the frame.
    pub(super) fn draw_below(&self, picture: &mut Picture, frame: Frame, x: &Axis) {
        let [left, right, _, bottom] = frame;
        for (position, label) in x.ticks() {
            picture.text((x.place(position), bottom + 14.), 11., Anchor::Middle, label);
        }
        picture.text(((left + right) / 2., bottom + 38.), 12., Anchor::Middle, &self.x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiny_skia::Pixmap;

    #[test]
    fn whatever_the_points_of_a_chart_the_svg_is_xml_and_the_png_a_png() {
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
                roxmltree::Document::parse(&chart.picture().svg()).unwrap();
                Pixmap::decode_png(&chart.picture().png()).unwrap();
            }
        }
    }
}
