//! Backpropagation through time derived by hand, as [`crate::bptt`], on candle tensors and without a
//! graph: the ops of [`crate::ops`] and their gradients, one after the other. For devices whose
//! memory no slice can reach; on the CPU [`crate::bptt`] computes the same, faster.

use crate::batch::Batch;
use crate::model::{CharRnn, CharRnnState};
use crate::ops;
use candle_core::{Result, Tensor};

/// What going forward and backward over a batch gives.
#[derive(Debug)]
pub struct Gradients {
    /// The sum over names and steps of `-ln softmax(z)[y]`, in nats: a scalar.
    pub loss: Tensor,
    /// The gradients of `wax`, `waa`, `wya`, `b` and `by`, in their shapes.
    pub parameters: [Tensor; 5],
    /// The gradient of the first states, (B, n_a).
    pub start: Tensor,
    /// The state of each name after its own last step, (B, n_a).
    pub last: CharRnnState,
}

/// The gradients of the loss of `batch` from the state `start`. The numbers in the code are those
/// of the equations in [`crate::bptt`].
///
/// # Errors
/// Where an index is outside the vocabulary, a shape does not fit, or the device fails.
pub fn loss_and_gradients(
    model: &CharRnn,
    batch: &Batch,
    start: &CharRnnState,
) -> Result<Gradients> {
    let parameters = model.parameters().map(|(_, tensor)| tensor.detach());
    let [wax, waa, wya, b, by] = &parameters;
    let (device, vocabulary) = (model.device(), model.config().vocabulary);
    model.check_start(batch, start)?;
    let a0 = start.a().detach();
    let [x, y] = batch.x_and_y_on(device)?;
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        use ops::cuda::{OfOne, bptt_of_one};
        let found = ops::with_float!(model.dtype(), "hand", F => {
            bptt_of_one::<F>(&x, &y, parameters.each_ref(), &a0)?
        });
        if let Some(OfOne { loss, parameters, start, last }) = found {
            return Ok(Gradients { loss, parameters, start, last: CharRnnState::new(last) });
        }
    }

    // (1) to (5).
    let px = ops::project_input(&x, wax, b)?;
    let a = ops::recurrence(&px, waa, &a0)?;
    let [loss, dz] = ops::cross_entropy_gradient(&ops::project_output(&a, wya, by)?, &y)?;
    // (6), (7).
    let (dwya, dby, da) = (dz.t()?.matmul(&a)?, dz.sum(0)?, dz.matmul(wya)?);
    // (8) to (12).
    let [dpx, dwaa, da0] = ops::recurrence_gradients(waa, &a0, &a, &da)?;
    let [dwax, db] = ops::project_input_gradients(&x, &dpx, vocabulary)?;

    let last = a.index_select(&batch.last_rows_on(device)?, 0)?;
    Ok(Gradients {
        loss,
        parameters: [dwax, dwaa, dwya, db, dby],
        start: da0,
        last: CharRnnState::new(last),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, PARAMETERS, char_rnn, initialize};
    use crate::random::Randomness;
    use candle_core::{DType, Device, Var};
    use candle_nn::VarBuilder;
    use proptest::prelude::*;

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.dims(), b.dims());
        let largest = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0);
        largest.unwrap().to_scalar().unwrap()
    }

    proptest! {
        #[test]
        fn the_gradients_are_those_of_the_unrolled_graph(
            names in prop::collection::vec(prop::collection::vec(0u32..6, 0..7), 1..5),
            hidden in 1usize..9,
            seed: u64,
        ) {
            let config = Config { vocabulary: 6, hidden };
            let mut normals = Randomness::Seed(seed).normals();
            let start: Vec<f64> = (0..names.len() * hidden).map(|_| normals()).collect();
            let start = Var::from_vec(start, (names.len(), hidden), &Device::Cpu).unwrap();
            let state = CharRnnState::new(start.as_tensor().clone());
            let vars = initialize(config, || normals() * 50., DType::F64, &Device::Cpu).unwrap();
            let vb = VarBuilder::from_varmap(&vars, DType::F64, &Device::Cpu);
            let model = char_rnn(config, vb).unwrap();
            let batch = Batch::new(names.iter().map(Vec::as_slice));

            let by_hand = loss_and_gradients(&model, &batch, &state).unwrap();
            let unrolled = model.loss_unrolled(&batch, &state).unwrap();
            let graph = unrolled.loss.backward().unwrap();
            prop_assert!(difference(&by_hand.loss.unsqueeze(0).unwrap(), &unrolled.loss.unsqueeze(0).unwrap()) < 1e-11);
            prop_assert!(difference(by_hand.last.a(), unrolled.last.a()) < 1e-12);
            prop_assert!(difference(&by_hand.start, graph.get(&start).unwrap()) < 1e-11);
            let vars = vars.data().lock().unwrap();
            for (name, gradient) in PARAMETERS.iter().zip(&by_hand.parameters) {
                prop_assert!(difference(gradient, graph.get(&vars[*name]).unwrap()) < 1e-11, "{name}");
            }
        }
    }
}
