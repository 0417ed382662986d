//! The optimizer and the fall of the learning rate against PyTorch's.

use candle_core::{Device, Var, safetensors};
use candle_nn::Optimizer;
use char_rnn::optim::{Algorithm, Decay, Descent, DescentConfig};

#[test]
fn adamw_on_clamped_gradients_at_a_falling_rate_goes_where_pytorchs_goes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/adamw.safetensors");
    let fixture = safetensors::load(path, &Device::Cpu).unwrap();
    let w = Var::from_tensor(&fixture["start"]).unwrap();
    let config = DescentConfig {
        algorithm: Algorithm::AdamW,
        learning_rate: 0.05,
        clip: 0.8,
        weight_decay: 0.1,
    };
    let mut optimizer = Descent::new(vec![w.clone()], config).unwrap();
    for step in 0..60 {
        optimizer.set_learning_rate(Decay::Cosine.rate(0.05, step as u64, 60));
        let gradient = fixture["gradients"].get(step).unwrap();
        optimizer.step_along([Some(&gradient)]).unwrap();
        let expected = fixture["weights"].get(step).unwrap();
        let difference = (w.as_tensor() - expected).unwrap().abs().unwrap().max_all().unwrap();
        let difference = difference.to_scalar::<f64>().unwrap();
        assert!(difference < 1e-14, "step {step}: {difference:e}");
    }
}
