//! One direction of a chart: from values to places, and the round values beside it.

/// One direction of a chart: from values to places.
pub(super) struct Axis {
    logarithmic: bool,
    low: f64,
    high: f64,
    /// Where `low` and `high` are drawn.
    place: (f32, f32),
}

impl Axis {
    /// Around all `values` that have a place on it.
    pub(super) fn fit(
        logarithmic: bool,
        values: impl Iterator<Item = f64>,
        place: (f32, f32),
    ) -> Self {
        let mut axis = Self { logarithmic, low: f64::INFINITY, high: f64::NEG_INFINITY, place };
        for position in values.filter_map(|value| axis.position(value)).collect::<Vec<_>>() {
            axis.low = axis.low.min(position);
            axis.high = axis.high.max(position);
        }
        if axis.low > axis.high {
            (axis.low, axis.high) = (0., 1.);
        }
        // Less is all one to the eye, and soon to the arithmetic too.
        let least = 1e-9 * axis.low.abs().max(axis.high.abs());
        if axis.high - axis.low <= least {
            let margin = f64::max(0.5, 1e6 * least);
            (axis.low, axis.high) = (axis.low - margin, axis.high + margin);
        }
        axis
    }

    /// Moves both ends out by `part` of the span.
    pub(super) fn widen(&mut self, part: f64) {
        let margin = part * (self.high - self.low);
        (self.low, self.high) = (self.low - margin, self.high + margin);
    }

    /// Where `value` is between the ends, in the axis's own measure; nowhere if it has no logarithm
    /// or is not finite.
    pub(super) fn position(&self, value: f64) -> Option<f64> {
        let position = if self.logarithmic { value.log10() } else { value };
        // Beyond that the span of an axis could overflow.
        (position.abs() <= 1e300).then_some(position)
    }

    pub(super) fn place(&self, position: f64) -> f32 {
        let part = (position - self.low) / (self.high - self.low);
        self.place.0 + (self.place.1 - self.place.0) * part as f32
    }

    /// The positions of round values, with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = (self.low, self.high);
        match high - low {
            span if !self.logarithmic || span > 2. => round(low, high, self.logarithmic)
                .into_iter()
                .map(|(position, label)| match self.logarithmic {
                    true if low >= -3.5 && high <= 4.5 => {
                        (position, format!("{}", 10f64.powi(position as i32)))
                    }
                    true => (position, format!("1e{position}")),
                    false => (position, label),
                })
                .collect(),
            span if span > 0.7 => (low.floor() as i32..=high.floor() as i32)
                .flat_map(|decade| [1, 2, 5].map(|digit| (digit, decade)))
                .map(|(digit, decade)| {
                    let value = f64::from(digit) * 10f64.powi(decade);
                    (value.log10(), label(value, 10f64.powi(decade)))
                })
                .filter(|(position, _)| (low..=high).contains(position))
                .collect(),
            // So short that round values are best found as if it were linear.
            _ => round(10f64.powf(low), 10f64.powf(high), false)
                .into_iter()
                .map(|(value, label)| (value.log10(), label))
                .collect(),
        }
    }
}

/// Some round numbers from `low` to `high`, and their labels; whole ones where `whole`.
fn round(low: f64, high: f64, whole: bool) -> Vec<(f64, String)> {
    let rough = (high - low) / 6.;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1., 2., 5., 10.].map(|digit| digit * power).into_iter();
    let mut step = step.into_iter().find(|&step| step >= rough).unwrap_or(10. * power);
    if whole {
        step = step.ceil();
    }
    let first = (low / step - 1e-9).ceil();
    // There are at most seven, whatever rounding does to the ends.
    (0..8)
        .map(|i| (first + f64::from(i)) * step)
        .take_while(|&value| value <= high + step * 1e-9)
        .map(|value| (value, label(value, step)))
        .collect()
}

/// A multiple of `step`, with the digits that tell it from the next.
fn label(value: f64, step: f64) -> String {
    let (size, last) = (value.abs().log10().floor(), step.log10().floor());
    if value == 0. || (last >= -4. && size < 6.) {
        let decimals = (-last).clamp(0., 4.) as usize;
        return if value == 0. { "0".to_string() } else { format!("{value:.decimals$}") };
    }
    let digits = (size - last).clamp(0., 15.) as usize;
    format!("{value:.digits$e}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(logarithmic: bool, ends: [f64; 2]) -> Vec<String> {
        let axis = Axis::fit(logarithmic, ends.into_iter(), (0., 1.));
        axis.ticks().into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        for (logarithmic, ends, expected) in [
            (false, [3., 97.], "20 40 60 80"),
            (false, [0., 34_999.], "0 10000 20000 30000"),
            (false, [22.08, 22.31], "22.10 22.15 22.20 22.25 22.30"),
            (false, [-0.4, 0.4], "-0.4 -0.2 0 0.2 0.4"),
            (false, [0., 7e9], "0 2e9 4e9 6e9"),
            (false, [0., 4e-7], "0 1e-7 2e-7 3e-7 4e-7"),
            (
                false,
                [999_999_000., 1_000_001_000.],
                "9.999990e8 9.999995e8 1.0000000e9 1.0000005e9 1.0000010e9",
            ),
            (true, [1e-12, 1.], "1e-12 1e-10 1e-8 1e-6 1e-4 1e-2 1e0"),
            (true, [0.02, 300.], "0.1 1 10 100"),
            (true, [0.3, 20.], "0.5 1 2 5 10 20"),
            (true, [3., 7.], "3 4 5 6 7"),
        ] {
            assert_eq!(labels(logarithmic, ends).join(" "), expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_values_there_are_a_few_ticks_all_inside_and_all_different(
            logarithmic: bool,
            values in prop::collection::vec(prop::num::f64::ANY, 0..5),
            near in -1e9f64..1e9,
        ) {
            for values in [values, vec![near, near * (1. + 1e-8)]] {
                let axis = Axis::fit(logarithmic, values.iter().copied(), (0., 1.));
                let ticks = axis.ticks();
                prop_assert!(ticks.len() <= 9, "{ticks:?}");
                for value in values {
                    let place = axis.position(value).map(|position| axis.place(position));
                    prop_assert!(place.is_none_or(|place| (0. ..=1.).contains(&place)));
                }
                for pair in ticks.windows(2) {
                    prop_assert!(pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1, "{ticks:?}");
                }
                for (position, label) in &ticks {
                    prop_assert!((-0.01..1.01).contains(&axis.place(*position)), "{ticks:?}");
                    prop_assert!(label.len() < 24, "{label}");
                }
            }
        }
    }
}
