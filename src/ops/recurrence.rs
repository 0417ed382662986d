//! All time steps of the recurrence as one node.

use super::{Float, gradient, primitive, slice, values, with_float};
use crate::kernels::recurrence::{
    recurrence_backward, recurrence_forward, recurrence_weight_gradient,
};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, WithDType, bail};

/// `a_t = tanh(px_t + waa a_{t-1})` for t = 1 .. T: `px` (T * B, n_a), `waa` (n_a, n_a) and the
/// initial states `a0` (B, n_a) to all states, (T * B, n_a). The final states are the last B rows.
///
/// The backward pass is one sweep over the steps and one matrix product over all of them.
///
/// # Errors
/// Where the shapes do not fit, or the type is not `F32` or `F64`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let px = Tensor::new(&[[0.5f64], [0.0]], &Device::Cpu)?; // two steps of one sequence
/// let waa = Tensor::new(&[[2.0f64]], &Device::Cpu)?;
/// let a0 = Tensor::zeros((1, 1), candle_core::DType::F64, &Device::Cpu)?;
/// let a = char_rnn::ops::recurrence(&px, &waa, &a0)?.to_vec2::<f64>()?;
/// assert!((a[0][0] - 0.5f64.tanh()).abs() < 1e-15);
/// assert!((a[1][0] - (2. * 0.5f64.tanh()).tanh()).abs() < 1e-15);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn recurrence(px: &Tensor, waa: &Tensor, a0: &Tensor) -> Result<Tensor> {
    if !px.device().is_cpu() {
        sizes(px.shape(), waa.shape(), a0.shape())?;
        return primitive::recurrence(px, waa, a0);
    }
    px.contiguous()?.apply_op3(&waa.contiguous()?, &a0.contiguous()?, Recurrence)
}

/// B and n_a, or an error where the shapes do not fit.
fn sizes(px: &Shape, waa: &Shape, a0: &Shape) -> Result<(usize, usize)> {
    let fits = match (px.dims(), waa.dims(), a0.dims()) {
        (&[rows, n], &[n_1, n_2], &[batch, n_3]) => {
            [n_1, n_2, n_3] == [n; 3] && n > 0 && batch > 0 && rows % batch == 0
        }
        _ => false,
    };
    if !fits {
        bail!(
            "recurrence: px {px:?}, waa {waa:?} and a0 {a0:?} are not (T * B, n), (n, n), (B, n)"
        );
    }
    a0.dims2()
}

/// The gradients of `px` and `waa`.
fn backward<F: Float>([waa, a0, a, da]: [&[F]; 4], batch: usize, n: usize) -> [Vec<F>; 2] {
    let (mut dpx, mut dwaa) = (da.to_vec(), vec![F::ZERO; n * n]);
    F::with_scratch(|scratch| {
        let sizes = vec![batch; a.len() / (batch * n)];
        recurrence_backward(waa, a, &mut dpx, &sizes, n, scratch);
        // A copy, for one product: a product for a0 and one for the rest would write dwaa twice.
        let previous = [a0, &a[..a.len().saturating_sub(batch * n)]].concat();
        recurrence_weight_gradient(&dpx, &previous[..a.len()], &mut dwaa, n, scratch);
    });
    [dpx, dwaa]
}

struct Recurrence;

impl CustomOp3 for Recurrence {
    fn name(&self) -> &'static str {
        "recurrence"
    }

    fn cpu_fwd(
        &self,
        px: &CpuStorage,
        px_layout: &Layout,
        waa: &CpuStorage,
        waa_layout: &Layout,
        a0: &CpuStorage,
        a0_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, n) = sizes(px_layout.shape(), waa_layout.shape(), a0_layout.shape())?;
        let step_sizes = vec![batch; px_layout.dims()[0] / batch];
        let a = with_float!(px.dtype(), self.name(), F => {
            let mut a: Vec<F> = slice(px, px_layout)?.to_vec();
            let (waa, a0) = (slice(waa, waa_layout)?, slice(a0, a0_layout)?);
            F::with_scratch(|scratch| {
                recurrence_forward(waa, a0, &mut a, &step_sizes, n, scratch);
            });
            F::to_cpu_storage_owned(a)
        });
        Ok((a, px_layout.shape().clone()))
    }

    fn bwd(
        &self,
        px: &Tensor,
        waa: &Tensor,
        a0: &Tensor,
        a: &Tensor,
        da: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (batch, n) = a0.dims2()?;
        let da = da.contiguous()?;
        with_float!(a.dtype(), self.name(), F => {
            values!(waa_values: F = waa);
            values!(a0_values: F = a0);
            values!(a_values: F = a);
            values!(da_values: F = da);
            let [dpx, dwaa] = backward([waa_values, a0_values, a_values, da_values], batch, n);
            let dpx = Tensor::from_vec(dpx, a.shape(), a.device())?;
            let da0 = a0.track_op().then(|| match a.dim(0)? {
                0 => a0.zeros_like(),
                _ => dpx.narrow(0, 0, batch)?.matmul(&waa.detach()),
            });
            Ok((px.track_op().then_some(dpx), gradient(waa, dwaa)?, da0.transpose()?))
        })
    }
}
