//! Pictures: heat maps and line charts, as SVG and as PNG.
//!
//! Drawing only: what is drawn, and what it means, is the caller's. A [`Picture`] is a list of
//! shapes that is written once as SVG and once as pixels, so that both show the same. Text in a PNG
//! is drawn with a font that is built in (DejaVu Sans, see `data/font/`), so a machine needs none.
//! The colour maps (viridis, and red to blue) and the line colours (Okabe and Ito's) can be told
//! apart with every common kind of colour blindness.
//!
//! ```
//! use char_rnn::plot::{LineChart, Series};
//! let chart = LineChart {
//!     title: "Loss".to_string(),
//!     subtitle: String::new(),
//!     x: "iteration".to_string(),
//!     y: "nats".to_string(),
//!     logarithmic: [false, false],
//!     series: vec![Series { name: "train".to_string(), points: vec![(0., 3.3), (100., 2.1)] }],
//! };
//! assert!(chart.picture().svg().starts_with("<svg"));
//! ```

use crate::error::{Error, Result};
use base64::Engine as _;
use std::fmt::Write as _;
use std::path::Path;
use tiny_skia::{
    FillRule, FilterQuality, LineCap, LineJoin, Paint, PathBuilder, Pixmap, PixmapPaint, Stroke,
    Transform,
};

type Rgb = [u8; 3];

const FONT: &[u8] = include_bytes!("../data/font/DejaVuSans-subset.ttf");

/// Pixels of a PNG along one unit of the picture: sharp on a dense screen.
const PIXELS_PER_UNIT: f32 = 2.;

const INK: Rgb = [0x22, 0x22, 0x22];
const FAINT: Rgb = [0x66, 0x66, 0x66];
const GRID: Rgb = [0xe2, 0xe2, 0xe2];
const PAPER: Rgb = [0xff, 0xff, 0xff];
/// A cell without a value, a cell that is not a number, and on a logarithmic scale a zero.
const ABSENT: Rgb = [0xd0, 0xd0, 0xd0];
const NOT_A_NUMBER: Rgb = [0xff, 0x00, 0xff];
const ZERO: Rgb = [0xff, 0xff, 0xff];

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

/// What a picture can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics.
    Svg,
    /// Pixels.
    Png,
}

impl Format {
    /// The format that the name of the file at `path` asks for.
    ///
    /// # Errors
    /// [`Error::Setting`] where it ends neither in `.svg` nor in `.png`.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().map(|extension| extension.to_ascii_lowercase()) {
            Some(extension) if extension == "svg" => Ok(Self::Svg),
            Some(extension) if extension == "png" => Ok(Self::Png),
            _ => Err(Error::Setting {
                name: "--plot",
                value: path.display().to_string(),
                rule: "the name of a picture ends in .svg or .png".to_string(),
            }),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Debug, Clone)]
enum Shape {
    /// Edges x, y, width, height.
    Rectangle {
        edges: [f32; 4],
        fill: Rgb,
    },
    Outline {
        edges: [f32; 4],
        colour: Rgb,
    },
    Line {
        points: Vec<(f32, f32)>,
        width: f32,
        colour: Rgb,
    },
    /// `at` is the middle of the line in height, and what `anchor` says in width.
    Text {
        at: (f32, f32),
        size: f32,
        anchor: Anchor,
        colour: Rgb,
        upwards: bool,
        text: String,
    },
    /// Cells stretched to fill `edges`, with sharp borders.
    Cells {
        edges: [f32; 4],
        columns: usize,
        colours: Vec<Rgb>,
    },
}

/// A finished drawing.
#[derive(Debug, Clone)]
pub struct Picture {
    width: f32,
    height: f32,
    shapes: Vec<Shape>,
}

impl Picture {
    fn new(width: f32, height: f32) -> Self {
        let paper = Shape::Rectangle { edges: [0., 0., width, height], fill: PAPER };
        Self { width, height, shapes: vec![paper] }
    }

    fn line(&mut self, points: Vec<(f32, f32)>, width: f32, colour: Rgb) {
        self.shapes.push(Shape::Line { points, width, colour });
    }

    fn text(&mut self, at: (f32, f32), size: f32, anchor: Anchor, text: impl Into<String>) {
        let (colour, text) = (if size < 12. { FAINT } else { INK }, text.into());
        self.shapes.push(Shape::Text { at, size, anchor, colour, upwards: false, text });
    }

    fn text_upwards(&mut self, at: (f32, f32), text: &str) {
        self.shapes.push(Shape::Text {
            at,
            size: 11.,
            anchor: Anchor::Middle,
            colour: FAINT,
            upwards: true,
            text: text.to_string(),
        });
    }

