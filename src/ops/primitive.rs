//! What each op of [`super`] means, in candle's primitive ops: the definition that the tests hold
//! the fused ops to, and what runs on a device for which there is no kernel.

use crate::kernels::NONE;
use crate::kernels::update::{AdamW, BETA_1, BETA_2, EPSILON};
use candle_core::{D, Result, Tensor, Var};

/// As [`super::project_input`].
///
/// # Errors
/// Where the shapes do not fit or an index is outside (0 .. n_x).
pub fn project_input(x: &Tensor, wax: &Tensor, b: &Tensor) -> Result<Tensor> {
    // Candle selects zeros for the largest index, which is NONE.
    wax.t()?.contiguous()?.index_select(x, 0)?.broadcast_add(b)
}

/// As [`super::recurrence`], four nodes a step.
///
/// # Errors
/// Where the shapes do not fit.
pub fn recurrence(px: &Tensor, waa: &Tensor, a0: &Tensor) -> Result<Tensor> {
    let batch = a0.dim(0)?;
    let waa_t = waa.t()?;
    let mut a = a0.clone();
    let mut states = Vec::new();
    for first in (0..px.dim(0)?).step_by(batch.max(1)) {
        a = (px.narrow(0, first, batch)? + a.matmul(&waa_t)?)?.tanh()?;
        states.push(a.clone());
    }
    Tensor::cat(&states, 0)
}

/// As [`super::project_output`].
///
/// # Errors
/// Where the shapes do not fit.
pub fn project_output(a: &Tensor, wya: &Tensor, by: &Tensor) -> Result<Tensor> {
    a.matmul(&wya.t()?)?.broadcast_add(by)
}

/// As [`super::cross_entropy`].
///
/// # Errors
/// Where the shapes do not fit or a target is outside (0 .. n_y).
pub fn cross_entropy(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    let log_probabilities = candle_nn::ops::log_softmax(z, D::Minus1)?;
    // The largest index, NONE, picks a zero that no gradient goes back from.
    log_probabilities.gather(&y.unsqueeze(1)?, 1)?.sum_all()?.neg()
}

/// As [`super::clipped_descent`].
///
/// # Errors
/// Where the shapes differ.
pub fn clipped_descent(w: &Var, gradient: &Tensor, learning_rate: f64, clip: f64) -> Result<()> {
    w.set(&w.sub(&(gradient.clamp(-clip, clip)? * learning_rate)?)?)
}

/// As [`super::adamw_moments`].
///
/// # Errors
/// Where the shapes do not fit.
pub fn adamw_moments(moments: &Var, gradient: &Tensor, adamw: &AdamW) -> Result<()> {
    let gradient = gradient.clamp(-adamw.clip, adamw.clip)?;
    let (m, v) = (moments.get(0)?, moments.get(1)?);
    let m = (&m + ((&gradient - &m)? * (1. - BETA_1))?)?;
    let v = (&v + ((gradient.sqr()? - &v)? * (1. - BETA_2))?)?;
    moments.set(&Tensor::stack(&[m, v], 0)?)
}

/// As [`super::adamw_descent`].
///
/// # Errors
/// Where the shapes do not fit.
pub fn adamw_descent(w: &Var, moments: &Tensor, adamw: &AdamW) -> Result<()> {
    let (m, v) = (moments.get(0)?, moments.get(1)?);
    let root = ((v.sqrt()? * adamw.correction)? + EPSILON)?;
    w.set(&(w.affine(adamw.keep, 0.)? - (m / root)?.affine(adamw.rate, 0.)?)?)
}

// Both rest on this.
const _: () = assert!(NONE == u32::MAX);
