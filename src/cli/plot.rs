//! `char-rnn plot`: the course of a run as a picture.

use super::args::{say, with_ending};
use super::draw::{Run, check_svg};
use super::error::Failure;
use super::files::is_same_place;
use crate::Error;
use crate::checkpoint;
use crate::data::shown;
use candle_core::Device;
use clap::Args;
use std::path::PathBuf;

/// Draw the training of a model: losses, gradients and sampled names
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn plot dinos.safetensors                  to dinos.svg
  char-rnn plot dinos.safetensors -o run.svg")]
pub struct Plot {
    /// Model file
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// Picture; replaces an existing one [default: MODEL.svg, in this folder]
    #[arg(short, long, value_name = "FILE.svg")]
    output: Option<PathBuf>,
}

impl Plot {
    pub fn run(self) -> Result<(), Failure> {
        let output = self.output.unwrap_or_else(|| with_ending(&self.model, ".svg"));
        check_svg(&output, "output")?;
        let saved = checkpoint::load(&self.model, &Device::Cpu)?;
        if is_same_place(&output, &self.model) {
            return Err(Error::setting("output", output.display(), "it is the model itself").into());
        }
        let title = self.model.file_name().unwrap_or_default().to_string_lossy();
        let (names, history) = (saved.list.names, &saved.trained.history);
        let run = Run { title: &title, names, config: &saved.config, history };
        run.picture(|name| shown(name, saved.list.case)).save(&output)?;
        say(&format!("Wrote {}", output.display()));
        Ok(())
    }
}
