//! All batches of a run, put on its device before it begins.

use crate::batch::{Batch, OnDevice};
use candle_core::{Device, Result, Tensor};

/// The most that is put there, in bytes. Longer lists are copied batch by batch as they are learned.
const MOST_BYTES: usize = 256 << 20;

/// The batches of a list that is gone through round and round, one after the other in tensors.
pub(super) struct Inputs {
    x: Tensor,
    y: Tensor,
    last_rows: Tensor,
    /// Where the rows of each batch begin, and where those of the last one end.
    starts: Vec<usize>,
    /// How many names a batch has.
    size: usize,
}

impl Inputs {
    /// The batches of `size` of these examples. None where the device is the CPU, which needs no
    /// copy, or where they are too many.
    ///
    /// # Errors
    /// Where the device fails.
    pub(super) fn new(examples: &[&[u32]], size: usize, device: &Device) -> Result<Option<Self>> {
        match device.is_cpu() {
            true => Ok(None),
            false => Self::within(MOST_BYTES, examples, size, device),
        }
    }

    fn within(
        bytes: usize,
        examples: &[&[u32]],
        size: usize,
        device: &Device,
    ) -> Result<Option<Self>> {
        let (mut x, mut y, mut last_rows, mut starts) = (vec![], vec![], vec![], vec![0]);
        let mut batch = Batch::default();
        // After so many batches the first one comes again.
        let period = examples.len() / greatest_common_divisor(examples.len(), size);
        for number in 0..period {
            let names = (0..size).map(|i| examples[(number * size + i) % examples.len()]);
            batch.fill(names);
            x.extend_from_slice(batch.x());
            y.extend_from_slice(batch.y());
            last_rows.extend_from_slice(batch.last_rows());
            starts.push(x.len());
            if size_of::<u32>() * (x.len() + y.len() + last_rows.len()) > bytes {
                return Ok(None);
            }
        }
        let copy = |indices: Vec<u32>| {
            let count = indices.len();
            Tensor::from_vec(indices, count, device)
        };
        Ok(Some(Self { x: copy(x)?, y: copy(y)?, last_rows: copy(last_rows)?, starts, size }))
    }

    /// Says of the batch of this iteration where it is.
    ///
    /// # Errors
    /// Where it is not the batch of this iteration.
    pub(super) fn place(&self, batch: &mut Batch, iteration: u64) -> Result<()> {
        let number = (iteration % (self.starts.len() as u64 - 1)) as usize;
        let (start, end) = (self.starts[number], self.starts[number + 1]);
        batch.place(OnDevice {
            x: self.x.narrow(0, start, end - start)?,
            y: self.y.narrow(0, start, end - start)?,
            last_rows: self.last_rows.narrow(0, number * self.size, self.size)?,
        });
        Ok(())
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        b => greatest_common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_iteration_finds_its_own_batch(
            names in prop::collection::vec(prop::collection::vec(1u32..9, 0..6), 1..9),
            size in 1usize..12,
        ) {
            let names: Vec<&[u32]> = names.iter().map(Vec::as_slice).collect();
            let device = &Device::Cpu;
            let inputs = Inputs::within(1 << 20, &names, size, device).unwrap().unwrap();
            let mut placed = Batch::default();
            for iteration in 0..30 {
                let first = iteration as usize * size;
                let batch = Batch::new((0..size).map(|i| names[(first + i) % names.len()]));
                inputs.place(&mut placed, iteration).unwrap();
                let all = |tensor: Tensor| tensor.to_vec1::<u32>().unwrap();
                let [x, y] = placed.x_and_y_on(device).unwrap().map(all);
                prop_assert_eq!((&x[..], &y[..]), (batch.x(), batch.y()));
                prop_assert_eq!(all(placed.last_rows_on(device).unwrap()), batch.last_rows());
            }
            prop_assert!(Inputs::within(11, &names, size, device).unwrap().is_none());
        }
    }
}
