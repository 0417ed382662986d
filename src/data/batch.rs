//! Minibatches: inputs, targets and padding.
//!
//! Rows are time-major: step `t` of name `i` is row `t * size + i`. The notebook's
//! `X = [None] + name` and `Y = name + ['\n']` are a batch of one. In `x`, [`START`] stands for the
//! zero vector: the first input of each name, and padding. In `y`, [`IGNORE_INDEX`] is padding: no
//! loss, no gradient.
//!
//! Training can add soft targets and a dropout mask to a batch: the loss and its gradients then
//! use them, by every gradient method.

use super::vocabulary::END;
use candle_core::{Device, Result, Tensor, bail};

/// The input index of the zero vector: no character comes before this step.
pub const START: u32 = u32::MAX;

/// The target index of a padded step, which has neither loss nor gradient.
pub const IGNORE_INDEX: u32 = u32::MAX;

/// Refuses an index that is not below `size`.
pub(crate) fn check_indices<'a>(
    indices: impl IntoIterator<Item = &'a u32>,
    size: usize,
) -> Result<()> {
    if let Some(index) = indices.into_iter().find(|&&index| index as usize >= size) {
        bail!("the index {index} is outside a vocabulary of {size}");
    }
    Ok(())
}

/// A minibatch of names, `steps` (T) by `size` (B).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    x: Vec<u32>,
    y: Vec<u32>,
    steps: usize,
    size: usize,
    last_rows: Vec<u32>,
    step_sizes: Vec<usize>,
    /// (T * B, n_y), in place of `y`; empty if there are none.
    soft_targets: Vec<f64>,
    /// (B, n_a).
    dropout: Option<Vec<f64>>,
}

