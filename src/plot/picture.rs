//! A drawing, and its two forms: SVG and pixels.

use super::Format;
use super::font::Font;
use crate::error::Result;
use base64::Engine as _;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use tiny_skia::{
    FillRule, FilterQuality, LineCap, LineJoin, Paint, PathBuilder, Pixmap, PixmapPaint, Stroke,
    Transform,
};

pub(super) type Rgb = [u8; 3];

/// Pixels of a PNG along one unit of the picture: sharp on a dense screen.
const PIXELS_PER_UNIT: f32 = 2.;

pub(super) const INK: Rgb = [0x22, 0x22, 0x22];
pub(super) const FAINT: Rgb = [0x66, 0x66, 0x66];
pub(super) const GRID: Rgb = [0xe2, 0xe2, 0xe2];
const PAPER: Rgb = [0xff, 0xff, 0xff];

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Debug, Clone)]
pub(super) enum Shape {
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
    pub(super) shapes: Vec<Shape>,
}

impl Picture {
    pub(super) fn new(width: f32, height: f32) -> Self {
        let paper = Shape::Rectangle { edges: [0., 0., width, height], fill: PAPER };
        Self { width, height, shapes: vec![paper] }
    }

    pub(super) fn line(&mut self, points: Vec<(f32, f32)>, width: f32, colour: Rgb) {
        self.shapes.push(Shape::Line { points, width, colour });
    }

    pub(super) fn text(
        &mut self,
        at: (f32, f32),
        size: f32,
        anchor: Anchor,
        text: impl Into<String>,
    ) {
        let (colour, text) = (if size < 12. { FAINT } else { INK }, text.into());
        self.shapes.push(Shape::Text { at, size, anchor, colour, upwards: false, text });
    }

    pub(super) fn text_upwards(&mut self, at: (f32, f32), text: &str) {
        self.shapes.push(Shape::Text {
            at,
            size: 11.,
            anchor: Anchor::Middle,
            colour: FAINT,
            upwards: true,
            text: text.to_string(),
        });
    }

    /// Writes the picture to `path`, whole or not at all.
    ///
    /// # Errors
    /// [`crate::Error::Write`].
    pub fn save(&self, path: &Path, format: Format) -> Result<()> {
        let bytes = match format {
            Format::Svg => self.svg().into_bytes(),
            Format::Png => self.png(),
        };
        crate::output_file::write_atomically(path, &bytes)
    }

    /// The characters of the picture's text that the built-in font lacks: boxes in a PNG. In an SVG
    /// they are drawn with the fonts of who looks at it.
    pub fn boxes(&self) -> BTreeSet<char> {
        let font = Font::built_in();
        let texts = self.shapes.iter().filter_map(|shape| match shape {
            Shape::Text { text, .. } => Some(text),
            _ => None,
        });
        texts
            .flat_map(|text| text.chars())
            .filter(|&character| font.draws_a_box(character))
            .collect()
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
        let font = Font::built_in();
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
                    write_to(svg, format_args!("{x:.1},{y:.1} "));
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

    fn paint(&self, pixmap: &mut Pixmap, font: &Font, scale: Transform) {
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
                let Some(path) = font.outline(text, *size) else { return };
                let width = font.width(text, *size);
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
