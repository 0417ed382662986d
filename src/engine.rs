//! A training step by each of the ways back: forward, backward, clip, update.
//!
//! All ways mean the same and differ in where the gradient comes from. The hidden state is
//! carried from each step's names to the next's, cut from the graph.

use crate::batch::Batch;
use crate::bptt::{Bptt, Parameters};
use crate::bptt_tensors::loss_and_gradients;
use crate::kernels::Element;
use crate::model::{CharRnn, CharRnnState, Config, PARAMETERS, char_rnn};
use crate::ops::{Float, clipped_descent, scalar, with_float};
use crate::optim::{ClippedSgd, ClippedSgdConfig};
use candle_core::{Device, Result, Tensor, Var, bail};
use candle_nn::{Optimizer, RNN, VarBuilder, VarMap};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

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
/// hidden state, (B, n_a). Empty before the first batch.
pub type Carried = BTreeMap<String, Tensor>;

/// A network in training.
pub trait Engine {
    /// Learns `batch` from the state that the last batch left, the zero state at first. Returns
    /// its loss in nats, summed over the characters and averaged over the names.
    ///
    /// # Errors
    /// Where an index is outside the vocabulary, the batch has another size than the last one, or
    /// the device fails.
    fn step(&mut self, batch: &Batch) -> Result<f64>;

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
    /// its device.
    ///
    /// # Errors
    /// Where there is something in it that this engine does not know, or a shape does not fit.
    fn carry_on(&mut self, carried: &Carried) -> Result<()>;
}

/// The only thing that an engine carries so far.
fn carried_state(state: Option<Tensor>) -> Carried {
    state.into_iter().map(|a| ("a".to_string(), a)).collect()
}

/// The hidden state in `carried`, for `model`.
fn state_in(carried: &Carried, model: &CharRnn) -> Result<Option<CharRnnState>> {
    if let Some(unknown) = carried.keys().find(|name| *name != "a") {
        bail!("this engine carries no {unknown:?}");
    }
    let Some(a) = carried.get("a") else { return Ok(None) };
    let (_, hidden) = a.dims2()?;
    if hidden != model.config().hidden {
        bail!("the state has {hidden} hidden units and the network {}", model.config().hidden);
    }
    let a = a.to_dtype(model.dtype())?.to_device(model.device())?.contiguous()?;
    Ok(Some(CharRnnState::new(a)))
}

/// The engine that trains `vars`, the variables of a network of this `config`, by `backprop`.
///
/// # Errors
/// Where the variables do not fit the network, or the way back does not fit their device.
pub fn engine(
    backprop: Backprop,
    config: Config,
    vars: &VarMap,
    optimizer: ClippedSgdConfig,
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
    let unrolled = backprop == Backprop::Unrolled;
    Ok(match backprop {
        Backprop::Unrolled | Backprop::Autograd => Box::new(Graph {
            model,
            unrolled,
            optimizer: ClippedSgd::new(variables, optimizer)?,
            state: None,
        }),
        Backprop::Hand if !device.is_cpu() => {
            Box::new(HandOnDevice { model, variables, optimizer, state: None })
        }
        Backprop::Hand => with_float!(dtype, "hand", F => {
            Box::new(Hand::<F>::new(model, variables, optimizer)?)
        }),
    })
}

/// Candle's graph, by primitive or by fused ops.
struct Graph {
    model: CharRnn,
    unrolled: bool,
    optimizer: ClippedSgd,
    state: Option<CharRnnState>,
}

impl Engine for Graph {
    fn step(&mut self, batch: &Batch) -> Result<f64> {
        let start = match self.state.take() {
            Some(state) => state,
            None => self.model.zero_state(batch.size())?,
        };
        let forward = match self.unrolled {
            true => self.model.loss_unrolled(batch, &start)?,
            false => self.model.loss(batch, &start)?,
        };
        let loss = match batch.size() {
            1 => forward.loss,
            size => (forward.loss / size as f64)?,
        };
        self.optimizer.backward_step(&loss)?;
        self.state = Some(forward.last);
        scalar(&loss)
    }

    fn model(&mut self) -> Result<&CharRnn> {
        Ok(&self.model)
    }

    fn carried(&self) -> Result<Carried> {
        Ok(carried_state(self.state.as_ref().map(|state| state.a().clone())))
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        self.state = state_in(carried, &self.model)?;
        Ok(())
    }
}

/// Slices, and no candle until the network is asked for.
struct Hand<F> {
    model: CharRnn,
    variables: Vec<Var>,
    /// Whether the parameters have changed since they were last written to the variables.
    ahead: bool,
    parameters: Parameters<F>,
    bptt: Bptt<F>,
    state: Vec<F>,
    learning_rate: F,
    clip: F,
}

