//! The character-level RNN as a candle module.
//!
//! ```text
//! a_t = tanh(wax x_t + waa a_{t-1} + b)      z_t = wya a_t + by
//! ```
//!
//! | tensor | shape | |
//! | --- | --- | --- |
//! | `wax` | (n_a, n_x) | input to hidden |
//! | `waa` | (n_a, n_a) | hidden to hidden |
//! | `wya` | (n_y, n_a) | hidden to output |
//! | `b` | (n_a) | hidden bias |
//! | `by` | (n_y) | output bias |
//!
//! `n_x = n_y` is the size of the vocabulary, `n_a` the number of hidden units, T the number of time
//! steps and B the number of sequences side by side.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{RNN, VarBuilder, VarMap};
//! use char_rnn::model::{Config, char_rnn};
//!
//! let vars = VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let rnn = char_rnn(Config { vocabulary: 27, hidden: 50 }, vb)?;
//!
//! let state = rnn.zero_state(1)?;
//! let state = rnn.step(&Tensor::new(&[3u32], &Device::Cpu)?, &state)?;
//! assert_eq!(rnn.logits(state.a())?.dims(), [1, 27]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use crate::data::{Batch, START, check_indices};
use crate::ops;
use candle_core::{D, DType, Device, Result, Tensor, Var, bail};
use candle_nn::{Init, Module, RNN, VarBuilder, VarMap};

/// The names of the parameters, in the order in which the notebook initialises them.
pub const PARAMETERS: [&str; 5] = ["wax", "waa", "wya", "b", "by"];

/// The standard deviation of the initial weights, the notebook's. Biases start at zero.
const WEIGHT_DEVIATION: f64 = 0.01;

/// Candle's kernels for GPUs count entries in 32 bits.
pub(crate) const MAX_ENTRIES: u128 = 1 << 32;

/// The two sizes that define the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// `n_x = n_y`: the number of characters, the end of a name included.
    pub vocabulary: usize,
    /// `n_a`: the number of hidden units.
    pub hidden: usize,
}

impl Config {
    /// The entries of the largest tensor of a minibatch with this many rows, where candle's kernels
    /// for GPUs cannot count them: they would loop for ever.
    pub(crate) fn too_many_entries(&self, rows: usize) -> Option<u128> {
        let count = rows as u128 * self.vocabulary.max(self.hidden) as u128;
        (count >= MAX_ENTRIES).then_some(count)
    }

    /// The most names to run side by side without a graph: enough to outweigh the overhead of a
    /// step, few enough that their states stay in the cache and their logits below 8 MiB.
    pub(crate) fn max_batch(&self) -> usize {
        ((1 << 20) / self.vocabulary).clamp(1, 256)
    }

    /// Refuses a size of 0, and parameters of more bytes than a machine can address.
    fn check(&self) -> Result<()> {
        let bytes =
            self.hidden.checked_mul(self.hidden.max(self.vocabulary)).map(|n| n as u128 * 8);
        match bytes.is_some_and(|bytes| (1..=isize::MAX as u128).contains(&bytes)) {
            true if self.vocabulary > 0 => Ok(()),
            _ => bail!("there is no network of these sizes: {self:?}"),
        }
    }

    /// The shape of the parameter `name` of [`PARAMETERS`].
    ///
    /// # Panics
    /// On any other name.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        let (n_x, n_a) = (self.vocabulary, self.hidden);
        match name {
            "wax" => vec![n_a, n_x],
            "waa" => vec![n_a, n_a],
            "wya" => vec![n_x, n_a],
            "b" => vec![n_a],
            "by" => vec![n_x],
            _ => panic!("the network has no parameter {name:?}"),
        }
    }
}

/// The hidden state after a step, (B, n_a).
#[derive(Debug, Clone)]
pub struct CharRnnState {
    a: Tensor,
}

impl CharRnnState {
    /// The state that holds `a`, (B, n_a).
    pub fn new(a: Tensor) -> Self {
        Self { a }
    }

    /// The hidden state, (B, n_a).
    pub fn a(&self) -> &Tensor {
        &self.a
    }
}

