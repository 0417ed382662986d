//! `char-rnn export`: a model for PyTorch or NumPy.

use super::args::{say, with_ending};
use super::error::Failure;
use super::files;
use crate::checkpoint;
use crate::export::{Format, export};
use candle_core::Device;
use clap::Args;
use std::path::PathBuf;

/// Export a model to PyTorch or NumPy
#[derive(Args)]
#[command(after_help = "\
Notes:
  pytorch is safetensors for load_state_dict of torch.nn.RNN and torch.nn.Linear; npz is for NumPy.
  The model file itself is safetensors with the notebook's names and layouts.

Examples:
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
    #[arg(long, value_name = "FORMAT", value_parser = ["pytorch", "npz"], help_heading = "Output")]
    format: String,

    /// New file to write [default: MODEL with another extension, in this folder]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
}

impl Export {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &Device::Cpu)?;
        let (format, ending) = match self.format.as_str() {
            "pytorch" => (Format::PyTorch, ".pytorch.safetensors"),
            _ => (Format::Npz, ".npz"),
        };
        let path = self.output.unwrap_or_else(|| with_ending(&self.model, ending));
        files::write_new(&path, &export(&saved.model, &saved.vocabulary, format)?)?;
        say(&format!("Wrote {}", path.display()));
        Ok(())
    }
}
