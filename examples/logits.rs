//! The logits of a saved model for names given on the command line.
//!
//! ```text
//! cargo run --release --example logits -- dinos.safetensors tyrannosaurus diplodocus
//! ```
//!
//! Prints a line of JSON for each name: `n_y` logits for each of its characters and for its end.

use candle_core::{DType, Device, Tensor};
use candle_nn::RNN;
use char_rnn::checkpoint;
use char_rnn::data::START;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("a model and some names are needed")?;
    let saved = checkpoint::load(Path::new(&path), &Device::Cpu)?;
    let (model, vocabulary) = (&saved.model, &saved.vocabulary);
    for name in arguments {
        let mut state = model.zero_state(1)?;
        let mut logits = Vec::new();
        for character in [vec![START], vocabulary.encode(&name)?].concat() {
            state = model.step(&Tensor::new(&[character], &Device::Cpu)?, &state)?;
            let z = model.logits(state.a())?.to_dtype(DType::F64)?;
            logits.push(z.get(0)?.to_vec1::<f64>()?);
        }
        println!("{}", serde_json::to_string(&logits)?);
    }
    Ok(())
}
