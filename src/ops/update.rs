//! The updates of the variables, in place and without a graph.

use super::{Float, primitive, slice, slice_mut};
use crate::kernels::update as kernels;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Shape, Tensor, Var, bail};
use kernels::AdamW;

/// `w -= learning_rate * clamp(g, -clip, clip)`. An infinite `clip` does not clip; a NaN in the
/// gradient reaches the variable.
///
/// # Errors
/// Where the shapes differ, `clip` is negative or NaN, or the type is not `F32` or `F64`.
pub(crate) fn clipped_descent(
    w: &Var,
    gradient: &Tensor,
    learning_rate: f64,
    clip: f64,
) -> Result<()> {
    if clip.is_nan() || clip < 0. {
        bail!("clipped-descent: the clip cannot be {clip}");
    }
    let update = Update::ClippedDescent { learning_rate, clip };
    if !w.device().is_cpu() {
        update.check(w.shape(), gradient.shape())?;
        return primitive::clipped_descent(w, gradient, learning_rate, clip);
    }
    w.inplace_op2(&gradient.contiguous()?, &update)
}

/// The update of AdamW's `moments`, of shape (2, ...) for a gradient of shape (...):
/// [`kernels::adamw_moments`] has the equations.
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
pub(crate) fn adamw_moments(moments: &Var, gradient: &Tensor, adamw: &AdamW) -> Result<()> {
    if !moments.device().is_cpu() {
        return primitive::adamw_moments(moments, gradient, adamw);
    }
    moments.inplace_op2(&gradient.contiguous()?, &Update::AdamWMoments(*adamw))
}

/// The step of AdamW from its `moments`, of shape (2, ...) for a variable of shape (...):
/// [`kernels::adamw_descent`] has the equation.
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
pub(crate) fn adamw_descent(w: &Var, moments: &Tensor, adamw: &AdamW) -> Result<()> {
    if !w.device().is_cpu() {
        return primitive::adamw_descent(w, moments, adamw);
    }
    w.inplace_op2(&moments.contiguous()?, &Update::AdamWDescent(*adamw))
}

/// A change of a target tensor by a source tensor.
enum Update {
    ClippedDescent { learning_rate: f64, clip: f64 },
    AdamWMoments(AdamW),
    AdamWDescent(AdamW),
}

impl Update {
    /// Returns an error where the shapes do not fit.
    fn check(&self, target: &Shape, source: &Shape) -> Result<()> {
        let pair_of = |one: &Shape| [&[2], one.dims()].concat();
        let fits = match self {
            Self::ClippedDescent { .. } => target == source,
            Self::AdamWMoments(_) => target.dims() == pair_of(source),
            Self::AdamWDescent(_) => pair_of(target) == source.dims(),
        };
        if !fits {
            bail!("{}: the shapes {target:?} and {source:?} do not fit", self.name())
        }
        Ok(())
    }

    fn run<F: Float>(&self, target: &mut [F], source: &[F]) {
        match self {
            Self::ClippedDescent { learning_rate, clip } => {
                let descent = kernels::ClippedDescent::new(*learning_rate, *clip);
                kernels::clipped_descent(target, source, descent);
            }
            Self::AdamWMoments(adamw) => kernels::adamw_moments(target, source, adamw),
            Self::AdamWDescent(adamw) => kernels::adamw_descent(target, source, adamw),
        }
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
            CpuStorage::F32(target) => {
                self.run(slice_mut(target, target_layout)?, slice(source, source_layout)?);
            }
            CpuStorage::F64(target) => {
                self.run(slice_mut(target, target_layout)?, slice(source, source_layout)?);
            }
            _ => bail!("{}: numbers must be F32 or F64", self.name()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{difference, noise};
    use super::*;
    use candle_core::{DType, Device};
    use proptest::prelude::*;

    fn var(shape: impl Into<Shape>, seed: u64, dtype: DType) -> Var {
        Var::from_tensor(&noise(shape, 1., seed, dtype)).unwrap()
    }

    proptest! {
        #[test]
        fn updates_equal_candles_primitive_ops(
            n in 1usize..80, clip in 0.01f64..3., seed: u64, single: bool,
        ) {
            let (dtype, bound) = if single { (DType::F32, 1e-5) } else { (DType::F64, 1e-13) };
            let copy = |var: &Var| Var::from_tensor(&var.copy().unwrap()).unwrap();
            let (w, g) = (var((n, 3), seed, dtype), noise((n, 3), 1., seed ^ 1, dtype));
            let expected = copy(&w);
            primitive::clipped_descent(&expected, &g, 0.3, clip).unwrap();
            clipped_descent(&w, &g, 0.3, clip).unwrap();
            prop_assert!(difference(&w, &expected) < bound);

            let adamw = AdamW::new(3, 0.1, 0.2, clip);
            // Second moments are not negative.
            let moments = noise((2, n, 3), 1., seed ^ 2, dtype).sqr().unwrap();
            let moments = Var::from_tensor(&moments).unwrap();
            let expected = copy(&moments);
            primitive::adamw_moments(&expected, &g, &adamw).unwrap();
            adamw_moments(&moments, &g, &adamw).unwrap();
            prop_assert!(difference(&moments, &expected) < bound);

            let expected = copy(&w);
            primitive::adamw_descent(&expected, &moments, &adamw).unwrap();
            adamw_descent(&w, &moments, &adamw).unwrap();
            prop_assert!(difference(&w, &expected) < 10. * bound);
        }
    }

    #[test]
    fn a_nan_in_the_gradient_reaches_the_variable() {
        let gradient = Tensor::new(&[f32::NAN, 1.], &Device::Cpu).unwrap();
        for descent in [clipped_descent, primitive::clipped_descent] {
            let w = var(2, 4, DType::F32);
            descent(&w, &gradient, 0.1, 5.).unwrap();
            let w: Vec<f32> = w.to_vec1().unwrap();
            assert!(w[0].is_nan() && w[1].is_finite());
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_errors() {
        let [m23, m32, m33] = [(2, 3), (3, 2), (3, 3)].map(|shape| var(shape, 4, DType::F32));
        let d33 = var((3, 3), 4, DType::F64);
        assert!(clipped_descent(&m23, &m32, 0.1, 5.).is_err());
        assert!(clipped_descent(&m33, &d33, 0.1, 5.).is_err());
        for clip in [-1., f64::NAN] {
            assert!(clipped_descent(&m33, &m33, 0.1, clip).is_err());
        }
        let adamw = AdamW::new(1, 0.1, 0., 5.);
        assert!(adamw_moments(&m23, &m23, &adamw).is_err());
        assert!(adamw_descent(&m23, &m23, &adamw).is_err());
    }
}
