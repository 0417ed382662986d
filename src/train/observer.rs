//! Progress of a run, and how it is observed.

use super::optimizer::GradientStats;
use crate::model::PARAMETERS;
use crate::sample::SampledName;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// The state of training after an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The iteration, counted from 0.
    pub iteration: u64,
    /// The loss in nats a name: summed over characters, averaged over the minibatch.
    pub loss: f64,
    /// The smoothed loss: 0.999 of the previous one and 0.001 of this iteration's loss.
    pub smoothed: f64,
}

/// The statistics of the gradients of the parameters, in the order of [`PARAMETERS`].
pub type Stats = [GradientStats; PARAMETERS.len()];

/// Receives the events of a run, in the order of the methods here. The library itself prints
/// nothing.
pub trait Observer {
    /// A name of the iteration's minibatch: the `index`-th of the shuffled list, its text and its
    /// characters' indices.
    fn example(&mut self, _iteration: u64, _index: usize, _name: &str, _indices: &[u32]) {}
    /// The statistics of the gradients, at the iterations at which the history keeps them.
    fn gradients(&mut self, _progress: &Progress, _stats: &Stats) {}
    /// The loss of the held-out names, in nats a name, at an evaluation.
    fn validation(&mut self, _progress: &Progress, _loss: f64) {}
    /// The names sampled at an evaluation.
    fn samples(&mut self, _progress: &Progress, _names: &[SampledName]) {}
    /// The end of an iteration. `Break` stops training.
    fn iteration(&mut self, _progress: &Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Ignores every event.
impl Observer for () {}

/// Passes every event to each of them, in their order. One that breaks stops training.
impl<const N: usize> Observer for [&mut dyn Observer; N] {
    fn example(&mut self, iteration: u64, index: usize, name: &str, indices: &[u32]) {
        self.iter_mut().for_each(|each| each.example(iteration, index, name, indices));
    }

    fn gradients(&mut self, progress: &Progress, stats: &Stats) {
        self.iter_mut().for_each(|each| each.gradients(progress, stats));
    }

    fn validation(&mut self, progress: &Progress, loss: f64) {
        self.iter_mut().for_each(|each| each.validation(progress, loss));
    }

    fn samples(&mut self, progress: &Progress, names: &[SampledName]) {
        self.iter_mut().for_each(|each| each.samples(progress, names));
    }

    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        let mut answer = ControlFlow::Continue(());
        for each in self {
            // Each is called, also after one that breaks.
            let own = each.iteration(progress);
            answer = if answer.is_break() { answer } else { own };
        }
        answer
    }
}
