//! The equations of [`crate::bptt`] on candle tensors, without a graph: for devices whose memory
//! no slice can reach. On the CPU [`crate::bptt`] computes the same, many times faster.

use crate::batch::Batch;
use crate::model::{CharRnn, CharRnnState};
use crate::ops::primitive;
use candle_core::{D, Result, Tensor};

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
    let [wax, waa, wya, b, by] = model.parameters().map(|(_, tensor)| tensor.detach());
    let (steps, size) = (batch.steps(), batch.size());
    let (device, vocabulary) = (model.device(), model.config().vocabulary);
    let a0 = start.a().detach();
    let indices = |indices: &[u32]| Tensor::from_slice(indices, indices.len(), device);
    let (x, y) = (indices(batch.x())?, indices(batch.y())?);
    // One-hot rows; NONE, the largest index, selects the zero row.
    let identity = Tensor::eye(vocabulary, model.dtype(), device)?;
    let (x_hot, y_hot) = (identity.index_select(&x, 0)?, identity.index_select(&y, 0)?);

    // (1) to (4).
    let px = primitive::project_input(&x, &wax, &b)?;
    let a = primitive::recurrence(&px, &waa, &a0)?;
    let z = primitive::project_output(&a, &wya, &by)?;
    let log_probabilities = candle_nn::ops::log_softmax(&z, D::Minus1)?;
    let loss = (&log_probabilities * &y_hot)?.sum_all()?.neg()?;

    // (5), which is zero where y is padding: there its one-hot row has no sum.
    let counts = y_hot.sum_keepdim(1)?;
    let dz = (log_probabilities.exp()?.broadcast_mul(&counts)? - &y_hot)?;
    // (6), (7).
    let (dwya, dby) = (dz.t()?.matmul(&a)?, dz.sum(0)?);
    let from_output = dz.matmul(&wya)?;
    // (8) to (10), backwards in time.
    let slope = a.sqr()?.affine(-1., 1.)?;
    let mut from_next = Tensor::zeros_like(&a0)?;
    let mut dpre = Vec::with_capacity(steps);
    for t in (0..steps).rev() {
        let rows = |tensor: &Tensor| tensor.narrow(0, t * size, size);
        let now = ((rows(&from_output)? + from_next)? * rows(&slope)?)?;
        from_next = now.matmul(&waa)?;
        dpre.push(now);
    }
    dpre.reverse();
    let dpre = Tensor::cat(&dpre, 0)?;
    // (11), (12). The states before each step: the first ones, and all but the last.
    let earlier = Tensor::cat(&[&a0, &a.narrow(0, 0, (steps - 1) * size)?], 0)?;
    let (dwaa, db) = (dpre.t()?.matmul(&earlier)?, dpre.sum(0)?);
    let dwax = dpre.t()?.matmul(&x_hot)?;

    let last = a.index_select(&indices(batch.last_rows())?, 0)?;
    Ok(Gradients {
        loss,
        parameters: [dwax, dwaa, dwya, db, dby],
        start: from_next,
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
