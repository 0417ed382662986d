//! A run of training in the program: shown, logged, saved, and stopped by a signal.

use super::error::{Failure, message};
use super::job::Job;
use super::log::Log;
use super::progress::Bar;
use super::resume;
use super::saving::Saver;
use super::signals::Signals;
use crate::Error;
use crate::train::{Observer, Progress, Trained, Trainer};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How often the progress bar is drawn.
const REDRAW: Duration = Duration::from_millis(50);

/// How often a run is saved without `--checkpoint-every`.
const SAVE: Duration = Duration::from_secs(60);

/// A run, and what happens on its way.
pub struct Session<'a> {
    pub job: Job<'a>,
    pub trainer: Trainer<'a>,
    pub bar: Bar,
    pub log: Log<'a>,
    pub saver: Option<Saver<'a>>,
    /// `--checkpoint-every`.
    pub every: Option<u64>,
    pub signals: Signals,
}

impl Session<'_> {
    /// Trains, and saves the run as it ended. `names` observes the run too. After a signal and after
    /// divergence, the failure says how to continue.
    pub fn train(&mut self, names: &mut dyn Observer) -> Result<Trained, Failure> {
        let ended = match self.run(names) {
            Ok(trained) => self.save(&trained).map(|()| trained),
            Err(Failure::Library(error @ Error::Diverged { .. })) => {
                Err(Failure::Diverged(error, self.what_is_left()))
            }
            Err(failure) => Err(failure),
        };
        self.bar.finish();
        self.log.end(&ended, self.trainer.is_done());
        ended
    }

    /// Trains until the run is done, `names` breaks or a signal arrives, and saves it now and then.
    fn run(&mut self, names: &mut dyn Observer) -> Result<Trained, Failure> {
        let (signals, mut warned) = (&self.signals, false);
        let mut watch = Watch::new(&self.bar, self.every, signals);
        loop {
            watch.due = false;
            let mut observers: [&mut dyn Observer; 3] = [&mut self.log, names, &mut watch];
            let trained = self.trainer.run(&mut observers)?;
            // The log is written before the checkpoint, so that a resumed run leaves no gap in it.
            self.log.flush();
            if self.trainer.is_done() || !watch.due || signals.caught().is_some() {
                return Ok(trained);
            }
            match self.saver.as_mut().map(|saver| saver.save_unfinished(&trained)) {
                Some(Err(error)) if !warned => {
                    let error = message(&error);
                    self.bar.warn(&format!(
                        "char-rnn: {error}; training continues, and will try again"
                    ));
                    warned = true;
                }
                Some(Err(_)) => {}
                _ => warned = false,
            }
            watch.saved = Instant::now();
        }
    }

    /// Saves the run as it ended.
    fn save(&mut self, trained: &Trained) -> Result<(), Failure> {
        self.bar.finish();
        let (done, all) = (trained.progress.iteration + 1, self.job.config.iterations);
        if self.trainer.is_done() && done < all {
            self.bar.say(&format!(
                "Stopped early, after {done} of {all} iterations: {} evaluations without improvement",
                self.job.config.patience
            ));
        }
        let stopped = self.signals.caught().filter(|_| !self.trainer.is_done());
        match &mut self.saver {
            Some(saver) if stopped.is_some() => saver.save_unfinished(trained)?,
            Some(saver) => saver.save_finished(trained)?,
            None => {}
        }
        // The rest can be done again, and a signal may stop it.
        self.signals.release();
        let Some(signal) = stopped else { return Ok(()) };
        let outcome = match &self.saver {
            None => "; nothing is saved without -o".to_string(),
            Some(saver) => {
                let (file, command) = (resume::quoted(saver.path()), resume::command(&self.job));
                format!("; saved as {file}; to continue: {command}{}", saver.older())
            }
        };
        Err(Failure::Stopped(signal, format!(" after {done} of {all} iterations{outcome}")))
    }

    /// What is left of a run that diverged, and of the model that it was to replace.
    fn what_is_left(&self) -> String {
        let Some(saver) = &self.saver else { return String::new() };
        let (path, config) = (saver.path().display(), self.job.config);
        let left = match saver.saved() {
            Some(done) => format!(
                "; {path} holds the run after {done} of {} iterations; to continue from there: {} \
                 --learning-rate {:?}",
                config.iterations,
                resume::command(&self.job),
                config.learning_rate / 2.
            ),
            None if saver.path().exists() => format!("; {path} is as it was"),
            None => String::new(),
        };
        left + &saver.older()
    }
}

/// Moves the bar, and pauses training when the run is to be saved or stopped.
pub struct Watch<'a> {
    bar: &'a Bar,
    every: Option<u64>,
    signals: &'a Signals,
    shown: Instant,
    saved: Instant,
    /// Whether it is time to save.
    due: bool,
    /// The iterations that the bar does not show yet.
    new: u64,
}

impl<'a> Watch<'a> {
    /// A run to be saved after `every` so many iterations, or else [`SAVE`].
    pub fn new(bar: &'a Bar, every: Option<u64>, signals: &'a Signals) -> Self {
        let now = Instant::now();
        Self { bar, every, signals, shown: now, saved: now, due: false, new: 0 }
    }
}

impl Observer for Watch<'_> {
    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        let now = Instant::now();
        self.new += 1;
        if now - self.shown >= REDRAW {
            self.bar.advance(std::mem::take(&mut self.new), progress.smoothed);
            self.shown = now;
        }
        self.due = match self.every {
            Some(every) => (progress.iteration + 1).is_multiple_of(every),
            None => now - self.saved >= SAVE,
        };
        match self.due || self.signals.caught().is_some() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
#[test]
fn a_run_is_saved_each_time_the_interval_has_passed() {
    let (bar, signals) = (Bar::new(true), Signals::default());
    let progress = Progress { iteration: 0, loss: 1., smoothed: 1. };
    let mut watch = Watch::new(&bar, None, &signals);
    assert!(watch.iteration(&progress).is_continue() && !watch.due);
    watch.saved -= SAVE;
    assert!(watch.iteration(&progress).is_break() && watch.due);
}
