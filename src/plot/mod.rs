//! Pictures: heat maps, line charts and tables, as SVG and as PNG.
//!
//! Drawing only: what is drawn, and what it means, is the caller's. A [`Picture`] is a list of
//! shapes that is written once as SVG and once as pixels, so that both show the same. Text in a PNG
//! is drawn with a font that is built in (DejaVu Sans, see `data/font/`), so a machine needs none;
//! [`Picture::boxes`] tells which characters it lacks.
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
//!     least: [vec![], vec![0.]],
//!     series: vec![Series {
//!         name: "train".to_string(),
//!         points: vec![(0., 3.3), (100., 2.1)],
//!         pale: false,
//!     }],
//! };
//! assert!(chart.picture().svg().starts_with("<svg"));
//! ```

mod axis;
mod font;
mod heat_map;
mod line_chart;
mod panels;
mod picture;

pub use heat_map::{HeatMap, Scale, heat_maps};
pub use line_chart::{LineChart, Series};
pub use panels::{Panel, Table, panels};
pub use picture::Picture;

use crate::error::{Error, Result};
use crate::output_file::behind_links;
use std::path::Path;

/// What a picture can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics.
    Svg,
    /// Pixels.
    Png,
}

impl Format {
    /// The format that the name of the file at `path` asks for, which was given by `flag`.
    ///
    /// # Errors
    /// [`Error::Setting`] where it ends neither in `.svg` nor in `.png`, or is a link to a file of
    /// which this is so.
    pub fn of(path: &Path, flag: &'static str) -> Result<Self> {
        let format = Self::named(path, flag)?;
        // It is that file which a picture would replace.
        Self::named(&behind_links(path), flag)?;
        Ok(format)
    }

    fn named(path: &Path, flag: &'static str) -> Result<Self> {
        match path.extension().map(|extension| extension.to_ascii_lowercase()) {
            Some(extension) if extension == "svg" => Ok(Self::Svg),
            Some(extension) if extension == "png" => Ok(Self::Png),
            _ => Err(Error::Setting {
                name: flag,
                value: path.display().to_string(),
                rule: "the name of a picture ends in .svg or .png".to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_in_the_name() {
        assert_eq!(Format::of(Path::new("a.SVG"), "--plot").unwrap(), Format::Svg);
        assert_eq!(Format::of(Path::new("a.b/c.png"), "--plot").unwrap(), Format::Png);
        for path in ["a", "a.pdf", ".png"] {
            let refusal = Format::of(Path::new(path), "--picture").unwrap_err().to_string();
            assert!(refusal.contains("--picture") && refusal.contains(path), "{refusal}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_another_kind_of_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (list, link) = (folder.path().join("names.txt"), folder.path().join("link.svg"));
        std::fs::write(&list, "anna\n").unwrap();
        std::os::unix::fs::symlink(&list, &link).unwrap();
        let refusal = Format::of(&link, "--plot").unwrap_err().to_string();
        assert!(refusal.contains("names.txt"), "{refusal}");
    }
}
