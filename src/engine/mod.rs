//! A training step by each of the ways back: forward, backward, clip, update.
//!
//! All ways mean the same and differ in where the gradient comes from. The hidden state is
//! carried from each step's names to the next's, cut from the graph.
//!
//! With several threads the names of a batch are parted among them, each part is learned by
//! itself, and the gradients are added up, always in the same order.

mod graph;
mod hand;
mod hand_on_device;
mod loss;
mod workers;

use crate::batch::Batch;
use crate::model::{CharRnn, CharRnnState, Config, PARAMETERS, char_rnn};
use crate::ops::{scalar, with_float};
use crate::optim::{Algorithm, DescentConfig, Gradient};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::{VarBuilder, VarMap};
use graph::Graph;
use hand::Hand;
use hand_on_device::HandOnDevice;
pub use loss::StepLoss;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use workers::Workers;

/// Where the gradient comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backprop {
    /// Candle's primitive ops, a node of the graph for each op of each time step: the reference.
    Unrolled,
    /// Candle's autograd over the fused ops of [`crate::ops`].
    #[default]
    Autograd,
    /// No graph: backpropagation through time derived by hand, [`crate::bptt`] (on another device
    /// than the CPU, [`crate::bptt_tensors`]).
    Hand,
}

impl Backprop {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Unrolled, Self::Autograd, Self::Hand];
}

impl fmt::Display for Backprop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unrolled => "unrolled",
            Self::Autograd => "autograd",
            Self::Hand => "hand",
        })
    }
}

impl FromStr for Backprop {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let way = Self::ALL.into_iter().find(|way| way.to_string() == name);
        way.ok_or_else(|| format!("there is no way back called {name:?}"))
    }
}

/// What an engine carries from one batch to the next beside the parameters, by name: `a`, the
/// hidden state, (B, n_a), missing before the first batch, and for AdamW `adamw.step`, the number of
/// steps, a scalar of `F64`, and with `adamw.` before the name of each parameter its two running
/// means, (2, ...).
pub type Carried = BTreeMap<String, Tensor>;

/// What the names of AdamW's part begin with.
pub(crate) const ADAMW: &str = "adamw.";
pub(crate) const STEP: &str = "step";

/// The gradients of the parameters, in the order of [`PARAMETERS`].
pub type Gradients = [Gradient; PARAMETERS.len()];

/// A network in training.
pub trait Engine {
    /// Learns `batch` from the state that the last batch left, the zero state at first. Returns
    /// its loss in nats, summed over the characters and averaged over the names.
    ///
    /// # Errors
    /// Where an index is outside the vocabulary, the batch has another size than the last one, or
    /// the device fails.
    fn step(&mut self, batch: &Batch) -> Result<f64> {
        match self.measured_step(batch, None)? {
            StepLoss::Here(loss) => Ok(loss),
            StepLoss::There(loss) => scalar(&loss),
        }
    }

    /// The same, and measures the gradients where asked. Without that, a device is not waited for.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn measured_step(
        &mut self,
        batch: &Batch,
        gradients: Option<&mut Gradients>,
    ) -> Result<StepLoss>;

    /// Lets the next step begin at the zero state.
    fn clear_state(&mut self);

    /// Sets the learning rate from the next step on.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// The network, its parameters as they stand now.
    ///
    /// # Errors
    /// Where the device fails.
    fn model(&mut self) -> Result<&CharRnn>;

    /// What the next step begins with beside the parameters. With these and the parameters
    /// another engine of the same kind goes on as this one would, to the last bit.
    ///
    /// # Errors
    /// Where the device fails.
    fn carried(&self) -> Result<Carried>;

    /// Begins the next step with what another engine carried, in this one's number type and on
    /// its device. What is missing is as at the start.
    ///
    /// # Errors
    /// Where there is something in it that this engine does not know, or a shape does not fit.
    fn carry_on(&mut self, carried: &Carried) -> Result<()>;
}

/// How many steps AdamW took, and its running means in the order of [`PARAMETERS`]; none for SGD.
type Moments = (u64, Vec<Tensor>);

