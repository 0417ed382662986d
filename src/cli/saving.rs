//! Saving a run as it goes: when, where, and what becomes of an older model there.

use super::Failure;
use super::metrics::Metrics;
use super::progress::Bar;
use super::signals::Signals;
use char_rnn::checkpoint::{self, Record};
use char_rnn::corpus::{Case, Corpus};
use char_rnn::engine::Gradients;
use char_rnn::known::KnownNames;
use char_rnn::output_file::copy_beside;
use char_rnn::resume::{Change, Resume};
use char_rnn::sample::Sampled;
use char_rnn::train::{Observer, Progress, Settings, Trained, Training};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a run is saved on its way.
#[derive(Clone, Copy)]
pub enum Every {
    /// At every iteration that this divides.
    Iterations(u64),
    /// When so much time has gone by.
    Time(Duration),
}

/// What `--checkpoint-every` asks for; once a minute without it.
impl From<Option<u64>> for Every {
    fn from(iterations: Option<u64>) -> Self {
        iterations.map_or(Self::Time(Duration::from_secs(60)), Self::Iterations)
    }
}

/// How often the bar moves. Asking the clock is all that an iteration pays for both.
const REDRAW: Duration = Duration::from_millis(50);

/// Writes a run to its file.
pub struct Saver<'a> {
    path: &'a Path,
    corpus: &'a Corpus,
    settings: &'a Settings,
    case: Case,
    changes: Vec<Change>,
    /// Whether the file holds a model that this run does not go on from.
    replaces: bool,
    has_saved: bool,
    /// Where that model is kept while an unfinished one is in its place.
    kept: Option<PathBuf>,
    bar: &'a Bar,
    /// What the file says of the list, which is the same at each saving.
    list: String,
    known: KnownNames,
}

impl<'a> Saver<'a> {
    /// For a run on `corpus` that goes to `path`; `replaces` says whether that holds a model that
    /// the run does not go on from.
    pub fn new(
        path: &'a Path,
        replaces: bool,
        corpus: &'a Corpus,
        case: Case,
        settings: &'a Settings,
        changes: Vec<Change>,
        bar: &'a Bar,
    ) -> Self {
        let known = KnownNames::of(corpus.names().iter().map(String::as_str));
        let (list, kept) = (corpus.digest(), None);
        Self {
            path,
            corpus,
            settings,
            case,
            changes,
            replaces,
            has_saved: false,
            kept,
            bar,
            list,
            known,
        }
    }

    /// Counts the names that the run learned before among those that the model knows: what comes
    /// from an earlier list is not new.
    pub fn also_knows(&mut self, earlier: &KnownNames) {
        self.known = self.known.union(earlier);
    }

    /// Where the run goes.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Where an older model is kept, if one is.
    pub fn kept(&self) -> Option<&Path> {
        self.kept.as_deref()
    }

    /// Whether an older model is where the run goes, and will be until the run is saved.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// Whether the file is of this run by now.
    pub fn has_saved(&self) -> bool {
        self.has_saved
    }

    /// Saves a run that is not finished. An older model is kept beside it: that is to be replaced
    /// by a finished one.
    pub fn save_unfinished(&mut self, trained: &Trained) -> char_rnn::Result<()> {
        if self.replaces {
            let kept = copy_beside(self.path)?;
            self.bar.say(&format!(
                "The older model is kept as {} until training is done",
                kept.display()
            ));
            self.kept = Some(kept);
            self.replaces = false;
        }
        self.save(trained)
    }

    /// Saves a finished run.
    pub fn save_finished(&mut self, trained: &Trained) -> char_rnn::Result<()> {
        self.save(trained)?;
        if let Some(kept) = self.kept.take() {
            let _ = std::fs::remove_file(kept);
        }
        Ok(())
    }

    fn save(&mut self, trained: &Trained) -> char_rnn::Result<()> {
        let record = Record::of(self.corpus, self.case, self.settings, trained);
        let resume = Resume {
            settings: self.settings.clone(),
            trained: trained.clone(),
            list: self.list.clone(),
            changes: self.changes.clone(),
        };
        let vocabulary = self.corpus.vocabulary();
        checkpoint::save_run(self.path, vocabulary, &record, Some(&self.known), &resume)?;
        self.has_saved = true;
        Ok(())
    }
}

/// Runs `training`, shows, measures and saves it as it goes, and returns when it is done, `observer`
/// breaks or a signal came.
pub fn run(
    training: &mut Training,
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
        let trained = training.run(&mut watch)?;
        // What is saved has been told: a run that goes on from there leaves no gap.
        watch.metrics.flush();
        if training.is_done() || !watch.due || signals.caught().is_some() {
            return Ok(trained);
        }
        if let Some(saver) = saver {
            match saver.save_unfinished(&trained) {
                Ok(()) => warned = false,
                Err(_) if warned => {}
                Err(error) => {
                    bar.warn(&format!("char-rnn: {error}; training goes on, and will try again"));
                    warned = true;
                }
            }
        }
        watch.saved = Instant::now();
    }
}

/// Ends training for a while when there is something to do.
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

    fn gradients(&mut self, progress: &Progress, gradients: &Gradients) {
        self.metrics.gradients(gradients);
        self.observer.gradients(progress, gradients);
    }

    fn validated(&mut self, progress: &Progress, loss: f64) {
        self.metrics.validated(loss);
        self.observer.validated(progress, loss);
    }

    fn samples(&mut self, progress: &Progress, names: &[Sampled]) {
        self.metrics.samples(names);
        self.observer.samples(progress, names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::metrics::{Flags, Run};

    /// Ends training once it has been saved twice.
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
                let iterations = saved.record.iterations;
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
    fn a_run_is_saved_by_the_clock_each_time_that_it_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let corpus = Corpus::dinos();
        let settings = Settings { hidden: 4, iterations: u64::MAX, ..Settings::default() };
        let bar = Bar::new(settings.iterations, 0, true);
        let time = Duration::from_millis(300);
        let start = Instant::now();
        let mut saver =
            Some(Saver::new(&path, false, &corpus, Case::Lower, &settings, vec![], &bar));
        let mut training = Training::new(&corpus, &settings).unwrap();
        let mut observer = UntilSavedTwice { path: &path, saved: vec![], start };
        let signals = Signals::default();
        let every = Every::Time(time);
        let (flags, device) = (Flags::default(), "cpu".to_string());
        let (case, list, model) = (Case::Lower, None, None);
        let watched = Run { corpus: &corpus, case, settings: &settings, list, model, device };
        let mut metrics = Metrics::open(&flags, watched, None, &bar).unwrap();
        let trained =
            run(&mut training, &mut observer, &mut metrics, &bar, every, &mut saver, &signals)
                .unwrap();
        // Not before it was due, and not the last iteration, which is the caller's to save.
        assert!(start.elapsed() >= 2 * time);
        assert!(observer.saved[0] < observer.saved[1]);
        assert_eq!(observer.saved[1], trained.progress.iteration);
    }
}
