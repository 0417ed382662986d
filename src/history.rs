//! The loss curve of a run, in bounded memory.
//!
//! A point stands for `stride` iterations. When there are [`MOST_POINTS`] of them, each two become
//! one that stands for twice as many, so that a curve of any length has between half as many
//! points and all, evenly spaced. The same losses give the same points, in one run or in several.

use crate::train::Progress;

/// The number of points at which a curve is halved. Even.
pub const MOST_POINTS: usize = 1000;

/// What a point tells of its iterations, in nats a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The mean of their losses.
    pub loss: f64,
    /// The smoothed loss after the last of them.
    pub smoothed: f64,
}

/// A loss curve that grows.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    stride: u64,
    points: Vec<Point>,
    /// The sum of the losses since the last point, and their number.
    sum: f64,
    count: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { stride: 1, points: Vec::new(), sum: 0., count: 0 }
    }
}

impl History {
    /// The curve after `iterations`, out of its parts: [`stride`](Self::stride),
    /// [`points`](Self::points) and [`sum`](Self::sum).
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn from_parts(
        stride: u64,
        points: Vec<Point>,
        sum: f64,
        iterations: u64,
    ) -> Result<Self, String> {
        let covered = (points.len() as u64).checked_mul(stride);
        let count = covered.and_then(|covered| iterations.checked_sub(covered));
        match count {
            Some(count) if count < stride && points.len() < MOST_POINTS => {
                Ok(Self { stride, points, sum, count })
            }
            _ => Err(format!(
                "a history of {} points of {stride} iterations does not fit a run of {iterations}",
                points.len()
            )),
        }
    }

    /// Adds the iteration that follows the last one.
    pub fn push(&mut self, progress: &Progress) {
        self.sum += progress.loss;
        self.count += 1;
        if self.count < self.stride {
            return;
        }
        let loss = self.sum / self.stride as f64;
        self.points.push(Point { loss, smoothed: progress.smoothed });
        (self.sum, self.count) = (0., 0);
        if self.points.len() == MOST_POINTS {
            self.stride *= 2;
            let pairs = self.points.chunks_exact(2).map(|pair| Point {
                loss: (pair[0].loss + pair[1].loss) / 2.,
                smoothed: pair[1].smoothed,
            });
            self.points = pairs.collect();
        }
    }

    /// How many iterations a point stands for: the n-th, counted from 0, for those from
    /// `n * stride` on.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// The points, the oldest first. Fewer than `stride` iterations after the last are not in it
    /// yet.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The sum of the losses that are not in a point yet.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn curve(losses: &[f64]) -> History {
        let mut history = History::default();
        for (iteration, &loss) in (0..).zip(losses) {
            history.push(&Progress { iteration, loss, smoothed: loss + 1. });
        }
        history
    }

    #[test]
    fn a_short_curve_has_every_iteration() {
        let history = curve(&[3., 1., 2.]);
        assert_eq!(history.stride(), 1);
        let losses: Vec<f64> = history.points().iter().map(|point| point.loss).collect();
        assert_eq!(losses, [3., 1., 2.]);
        assert_eq!(history.points()[2].smoothed, 3.);
    }

    #[test]
    fn a_history_that_does_not_fit_its_run_is_refused() {
        let point = Point { loss: 1., smoothed: 1. };
        assert!(History::from_parts(4, vec![point; 3], 0., 12).is_ok());
        assert!(History::from_parts(4, vec![point; 3], 0., 15).is_ok());
        assert!(History::from_parts(4, vec![point; 3], 0., 16).is_err());
        assert!(History::from_parts(4, vec![point; 3], 0., 11).is_err());
        assert!(History::from_parts(0, vec![], 0., 0).is_err());
        assert!(History::from_parts(u64::MAX, vec![point; 3], 0., 11).is_err());
        assert!(History::from_parts(1, vec![point; MOST_POINTS], 0., 1000).is_err());
    }

    proptest! {
        #[test]
        fn a_long_curve_stays_bounded_and_each_point_tells_of_its_iterations(
            losses in prop::collection::vec(-9f64..9., 1..9000),
        ) {
            let history = curve(&losses);
            let (stride, points) = (history.stride() as usize, history.points());
            prop_assert!(points.len() < MOST_POINTS);
            prop_assert!(stride == 1 || points.len() >= MOST_POINTS / 2);
            prop_assert_eq!(points.len(), losses.len() / stride);
            for (point, covered) in points.iter().zip(losses.chunks_exact(stride)) {
                let mean = covered.iter().sum::<f64>() / stride as f64;
                prop_assert!((point.loss - mean).abs() < 1e-12);
                prop_assert_eq!(point.smoothed, covered[stride - 1] + 1.);
            }
        }

        #[test]
        fn a_curve_taken_apart_and_put_together_goes_on_as_if_it_had_not_been(
            losses in prop::collection::vec(-9f64..9., 1..5000),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(losses.len());
            let before = curve(&losses[..cut]);
            let mut history = History::from_parts(
                before.stride(), before.points().to_vec(), before.sum(), cut as u64,
            ).unwrap();
            prop_assert_eq!(&history, &before);
            for (iteration, &loss) in (cut as u64..).zip(&losses[cut..]) {
                history.push(&Progress { iteration, loss, smoothed: loss + 1. });
            }
            prop_assert_eq!(history, curve(&losses));
        }
    }
}
