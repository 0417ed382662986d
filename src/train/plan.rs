//! The settings of `train --best`, by the size of the list.
//!
//! They were found on lists of 20 to 88,799 names; `scripts/best_settings.py` measures them on names
//! that no choice has used, and docs/training.md has its tables.

use super::config::TrainConfig;
use super::gradients::GradientMethod;
use super::optimizer::{Decay, OptimizerKind};
use crate::data::Corpus;

/// The number of names that are held out to choose among candidates, where the list has enough:
/// at least a tenth of it is held out, and at most a third.
const HELD_OUT: f64 = 20.;

/// The share of the names of `corpus` to hold out.
pub fn held_out_share(corpus: &Corpus) -> f64 {
    (HELD_OUT / corpus.names().len() as f64).clamp(0.1, 1. / 3.)
}

/// The settings for a list.
pub struct Plan {
    /// Those to choose from.
    pub candidates: Vec<TrainConfig>,
    /// Whether the chosen settings train on all names, after the candidates were trained on those
    /// that are not held out. With a long list that is not worth its time.
    pub trains_again: bool,
}

/// The plan for the names of `corpus`.
pub fn plan(corpus: &Corpus) -> Plan {
    let names = corpus.names().len();
    let characters: usize = corpus.names().iter().map(|name| name.chars().count() + 1).sum();
    let config = |hidden, batch_size, learning_rate, epochs: u64, dropout, smoothing| {
        let iterations = (epochs * names as u64).div_ceil(batch_size as u64);
        TrainConfig {
            iterations,
            hidden,
            batch_size,
            optimizer: OptimizerKind::AdamW,
            learning_rate,
            decay: Decay::Cosine,
            weight_decay: 0.05,
            factored_input: true,
            dropout,
            smoothing,
            eval_every: iterations.div_ceil(4),
            backprop: GradientMethod::Hand,
            ..TrainConfig::default()
        }
    };
    let candidates = match characters {
        0..6_000 => {
            let epochs = (120_000 / characters as u64).clamp(24, 60);
            let best = [0.6, 0.8, 0.95].map(|s| config(300, 8, 0.003, epochs, 0.4, s));
            // Where names have little in common, as first names do, the default is better.
            best.into_iter().chain([TrainConfig::for_list(corpus)]).collect()
        }
        6_000..40_000 => vec![config(300, 16, 0.003, 18, 0.3, 0.5)],
        40_000..400_000 => vec![config(400, 32, 0.003, 24, 0.3, 0.3)],
        // Beyond 700,000 characters as long as for 700,000.
        _ => vec![config(400, 32, 0.003, (12_600_000 / characters as u64).clamp(1, 18), 0.2, 0.3)],
    };
    Plan { candidates, trains_again: characters < 40_000 }
}
