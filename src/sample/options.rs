//! Sampling temperature, top-k and top-p (nucleus) filtering, a prefix, and limits on the length.

use crate::data::{END, MAX_NAME_LENGTH};
use crate::error::Error;

/// The notebook's limit on the length of a sampled name, in characters.
pub const MAX_LENGTH: usize = 50;

/// The limit for a network whose list has `longest` characters in its longest name: the notebook's,
/// or where that name could not end below it, one character more than the name.
pub fn max_length_for(longest: usize) -> usize {
    longest.saturating_add(1).clamp(MAX_LENGTH, MAX_NAME_LENGTH)
}

/// How characters are sampled. The default is the model's own distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleOptions {
    /// Divides the logits: likely characters become likelier below 1, less likely above.
    pub temperature: f64,
    /// Sample from the k most likely characters.
    pub top_k: Option<usize>,
    /// Sample from the fewest most likely characters with this total probability (nucleus
    /// sampling: Holtzman et al. 2020, <https://arxiv.org/abs/1904.09751>).
    pub top_p: Option<f64>,
    /// The characters that each name starts with.
    pub prefix: Vec<u32>,
    /// The minimum length of a name, in characters: its end has probability 0 before.
    pub min_length: usize,
    /// The maximum length of a name, in characters: it is cut off there.
    pub max_length: usize,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self {
            temperature: 1.,
            top_k: None,
            top_p: None,
            prefix: Vec::new(),
            min_length: 0,
            max_length: MAX_LENGTH,
        }
    }
}

impl SampleOptions {
    /// Validates the options.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first one that is out of range.
    pub fn check(&self) -> crate::Result<()> {
        let setting = |name, value: String, rule: &str| Err(Error::setting(name, value, rule));
        if self.temperature.is_nan() || self.temperature <= 0. {
            return setting("temperature", self.temperature.to_string(), "it must be above 0");
        }
        if self.top_k == Some(0) {
            return setting("top_k", "0".to_string(), "it must be at least 1 character");
        }
        if let Some(p) = self.top_p.filter(|&p| !(p > 0. && p <= 1.)) {
            return setting("top_p", p.to_string(), "it must be above 0 and at most 1");
        }
        if !(1..=MAX_NAME_LENGTH).contains(&self.max_length) {
            let rule = format!("it must be from 1 to {MAX_NAME_LENGTH}");
            return setting("max_length", self.max_length.to_string(), &rule);
        }
        if self.min_length > self.max_length {
            let rule = format!("it must be at most `max_length`, {}", self.max_length);
            return setting("min_length", self.min_length.to_string(), &rule);
        }
        if self.prefix.len() >= self.max_length {
            let value = format!("{} characters long", self.prefix.len());
            let rule = format!("it must be shorter than `max_length`, {}", self.max_length);
            return setting("prefix", value, &rule);
        }
        Ok(())
    }

    /// Whether characters are sampled from the model's own distribution.
    pub(super) fn is_unfiltered(&self) -> bool {
        let Self { temperature, top_k, top_p, prefix: _, min_length, max_length: _ } = self;
        *temperature == 1. && top_k.is_none() && top_p.is_none() && *min_length == 0
    }

