//! The built-in font: how wide a text is, and what it looks like.
//!
//! It is DejaVu Sans with its Latin, Greek and Cyrillic letters. There is no shaping: a character is
//! a glyph, which is enough for these scripts.

use tiny_skia::PathBuilder;
use unicode_width::UnicodeWidthChar as _;

const FONT: &[u8] = include_bytes!("../../data/font/DejaVuSans-subset.ttf");

/// The font, ready for use.
pub(super) struct Font(ttf_parser::Face<'static>);

impl Font {
    pub(super) fn built_in() -> Self {
        Self(ttf_parser::Face::parse(FONT, 0).expect("the built-in font is a good one"))
    }

    /// Whether the font has a glyph of `character`.
    pub(super) fn has(&self, character: char) -> bool {
        self.0.glyph_index(character).is_some()
    }

    /// Whether a box stands for `character`: not for what has no width, as a sign of direction.
    pub(super) fn draws_a_box(&self, character: char) -> bool {
        !self.has(character) && self.advance(character) > 0.
    }

    /// How far `character` moves the pen, as a part of the font's size. For one that the font lacks
    /// it is what other fonts are likely to have.
    fn advance(&self, character: char) -> f32 {
        match self.0.glyph_index(character).and_then(|glyph| self.0.glyph_hor_advance(glyph)) {
            Some(units) => f32::from(units) / f32::from(self.0.units_per_em()),
            None => match character.width() {
                Some(0) => 0.,
                Some(2) => 1.,
                _ => 0.6,
            },
        }
    }

    /// The width of `text`.
    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|character| self.advance(character)).sum::<f32>() * size
    }

    /// `text`, cut off with an ellipsis where it is wider than `width`.
    pub(super) fn fitted(&self, text: &str, size: f32, width: f32) -> String {
        if self.width(text, size) <= width {
            return text.to_string();
        }
        let mut room = width - self.width("…", size);
        let fits = |&character: &char| {
            room -= self.advance(character) * size;
            room >= 0.
        };
        text.chars().take_while(fits).chain(['…']).collect()
    }

    /// The outline of `text` from the origin of its baseline. A character that the font lacks is a
    /// box.
    pub(super) fn outline(&self, text: &str, size: f32) -> Option<tiny_skia::Path> {
        let scale = size / f32::from(self.0.units_per_em());
        let mut pen = Pen { path: PathBuilder::new(), x: 0., scale };
        for character in text.chars() {
            let advance = self.advance(character);
            if self.has(character) || self.draws_a_box(character) {
                self.0.outline_glyph(self.0.glyph_index(character).unwrap_or_default(), &mut pen);
            }
            pen.x += advance * size;
        }
        pen.path.finish()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_font_has_every_character_that_is_drawn() {
        let font = Font::built_in();
        for character in (' '..='~').chain("×–−∂Δ…≤".chars()) {
            assert!(font.has(character), "{character}");
        }
    }

    #[test]
    fn names_of_latin_greek_and_cyrillic_letters_are_drawn_and_others_have_boxes() {
        let font = Font::built_in();
        assert!("ŁódźĐặngΑθήναЩёлково".chars().all(|character| font.has(character)));
        assert!(!font.has('서'));
        assert!(font.outline("서울", 12.).is_some());
        assert_eq!(font.width("서울", 12.), 24.);
    }

    #[test]
    fn a_text_that_is_too_wide_is_cut_and_then_fits() {
        let font = Font::built_in();
        assert_eq!(font.fitted("iguanodon", 12., 100.), "iguanodon");
        for width in [0., 5., 12., 30., 50.] {
            let cut = font.fitted("iguanodon", 12., width);
            assert!(cut.ends_with('…'), "{cut}");
            assert!(cut == "…" || font.width(&cut, 12.) <= width, "{cut}");
        }
    }
}
