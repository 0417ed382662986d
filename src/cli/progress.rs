//! Progress on the terminal: a bar, and the names sampled on the way.

use super::args::{count, say};
use super::error::Failure;
use crate::data::Corpus;
use crate::sample::SampledName;
use crate::train::{Observer, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long training goes on before its time is estimated.
const MOMENT: Duration = Duration::from_millis(300);

/// A progress bar on standard error. Clones are the same bar.
#[derive(Clone)]
pub struct Bar {
    bar: ProgressBar,
    quiet: bool,
    /// Whether the time that it takes is to be reported.
    is_estimated: Arc<AtomicBool>,
}

impl Bar {
    /// A bar that is not shown yet; never where standard error is no terminal, and nothing at all
    /// where `quiet`.
    pub fn new(quiet: bool) -> Self {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(
            "{wide_bar:.cyan/blue.dim} {human_pos}/{human_len}  loss {msg}  {eta} left",
        );
        let bar = ProgressBar::with_draw_target(None, target)
            .with_style(style.expect("the template is a good one"));
        Self { bar, quiet, is_estimated: Arc::default() }
    }

    /// Starts the bar: of so many `iterations`, some are `done`.
    pub fn start(&self, iterations: u64, done: u64) {
        self.bar.reset();
        self.bar.set_length(iterations);
        if done > 0 {
            // Counted before the clock starts, or they would count as done in no time.
            self.bar.set_position(done);
            self.bar.tick();
            self.bar.reset_eta();
        }
    }

    /// Reports once how long all iterations take, when some of them are done.
    pub fn estimate(&self) {
        self.is_estimated.store(true, Ordering::Relaxed);
    }

    /// Moves the bar by so many iterations; the last has this loss.
    pub fn advance(&self, iterations: u64, loss: f64) {
        self.bar.set_message(rounded(loss));
        self.bar.inc(iterations);
        let elapsed = self.bar.elapsed();
        if elapsed >= MOMENT && self.is_estimated.swap(false, Ordering::Relaxed) {
            let part = self.bar.position() as f64 / self.bar.length().unwrap_or(0) as f64;
            self.say(&format!("This takes about {}", rough(elapsed.as_secs_f64() / part)));
        }
    }

    /// Whether nothing is written but what went wrong.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Writes a line to standard error, above the bar.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            self.warn(line);
        }
    }

    /// Writes a line even if `quiet`: something went wrong.
    pub fn warn(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    /// Writes to standard output, above the bar.
    pub fn print(&self, text: &str) -> io::Result<()> {
        self.bar.suspend(|| {
            let mut out = stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        })
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A time in words.
fn rough(seconds: f64) -> String {
    match seconds.round() as u64 {
        0..100 => count(seconds.ceil() as u64, "second"),
        seconds => count(seconds.div_ceil(60), "minute"),
    }
}

/// A loss as it is shown; an exploded one has hundreds of digits before its point.
pub fn rounded(loss: f64) -> String {
    if loss < 1e6 { format!("{loss:.2}") } else { format!("{loss:.2e}") }
}

/// The bar, and the names sampled at evaluations.
pub struct Live<'a> {
    pub bar: Bar,
    corpus: &'a Corpus,
    /// The held-out loss of the evaluation that is under way.
    held_out: Option<f64>,
    written: io::Result<()>,
}

impl<'a> Live<'a> {
    pub fn new(bar: Bar, corpus: &'a Corpus) -> Self {
        Self { bar, corpus, held_out: None, written: Ok(()) }
    }

    /// Prints `names`, one a line. A closed standard output does not stop training, whose result is
    /// the model; the failure is reported by [`finish`](Self::finish).
    pub fn print(&mut self, names: &[String]) {
        if self.written.is_ok() {
            let lines: String = names.iter().flat_map(|name| [name, "\n"]).collect();
            self.written = self.bar.print(&lines);
        }
    }

    /// Reports whether all names could be printed.
    pub fn finish(self) -> Result<(), Failure> {
        Ok(self.written?)
    }
}

impl Observer for Live<'_> {
    fn validation(&mut self, _progress: &Progress, loss: f64) {
        self.held_out = Some(loss);
    }

    fn samples(&mut self, progress: &Progress, names: &[SampledName]) {
        let loss = rounded(progress.smoothed);
        let held_out = self.held_out.take().map(|loss| format!(", held out {}", rounded(loss)));
        let held_out = held_out.unwrap_or_default();
        self.bar.say(&format!("iteration {}, loss {loss}{held_out}", progress.iteration));
        let (vocabulary, spelling) = (self.corpus.vocabulary(), self.corpus.spelling());
        let name = |sampled: &SampledName| vocabulary.show(&sampled.indices, spelling);
        self.print(&names.iter().map(name).collect::<Vec<_>>());
        self.bar.say("");
    }
}
