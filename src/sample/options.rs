//! Sampling temperature, top-k and top-p (nucleus) filtering, prefixes, and limits on the length.

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
    /// Divides the logits: likely characters become likelier below 1, less likely above. At 0 the
    /// likeliest character is taken.
    pub temperature: f64,
    /// Sample from the k most likely characters.
    pub top_k: Option<usize>,
    /// Sample from the fewest most likely characters with this total probability (nucleus
    /// sampling: Holtzman et al. 2020, <https://arxiv.org/abs/1904.09751>).
    pub top_p: Option<f64>,
    /// The characters that names start with, in turn: the n-th name with those of n modulo their
    /// number.
    pub prefixes: Vec<Vec<u32>>,
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
            prefixes: Vec::new(),
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
        if self.temperature.is_nan() || self.temperature < 0. {
            return setting("temperature", self.temperature.to_string(), "it must be at least 0");
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
        let longest = self.prefixes.iter().map(Vec::len).max().unwrap_or_default();
        if longest >= self.max_length {
            let value = format!("{longest} characters long");
            let rule = format!("it must be shorter than `max_length`, {}", self.max_length);
            return setting("prefix", value, &rule);
        }
        Ok(())
    }

    /// The characters that the name of this number starts with.
    pub(super) fn prefix(&self, name: u64) -> &[u32] {
        match self.prefixes.len() {
            0 => &[],
            count => &self.prefixes[(name % count as u64) as usize],
        }
    }

    /// Whether all names with the same prefix are the same.
    pub fn is_deterministic(&self) -> bool {
        self.temperature == 0. || self.top_k == Some(1)
    }

    /// Whether characters are sampled from the model's own distribution.
    pub(super) fn is_unfiltered(&self) -> bool {
        let Self { temperature, top_k, top_p, prefixes: _, min_length, max_length: _ } = self;
        *temperature == 1. && top_k.is_none() && top_p.is_none() && *min_length == 0
    }

    /// Replaces the logits of the character after `length` others by weights to sample with:
    /// temperature, then top-k, then top-p.
    pub(super) fn apply(&self, logits: &mut [f64], length: usize) {
        let mut weights = logits;
        if length < self.min_length {
            let (end, others) = weights.split_at_mut(END as usize + 1);
            end.fill(0.);
            weights = others;
        }
        // Subtracted before the division, so that no temperature overflows.
        let max = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.temperature == 0. {
            let likeliest = weights.iter().position(|&z| z == max).unwrap_or_default();
            weights.fill(0.);
            weights[likeliest] = 1.;
            return;
        }
        weights.iter_mut().for_each(|z| *z = ((*z - max) / self.temperature).exp());
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
        let plain = SampleOptions::default;
        // Of squares, 1, 4, 16 and 9 of 30, the likelier of two has 16/25: more than 0.6.
        let squares = || SampleOptions { temperature: 0.5, ..plain() };
        let hottest = SampleOptions { temperature: f64::INFINITY, min_length: 1, ..plain() };
        for (options, expected) in [
            (plain(), [0.1, 0.2, 0.4, 0.3]),
            (squares(), [0.033, 0.133, 0.533, 0.3]),
            (SampleOptions { top_k: Some(2), ..plain() }, [0., 0., 0.571, 0.429]),
            (SampleOptions { top_k: Some(9), ..plain() }, [0.1, 0.2, 0.4, 0.3]),
            (SampleOptions { top_p: Some(0.65), ..plain() }, [0., 0., 0.571, 0.429]),
            (SampleOptions { top_p: Some(0.75), ..plain() }, [0., 0.222, 0.444, 0.333]),
            (SampleOptions { top_p: Some(1.), ..plain() }, [0.1, 0.2, 0.4, 0.3]),
            (SampleOptions { top_p: Some(1e-9), ..plain() }, [0., 0., 1., 0.]),
            (SampleOptions { top_p: Some(0.6), ..squares() }, [0., 0., 0.64, 0.36]),
            (SampleOptions { top_k: Some(2), top_p: Some(0.6), ..squares() }, [0., 0., 1., 0.]),
            (SampleOptions { min_length: 1, ..plain() }, [0., 0.222, 0.444, 0.333]),
            (SampleOptions { temperature: 1e-9, ..plain() }, [0., 0., 1., 0.]),
            (SampleOptions { temperature: 0., top_p: Some(0.9), ..plain() }, [0., 0., 1., 0.]),
            (SampleOptions { temperature: 1e-320, ..plain() }, [0., 0., 1., 0.]),
            (hottest, [0., 0.333, 0.333, 0.333]),
        ] {
            options.check().unwrap();
            let mut weights = [0.1f64, 0.2, 0.4, 0.3].map(f64::ln);
            options.apply(&mut weights, 0);
            let sum: f64 = weights.iter().sum();
            let found = weights.map(|weight| (weight / sum * 1000.).round() / 1000.);
            assert_eq!(found, expected, "{options:?}");
        }
    }

    #[test]
    fn each_name_of_the_list_can_end_below_the_limit() {
        let limits = [0, 49, 50, 70, 998, 999, 1000, usize::MAX].map(max_length_for);
        assert_eq!(limits, [50, 50, 51, 71, 999, 1000, 1000, 1000]);
    }
}
