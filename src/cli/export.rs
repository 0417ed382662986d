//! `char-rnn export`: a model as a page for the browser, or for PyTorch or NumPy.

use super::args::{say, with_ending};
use super::error::Failure;
use super::files;
use crate::checkpoint;
use crate::export::{Format, export};
use crate::page::page;
use candle_core::Device;
use clap::Args;
use std::path::PathBuf;

/// Export a model as a page for the browser, or to PyTorch or NumPy
#[derive(Args)]
#[command(after_help = "\
Notes:
  html is one page that needs no network: names, predictions, states, gradients, the run.
  pytorch is safetensors for load_state_dict of torch.nn.RNN and torch.nn.Linear; npz is for NumPy.
  The model file itself is safetensors with the notebook's names and layouts.

Examples:
  char-rnn export dinos.safetensors --format html        to dinos.html
  char-rnn export dinos.safetensors --format pytorch     to dinos.pytorch.safetensors
  char-rnn export dinos.safetensors --format npz         to dinos.npz

Then, in Python:
  module.load_state_dict(safetensors.torch.load_file(\"dinos.pytorch.safetensors\"))
  wax = numpy.load(\"dinos.npz\")[\"wax\"]")]
pub struct Export {
    /// Model file, as saved by `char-rnn train`
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// File format
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    #[arg(value_parser = ["html", "pytorch", "npz"])]
    format: String,

    /// New file to write [default: MODEL with another extension, in this folder]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
}

impl Export {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &Device::Cpu)?;
        let export = |format| export(&saved.model, &saved.vocabulary, format);
        let title = self.model.file_stem().unwrap_or_default().to_string_lossy();
        let (ending, bytes) = match self.format.as_str() {
            "pytorch" => (".pytorch.safetensors", export(Format::PyTorch)?),
            "npz" => (".npz", export(Format::Npz)?),
            _ => (".html", page(&saved, &title)?.into_bytes()),
        };
        let path = self.output.unwrap_or_else(|| with_ending(&self.model, ending));
        files::write_new(&path, &bytes, "-o")?;
        say(&format!("Wrote {}", path.display()));
        Ok(())
    }
}