/// The network. A clone shares the parameters.
#[derive(Debug, Clone)]
pub struct CharRnn {
    wax: Tensor,
    waa: Tensor,
    wya: Tensor,
    b: Tensor,
    by: Tensor,
    config: Config,
}

/// Builds the network from the variables of `vb`, or creates them: weights normal with standard
/// deviation 0.01, biases zero, as in the notebook. Candle cannot seed its CPU generator; for
/// reproducible parameters see [`initialize`].
///
/// # Errors
/// Where a size is out of range, a variable of that name has another shape, or the device fails.
pub fn char_rnn(config: Config, vb: VarBuilder) -> Result<CharRnn> {
    config.check()?;
    let weight = Init::Randn { mean: 0., stdev: WEIGHT_DEVIATION };
    let get = |name: &str, init| vb.get_with_hints(config.shape(name), name, init);
    Ok(CharRnn {
        wax: get("wax", weight)?,
        waa: get("waa", weight)?,
        wya: get("wya", weight)?,
        b: get("b", candle_nn::init::ZERO)?,
        by: get("by", candle_nn::init::ZERO)?,
        config,
    })
}

/// The initial variables of a network, drawn from `normal`, a source of standard normal numbers, in
/// the order of the notebook's `initialize_parameters`: `wax`, `waa`, `wya`, row by row.
///
/// # Errors
/// Where a size is out of range, `dtype` is not a float or the device fails.
pub fn initialize(
    config: Config,
    mut normal: impl FnMut() -> f64,
    dtype: DType,
    device: &Device,
) -> Result<VarMap> {
    config.check()?;
    let vars = VarMap::new();
    for name in PARAMETERS {
        let shape = config.shape(name);
        let values = match shape.len() {
            1 => vec![0.; shape[0]],
            _ => (0..shape.iter().product())
                .map(|_| normal() * WEIGHT_DEVIATION)
                .collect::<Vec<f64>>(),
        };
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?;
        let var = Var::from_tensor(&tensor.to_device(device)?)?;
        vars.data().lock().expect("this map has no other holder yet").insert(name.to_string(), var);
    }
    Ok(vars)
}

/// The result of a forward pass over a minibatch.
#[derive(Debug)]
pub struct Loss {
    /// The sum over names and steps of `-ln softmax(z)[y]`, in nats: a scalar with a graph.
    pub loss: Tensor,
    /// The state of each name after its own last step, (B, n_a), without a graph.
    pub last: CharRnnState,
}

impl CharRnn {
    /// The sizes of the network.
    pub fn config(&self) -> Config {
        self.config
    }

    /// The number type of the parameters.
    pub fn dtype(&self) -> DType {
        self.waa.dtype()
    }

    /// The device the parameters are on.
    pub fn device(&self) -> &Device {
        self.waa.device()
    }

