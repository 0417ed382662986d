//! A matrix as a field of colours.

use super::picture::{Anchor, FAINT, Picture, Rgb, Shape};

/// A cell without a value, a cell that is not a number, and on a logarithmic scale a zero.
const ABSENT: Rgb = [0xd0, 0xd0, 0xd0];
const NOT_A_NUMBER: Rgb = [0xff, 0x00, 0xff];
const ZERO: Rgb = [0xff, 0xff, 0xff];

/// How values become colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From blue (negative) over white (zero) to red, symmetric about zero.
    Signed,
    /// Viridis by the logarithm of a value that is not negative; zeros are white.
    Logarithmic,
}

/// Up to this many cells are drawn along a side. In a larger matrix each cell stands for a block
/// and shows the value of largest magnitude in it, so that a single wrong entry stays visible.
const MOST_CELLS: usize = 200;

/// Decades that a logarithmic scale spans at most; what is smaller has the colour of its end.
const MOST_DECADES: i32 = 8;

/// A matrix as a field of colours.
#[derive(Debug, Clone)]
pub struct HeatMap {
    /// Over the map.
    pub title: String,
    /// What the rows are, beside the map; the columns, below it.
    pub axes: [String; 2],
    /// The number of columns; a vector is one row.
    pub columns: usize,
    /// Row by row; a cell without a value is grey, and one that is not a number magenta.
    pub values: Vec<Option<f64>>,
    /// How values become colours.
    pub scale: Scale,
}

/// A scale fitted to values: its two ends.
struct Colours {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Colours {
    /// `None` where there is nothing to show but zeros.
    fn fit(scale: Scale, values: &[Option<f64>]) -> Option<Self> {
        let magnitudes = values.iter().flatten().map(|value| value.abs());
        let finite = || magnitudes.clone().filter(|&value| value.is_finite() && value > 0.);
        let high = finite().fold(0., f64::max);
        if high == 0. {
            return None;
        }
        Some(match scale {
            Scale::Signed => Self { scale, low: -high, high },
            Scale::Logarithmic => {
                let high = high.log10().ceil();
                let low = finite().fold(f64::INFINITY, f64::min).log10().floor();
                let low = low.max(high - f64::from(MOST_DECADES)).min(high - 1.);
                Self { scale, low, high }
            }
        })
    }

    /// The colour at `part` of the way from the low end to the high one.
    fn at(&self, part: f64) -> Rgb {
        let part = part.clamp(0., 1.);
        match self.scale {
            Scale::Signed => colorous::RED_BLUE.eval_continuous(1. - part).as_array(),
            Scale::Logarithmic => colorous::VIRIDIS.eval_continuous(part).as_array(),
        }
    }

    fn of(&self, value: f64) -> Rgb {
        let position = match self.scale {
            Scale::Signed => value,
            Scale::Logarithmic if value == 0. => return ZERO,
            Scale::Logarithmic => value.log10(),
        };
        self.at((position - self.low) / (self.high - self.low))
    }

    /// The labels of the scale, each with its part of the way up.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Signed => [(0., self.low), (0.5, 0.), (1., self.high)]
                .map(|(part, value)| (part, if value == 0. { "0".into() } else { short(value) }))
                .to_vec(),
            Scale::Logarithmic => {
                let decades = self.high - self.low;
                let every = (decades / 4.).ceil();
                (0..)
                    .map(|i| f64::from(i) * every)
                    .take_while(|&down| down <= decades)
                    // From the top: the largest values are what is looked for.
                    .map(|down| (1. - down / decades, format!("1e{}", self.high - down)))
                    .collect()
            }
        }
    }
}

/// A number in a few characters.
fn short(value: f64) -> String {
    match value.abs() {
        0.01..1000. => format!("{}", (value * 1000.).round() / 1000.).chars().take(6).collect(),
        _ => format!("{value:.1e}"),
    }
}

impl HeatMap {
    fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The height at which it is drawn.
    fn height(&self) -> f32 {
        match self.rows() {
            1 => 30.,
            rows => (rows as f32 * 18.).clamp(48., 210.),
        }
    }

    /// The colours of the cells that are drawn, and how many columns they are in.
    fn cells(&self, colours: Option<&Colours>) -> (usize, Vec<Rgb>) {
        let (rows, columns) = (self.rows(), self.columns);
        let (down, across) = (rows.min(MOST_CELLS), columns.min(MOST_CELLS));
        let cell = |r: usize, c: usize| {
            let rows_here = r * rows / down..(r + 1) * rows / down;
            let columns_here = c * columns / across..(c + 1) * columns / across;
            let block = rows_here
                .flat_map(|row| columns_here.clone().map(move |column| row * columns + column));
            block.filter_map(|at| self.values[at]).reduce(|most, value| {
                // A NaN stays.
                if most.is_nan() || most.abs() >= value.abs() { most } else { value }
            })
        };
        let colour = |value: Option<f64>| match (value, colours) {
            (None, _) => ABSENT,
            (Some(value), _) if value.is_nan() => NOT_A_NUMBER,
            (Some(_), None) => ZERO,
            (Some(value), Some(colours)) => colours.of(value),
        };
        let cells = (0..down).flat_map(|r| (0..across).map(move |c| (r, c)));
        (across, cells.map(|(r, c)| colour(cell(r, c))).collect())
    }