impl Batch {
    /// The batch of `names`, each the indices of its characters without the final `'\n'`. Without
    /// names it is empty, and has no loss.
    ///
    /// ```
    /// use char_rnn::data::{Batch, IGNORE_INDEX, START};
    /// let batch = Batch::new([&[1, 2][..], &[3]]);
    /// assert_eq!((batch.steps(), batch.size()), (3, 2));
    /// assert_eq!(batch.x(), [START, START, 1, 3, 2, START]);
    /// assert_eq!(batch.y(), [1, 3, 2, 0, 0, IGNORE_INDEX]);
    /// ```
    pub fn new<'a>(names: impl IntoIterator<Item = &'a [u32], IntoIter: Clone>) -> Self {
        let mut batch = Self::default();
        batch.fill(names);
        batch
    }

    /// A batch of one sequence: the notebook's `X` and `Y`.
    ///
    /// # Panics
    /// If their lengths differ or are zero.
    pub fn sequence(x: &[u32], y: &[u32]) -> Self {
        assert!(x.len() == y.len() && !x.is_empty(), "each step needs an input and a target");
        Self {
            x: x.to_vec(),
            y: y.to_vec(),
            steps: x.len(),
            size: 1,
            last_rows: vec![x.len() as u32 - 1],
            step_sizes: vec![1; x.len()],
            ..Self::default()
        }
    }

    /// Replaces the contents by the batch of `names` and reuses the memory.
    pub fn fill<'a>(&mut self, names: impl IntoIterator<Item = &'a [u32], IntoIter: Clone>) {
        let names = names.into_iter();
        self.size = names.clone().count();
        self.steps = names.clone().map(|name| name.len() + 1).max().unwrap_or(0);
        for rows in [&mut self.x, &mut self.y, &mut self.last_rows] {
            rows.clear();
        }
        self.x.resize(self.steps * self.size, START);
        self.y.resize(self.steps * self.size, IGNORE_INDEX);
        for (i, name) in names.enumerate() {
            for (t, &character) in name.iter().enumerate() {
                self.y[t * self.size + i] = character;
                self.x[(t + 1) * self.size + i] = character;
            }
            let last = name.len() * self.size + i;
            self.y[last] = END;
            self.last_rows.push(u32::try_from(last).expect("a batch has fewer than 2^32 rows"));
        }
        self.step_sizes.clear();
        let mut count = self.size;
        for first_row in (0..self.steps).map(|t| (t * self.size) as u32) {
            while self.last_rows[count - 1] < first_row {
                count -= 1;
            }
            self.step_sizes.push(count.next_multiple_of(2).min(self.size));
        }
        self.soft_targets.clear();
        self.dropout = None;
    }

    /// Makes the probabilities `q`, (T * B, n_y), the targets in place of [`y`](Self::y): the loss
    /// of a row is `-sum over k of q_k ln softmax(z)_k`. A row sums to 1, or where padded to 0.
    /// [`fill`](Self::fill) removes them.
    ///
    /// # Panics
    /// If the number of rows is another.
    pub fn set_soft_targets(&mut self, q: Vec<f64>) {
        assert!(!q.is_empty() && q.len().is_multiple_of(self.y.len()), "q is not (T * B, n_y)");
        self.soft_targets = q;
    }

    /// The targets [`y`](Self::y), and the memory of the soft targets, (T * B, n_y), all zero, which
    /// takes their place.
    pub(crate) fn soft_targets_mut(&mut self, vocabulary: usize) -> (&[u32], &mut [f64]) {
        self.soft_targets.clear();
        self.soft_targets.resize(self.y.len() * vocabulary, 0.);
        (&self.y, &mut self.soft_targets)
    }

    /// Multiplies the states that go to the output by `mask`, (B, n_a): at every step of a name by
    /// its row. The recurrence is not masked. [`fill`](Self::fill) removes it.
    ///
    /// # Panics
    /// If the number of rows is another.
    pub fn set_dropout(&mut self, mask: Vec<f64>) {
        let has_rows = !mask.is_empty() && mask.len().is_multiple_of(self.size);
        assert!(has_rows, "the mask is not (B, n_a)");
        self.dropout = Some(mask);
    }

    /// Inputs, (T * B): the index of the previous character, [`START`] at the start of a name.
    pub fn x(&self) -> &[u32] {
        &self.x
    }

    /// Targets, (T * B): the index of the character to predict, [`IGNORE_INDEX`] where padded.
    pub fn y(&self) -> &[u32] {
        &self.y
    }

    /// T: the length of the longest name, its `'\n'` included.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// B: the number of names.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The soft targets, (T * B, n_y), if there are any.
    pub(crate) fn soft_targets(&self) -> Option<&[f64]> {
        Some(&self.soft_targets[..]).filter(|q| !q.is_empty())
    }

    /// The dropout mask, (B, n_a), if there is one.
    pub(crate) fn dropout(&self) -> Option<&[f64]> {
        self.dropout.as_deref()
    }

    /// The soft targets as a tensor like `z`, the logits, (T * B, n_y).
    pub(crate) fn soft_targets_like(&self, z: &Tensor) -> Result<Option<Tensor>> {
        self.soft_targets().map(|q| to_tensor_like(q, z)).transpose()
    }

    /// The dropout mask as a tensor like `a0`, the first states, (B, n_a).
    pub(crate) fn dropout_like(&self, a0: &Tensor) -> Result<Option<Tensor>> {
        self.dropout().map(|mask| to_tensor_like(mask, a0)).transpose()
    }

    /// `a`, (T * B, n_a), times the dropout mask.
    pub(crate) fn drop_out(&self, a: &Tensor) -> Result<Tensor> {
        let (rows, n_a) = a.dims2()?;
        let Some(mask) = self.dropout_like(&a.narrow(0, 0, self.size)?)? else {
            return Ok(a.clone());
        };
        a.reshape((rows / self.size, self.size, n_a))?.broadcast_mul(&mask)?.reshape((rows, n_a))
    }

    /// Refuses an index of [`x`](Self::x) or [`y`](Self::y) that is not below `size`.
    pub(crate) fn check_indices(&self, size: usize) -> Result<()> {
        check_indices(self.x.iter().filter(|&&x| x != START), size)?;
        check_indices(self.y.iter().filter(|&&y| y != IGNORE_INDEX), size)
    }

    /// The row of each name's last step, (B): the target is `'\n'`, and the hidden state is the
    /// name's last.
    pub(crate) fn last_rows(&self) -> &[u32] {
        &self.last_rows
    }

    /// For each step the number of names, from the first, that are as long. It is even, or B: a single
    /// row would be summed in another order than two. Where the longest names come first, these rows
    /// have hardly any padding.
    pub(crate) fn step_sizes(&self) -> &[usize] {
        &self.step_sizes
    }

    /// [`x`](Self::x) and [`y`](Self::y) as tensors on `device`, (T * B) each.
    pub(crate) fn x_and_y_on(&self, device: &Device) -> Result<[Tensor; 2]> {
        Ok([Tensor::new(&self.x[..], device)?, Tensor::new(&self.y[..], device)?])
    }

    /// [`last_rows`](Self::last_rows) as a tensor on `device`, (B).
    pub(crate) fn last_rows_on(&self, device: &Device) -> Result<Tensor> {
        Tensor::new(&self.last_rows[..], device)
    }
}

fn to_tensor_like(values: &[f64], other: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(values, other.shape(), other.device())?.to_dtype(other.dtype())
}
