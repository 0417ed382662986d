//! Progress on the terminal: a bar, and the names sampled on the way.

use super::args::say;
use super::error::Failure;
use crate::data::Corpus;
use crate::sample::SampledName;
use crate::train::{Observer, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, Write, stdout};

/// A progress bar on standard error. Clones are the same bar.
#[derive(Clone)]
pub struct Bar {
    bar: ProgressBar,
    quiet: bool,
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
        Self { bar, quiet }
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

    /// Moves the bar by so many iterations; the last has this loss.
    pub fn advance(&self, iterations: u64, loss: f64) {
        self.bar.set_message(rounded(loss));
        self.bar.inc(iterations);
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
