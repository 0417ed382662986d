//! Models in the formats of other programs.
//!
//! A model file is a safetensors file already, with the notebook's names and layouts, and Python
//! opens it as it is: `safetensors.numpy.load_file("dinos.safetensors")["wax"]`. The formats here
//! are for those who want to put its numbers where they belong without a thought.

use crate::checkpoint::safetensors;
use crate::error::Result;
use crate::model::CharRnn;
use crate::vocab::Vocabulary;
use candle_core::npy::NpzTensors;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

/// A format to write a model in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A safetensors file with PyTorch's names and layouts, for a module whose `rnn` is
    /// `torch.nn.RNN(n_x, n_a)` and whose `linear` is `torch.nn.Linear(n_a, n_y)`:
    ///
    /// | name | is |
    /// | --- | --- |
    /// | `rnn.weight_ih_l0` | `wax` |
    /// | `rnn.weight_hh_l0` | `waa` |
    /// | `rnn.bias_ih_l0` | `b` |
    /// | `rnn.bias_hh_l0` | zero: PyTorch has two biases where one would do |
    /// | `linear.weight` | `wya` |
    /// | `linear.bias` | `by` |
    ///
    /// The metadata's `vocabulary` has the characters in index order.
    PyTorch,
    /// A NumPy archive: the five parameters by the notebook's names, and `vocabulary`, the Unicode
    /// code points of the characters in index order.
    Npz,
}

/// The file, byte by byte, that holds `model` in `format`.
///
/// # Errors
/// Where the device fails, or there is no room for a temporary file.
///
/// ```
/// # use char_rnn::{export::{Format, export}, model::{Config, char_rnn}, vocab::Vocabulary};
/// # use candle_core::{DType, Device};
/// # use candle_nn::{VarBuilder, VarMap};
/// let vocabulary = Vocabulary::of(["anna"]);
/// # let vars = VarMap::new();
/// # let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let model = char_rnn(Config { vocabulary: vocabulary.size(), hidden: 5 }, vb)?;
/// std::fs::write(
/// # std::env::temp_dir().join(
///     "anna.npz"
/// # )
///     , export(&model, &vocabulary, Format::Npz)?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn export(model: &CharRnn, vocabulary: &Vocabulary, format: Format) -> Result<Vec<u8>> {
    match format {
        Format::PyTorch => pytorch(model, vocabulary),
        Format::Npz => npz(model, vocabulary),
    }
}

fn pytorch(model: &CharRnn, vocabulary: &Vocabulary) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, tensor) in model.parameters() {
        let theirs = match name {
            "wax" => "rnn.weight_ih_l0",
            "waa" => "rnn.weight_hh_l0",
            "wya" => "linear.weight",
            "b" => "rnn.bias_ih_l0",
            _ => "linear.bias",
        };
        tensors.push((theirs.to_string(), tensor.clone()));
        if name == "b" {
            tensors.push(("rnn.bias_hh_l0".to_string(), tensor.zeros_like()?));
        }
    }
    let characters = vocabulary.characters().iter().collect();
    safetensors(&tensors, HashMap::from([("vocabulary".to_string(), characters)]))
}

fn npz(model: &CharRnn, vocabulary: &Vocabulary) -> Result<Vec<u8>> {
    let characters: Vec<u32> = vocabulary.characters().iter().map(|&c| u32::from(c)).collect();
    let mut arrays = Vec::from(model.parameters().map(|(name, tensor)| (name, tensor.clone())));
    arrays.push(("vocabulary", Tensor::new(characters, &Device::Cpu)?));
    // Candle writes archives to files alone, and says nothing of a file that it could not finish.
    let file = tempfile::NamedTempFile::new().map_err(candle_core::Error::from)?;
    Tensor::write_npz(&arrays, file.path())?;
    let written = NpzTensors::new(file.path())?;
    for (name, _) in &arrays {
        if written.get(name)?.is_none() {
            return Err(candle_core::Error::msg(format!("the array {name} was not written")).into());
        }
    }
    Ok(std::fs::read(file.path()).map_err(candle_core::Error::from)?)
}