    /// Writes the picture to `path`, in the format of its name.
    ///
    /// # Errors
    /// As [`Format::of`], and [`Error::Write`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = match Format::of(path)? {
            Format::Svg => self.svg().into_bytes(),
            Format::Png => self.png(),
        };
        crate::output_file::write_atomically(path, &bytes)
    }

    /// The picture as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let (w, h) = (self.width, self.height);
        write_to(
            &mut svg,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" \
                 viewBox=\"0 0 {w} {h}\" font-family=\"DejaVu Sans, Verdana, sans-serif\">\n"
            ),
        );
        for shape in &self.shapes {
            shape.write_svg(&mut svg);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The picture as a PNG file.
    ///
    /// # Panics
    /// Where the picture is too large for memory.
    pub fn png(&self) -> Vec<u8> {
        let pixels = |units: f32| (units * PIXELS_PER_UNIT).ceil() as u32;
        let mut pixmap = Pixmap::new(pixels(self.width), pixels(self.height))
            .expect("a picture has a size, and not a huge one");
        let font = ttf_parser::Face::parse(FONT, 0).expect("the built-in font is a good one");
        let scale = Transform::from_scale(PIXELS_PER_UNIT, PIXELS_PER_UNIT);
        for shape in &self.shapes {
            shape.paint(&mut pixmap, &font, scale);
        }
        pixmap.encode_png().expect("memory can be written")
    }
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments) {
    text.write_fmt(arguments).expect("a string can be written");
}

fn hexadecimal([r, g, b]: Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// `text` as XML character data. Control characters have no place in XML, not even escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn paint_of([r, g, b]: Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint
}

fn pixmap_of(columns: usize, colours: &[Rgb]) -> Pixmap {
    let (width, height) = (columns as u32, (colours.len() / columns) as u32);
    let mut pixmap = Pixmap::new(width, height).expect("a heat map has cells");
    for (bytes, [r, g, b]) in pixmap.data_mut().chunks_exact_mut(4).zip(colours) {
        bytes.copy_from_slice(&[*r, *g, *b, 255]);
    }
    pixmap
}

impl Shape {
    fn write_svg(&self, svg: &mut String) {
        match self {
            Self::Rectangle { edges: [x, y, w, h], fill } => {
                let fill = hexadecimal(*fill);
                write_to(
                    svg,
                    format_args!(
                        "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"/>\n"
                    ),
                );
            }
            Self::Outline { edges: [x, y, w, h], colour } => {
                let colour = hexadecimal(*colour);
                write_to(
                    svg,
                    format_args!(
                        "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"none\" \
                         stroke=\"{colour}\" stroke-width=\"0.75\"/>\n"
                    ),
                );
            }
            Self::Line { points, width, colour } => {
                let colour = hexadecimal(*colour);
                svg.push_str("<polyline points=\"");
                for (x, y) in points {
                    write_to(svg, format_args!("{x:.2},{y:.2} "));
                }
                write_to(
                    svg,
                    format_args!(
                        "\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
                         stroke-linejoin=\"round\" stroke-linecap=\"round\"/>\n"
                    ),
                );
            }
            Self::Text { at: (x, y), size, anchor, colour, upwards, text } => {
                let (colour, text) = (hexadecimal(*colour), escaped(text));
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let turn = match upwards {
                    true => format!(" transform=\"rotate(-90 {x} {y})\""),
                    false => String::new(),
                };
                // Not every viewer knows dominant-baseline; a third of the size is the same.
                write_to(
                    svg,
                    format_args!(
                        "<text x=\"{x}\" y=\"{y}\" dy=\"0.36em\" font-size=\"{size}\" \
                         text-anchor=\"{anchor}\" fill=\"{colour}\"{turn}>{text}</text>\n"
                    ),
                );
            }
            Self::Cells { edges: [x, y, w, h], columns, colours } => {
                let png = pixmap_of(*columns, colours).encode_png();
                let png = png.expect("memory can be written");
                let data = base64::engine::general_purpose::STANDARD.encode(png);
                write_to(
                    svg,
                    format_args!(
                        "<image x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" \
                         preserveAspectRatio=\"none\" image-rendering=\"optimizeSpeed\" \
                         style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>\n"
                    ),
                );
            }
        }
    }

