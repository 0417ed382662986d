//! `char-rnn train --best`: chooses the settings.

use super::args::count;
use super::error::Failure;
use super::info::flags_of;
use super::progress::Bar;
use super::session::Watch;
use super::signals::Signals;
use crate::data::Corpus;
use crate::device::has_memory;
use crate::train::plan::{Plan, held_out_share, plan};
use crate::train::{Baseline, TrainConfig, Trained, Trainer, memory};
use crate::{Error, Result};
use candle_core::Device;
use rayon::ThreadPoolBuilder;
use std::io;
use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};

/// The settings for a list.
pub struct Choice {
    pub config: TrainConfig,
    /// A network with them that does not see the held-out names, where the report is still to come.
    pub measured: Option<Measuring>,
}

/// The training of a network to be measured on held-out names: their loss, and the [`comparison`].
pub struct Measuring(JoinHandle<Result<(f64, String)>>);

/// Chooses the settings for `corpus`, each candidate with the given flags `applied`, by the loss of
/// held-out names. The candidates train side by side; a single one, which is measured for the report
/// only, trains beside the run.
pub fn choose(
    corpus: &Corpus,
    applied: impl Fn(&TrainConfig) -> Result<TrainConfig>,
    device: &Device,
    bar: &Bar,
) -> std::result::Result<Choice, Failure> {
    let Plan { candidates, trains_again } = plan(corpus);
    bar.estimate();
    let chosen = |config, measured| {
        bar.say(&format!("Settings: {}", flags_of(&config)));
        Ok(Choice { config, measured })
    };
    if !trains_again {
        let validation = held_out_share(corpus);
        return chosen(applied(&TrainConfig { validation, ..candidates[0].clone() })?, None);
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
        return chosen(configs.swap_remove(0), None);
    }
    if let [config] = &configs[..] {
        // It has no report if there is no memory for two networks.
        let is_measured = !bar.is_quiet() && has_room(corpus, &[config.clone(), config.clone()]);
        let report = || Measuring::start(corpus, config, device, Bar::new(true), 2);
        return chosen(config.clone(), is_measured.then(report).transpose()?);
    }
    // The chosen one trains again.
    let iterations = configs.iter().map(|config| config.iterations);
    bar.start(iterations.clone().sum::<u64>() + iterations.max().unwrap_or_default(), 0);
    let runs = configs.len();
    let start = |config| Measuring::start(corpus, config, device, bar.clone(), runs);
    let measured: Vec<_> = match has_room(corpus, &configs) {
        true => {
            let threads = configs.iter().map(start).collect::<Result<Vec<_>>>()?;
            threads.into_iter().map(Measuring::wait).collect::<Result<_>>()?
        }
        false => configs.iter().map(|config| start(config)?.wait()).collect::<Result<_>>()?,
    };
    bar.finish();
    let best = configs.into_iter().zip(measured).min_by(|a, b| a.1.0.total_cmp(&b.1.0));
    let (config, (_, report)) = best.expect("there are candidates");
    bar.say(&report);
    chosen(config, None)
}

/// Whether there is memory for training with all of these settings at once.
fn has_room(corpus: &Corpus, configs: &[TrainConfig]) -> bool {
    has_memory(configs.iter().map(|config| memory(corpus, config)).sum())
}

impl Measuring {
    /// Trains a network with the settings `config`, but for the held-out names, one of so many `runs`
    /// at a time.
    fn start(
        corpus: &Corpus,
        config: &TrainConfig,
        device: &Device,
        bar: Bar,
        runs: usize,
    ) -> Result<Self> {
        let (corpus, device, validation) = (corpus.clone(), device.clone(), held_out_share(corpus));
        let config = TrainConfig { validation, eval_every: u64::MAX, samples: 0, ..config.clone() };
        let train = move || {
            let mut trainer = Trainer::new(&corpus, &config, &device)?;
            // Nothing is saved, and a signal ends the program.
            let trained =
                trainer.run(&mut Watch::new(&bar, Some(u64::MAX), &Signals::default()))?;
            let loss = trained.validation.as_ref().map_or(f64::NAN, |validation| validation.loss);
            let baseline = trainer.baseline().map(|baseline| comparison(&trained, &baseline));
            Ok((loss, baseline.unwrap_or_default()))
        };
        // Its share of the processors.
        let threads = (rayon::current_num_threads() / runs).max(1);
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().map_err(io::Error::other);
        let thread = pool.and_then(|pool| Builder::new().spawn(move || pool.install(train)));
        let failed = |error| Error::Device(format!("cannot start a thread: {error}"));
        thread.map(Self).map_err(failed)
    }

    /// The loss and the comparison, once the network is trained.
    pub fn wait(self) -> Result<(f64, String)> {
        self.0.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
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
