//! One training step, the notebook's `optimize`: forward, backward, clip, update.

use super::config::TrainConfig;
use super::factors::{FACTORS, Factors};
use super::gradients::GradientMethod;
use super::hand::OnSlices;
use super::observer::Stats;
use super::optimizer::{Optimizer, OptimizerKind};
use super::step::{Network, Step};
use super::tensors::OnTensors;
use crate::data::Batch;
use crate::model::{CharRnn, CharRnnState, Config, PARAMETERS, char_rnn};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::{VarBuilder, VarMap};
use std::collections::BTreeMap;

/// What training continues from beside the parameters, by name: `a`, the hidden state, (B, n_a),
/// absent before the first step; with a factored input `projection` and `embedding`; for AdamW
/// `adamw.step`, the number of steps, a scalar of `F64`, and with `adamw.` before the name of each
/// variable its two moments, (2, ...).
pub type OptimizeState = BTreeMap<String, Tensor>;

const ADAMW: &str = "adamw.";
const STEP: &str = "adamw.step";

/// The notebook's `optimize`.
pub(crate) struct Optimize {
    network: Network,
    step: Box<dyn Step>,
    clip: f64,
}

impl Optimize {
    /// The network of `vars`, its variables by the names of [`PARAMETERS`].
    ///
    /// # Errors
    /// Where the variables do not fit the network.
    pub fn new(network: Config, vars: &VarMap, config: &TrainConfig) -> Result<Self> {
        let mut variables: Vec<Var> = {
            let vars = vars.data().lock().expect("no holder of this map panics");
            let found: Option<_> = PARAMETERS.iter().map(|&name| vars.get(name).cloned()).collect();
            match found {
                Some(variables) => variables,
                None => bail!("the network's variables are {PARAMETERS:?}"),
            }
        };
        let device = variables[0].device().clone();
        let model = char_rnn(network, VarBuilder::from_varmap(vars, config.dtype, &device))?;
        let mut factors = None;
        if config.factored_input {
            let new = Factors::new(network, config.seed.normals(), variables[0].clone())?;
            variables.splice(..1, new.vars().clone());
            factors = Some(new);
        }
        let optimizer = Optimizer::new(variables, config.optimizer, config.weight_decay)?;
        let is_on_slices = config.backprop == GradientMethod::Hand && device.is_cpu();
        let step: Box<dyn Step> = match config.dtype {
            DType::F32 if is_on_slices => Box::new(OnSlices::<f32>::new(network, config)),
            DType::F64 if is_on_slices => Box::new(OnSlices::<f64>::new(network, config)),
            _ => Box::new(OnTensors::new(config.backprop, config.carry_state)),
        };
        let network = Network { model, optimizer, factors };
        let mut optimize = Self { network, step, clip: config.clip };
        optimize.step.load(&optimize.network, None)?;
        Ok(optimize)
    }

    /// Forward, backward, clip, update. Returns the loss in nats, summed over the steps and averaged
    /// over the names; `stats` receives the statistics of the gradients before they are clipped.
    pub fn optimize(
        &mut self,
        batch: &Batch,
        learning_rate: f64,
        stats: Option<&mut Stats>,
    ) -> Result<f64> {
        self.step.forward(&self.network, batch)?;
        self.step.backward(&self.network, batch)?;
        self.step.clip(self.clip, stats)?;
        self.step.update(&mut self.network, learning_rate)?;
        self.step.loss()
    }

    /// The network with its current parameters.
    pub fn model(&mut self) -> Result<&CharRnn> {
        self.step.store(&mut self.network)?;
        Ok(&self.network.model)
    }

    /// What the next step continues from. Another network in training with the same parameters that
    /// [loads](Self::load_state) it takes the same steps, to the last bit.
    pub fn state(&mut self) -> Result<OptimizeState> {
        let mut state = OptimizeState::new();
        if let Some(last) = self.step.store(&mut self.network)? {
            state.insert("a".to_string(), last.a().clone());
        }
        let Network { optimizer, factors, .. } = &self.network;
        let (steps, moments) = optimizer.state();
        for (name, var) in FACTORS.iter().zip(factors.iter().flat_map(Factors::vars)) {
            state.insert(name.to_string(), var.as_detached_tensor().copy()?);
        }
        for (name, moments) in trained_names(factors.is_some()).iter().zip(moments) {
            let moments = moments.as_detached_tensor().copy()?;
            state.insert(format!("{ADAMW}{name}"), moments);
            state.insert(STEP.to_string(), Tensor::new(steps as f64, &Device::Cpu)?);
        }
        Ok(state)
    }

