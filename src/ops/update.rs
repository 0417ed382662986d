//! The update of stochastic gradient descent, in place.

use super::{Float, primitive, slice};
use crate::kernels::{Element, update as kernels};
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};

/// `w -= learning_rate * clamp(g, -clip, clip)`, one pass over memory. An infinite `clip` clips
/// nothing; a NaN in the gradient reaches the variable.
///
/// # Errors
/// Where the shapes differ, `clip` is negative or NaN, or the type is not `F32` or `F64`.
pub fn clipped_descent(w: &Var, gradient: &Tensor, learning_rate: f64, clip: f64) -> Result<()> {
    if clip.is_nan() || clip < 0. {
        bail!("clipped-descent: the clip cannot be {clip}");
    }
    if !w.device().is_cpu() {
        return primitive::clipped_descent(w, gradient, learning_rate, clip);
    }
    w.inplace_op2(&gradient.contiguous()?, &ClippedDescent { learning_rate, clip })
}

struct ClippedDescent {
    learning_rate: f64,
    clip: f64,
}

impl ClippedDescent {
    fn run<F: Float>(
        &self,
        w: &mut [F],
        w_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<()> {
        let Some((start, end)) = w_layout.contiguous_offsets() else {
            bail!("{}: the variable must be contiguous", self.name())
        };
        let (rate, clip) = (Element::from_f64(self.learning_rate), Element::from_f64(self.clip));
        kernels::clipped_descent(&mut w[start..end], slice(g, g_layout)?, rate, clip);
        Ok(())
    }
}

impl InplaceOp2 for ClippedDescent {
    fn name(&self) -> &'static str {
        "clipped-descent"
    }

    fn cpu_fwd(
        &self,
        w: &mut CpuStorage,
        w_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<()> {
        if w_layout.shape() != g_layout.shape() {
            let (w, g) = (w_layout.shape(), g_layout.shape());
            bail!("{}: the variable is {w:?}, its gradient {g:?}", self.name())
        }
        match w {
            CpuStorage::F32(w) => self.run(w, w_layout, g, g_layout),
            CpuStorage::F64(w) => self.run(w, w_layout, g, g_layout),
            _ => bail!("{}: numbers must be F32 or F64", self.name()),
        }
    }
}
