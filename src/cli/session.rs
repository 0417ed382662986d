//! A run of training in the program: shown, logged, saved, and stopped by a signal.

use super::args::count;
use super::error::{Failure, message};
use super::job::Job;
use super::log::Log;
use super::progress::Bar;
use super::resume;
use super::saving::Saver;
use super::signals::Signals;
use crate::Error;
use crate::checkpoint;
use crate::train::{Observer, Progress, Trained, Trainer};
use candle_core::Device;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How often the progress bar is drawn.
const REDRAW: Duration = Duration::from_millis(50);

/// How long training goes on before its time is estimated.
const MOMENT: Duration = Duration::from_millis(300);

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

/// A run, and what happens on its way.
pub struct Session<'a> {
    pub job: Job<'a>,
    pub trainer: Trainer<'a>,
    pub bar: Bar,
    pub log: Log<'a>,
    pub saver: Option<Saver<'a>>,
    pub every: Every,
    pub signals: Signals,
    /// Whether to report at first how long it will take.
    pub is_estimated: bool,
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
        let left = if self.is_estimated { self.job.config.iterations } else { 0 };
        let mut watch = Watch::new(self.bar.clone(), self.every, signals, left);
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
        self.signals.restore_default();
        let Some(signal) = stopped else { return Ok(()) };
        let outcome = match &self.saver {
            None => "; nothing is saved without -o".to_string(),
            Some(saver) => {
                let (file, command) = (resume::quoted(saver.path()), self.command(saver));
                format!("; saved as {file}; to continue: {command}{}", saver.older())
            }
        };
        Err(Failure::Stopped(signal, format!(" after {done} of {all} iterations{outcome}")))
    }

    /// The command that continues the run.
    fn command(&self, saver: &Saver) -> String {
        resume::command(saver.path(), self.job.list, self.job.device)
    }

    /// What is left of a run that diverged, and of the model that it was to replace.
    fn what_is_left(&self) -> String {
        let Some(saver) = &self.saver else { return String::new() };
        let path = saver.path().display();
        let saved = || checkpoint::load(saver.path(), &Device::Cpu).ok()?.run;
        let left = if let Some(run) = saved().filter(|_| saver.has_saved()) {
            let (done, all) = (run.iterations(), run.config.iterations);
            let (command, rate) = (self.command(saver), self.job.config.learning_rate / 2.);
            format!(
                "; {path} holds the run after {done} of {all} iterations; to continue from there: \
                 {command} --learning-rate {rate:?}"
            )
        } else if saver.path().exists() {
            format!("; {path} is as it was")
        } else {
            String::new()
        };
        left + &saver.older()
    }
}

/// Moves the bar, and pauses training when the run is to be saved or stopped.
pub struct Watch<'a> {
    bar: Bar,
    every: Every,
    signals: &'a Signals,
    shown: Instant,
    saved: Instant,
    /// Whether it is time to save.
    due: bool,
    /// The iterations of which the time is to be reported; 0 when it is.
    left: u64,
    started: Instant,
    iterations: u64,
}

impl<'a> Watch<'a> {
    /// After a moment it reports how long so many iterations as are `left` will take; 0 reports
    /// nothing.
    pub fn new(bar: Bar, every: Every, signals: &'a Signals, left: u64) -> Self {
        let now = Instant::now();
        let (shown, saved, started) = (now, now, now);
        Self { bar, every, signals, shown, saved, due: false, left, started, iterations: 0 }
    }

    fn report_time(&mut self, now: Instant) {
        let elapsed = (now - self.started).as_secs_f64();
        if self.left > 0 && elapsed >= MOMENT.as_secs_f64() {
            let seconds = elapsed / self.iterations as f64 * self.left as f64;
            self.bar.say(&format!("This takes about {}", rough(seconds)));
            self.left = 0;
        }
    }
}

impl Observer for Watch<'_> {
    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        let now = Instant::now();
        self.iterations += 1;
        if now - self.shown >= REDRAW {
            self.shown = now;
            self.report_time(now);
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
}

/// A time in words.
fn rough(seconds: f64) -> String {
    match seconds.round() as u64 {
        0..100 => count(seconds.ceil() as u64, "second"),
        seconds => count(seconds.div_ceil(60), "minute"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::DeviceName;
    use super::*;
    use crate::data::Corpus;
    use crate::train::TrainConfig;
    use std::path::Path;

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
                let saved = checkpoint::load(self.path, &Device::Cpu).unwrap();
                let iterations = saved.run.unwrap().iterations();
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
        let (list, model, device) = (None, None, DeviceName::Cpu);
        let job = Job { corpus: &corpus, config: &config, list, model, device };
        let (bar, time) = (Bar::new(config.iterations, 0, true), Duration::from_millis(300));
        let start = Instant::now();
        let mut session = Session {
            job,
            trainer: Trainer::new(&corpus, &config, &Device::Cpu).unwrap(),
            log: Log::open(None, job, None, &bar).unwrap(),
            bar,
            saver: Some(Saver::new(&path, false, job, vec![], None)),
            every: Every::Time(time),
            signals: Signals::default(),
            is_estimated: false,
        };
        let mut observer = UntilSavedTwice { path: &path, saved: vec![], start };
        let trained = session.run(&mut observer).unwrap();
        // Not before the interval has passed; the caller saves the last iteration.
        assert!(start.elapsed() >= 2 * time);
        assert!(observer.saved[0] < observer.saved[1]);
        assert_eq!(observer.saved[1], trained.progress.iteration);
    }
}
