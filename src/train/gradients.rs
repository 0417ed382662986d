//! The loss and its gradients by each of the gradient methods.

use super::bptt;
pub(crate) use super::bptt::StepResult;
use crate::data::Batch;
use crate::model::{CharRnn, CharRnnState};
use crate::ops::scalar;
use crate::text::name_variants;
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// Where the gradients come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum GradientMethod {
    /// Candle's autograd over its primitive ops, a node for each op of each time step. It shares no
    /// code with the others.
    Unrolled,
    /// Candle's autograd over the fused ops of [`crate::ops`], whose gradients are the kernels of
    /// `Hand`.
    Autograd,
    /// No graph: backpropagation through time derived by hand.
    Hand,
}

name_variants!(
    GradientMethod, "gradient method": Unrolled = "unrolled", Autograd = "autograd", Hand = "hand"
);

/// The loss of `batch` from the states `start`, divided by `names`, and its gradients.
///
/// # Errors
/// Where an index is outside the vocabulary, a shape does not fit, or the device fails.
pub(crate) fn loss_and_gradients(
    method: GradientMethod,
    model: &CharRnn,
    batch: &Batch,
    start: &CharRnnState,
    names: usize,
) -> Result<StepResult> {
    let forward = match method {
        GradientMethod::Unrolled => model.loss_unrolled(batch, start)?,
        GradientMethod::Autograd => model.loss(batch, start)?,
        GradientMethod::Hand => {
            let scale = 1. / names as f64;
            return match model.device().is_cpu() {
                true => bptt::on_slices(model, batch, start, scale),
                false => bptt::on_tensors(model, batch, start, scale),
            };
        }
    };
    let loss = match names {
        1 => forward.loss,
        names => (forward.loss / names as f64)?,
    };
    let mut graph = loss.backward()?;
    let mut gradient = |parameter: &Tensor| match graph.remove(parameter) {
        Some(gradient) => Ok(gradient),
        // The loss does not depend on it.
        None => parameter.zeros_like(),
    };
    let [wax, waa, wya, b, by] = model.parameters().map(|(_, parameter)| parameter);
    Ok(StepResult {
        loss: scalar(&loss)?,
        gradients: [gradient(wax)?, gradient(waa)?, gradient(wya)?, gradient(b)?, gradient(by)?],
        da0: graph.remove(start.a()),
        last: forward.last,
    })
}
