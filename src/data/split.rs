//! The split of a list into training and validation names.

use super::corpus::Corpus;
use crate::error::{Error, Result};
use crate::random::RngSource;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

impl Corpus {
    /// Marks the names of the validation set: a `share` of the distinct names, at least one and not
    /// all of them. A name that occurs twice is in one set only. The split depends on the seed and
    /// the names, not on their order.
    ///
    /// # Errors
    /// [`Error::Names`] if there are fewer than two distinct names.
    ///
    /// # Panics
    /// If `share` is not between 0 and 1.
    pub fn validation_split(&self, share: f64, rng: RngSource) -> Result<Vec<bool>> {
        assert!(share > 0. && share < 1., "a share is between 0 and 1, not {share}");
        // Sorted by a hash of seed and name, so that a changed list moves few of the other names.
        let hash = |name: &String| -> [u8; 32] {
            Sha256::new_with_prefix(format!("{rng}\n")).chain_update(name).finalize().into()
        };
        let hashes: Vec<[u8; 32]> = self.names().iter().map(hash).collect();
        let distinct: BTreeSet<&[u8; 32]> = hashes.iter().collect();
        if distinct.len() < 2 {
            let problem = "a validation set needs two different names: leave `validation` away";
            return Err(Error::names(self.origin(), problem));
        }
        let count = (distinct.len() as f64 * share).round() as usize;
        let last = distinct.iter().nth(count.clamp(1, distinct.len() - 1) - 1);
        Ok(hashes.iter().map(|hash| Some(&hash) <= last).collect())
    }
}
