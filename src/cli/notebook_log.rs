//! The notebook's log, letter for letter, so that `diff` can compare it.

use super::vocab::python;
use super::{Failure, shown};
use char_rnn::corpus::{Case, Corpus};
use char_rnn::sample::{MAX_LENGTH, Sampled};
use char_rnn::train::{Observer, Progress};
use std::io::{self, Stdout, Write, stdout};

/// Writes the log to standard output as training goes.
pub struct NotebookLog<'a> {
    corpus: &'a Corpus,
    case: Case,
    verbose: bool,
    out: Stdout,
    written: io::Result<()>,
}

impl<'a> NotebookLog<'a> {
    pub fn new(corpus: &'a Corpus, case: Case, verbose: bool) -> Self {
        Self { corpus, case, verbose, out: stdout(), written: Ok(()) }
    }

    /// Whether all of the log could be written.
    pub fn finish(self) -> Result<(), Failure> {
        Ok(self.written?)
    }

    /// Writes, unless an earlier write failed.
    fn write(&mut self, text: &str) {
        if self.written.is_ok() {
            let mut out = self.out.lock();
            self.written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

impl Observer for NotebookLog<'_> {
    fn example(&mut self, iteration: u64, index: usize, name: &str, characters: &[u32]) {
        let examples = self.corpus.names().len() as u64;
        if !self.verbose || ![0, examples - 1, examples].contains(&iteration) {
            return;
        }
        let mut text = format!("j =  {iteration} idx =  {index}\n");
        if iteration == 0 {
            let quoted: Vec<String> = name.chars().map(python).collect();
            let indices: Vec<String> = characters.iter().map(u32::to_string).collect();
            let indices = indices.join(", ");
            text += &format!("single_example = {name}\n");
            text += &format!("single_example_chars [{}]\n", quoted.join(", "));
            text += &format!("single_example_ix [{indices}]\n");
            text += &format!(" X =  [None, {indices}] \n Y =  [{indices}, 0] \n\n");
        }
        self.write(&text);
    }

    fn samples(&mut self, progress: &Progress, names: &[Sampled]) {
        let mut text =
            format!("Iteration: {}, Loss: {:.6}\n\n", progress.iteration, progress.smoothed);
        for sampled in names {
            let name = self.corpus.vocabulary().decode(&sampled.indices);
            text += &shown(&name, self.case);
            text.push('\n');
            // After its 50th character the notebook adds a line end, even if that was one.
            if sampled.ended && sampled.indices.len() + 1 == MAX_LENGTH {
                text.push('\n');
            }
        }
        self.write(&(text + "\n\n"));
    }
}
