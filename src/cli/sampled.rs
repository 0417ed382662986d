//! Sampled names as they are shown, until enough are found.

use super::error::Failure;
use crate::data::{Spelling, Vocabulary, trimmed};
use crate::model::CharRnn;
use crate::random::RngSource;
use crate::sample::{SampleOptions, SampledName, Sampler};
use std::ops::ControlFlow;

/// A sampled name.
pub struct Sampled {
    /// As it is shown.
    pub name: String,
    /// As the network made it, trimmed.
    pub text: String,
    /// Whether the network ended it; if not, the maximum length did.
    pub ended: bool,
}

/// Where names come from.
pub struct Source<'a> {
    pub model: &'a CharRnn,
    pub vocabulary: &'a Vocabulary,
    pub spelling: &'a Spelling,
    pub rng: RngSource,
    pub options: SampleOptions,
}

impl Source<'_> {
    /// Samples names until `accept` has accepted `count` of them or breaks, or `limit` are sampled.
    /// Returns how many were accepted.
    pub fn sample(
        &self,
        count: u64,
        limit: u64,
        mut accept: impl FnMut(Sampled) -> Result<ControlFlow<(), bool>, Failure>,
    ) -> Result<u64, Failure> {
        let (mut accepted, mut sampled) = (0, 0);
        while accepted < count && sampled < limit {
            // As many as are missing; after the first round at least 256, so that there are few
            // rounds.
            let round = (count - accepted).max(if sampled == 0 { 1 } else { 256 });
            let end = limit.min(sampled.saturating_add(round));
            let options = self.options.clone();
            for name in Sampler::with_options(self.model, self.rng, options, sampled..end)? {
                let SampledName { indices, ended } = name?;
                let text = trimmed(&self.vocabulary.decode(&indices)).to_string();
                let name = self.spelling.shown(&text);
                match accept(Sampled { name, text, ended })? {
                    ControlFlow::Continue(is_accepted) => accepted += u64::from(is_accepted),
                    ControlFlow::Break(()) => return Ok(accepted),
                }
                if accepted == count {
                    return Ok(accepted);
                }
            }
            sampled = end;
        }
        Ok(accepted)
    }
}
