//! The task of a command that trains: list, configuration, files and device.

use crate::data::Corpus;
use crate::train::TrainConfig;
use std::path::Path;

/// What is trained, on what, and where it goes.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub corpus: &'a Corpus,
    pub config: &'a TrainConfig,
    /// The path of the list; `None` for the built-in one.
    pub list: Option<&'a Path>,
    /// The path of the model.
    pub model: Option<&'a Path>,
    /// cpu, cuda or cuda:N.
    pub device: &'a str,
}