    fn paint(&self, pixmap: &mut Pixmap, font: &ttf_parser::Face, scale: Transform) {
        let rectangle = |&[x, y, w, h]: &[f32; 4]| tiny_skia::Rect::from_xywh(x, y, w, h);
        match self {
            Self::Rectangle { edges, fill } => {
                if let Some(rectangle) = rectangle(edges) {
                    pixmap.fill_rect(rectangle, &paint_of(*fill), scale, None);
                }
            }
            Self::Outline { edges, colour } => {
                if let Some(rectangle) = rectangle(edges) {
                    let path = PathBuilder::from_rect(rectangle);
                    let stroke = Stroke { width: 0.75, ..Stroke::default() };
                    pixmap.stroke_path(&path, &paint_of(*colour), &stroke, scale, None);
                }
            }
            Self::Line { points, width, colour } => {
                let mut path = PathBuilder::new();
                for (i, &(x, y)) in points.iter().enumerate() {
                    if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
                }
                if let Some(path) = path.finish() {
                    let stroke = Stroke {
                        width: *width,
                        line_cap: LineCap::Round,
                        line_join: LineJoin::Round,
                        ..Stroke::default()
                    };
                    pixmap.stroke_path(&path, &paint_of(*colour), &stroke, scale, None);
                }
            }
            Self::Text { at: (x, y), size, anchor, colour, upwards, text } => {
                let (path, width) = outline(font, text, *size);
                let Some(path) = path else { return };
                let left = match anchor {
                    Anchor::Start => 0.,
                    Anchor::Middle => -width / 2.,
                    Anchor::End => -width,
                };
                let turn = if *upwards { -90. } else { 0. };
                let place =
                    scale.pre_translate(*x, *y).pre_rotate(turn).pre_translate(left, 0.36 * size);
                pixmap.fill_path(&path, &paint_of(*colour), FillRule::Winding, place, None);
            }
            Self::Cells { edges: [x, y, w, h], columns, colours } => {
                let cells = pixmap_of(*columns, colours);
                let (across, down) = (w / cells.width() as f32, h / cells.height() as f32);
                let paint =
                    PixmapPaint { quality: FilterQuality::Nearest, ..PixmapPaint::default() };
                let place = scale.pre_translate(*x, *y).pre_scale(across, down);
                pixmap.draw_pixmap(0, 0, cells.as_ref(), &paint, place, None);
            }
        }
    }
}

/// The outline of `text` from the origin of its baseline, and its width.
fn outline(font: &ttf_parser::Face, text: &str, size: f32) -> (Option<tiny_skia::Path>, f32) {
    /// Glyphs come in font units with y upwards.
    struct Pen {
        path: PathBuilder,
        x: f32,
        scale: f32,
    }
    impl Pen {
        fn at(&self, x: f32, y: f32) -> (f32, f32) {
            (self.x + x * self.scale, -y * self.scale)
        }
    }
    impl ttf_parser::OutlineBuilder for Pen {
        fn move_to(&mut self, x: f32, y: f32) {
            let (x, y) = self.at(x, y);
            self.path.move_to(x, y);
        }
        fn line_to(&mut self, x: f32, y: f32) {
            let (x, y) = self.at(x, y);
            self.path.line_to(x, y);
        }
        fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
            let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
            self.path.quad_to(x1, y1, x, y);
        }
        fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
            let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
            self.path.cubic_to(x1, y1, x2, y2, x, y);
        }
        fn close(&mut self) {
            self.path.close();
        }
    }

    let scale = size / f32::from(font.units_per_em());
    let mut pen = Pen { path: PathBuilder::new(), x: 0., scale };
    for character in text.chars() {
        // A character that the font lacks is drawn as the font's box.
        let glyph = font.glyph_index(character).unwrap_or_default();
        font.outline_glyph(glyph, &mut pen);
        pen.x += f32::from(font.glyph_hor_advance(glyph).unwrap_or_default()) * scale;
    }
    let width = pen.x;
    (pen.path.finish(), width)
}

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

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// As the legend calls it.
    pub name: String,
    /// (x, y) in the order in which they are joined. A point that has no place on the chart (not a
    /// number, infinite, or not positive on a logarithmic axis) leaves a gap.
    pub points: Vec<(f64, f64)>,
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
    /// The lines; beyond seven, colours repeat.
    pub series: Vec<Series>,
}

/// One direction of a chart: from values to places.
struct Axis {
    logarithmic: bool,
    low: f64,
    high: f64,
    /// Where `low` and `high` are drawn.
    place: (f32, f32),
}

impl Axis {
    /// Around all `values` that have a place on it.
    fn fit(logarithmic: bool, values: impl Iterator<Item = f64>, place: (f32, f32)) -> Self {
        let mut axis = Self { logarithmic, low: f64::INFINITY, high: f64::NEG_INFINITY, place };
        for position in values.filter_map(|value| axis.position(value)).collect::<Vec<_>>() {
            axis.low = axis.low.min(position);
            axis.high = axis.high.max(position);
        }
        if axis.low > axis.high {
            (axis.low, axis.high) = (0., 1.);
        }
        if axis.low == axis.high {
            (axis.low, axis.high) = (axis.low - 0.5, axis.high + 0.5);
        }
        axis
    }

    fn position(&self, value: f64) -> Option<f64> {
        let position = if self.logarithmic { value.log10() } else { value };
        position.is_finite().then_some(position)
    }

