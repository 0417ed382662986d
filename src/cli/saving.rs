//! Saves a run as it goes, and keeps an older model until the run is finished.

use super::error::{Failure, message};
use super::files::{keep_older, kept_place};
use super::metrics::{Metrics, Run};
use super::progress::Bar;
use super::signals::Signals;
use crate::checkpoint::{self, Change, Checkpoint, ListInfo, PROGRAM};
use crate::data::KnownNames;
use crate::sample::SampledName;
use crate::train::{Observer, Progress, Stats, Trained, Trainer};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// When a run is saved on its way.
#[derive(Clone, Copy)]
pub enum Every {
    /// After every so many iterations.
    Iterations(u64),
    /// After this time.
    Time(Duration),
}

/// `--checkpoint-every`; once a minute without it.
impl From<Option<u64>> for Every {
    fn from(iterations: Option<u64>) -> Self {
        iterations.map_or(Self::Time(Duration::from_secs(60)), Self::Iterations)
    }
}

/// How often the progress bar is drawn.
const REDRAW: Duration = Duration::from_millis(50);

/// Writes a run to its file.
pub struct Saver<'a> {
    path: &'a Path,
    run: Run<'a>,
    changes: Vec<Change>,
    list: ListInfo,
    /// The names of the lists of this run and of those that it continues.
    known: KnownNames,
    bar: &'a Bar,
    /// Whether the file holds a model that this run does not continue.
    replaces: bool,
    has_saved: bool,
    /// Where an older model is kept until this run or one that continues it is finished.
    kept: Option<PathBuf>,
}

impl<'a> Saver<'a> {
    /// For a run that goes to `path`, where `replaces` is whether the file holds a model that the
    /// run does not continue. `resumed` is the run that it does continue.
    pub fn new(
        path: &'a Path,
        replaces: bool,
        run: Run<'a>,
        changes: Vec<Change>,
        resumed: Option<&Checkpoint>,
        bar: &'a Bar,
    ) -> Self {
        let mut known = KnownNames::of(run.corpus.names(), run.case);
        if let Some(resumed) = resumed {
            known = known.union(&resumed.known);
        }
        // Once a run: of a long list they take longer than the rest of saving.
        let list = ListInfo::of(run.corpus, run.case);
        let kept = Some(kept_place(path)).filter(|kept| kept.exists());
        let has_saved = false;
        Self { path, run, changes, list, known, bar, replaces, has_saved, kept }
    }

    /// Where the run goes.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Where an older model is kept, if one is.
    pub fn kept(&self) -> Option<&Path> {
        self.kept.as_deref()
    }

    /// Whether the file still holds an older model that the run is to replace.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// Whether the run has been saved.
    pub fn has_saved(&self) -> bool {
        self.has_saved
    }

    /// Saves a run that is not finished, and keeps an older model beside it.
    pub fn save_unfinished(&mut self, trained: &Trained) -> crate::Result<()> {
        if self.replaces {
            keep_older(self.path)?;
            self.kept = Some(kept_place(self.path)).filter(|kept| kept.exists());
            if let Some(kept) = &self.kept {
                self.bar.say(&format!(
                    "The older model is kept as {} until training is done",
                    kept.display()
                ));
            }
            self.replaces = false;
        }
        self.save(trained)
    }

    /// Saves a finished run, and removes the older model that was kept.
    pub fn save_finished(&mut self, trained: &Trained) -> crate::Result<()> {
        self.save(trained)?;
        if let Some(kept) = self.kept.take() {
            let _ = std::fs::remove_file(kept);
        }
        Ok(())
    }

    fn save(&mut self, trained: &Trained) -> crate::Result<()> {
        let Run { corpus, config, .. } = self.run;
        let checkpoint = Checkpoint {
            vocabulary: corpus.vocabulary().clone(),
            config: config.clone(),
            trained: trained.clone(),
            list: self.list.clone(),
            known: self.known.clone(),
            changes: self.changes.clone(),
            program: PROGRAM.to_string(),
        };
        checkpoint::save(self.path, &checkpoint)?;
        self.has_saved = true;
        Ok(())
    }
}

