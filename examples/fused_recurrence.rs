//! The fused recurrence, [`char_rnn::ops::recurrence`], in a candle model of your own.
//!
//! ```text
//! cargo run --release --example fused_recurrence
//! ```
//!
//! All time steps are one node of candle's graph. What comes before and after it is any candle code,
//! here candle-nn's layers, loss and optimizer.
//!
//! The task is an echo: the input is a random sequence of +1 and -1, the target the input
//! [`DELAY`] steps earlier. First the gradients are compared with those of candle's primitive ops.
//!
//! Shapes: T steps, B sequences, n hidden units. Rows are time-major: step `t` of sequence `i` is row
//! `t * B + i` of a (T * B, ..) tensor.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::init::DEFAULT_KAIMING_UNIFORM;
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear, loss};
use char_rnn::ops;

const DELAY: usize = 3;
const STEPS: usize = 20;
const BATCH: usize = 32;
const HIDDEN: usize = 24;
const ITERATIONS: usize = 200;

/// `a_t = tanh(input(x_t) + waa a_{t-1})`, `y_t = output(a_t)`.
struct Echo {
    /// With the bias of the recurrence.
    input: Linear,
    /// (n, n).
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

    /// (T * B, 1) to (T * B, 1), from the initial states `a0`, (B, n).
    fn forward(&self, x: &Tensor, a0: &Tensor) -> Result<Tensor> {
        let px = self.input.forward(x)?;
        let a = ops::recurrence(&px, &self.waa, a0)?;
        self.output.forward(&a)
    }

    /// The same in candle's primitive ops.
    fn forward_unrolled(&self, x: &Tensor, a0: &Tensor) -> Result<Tensor> {
        let px = self.input.forward(x)?;
        let (mut a, mut states) = (a0.clone(), vec![]);
        for px_t in px.chunk(STEPS, 0)? {
            a = (px_t + a.matmul(&self.waa.t()?)?)?.tanh()?;
            states.push(a.clone());
        }
        self.output.forward(&Tensor::cat(&states, 0)?)
    }
}

/// Inputs and targets, (T * B, 1); the first [`DELAY`] targets are 0.
fn sequences(dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
    let x = Tensor::rand(0f32, 1., (STEPS * BATCH, 1), device)?.ge(0.5)?;
    let x = x.to_dtype(dtype)?.affine(2., -1.)?;
    let echo = x.narrow(0, 0, (STEPS - DELAY) * BATCH)?.pad_with_zeros(0, DELAY * BATCH, 0)?;
    Ok((x, echo))
}

/// The largest difference between the gradients of the fused and the primitive ops.
fn largest_gradient_difference(device: &Device) -> Result<f64> {
    let vars = VarMap::new();
    let model = Echo::new(VarBuilder::from_varmap(&vars, DType::F64, device))?;
    let (x, echo) = sequences(DType::F64, device)?;
    let a0 = Var::randn(0f64, 1., (BATCH, HIDDEN), device)?;
    let fused = loss::mse(&model.forward(&x, &a0)?, &echo)?.backward()?;
    let unrolled = loss::mse(&model.forward_unrolled(&x, &a0)?, &echo)?.backward()?;
    let mut largest = 0f64;
    for var in vars.all_vars().iter().chain([&a0]) {
        let (Some(fused), Some(unrolled)) = (fused.get(var), unrolled.get(var)) else {
            candle_core::bail!("a variable has no gradient")
        };
        largest = largest.max((fused - unrolled)?.abs()?.max_all()?.to_scalar()?);
    }
    Ok(largest)
}

/// Returns the mean squared error of each iteration.
fn train(device: &Device) -> Result<Vec<f32>> {
    let vars = VarMap::new();
    let model = Echo::new(VarBuilder::from_varmap(&vars, DType::F32, device))?;
    let parameters = ParamsAdamW { lr: 0.01, weight_decay: 0., ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vars.all_vars(), parameters)?;
    let a0 = Tensor::zeros((BATCH, HIDDEN), DType::F32, device)?;
    let mut losses = vec![];
    for _ in 0..ITERATIONS {
        let (x, echo) = sequences(DType::F32, device)?;
        let loss = loss::mse(&model.forward(&x, &a0)?, &echo)?;
        optimizer.backward_step(&loss)?;
        losses.push(loss.to_scalar()?);
    }
    Ok(losses)
}

fn main() -> Result<()> {
    let difference = largest_gradient_difference(&Device::Cpu)?;
    println!("largest difference between fused and primitive gradients: {difference:.0e}\n");
    println!("iteration   mean squared error");
    for (iteration, loss) in train(&Device::Cpu)?.iter().enumerate().step_by(25) {
        println!("{iteration:9}   {loss:.4}");
    }
    Ok(())
}

#[test]
fn fused_gradients_equal_those_of_primitive_ops() {
    let difference = largest_gradient_difference(&Device::Cpu).unwrap();
    assert!(difference < 1e-14, "{difference}");
}

#[test]
fn training_reduces_the_error() {
    let losses = train(&Device::Cpu).unwrap();
    let (first, last) = (losses[0], losses[ITERATIONS - 1]);
    assert!(first > 0.5 && last < 0.1, "from {first} to {last}");
}
