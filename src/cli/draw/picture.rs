//! An SVG document, and text in it.

use crate::checkpoint::atomic::{behind_links, write_atomically};
use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;
use unicode_width::UnicodeWidthStr as _;

pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);
pub(super) const GRID: RGBColor = RGBColor(0xe2, 0xe2, 0xe2);

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn<T = ()> = std::result::Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// A picture as the text of an SVG document.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(super) svg: String,
}

impl Picture {
    /// A white picture of this size with what `draw` adds.
    ///
    /// Sizes are in half pixels: plotters rounds coordinates to integers, which would give curves
    /// steps of a pixel.
    pub(super) fn new(width: i32, height: i32, draw: impl FnOnce(&Area) -> Drawn) -> Self {
        let mut svg = String::new();
        let backend = SVGBackend::with_string(&mut svg, (width as u32, height as u32));
        let area = backend.into_drawing_area();
        let drawn = area.fill(&WHITE).and_then(|()| draw(&area)).and_then(|()| area.present());
        drawn.expect("writing to a string cannot fail");
        drop(area);
        // What is SVG's default anyway is a third of a heat map.
        let svg = svg.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "");
        let size = format!("width=\"{width}\" height=\"{height}\"");
        let half = format!("width=\"{}\" height=\"{}\"", width / 2, height / 2);
        Self { svg: svg.replacen(&size, &(half + " stroke-linejoin=\"round\""), 1) }
    }

    /// Writes the picture to `path`, whole or not at all.
    ///
    /// # Errors
    /// [`Write`](crate::Error::Write).
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, self.svg.as_bytes())
    }
}

/// Requires that the name of the file at `path`, the value of `flag`, ends in `.svg`; also that of
/// the file that a link refers to, which the picture would replace.
///
/// # Errors
/// [`Setting`](crate::Error::Setting).
pub(crate) fn check_svg(path: &Path, flag: &'static str) -> Result<()> {
    for path in [path, &behind_links(path)] {
        if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg")) {
            return Err(Error::setting(flag, path.display(), "its name must end in .svg"));
        }
    }
    Ok(())
}

/// A font of `size` half pixels; plotters divides sizes by 1.24.
pub(super) fn font(size: i32, colour: RGBColor) -> TextStyle<'static> {
    let font = FontDesc::new(FontFamily::SansSerif, f64::from(size) * 1.24, FontStyle::Normal);
    TextStyle { color: colour.to_backend_color(), ..font.into() }
}

/// Writes `text` with the middle of its height, and its `anchor` in width, at `at`.
pub(super) fn write(
    area: &Area,
    text: &str,
    style: TextStyle,
    at: (i32, i32),
    anchor: HPos,
) -> Drawn {
    // XML has no control characters, not even escaped ones.
    let is_xml = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let text: String = text.chars().map(|c| if is_xml(c) { c } else { '\u{fffd}' }).collect();
    area.draw_text(&text, &style.pos(Pos::new(anchor, VPos::Center)), at)
}

/// `text`, cut off with an ellipsis where it is wider than `limit` in a font of `size`. The width is
/// an estimate: the viewer chooses the font.
pub(super) fn fitted(text: &str, size: i32, limit: i32) -> String {
    let limit = (limit * 5 / (size * 3)) as usize;
    if text.width() <= limit {
        return text.to_string();
    }
    let mut cut = text.to_string();
    while cut.width() >= limit && cut.pop().is_some() {}
    cut + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_picture_ends_in_svg() {
        assert!(check_svg(Path::new("a.b/c.SVG"), "--plot").is_ok());
        for path in ["a", "a.png", ".svg"] {
            let refusal = check_svg(Path::new(path), "--output").unwrap_err().to_string();
            assert_eq!(refusal, format!("--output cannot be {path}: its name must end in .svg"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_another_kind_of_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (list, link) = (folder.path().join("names.txt"), folder.path().join("link.svg"));
        std::fs::write(&list, "anna\n").unwrap();
        std::os::unix::fs::symlink(&list, &link).unwrap();
        let refusal = check_svg(&link, "--plot").unwrap_err().to_string();
        assert!(refusal.contains("names.txt"), "{refusal}");
    }

    #[test]
    fn any_text_becomes_xml() {
        let text = "<a> & \"b\" \u{0}\u{1b}\u{ffff} 서울";
        let picture =
            Picture::new(90, 90, |area| write(area, text, font(20, INK), (9, 9), HPos::Left));
        let document = roxmltree::Document::parse(&picture.svg).unwrap();
        let written = document.descendants().find(|node| node.has_tag_name("text")).unwrap();
        assert_eq!(written.text().unwrap().trim(), "<a> & \"b\" \u{fffd}\u{fffd}\u{fffd} 서울");
    }

    #[test]
    fn a_text_that_is_too_wide_is_cut() {
        assert_eq!(fitted("iguanodon", 20, 120), "iguanodon");
        assert_eq!(fitted("iguanodon", 20, 60), "igua…");
        assert_eq!(fitted("서울특별시", 20, 72), "서울…");
        assert_eq!(fitted("iguanodon", 20, 0), "…");
    }
}
