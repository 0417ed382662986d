//! Each fused op alone against candle's primitive ops: values, and gradients by every argument of a
//! weighted sum of the values. The arguments are those of the problem, so that one op's error is
//! not hidden in, or taken for, another's.

use super::compare::{Comparison, bound, compare};
use super::problem::{Problem, to_f64};
use super::rounding::rounding_floor;
use crate::error::Result;
use crate::model::one_hot;
use crate::ops;
use candle_core::{D, DType, Device, Result as CandleResult, Tensor, Var};
use serde::Serialize;

/// The comparison of one op by `autograd` and by `unrolled`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpComparison {
    /// The op, in [`crate::ops`].
    pub op: &'static str,
    /// The value or the argument with the largest relative error: `value`, or as `waa`.
    pub worst: &'static str,
    /// ||g1 - g2|| / (||g1|| + ||g2||) there.
    pub relative_error: f64,
    /// The largest at which they agree.
    pub bound: f64,
    /// Whether they do.
    pub agree: bool,
}

type Op<'a> = &'a dyn Fn(&[Tensor]) -> CandleResult<Tensor>;

/// Compares the four ops at the arguments that they have in `problem`.
pub(super) fn compare_ops(
    problem: &Problem,
    dtype: DType,
    device: &Device,
) -> Result<Vec<OpComparison>> {
    let (model, a0) = problem.module(dtype, device)?;
    let [wax, waa, wya, b, by] = model.parameters().map(|(_, tensor)| tensor.clone());
    let [x, y] = problem.batch().x_and_y_on(device)?;
    let batch = a0.dim(0)?;
    let hot = one_hot(problem.batch().x(), model.config().vocabulary, DType::F64, device)?;
    let px = ops::project_input(&x, &wax, &b)?;
    let a = ops::recurrence(&px, &waa, &a0)?;
    let z = ops::project_output(&a, &wya, &by)?;

    let recurrence = |v: &[Tensor]| {
        let (mut a, mut states) = (v[2].clone(), vec![]);
        for first in (0..v[0].dim(0)?).step_by(batch) {
            a = (v[0].narrow(0, first, batch)? + a.matmul(&v[1].t()?)?)?.tanh()?;
            states.push(a.clone());
        }
        Tensor::cat(&states, 0)
    };
    let cross_entropy = |v: &[Tensor]| {
        let log_probabilities = candle_nn::ops::log_softmax(&v[0], D::Minus1)?;
        // Candle gathers 0, without a gradient, for the largest index, IGNORE_INDEX.
        log_probabilities.gather(&y.unsqueeze(1)?, 1)?.sum_all()?.neg()
    };
    let compare = |op, names: &[&'static str], arguments: &[Tensor], fused: Op, primitive: Op| {
        compare_op(op, names, arguments, [fused, primitive])
    };
    Ok(vec![
        compare(
            "project_input",
            &["value", "wax", "b"],
            &[wax, b],
            &|v| ops::project_input(&x, &v[0], &v[1]),
            &|v| hot.to_dtype(v[0].dtype())?.matmul(&v[0].t()?)?.broadcast_add(&v[1]),
        )?,
        compare(
            "recurrence",
            &["value", "px", "waa", "a0"],
            &[px, waa, a0],
            &|v| ops::recurrence(&v[0], &v[1], &v[2]),
            &recurrence,
        )?,
        compare(
            "project_output",
            &["value", "a", "wya", "by"],
            &[a, wya, by],
            &|v| ops::project_output(&v[0], &v[1], &v[2]),
            &|v| v[0].matmul(&v[1].t()?)?.broadcast_add(&v[2]),
        )?,
        compare(
            "cross_entropy",
            &["value", "z"],
            &[z],
            &|v| ops::cross_entropy(&v[0], &y),
            &cross_entropy,
        )?,
    ])
}

fn compare_op(
    op: &'static str,
    names: &[&'static str],
    arguments: &[Tensor],
    [fused, primitive]: [Op; 2],
) -> Result<OpComparison> {
    let results = |f: Op, dtype: DType| -> Result<Vec<Vec<f64>>> {
        let var = |argument: &Tensor| Var::from_tensor(&argument.detach().to_dtype(dtype)?);
        let vars = arguments.iter().map(var).collect::<CandleResult<Vec<Var>>>()?;
        let vars: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let value = f(&vars)?;
        // Weights of one sign: where terms cancel, the sum is nothing but rounding.
        let weights = Tensor::arange(0u32, value.elem_count() as u32, value.device())?;
        let weights = weights.to_dtype(dtype)?.sin()?.affine(0.5, 1.)?.reshape(value.shape())?;
        let mut graph = (&value * weights)?.sum_all()?.backward()?;
        let mut results = vec![to_f64(&value)?];
        for var in &vars {
            let zeros = || vec![0.; var.elem_count()];
            results.push(graph.remove(var).map(|g| to_f64(&g)).transpose()?.unwrap_or_else(zeros));
        }
        Ok(results)
    };
    let dtype = arguments[0].dtype();
    let (fused, found) = (results(fused, dtype)?, results(primitive, dtype)?);
    let (single, double) = (results(primitive, DType::F32)?, results(primitive, DType::F64)?);
    let compared = names.iter().enumerate().map(|(i, name)| {
        let bounds = [bound(dtype, false), rounding_floor(&single[i], &double[i], dtype)];
        compare(name, vec![fused[i].len()], [&fused[i], &found[i]], None, bounds)
    });
    // The error that is largest against its bound, and NaN before any.
    let error = |c: &Comparison| match c.relative_error / c.bound {
        error if error.is_nan() => f64::INFINITY,
        error => error,
    };
    let worst = compared.max_by(|a, b| error(a).total_cmp(&error(b)));
    let Comparison { tensor, relative_error, bound, agree, .. } = worst.expect("an op has a value");
    Ok(OpComparison { op, worst: tensor, relative_error, bound, agree })
}
