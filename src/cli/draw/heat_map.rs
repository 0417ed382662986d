//! Matrices as fields of colours.

use super::axis::{self, Axis};
use super::picture::{Area, Drawn, FAINT, INK, Picture, font, write};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// How values become colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From blue (negative) over white (zero) to red, symmetric about zero.
    Signed,
    /// Viridis by the logarithm of values that are not negative; zeros are white.
    Logarithmic,
}

/// The most cells along a side. In a larger matrix each cell stands for a block and has the value of
/// largest magnitude in it, so that a single wrong entry stays visible.
const MAX_CELLS: usize = 64;

/// The most decades of a logarithmic scale; smaller values have the colour of its lower end.
const MAX_DECADES: f64 = 8.;

/// The steps of colour in the picture of a scale.
const SHADES: i32 = 60;

/// A cell without a value, and one that is not a number.
const ABSENT: RGBColor = RGBColor(0xd0, 0xd0, 0xd0);
const NOT_A_NUMBER: RGBColor = RGBColor(0xff, 0x00, 0xff);

/// ColorBrewer's RdBu, from blue to red.
const SIGNED: [RGBColor; 7] = [
    RGBColor(0x05, 0x30, 0x61),
    RGBColor(0x21, 0x66, 0xac),
    RGBColor(0x67, 0xa9, 0xcf),
    WHITE,
    RGBColor(0xef, 0x8a, 0x62),
    RGBColor(0xb2, 0x18, 0x2b),
    RGBColor(0x67, 0x00, 0x1f),
];

/// The size of a map with its labels, and of the parts of it right and left of the cells.
const WIDTH: i32 = 1080;
const LEFT: i32 = 116;
const RIGHT: i32 = 170;
/// The height of the title of a map and of the labels below it.
const TITLE: i32 = 52;
const BELOW: i32 = 76;

/// A matrix as a field of colours.
pub(crate) struct HeatMap {
    pub(crate) title: String,
    /// What the rows are, and the columns.
    pub(crate) axes: [String; 2],
    /// The number of columns; a vector is one row.
    pub(crate) columns: usize,
    /// Row by row; a cell without a value is grey, and one that is not a number magenta.
    pub(crate) values: Vec<Option<f64>>,
    pub(crate) scale: Scale,
}

impl HeatMap {
    fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The height of the cells.
    fn height(&self) -> i32 {
        if self.rows() == 1 { 80 } else { (self.rows() as i32 * 36).clamp(96, 420) }
    }

    /// The values of the cells that are drawn, row by row, and how many columns they are in.
    fn cells(&self) -> (usize, Vec<Option<f64>>) {
        let (rows, columns) = (self.rows(), self.columns);
        let (down, across) = (rows.min(MAX_CELLS), columns.min(MAX_CELLS));
        let mut cells = vec![None; down * across];
        for (i, &value) in self.values.iter().enumerate() {
            let (row, column) = (i / columns * down / rows, i % columns * across / columns);
            let cell: &mut Option<f64> = &mut cells[row * across + column];
            let size = |value: Option<f64>| value.map_or(-1., f64::abs);
            // By `total_cmp` a NaN is the largest.
            if size(value).total_cmp(&size(*cell)).is_gt() {
                *cell = value;
            }
        }
        (across, cells)
    }

    /// The ends of the scale; of a logarithmic one the logarithms. `None` where all values are zero.
    fn ends(&self) -> Option<[f64; 2]> {
        let sizes = self.values.iter().flatten().map(|value| value.abs());
        let sizes = sizes.filter(|&size| size.is_finite() && size > 0.);
        let (low, high) = (sizes.clone().reduce(f64::min)?, sizes.reduce(f64::max)?);
        let (floor, ceil) = (low.log10().floor(), high.log10().ceil());
        Some(match self.scale {
            Scale::Signed => [-high, high],
            Scale::Logarithmic => [floor.max(ceil - MAX_DECADES).min(ceil - 1.), ceil],
        })
    }

    /// The colour of a position between the `ends` of the scale.
    fn shade(&self, position: f64, [low, high]: [f64; 2]) -> RGBColor {
        let part = ((position - low) / (high - low)).clamp(0., 1.);
        match self.scale {
            Scale::Signed => DerivedColorMap::new(&SIGNED).get_color(part),
            Scale::Logarithmic => ViridisRGB::get_color(part),
        }
    }

    fn colour(&self, value: Option<f64>, ends: Option<[f64; 2]>) -> RGBColor {
        match (value, ends, self.scale) {
            (None, ..) => ABSENT,
            (Some(value), ..) if value.is_nan() => NOT_A_NUMBER,
            (Some(0.), ..) | (_, None, _) => WHITE,
            (Some(value), Some(ends), Scale::Signed) => self.shade(value, ends),
            (Some(value), Some(ends), Scale::Logarithmic) => self.shade(value.log10(), ends),
        }
    }