    fn place(&self, position: f64) -> f32 {
        let part = (position - self.low) / (self.high - self.low);
        self.place.0 + (self.place.1 - self.place.0) * part as f32
    }

    /// The positions of round values, with their labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        let span = self.high - self.low;
        let rough = span / 6.;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1., 2., 5., 10.].map(|digit| digit * power).into_iter();
        let mut step = step.into_iter().find(|&step| step >= rough).unwrap_or(10. * power);
        if self.logarithmic {
            step = step.ceil();
        }
        let decimals = (-step.log10().floor()).max(0.) as usize;
        let first = (self.low / step - 1e-9).ceil();
        (0..)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|&position| position <= self.high + step * 1e-9)
            .map(|position| match self.logarithmic {
                true => (position, format!("1e{position}")),
                false => (position, format!("{position:.decimals$}")),
            })
            .collect()
    }
}

impl LineChart {
    /// The chart as a picture.
    pub fn picture(&self) -> Picture {
        const WIDTH: f32 = 900.;
        const HEIGHT: f32 = 540.;
        let [left, right, top, bottom] = [84., WIDTH - 130., 70., HEIGHT - 62.];
        let mut picture = Picture::new(WIDTH, HEIGHT);
        picture.text((left, 24.), 17., Anchor::Start, &self.title);
        picture.text((left, 47.), 12., Anchor::Start, &self.subtitle);

        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::fit(self.logarithmic[0], points().map(|point| point.0), (left, right));
        let mut y = Axis::fit(self.logarithmic[1], points().map(|point| point.1), (bottom, top));
        let margin = 0.03 * (y.high - y.low);
        (y.low, y.high) = (y.low - margin, y.high + margin);
        for (position, label) in x.ticks() {
            let at = x.place(position);
            picture.line(vec![(at, top), (at, bottom)], 0.75, GRID);
            picture.text((at, bottom + 14.), 11., Anchor::Middle, label);
        }
        for (position, label) in y.ticks() {
            let at = y.place(position);
            picture.line(vec![(left, at), (right, at)], 0.75, GRID);
            picture.text((left - 8., at), 11., Anchor::End, label);
        }
        let edges = [left, top, right - left, bottom - top];
        picture.shapes.push(Shape::Outline { edges, colour: FAINT });
        picture.text(((left + right) / 2., bottom + 38.), 12., Anchor::Middle, &self.x);
        picture.text_upwards((24., (top + bottom) / 2.), &self.y);

        for (i, series) in self.series.iter().enumerate() {
            let colour = LINES[i % LINES.len()];
            let places: Vec<Option<(f32, f32)>> = series
                .points
                .iter()
                .map(|&(a, b)| Some((x.place(x.position(a)?), y.place(y.position(b)?))))
                .collect();
            for run in places.split(Option::is_none) {
                picture.line(run.iter().flatten().copied().collect(), 1.8, colour);
            }
            let at = top + 12. + 20. * i as f32;
            picture.line(vec![(right + 16., at), (right + 40., at)], 2.4, colour);
            picture.text((right + 48., at), 12., Anchor::Start, &series.name);
        }
        picture
    }
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
    fn whatever_the_values_the_svg_is_xml_and_the_png_a_png() {
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
        for logarithmic in [[false, false], [true, true]] {
            for points in [vec![], vec![(1., 1.)], vec![(0., f64::NAN), (1., 2.), (-1., 0.)]] {
                let chart = LineChart {
                    title: "<t>".to_string(),
                    subtitle: String::new(),
                    x: "x".to_string(),
                    y: "y".to_string(),
                    logarithmic,
                    series: vec![Series { name: "s".to_string(), points }],
                };
                roxmltree::Document::parse(&chart.picture().svg()).unwrap();
                Pixmap::decode_png(&chart.picture().png()).unwrap();
            }
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::fit(false, [3., 97.].into_iter(), (0., 1.));
        let labels: Vec<String> = axis.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(labels, ["20", "40", "60", "80"]);
        let axis = Axis::fit(true, [1e-12, 1.].into_iter(), (0., 1.));
        let labels: Vec<String> = axis.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(labels, ["1e-12", "1e-10", "1e-8", "1e-6", "1e-4", "1e-2", "1e0"]);
    }

    #[test]
    fn the_format_is_in_the_name() {
        assert_eq!(Format::of(Path::new("a.SVG")).unwrap(), Format::Svg);
        assert_eq!(Format::of(Path::new("a.b/c.png")).unwrap(), Format::Png);
        for path in ["a", "a.pdf", ".png"] {
            assert!(Format::of(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn the_built_in_font_has_every_character_that_is_drawn() {
        let font = ttf_parser::Face::parse(FONT, 0).unwrap();
        for character in (' '..='~').chain("×–−∂Δ…≤".chars()) {
            assert!(font.glyph_index(character).is_some(), "{character}");
        }
    }
}
