//! How far back a prediction depends on a name: the gradients of its log-probability by the earlier
//! states and inputs. Where their norms fall towards the start of the name, the gradient vanishes, and
//! training learns nothing from there; where they grow, it explodes.

use crate::data::{END, START, check_indices};
use crate::model::{CharRnn, CharRnnState, one_hot};
use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{RNN, ops::softmax};
use serde::Serialize;

/// The Euclidean norms of the gradients of a log-probability at an earlier step, or at its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GradientNorms {
    /// By the state after the step.
    pub state: f64,
    /// By the input of the step, the vector of a character or at the first step the zero vector.
    pub input: f64,
}

/// For each step of `name`, its end included, the gradients of the log-probability of the step's
/// character, from the zero state: [`GradientNorms`] for each step up to this one, in their order.
///
/// # Errors
/// If an index is outside the vocabulary.
pub fn gradient_norms(model: &CharRnn, name: &[u32]) -> Result<Vec<Vec<GradientNorms>>> {
    let (vocabulary, device) = (model.config().vocabulary, model.device());
    check_indices(name, vocabulary)?;
    let model = model.detached();
    let [wax, waa, wya, ..] = model.parameters().map(|(_, tensor)| tensor);
    let mut states = vec![model.zero_state(1)?];
    for x in std::iter::once(&START).chain(name) {
        states.push(model.step(&Tensor::new(&[*x], device)?, &states[states.len() - 1])?);
    }
    let states: Vec<&Tensor> = states[1..].iter().map(CharRnnState::a).collect();
    // The equations of train/bptt.rs, with a row for each target. (5), of the negative loss, and (7):
    let y_hat = softmax(&model.logits(&Tensor::cat(&states, 0)?)?, D::Minus1)?;
    let y = one_hot(&[name, &[END]].concat(), vocabulary, model.dtype(), device)?;
    let from_output = (y - y_hat)?.matmul(wya)?;
    let mut norms = vec![vec![]; states.len()];
    let mut dpre_next: Option<Tensor> = None;
    for (step, a) in states.into_iter().enumerate().rev() {
        // (8): this step's own target first, then those of later steps.
        let own = from_output.narrow(0, step, 1)?;
        let da = match dpre_next {
            Some(dpre_next) => Tensor::cat(&[own, dpre_next.matmul(waa)?], 0)?,
            None => own,
        };
        // (9).
        let dpre = da.broadcast_mul(&a.sqr()?.affine(-1., 1.)?)?;
        let by_both = norms_of_rows(&da)?.into_iter().zip(norms_of_rows(&dpre.matmul(wax)?)?);
        for (norms, (state, input)) in norms[step..].iter_mut().zip(by_both) {
            norms.push(GradientNorms { state, input });
        }
        dpre_next = Some(dpre);
    }
    norms.iter_mut().for_each(|norms| norms.reverse());
    Ok(norms)
}

fn norms_of_rows(rows: &Tensor) -> Result<Vec<f64>> {
    rows.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.sqr()?.sum(1)?.sqrt()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{Parameters, rnn_backward, rnn_forward};
    use crate::sample::tests::random_model;

    #[test]
    fn norms_are_those_of_the_references_gradients() {
        let norm = |vector: &[f64]| vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        let difference =
            |a: Vec<f64>, b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
        for scale in [1., 40., 120.] {
            let model = random_model(5, 6, scale, DType::F64, 5);
            let p = Parameters::of(&model);
            let name = [1, 4, 2, 2, 3, 1];
            let x: Vec<_> = std::iter::once(None).chain(name.map(|x| Some(x as usize))).collect();
            let y: Vec<_> = name.iter().chain(&[END]).map(|&y| y as usize).collect();
            let a = rnn_forward(&x, &y, &[0.; 6], &p).1.a;
            // The gradient by b of the loss of the steps from `first` to before `end`.
            let db = |first: usize, end: usize| {
                let (x, y) = (&x[first..end], &y[first..end]);
                let (_, cache) = rnn_forward(x, y, &a[first], &p);
                rnn_backward(x, y, &p, &cache).0.b
            };
            for (t, found) in gradient_norms(&model, &name).unwrap().iter().enumerate() {
                assert_eq!(found.len(), t + 1);
                for (step, found) in found.iter().enumerate() {
                    // Of the loss of step t alone; then of its use of b at this step alone.
                    let of_t = |first| difference(db(first, t + 1), &db(first, t.max(first)));
                    let dpre = difference(of_t(step), &of_t(step + 1));
                    let da = dpre.iter().zip(&a[step + 1]).map(|(d, a)| d / (1. - a * a));
                    let dx = (0..5).map(|x| dpre.iter().zip(&p.wax).map(|(d, w)| d * w[x]).sum());
                    let expected =
                        [norm(&da.collect::<Vec<f64>>()), norm(&dx.collect::<Vec<f64>>())];
                    for (found, expected) in [found.state, found.input].into_iter().zip(expected) {
                        assert!((found - expected).abs() <= 1e-9, "{found} {expected}");
                    }
                }
            }
        }
    }
}
