//! Clipping gradients and stepping down them.

use crate::kernels::Element;
use crate::kernels::update::{AdamW, norm_and_clipped};
use crate::ops::{adamw_descent, adamw_moments, clipped_descent, values, with_float};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use candle_nn::Optimizer;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Clamps each gradient of `vars` to [-max, max], the notebook's `clip`. A variable without a
/// gradient is passed over.
///
/// # Errors
/// Where the device fails.
pub fn clip(gradients: &mut GradStore, vars: &[Var], max: f64) -> Result<()> {
    for var in vars {
        if let Some(gradient) = gradients.get(var) {
            let clipped = gradient.clamp(-max, max)?;
            gradients.insert(var, clipped);
        }
    }
    Ok(())
}

/// What a gradient was like before it was clipped.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Gradient {
    /// Its norm, `sqrt(sum g^2)`; the largest number where that is not finite.
    pub norm: f64,
    /// The share of its entries that are clipped, from 0 to 1.
    pub clipped: f64,
}

impl Gradient {
    /// Measures a gradient.
    pub(crate) fn of<F: Element>(gradient: &[F], clip: F) -> Self {
        let (norm, clipped) = norm_and_clipped(gradient, clip);
        let clipped = clipped as f64 / gradient.len() as f64;
        Self { norm: if norm.is_finite() { norm } else { f64::MAX }, clipped }
    }

    /// The same of a tensor.
    ///
    /// # Errors
    /// Where the type is not `F32` or `F64`, or the device fails.
    pub fn of_tensor(gradient: &Tensor, clip: f64) -> Result<Self> {
        let gradient = match gradient.device().is_cpu() {
            true => gradient.contiguous()?,
            // Its own entries: to move a part of a tensor is to move the whole.
            false => gradient.force_contiguous()?.to_device(&candle_core::Device::Cpu)?,
        };
        with_float!(gradient.dtype(), "a gradient", F => {
            values!(values: F = gradient);
            Ok(Self::of(values, Element::from_f64(clip)))
        })
    }
}

/// How the weights follow from the clipped gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Stochastic gradient descent, the notebook's: `w -= learning_rate * g`.
    #[default]
    Sgd,
    /// AdamW, with PyTorch's constants: [`crate::kernels::update`] has the equations.
    AdamW,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 2] = [Self::Sgd, Self::AdamW];
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sgd => "sgd",
            Self::AdamW => "adamw",
        })
    }
}

/// How the learning rate falls as training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Decay {
    /// It does not: the notebook's.
    #[default]
    None,
    /// Along half a cosine, from the full rate to zero after the last iteration.
    Cosine,
    /// By a factor, after each so many iterations.
    Step {
        /// How many iterations lie between two falls, above 0.
        every: u64,
        /// What is left of the rate after each, above 0 and at most 1.
        factor: f64,
    },
}

/// What a decay may be.
pub(crate) const DECAYS: &str = "it must be none, cosine, or step:N:X: after each N iterations, \
                                 times X, which is above 0 and at most 1";

impl Decay {
    /// Whether its numbers are in their ranges.
    pub(crate) fn is_good(&self) -> bool {
        match *self {
            Self::None | Self::Cosine => true,
            Self::Step { every, factor } => every > 0 && factor > 0. && factor <= 1.,
        }
    }

    /// The learning rate at `iteration`, counted from 0, of `iterations`.
    ///
    /// ```
    /// use char_rnn::optim::Decay;
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

/// As on the command line.
impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Cosine => f.write_str("cosine"),
            Self::Step { every, factor } => write!(f, "step:{every}:{factor}"),
        }
    }
}

impl From<Decay> for String {
    fn from(decay: Decay) -> Self {
        decay.to_string()
    }
}

impl TryFrom<String> for Decay {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Decay {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let step = |(every, factor): (&str, &str)| {
            let (every, factor) = (every.parse().ok()?, factor.parse().ok()?);
            Some(Self::Step { every, factor }).filter(Self::is_good)
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

/// The settings of [`Descent`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DescentConfig {
    /// How the weights follow from the clipped gradients.
    pub algorithm: Algorithm,
    /// The step along them; the notebook has 0.01.
    pub learning_rate: f64,
    /// Each entry of a gradient is clamped to [-clip, clip]; the notebook has 5. Infinity
    /// clamps nothing.
    pub clip: f64,
    /// AdamW's decay: a step takes `learning_rate * weight_decay` of each weight away. No use to
    /// SGD.
    pub weight_decay: f64,
}

impl Default for DescentConfig {
    fn default() -> Self {
        let (algorithm, weight_decay) = (Algorithm::Sgd, 0.01);
        Self { algorithm, learning_rate: 0.01, clip: 5., weight_decay }
    }
}

/// An optimizer that clamps each entry of the gradients, and then goes down them.
#[derive(Debug)]
pub struct Descent {
    vars: Vec<Var>,
    /// For AdamW, of each variable the two running means, as one tensor with a first dimension of 2.
    moments: Vec<Var>,
    steps: u64,
    config: DescentConfig,
}

impl Descent {
    /// The settings.
    pub fn config(&self) -> &DescentConfig {
        &self.config
    }

