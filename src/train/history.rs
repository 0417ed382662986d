//! The course of a run, in bounded memory: the same for a run of any length, in one go or in several.

use super::observer::Stats;
use crate::data::Vocabulary;
use crate::sample::SampledName;
use serde::{Deserialize, Serialize};

/// The number of names kept of each sample.
const NAMES_PER_SAMPLE: usize = 5;

/// The course of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The smoothed loss after each iteration, in nats a name.
    pub loss: Series<f64, 300>,
    /// The loss of single iterations, in nats a name.
    pub each: Series<f64, 300>,
    /// The statistics of the gradients of single iterations.
    pub gradients: Series<Stats, 100>,
    /// The loss of the held-out names, in nats a name.
    pub validation: Series<f64, 300>,
    /// The first names of the samples.
    pub samples: Series<Vec<String>, 32>,
}

impl History {
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

    /// Whether it is one of a run of this many iterations.
    pub(crate) fn is_of(&self, iterations: u64) -> bool {
        self.loss.seen == iterations
            && self.loss.is_valid(iterations)
            && self.each.is_valid(iterations)
            && self.gradients.is_valid(iterations)
            && self.validation.is_valid(iterations)
            && self.samples.is_valid(iterations)
    }
}

/// A series of which every `stride`-th value is kept, the first among them. When there are `MAX`, an
/// even number, every second one is dropped and the stride doubles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series<T, const MAX: usize> {
    seen: u64,
    /// A power of two.
    stride: u64,
    /// Each with its iteration, the oldest first.
    values: Vec<(u64, T)>,
}

impl<T, const MAX: usize> Default for Series<T, MAX> {
    fn default() -> Self {
        Self { seen: 0, stride: 1, values: vec![] }
    }
}

impl<T, const MAX: usize> Series<T, MAX> {
    /// Whether the next value will be kept; if not, it need not be computed.
    pub(crate) fn keeps_next(&self) -> bool {
        self.seen & (self.stride - 1) == 0
    }

    /// Adds the next value, of this iteration.
    pub(crate) fn push(&mut self, iteration: u64, value: impl FnOnce() -> T) {
        if self.keeps_next() {
            self.values.push((iteration, value()));
            if self.values.len() == MAX {
                let mut place = 0..;
                self.values.retain(|_| place.next().is_some_and(|i| i % 2 == 0));
                self.stride *= 2;
            }
        }
        self.seen = self.seen.saturating_add(1);
    }

    /// The values that are kept, each with its iteration, the oldest first.
    pub fn values(&self) -> &[(u64, T)] {
        &self.values
    }

    /// Whether [`push`](Self::push) can have made it, in a run of this many iterations.
    fn is_valid(&self, iterations: u64) -> bool {
        self.stride.is_power_of_two()
            && self.values.len() < MAX
            && self.seen.div_ceil(self.stride) == self.values.len() as u64
            && self.values.is_sorted_by(|(a, _), (b, _)| a < b)
            && self.values.last().is_none_or(|(last, _)| *last < iterations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(series: &mut Series<u64, 20>, range: std::ops::Range<u64>) {
        for i in range {
            series.push(i * 7, || i);
        }
    }

    #[test]
    fn a_series_that_does_not_match_its_counts_is_not_valid() {
        let is_valid = |seen, stride, count: u64| {
            let values = (0..count).map(|i| (i * 10, ())).collect();
            Series::<(), 8> { seen, stride, values }.is_valid(61)
        };
        assert!(is_valid(0, 1, 0) && is_valid(3, 1, 3) && is_valid(17, 4, 5));
        for (seen, stride, count) in
            [(16, 4, 5), (u64::MAX, 1, 5), (5, 0, 5), (15, 3, 5), (8, 1, 8), (7, 1, 8)]
        {
            assert!(!is_valid(seen, stride, count), "{seen} {stride} {count}");
        }
        let of = |values| Series::<(), 8> { seen: 2, stride: 1, values };
        assert!(!of(vec![(3, ()), (3, ())]).is_valid(61));
        assert!(of(vec![(3, ()), (60, ())]).is_valid(61));
        assert!(!of(vec![(3, ()), (61, ())]).is_valid(61));
    }

    proptest! {
        #[test]
        fn a_series_keeps_every_stride_th_value_and_continues_from_json(
            length in 0u64..3000, cut in any::<prop::sample::Index>(),
        ) {
            let mut whole = Series::default();
            fill(&mut whole, 0..length);
            let Series { seen, stride, values } = &whole;
            prop_assert_eq!(*seen, length);
            prop_assert!(values.len() < 20 && (*stride == 1 || values.len() >= 10));
            let expected: Vec<_> =
                (0..length).step_by(*stride as usize).map(|i| (i * 7, i)).collect();
            prop_assert_eq!(values, &expected);
            prop_assert!(whole.is_valid(length * 7));

            let cut = cut.index(length as usize + 1) as u64;
            let mut before = Series::default();
            fill(&mut before, 0..cut);
            let json = serde_json::to_string(&before).unwrap();
            let mut after = serde_json::from_str(&json).unwrap();
            fill(&mut after, cut..length);
            prop_assert_eq!(after, whole);
        }
    }
}
