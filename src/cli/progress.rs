//! How training looks to a person: a bar that moves, and names that get better.

use super::{Failure, say, shown};
use char_rnn::corpus::{Case, Corpus};
use char_rnn::sample::Sampled;
use char_rnn::train::{Observer, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, Write, stdout};

/// A progress bar on standard error. Clones are the same bar.
#[derive(Clone)]
pub struct Bar {
    bar: ProgressBar,
    quiet: bool,
}

impl Bar {
    /// A bar of `iterations`, some of them `done`; none where standard error is no terminal, and
    /// nothing at all where `quiet`.
    pub fn new(iterations: u64, done: u64, quiet: bool) -> Self {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(
            "{wide_bar:.cyan/blue.dim} {human_pos}/{human_len}  loss {msg}  {eta} left",
        );
        let bar = ProgressBar::with_draw_target(Some(iterations), target)
            .with_style(style.expect("the template is a good one"));
        if done > 0 {
            // Seen before the clock starts, so that they do not count as done in no time.
            bar.set_position(done);
            bar.tick();
            bar.reset_eta();
        }
        Self { bar, quiet }
    }

    /// Moves the bar.
    pub fn show(&self, progress: &Progress) {
        self.bar.set_message(rounded(progress.smoothed));
        self.bar.set_position(progress.iteration + 1);
    }

    /// Writes a line to standard error, above the bar.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            self.warn(line);
        }
    }

    /// The same even where `quiet`: something went wrong.
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

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A loss as it is shown. One that is running away has hundreds of digits before its point.
pub fn rounded(loss: f64) -> String {
    if loss < 1e6 { format!("{loss:.2}") } else { format!("{loss:.2e}") }
}

/// The bar, and the names that the network makes as it learns.
pub struct Live<'a> {
    pub bar: Bar,
    corpus: &'a Corpus,
    case: Case,
    /// The loss of the held-out names, from their being looked at until names are sampled.
    held_out: Option<f64>,
    written: io::Result<()>,
}

impl<'a> Live<'a> {
    pub fn new(bar: Bar, corpus: &'a Corpus, case: Case) -> Self {
        Self { bar, corpus, case, held_out: None, written: Ok(()) }
    }

    /// Prints `names`, one a line. A reader that has gone does not end training: the model is
    /// what was asked for. Any other failure is kept for [`finish`](Self::finish).
    pub fn print<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        if self.written.is_ok() {
            let lines = names.into_iter().map(|name| shown(name, self.case) + "\n");
            self.written = self.bar.print(&lines.collect::<String>());
        }
    }

    /// Whether all names could be printed.
    pub fn finish(self) -> Result<(), Failure> {
        Ok(self.written?)
    }
}

impl Observer for Live<'_> {
    fn validated(&mut self, _progress: &Progress, loss: f64) {
        self.held_out = Some(loss);
    }

    fn samples(&mut self, progress: &Progress, names: &[Sampled]) {
        let loss = rounded(progress.smoothed);
        let held_out = self.held_out.take().map(|loss| format!(", held out {}", rounded(loss)));
        let held_out = held_out.unwrap_or_default();
        self.bar.say(&format!("iteration {}, loss {loss}{held_out}", progress.iteration));
        let names: Vec<String> =
            names.iter().map(|sampled| self.corpus.vocabulary().decode(&sampled.indices)).collect();
        self.print(names.iter().map(String::as_str));
        self.bar.say("");
    }
}
