//! Saves a run as it goes, and keeps an older model until the run is finished.

use super::files::{keep_older, kept_place};
use super::job::Job;
use crate::checkpoint::{self, Change, Checkpoint, ListInfo, PROGRAM, Run};
use crate::data::KnownNames;
use crate::train::Trained;
use std::path::Path;

/// Writes a run to its file.
pub struct Saver<'a> {
    path: &'a Path,
    job: Job<'a>,
    changes: Vec<Change>,
    list: ListInfo,
    known: KnownNames,
    /// Whether the file holds a model that this run does not continue.
    replaces: bool,
    /// The iterations of the run as it was last saved.
    saved: Option<u64>,
}

impl<'a> Saver<'a> {
    /// For a run that goes to `path`, where `replaces` is whether the file holds a model that the
    /// run does not continue. `resumed` is the run that it does continue.
    pub fn new(
        path: &'a Path,
        replaces: bool,
        job: Job<'a>,
        changes: Vec<Change>,
        resumed: Option<&Run>,
    ) -> Self {
        let mut known = KnownNames::of(job.corpus.names());
        if let Some(resumed) = resumed {
            known = known.union(&resumed.known);
        }
        // Once a run: of a long list they take longer than the rest of saving.
        let list = ListInfo::of(job.corpus);
        Self { path, job, changes, list, known, replaces, saved: None }
    }

    /// Where the run goes.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// The names of the lists of this run and of those that it continues.
    pub fn known(&self) -> &KnownNames {
        &self.known
    }

    /// The iterations of the run as it was last saved, if it was.
    pub fn saved(&self) -> Option<u64> {
        self.saved
    }

    /// Where an older model is kept until this run or one that continues it is finished, in words.
    pub fn older(&self) -> String {
        let kept = kept_place(self.path);
        match kept.exists() {
            true => format!("; the older model is kept as {}", kept.display()),
            false => String::new(),
        }
    }

    /// Saves a run that is not finished, and keeps an older model beside it.
    pub fn save_unfinished(&mut self, trained: &Trained) -> crate::Result<()> {
        if self.replaces {
            keep_older(self.path)?;
            self.replaces = false;
        }
        self.save(trained)
    }

    /// Saves a finished run, and removes the older model that was kept.
    pub fn save_finished(&mut self, trained: &Trained) -> crate::Result<()> {
        self.save(trained)?;
        let _ = std::fs::remove_file(kept_place(self.path));
        Ok(())
    }

    fn save(&mut self, trained: &Trained) -> crate::Result<()> {
        let Job { corpus, config, .. } = self.job;
        let run = Run {
            config: config.clone(),
            trained: trained.clone(),
            list: self.list.clone(),
            known: self.known.clone(),
            changes: self.changes.clone(),
            program: PROGRAM.to_string(),
        };
        checkpoint::save(self.path, &Checkpoint::of_run(corpus.vocabulary().clone(), run))?;
        self.saved = Some(trained.progress.iteration + 1);
        Ok(())
    }
}
