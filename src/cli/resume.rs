//! `train --resume`: the run in the file, and what may change.

use super::args::STANDARD_INPUT;
use super::error::{Failure, flag};
use super::job::Job;
use super::progress::Bar;
use crate::Error;
use crate::checkpoint::{self, Change, Checkpoint, Run};
use crate::data::{Corpus, Vocabulary};
use crate::text::excerpt;
use crate::train::{Decay, TrainConfig, Trainer};
use candle_core::Device;
use std::path::{Path, PathBuf};

/// The fields that may change without making it another run.
const FREELY_CHANGEABLE: [&str; 6] =
    ["learning_rate", "decay", "iterations", "eval_every", "samples", "patience"];

/// A run out of a file.
pub struct ResumedRun {
    path: PathBuf,
    vocabulary: Vocabulary,
    pub run: Run,
}

impl ResumedRun {
    pub fn load(path: &Path, device: &Device) -> crate::Result<Self> {
        let Checkpoint { vocabulary, run, .. } = checkpoint::load(path, device)?;
        let Some(run) = run else {
            let problem = "it has a network, but no run to resume: its metadata has no \"run\"";
            return Err(Error::model_file(path, problem));
        };
        Ok(Self { path: path.to_path_buf(), vocabulary, run })
    }

    fn refuse(&self, problem: String) -> Failure {
        Error::model_file(&self.path, problem).into()
    }

    /// Reports if `trainer` holds out names that this run has not held out before.
    pub fn warn(&self, trainer: &Trainer, bar: &Bar) {
        let before = self.run.trained.validation.as_ref();
        let before = before.map(|validation| validation.names.as_str());
        if trainer.held_out_digest().is_some_and(|names| before != Some(names)) {
            let done = self.run.iterations();
            bar.say(&format!(
                "Other names are held out from here on; the first {done} iterations trained on \
                 them, so that their loss is too low"
            ));
        }
    }

    /// The list to continue on, `corpus` of the file at `list`, with the vocabulary of the network,
    /// which may have more characters.
    pub fn adopt(&self, corpus: Corpus, list: Option<&Path>) -> Result<Corpus, Failure> {
        if list.is_none() && corpus.digest() != self.run.list.sha256 {
            return Err(self.refuse(format!(
                "this run was trained on another list than the built-in one; to resume it, give the \
                 list too: char-rnn train --resume {} NAMES",
                quoted(&self.path)
            )));
        }
        corpus.with_vocabulary(&self.vocabulary).map_err(|error| match error {
            Error::UnknownCharacter { character } => self.refuse(format!(
                "the list has the character {character:?}, which the network does not have and \
                 cannot get: train a new model"
            )),
            error => error.into(),
        })
    }

    /// The changes of this run so far, and those to `config` and `corpus`. Refuses what cannot change, and, without
    /// `force`, what makes it another run.
    pub fn changes(
        &self,
        config: &TrainConfig,
        corpus: &Corpus,
        force: bool,
    ) -> Result<Vec<Change>, Failure> {
        let before = &self.run;
        let (was, iteration) = (&before.config, before.iterations());
        let sha256 = corpus.digest();
        self.check_unfinished(config)?;
        let mut changes: Vec<Change> = was
            .differences(config)
            .into_iter()
            .map(|found| Change { iteration, field: found.field, from: found.from, to: found.to })
            .collect();
        let list =
            |names: usize, sha256: &str| format!("{names} names of SHA-256 {}", excerpt(sha256));
        for (field, from, to) in [
            ("case", before.list.case.to_string(), corpus.case().to_string()),
            (
                "NAMES",
                list(before.list.names, &before.list.sha256),
                list(corpus.names().len(), &sha256),
            ),
        ] {
            if from != to {
                changes.push(Change { iteration, field: field.to_string(), from, to });
            }
        }
        let another_run: Vec<String> = changes
            .iter()
            .filter(|change| !FREELY_CHANGEABLE.contains(&change.field.as_str()))
            // The library refuses another number of hidden units, also with `force`.
            .filter(|change| change.field != "hidden")
            .map(|Change { field, from, to, .. }| format!("{} {from}, not {to}", flag(field)))
            .collect();
        if !force && !another_run.is_empty() {
            return Err(self.refuse(format!(
                "this run was started with {}; resume it with the same, or add --force to change it",
                another_run.join("; ")
            )));
        }
        // Recorded is what changes the results.
        changes.retain(|change| match change.field.as_str() {
            "iterations" => was.decay == Decay::Cosine && config.decay == Decay::Cosine,
            "eval_every" => was.validation > 0. && config.validation > 0.,
            "samples" | "patience" => false,
            _ => true,
        });
        Ok([before.changes.clone(), changes].concat())
    }

    /// Refuses a run that has ended, unless `config` makes it longer.
    fn check_unfinished(&self, config: &TrainConfig) -> Result<(), Failure> {
        let (was, iterations) = (&self.run.config, self.run.iterations());
        if self.run.is_unfinished() {
            return Ok(());
        }
        let patience = config.patience;
        if iterations < was.iterations && patience > 0 && patience <= was.patience {
            return Err(self.refuse(format!(
                "this run stopped early, after {iterations} iterations and {patience} evaluations \
                 without improvement; to resume it, give a larger --patience, or 0"
            )));
        }
        if config.iterations == iterations {
            return Err(self.refuse(format!(
                "all {iterations} iterations are done; for more, give a larger --iterations, which \
                 counts from the first"
            )));
        }
        Ok(())
    }
}

/// The command that resumes the run of `job`, with what its file does not store.
pub fn command(job: &Job) -> String {
    let Job { list, model, device, .. } = *job;
    let mut command = "char-rnn train --resume".to_string();
    for path in model.into_iter().chain(list) {
        command.extend([" ", &quoted(path)]);
    }
    if device != "cpu" {
        command.extend([" --device ", device]);
    }
    command
}

/// A path as a shell and then this program read it.
pub fn quoted(path: &Path) -> String {
    let mut path = path.display().to_string();
    // No flag. A dash alone is standard input.
    if path.starts_with('-') && path != STANDARD_INPUT {
        path.insert_str(0, "./");
    }
    // Only a path with a NUL fails, which cannot be given on a command line.
    shlex::try_quote(&path).map_or_else(|_| path.clone(), |quoted| quoted.into_owned())
}

#[cfg(test)]
#[test]
fn the_command_to_resume_adds_what_the_file_does_not_store() {
    let (corpus, config) = (&Corpus::dinos(), &TrainConfig::default());
    let [list, model] = ["towns.txt", "my run"].map(|path| Some(Path::new(path)));
    let job = Job { corpus, config, list, model, device: "cuda:1" };
    assert_eq!(command(&job), "char-rnn train --resume 'my run' towns.txt --device cuda:1");
    let job = Job { list: None, device: "cpu", ..job };
    assert_eq!(command(&job), "char-rnn train --resume 'my run'");
}