    /// A step along gradients that stand in the order of the variables.
    ///
    /// # Errors
    /// Where a shape does not fit, or the device fails.
    pub fn step_along<'t>(
        &mut self,
        gradients: impl IntoIterator<Item = Option<&'t Tensor>>,
    ) -> Result<()> {
        let DescentConfig { algorithm, learning_rate, clip, weight_decay } = self.config;
        self.steps += 1;
        for (i, (var, gradient)) in self.vars.iter().zip(gradients).enumerate() {
            let Some(gradient) = gradient else { continue };
            match algorithm {
                Algorithm::Sgd => clipped_descent(var, gradient, learning_rate, clip)?,
                Algorithm::AdamW => {
                    let step = AdamW::new(self.steps, learning_rate, weight_decay, clip);
                    adamw_moments(&self.moments[i], gradient, &step)?;
                    adamw_descent(var, &self.moments[i], &step)?;
                }
            }
        }
        Ok(())
    }

    /// How many steps were taken, and AdamW's running means in the order of the variables, each
    /// with a first dimension of 2.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn state(&self) -> Result<(u64, Vec<Tensor>)> {
        let moments = self.moments.iter().map(|moments| moments.as_detached_tensor().copy());
        Ok((self.steps, moments.collect::<Result<_>>()?))
    }

    /// Goes on from the state that another one left.
    ///
    /// # Errors
    /// Where a shape does not fit, or the device fails.
    pub fn go_on(&mut self, steps: u64, moments: &[Tensor]) -> Result<()> {
        if moments.len() != self.moments.len() {
            bail!("there are {} running means, not {}", moments.len(), self.moments.len());
        }
        for (own, moments) in self.moments.iter().zip(moments) {
            own.set(&moments.to_dtype(own.dtype())?.to_device(own.device())?.contiguous()?)?;
        }
        self.steps = steps;
        Ok(())
    }
}

impl Optimizer for Descent {
    type Config = DescentConfig;

    fn new(vars: Vec<Var>, config: DescentConfig) -> Result<Self> {
        let vars: Vec<Var> = vars.into_iter().filter(|var| var.dtype().is_float()).collect();
        let moments = match config.algorithm {
            Algorithm::Sgd => Vec::new(),
            Algorithm::AdamW => vars
                .iter()
                .map(|var| {
                    let shape = [&[2], var.dims()].concat();
                    Var::zeros(shape, var.dtype(), var.device())
                })
                .collect::<Result<_>>()?,
        };
        Ok(Self { vars, moments, steps: 0, config })
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        let found: Vec<Option<&Tensor>> = self.vars.iter().map(|var| gradients.get(var)).collect();
        self.step_along(found)
    }

    fn learning_rate(&self) -> f64 {
        self.config.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.config.learning_rate = learning_rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use proptest::prelude::*;

    #[test]
    fn an_optimizer_that_goes_on_from_anothers_state_takes_the_same_steps() {
        let config = DescentConfig { algorithm: Algorithm::AdamW, ..DescentConfig::default() };
        let whole = Var::new(&[1f32, 2., 3.], &Device::Cpu).unwrap();
        let mut first = Descent::new(vec![whole.clone()], config).unwrap();
        let gradient = Tensor::new(&[0.5f32, -9., 0.], &Device::Cpu).unwrap();
        for _ in 0..3 {
            first.step_along([Some(&gradient)]).unwrap();
        }
        let other = Var::from_tensor(&whole.copy().unwrap()).unwrap();
        let mut second = Descent::new(vec![other.clone()], config).unwrap();
        let (steps, moments) = first.state().unwrap();
        second.go_on(steps, &moments).unwrap();
        for _ in 0..3 {
            first.step_along([Some(&gradient)]).unwrap();
            second.step_along([Some(&gradient)]).unwrap();
        }
        assert_eq!(whole.to_vec1::<f32>().unwrap(), other.to_vec1::<f32>().unwrap());
        assert!(second.go_on(1, &[]).is_err());
    }

    proptest! {
        #[test]
        fn a_decay_is_read_as_it_is_written(every in 1u64.., factor in 1e-300f64..=1.) {
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
    fn what_is_no_decay_is_refused() {
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