    /// Draws the map with its title, axes and scale; `left` and `top` are those of the cells.
    fn draw(&self, picture: &mut Picture, (left, top): (f32, f32), width: f32) {
        let height = self.height();
        let colours = Colours::fit(self.scale, &self.values);
        let edges = [left, top, width, height];
        let (columns, cells) = self.cells(colours.as_ref());
        picture.text((left, top - 13.), 12., Anchor::Start, &self.title);
        picture.shapes.push(Shape::Cells { edges, columns, colours: cells });
        picture.shapes.push(Shape::Outline { edges, colour: FAINT });

        let last_column = self.columns - 1;
        let below = top + height + 10.;
        picture.text((left, below), 10., Anchor::Start, "0");
        picture.text((left + width / 2., below), 11., Anchor::Middle, &self.axes[1]);
        if last_column > 0 {
            picture.text((left + width, below), 10., Anchor::End, last_column.to_string());
        }
        if self.rows() > 1 {
            picture.text((left - 5., top + 6.), 10., Anchor::End, "0");
            let last_row = (self.rows() - 1).to_string();
            picture.text((left - 5., top + height - 6.), 10., Anchor::End, last_row);
            picture.text_upwards((left - 26., top + height / 2.), &self.axes[0]);
        }

        let Some(colours) = colours else {
            let middle = (left + width / 2., top + height / 2.);
            picture.text(middle, 11., Anchor::Middle, "zero everywhere");
            return;
        };
        let bar = [left + width + 10., top, 12., height];
        let steps = 128;
        let shades = (0..steps).map(|i| colours.at(1. - f64::from(i) / f64::from(steps - 1)));
        picture.shapes.push(Shape::Cells { edges: bar, columns: 1, colours: shades.collect() });
        picture.shapes.push(Shape::Outline { edges: bar, colour: FAINT });
        let ticks = colours.ticks();
        let room = (height / 12.) as usize;
        for (i, (part, label)) in ticks.iter().enumerate() {
            // Where all labels do not fit, the two ends stay.
            if ticks.len() > room && i != 0 && i + 1 != ticks.len() {
                continue;
            }
            let y = top + height * (1. - *part as f32);
            picture.line(vec![(bar[0] + 12., y), (bar[0] + 15., y)], 0.75, FAINT);
            picture.text((bar[0] + 19., y), 10., Anchor::Start, label);
        }
    }
}

/// Heat maps in rows of two under a title, as one picture. `notes` are lines below the title.
pub fn heat_maps(title: &str, notes: &[String], rows: &[[HeatMap; 2]]) -> Picture {
    const WIDTH: f32 = 400.;
    const LEFT: f32 = 58.;
    const COLUMN: f32 = 545.;
    let head = 52. + 17. * notes.len() as f32;
    let heights = rows.iter().map(|row| row[0].height().max(row[1].height()) + 58.);
    let mut picture = Picture::new(2. * COLUMN, head + heights.clone().sum::<f32>() + 6.);
    picture.text((LEFT, 26.), 18., Anchor::Start, title);
    for (i, note) in notes.iter().enumerate() {
        picture.text((LEFT, 50. + 17. * i as f32), 12., Anchor::Start, note);
    }
    let mut top = head + 26.;
    for (row, height) in rows.iter().zip(heights) {
        for (i, map) in row.iter().enumerate() {
            map.draw(&mut picture, (LEFT + COLUMN * i as f32, top), WIDTH);
        }
        top += height;
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiny_skia::Pixmap;

    fn map(values: Vec<Option<f64>>, columns: usize, scale: Scale) -> HeatMap {
        let axes = ["row".to_string(), "column".to_string()];
        HeatMap { title: "a < b & \u{1}c".to_string(), axes, columns, values, scale }
    }

    #[test]
    fn a_single_large_entry_of_a_large_matrix_stays_visible() {
        let mut values = vec![Some(1e-9); 1000 * 1000];
        values[123_456] = Some(1.);
        let map = map(values, 1000, Scale::Logarithmic);
        let colours = Colours::fit(map.scale, &map.values).unwrap();
        let (columns, cells) = map.cells(Some(&colours));
        assert_eq!((columns, cells.len()), (MOST_CELLS, MOST_CELLS * MOST_CELLS));
        assert_eq!(cells.iter().filter(|&&cell| cell == colours.of(1.)).count(), 1);
    }

    #[test]
    fn a_cell_without_a_value_a_nan_and_a_zero_have_colours_of_their_own() {
        let values = vec![None, Some(f64::NAN), Some(0.), Some(1e-3)];
        let map = map(values, 4, Scale::Logarithmic);
        let (_, cells) = map.cells(Colours::fit(map.scale, &map.values).as_ref());
        assert_eq!(cells[..3], [ABSENT, NOT_A_NUMBER, ZERO]);
        assert!(!cells[..3].contains(&cells[3]));
    }

    #[test]
    fn whatever_the_values_of_a_map_the_svg_is_xml_and_the_png_a_png() {
        for values in [
            vec![Some(0.); 6],
            vec![None; 6],
            vec![Some(f64::NAN); 6],
            vec![Some(f64::INFINITY), Some(-1.), Some(1e-300), Some(1e300), None, Some(0.)],
        ] {
            let signed = map(values.clone(), 3, Scale::Signed);
            let sizes = map(
                values.iter().map(|value| value.map(f64::abs)).collect(),
                3,
                Scale::Logarithmic,
            );
            let picture = heat_maps("t", &["a note".to_string()], &[[signed, sizes]]);
            roxmltree::Document::parse(&picture.svg()).unwrap();
            Pixmap::decode_png(&picture.png()).unwrap();
        }
    }
}
