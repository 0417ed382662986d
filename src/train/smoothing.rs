//! Soft targets from an n-gram model.
//!
//! The target of a character is `(1 - s) onehot(y) + s q`, where s is the share `smoothing` and q the
//! prediction of an interpolated Kneser-Ney model ([`crate::ngram`]) of the training names, without
//! that occurrence of the character. On a short list most contexts occur once: the list names one
//! next character, the n-gram model gives what else is likely there.

use crate::data::{Batch, IGNORE_INDEX};
use crate::ngram::NGram;

/// An n-gram model of the training names, and its share in the targets.
pub(super) struct Smoothing {
    model: NGram,
    /// The node of the context of each character of each training name.
    nodes: Vec<Vec<u32>>,
    share: f64,
    vocabulary: usize,
}

impl Smoothing {
    pub fn new(names: &[Vec<u32>], vocabulary: usize, share: f64) -> Self {
        let model = NGram::choose(names, vocabulary);
        let nodes = names.iter().map(|name| model.nodes(name)).collect();
        Self { model, nodes, share, vocabulary }
    }

    /// The n-gram model.
    pub fn model(&self) -> &NGram {
        &self.model
    }

    /// Sets the soft targets of `batch`, of the training names at the positions `names`.
    pub fn apply(&self, batch: &mut Batch, names: &[usize]) {
        let (size, share) = (batch.size(), self.share);
        let (y, q) = batch.soft_targets_mut(self.vocabulary);
        for (row, (&y, q)) in y.iter().zip(q.chunks_exact_mut(self.vocabulary)).enumerate() {
            if y == IGNORE_INDEX {
                continue;
            }
            let (t, name) = (row / size, names[row % size]);
            self.model.write(self.nodes[name][t], Some(y), share, q);
            q[y as usize] += 1. - share;
        }
    }
}