fn carried_of(state: Option<Tensor>, (steps, moments): Moments) -> Result<Carried> {
    let mut carried: Carried = state.into_iter().map(|a| ("a".to_string(), a)).collect();
    if !moments.is_empty() {
        let steps = Tensor::new(steps as f64, &Device::Cpu)?;
        carried.insert(format!("{ADAMW}{STEP}"), steps);
    }
    for (name, moments) in PARAMETERS.iter().zip(moments) {
        carried.insert(format!("{ADAMW}{name}"), moments);
    }
    Ok(carried)
}

/// What is in `carried`, for `model` and its optimizer.
fn carried_in(
    carried: &Carried,
    model: &CharRnn,
    algorithm: Algorithm,
) -> Result<(Option<CharRnnState>, Option<Moments>)> {
    let adamw = algorithm == Algorithm::AdamW;
    let is_known = |name: &str| match name.strip_prefix(ADAMW) {
        Some(part) => adamw && (part == STEP || PARAMETERS.contains(&part)),
        None => name == "a",
    };
    if let Some(unknown) = carried.keys().find(|name| !is_known(name)) {
        bail!("this engine carries no {unknown:?}");
    }
    let config = model.config();
    let fit = |name: &str, tensor: &Tensor, expected: &[usize]| {
        if tensor.dims() != expected {
            bail!("{name:?} is {:?}, and for this network {expected:?}", tensor.dims());
        }
        tensor.to_dtype(model.dtype())?.to_device(model.device())?.contiguous()
    };
    let state = match carried.get("a") {
        Some(a) => Some(CharRnnState::new(fit("a", a, &[a.dims2()?.0, config.hidden])?)),
        None => None,
    };
    let Some(steps) = carried.get(&format!("{ADAMW}{STEP}")) else { return Ok((state, None)) };
    let steps = steps.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    if !(0. ..9e15).contains(&steps) {
        bail!("there cannot have been {steps} steps");
    }
    let moments = PARAMETERS.iter().map(|name| {
        let name_of_both = format!("{ADAMW}{name}");
        let Some(both) = carried.get(&name_of_both) else { bail!("{name_of_both:?} is missing") };
        fit(&name_of_both, both, &[&[2], config.shape(name).as_slice()].concat())
    });
    Ok((state, Some((steps as u64, moments.collect::<Result<_>>()?))))
}

/// The engine that trains `vars`, the variables of a network of this `config`, by `backprop`, with
/// so many `threads` (on another device than the CPU, with one).
///
/// # Errors
/// Where the variables do not fit the network, the way back does not fit their device, or there
/// are not so many threads to be had.
pub fn engine(
    backprop: Backprop,
    config: Config,
    vars: &VarMap,
    optimizer: DescentConfig,
    threads: usize,
) -> Result<Box<dyn Engine>> {
    let variables: Vec<Var> = {
        let vars = vars.data().lock().expect("no holder of this map panics");
        let found: Option<_> = PARAMETERS.iter().map(|&name| vars.get(name).cloned()).collect();
        match found {
            Some(variables) => variables,
            None => bail!("the network's variables are {PARAMETERS:?}"),
        }
    };
    let (dtype, device) = (variables[0].dtype(), variables[0].device().clone());
    let model = char_rnn(config, VarBuilder::from_varmap(vars, dtype, &device))?;
    let workers = Workers::new(if device.is_cpu() { threads } else { 1 })?;
    let unrolled = backprop == Backprop::Unrolled;
    Ok(match backprop {
        Backprop::Unrolled | Backprop::Autograd => {
            Box::new(Graph::new(model, variables, unrolled, optimizer, workers)?)
        }
        Backprop::Hand if !device.is_cpu() => {
            Box::new(HandOnDevice::new(model, variables, optimizer)?)
        }
        Backprop::Hand => with_float!(dtype, "hand", F => {
            Box::new(Hand::<F>::new(model, variables, optimizer, workers)?)
        }),
    })
}