    /// The parameters with their names, in the order of [`PARAMETERS`].
    pub fn parameters(&self) -> [(&'static str, &Tensor); 5] {
        let tensors = [&self.wax, &self.waa, &self.wya, &self.b, &self.by];
        std::array::from_fn(|i| (PARAMETERS[i], tensors[i]))
    }

    /// The network with the same parameters, none of them a variable: what it computes has no graph.
    pub(crate) fn detached(&self) -> Self {
        self.map(|parameter| Ok(parameter.detach())).expect("nothing here fails")
    }

    /// The network with `f` of each parameter, which must not change a shape.
    pub(crate) fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            wax: f(&self.wax)?,
            waa: f(&self.waa)?,
            wya: f(&self.wya)?,
            b: f(&self.b)?,
            by: f(&self.by)?,
            config: self.config,
        })
    }

    /// The logits of the next character, `z = wya a + by`: (rows, n_a) to (rows, n_y).
    ///
    /// # Errors
    /// Where the shape does not fit, or the device fails.
    pub fn logits(&self, a: &Tensor) -> Result<Tensor> {
        ops::project_output(a, &self.wya, &self.by)
    }

    /// The input projection, `wax x + b`: (rows, n_x), or (rows) indices, to (rows, n_a).
    fn project(&self, input: &Tensor) -> Result<Tensor> {
        if input.dtype() == DType::U32 {
            return ops::project_input(input, &self.wax, &self.b);
        }
        input.matmul(&self.wax.t()?)?.broadcast_add(&self.b)
    }

    /// The loss of `batch` from the state `start`, by the fused ops of [`crate::ops`]: three graph
    /// nodes for any number of steps.
    ///
    /// # Errors
    /// Where the batch is empty, an index is outside the vocabulary, a shape does not fit, or the
    /// device fails.
    pub fn loss(&self, batch: &Batch, start: &CharRnnState) -> Result<Loss> {
        self.check_start(batch, start)?;
        let [x, y] = batch.x_and_y_on(self.device())?;
        let px = ops::project_input(&x, &self.wax, &self.b)?;
        let a = ops::recurrence(&px, &self.waa, &start.a)?;
        let z = self.logits(&batch.drop_out(&a)?)?;
        let loss = match batch.soft_targets_like(&z)? {
            Some(q) => ops::soft_cross_entropy(&z, &q)?,
            None => ops::cross_entropy(&z, &y)?,
        };
        self.with_last(loss, &a.detach(), batch)
    }

    /// The loss by candle's primitive ops, a graph node for each op of each time step: the notebook's
    /// `rnn_forward` line by line. It shares no code with [`loss`](Self::loss), and is slow.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn loss_unrolled(&self, batch: &Batch, start: &CharRnnState) -> Result<Loss> {
        self.check_start(batch, start)?;
        let (steps, size) = (batch.steps(), batch.size());
        let x = one_hot(batch.x(), self.config.vocabulary, self.dtype(), self.device())?
            .reshape((steps, size, self.config.vocabulary))?;
        let y = Tensor::from_slice(batch.y(), (steps, size, 1), self.device())?;
        let (q, mask) = (batch.soft_targets_like(&x)?, batch.dropout_like(&start.a)?);
        let mut a = start.a.clone();
        let mut states = Vec::with_capacity(steps);
        let mut loss = Tensor::zeros((), self.dtype(), self.device())?;
        for t in 0..steps {
            let from_input = x.get(t)?.matmul(&self.wax.t()?)?;
            let from_state = a.matmul(&self.waa.t()?)?;
            a = (from_input + from_state)?.broadcast_add(&self.b)?.tanh()?;
            let output = match &mask {
                Some(mask) => (&a * mask)?,
                None => a.clone(),
            };
            let z = output.matmul(&self.wya.t()?)?.broadcast_add(&self.by)?;
            let log_probabilities = candle_nn::ops::log_softmax(&z, D::Minus1)?;
            let picked = match &q {
                Some(q) => (log_probabilities * q.get(t)?)?,
                None => log_probabilities.gather(&y.get(t)?, D::Minus1)?,
            };
            loss = (loss - picked.sum_all()?)?;
            states.push(a.detach());
        }
        self.with_last(loss, &Tensor::cat(&states, 0)?, batch)
    }

    /// Checks that there are names, and the shapes of the state, the dropout mask and the soft
    /// targets: a state of another batch size could pass for one of more or fewer steps. For another
    /// device checks the indices too: the ops can on the CPU only.
    pub(crate) fn check_start(&self, batch: &Batch, start: &CharRnnState) -> Result<()> {
        let expected = [batch.size(), self.config.hidden];
        if batch.size() == 0 {
            bail!("the batch is empty");
        }
        if start.a.dims() != expected {
            bail!("the state is {:?}, but the batch needs {expected:?}", start.a.dims());
        }
        if batch.dropout().is_some_and(|mask| mask.len() != batch.size() * self.config.hidden) {
            bail!("the dropout mask is not {expected:?}");
        }
        let targets = [batch.y().len(), self.config.vocabulary];
        if batch.soft_targets().is_some_and(|q| q.len() != targets[0] * targets[1]) {
            bail!("the soft targets are not {targets:?}");
        }
        if !self.device().is_cpu() {
            if let Some(count) = self.config.too_many_entries(batch.x().len()) {
                bail!(
                    "a tensor of this batch would have {count} entries, and on a GPU they must be fewer \
                     than {MAX_ENTRIES}: use a smaller batch, or the CPU"
                );
            }
            batch.check_indices(self.config.vocabulary)?;
        }
        Ok(())
    }

    /// `loss` with the state after each name's last step, from all `states`, (T * B, n_a).
    fn with_last(&self, loss: Tensor, states: &Tensor, batch: &Batch) -> Result<Loss> {
        let last = match *batch.last_rows() {
            [row] => states.narrow(0, row as usize, 1)?,
            _ => states.index_select(&batch.last_rows_on(self.device())?, 0)?,
        };
        Ok(Loss { loss, last: CharRnnState::new(last) })
    }
}

