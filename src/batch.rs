//! Names laid out for the network: inputs, targets and padding of a minibatch.
//!
//! Rows are time-major: step `t` of name `i` is row `t * size + i`. The notebook's
//! `X = [None] + name` and `Y = name + ['\n']` are a batch of one. [`NONE`] in `x` is the zero vector
//! that starts each name, and padding after it; in `y` it is a padded position, without loss or
//! gradient. Candle's `index_select` and `gather` read this index as zero.

pub use crate::kernels::NONE;
use crate::vocab::END;
use candle_core::{Device, Result, Tensor};
use std::ops::Range;

/// A minibatch of names, `steps` (T) by `size` (B).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    x: Vec<u32>,
    y: Vec<u32>,
    steps: usize,
    size: usize,
    last_rows: Vec<u32>,
    placed: Placed,
}

/// A batch as tensors of `U32` on a device.
#[derive(Debug, Clone)]
pub(crate) struct OnDevice {
    /// [`Batch::x`].
    pub x: Tensor,
    /// [`Batch::y`].
    pub y: Tensor,
    /// [`Batch::last_rows`].
    pub last_rows: Tensor,
}

/// Where a batch was put before it is needed. It is the same batch wherever it is.
#[derive(Debug, Clone, Default)]
struct Placed(Option<OnDevice>);

impl PartialEq for Placed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Placed {}

impl Batch {
    /// The batch of `names`, each the indices of its characters without the final `'\n'`.
    ///
    /// # Panics
    /// Where there are no names.
    ///
    /// ```
    /// use char_rnn::batch::{Batch, NONE};
    /// let batch = Batch::new([&[1, 2][..], &[3]]);
    /// assert_eq!((batch.steps(), batch.size()), (3, 2));
    /// assert_eq!(batch.x(), [NONE, NONE, 1, 3, 2, NONE]);
    /// assert_eq!(batch.y(), [1, 3, 2, 0, 0, NONE]);
    /// assert_eq!(batch.last_rows(), [4, 3]);
    /// ```
    pub fn new<'a>(names: impl IntoIterator<Item = &'a [u32], IntoIter: Clone>) -> Self {
        let mut batch = Self::default();
        batch.fill(names);
        batch
    }

    /// The batch of one sequence whose inputs and targets are given, the notebook's `X` and `Y`.
    ///
    /// # Panics
    /// Where they are not of one length, or empty.
    pub fn sequence(x: &[u32], y: &[u32]) -> Self {
        assert!(x.len() == y.len() && !x.is_empty(), "each step needs an input and a target");
        Self {
            x: x.to_vec(),
            y: y.to_vec(),
            steps: x.len(),
            size: 1,
            last_rows: vec![x.len() as u32 - 1],
            placed: Placed(None),
        }
    }

    /// Makes this the batch of `names`, in the memory it already has.
    ///
    /// # Panics
    /// Where there are no names.
    pub fn fill<'a>(&mut self, names: impl IntoIterator<Item = &'a [u32], IntoIter: Clone>) {
        let names = names.into_iter();
        self.placed = Placed(None);
        self.size = names.clone().count();
        self.steps = names.clone().map(|name| name.len() + 1).max().expect("a batch has names");
        for rows in [&mut self.x, &mut self.y] {
            rows.clear();
            rows.resize(self.steps * self.size, NONE);
        }
        self.last_rows.clear();
        for (i, name) in names.enumerate() {
            for (t, &character) in name.iter().enumerate() {
                self.y[t * self.size + i] = character;
                self.x[(t + 1) * self.size + i] = character;
            }
            let last = name.len() * self.size + i;
            self.y[last] = END;
            self.last_rows.push(u32::try_from(last).expect("a batch has fewer than 2^32 rows"));
        }
    }

    /// Makes this the batch of these names of `whole`, in the memory it already has.
    ///
    /// # Panics
    /// Where there are no names in `range`, or not so many in `whole`.
    pub(crate) fn fill_part(&mut self, whole: &Self, range: Range<usize>) {
        let last = whole.last_rows[range.clone()].iter().max().expect("a batch has names");
        self.placed = Placed(None);
        (self.size, self.steps) = (range.len(), *last as usize / whole.size + 1);
        for (part, rows) in [(&mut self.x, &whole.x), (&mut self.y, &whole.y)] {
            part.clear();
            let rows = rows.chunks_exact(whole.size).take(self.steps);
            rows.for_each(|row| part.extend_from_slice(&row[range.clone()]));
        }
        self.last_rows.clear();
        for (i, &last) in whole.last_rows[range].iter().enumerate() {
            let step = last as usize / whole.size;
            self.last_rows.push((step * self.size + i) as u32);
        }
    }

    /// Inputs, (T * B): the index of the previous character, [`NONE`] at the start of a name.
    pub fn x(&self) -> &[u32] {
        &self.x
    }

    /// Targets, (T * B): the index of the character to predict, [`NONE`] where padded.
    pub fn y(&self) -> &[u32] {
        &self.y
    }

    /// T: the length of the longest name and its `'\n'`.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// B: how many names.
    pub fn size(&self) -> usize {
        self.size
    }

    /// For each name the row of its last step, where its `'\n'` is predicted: the hidden state
    /// there is the one that is carried on.
    pub fn last_rows(&self) -> &[u32] {
        &self.last_rows
    }

    /// Says that this batch is on a device already, until it is [filled](Self::fill) anew.
    pub(crate) fn place(&mut self, there: OnDevice) {
        self.placed = Placed(Some(there));
    }

    /// Where it [was put](Self::place), if that is on `device`.
    fn placed(&self, device: &Device) -> Option<&OnDevice> {
        self.placed.0.as_ref().filter(|there| there.x.device().same_device(device))
    }

    /// [`x`](Self::x) and [`y`](Self::y) on `device`: where they were put before, or copied there now.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn x_and_y_on(&self, device: &Device) -> Result<[Tensor; 2]> {
        match self.placed(device) {
            Some(there) => Ok([there.x.clone(), there.y.clone()]),
            None => Ok([copy(&self.x, device)?, copy(&self.y, device)?]),
        }
    }

    /// [`last_rows`](Self::last_rows) on `device`, likewise.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn last_rows_on(&self, device: &Device) -> Result<Tensor> {
        match self.placed(device) {
            Some(there) => Ok(there.last_rows.clone()),
            None => copy(&self.last_rows, device),
        }
    }
}

fn copy(indices: &[u32], device: &Device) -> Result<Tensor> {
    Tensor::from_slice(indices, indices.len(), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_of_a_batch_is_the_batch_of_its_names(
            names in prop::collection::vec(prop::collection::vec(1u32..9, 0..7), 1..9),
            (a, b) in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let (a, b) = (a.index(names.len()), b.index(names.len()));
            let range = a.min(b)..a.max(b) + 1;
            let mut part = Batch::new([&[5u32; 20][..]]);
            part.fill_part(&Batch::new(names.iter().map(Vec::as_slice)), range.clone());
            prop_assert_eq!(part, Batch::new(names[range].iter().map(Vec::as_slice)));
        }
    }
}