impl<F: Float> Hand<F> {
    fn new(model: CharRnn, variables: Vec<Var>, optimizer: ClippedSgdConfig) -> Result<Self> {
        let Config { vocabulary, hidden } = model.config();
        let mut parameters = Parameters::zeros(hidden, vocabulary);
        for ((_, values), var) in parameters.tensors_mut().into_iter().zip(&variables) {
            values.copy_from_slice(&var.flatten_all()?.to_vec1()?);
        }
        Ok(Self {
            model,
            variables,
            ahead: false,
            parameters,
            bptt: Bptt::new(hidden, vocabulary),
            state: Vec::new(),
            learning_rate: Element::from_f64(optimizer.learning_rate),
            clip: Element::from_f64(optimizer.clip),
        })
    }
}

impl<F: Float> Engine for Hand<F> {
    fn step(&mut self, batch: &Batch) -> Result<f64> {
        let Config { vocabulary, hidden } = self.model.config();
        crate::ops::check_indices(batch.x(), vocabulary)?;
        crate::ops::check_indices(batch.y(), vocabulary)?;
        if self.state.is_empty() {
            self.state.resize(batch.size() * hidden, F::ZERO);
        }
        if self.state.len() != batch.size() * hidden {
            bail!("the batch has {} names; the one before had another number", batch.size());
        }
        let scale = Element::from_f64(1. / batch.size() as f64);
        let loss = self.bptt.loss_and_gradients(
            &self.parameters,
            batch.x(),
            batch.y(),
            batch.steps(),
            batch.size(),
            &self.state,
            scale,
        );
        self.parameters.descend(self.bptt.gradients(), self.learning_rate, self.clip);
        self.bptt.last_states(batch.y(), &mut self.state);
        self.ahead = true;
        Ok(loss)
    }

    fn model(&mut self) -> Result<&CharRnn> {
        if std::mem::take(&mut self.ahead) {
            for ((_, values), var) in self.parameters.tensors().into_iter().zip(&self.variables) {
                var.set(&Tensor::from_slice(values, var.shape(), var.device())?)?;
            }
        }
        Ok(&self.model)
    }

    fn carried(&self) -> Result<Carried> {
        let hidden = self.model.config().hidden;
        let state = match self.state.len().checked_div(hidden) {
            None | Some(0) => None,
            Some(size) => Some(Tensor::from_slice(&self.state, (size, hidden), &Device::Cpu)?),
        };
        Ok(carried_state(state))
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        self.state = match state_in(carried, &self.model)? {
            Some(state) => state.a().flatten_all()?.to_vec1()?,
            None => Vec::new(),
        };
        Ok(())
    }
}

/// The hand-derived gradient where the parameters are not in this computer's memory.
struct HandOnDevice {
    model: CharRnn,
    variables: Vec<Var>,
    optimizer: ClippedSgdConfig,
    state: Option<CharRnnState>,
}

impl Engine for HandOnDevice {
    fn step(&mut self, batch: &Batch) -> Result<f64> {
        let start = match self.state.take() {
            Some(state) => state,
            None => self.model.zero_state(batch.size())?,
        };
        let back = loss_and_gradients(&self.model, batch, &start)?;
        let scale = 1. / batch.size() as f64;
        let ClippedSgdConfig { learning_rate, clip } = self.optimizer;
        for (var, gradient) in self.variables.iter().zip(&back.parameters) {
            clipped_descent(var, &(gradient * scale)?, learning_rate, clip)?;
        }
        self.state = Some(back.last);
        scalar(&(back.loss * scale)?)
    }

    fn model(&mut self) -> Result<&CharRnn> {
        Ok(&self.model)
    }

    fn carried(&self) -> Result<Carried> {
        Ok(carried_state(self.state.as_ref().map(|state| state.a().clone())))
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        self.state = state_in(carried, &self.model)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::initialize;
    use crate::random::Randomness;
    use candle_core::DType;

    #[test]
    fn the_hand_engine_for_other_devices_learns_what_the_one_for_the_cpu_learns() {
        let config = Config { vocabulary: 5, hidden: 6 };
        let optimizer = ClippedSgdConfig { learning_rate: 0.1, clip: 0.5 };
        let vars = || {
            let normals = Randomness::Seed(1).normals();
            initialize(config, normals, DType::F64, &Device::Cpu).unwrap()
        };
        let (here, there) = (vars(), vars());
        let variables = PARAMETERS.map(|name| there.data().lock().unwrap()[name].clone());
        let vb = VarBuilder::from_varmap(&there, DType::F64, &Device::Cpu);
        let model = char_rnn(config, vb).unwrap();
        let mut there =
            HandOnDevice { model, variables: variables.to_vec(), optimizer, state: None };
        let mut here = engine(Backprop::Hand, config, &here, optimizer).unwrap();
        let batch = Batch::new([&[1, 2, 3][..], &[4]]);
        for _ in 0..9 {
            let (a, b) = (here.step(&batch).unwrap(), there.step(&batch).unwrap());
            assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        }
        let pairs = here.model().unwrap().parameters().into_iter().zip(there.model.parameters());
        for ((name, a), (_, b)) in pairs {
            let difference = (a - b).unwrap().abs().unwrap().sum_all().unwrap();
            assert!(difference.to_scalar::<f64>().unwrap() < 1e-12, "{name}");
        }
    }
}