    /// Draws the map with its title, axes and scale.
    fn draw(&self, area: &Area) -> Drawn {
        write(area, &self.title, font(24, INK), (LEFT, 26), HPos::Left)?;
        let (height, right) = (self.height(), WIDTH - RIGHT);
        let place = area.clone().shrink((0, TITLE), (right, height + BELOW));
        let side = |i: usize, length: usize| {
            // A single row has no label.
            let labels = if length > 1 { length.min(6) + 1 } else { 0 };
            let ends = -0.5..length as f64 - 0.5;
            Axis { title: &self.axes[i], ends, logarithmic: false, labels }
        };
        let (x, mut y) = (side(1, self.columns), side(0, self.rows()));
        y.ends = y.ends.end..y.ends.start;
        let mut chart = axis::chart(&place, [&x, &y], [LEFT, BELOW, 0], WHITE)?;
        let ends = self.ends();
        let (columns, cells) = self.cells();
        let [wide, high] = [(columns, self.columns), (cells.len() / columns, self.rows())]
            .map(|(cells, all)| all as f64 / cells as f64);
        chart.draw_series(cells.iter().enumerate().map(|(i, &value)| {
            let (row, column) = ((i / columns) as f64, (i % columns) as f64);
            // Cells overlap, so that no background shows between them.
            let corners = [(column, row), (column + 1.25, row + 1.25)];
            let corners = corners.map(|(column, row)| (column * wide - 0.5, row * high - 0.5));
            Rectangle::new(corners, self.colour(value, ends).filled())
        }))?;
        area.draw(&Rectangle::new([(LEFT, TITLE), (right, TITLE + height)], FAINT))?;
        let Some([low, high]) = ends else {
            let middle = ((LEFT + right) / 2, TITLE + height / 2);
            return write(area, "all zero", font(22, FAINT), middle, HPos::Center);
        };
        // The scale.
        let logarithmic = self.scale == Scale::Logarithmic;
        let most = if logarithmic { high - low + 1. } else { 5. };
        let labels = most.min(f64::from(height / 26)) as usize;
        let y = Axis { title: "", ends: low..high, logarithmic, labels };
        let x = Axis { title: "", ends: 0. ..1., logarithmic: false, labels: 0 };
        let place = area.clone().shrink((right + 20, TITLE), (130, height));
        let mut chart = axis::chart(&place, [&x, &y], [0, 0, 106], WHITE)?;
        chart.draw_series((0..SHADES).map(|i| {
            let at = |i: f64| low + (high - low) * i / f64::from(SHADES);
            let i = f64::from(i);
            let colour = self.shade(at(i + 0.5), [low, high]);
            Rectangle::new([(0., at(i)), (1., at(i + 1.5).min(high))], colour.filled())
        }))?;
        Ok(())
    }
}

/// Pairs of heat maps side by side, under a title and lines of `notes`.
pub(crate) fn heat_maps(title: &str, notes: &[String], maps: &[[HeatMap; 2]]) -> Picture {
    let head = 104 + 34 * notes.len() as i32;
    let heights = maps.iter().map(|[a, b]| a.height().max(b.height()) + TITLE + BELOW);
    Picture::new(2 * WIDTH, head + heights.clone().sum::<i32>() + 12, |area| {
        write(area, title, font(36, INK), (LEFT, 52), HPos::Left)?;
        for (i, note) in notes.iter().enumerate() {
            write(area, note, font(24, INK), (LEFT, 100 + 34 * i as i32), HPos::Left)?;
        }
        let mut top = head;
        for ([first, second], height) in maps.iter().zip(heights) {
            first.draw(&area.clone().shrink((0, top), (WIDTH, height)))?;
            second.draw(&area.clone().shrink((WIDTH, top), (WIDTH, height)))?;
            top += height;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: Vec<Option<f64>>, columns: usize, scale: Scale) -> HeatMap {
        let axes = ["row".to_string(), "column".to_string()];
        HeatMap { title: "a < b & \u{1}c".to_string(), axes, columns, values, scale }
    }

    #[test]
    fn a_single_large_entry_of_a_large_matrix_stays_visible() {
        let mut values = vec![Some(1e-9); 1000 * 1000];
        values[123_456] = Some(-1.);
        let (columns, cells) = map(values, 1000, Scale::Signed).cells();
        assert_eq!((columns, cells.len()), (MAX_CELLS, MAX_CELLS * MAX_CELLS));
        let at = 123 * MAX_CELLS / 1000 * MAX_CELLS + 456 * MAX_CELLS / 1000;
        assert_eq!(cells[at], Some(-1.));
        assert_eq!(cells.iter().filter(|&&cell| cell == Some(1e-9)).count(), cells.len() - 1);
    }

    #[test]
    fn absent_values_nans_and_zeros_have_their_own_colours() {
        let values = vec![None, Some(f64::NAN), Some(0.), Some(1e-3)];
        let map = map(values, 4, Scale::Logarithmic);
        let colours = map.cells().1.into_iter().map(|value| map.colour(value, map.ends()));
        let colours: Vec<RGBColor> = colours.collect();
        assert_eq!(colours[..3], [ABSENT, NOT_A_NUMBER, WHITE]);
        assert!(!colours[..3].contains(&colours[3]));
    }

    #[test]
    fn a_nan_is_the_value_of_its_cell() {
        let mut values = vec![Some(1.); 2 * MAX_CELLS];
        values[1] = Some(f64::NAN);
        let (_, cells) = map(values, 2 * MAX_CELLS, Scale::Signed).cells();
        assert!(cells[0].unwrap().is_nan() && cells[1] == Some(1.));
    }

    #[test]
    fn any_values_of_a_map_become_xml() {
        for values in [
            vec![Some(0.); 6],
            vec![None; 6],
            vec![Some(f64::NAN); 6],
            vec![Some(f64::INFINITY), Some(-1.), Some(1e-300), Some(1e300), None, Some(0.)],
        ] {
            for columns in [1, 3, 6] {
                let signed = map(values.clone(), columns, Scale::Signed);
                let sizes = values.iter().map(|value| value.map(f64::abs)).collect();
                let sizes = map(sizes, columns, Scale::Logarithmic);
                let picture = heat_maps("t", &["a note".to_string()], &[[signed, sizes]]);
                roxmltree::Document::parse(&picture.svg).unwrap();
            }
        }
    }
}
