//! Training in plain candle style: forward, backward, clip, step.
//!
//! ```text
//! cargo run --release --example train_module
//! ```
//!
//! [`CharRnn`](char_rnn::model::CharRnn) is a candle module like those of candle-nn: its variables are
//! in a `VarMap`, its loss is a tensor, and candle's optimizers step it. `char_rnn::train::train` is
//! this loop with evaluation, samples and checkpoints.

use candle_core::{DType, Device};
use candle_nn::{Optimizer, RNN, SGD, VarBuilder};
use char_rnn::data::{Batch, Corpus};
use char_rnn::model::{Config, char_rnn, initialize};
use char_rnn::random::RngSource;
use char_rnn::sample::{MAX_LENGTH, Sampler};
use char_rnn::train::clip;
use std::error::Error;

/// Trains on the built-in names, one at a time. Returns the mean loss of the first thousand and of
/// the last thousand iterations, in nats a name.
fn run(iterations: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let (corpus, device, seed) = (Corpus::dinos(), Device::Cpu, RngSource::Seed(1));
    let config = Config { vocabulary: corpus.vocabulary().size(), hidden: 50 };
    let vars = initialize(config, seed.normals(), DType::F32, &device)?;
    let model = char_rnn(config, VarBuilder::from_varmap(&vars, DType::F32, &device))?;
    let mut optimizer = SGD::new(vars.all_vars(), 0.01)?;
    let mut names = corpus.encoded();
    seed.shuffle(&mut names);

    let mut losses = vec![];
    let mut state = model.zero_state(1)?;
    for name in names.iter().cycle().take(iterations) {
        let batch = Batch::new([name.as_slice()]);
        let forward = model.loss(&batch, &state)?;
        let mut gradients = forward.loss.backward()?;
        clip(&mut gradients, &vars.all_vars(), 5.)?;
        optimizer.step(&gradients)?;
        state = forward.last;
        losses.push(f64::from(forward.loss.to_scalar::<f32>()?));
    }

    for name in Sampler::new(&model, seed, MAX_LENGTH, 0..7)? {
        println!("{}", corpus.vocabulary().decode(&name?.indices));
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    Ok((mean(&losses[..1000]), mean(&losses[iterations - 1000..])))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (first, last) = run(20_000)?;
    println!("loss: {first:.2} nats a name at first, {last:.2} at last");
    Ok(())
}

#[test]
fn the_loss_falls() {
    let (first, last) = run(6000).unwrap();
    assert!(last < 0.85 * first, "from {first} to {last}");
}
