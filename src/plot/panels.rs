//! Charts and tables one below the other, as one picture.

use super::axis::Axis;
use super::font::Font;
use super::line_chart::LineChart;
use super::picture::{Anchor, FAINT, GRID, Picture};

/// A part of a picture of several.
#[derive(Debug, Clone)]
pub enum Panel {
    /// A chart, and how high its field is. All charts of a picture have what runs along in common,
    /// which is written below the last; subtitles and what runs upwards are left out.
    Chart(LineChart, f32),
    /// Short texts.
    Table(Table),
}

/// Rows of short texts, each row with a label.
#[derive(Debug, Clone)]
pub struct Table {
    /// Over the table.
    pub title: String,
    /// What the labels are.
    pub label: String,
    /// The rows: a label, and texts. What is too wide is cut off, and a column for which there is no
    /// room is left out.
    pub rows: Vec<(String, Vec<String>)>,
}

const WIDTH: f32 = 900.;
const LEFT: f32 = 84.;
/// The edge of the charts, whose legends stand right of it.
const RIGHT: f32 = WIDTH - 130.;
/// Between the edge of the picture and what is nearest to it.
const MARGIN: f32 = 20.;
/// From the title of a panel to its field.
const TITLE: f32 = 22.;
const ROW: f32 = 17.;
const TEXT: f32 = 12.;
/// Between two columns of a table, and the bounds of what a column is given at least.
const GAP: f32 = 18.;
const NARROWEST: f32 = 60.;
const WIDEST: f32 = 140.;

/// Panels under a title, as one picture. `notes` are lines below the title.
pub fn panels(title: &str, notes: &[String], panels: &[Panel]) -> Picture {
    let font = Font::built_in();
    let charts = || {
        panels.iter().filter_map(|panel| match panel {
            Panel::Chart(chart, _) => Some(chart),
            Panel::Table(_) => None,
        })
    };
    let logarithmic = charts().next().is_some_and(|chart| chart.logarithmic[0]);
    let x = Axis::fit(logarithmic, charts().flat_map(LineChart::places_along), (LEFT, RIGHT));
    let last = panels.iter().rposition(|panel| matches!(panel, Panel::Chart(..)));

    let head = 46. + ROW * notes.len() as f32;
    let height_of = |(i, panel): (usize, &Panel)| match panel {
        Panel::Chart(_, height) => TITLE + height + if Some(i) == last { 62. } else { 20. },
        Panel::Table(table) => TITLE + ROW * (1. + table.rows.len() as f32) + 16.,
    };
    let heights = panels.iter().enumerate().map(height_of);
    let mut picture = Picture::new(WIDTH, head + heights.clone().sum::<f32>());
    let room = WIDTH - LEFT - MARGIN;
    picture.text((LEFT, 26.), 17., Anchor::Start, font.fitted(title, 17., room));
    for (i, note) in notes.iter().enumerate() {
        let at = (LEFT, 49. + ROW * i as f32);
        picture.text(at, TEXT, Anchor::Start, font.fitted(note, TEXT, room));
    }
    let mut top = head;
    for ((i, panel), height) in panels.iter().enumerate().zip(heights) {
        match panel {
            Panel::Chart(chart, field) => {
                let frame = [LEFT, RIGHT, top + TITLE, top + TITLE + field];
                picture.text((LEFT, top + TITLE - 12.), TEXT, Anchor::Start, &chart.title);
                chart.draw(&mut picture, frame, &x);
                if Some(i) == last {
                    chart.draw_below(&mut picture, frame, &x);
                }
            }
            Panel::Table(table) => table.draw(&mut picture, &font, top),
        }
        top += height;
    }
    picture
}

impl Table {
    /// How many columns have room in which most texts are whole, and from one to the next.
    fn columns(&self, font: &Font) -> (usize, f32) {
        let texts = self.rows.iter().flat_map(|row| &row.1);
        let mut widths: Vec<f32> = texts.map(|text| font.width(text, TEXT)).collect();
        widths.sort_by(f32::total_cmp);
        let most = widths.get(widths.len() * 9 / 10).copied().unwrap_or_default();
        let room = WIDTH - LEFT - MARGIN + GAP;
        let longest = self.rows.iter().map(|row| row.1.len()).max().unwrap_or_default();
        let columns = (room / (most.clamp(NARROWEST, WIDEST) + GAP)) as usize;
        let columns = columns.min(longest).max(1);
        (columns, room / columns as f32)
    }

    fn draw(&self, picture: &mut Picture, font: &Font, top: f32) {
        let (columns, step) = self.columns(font);
        picture.text((LEFT, top + TITLE - 12.), TEXT, Anchor::Start, &self.title);
        picture.text((LEFT - 8., top + TITLE - 12.), 11., Anchor::End, &self.label);
        for (i, (label, texts)) in self.rows.iter().enumerate() {
            let y = top + TITLE + ROW * (i as f32 + 0.5);
            picture.text((LEFT - 8., y), 11., Anchor::End, label);
            for (j, text) in texts.iter().take(columns).enumerate() {
                let at = (LEFT + step * j as f32, y);
                picture.text(at, TEXT, Anchor::Start, font.fitted(text, TEXT, step - GAP));
            }
            let (above, colour) = (y - ROW / 2., if i == 0 { FAINT } else { GRID });
            picture.line(vec![(LEFT, above), (WIDTH - MARGIN, above)], 0.75, colour);
        }
    }
}
