//! The course of a run, in bounded memory: the same for a run of any length, in one go or in several.
//!
//! A point of the [`LossCurve`] is the mean over `stride` iterations. When there are [`MAX_POINTS`]
//! points, each two are merged and the stride doubles, so that a curve of any length has between half
//! as many points and all, evenly spaced. The other series are [`Thinned`]: every `stride`-th value
//! is kept, and when there are too many, every second is dropped.

use super::observer::{Progress, Stats};
use crate::data::Vocabulary;
use crate::sample::SampledName;
use serde::{Deserialize, Serialize};

/// The number of points at which a curve is halved. Even.
const MAX_POINTS: usize = 1000;

/// The number of gradients at which every second is dropped.
const MAX_GRADIENTS: usize = 200;
/// The same for held-out losses.
const MAX_VALIDATIONS: usize = 500;
/// The same for samples, and the number of names kept of each.
const MAX_SAMPLINGS: usize = 32;
const NAMES_PER_SAMPLE: usize = 5;

/// The course of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The loss of each iteration.
    pub loss: LossCurve,
    /// The statistics of the gradients of single iterations.
    pub gradients: Thinned<Stats>,
    /// The loss of the held-out names, in nats a name.
    pub validation: Thinned<f64>,
    /// The first names of the samples.
    pub samples: Thinned<Vec<String>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            loss: LossCurve::default(),
            gradients: Thinned::new(MAX_GRADIENTS),
            validation: Thinned::new(MAX_VALIDATIONS),
            samples: Thinned::new(MAX_SAMPLINGS),
        }
    }
}

impl History {
    /// Drops the losses of names that are no longer held out.
    pub(crate) fn clear_validation(&mut self) {
        self.validation = Thinned::new(MAX_VALIDATIONS);
    }

    /// Adds the first of the names sampled after `iteration`.
    pub(crate) fn push_samples(
        &mut self,
        iteration: u64,
        names: &[SampledName],
        vocabulary: &Vocabulary,
    ) {
        self.samples.push(iteration, || {
            let names = names.iter().take(NAMES_PER_SAMPLE);
            names.map(|sampled| vocabulary.decode(&sampled.indices)).collect()
        });
    }
}

/// A series of which every `stride`-th value is kept, fewer than `max`.
#[derive(Debug, Clone, PartialEq)]
pub struct Thinned<T> {
    counts: Thinning,
    max: usize,
    values: Vec<(u64, T)>,
}

/// The counts of a [`Thinned`] series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thinning {
    /// The number of values pushed.
    pub seen: u64,
    /// The first of every so many is kept. A power of two.
    pub stride: u64,
}

impl Default for Thinning {
    fn default() -> Self {
        Self { seen: 0, stride: 1 }
    }
}

impl<T> Thinned<T> {
    /// An empty series that keeps fewer than `max` values, an even number.
    fn new(max: usize) -> Self {
        Self { counts: Thinning::default(), max, values: Vec::new() }
    }

    /// Restores the series from its parts.
    ///
    /// # Errors
    /// Says what does not fit.
    pub(crate) fn restore(
        &mut self,
        counts: Thinning,
        values: Vec<(u64, T)>,
    ) -> Result<(), String> {
        let Thinning { seen, stride } = counts;
        let fits = stride.is_power_of_two()
            && values.len() < self.max
            && seen.div_ceil(stride) == values.len() as u64
            && values.is_sorted_by(|(a, _), (b, _)| a < b);
        if !fits {
            let kept = values.len();
            return Err(format!("a series of {kept} values is not every {stride}th of {seen}"));
        }
        (self.counts, self.values) = (counts, values);
        Ok(())
    }

    /// Whether the next value will be kept; if not, it need not be computed.
    pub(crate) fn keeps_next(&self) -> bool {
        self.counts.seen.is_multiple_of(self.counts.stride)
    }

    /// Adds the next value, of this iteration.
    pub(crate) fn push(&mut self, iteration: u64, value: impl FnOnce() -> T) {
        if self.keeps_next() {
            self.values.push((iteration, value()));
            if self.values.len() == self.max {
                let mut kept = false;
                self.values.retain(|_| {
                    kept = !kept;
                    kept
                });
                self.counts.stride *= 2;
            }
        }
        self.counts.seen = self.counts.seen.saturating_add(1);
    }

