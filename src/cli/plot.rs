//! `char-rnn plot`: how a run went, as a picture.

use super::{Failure, say, shown};
use candle_core::Device;
use char_rnn::checkpoint;
use char_rnn::history_plot::Run;
use char_rnn::output_file::is_same_place;
use char_rnn::plot::{Format, Picture};
use clap::Args;
use std::path::PathBuf;

/// Draw how the training of a model went
///
/// The picture has its losses, its gradients, and names that it made. The model file remembers them,
/// also while training is under way. A curve of a long run has fewer points than iterations.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn plot dinos.safetensors                  to dinos.svg
  char-rnn plot dinos.safetensors -o dinos.png")]
pub struct Plot {
    /// The model: a file that `char-rnn train` saved
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Where to draw it, in place of what is there [default: MODEL with .svg for its ending, in this
    /// folder]
    ///
    /// A PNG has Latin, Greek and Cyrillic letters, and boxes for all others; an SVG is drawn with the
    /// fonts of who looks at it.
    #[arg(short, long, value_name = "FILE.svg|FILE.png")]
    output: Option<PathBuf>,
}

impl Plot {
    pub fn run(self) -> Result<(), Failure> {
        let place = self.output.clone().unwrap_or_else(|| {
            let mut place = PathBuf::from(self.model.file_stem().unwrap_or("model".as_ref()));
            place.as_mut_os_string().push(".svg");
            place
        });
        let format = Format::of(&place, "--output")?;
        let saved = checkpoint::load(&self.model, &Device::Cpu)?;
        let resume = saved.resume.map_err(|problem| char_rnn::Error::ModelFile {
            path: self.model.clone(),
            problem: format!("there is nothing to draw: {problem}"),
        })?;
        if is_same_place(&place, &self.model) {
            return Err(char_rnn::Error::Setting {
                name: "--output",
                value: place.display().to_string(),
                rule: "it is the model itself".to_string(),
            }
            .into());
        }
        let history = &resume.trained.history;
        if history.gradients.values().is_empty() {
            say(&format!(
                "{}: an older char-rnn saved it, which kept the losses alone",
                self.model.display()
            ));
        }
        let name = self.model.file_name().unwrap_or_default().to_string_lossy();
        let run =
            Run { name: &name, names: saved.record.names, settings: &resume.settings, history };
        let picture = run.picture(|name| shown(name, saved.record.case));
        picture.save(&place, format)?;
        if let Some(boxes) = boxes(&picture, format) {
            say(&boxes);
        }
        say(&format!("Wrote {}", place.display()));
        Ok(())
    }
}

/// What there is to say of characters that this picture cannot show.
pub fn boxes(picture: &Picture, format: Format) -> Option<String> {
    let boxes = picture.boxes();
    let first = boxes.first().filter(|_| format == Format::Png)?;
    // A control character, which only a foreign file has, must not reach the terminal.
    let first = first.escape_debug();
    let (number, those) = match boxes.len() {
        1 => ("a character".to_string(), first.to_string()),
        more => (format!("{more} characters"), format!("{first} and others")),
    };
    Some(format!(
        "The font of a PNG picture lacks {number} of the names ({those}): there are boxes in its \
         place; an SVG picture shows them"
    ))
}
