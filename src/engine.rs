//! A training step by each of the ways back: forward, backward, clip, update.
//!
//! All ways mean the same and differ in where the gradient comes from. The hidden state is
//! carried from each step's names to the next's, cut from the graph.

use crate::batch::Batch;
use crate::bptt::{Bptt, Parameters};
use crate::bptt_tensors::loss_and_gradients;
use crate::kernels::{Element, update};
use crate::model::{CharRnn, CharRnnState, Config, PARAMETERS, char_rnn};
use crate::ops::{Float, scalar, with_float};
use crate::optim::{Algorithm, Descent, DescentConfig, Gradient};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
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
/// hidden state, (B, n_a), missing before the first batch, and for AdamW `adamw.step`, the number of
/// steps, a scalar of `F64`, and with `adamw.` before the name of each parameter its two running
/// means, (2, ...).
pub type Carried = BTreeMap<String, Tensor>;

/// What the names of AdamW's part begin with.
pub(crate) const ADAMW: &str = "adamw.";
const STEP: &str = "step";

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
        self.measured_step(batch, None)
    }

    /// The same, and measures the gradients where asked.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn measured_step(&mut self, batch: &Batch, gradients: Option<&mut Gradients>) -> Result<f64>;

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

/// The engine that trains `vars`, the variables of a network of this `config`, by `backprop`.
///
/// # Errors
/// Where the variables do not fit the network, or the way back does not fit their device.
pub fn engine(
    backprop: Backprop,
    config: Config,
    vars: &VarMap,
    optimizer: DescentConfig,
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
            optimizer: Descent::new(variables, optimizer)?,
            state: None,
        }),
        Backprop::Hand if !device.is_cpu() => {
            let optimizer = Descent::new(variables, optimizer)?;
            Box::new(HandOnDevice { model, optimizer, state: None })
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
    optimizer: Descent,
    state: Option<CharRnnState>,
}

impl Engine for Graph {
    fn measured_step(&mut self, batch: &Batch, gradients: Option<&mut Gradients>) -> Result<f64> {
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
        let found = loss.backward()?;
        if let Some(gradients) = gradients {
            for (measured, (_, parameter)) in gradients.iter_mut().zip(self.model.parameters()) {
                // What the loss does not depend on has no gradient.
                *measured = match found.get(parameter) {
                    Some(gradient) => Gradient::of_tensor(gradient, self.optimizer.config().clip)?,
                    None => Gradient::default(),
                };
            }
        }
        self.optimizer.step(&found)?;
        self.state = Some(forward.last);
        scalar(&loss)
    }

