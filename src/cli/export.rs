//! `char-rnn export`: a model in another program's format.

use super::{Failure, say};
use candle_core::Device;
use char_rnn::export::{Format, export};
use char_rnn::{checkpoint, output_file};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Write a model in a format of PyTorch's or NumPy's
///
/// A model file needs no export to be read in Python: it is a safetensors file with the notebook's
/// names and layouts.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn export dinos.safetensors --format pytorch     to dinos.pytorch.safetensors
  char-rnn export dinos.safetensors --format npz         to dinos.npz

Then, in Python:
  module.load_state_dict(safetensors.torch.load_file(\"dinos.pytorch.safetensors\"))
  wax = numpy.load(\"dinos.npz\")[\"wax\"]")]
pub struct Export {
    /// The model: a file that `char-rnn train` saved
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// The format to write
    #[arg(long, value_name = "FORMAT")]
    format: FormatName,

    /// Where to write it [default: MODEL with another ending, in this folder]
    ///
    /// A file that is there already is never written over.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    /// What torch.nn.RNN and torch.nn.Linear take by load_state_dict, as safetensors
    Pytorch,
    /// NumPy arrays by the notebook's names, as numpy.load opens them
    Npz,
}

impl Export {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &Device::Cpu)?;
        let format = match self.format {
            FormatName::Pytorch => Format::PyTorch,
            FormatName::Npz => Format::Npz,
        };
        let place = self.output.unwrap_or_else(|| default_place(&self.model, format));
        output_file::write_new(&place, &export(&saved.model, &saved.vocabulary, format)?)?;
        say(&format!("Wrote {}", place.display()));
        Ok(())
    }
}

fn default_place(model: &Path, format: Format) -> PathBuf {
    let mut place = PathBuf::from(model.file_stem().unwrap_or("model".as_ref()));
    place.as_mut_os_string().push(match format {
        Format::PyTorch => ".pytorch.safetensors",
        Format::Npz => ".npz",
    });
    place
}