    /// The values that are kept, each with its iteration, the oldest first.
    pub fn values(&self) -> &[(u64, T)] {
        &self.values
    }

    /// How many values were pushed, and which of them are kept.
    pub fn counts(&self) -> Thinning {
        self.counts
    }
}

/// A point of the loss curve, in nats a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The mean loss of its iterations.
    pub loss: f64,
    /// The smoothed loss after the last of them.
    pub smoothed: f64,
}

/// The loss curve.
#[derive(Debug, Clone, PartialEq)]
pub struct LossCurve {
    stride: u64,
    points: Vec<Point>,
    /// The sum of the losses since the last point, and their number.
    sum: f64,
    count: u64,
}

impl Default for LossCurve {
    fn default() -> Self {
        Self { stride: 1, points: Vec::new(), sum: 0., count: 0 }
    }
}

impl LossCurve {
    /// Restores the curve after `iterations` from its parts: [`stride`](Self::stride),
    /// [`points`](Self::points) and [`sum`](Self::sum).
    ///
    /// # Errors
    /// Says what does not fit.
    pub(crate) fn from_parts(
        stride: u64,
        points: Vec<Point>,
        sum: f64,
        iterations: u64,
    ) -> Result<Self, String> {
        let covered = (points.len() as u64).checked_mul(stride);
        let count = covered.and_then(|covered| iterations.checked_sub(covered));
        match count {
            Some(count) if count < stride && points.len() < MAX_POINTS => {
                Ok(Self { stride, points, sum, count })
            }
            _ => Err(format!(
                "a history of {} points of {stride} iterations does not fit a run of {iterations}",
                points.len()
            )),
        }
    }

    /// Adds the next iteration.
    pub(crate) fn push(&mut self, progress: &Progress) {
        // Finite, as a file needs it: losses of 1e308 overflow.
        self.sum = (self.sum + progress.loss).clamp(f64::MIN, f64::MAX);
        self.count += 1;
        if self.count < self.stride {
            return;
        }
        let loss = self.sum / self.stride as f64;
        self.points.push(Point { loss, smoothed: progress.smoothed });
        (self.sum, self.count) = (0., 0);
        if self.points.len() == MAX_POINTS {
            self.stride *= 2;
            let pairs = self.points.chunks_exact(2).map(|pair| Point {
                loss: pair[0].loss / 2. + pair[1].loss / 2.,
                smoothed: pair[1].smoothed,
            });
            self.points = pairs.collect();
        }
    }

    /// The number of iterations added.
    pub fn iterations(&self) -> u64 {
        self.points.len() as u64 * self.stride + self.count
    }

    /// The iterations in a point: the n-th, counted from 0, begins at iteration `n * stride`.
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

    fn curve_of(losses: &[f64]) -> LossCurve {
        let mut curve = LossCurve::default();
        for (iteration, &loss) in (0..).zip(losses) {
            curve.push(&Progress { iteration, loss, smoothed: loss + 1. });
        }
        curve
    }

    #[test]
    fn a_short_curve_has_every_iteration() {
        let curve = curve_of(&[3., 1., 2.]);
        assert_eq!(curve.stride(), 1);
        let losses: Vec<f64> = curve.points().iter().map(|point| point.loss).collect();
        assert_eq!(losses, [3., 1., 2.]);
        assert_eq!(curve.points()[2].smoothed, 3.);
    }

    #[test]
    fn a_curve_that_does_not_match_its_run_is_refused() {
        let point = Point { loss: 1., smoothed: 1. };
        assert!(LossCurve::from_parts(4, vec![point; 3], 0., 12).is_ok());
        assert!(LossCurve::from_parts(4, vec![point; 3], 0., 15).is_ok());
        assert!(LossCurve::from_parts(4, vec![point; 3], 0., 16).is_err());
        assert!(LossCurve::from_parts(4, vec![point; 3], 0., 11).is_err());
        assert!(LossCurve::from_parts(0, vec![], 0., 0).is_err());
        assert!(LossCurve::from_parts(u64::MAX, vec![point; 3], 0., 11).is_err());
        assert!(LossCurve::from_parts(1, vec![point; MAX_POINTS], 0., 1000).is_err());
    }