    fn clear_state(&mut self) {
        self.state = None;
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    fn model(&mut self) -> Result<&CharRnn> {
        Ok(&self.model)
    }

    fn carried(&self) -> Result<Carried> {
        carried_of(self.state.as_ref().map(|state| state.a().clone()), self.optimizer.state()?)
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        let (state, moments) = carried_in(carried, &self.model, self.optimizer.config().algorithm)?;
        if let Some((steps, moments)) = moments {
            self.optimizer.go_on(steps, &moments)?;
        }
        self.state = state;
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
    optimizer: DescentConfig,
    /// For AdamW, the number of steps, and of each parameter the two running means.
    steps: u64,
    moments: Vec<Vec<F>>,
}

impl<F: Float> Hand<F> {
    fn new(model: CharRnn, variables: Vec<Var>, optimizer: DescentConfig) -> Result<Self> {
        let Config { vocabulary, hidden } = model.config();
        let mut parameters = Parameters::zeros(hidden, vocabulary);
        for ((_, values), var) in parameters.tensors_mut().into_iter().zip(&variables) {
            values.copy_from_slice(&var.flatten_all()?.to_vec1()?);
        }
        let moments = match optimizer.algorithm {
            Algorithm::Sgd => Vec::new(),
            Algorithm::AdamW => {
                parameters.tensors().map(|(_, values)| vec![F::ZERO; 2 * values.len()]).into()
            }
        };
        Ok(Self {
            model,
            variables,
            ahead: false,
            parameters,
            bptt: Bptt::new(hidden, vocabulary),
            state: Vec::new(),
            optimizer,
            steps: 0,
            moments,
        })
    }

    fn descend(&mut self) {
        let DescentConfig { algorithm, learning_rate, clip, weight_decay } = self.optimizer;
        let gradients = self.bptt.gradients();
        if algorithm == Algorithm::Sgd {
            let (rate, clip) = (Element::from_f64(learning_rate), Element::from_f64(clip));
            return self.parameters.descend(gradients, rate, clip);
        }
        self.steps += 1;
        let step = update::AdamW::new(self.steps, learning_rate, weight_decay, clip);
        let pairs = self.parameters.tensors_mut().into_iter().zip(gradients.tensors());
        for (((_, w), (_, g)), moments) in pairs.zip(&mut self.moments) {
            update::adamw_moments(moments, g, &step);
            update::adamw_descent(w, moments, &step);
        }
    }
}

impl<F: Float> Engine for Hand<F> {
    fn measured_step(&mut self, batch: &Batch, gradients: Option<&mut Gradients>) -> Result<f64> {
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
        if let Some(gradients) = gradients {
            let found = self.bptt.gradients().tensors();
            let clip = Element::from_f64(self.optimizer.clip);
            *gradients = found.map(|(_, gradient)| Gradient::of::<F>(gradient, clip));
        }
        self.descend();
        self.bptt.last_states(batch.y(), &mut self.state);
        self.ahead = true;
        Ok(loss)
    }

    fn clear_state(&mut self) {
        self.state.clear();
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.learning_rate = learning_rate;
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
        let moments = self.moments.iter().zip(&self.variables).map(|(moments, var)| {
            Tensor::from_slice(moments, [&[2], var.dims()].concat(), &Device::Cpu)
        });
        carried_of(state, (self.steps, moments.collect::<Result<_>>()?))
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        let (state, moments) = carried_in(carried, &self.model, self.optimizer.algorithm)?;
        if let Some((steps, moments)) = moments {
            self.steps = steps;
            for (own, moments) in self.moments.iter_mut().zip(moments) {
                *own = moments.flatten_all()?.to_vec1()?;
            }
        }
        self.state = match state {
            Some(state) => state.a().flatten_all()?.to_vec1()?,
            None => Vec::new(),
        };
        Ok(())
    }
}

/// The hand-derived gradient where the parameters are not in this computer's memory.
struct HandOnDevice {
    model: CharRnn,
    optimizer: Descent,
    state: Option<CharRnnState>,
}

impl Engine for HandOnDevice {
    fn measured_step(&mut self, batch: &Batch, gradients: Option<&mut Gradients>) -> Result<f64> {
        let start = match self.state.take() {
            Some(state) => state,
            None => self.model.zero_state(batch.size())?,
        };
        let back = loss_and_gradients(&self.model, batch, &start)?;
        let scale = 1. / batch.size() as f64;
        let found: Vec<Tensor> =
            back.parameters.iter().map(|gradient| gradient * scale).collect::<Result<_>>()?;
        if let Some(gradients) = gradients {
            for (measured, gradient) in gradients.iter_mut().zip(&found) {
                *measured = Gradient::of_tensor(gradient, self.optimizer.config().clip)?;
            }
        }
        self.optimizer.step_along(found.iter().map(Some))?;
        self.state = Some(back.last);
        scalar(&(back.loss * scale)?)
    }

    fn clear_state(&mut self) {
        self.state = None;
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    fn model(&mut self) -> Result<&CharRnn> {
        Ok(&self.model)
    }

    fn carried(&self) -> Result<Carried> {
        carried_of(self.state.as_ref().map(|state| state.a().clone()), self.optimizer.state()?)
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        let (state, moments) = carried_in(carried, &self.model, self.optimizer.config().algorithm)?;
        if let Some((steps, moments)) = moments {
            self.optimizer.go_on(steps, &moments)?;
        }
        self.state = state;
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
        for algorithm in Algorithm::ALL {
            check_the_engine_for_other_devices(algorithm);
        }
    }

    fn check_the_engine_for_other_devices(algorithm: Algorithm) {
        let config = Config { vocabulary: 5, hidden: 6 };
        let optimizer =
            DescentConfig { algorithm, learning_rate: 0.1, clip: 0.5, weight_decay: 0.1 };
        let vars = || {
            let normals = Randomness::Seed(1).normals();
            initialize(config, normals, DType::F64, &Device::Cpu).unwrap()
        };
        let (here, there) = (vars(), vars());
        let variables = PARAMETERS.map(|name| there.data().lock().unwrap()[name].clone());
        let vb = VarBuilder::from_varmap(&there, DType::F64, &Device::Cpu);
        let model = char_rnn(config, vb).unwrap();
        let descent = Descent::new(variables.to_vec(), optimizer).unwrap();
        let mut there = HandOnDevice { model, optimizer: descent, state: None };
        let mut here = engine(Backprop::Hand, config, &here, optimizer).unwrap();
        let batch = Batch::new([&[1, 2, 3][..], &[4]]);
        for _ in 0..9 {
            let (mut g, mut h) = (Gradients::default(), Gradients::default());
            let a = here.measured_step(&batch, Some(&mut g)).unwrap();
            let b = there.measured_step(&batch, Some(&mut h)).unwrap();
            assert!((a - b).abs() < 1e-12, "{a} is not {b}");
            for (g, h) in g.into_iter().zip(h) {
                assert!((g.norm - h.norm).abs() < 1e-12 && g.clipped == h.clipped, "{g:?}, {h:?}");
            }
        }
        let pairs = here.model().unwrap().parameters().into_iter().zip(there.model.parameters());
        for ((name, a), (_, b)) in pairs {
            let difference = (a - b).unwrap().abs().unwrap().sum_all().unwrap();
            assert!(difference.to_scalar::<f64>().unwrap() < 1e-12, "{name}");
        }
    }
}
