//! The loss of a step, which need not be known yet.

use crate::ops::scalar;
use candle_core::{DType, Device, Result, Tensor};

/// The loss of a step, in nats, summed over the characters and averaged over the names.
#[derive(Debug, Clone)]
pub enum StepLoss {
    /// It is known.
    Here(f64),
    /// It is on a device, which may not yet have come to it: a scalar. To read it is to wait.
    There(Tensor),
}

impl StepLoss {
    /// That of a scalar tensor.
    pub(super) fn of(loss: Tensor) -> Result<Self> {
        match loss.device().is_cpu() {
            true => scalar(&loss).map(Self::Here),
            false => Ok(Self::There(loss)),
        }
    }

    /// The sum of two, of which neither is waited for.
    pub(super) fn plus(self, other: Self) -> Result<Self> {
        Ok(match (self, other) {
            (Self::Here(a), Self::Here(b)) => Self::Here(a + b),
            (Self::There(a), Self::There(b)) => Self::There((a + b)?),
            (Self::Here(a), Self::There(b)) | (Self::There(b), Self::Here(a)) => {
                Self::There((b + a)?)
            }
        })
    }

    /// Reads losses, in order; waits for a device once, for all of them.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn read_all<'a>(losses: impl Iterator<Item = &'a Self> + Clone) -> Result<Vec<f64>> {
        let there: Vec<&Tensor> = losses
            .clone()
            .filter_map(|loss| match loss {
                Self::There(loss) => Some(loss),
                Self::Here(_) => None,
            })
            .collect();
        let read = match there.is_empty() {
            true => Vec::new(),
            false => {
                let together = Tensor::stack(&there, 0)?.to_device(&Device::Cpu)?;
                together.to_dtype(DType::F64)?.to_vec1()?
            }
        };
        let mut read = read.into_iter();
        let value = |loss: &Self| match loss {
            Self::Here(loss) => *loss,
            Self::There(_) => read.next().expect("as many were read as are there"),
        };
        Ok(losses.map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_in_order_wherever_they_are() {
        let there = |loss: f32| StepLoss::There(Tensor::new(loss, &Device::Cpu).unwrap());
        let losses = [there(1.), StepLoss::Here(2.), there(3.), there(4.), StepLoss::Here(5.)];
        assert_eq!(StepLoss::read_all(losses.iter()).unwrap(), [1., 2., 3., 4., 5.]);
        assert_eq!(StepLoss::read_all([].iter()).unwrap(), [0f64; 0]);
        let [a, b, c, d, e] = losses;
        let sum = a.plus(b).and_then(|sum| sum.plus(c)).unwrap();
        let sum = d.plus(e).and_then(|other| sum.plus(other)).unwrap();
        assert_eq!(StepLoss::read_all([sum].iter()).unwrap(), [15.]);
    }
}