    #[test]
    fn a_curve_of_huge_losses_is_finite() {
        let curve = curve_of(&[f64::MAX; 2001]);
        assert_eq!((curve.stride(), curve.sum()), (4, f64::MAX));
        assert!(curve.points().iter().all(|point| point.loss > 0. && point.loss.is_finite()));
    }

    proptest! {
        #[test]
        fn a_long_curve_is_bounded_and_each_point_is_the_mean_of_its_iterations(
            losses in prop::collection::vec(-9f64..9., 1..9000),
        ) {
            let curve = curve_of(&losses);
            let (stride, points) = (curve.stride() as usize, curve.points());
            prop_assert!(points.len() < MAX_POINTS);
            prop_assert!(stride == 1 || points.len() >= MAX_POINTS / 2);
            prop_assert_eq!(points.len(), losses.len() / stride);
            for (point, covered) in points.iter().zip(losses.chunks_exact(stride)) {
                let mean = covered.iter().sum::<f64>() / stride as f64;
                prop_assert!((point.loss - mean).abs() < 1e-12);
                prop_assert_eq!(point.smoothed, covered[stride - 1] + 1.);
            }
        }

        #[test]
        fn a_restored_curve_continues_as_the_original(
            losses in prop::collection::vec(-9f64..9., 1..5000),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(losses.len());
            let before = curve_of(&losses[..cut]);
            let mut curve = LossCurve::from_parts(
                before.stride(), before.points().to_vec(), before.sum(), cut as u64,
            ).unwrap();
            prop_assert_eq!(&curve, &before);
            for (iteration, &loss) in (cut as u64..).zip(&losses[cut..]) {
                curve.push(&Progress { iteration, loss, smoothed: loss + 1. });
            }
            prop_assert_eq!(curve, curve_of(&losses));
        }
    }

    #[test]
    fn a_series_that_does_not_match_its_counts_is_refused() {
        let values = |n: u64| (0..n).map(|i| (i * 10, ())).collect::<Vec<_>>();
        let restore =
            |seen, stride, values| Thinned::<()>::new(8).restore(Thinning { seen, stride }, values);
        assert!(restore(0, 1, values(0)).is_ok());
        assert!(restore(3, 1, values(3)).is_ok());
        assert!(restore(17, 4, values(5)).is_ok());
        assert!(restore(16, 4, values(5)).is_err());
        assert!(restore(u64::MAX, 1, values(5)).is_err());
        assert!(restore(5, 0, values(5)).is_err());
        assert!(restore(15, 3, values(5)).is_err());
        assert!(restore(8, 1, values(8)).is_err());
        assert!(restore(2, 1, vec![(3, ()), (3, ())]).is_err());
    }

    proptest! {
        #[test]
        fn a_thinned_series_keeps_every_stride_th_value(
            length in 0u64..3000, cut in any::<prop::sample::Index>(),
        ) {
            let fill = |series: &mut Thinned<u64>, range: std::ops::Range<u64>| {
                for i in range {
                    series.push(i * 7, || i);
                }
            };
            let mut whole = Thinned::new(20);
            fill(&mut whole, 0..length);
            let Thinning { seen, stride } = whole.counts();
            prop_assert_eq!(seen, length);
            prop_assert!(whole.values().len() < 20);
            prop_assert!(stride == 1 || whole.values().len() >= 10);
            let expected: Vec<_> =
                (0..length).step_by(stride as usize).map(|i| (i * 7, i)).collect();
            prop_assert_eq!(whole.values(), &expected[..]);

            let cut = cut.index(length as usize + 1) as u64;
            let mut before = Thinned::new(20);
            fill(&mut before, 0..cut);
            let mut after = Thinned::new(20);
            after.restore(before.counts(), before.values().to_vec()).unwrap();
            fill(&mut after, cut..length);
            prop_assert_eq!(after, whole);
        }
    }
}