    /// Replaces the logits of the character after `length` others by weights to sample with:
    /// temperature, then top-k, then top-p.
    pub(super) fn apply(&self, logits: &mut [f64], length: usize) {
        let may_end = length >= self.min_length;
        if !may_end {
            logits[END as usize] = f64::NEG_INFINITY;
        }
        // Subtracted before the division, so that no temperature overflows.
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = logits;
        weights.iter_mut().for_each(|z| *z = ((*z - max) / self.temperature).exp());
        if !may_end {
            // An infinite temperature makes it NaN.
            weights[END as usize] = 0.;
        }
        if self.top_k.is_none() && self.top_p.is_none() {
            return;
        }
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        let mut kept = self.top_k.unwrap_or(weights.len()).min(weights.len());
        if let Some(p) = self.top_p {
            let mut missing = p * order[..kept].iter().map(|&i| weights[i]).sum::<f64>();
            let reaches_p = |&index: &usize| {
                missing -= weights[index];
                missing <= 0.
            };
            kept = order[..kept].iter().position(reaches_p).map_or(kept, |last| last + 1);
        }
        for &index in &order[kept..] {
            weights[index] = 0.;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_apply_in_the_order_temperature_top_k_top_p() {
        let z = [0.1f64, 0.2, 0.4, 0.3].map(f64::ln);
        let filtered = |options: SampleOptions| {
            options.check().unwrap();
            let mut weights = z;
            options.apply(&mut weights, 0);
            let sum: f64 = weights.iter().sum();
            weights.map(|weight| (weight / sum * 1000.).round() / 1000.)
        };
        let plain = SampleOptions::default();
        assert_eq!(filtered(plain.clone()), [0.1, 0.2, 0.4, 0.3]);
        // Squares: 1, 4, 16 and 9 of 30.
        let cold = SampleOptions { temperature: 0.5, ..plain.clone() };
        assert_eq!(filtered(cold.clone()), [0.033, 0.133, 0.533, 0.3]);
        assert_eq!(
            filtered(SampleOptions { top_k: Some(2), ..plain.clone() }),
            [0., 0., 0.571, 0.429]
        );
        assert_eq!(
            filtered(SampleOptions { top_k: Some(9), ..plain.clone() }),
            [0.1, 0.2, 0.4, 0.3]
        );
        assert_eq!(
            filtered(SampleOptions { top_p: Some(0.65), ..plain.clone() }),
            [0., 0., 0.571, 0.429]
        );
        assert_eq!(
            filtered(SampleOptions { top_p: Some(0.75), ..plain.clone() }),
            [0., 0.222, 0.444, 0.333]
        );
        assert_eq!(
            filtered(SampleOptions { top_p: Some(1.), ..plain.clone() }),
            [0.1, 0.2, 0.4, 0.3]
        );
        assert_eq!(
            filtered(SampleOptions { top_p: Some(1e-9), ..plain.clone() }),
            [0., 0., 1., 0.]
        );
        // Of the two that are left the likelier has 16/25: more than 0.6, which 0.533 is not.
        assert_eq!(
            filtered(SampleOptions { top_k: Some(2), top_p: Some(0.6), ..cold }),
            [0., 0., 1., 0.]
        );
        assert_eq!(
            filtered(SampleOptions { min_length: 1, ..plain.clone() }),
            [0., 0.222, 0.444, 0.333]
        );
        for temperature in [1e-320, 1e-9] {
            assert_eq!(filtered(SampleOptions { temperature, ..plain.clone() }), [0., 0., 1., 0.]);
        }
        let hot = SampleOptions { temperature: f64::INFINITY, min_length: 1, ..plain };
        assert_eq!(filtered(hot), [0., 0.333, 0.333, 0.333]);
    }

    #[test]
    fn each_name_of_the_list_can_end_below_the_limit() {
        let limits = [0, 49, 50, 70, 998, 999, 1000, usize::MAX].map(max_length_for);
        assert_eq!(limits, [50, 50, 51, 71, 999, 1000, 1000, 1000]);
    }

    #[test]
    fn errors_name_the_option_out_of_range() {
        let plain = SampleOptions::default;
        let wrong = [
            ("temperature", SampleOptions { temperature: 0., ..plain() }),
            ("temperature", SampleOptions { temperature: f64::NAN, ..plain() }),
            ("temperature", SampleOptions { temperature: -1., ..plain() }),
            ("top_k", SampleOptions { top_k: Some(0), ..plain() }),
            ("top_p", SampleOptions { top_p: Some(0.), ..plain() }),
            ("top_p", SampleOptions { top_p: Some(1.1), ..plain() }),
            ("top_p", SampleOptions { top_p: Some(f64::NAN), ..plain() }),
            ("max_length", SampleOptions { max_length: 0, ..plain() }),
            ("max_length", SampleOptions { max_length: MAX_NAME_LENGTH + 1, ..plain() }),
            ("min_length", SampleOptions { min_length: 51, ..plain() }),
            ("prefix", SampleOptions { prefix: vec![1; 4], max_length: 4, ..plain() }),
        ];
        for (name, options) in wrong {
            let message = options.check().unwrap_err().to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }
}