/// Indices, (rows), as vectors, (rows, size); [`START`] and [`IGNORE_INDEX`](crate::data::IGNORE_INDEX)
/// are the zero vector.
///
/// # Errors
/// Where another index is not below `size`.
pub(crate) fn one_hot(
    indices: &[u32],
    size: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let is_hot = |index: &&u32| **index != START;
    check_indices(indices.iter().filter(is_hot), size)?;
    let mut rows = vec![0u8; indices.len() * size];
    for (row, &index) in rows.chunks_exact_mut(size).zip(indices) {
        if is_hot(&&index) {
            row[index as usize] = 1;
        }
    }
    Tensor::from_vec(rows, (indices.len(), size), device)?.to_dtype(dtype)
}

/// Requires an input for each state: more could pass for several steps.
fn check_rows(input: &Tensor, state: &CharRnnState) -> Result<()> {
    match (input.dim(0)?, state.a.dim(0)?) {
        (inputs, states) if inputs == states => Ok(()),
        (inputs, states) => bail!("there are {inputs} inputs, but {states} states"),
    }
}

impl RNN for CharRnn {
    type State = CharRnnState;

    fn zero_state(&self, batch_dim: usize) -> Result<Self::State> {
        let a = Tensor::zeros((batch_dim, self.config.hidden), self.dtype(), self.device())?;
        Ok(CharRnnState::new(a))
    }

    /// One step. The input is a batch of vectors, (B, n_x), or of u32 indices, (B), where
    /// [`START`] is the zero vector.
    fn step(&self, input: &Tensor, state: &Self::State) -> Result<Self::State> {
        check_rows(input, state)?;
        ops::recurrence(&self.project(input)?, &self.waa, &state.a).map(CharRnnState::new)
    }

    /// All steps as one graph node: vectors (B, T, n_x), or indices (B, T) as of
    /// [`step`](Self::step), to T states.
    fn seq_init(&self, input: &Tensor, init_state: &Self::State) -> Result<Vec<Self::State>> {
        let &[size, steps, ref features @ ..] = input.dims() else {
            bail!("the input is {:?}, not (B, T, n_x) or (B, T)", input.dims());
        };
        check_rows(input, init_state)?;
        let rows = input.transpose(0, 1)?.reshape([&[steps * size], features].concat())?;
        let a = ops::recurrence(&self.project(&rows)?, &self.waa, &init_state.a)?;
        (0..steps).map(|t| a.narrow(0, t * size, size).map(CharRnnState::new)).collect()
    }

    /// The states side by side, (B, T, n_a).
    fn states_to_tensor(&self, states: &[Self::State]) -> Result<Tensor> {
        let states: Vec<&Tensor> = states.iter().map(CharRnnState::a).collect();
        Tensor::stack(&states, 1)
    }
}

impl Module for CharRnn {
    /// The logits of whole sequences from the zero state: (B, T, n_x), or indices (B, T), to
    /// (B, T, n_y).
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (size, steps) = (input.dim(0)?, input.dim(1)?);
        let states = self.states_to_tensor(&self.seq(input)?)?;
        self.logits(&states.reshape((size * steps, self.config.hidden))?)?.reshape((
            size,
            steps,
            self.config.vocabulary,
        ))
    }
}
