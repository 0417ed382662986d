//! The clamp of gradients and the updates of variables, in place and without a graph.

use super::{Float, primitive, slice, slice_mut};
use crate::kernels::{Element, update as kernels};
use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Shape, Tensor, Var, bail};
use kernels::AdamW;

/// Clamps every entry of `gradient` to [-max, max], on the CPU in its own memory. Infinity clamps
/// nothing, and a NaN stays.
///
/// # Errors
/// Where `max` is negative or NaN, or the type is not `F32` or `F64`.
pub(crate) fn clamp(gradient: &mut Tensor, max: f64) -> Result<()> {
    if max.is_nan() || max < 0. {
        bail!("gradients cannot be clipped to {max}");
    }
    if !gradient.device().is_cpu() {
        *gradient = primitive::clamp(gradient, max)?;
        return Ok(());
    }
    if !gradient.is_contiguous() {
        *gradient = gradient.contiguous()?;
    }
    gradient.inplace_op1(&Clamp(max))
}

/// `w -= rate * gradient`. A NaN in the gradient reaches the variable.
///
/// # Errors
/// Where the shapes differ, or the type is not `F32` or `F64`.
pub(crate) fn descend(w: &Var, gradient: &Tensor, rate: f64) -> Result<()> {
    let update = Update::Descend(rate);
    update.check(w.shape(), gradient.shape())?;
    if !w.device().is_cpu() {
        return primitive::descend(w, gradient, rate);
    }
    w.inplace_op2(&gradient.contiguous()?, &update)
}

/// The update of AdamW's `moments`, of shape (2, ...) for a gradient of shape (...):
/// [`kernels::adamw_moments`] has the equations.
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
pub(crate) fn adamw_moments(moments: &Var, gradient: &Tensor) -> Result<()> {
    Update::AdamWMoments.check(moments.shape(), gradient.shape())?;
    if !moments.device().is_cpu() {
        return primitive::adamw_moments(moments, gradient);
    }
    moments.inplace_op2(&gradient.contiguous()?, &Update::AdamWMoments)
}

/// The step of AdamW from its `moments`, of shape (2, ...) for a variable of shape (...):
/// [`kernels::adamw_descent`] has the equation.
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
pub(crate) fn adamw_descent(w: &Var, moments: &Tensor, adamw: &AdamW) -> Result<()> {
    let update = Update::AdamWDescent(*adamw);
    update.check(w.shape(), moments.shape())?;
    if !w.device().is_cpu() {
        return primitive::adamw_descent(w, moments, adamw);
    }
    w.inplace_op2(&moments.contiguous()?, &update)
}

struct Clamp(f64);

impl InplaceOp1 for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn cpu_fwd(&self, gradient: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match gradient {
            CpuStorage::F32(g) => kernels::clamp(slice_mut(g, layout)?, self.0 as f32),
            CpuStorage::F64(g) => kernels::clamp(slice_mut(g, layout)?, self.0),
            _ => bail!("{}: numbers must be F32 or F64", self.name()),
        }
        Ok(())
    }
}

/// A change of a target tensor by a source tensor.
enum Update {
    /// With the learning rate.
    Descend(f64),
    AdamWMoments,
    AdamWDescent(AdamW),
}

impl Update {
    /// Returns an error where the shapes do not fit.
    fn check(&self, target: &Shape, source: &Shape) -> Result<()> {
        let pair_of = |one: &Shape| [&[2], one.dims()].concat();
        let fits = match self {
            Self::Descend(_) => target == source,
            Self::AdamWMoments => target.dims() == pair_of(source),
            Self::AdamWDescent(_) => pair_of(target) == source.dims(),
        };
        if !fits {
            bail!("{}: the shapes {target:?} and {source:?} do not fit", self.name())
        }
        Ok(())
    }

    fn run<F: Float>(&self, target: &mut [F], source: &[F]) {
        match self {
            Self::Descend(rate) => kernels::descend(target, source, Element::from_f64(*rate)),
            Self::AdamWMoments => kernels::adamw_moments(target, source),
            Self::AdamWDescent(adamw) => kernels::adamw_descent(target, source, adamw),
        }
    }
}

impl InplaceOp2 for Update {
    fn name(&self) -> &'static str {
        match self {
            Self::Descend(_) => "descend",
            Self::AdamWMoments => "adamw-moments",
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
            let (expected, mut g) = (primitive::clamp(&g, clip).unwrap(), g);
            clamp(&mut g, clip).unwrap();
            prop_assert_eq!(difference(&g, &expected), 0.);

            let expected = copy(&w);
            primitive::descend(&expected, &g, 0.3).unwrap();
            descend(&w, &g, 0.3).unwrap();
            prop_assert!(difference(&w, &expected) < bound);

            // Second moments are not negative.
            let moments = noise((2, n, 3), 1., seed ^ 2, dtype).sqr().unwrap();
            let moments = Var::from_tensor(&moments).unwrap();
            let expected = copy(&moments);
            primitive::adamw_moments(&expected, &g).unwrap();
            adamw_moments(&moments, &g).unwrap();
            prop_assert!(difference(&moments, &expected) < bound);

            let (adamw, expected) = (AdamW::new(3, 0.1, 0.2), copy(&w));
            primitive::adamw_descent(&expected, &moments, &adamw).unwrap();
            adamw_descent(&w, &moments, &adamw).unwrap();
            prop_assert!(difference(&w, &expected) < 10. * bound);
        }
    }

    #[test]
    fn a_nan_in_the_gradient_stays_and_reaches_the_variable() {
        let mut in_place = Tensor::new(&[f32::NAN, 9.], &Device::Cpu).unwrap();
        let clamped = primitive::clamp(&in_place, 5.).unwrap();
        clamp(&mut in_place, 5.).unwrap();
        for g in [clamped, in_place] {
            assert_eq!(g.to_vec1::<f32>().unwrap()[1], 5.);
            for descend in [descend, primitive::descend] {
                let w = var(2, 4, DType::F32);
                descend(&w, &g, 0.1).unwrap();
                let w: Vec<f32> = w.to_vec1().unwrap();
                assert!(w[0].is_nan() && w[1].is_finite());
            }
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_errors() {
        let [m23, m32, m33] = [(2, 3), (3, 2), (3, 3)].map(|shape| var(shape, 4, DType::F32));
        let d33 = var((3, 3), 4, DType::F64);
        assert!(descend(&m23, &m32, 0.1).is_err());
        assert!(descend(&m33, &d33, 0.1).is_err());
        for max in [-1., f64::NAN] {
            assert!(clamp(&mut m33.as_detached_tensor(), max).is_err());
        }
        assert!(adamw_moments(&m23, &m23).is_err());
        assert!(adamw_descent(&m23, &m23, &AdamW::new(1, 0.1, 0.)).is_err());
    }
}
