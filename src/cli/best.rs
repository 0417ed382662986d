//! `char-rnn train --best`: chooses the settings.

use super::args::count;
use super::error::Failure;
use super::info::flags_of;
use super::progress::Bar;
use super::session::Watch;
use super::signals::Signals;
use crate::data::Corpus;
use crate::train::plan::{Plan, held_out_share, plan};
use crate::train::{Baseline, TrainConfig, Trained, Trainer};
use candle_core::Device;

/// Chooses the settings for `corpus`, each candidate with the given flags `applied`, by the loss of
/// held-out names. Reports what it chose, and how good that is.
pub fn choose(
    corpus: &Corpus,
    applied: impl Fn(&TrainConfig) -> crate::Result<TrainConfig>,
    device: &Device,
    bar: &Bar,
) -> Result<TrainConfig, Failure> {
    let Plan { candidates, trains_again } = plan(corpus);
    let validation = held_out_share(corpus);
    let settings = |config: &TrainConfig| bar.say(&format!("Settings: {}", flags_of(config)));
    if !trains_again {
        let config = applied(&TrainConfig { validation, ..candidates[0].clone() })?;
        settings(&config);
        return Ok(config);
    }
    // Flags may have made some of them equal.
    let mut configs: Vec<TrainConfig> = Vec::new();
    for candidate in &candidates {
        let config = applied(candidate)?;
        if !configs.contains(&config) {
            configs.push(config);
        }
    }
    let [first, others @ ..] = corpus.names() else { unreachable!("a list has names") };
    if others.iter().all(|name| name == first) {
        // None can be held out.
        settings(&configs[0]);
        return Ok(configs.swap_remove(0));
    }
    let mut best: Option<(f64, TrainConfig, String)> = None;
    bar.start(configs.iter().map(|config| config.iterations).sum(), 0);
    for config in configs {
        let held_out =
            TrainConfig { validation, eval_every: u64::MAX, samples: 0, ..config.clone() };
        let mut trainer = Trainer::new(corpus, &held_out, device)?;
        // Nothing is saved, and a signal ends the program.
        let trained = trainer.run(&mut Watch::new(bar, Some(u64::MAX), &Signals::default()))?;
        let loss = trained.validation.as_ref().map_or(f64::NAN, |validation| validation.loss);
        if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
            let compared = trainer.baseline().map(|baseline| comparison(&trained, &baseline));
            best = Some((loss, config, compared.unwrap_or_default()));
        }
    }
    bar.finish();
    let (_, config, compared) = best.expect("there are candidates");
    settings(&config);
    bar.say(&compared);
    Ok(config)
}

/// How the network to use predicts the held-out names, beside the n-gram model.
pub fn comparison(trained: &Trained, baseline: &Baseline) -> String {
    let Baseline { order, names, characters, nats_per_character } = baseline;
    let network = trained.validation.as_ref().map_or(f64::NAN, |validation| {
        validation.better().map_or(validation.loss, |best| best.loss)
    });
    format!(
        "On {}: {:.3} nats a character; counting (a Kneser-Ney {order}-gram): \
         {nats_per_character:.3}",
        count(*names as u64, "held-out name"),
        network * *names as f64 / *characters as f64
    )
}
