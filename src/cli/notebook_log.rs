//! The notebook's log, letter for letter, so that `diff` can compare it.

use super::error::Failure;
use super::job::Job;
use super::progress::Bar;
use super::python::python_list;
use crate::data::Spelling;
use crate::sample::{MAX_LENGTH, SampledName};
use crate::train::{Observer, Progress, initial_loss};
use std::io;
use std::ops::ControlFlow;

/// Writes the log to standard output as training goes.
pub struct NotebookLog<'a> {
    bar: Bar,
    job: Job<'a>,
    verbose: bool,
    /// The number of examples.
    examples: u64,
    written: io::Result<()>,
}

impl<'a> NotebookLog<'a> {
    pub fn new(bar: Bar, job: Job<'a>, examples: u64) -> Self {
        Self { bar, job, verbose: false, examples, written: Ok(()) }
    }

    /// Adds the debug lines, from the `start` those that the notebook prints before its loop.
    pub fn write_debug_lines(&mut self, start: bool) {
        self.verbose = true;
        if start {
            let corpus = self.job.corpus;
            let loss = initial_loss(corpus.vocabulary().size());
            self.write(&format!("{loss:?}\n{}\n", python_list(corpus.names())));
        }
    }

    /// Reports whether all of the log could be written.
    pub fn finish(self) -> Result<(), Failure> {
        self.bar.finish();
        Ok(self.written?)
    }

    /// Writes, unless an earlier write failed.
    fn write(&mut self, text: &str) {
        if self.written.is_ok() {
            self.written = self.bar.print(text);
        }
    }
}

impl Observer for NotebookLog<'_> {
    fn example(&mut self, iteration: u64, index: usize, name: &str, characters: &[u32]) {
        let examples = self.examples;
        if !self.verbose || ![0, examples - 1, examples].contains(&iteration) {
            return;
        }
        let mut text = format!("j =  {iteration} idx =  {index}\n");
        if iteration == 0 {
            let quoted = python_list(name.chars().map(String::from));
            let indices: Vec<String> = characters.iter().map(u32::to_string).collect();
            let indices = indices.join(", ");
            text += &format!("single_example = {name}\n");
            text += &format!("single_example_chars {quoted}\n");
            text += &format!("single_example_ix [{indices}]\n");
            text += &format!(" X =  [None, {indices}] \n Y =  [{indices}, 0] \n\n");
        }
        self.write(&text);
    }

    fn iteration(&mut self, _progress: &Progress) -> ControlFlow<()> {
        match self.written {
            // Without a model the log is the only output.
            Err(_) if self.job.model.is_none() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn samples(&mut self, progress: &Progress, names: &[SampledName]) {
        let mut text =
            format!("Iteration: {}, Loss: {:.6}\n\n", progress.iteration, progress.smoothed);
        for sampled in names {
            let name = self.job.corpus.vocabulary().decode(&sampled.indices);
            text += &capitalized(&name, self.job.corpus.spelling());
            text.push('\n');
            // After its 50th character the notebook adds a line end, even if that was one.
            if sampled.ended && sampled.indices.len() + 1 == MAX_LENGTH {
                text.push('\n');
            }
        }
        self.write(&(text + "\n\n"));
    }
}

/// The name as the notebook prints it: `txt[0].upper() + txt[1:]`.
fn capitalized(name: &str, spelling: &Spelling) -> String {
    let mut characters = name.chars();
    match characters.next() {
        Some(first) if spelling.is_lower() => first.to_uppercase().chain(characters).collect(),
        _ => name.to_string(),
    }
}

#[cfg(test)]
#[test]
fn capitals_are_those_of_python() {
    for (name, expected) in [("ßa", "SSa"), ("'abd", "'abd"), (" a", " a"), ("", "")] {
        assert_eq!(capitalized(name, &Spelling::lower()), expected);
    }
}
