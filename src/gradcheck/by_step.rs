//! How far a gradient reaches back through time: vanishing and exploding gradients.

use super::forward::Forward;
use super::problem::{Problem, Sequence, Sizes};
use crate::reference::{Parameters, clip, rnn_forward, rnn_step_backward};
use serde::Serialize;

/// The factors of `waa` for which the norms are reported.
const SCALES: [f64; 3] = [0.5, 1., 4.];

/// The norms of the gradient of the states, and what the clamp does to those of the parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByStep {
    /// The sizes of the problem.
    pub sizes: Sizes,
    /// The factors of `waa`; each array has an entry for each of them.
    pub scales: [f64; 3],
    /// From the last step of each name backwards.
    pub steps: Vec<StepNorms>,
    /// The clamp.
    pub clip: f64,
    /// For each factor what the clamp does to the gradients of the parameters.
    pub clamped: [Clamped; 3],
}

/// Norms at one step, as root mean squares over the names that have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepNorms {
    /// Steps back from the last.
    pub back: usize,
    /// ||dL_T/da_t||, of the last step's loss alone.
    pub of_last_loss: [f64; 3],
    /// ||dL/da_t||, of all losses: at each step a new one is added.
    pub of_all_losses: [f64; 3],
}

/// A gradient before and after the clamp.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Clamped {
    /// The norm before.
    pub norm: f64,
    /// The norm after.
    pub clamped_norm: f64,
    /// The share of the entries that are clamped.
    pub share: f64,
}

/// Computes the norms of `problem` by the reference, and clamps its gradients to [-max, max].
pub fn by_step(problem: &Problem, max: f64) -> ByStep {
    let mut steps: Vec<StepNorms> = (0..problem.sizes().steps)
        .map(|back| StepNorms { back, of_last_loss: [0.; 3], of_all_losses: [0.; 3] })
        .collect();
    let mut clamped = [Clamped::default(); 3];
    for (k, scale) in SCALES.into_iter().enumerate() {
        let mut forward = Forward::<f64>::new(problem);
        forward.parameters.waa.iter_mut().flatten().for_each(|w| *w *= scale);
        let mut names = vec![0.; steps.len()];
        for (sequence, a0) in problem.sequences().iter().zip(problem.a0()) {
            for (is_last, back, square) in squares(sequence, a0, &forward.parameters) {
                let step = &mut steps[back];
                match is_last {
                    true => step.of_last_loss[k] += square,
                    false => step.of_all_losses[k] += square,
                }
                names[back] += f64::from(u8::from(is_last));
            }
        }
        for (step, names) in steps.iter_mut().zip(names) {
            for sum in [&mut step.of_last_loss[k], &mut step.of_all_losses[k]] {
                *sum = (*sum / names).sqrt();
            }
        }
        clamped[k] = clamp(&forward, max);
    }
    ByStep { sizes: problem.sizes(), scales: SCALES, steps, clip: max, clamped }
}

/// ||dL/da_t||^2 for each step back, of the last step's loss and of all losses.
fn squares(
    Sequence { x, y }: &Sequence,
    a0: &[f64],
    parameters: &Parameters<f64>,
) -> Vec<(bool, usize, f64)> {
    let (_, cache) = rnn_forward(x, y, a0, parameters);
    let (n_a, n_x) = (parameters.b.len(), parameters.by.len());
    let mut found = Vec::new();
    for is_last in [true, false] {
        let (mut ignored, mut da_next) = (Parameters::zeros(n_a, n_x), vec![0.; n_a]);
        for (back, t) in (0..x.len()).rev().enumerate() {
            let mut dy = cache.y_hat[t].clone();
            dy[y[t]] -= 1.;
            if is_last && back > 0 {
                dy.fill(0.);
            }
            let from_output =
                |i: usize| (0..n_x).map(|k| parameters.wya[k][i] * dy[k]).sum::<f64>();
            let square = (0..n_a).map(|i| (da_next[i] + from_output(i)).powi(2)).sum();
            found.push((is_last, back, square));
            let (a, a_prev) = (&cache.a[t + 1], &cache.a[t]);
            rnn_step_backward(&dy, &mut ignored, &mut da_next, parameters, x[t], a, a_prev);
        }
    }
    found
}

fn clamp(forward: &Forward<f64>, max: f64) -> Clamped {
    let [wax, waa, wya, b, by, _] = forward.backward().gradients;
    let (n_a, n_x) = (b.len(), by.len());
    let mut gradients = Parameters::from_flat(n_a, n_x, [&wax, &waa, &wya, &b, &by]);
    let before = gradients.flat().concat();
    clip(&mut gradients, max);
    let norm = |values: &[f64]| values.iter().map(|g| g * g).sum::<f64>().sqrt();
    let share = before.iter().filter(|g| g.abs() > max).count() as f64 / before.len() as f64;
    Clamped { norm: norm(&before), clamped_norm: norm(&gradients.flat().concat()), share }
}