/// Trains, and shows, logs and saves the run as it goes. Returns when it is done, `observer` breaks or
/// a signal arrives.
pub fn run(
    trainer: &mut Trainer,
    observer: &mut dyn Observer,
    metrics: &mut Metrics,
    bar: &Bar,
    every: Every,
    saver: &mut Option<Saver>,
    signals: &Signals,
) -> Result<Trained, Failure> {
    let now = Instant::now();
    let due = false;
    let mut watch = Watch { observer, metrics, bar, every, signals, shown: now, saved: now, due };
    let mut warned = false;
    loop {
        watch.due = false;
        let trained = trainer.run(&mut watch)?;
        // The log is written before the checkpoint, so that a resumed run leaves no gap in it.
        watch.metrics.flush();
        if trainer.is_done() || !watch.due || signals.caught().is_some() {
            return Ok(trained);
        }
        if let Some(saver) = saver {
            match saver.save_unfinished(&trained) {
                Ok(()) => warned = false,
                Err(_) if warned => {}
                Err(error) => {
                    bar.warn(&format!(
                        "char-rnn: {}; training continues, and will try again",
                        message(&error)
                    ));
                    warned = true;
                }
            }
        }
        watch.saved = Instant::now();
    }
}

/// Pauses training when the run is to be saved or stopped.
struct Watch<'a, 'm> {
    observer: &'a mut dyn Observer,
    metrics: &'a mut Metrics<'m>,
    bar: &'a Bar,
    every: Every,
    signals: &'a Signals,
    shown: Instant,
    saved: Instant,
    /// Whether it is time to save.
    due: bool,
}

impl Observer for Watch<'_, '_> {
    fn example(&mut self, iteration: u64, index: usize, name: &str, characters: &[u32]) {
        self.observer.example(iteration, index, name, characters);
    }

    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        self.metrics.iteration(progress);
        self.observer.iteration(progress)?;
        let now = Instant::now();
        if now - self.shown >= REDRAW {
            self.shown = now;
            self.bar.show(progress);
            self.due = matches!(self.every, Every::Time(time) if now - self.saved >= time);
        }
        if let Every::Iterations(every) = self.every {
            self.due = (progress.iteration + 1).is_multiple_of(every);
        }
        if self.due || self.signals.caught().is_some() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn gradients(&mut self, progress: &Progress, stats: &Stats) {
        self.metrics.gradients(stats);
        self.observer.gradients(progress, stats);
    }

    fn validation(&mut self, progress: &Progress, loss: f64) {
        self.metrics.validation(loss);
        self.observer.validation(progress, loss);
    }

    fn samples(&mut self, progress: &Progress, names: &[SampledName]) {
        self.metrics.samples(names);
        self.observer.samples(progress, names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::DeviceName;
    use crate::data::{Corpus, LetterCase};
    use crate::train::TrainConfig;

    /// Stops training once it has been saved twice.
    struct UntilSavedTwice<'a> {
        path: &'a Path,
        saved: Vec<u64>,
        start: Instant,
    }

    impl Observer for UntilSavedTwice<'_> {
        fn iteration(&mut self, _progress: &Progress) -> ControlFlow<()> {
            assert!(self.start.elapsed() < Duration::from_secs(60), "not saved in a minute");
            if self.path.exists() {
                let saved = checkpoint::load(self.path, &candle_core::Device::Cpu).unwrap();
                let iterations = saved.iterations();
                if self.saved.last() != Some(&iterations) {
                    self.saved.push(iterations);
                }
            }
            match self.saved[..] {
                [_, _, ..] => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    #[test]
    fn a_run_is_saved_each_time_the_interval_has_passed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let corpus = Corpus::dinos();
        let config = TrainConfig { hidden: 4, iterations: u64::MAX, ..TrainConfig::default() };
        let bar = Bar::new(config.iterations, 0, true);
        let time = Duration::from_millis(300);
        let start = Instant::now();
        let mut trainer = Trainer::new(&corpus, &config, &candle_core::Device::Cpu).unwrap();
        let mut observer = UntilSavedTwice { path: &path, saved: vec![], start };
        let signals = Signals::default();
        let every = Every::Time(time);
        let (case, list, model, device) = (LetterCase::Lower, None, None, DeviceName::Cpu);
        let watched = Run { corpus: &corpus, case, config: &config, list, model, device };
        let mut saver = Some(Saver::new(&path, false, watched, vec![], None, &bar));
        let mut metrics = Metrics::open(None, watched, None, &bar).unwrap();
        let trained =
            run(&mut trainer, &mut observer, &mut metrics, &bar, every, &mut saver, &signals)
                .unwrap();
        // Not before the interval has passed; the caller saves the last iteration.
        assert!(start.elapsed() >= 2 * time);
        assert!(observer.saved[0] < observer.saved[1]);
        assert_eq!(observer.saved[1], trained.progress.iteration);
    }
}
