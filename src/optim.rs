//! Clipping gradients and stepping down them.

use crate::ops::clipped_descent;
use candle_core::backprop::GradStore;
use candle_core::{Result, Var};
use candle_nn::Optimizer;

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

/// The settings of [`ClippedSgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClippedSgdConfig {
    /// The step along the gradient; the notebook has 0.01.
    pub learning_rate: f64,
    /// Each entry of a gradient is clamped to [-clip, clip]; the notebook has 5. Infinity
    /// clamps nothing.
    pub clip: f64,
}

impl Default for ClippedSgdConfig {
    fn default() -> Self {
        Self { learning_rate: 0.01, clip: 5. }
    }
}

/// Stochastic gradient descent on clamped gradients: `w -= learning_rate * clamp(g, -clip, clip)`.
#[derive(Debug)]
pub struct ClippedSgd {
    vars: Vec<Var>,
    config: ClippedSgdConfig,
}

impl Optimizer for ClippedSgd {
    type Config = ClippedSgdConfig;

    fn new(vars: Vec<Var>, config: ClippedSgdConfig) -> Result<Self> {
        let vars = vars.into_iter().filter(|var| var.dtype().is_float()).collect();
        Ok(Self { vars, config })
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        let ClippedSgdConfig { learning_rate, clip } = self.config;
        for var in &self.vars {
            if let Some(gradient) = gradients.get(var) {
                clipped_descent(var, gradient, learning_rate, clip)?;
            }
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.config.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.config.learning_rate = learning_rate;
    }
}
