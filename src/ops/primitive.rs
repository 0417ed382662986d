//! The ops by candle's primitive ops, for devices without kernels here, such as a GPU. Candle's graph
//! has their gradients.
//!
//! Two facts of candle's CUDA kernels, read in their sources, shape this code. An index that is out of
//! range ends the CUDA context, so that indices are checked on the host; the largest index,
//! [`START`](crate::data::START) and [`IGNORE_INDEX`](crate::data::IGNORE_INDEX), selects zeros, and
//! its gradient is dropped, as on the CPU. And minimum and maximum ignore NaN.

use crate::kernels::update::{AdamW, BETA_1, BETA_2, EPSILON};
use candle_core::{D, Result, Tensor, Var};
use candle_nn::ops::log_softmax;

/// As [`super::project_input`].
pub(crate) fn project_input(x: &Tensor, wax: &Tensor, b: &Tensor) -> Result<Tensor> {
    wax.t()?.contiguous()?.index_select(x, 0)?.broadcast_add(b)
}

/// As [`super::recurrence`].
pub(super) fn recurrence(px: &Tensor, waa: &Tensor, a0: &Tensor) -> Result<Tensor> {
    let (waa_t, mut states) = (waa.t()?, vec![]);
    for px in steps(px, a0.dim(0)?)? {
        let states_before = states.last().unwrap_or(a0);
        states.push((px + states_before.matmul(&waa_t)?)?.tanh()?);
    }
    Tensor::cat(&states, 0)
}

/// The steps of `rows`, (T * B, n), in order, each (B, n). By halves: candle's gradient of `narrow` is
/// as large as its argument, so that T narrows of `rows` would take T^2 steps' time.
fn steps(rows: &Tensor, batch: usize) -> Result<Vec<Tensor>> {
    let count = rows.dim(0)?;
    if count <= batch {
        return Ok(vec![rows.clone()]);
    }
    let half = count / batch / 2 * batch;
    let mut all = steps(&rows.narrow(0, 0, half)?, batch)?;
    all.extend(steps(&rows.narrow(0, half, count - half)?, batch)?);
    Ok(all)
}

/// As [`super::project_output`].
pub(crate) fn project_output(a: &Tensor, wya: &Tensor, by: &Tensor) -> Result<Tensor> {
    a.matmul(&wya.t()?)?.broadcast_add(by)
}

/// As [`super::cross_entropy`].
pub(super) fn cross_entropy(z: &Tensor, y: &Tensor) -> Result<Tensor> {
    log_softmax(z, D::Minus1)?.gather(&y.unsqueeze(1)?, 1)?.sum_all()?.neg()
}

/// As [`super::clamp`]. Candle's clamp on a GPU would replace a NaN by a number.
pub(crate) fn clamp(gradient: &Tensor, max: f64) -> Result<Tensor> {
    gradient.eq(gradient)?.where_cond(&gradient.clamp(-max, max)?, gradient)
}

/// As [`super::descend`].
pub(super) fn descend(w: &Var, gradient: &Tensor, rate: f64) -> Result<()> {
    w.set(&(w.as_detached_tensor() - (gradient * rate)?)?)
}

/// As [`super::adamw_moments`].
pub(super) fn adamw_moments(moments: &Var, g: &Tensor) -> Result<()> {
    let before = moments.as_detached_tensor();
    let (m, v) = (before.get(0)?, before.get(1)?);
    let m = (&m + ((g - &m)? * (1. - BETA_1))?)?;
    let v = (&v + ((g.sqr()? - &v)? * (1. - BETA_2))?)?;
    moments.set(&Tensor::stack(&[m, v], 0)?)
}

/// As [`super::adamw_descent`].
pub(super) fn adamw_descent(w: &Var, moments: &Tensor, adamw: &AdamW) -> Result<()> {
    let (m, v) = (moments.get(0)?, moments.get(1)?);
    let root = ((v.sqrt()? * adamw.correction)? + EPSILON)?;
    w.set(&(w.as_detached_tensor().affine(adamw.keep, 0.)? - ((m / root)? * adamw.rate)?)?)
}

/// Each fused op equals these on the CPU, in values and gradients, over random shapes.
#[cfg(test)]
mod tests {
    use super::super::testing::{difference, noise};
    use super::*;
    use crate::data::START;
    use crate::ops;
    use crate::random::RngSource;
    use candle_core::{DType, Device};
    use proptest::prelude::*;

