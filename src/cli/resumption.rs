//! Going on with a run: what `train --resume` finds in the file, and what may be changed.

use super::{DeviceName, Failure};
use candle_core::Device;
use char_rnn::Error;
use char_rnn::checkpoint::{self, Record};
use char_rnn::corpus::{Case, Corpus};
use char_rnn::known::KnownNames;
use char_rnn::optim::Decay;
use char_rnn::resume::{Change, Resume};
use char_rnn::train::{Settings, Training};
use char_rnn::vocab::Vocabulary;
use std::path::{Path, PathBuf};

/// What may change on the way without making it another run.
const ORDINARY: [&str; 5] =
    ["--learning-rate", "--decay", "--iterations", "--sample-every", "--threads"];

/// A run out of a file.
pub struct Begun {
    path: PathBuf,
    vocabulary: Vocabulary,
    pub record: Record,
    pub resume: Resume,
    pub known: Option<KnownNames>,
}

impl Begun {
    pub fn load(path: &Path, device: &Device) -> char_rnn::Result<Self> {
        let saved = checkpoint::load(path, device)?;
        let resume = saved
            .resume
            .map_err(|problem| Error::ModelFile { path: path.to_path_buf(), problem })?;
        let (vocabulary, record, known) = (saved.vocabulary, saved.record, saved.known);
        Ok(Self { path: path.to_path_buf(), vocabulary, record, resume, known })
    }

    fn wrong(&self, problem: String) -> Failure {
        Error::ModelFile { path: self.path.clone(), problem }.into()
    }

    /// Whether names are held out by `training` that this run has not held out before.
    pub fn has_learned_others(&self, training: &Training) -> bool {
        let before = self.resume.trained.validation.as_ref().map(|before| before.names.as_str());
        training.held_out_digest().is_some_and(|names| before != Some(names))
    }

    /// What going on with `settings` and `corpus` changes; refuses what cannot be, and, without
    /// `force`, what makes it another run.
    pub fn changes(
        &self,
        settings: &Settings,
        case: Case,
        corpus: &Corpus,
        list: Option<&Path>,
        force: bool,
    ) -> Result<Vec<Change>, Failure> {
        let (was, iteration) = (&self.resume.settings, self.record.iterations);
        let digest = corpus.digest();
        if list.is_none() && digest != self.resume.list {
            return Err(self.wrong(format!(
                "this run learned another list than the built-in one; to go on, give the list too: \
                 char-rnn train --resume {} NAMES",
                quoted(&self.path)
            )));
        }
        if *corpus.vocabulary() != self.vocabulary {
            return Err(self.wrong(format!(
                "the list is written with other characters than the network has learned ({}), \
                 and they cannot change: train a new model",
                different(&self.vocabulary, corpus.vocabulary())
            )));
        }
        if let Some(patience) = settings.patience
            && iteration < was.iterations
            && !self.resume.is_unfinished()
            && was.patience.is_some_and(|was| patience <= was)
        {
            return Err(self.wrong(format!(
                "this run ended early, after {iteration} iterations and {patience} looks that \
                 found its held-out names no better; to go on, give a larger --patience, or 0"
            )));
        }
        if settings.iterations == iteration && !self.resume.is_unfinished() {
            return Err(self.wrong(format!(
                "all {iteration} iterations are done; for more, give a larger --iterations, \
                 which counts from the first"
            )));
        }
        let list = |names: usize, digest: &str| format!("{names} names of SHA-256 {digest}");
        let switch = |on| if on { "on" } else { "off" }.to_string();
        let keep = |case| switch(case == Case::Keep);
        let dtype = |settings: &Settings| settings.dtype.as_str().to_string();
        // Both are of no account but in these cases.
        let bends = was.decay == Decay::Cosine && settings.decay == Decay::Cosine;
        let judges = was.validation > 0. && settings.validation > 0.;
        let both = |name, from: u64, to: u64| (name, from.to_string(), to.to_string());
        let ways = [
            bends.then(|| both("--iterations", was.iterations, settings.iterations)),
            judges.then(|| both("--sample-every", was.sample_every, settings.sample_every)),
        ]
        .into_iter()
        .flatten();
        let changes: Vec<Change> = [
            ("--learning-rate", was.learning_rate.to_string(), settings.learning_rate.to_string()),
            ("--decay", was.decay.to_string(), settings.decay.to_string()),
            ("--threads", was.threads.to_string(), settings.threads.to_string()),
            ("--optimizer", was.optimizer.to_string(), settings.optimizer.to_string()),
            ("--weight-decay", was.weight_decay.to_string(), settings.weight_decay.to_string()),
            ("--validation", was.validation.to_string(), settings.validation.to_string()),
            ("--zero-state", switch(was.zero_state), switch(settings.zero_state)),
            ("--batch-size", was.batch_size.to_string(), settings.batch_size.to_string()),
            ("--clip", was.clip.to_string(), settings.clip.to_string()),
            ("--seed", was.randomness.to_string(), settings.randomness.to_string()),
            ("--dtype", dtype(was), dtype(settings)),
            ("--backprop", was.backprop.to_string(), settings.backprop.to_string()),
            ("--keep-case", keep(self.record.case), keep(case)),
            (
                "NAMES",
                list(self.record.names, &self.resume.list),
                list(corpus.names().len(), &digest),
            ),
        ]
        .into_iter()
        .chain(ways)
        .filter(|(_, from, to)| from != to)
        .map(|(setting, from, to)| Change { iteration, setting: setting.to_string(), from, to })
        .collect();
        let other_run: Vec<String> = changes
            .iter()
            .filter(|change| !ORDINARY.contains(&change.setting.as_str()))
            .map(|Change { setting, from, to, .. }| format!("{setting} {from}, not {to}"))
            .collect();
        if !force && !other_run.is_empty() {
            return Err(self.wrong(format!(
                "this run was begun with {}; go on with what it was begun with, or add --force to \
                 change it",
                other_run.join("; ")
            )));
        }
        Ok(changes)
    }
}

/// A character that only one of them has.
fn different(learned: &Vocabulary, listed: &Vocabulary) -> String {
    let (learned, listed) = (learned.characters(), listed.characters());
    if let Some(new) = listed.iter().find(|character| !learned.contains(character)) {
        return format!("it does not know {new:?}");
    }
    let missing = learned.iter().find(|character| !listed.contains(character));
    missing.map_or(String::new(), |missing| format!("the list has no {missing:?}"))
}

/// The command that goes on with the run in the file at `path`, on the list at `list` and on
/// `device`, the one thing that a run's file does not say of it.
pub fn command(path: &Path, list: Option<&Path>, device: DeviceName) -> String {
    let mut command = format!("char-rnn train --resume {}", quoted(path));
    if let Some(list) = list {
        command.extend([" ", &quoted(list)]);
    }
    if device != DeviceName::Cpu {
        command.extend([" --device ", &device.to_string()]);
    }
    command
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    // A path with a NUL, the only failure, cannot have been given.
    shlex::try_quote(&path).map_or_else(|_| path.clone(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_goes_on_says_what_the_file_does_not() {
        let (file, list) = (Path::new("my run"), Path::new("towns.txt"));
        let command = |list, device: &str| command(file, list, device.parse().unwrap());
        assert_eq!(command(None, "cpu"), "char-rnn train --resume 'my run'");
        assert_eq!(
            command(Some(list), "cuda"),
            "char-rnn train --resume 'my run' towns.txt --device cuda:0"
        );
        assert_eq!(command(None, "cuda:1"), "char-rnn train --resume 'my run' --device cuda:1");
    }
}