    /// Continues from `state`, which [`check_state`] has accepted, in this network's number type and
    /// on its device.
    pub fn load_state(&mut self, state: &OptimizeState) -> Result<()> {
        let Network { model, optimizer, factors } = &mut self.network;
        let (dtype, device, hidden) = (model.dtype(), model.device(), model.config().hidden);
        let own = |tensor: &Tensor| tensor.to_dtype(dtype)?.to_device(device)?.contiguous();
        if let Some(a) = state.get("a").filter(|a| a.dims().get(1..) != Some(&[hidden])) {
            bail!("the state \"a\" is {:?}, not (B, {hidden})", a.dims());
        }
        let last = state.get("a").map(own).transpose()?.map(CharRnnState::new);
        if let Some(steps) = state.get(STEP) {
            let steps = steps.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            if !(0. ..9e15).contains(&steps) {
                bail!("{STEP} cannot be {steps}");
            }
            let names = trained_names(factors.is_some());
            let moments = names.iter().filter_map(|name| state.get(&format!("{ADAMW}{name}")));
            let moments: Vec<Tensor> = moments.map(own).collect::<Result<_>>()?;
            optimizer.load_state(steps as u64, &moments)?;
        }
        if let Some(factors) = factors {
            for (name, var) in FACTORS.iter().zip(factors.vars()) {
                let Some(values) = state.get(*name) else { bail!("the state has no {name:?}") };
                var.set(&own(values)?)?;
            }
            factors.update_wax()?;
        }
        self.step.load(&self.network, last)
    }
}

/// The names of the variables that the optimizer updates.
fn trained_names(factored_input: bool) -> Vec<&'static str> {
    match factored_input {
        true => [&FACTORS, &PARAMETERS[1..]].concat(),
        false => PARAMETERS.to_vec(),
    }
}

/// Keeps of `state`, of a run with the configuration `before`, what a run with `now` continues from.
pub(crate) fn keep_state(state: &OptimizeState, now: &TrainConfig) -> OptimizeState {
    let mut state = state.clone();
    if state.get("a").is_some_and(|a| a.dims().first() != Some(&now.batch_size)) {
        state.remove("a");
    }
    if now.optimizer != OptimizerKind::AdamW {
        state.retain(|name, _| !name.starts_with(ADAMW));
    }
    state
}

/// Checks that `state` is what a run of `config` leaves: names and shapes.
pub(crate) fn check_state(
    state: &OptimizeState,
    network: Config,
    config: &TrainConfig,
) -> std::result::Result<(), String> {
    let mut shapes = BTreeMap::from([("a".to_string(), vec![config.batch_size, network.hidden])]);
    let factors = FACTORS.iter().zip(Factors::shapes(network));
    let factors: BTreeMap<&str, Vec<usize>> =
        factors.map(|(&name, shape)| (name, shape.to_vec())).collect();
    if config.factored_input {
        shapes.extend(factors.iter().map(|(name, shape)| (name.to_string(), shape.clone())));
    }
    if config.optimizer == OptimizerKind::AdamW {
        shapes.insert(STEP.to_string(), vec![]);
        for name in trained_names(config.factored_input) {
            let shape = factors.get(name).cloned().unwrap_or_else(|| network.shape(name));
            shapes.insert(format!("{ADAMW}{name}"), [&[2], &*shape].concat());
        }
    }
    if let Some(name) = state.keys().find(|name| !shapes.contains_key(*name)) {
        return Err(format!("it has a state {name:?}"));
    }
    for (name, shape) in &shapes {
        match state.get(name) {
            Some(tensor) if tensor.dims() == shape => {}
            Some(tensor) => {
                return Err(format!("its state {name:?} is {:?}, not {shape:?}", tensor.dims()));
            }
            None => return Err(format!("it has no state {name:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::initialize;
    use crate::random::RngSource;

    #[test]
    fn an_index_outside_the_vocabulary_is_refused_by_every_method() {
        let network = Config { vocabulary: 4, hidden: 3 };
        for backprop in GradientMethod::ALL {
            for batch_size in [1, 2] {
                let config = TrainConfig { backprop, batch_size, ..TrainConfig::default() };
                let normals = RngSource::Seed(2).normals();
                let vars = initialize(network, normals, config.dtype, &Device::Cpu).unwrap();
                let mut optimize = Optimize::new(network, &vars, &config).unwrap();
                let names = |last| (0..batch_size).map(move |_| last);
                assert!(optimize.optimize(&Batch::new(names(&[1, 3][..])), 0.1, None).is_ok());
                assert!(optimize.optimize(&Batch::new(names(&[1, 4][..])), 0.1, None).is_err());
            }
        }
    }
}