    /// Standard normal variables of these shapes, the same for the same seed.
    fn vars<const N: usize>(seed: u64, shapes: [&[usize]; N], dtype: DType) -> [Var; N] {
        let mut part = seed;
        shapes.map(|shape| {
            part = part.wrapping_add(1);
            Var::from_tensor(&noise(shape, 1., part, dtype)).unwrap()
        })
    }

    /// Asserts that two functions of `vars` have the same values, and the same gradients of a weighted
    /// sum of these.
    fn assert_same<const N: usize>(
        vars: [Var; N],
        fused: impl Fn(&[Var; N]) -> Result<Tensor>,
        primitive: impl Fn(&[Var; N]) -> Result<Tensor>,
    ) {
        let bound = if vars[0].dtype() == DType::F64 { 1e-11 } else { 1e-3 };
        let (fused, primitive) = (fused(&vars).unwrap(), primitive(&vars).unwrap());
        assert_eq!(fused.dims(), primitive.dims());
        assert!(difference(&fused, &primitive) < bound, "values");

        let weights = Tensor::arange(0u32, fused.elem_count() as u32, &Device::Cpu).unwrap();
        let weights = weights.to_dtype(fused.dtype()).unwrap().affine(0.7, 1.).unwrap();
        let weights = weights.sin().unwrap().reshape(fused.dims()).unwrap();
        let gradients = |value: Tensor| {
            (value * &weights).and_then(|v| v.sum_all()).and_then(|v| v.backward()).unwrap()
        };
        let (fused, primitive) = (gradients(fused), gradients(primitive));
        for (i, var) in vars.iter().enumerate() {
            let (a, b) = (fused.get(var).unwrap(), primitive.get(var).unwrap());
            assert!(difference(a, b) < bound, "gradient of argument {i}");
        }
    }

    /// Indices below `size`, and [`START`] for one in five.
    fn indices(seed: u64, count: usize, size: usize) -> Tensor {
        let mut uniforms = RngSource::Seed(seed).uniforms(9);
        let indices = (0..count).map(|_| match uniforms.draw() {
            u if u < 0.2 => START,
            _ => (uniforms.draw() * size as f64) as u32,
        });
        Tensor::from_iter(indices, &Device::Cpu).unwrap()
    }

    fn dtypes() -> impl Strategy<Value = DType> {
        prop_oneof![Just(DType::F32), Just(DType::F64)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn recurrence_is_the_fused_one(
            count in 1usize..8, batch in 1usize..6, n in 1usize..40, seed: u64, dtype in dtypes(),
        ) {
            assert_same(
                vars(seed, [&[count * batch, n], &[n, n], &[batch, n]], dtype),
                |[px, waa, a0]| ops::recurrence(px, &(waa.as_tensor() * 0.5)?, a0),
                |[px, waa, a0]| recurrence(px, &(waa.as_tensor() * 0.5)?, a0),
            );
        }

        #[test]
        fn input_projection_is_the_fused_one(
            rows in 1usize..20, n in 1usize..40, v in 1usize..30, seed: u64, dtype in dtypes(),
        ) {
            let x = indices(seed, rows, v);
            assert_same(
                vars(seed, [&[n, v], &[n]], dtype),
                |[wax, b]| ops::project_input(&x, wax, b),
                |[wax, b]| project_input(&x, wax, b),
            );
        }

        #[test]
        fn output_projection_is_the_fused_one(
            rows in 1usize..20, n in 1usize..40, v in 1usize..30, seed: u64, dtype in dtypes(),
        ) {
            assert_same(
                vars(seed, [&[rows, n], &[v, n], &[v]], dtype),
                |[a, wya, by]| ops::project_output(a, wya, by),
                |[a, wya, by]| project_output(a, wya, by),
            );
        }

        #[test]
        fn cross_entropy_is_the_fused_one(
            rows in 1usize..20, v in 1usize..60, seed: u64, dtype in dtypes(),
        ) {
            let y = indices(seed, rows, v);
            assert_same(
                vars(seed, [&[rows, v]], dtype),
                |[z]| ops::cross_entropy(z, &y),
                |[z]| cross_entropy(z, &y),
            );
        }
    }
}
