//! The updates of the variables, in place.

use super::{Float, has_kernels, primitive, slice};
use crate::kernels::{Element, update as kernels};
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Shape, Tensor, Var, bail};
use kernels::AdamW;
#[cfg(feature = "cuda")]
use {super::with_float, candle_core::CudaStorage, candle_core::backend::BackendStorage};

/// `w -= learning_rate * clamp(g, -clip, clip)`, one pass over memory. An infinite `clip` clips
/// nothing; a NaN in the gradient reaches the variable.
///
/// # Errors
/// Where the shapes differ, `clip` is negative or NaN, or the type is not `F32` or `F64`.
pub fn clipped_descent(w: &Var, gradient: &Tensor, learning_rate: f64, clip: f64) -> Result<()> {
    if clip.is_nan() || clip < 0. {
        bail!("clipped-descent: the clip cannot be {clip}");
    }
    if !has_kernels(w.device()) {
        return primitive::clipped_descent(w, gradient, learning_rate, clip);
    }
    w.inplace_op2(&gradient.contiguous()?, &Update::ClippedDescent { learning_rate, clip })
}

/// The running means of AdamW, of shape (2, ...) for a gradient of shape (...):
/// [`kernels::adamw_moments`] has the equations.
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
pub fn adamw_moments(moments: &Var, gradient: &Tensor, adamw: &AdamW) -> Result<()> {
    if !has_kernels(moments.device()) {
        return primitive::adamw_moments(moments, gradient, adamw);
    }
    moments.inplace_op2(&gradient.contiguous()?, &Update::AdamWMoments(*adamw))
}

/// AdamW's step along its running `moments`, of shape (2, ...) for a variable of shape (...):
/// [`kernels::adamw_descent`] has the equation.
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
pub fn adamw_descent(w: &Var, moments: &Tensor, adamw: &AdamW) -> Result<()> {
    if !has_kernels(w.device()) {
        return primitive::adamw_descent(w, moments, adamw);
    }
    w.inplace_op2(&moments.contiguous()?, &Update::AdamWDescent(*adamw))
}

/// What is done to a variable by another tensor.
enum Update {
    ClippedDescent { learning_rate: f64, clip: f64 },
    AdamWMoments(AdamW),
    AdamWDescent(AdamW),
}

impl Update {
    /// Refuses shapes that do not fit.
    fn check(&self, target: &Shape, source: &Shape) -> Result<()> {
        let pair_of = |one: &Shape| [&[2], one.dims()].concat();
        let fits = match self {
            Self::ClippedDescent { .. } => target == source,
            Self::AdamWMoments(_) => target.dims() == pair_of(source),
            Self::AdamWDescent(_) => pair_of(target) == source.dims(),
        };
        if !fits {
            bail!("{}: the variable is {target:?}, what changes it {source:?}", self.name())
        }
        Ok(())
    }

    fn run<F: Float>(
        &self,
        target: &mut [F],
        target_layout: &Layout,
        source: &CpuStorage,
        source_layout: &Layout,
    ) -> Result<()> {
        let Some((start, end)) = target_layout.contiguous_offsets() else {
            bail!("{}: the variable must be contiguous", self.name())
        };
        let (target, source) = (&mut target[start..end], slice(source, source_layout)?);
        match self {
            Self::ClippedDescent { learning_rate, clip } => {
                let (rate, clip) = (Element::from_f64(*learning_rate), Element::from_f64(*clip));
                kernels::clipped_descent(target, source, rate, clip);
            }
            Self::AdamWMoments(adamw) => kernels::adamw_moments(target, source, adamw),
            Self::AdamWDescent(adamw) => kernels::adamw_descent(target, source, adamw),
        }
        Ok(())
    }
}

impl InplaceOp2 for Update {
    fn name(&self) -> &'static str {
        match self {
            Self::ClippedDescent { .. } => "clipped-descent",
            Self::AdamWMoments(_) => "adamw-moments",
            Self::AdamWDescent(_) => "adamw-descent",
        }
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        target_layout: &Layout,
        source: &CpuStorage,
        source_layout: &Layout,
    ) -> Result<()> {
        self.check(target_layout.shape(), source_layout.shape())?;
        match target {
            CpuStorage::F32(target) => self.run(target, target_layout, source, source_layout),
            CpuStorage::F64(target) => self.run(target, target_layout, source, source_layout),
            _ => bail!("{}: numbers must be F32 or F64", self.name()),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        target: &mut CudaStorage,
        target_layout: &Layout,
        source: &CudaStorage,
        source_layout: &Layout,
    ) -> Result<()> {
        use super::cuda::update;
        let (target_shape, source_shape) = (target_layout.shape(), source_layout.shape());
        self.check(target_shape, source_shape)?;
        // The smaller of the two: the other one has two entries for each of it.
        let count = target_shape.elem_count().min(source_shape.elem_count());
        with_float!(target.dtype(), self.name(), F => {
            let (target, source) = ((target, target_layout), (source, source_layout));
            let number = <F as Element>::from_f64;
            match self {
                Self::ClippedDescent { learning_rate, clip } => {
                    let numbers = [*learning_rate, *clip].map(number);
                    update("clipped_descent", target, source, numbers, count)
                }
                Self::AdamWMoments(adamw) => {
                    let numbers = adamw.of_moments().map(number);
                    update("adamw_moments", target, source, numbers, count)
                }
                Self::AdamWDescent(adamw) => {
                    let numbers = adamw.of_descent().map(number);
                    update("adamw_descent", target, source, numbers, count)
                }
            }
        })
    }
}
