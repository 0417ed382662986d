//! Export to PyTorch and NumPy.
//!
//! A model file is a safetensors file with the notebook's names and layouts, which Python opens as
//! it is: `safetensors.numpy.load_file("dinos.safetensors")["wax"]`. The formats here have the
//! names and layouts of other libraries.

use crate::checkpoint::serialize;
use crate::data::Vocabulary;
use crate::error::Result;
use crate::model::CharRnn;
use candle_core::npy::NpzTensors;
use candle_core::{Device, Tensor};
use std::collections::HashMap;

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A safetensors file with PyTorch's names and layouts, for a module whose `rnn` is
    /// `torch.nn.RNN(n_x, n_a)` and whose `linear` is `torch.nn.Linear(n_a, n_y)`:
    ///
    /// | name | parameter |
    /// | --- | --- |
    /// | `rnn.weight_ih_l0` | `wax` |
    /// | `rnn.weight_hh_l0` | `waa` |
    /// | `rnn.bias_ih_l0` | `b` |
    /// | `rnn.bias_hh_l0` | zero: PyTorch has two biases |
    /// | `linear.weight` | `wya` |
    /// | `linear.bias` | `by` |
    ///
    /// The metadata's `vocabulary` has the characters in index order.
    PyTorch,
    /// A NumPy archive: the five parameters by the notebook's names, and `vocabulary`, the Unicode
    /// code points of the characters in index order.
    Npz,
}

/// The bytes of a file with `model` in `format`.
///
/// # Errors
/// If the device fails, or a temporary file cannot be written.
///
/// ```
/// # use char_rnn::{data::Vocabulary, export::{Format, export}, model::{Config, char_rnn}};
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
        let pytorch_name = match name {
            "wax" => "rnn.weight_ih_l0",
            "waa" => "rnn.weight_hh_l0",
            "wya" => "linear.weight",
            "b" => "rnn.bias_ih_l0",
            _ => "linear.bias",
        };
        tensors.push((pytorch_name.to_string(), tensor.clone()));
        if name == "b" {
            tensors.push(("rnn.bias_hh_l0".to_string(), tensor.zeros_like()?));
        }
    }
    let characters = vocabulary.characters().iter().collect();
    serialize(&tensors, HashMap::from([("vocabulary".to_string(), characters)]))
}

fn npz(model: &CharRnn, vocabulary: &Vocabulary) -> Result<Vec<u8>> {
    let characters: Vec<u32> = vocabulary.characters().iter().map(|&c| u32::from(c)).collect();
    let mut arrays = Vec::from(model.parameters().map(|(name, tensor)| (name, tensor.clone())));
    arrays.push(("vocabulary", Tensor::new(characters, &Device::Cpu)?));
    // Candle writes archives to files only, and reports no error for an incomplete one.
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
