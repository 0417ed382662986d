//! The loss and its gradients by each of the gradient methods, in tensors.

use super::bptt::{self, Gradients, Kept, StepResult};
use crate::data::Batch;
use crate::model::{CharRnn, CharRnnState, Loss};
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

/// The result of a forward pass, from which the backward pass starts.
pub(crate) struct Forward {
    /// The loss in nats, summed over the steps and divided by a number of names: a scalar.
    pub loss: Tensor,
    /// The state of each name after its own last step, (B, n_a), without a graph.
    pub last: CharRnnState,
    /// What `hand` keeps; none where the loss has a graph.
    kept: Option<Kept>,
}

/// The forward pass of `batch` from the states `start`, by `method`; `hand` in tensor operations. The
/// loss is divided by `names`.
pub(crate) fn forward(
    method: GradientMethod,
    model: &CharRnn,
    batch: &Batch,
    start: &CharRnnState,
    names: usize,
) -> Result<Forward> {
    let (Loss { loss, last }, kept) = match method {
        GradientMethod::Unrolled => (model.loss_unrolled(batch, start)?, None),
        GradientMethod::Autograd => (model.loss(batch, start)?, None),
        GradientMethod::Hand => {
            let (loss, kept) = bptt::forward(model, batch, start, 1. / names as f64)?;
            (loss, Some(kept))
        }
    };
    let loss = match names {
        1 => loss,
        names => (loss / names as f64)?,
    };
    Ok(Forward { loss, last, kept })
}

impl Forward {
    /// The gradients of the loss, and that of the first states, (B, n_a), where they need one and
    /// candle's graph, if there is one, reaches them.
    pub fn backward(
        self,
        model: &CharRnn,
        batch: &Batch,
        start: &CharRnnState,
    ) -> Result<(Gradients, Option<Tensor>)> {
        if let Some(kept) = self.kept {
            return bptt::backward(kept, model, batch, start);
        }
        let mut graph = self.loss.backward()?;
        let mut gradient = |parameter: &Tensor| match graph.remove(parameter) {
            Some(gradient) => Ok(gradient),
            // The loss does not depend on it.
            None => parameter.zeros_like(),
        };
        let [wax, waa, wya, b, by] = model.parameters().map(|(_, parameter)| parameter);
        let gradients =
            [gradient(wax)?, gradient(waa)?, gradient(wya)?, gradient(b)?, gradient(by)?];
        Ok((gradients, graph.remove(start.a())))
    }
}

/// Both passes by `method` as training runs it: `hand` on slices on the CPU.
pub(crate) fn loss_and_gradients(
    method: GradientMethod,
    model: &CharRnn,
    batch: &Batch,
    start: &CharRnnState,
) -> Result<StepResult> {
    if method == GradientMethod::Hand && model.device().is_cpu() {
        return bptt::on_slices(model, batch, start);
    }
    let forward = forward(method, model, batch, start, 1)?;
    let (loss, last) = (forward.loss.clone(), forward.last.clone());
    let (gradients, da0) = forward.backward(model, batch, start)?;
    Ok(StepResult { loss: scalar(&loss)?, gradients, da0, last })
}
