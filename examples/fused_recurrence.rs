//! The fused recurrence in a candle model of your own.
//!
//! ```text
//! cargo run --release --example fused_recurrence
//! ```
//!
//! A vanilla RNN written with candle-nn slices its input and calls its layers at every time step,
//! and candle's graph grows by several nodes each time. [`char_rnn::ops::recurrence`] is all steps
//! as one node. It knows nothing of names or characters: whatever comes before and after it is
//! yours, and candle's autograd goes through it like through any op.
//!
//! The model here is an echo: it hears a random sequence of +1 and -1 and has to say, at every
//! step, what it heard [`DELAY`] steps ago. It is trained with candle-nn's layers, loss and
//! optimiser. Before that, the gradients through the fused op are compared with those through
//! candle's own ops, one step at a time.
//!
//! Shapes: T steps, B sequences side by side, n hidden units. Rows are time-major: step `t` of
//! sequence `i` is row `t * B + i` of a (T * B, ..) tensor.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::init::DEFAULT_KAIMING_UNIFORM;
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear, loss};
use char_rnn::ops;

/// How many steps the echo lags behind.
const DELAY: usize = 3;
const STEPS: usize = 20;
const BATCH: usize = 32;
const HIDDEN: usize = 24;
const ITERATIONS: usize = 200;

/// `a_t = tanh(input(x_t) + waa a_{t-1})`, `y_t = output(a_t)`.
struct Echo {
    /// Brings the bias of the recurrence, too.
    input: Linear,
    /// Hidden to hidden, (n, n).
    waa: Tensor,
    output: Linear,
}

impl Echo {
    fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            input: linear(1, HIDDEN, vb.pp("input"))?,
            waa: vb.get_with_hints((HIDDEN, HIDDEN), "waa", DEFAULT_KAIMING_UNIFORM)?,
            output: linear(HIDDEN, 1, vb.pp("output"))?,
        })
    }

    /// What it says to `x`: (T * B, 1) to (T * B, 1), from the first state `a0`, (B, n).
    fn forward(&self, x: &Tensor, a0: &Tensor) -> Result<Tensor> {
        // What does not depend on the state is computed for all steps at once, ...
        let px = self.input.forward(x)?;
        // ... the part that does is one node, ...
        let a = ops::recurrence(&px, &self.waa, a0)?;
        // ... and all states, (T * B, n), go on together.
        self.output.forward(&a)
    }

    /// The same by candle's own ops, a few nodes a step: what the line above replaces.
    fn forward_step_by_step(&self, x: &Tensor, a0: &Tensor) -> Result<Tensor> {
        let px = self.input.forward(x)?;
        let batch = a0.dim(0)?;
        let mut a = a0.clone();
        let mut states = Vec::new();
        for t in 0..px.dim(0)? / batch {
            let from_state = a.matmul(&self.waa.t()?)?;
            a = (px.narrow(0, t * batch, batch)? + from_state)?.tanh()?;
            states.push(a.clone());
        }
        self.output.forward(&Tensor::cat(&states, 0)?)
    }
}

/// Random sequences of +1 and -1, (T * B, 1), and their echoes, 0 while there is nothing to repeat.
fn sequences(dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
    let x = Tensor::rand(0f32, 1., (STEPS * BATCH, 1), device)?.ge(0.5)?;
    let x = x.to_dtype(dtype)?.affine(2., -1.)?;
    let silence = Tensor::zeros((DELAY * BATCH, 1), dtype, device)?;
    let echo = Tensor::cat(&[&silence, &x.narrow(0, 0, (STEPS - DELAY) * BATCH)?], 0)?;
    Ok((x, echo))
}

/// The largest difference between the two ways' gradients, over all variables and the first state.
fn largest_gradient_difference(device: &Device) -> Result<f64> {
    let vars = VarMap::new();
    let model = Echo::new(VarBuilder::from_varmap(&vars, DType::F64, device))?;
    let (x, echo) = sequences(DType::F64, device)?;
    let a0 = Var::randn(0f64, 1., (BATCH, HIDDEN), device)?;
    let fused = loss::mse(&model.forward(&x, &a0)?, &echo)?.backward()?;
    let stepwise = loss::mse(&model.forward_step_by_step(&x, &a0)?, &echo)?.backward()?;
    let mut largest = 0f64;
    for var in vars.all_vars().iter().chain([&a0]) {
        let (Some(fused), Some(stepwise)) = (fused.get(var), stepwise.get(var)) else {
            candle_core::bail!("a variable has no gradient")
        };
        let difference = (fused - stepwise)?.abs()?.max_all()?.to_scalar::<f64>()?;
        largest = largest.max(difference);
    }
    Ok(largest)
}

/// Trains an echo. Returns the loss, a mean squared error, of each iteration.
fn train(device: &Device) -> Result<Vec<f32>> {
    let vars = VarMap::new();
    let model = Echo::new(VarBuilder::from_varmap(&vars, DType::F32, device))?;
    let settings = ParamsAdamW { lr: 0.01, weight_decay: 0., ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vars.all_vars(), settings)?;
    let a0 = Tensor::zeros((BATCH, HIDDEN), DType::F32, device)?;
    (0..ITERATIONS)
        .map(|_| {
            let (x, echo) = sequences(DType::F32, device)?;
            let loss = loss::mse(&model.forward(&x, &a0)?, &echo)?;
            optimizer.backward_step(&loss)?;
            loss.to_scalar()
        })
        .collect()
}

fn main() -> Result<()> {
    let device = Device::Cpu;
    let difference = largest_gradient_difference(&device)?;
    println!("fused and step-by-step gradients differ by {difference:.0e} at most\n");
    println!("iteration   mean squared error");
    for (iteration, loss) in train(&device)?.iter().enumerate().step_by(25) {
        println!("{iteration:9}   {loss:.4}");
    }
    Ok(())
}

#[test]
fn fused_gradients_equal_those_of_candles_own_ops() {
    let difference = largest_gradient_difference(&Device::Cpu).unwrap();
    assert!(difference < 1e-14, "{difference}");
}

#[test]
fn the_echo_is_learned() {
    let losses = train(&Device::Cpu).unwrap();
    let (first, last) = (losses[0], losses[ITERATIONS - 1]);
    assert!(first > 0.5 && last < 0.1, "from {first} to {last}");
}
