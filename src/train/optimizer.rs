//! The optimizer: clipping, stochastic gradient descent, AdamW, and the learning rate schedule.

use crate::kernels::Element;
use crate::kernels::update::{AdamW, norm_and_clipped};
use crate::ops::{adamw_descent, adamw_moments, descend, primitive, values, with_float};
use crate::text::{name_variants, serialize_as_text};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var, bail};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Clamps every entry of the gradients of `vars` to [-max, max], as the notebook's `clip` does. A
/// variable without a gradient is skipped.
///
/// # Errors
/// Where `max` is negative or NaN, or the device fails.
pub fn clip(gradients: &mut GradStore, vars: &[Var], max: f64) -> Result<()> {
    // Also where no variable has a gradient.
    if max.is_nan() || max < 0. {
        bail!("gradients cannot be clipped to {max}");
    }
    for var in vars {
        if let Some(gradient) = gradients.get(var) {
            // Not in its own memory, which the caller may share.
            gradients.insert(var, primitive::clamp(gradient, max)?);
        }
    }
    Ok(())
}

/// Statistics of a gradient before it is clipped.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradientStats {
    /// Its norm, `sqrt(sum g^2)`; the largest number where that is not finite.
    pub norm: f64,
    /// The share of its entries that are clipped, from 0 to 1.
    pub clipped: f64,
}

impl GradientStats {
    pub(crate) fn of<F: Element>(gradient: &[F], clip: f64) -> Self {
        let (norm, clipped) = norm_and_clipped(gradient, F::from_f64(clip));
        let clipped = clipped as f64 / gradient.len() as f64;
        Self { norm: if norm.is_finite() { norm } else { f64::MAX }, clipped }
    }

    pub(crate) fn of_tensor(gradient: &Tensor, clip: f64) -> Result<Self> {
        let gradient = gradient.to_device(&Device::Cpu)?.contiguous()?;
        with_float!(gradient.dtype(), "a gradient", F => {
            values!(values: F = gradient);
            Ok(Self::of(values, clip))
        })
    }
}

/// The optimizer of the clipped gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum OptimizerKind {
    /// Stochastic gradient descent, the notebook's: `w -= learning_rate * g`.
    Sgd,
    /// AdamW with PyTorch's constants: Loshchilov and Hutter, "Decoupled weight decay
    /// regularization" (2019), algorithm 2.
    AdamW,
}

name_variants!(OptimizerKind, "optimizer": Sgd = "sgd", AdamW = "adamw");

/// The learning rate schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Decay {
    /// A constant rate, the notebook's.
    None,
    /// Half a cosine, from the full rate to zero after the last iteration.
    Cosine,
    /// A factor after every so many iterations.
    Step {
        /// Iterations between two reductions, above 0.
        every: u64,
        /// The factor, above 0 and at most 1.
        factor: f64,
    },
}

serialize_as_text!(Decay);

/// The valid forms of a [`Decay`].
pub(crate) const DECAYS: &str = "it must be none, cosine, or step:N:X, which multiplies the rate \
                                 by X, above 0 and at most 1, after every N iterations";

impl Decay {
    /// Whether its numbers are in their ranges.
    pub(crate) fn is_valid(&self) -> bool {
        match *self {
            Self::None | Self::Cosine => true,
            Self::Step { every, factor } => every > 0 && factor > 0. && factor <= 1.,
        }
    }

    /// The learning rate at `iteration`, counted from 0, of `iterations`, from the initial `rate`.
    ///
    /// ```
    /// use char_rnn::train::Decay;
    /// assert_eq!(Decay::Cosine.rate(0.01, 500, 1000), 0.005);
    /// assert_eq!(Decay::Step { every: 100, factor: 0.5 }.rate(0.01, 250, 1000), 0.0025);
    /// ```
    pub fn rate(self, rate: f64, iteration: u64, iterations: u64) -> f64 {
        match self {
            Self::None => rate,
            Self::Cosine => {
                let part = iteration as f64 / iterations as f64;
                rate * 0.5 * (1. + (std::f64::consts::PI * part).cos())
            }
            Self::Step { every, factor } => {
                rate * factor.powf(iteration.checked_div(every).unwrap_or(0) as f64)
            }
        }
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Cosine => f.write_str("cosine"),
            Self::Step { every, factor } => write!(f, "step:{every}:{factor}"),
        }
    }
}

impl FromStr for Decay {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let step = |(every, factor): (&str, &str)| {
            let (every, factor) = (every.parse().ok()?, factor.parse().ok()?);
            Some(Self::Step { every, factor }).filter(Self::is_valid)
        };
        match text {
            "none" => Ok(Self::None),
            "cosine" => Ok(Self::Cosine),
            _ => text
                .strip_prefix("step:")
                .and_then(|parts| parts.split_once(':'))
                .and_then(step)
                .ok_or_else(|| DECAYS.to_string()),
        }
    }
}

/// SGD or AdamW.
#[derive(Debug)]
pub(crate) struct Optimizer {
    vars: Vec<Var>,
    /// AdamW's two moments of each variable, (2, ...).
    moments: Vec<Var>,
    steps: u64,
    kind: OptimizerKind,
    weight_decay: f64,
}

impl Optimizer {
    pub fn new(vars: Vec<Var>, kind: OptimizerKind, weight_decay: f64) -> Result<Self> {
        let zeros = |var: &Var| Var::zeros([&[2], var.dims()].concat(), var.dtype(), var.device());
        let moments = match kind {
            OptimizerKind::Sgd => vec![],
            OptimizerKind::AdamW => vars.iter().map(zeros).collect::<Result<_>>()?,
        };
        Ok(Self { vars, moments, steps: 0, kind, weight_decay })
    }

    /// A step with `gradients` in the order of the variables.
    pub fn step_with(&mut self, gradients: &[Tensor], learning_rate: f64) -> Result<()> {
        self.steps += 1;
        let steps = self.vars.iter().zip(gradients);
        match self.kind {
            OptimizerKind::Sgd => {
                for (var, gradient) in steps {
                    descend(var, gradient, learning_rate)?;
                }
            }
            OptimizerKind::AdamW => {
                let step = AdamW::new(self.steps, learning_rate, self.weight_decay);
                for ((var, gradient), moments) in steps.zip(&self.moments) {
                    adamw_moments(moments, gradient)?;
                    adamw_descent(var, moments, &step)?;
                }
            }
        }
        Ok(())
    }

    /// The variables.
    pub fn vars(&self) -> &[Var] {
        &self.vars
    }

    /// The number of steps taken, and AdamW's moments in the order of the variables, (2, ...) each.
    pub fn state(&self) -> (u64, &[Var]) {
        (self.steps, &self.moments)
    }

    /// Continues from the state of another optimizer.
    pub fn load_state(&mut self, steps: u64, moments: &[Tensor]) -> Result<()> {
        if moments.len() != self.moments.len() {
            bail!("there are {} moments, not {}", moments.len(), self.moments.len());
        }
        for (var, moments) in self.moments.iter().zip(moments) {
            var.set(&moments.to_dtype(var.dtype())?.to_device(var.device())?.contiguous()?)?;
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::clamp;
    use candle_core::safetensors;
    use proptest::prelude::*;

    fn adamw(var: &Var, weight_decay: f64) -> Optimizer {
        Optimizer::new(vec![var.clone()], OptimizerKind::AdamW, weight_decay).unwrap()
    }

    /// The fixture is PyTorch's: `scripts/make_fixtures.py`.
    #[test]
    fn adamw_with_clipping_and_a_cosine_schedule_matches_pytorch() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/adamw.safetensors");
        let fixture = safetensors::load(path, &Device::Cpu).unwrap();
        let w = Var::from_tensor(&fixture["start"]).unwrap();
        let mut optimizer = adamw(&w, 0.1);
        for step in 0..200 {
            let rate = Decay::Cosine.rate(0.05, step as u64, 200);
            let mut gradient = fixture["gradients"].get(step).unwrap().copy().unwrap();
            clamp(&mut gradient, 0.8).unwrap();
            optimizer.step_with(&[gradient], rate).unwrap();
            let expected = fixture["weights"].get(step).unwrap();
            let difference = (w.as_tensor() - expected).unwrap().abs().unwrap().max_all().unwrap();
            let difference = difference.to_scalar::<f64>().unwrap();
            assert!(difference < 1e-14, "step {step}: {difference:e}");
        }
    }

    #[test]
    fn an_optimizer_with_a_loaded_state_takes_the_same_steps() {
        let w = Var::new(&[1f32, 2., 3.], &Device::Cpu).unwrap();
        let gradients = [Tensor::new(&[0.5f32, -9., 0.], &Device::Cpu).unwrap()];
        let mut first = adamw(&w, 0.01);
        for _ in 0..3 {
            first.step_with(&gradients, 0.01).unwrap();
        }
        let copy = Var::from_tensor(&w.copy().unwrap()).unwrap();
        let mut second = adamw(&copy, 0.01);
        let (steps, moments) = first.state();
        second.load_state(steps, &[moments[0].as_tensor().copy().unwrap()]).unwrap();
        for _ in 0..3 {
            first.step_with(&gradients, 0.01).unwrap();
            second.step_with(&gradients, 0.01).unwrap();
        }
        assert_eq!(w.to_vec1::<f32>().unwrap(), copy.to_vec1::<f32>().unwrap());
        assert!(second.load_state(1, &[]).is_err());
    }

    proptest! {
        #[test]
        fn a_schedule_reads_back_as_written(every in 1u64.., factor in 1e-300f64..=1.) {
            for decay in [Decay::None, Decay::Cosine, Decay::Step { every, factor }] {
                prop_assert_eq!(decay.to_string().parse::<Decay>().unwrap(), decay);
            }
        }

        #[test]
        fn a_rate_never_rises_and_stays_within_its_bounds(
            rate in 1e-9f64..1e9, every in 1u64..100, factor in 1e-3f64..=1., n in 1u64..500,
        ) {
            for decay in [Decay::None, Decay::Cosine, Decay::Step { every, factor }] {
                let rates: Vec<f64> = (0..n).map(|i| decay.rate(rate, i, n)).collect();
                prop_assert_eq!(rates[0], rate);
                prop_assert!(rates.is_sorted_by(|a, b| a >= b && *b >= 0.), "{decay}: {rates:?}");
            }
        }
    }

    #[test]
    fn malformed_schedules_are_refused() {
        for text in [
            "",
            "linear",
            "step",
            "step:10",
            "step:0:0.5",
            "step:5:0",
            "step:5:1.5",
            "step:5:nan",
            "step:-1:0.5",
            "cosine:3",
        ] {
            assert!(text.parse::<Decay>().is_err(), "{text:?}");
        }
    }
}
