//! The configuration of a training run: what the library takes, the model file stores, and the log,
//! `info` and the comparison on resume read, field by field.

use super::gradients::GradientMethod;
use super::optimizer::{DECAYS, Decay, OptimizerKind};
use crate::data::{Corpus, DINOS};
use crate::error::{Error, Result};
use crate::random::RngSource;
use candle_core::DType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// The largest number of hidden units: `waa` then takes 512 MiB in double precision.
const MAX_HIDDEN: usize = 8192;
const MAX_BATCH_SIZE: usize = 65_536;
const MAX_SAMPLES: u64 = 1_000_000;

/// The configuration of a training run. The default is the notebook's method (SGD, clipped gradients,
/// one name a step), but each name starts from the zero state, and the learning rate falls. Its
/// length is the notebook's too, right for the dinosaurs; [`TrainConfig::for_list`] suits a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The number of training steps, from 1.
    pub iterations: u64,
    /// Names in a minibatch. The loss is their mean; each has a hidden state of its own.
    pub batch_size: usize,
    /// `n_a`, the number of hidden units.
    pub hidden: usize,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// The learning rate at the first step.
    #[serde(with = "any_f64")]
    pub learning_rate: f64,
    /// The learning rate schedule.
    pub decay: Decay,
    /// Weight decay of AdamW: a step takes `learning_rate * weight_decay` of each weight.
    #[serde(with = "any_f64")]
    pub weight_decay: f64,
    /// Each entry of a gradient is clamped to [-clip, clip]. Infinity clamps nothing.
    #[serde(with = "any_f64")]
    pub clip: f64,
    /// Start each name from the last state of the name before it, as the notebook does, and not from
    /// the zero state, as sampling does. A minibatch begins with its longest names, and each takes the
    /// state of the one in its place.
    pub carry_state: bool,
    /// Train `wax` (n_a, n_x) as the product of a matrix (n_a, n_a) and an embedding of the
    /// characters (n_x, n_a), transposed.
    pub factored_input: bool,
    /// The probability with which a hidden unit is dropped from the output of a name.
    #[serde(with = "any_f64")]
    pub dropout: f64,
    /// The share of an n-gram model of the names ([`crate::ngram`]) in the targets, from 0 to 1.
    #[serde(with = "any_f64")]
    pub smoothing: f64,
    /// The share of the distinct names held out for validation, from 0 (none) to below 1.
    #[serde(with = "any_f64")]
    pub validation: f64,
    /// Stop after this many evaluations without improvement of the held-out loss; 0 never stops.
    pub patience: u64,
    /// Iterations between two evaluations, which sample names and compute the held-out loss.
    pub eval_every: u64,
    /// The number of names sampled at an evaluation.
    pub samples: u64,
    /// Where the gradients come from.
    pub backprop: GradientMethod,
    /// The number type: `F32` or `F64`.
    #[serde(with = "dtype_name")]
    pub dtype: DType,
    /// The source of random numbers.
    pub seed: RngSource,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            iterations: 35_000,
            batch_size: 1,
            hidden: 50,
            optimizer: OptimizerKind::Sgd,
            learning_rate: 0.015,
            decay: Decay::Cosine,
            weight_decay: 0.01,
            clip: 5.,
            carry_state: false,
            factored_input: false,
            dropout: 0.,
            smoothing: 0.,
            validation: 0.,
            patience: 0,
            eval_every: 2000,
            samples: 7,
            backprop: GradientMethod::Autograd,
            dtype: DType::F32,
            seed: RngSource::Seed(1),
        }
    }
}

/// A field in which two configurations differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field's name.
    pub field: String,
    /// Its value in the one, as text.
    pub from: String,
    /// Its value in the other.
    pub to: String,
}

/// The default number of passes over the names, and the names seen at least and at most: a short
/// list trained for longer is learned by heart, and a long one needs fewer passes.
const PASSES: u64 = 25;
const NAMES_SEEN: RangeInclusive<u64> = 1000..=300_000;

/// The default number of evaluations in a run, roughly.
const EVALUATIONS: u64 = 15;

impl TrainConfig {
    /// The default for a list: as long as [`set_length`](Self::set_length) says.
    pub fn for_list(corpus: &Corpus) -> Self {
        let mut config = Self::default();
        config.set_length(corpus, corpus.names().len() as u64);
        config
    }

    /// Sets `iterations` and `eval_every` to the default for training on so many `names` of
    /// `corpus`: 25 passes, but at least 1,000 and at most 300,000 names seen; as in the notebook
    /// 35,000 for the built-in list.
    pub fn set_length(&mut self, corpus: &Corpus, names: u64) {
        let is_built_in = corpus.names().iter().eq(DINOS.lines());
        let seen = match is_built_in {
            true => Self::default().iterations,
            false => names.saturating_mul(PASSES).clamp(*NAMES_SEEN.start(), *NAMES_SEEN.end()),
        };
        self.iterations = seen.div_ceil(self.batch_size.max(1) as u64);
        self.eval_every = self.default_evaluations();
    }

    /// The default of `eval_every` for `iterations`: some 15 times a run, in a round number.
    pub fn default_evaluations(&self) -> u64 {
        let every = (self.iterations / EVALUATIONS).max(1);
        let unit = 10u64.pow(every.ilog10());
        let round = [10, 5, 2].map(|digit| digit * unit).into_iter();
        round.filter(|&round| round <= every + every / 4).max().unwrap_or(unit)
    }

    /// The notebook's own run: double precision and NumPy's random numbers.
    pub fn notebook() -> Self {
        Self {
            learning_rate: 0.01,
            decay: Decay::None,
            carry_state: true,
            dtype: DType::F64,
            seed: RngSource::Notebook,
            ..Self::default()
        }
    }

    /// Every field by name, as it is written to files.
    pub fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => unreachable!("a configuration is plain data"),
        }
    }

    /// The fields in which `other` differs.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let pairs = self.fields().into_iter().zip(other.fields().into_values());
        pairs
            .filter(|((_, from), to)| from != to)
            .map(|((field, from), to)| Difference { field, from: text(&from), to: text(&to) })
            .collect()
    }

    /// Checks the range of every field.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let Self { learning_rate, validation, weight_decay, .. } = *self;
        let rules = [
            ("iterations", self.iterations >= 1, "it must be at least 1".to_string()),
            (
                "batch_size",
                (1..=MAX_BATCH_SIZE).contains(&self.batch_size),
                format!("it must be from 1 to {MAX_BATCH_SIZE}"),
            ),
            (
                "hidden",
                (1..=MAX_HIDDEN).contains(&self.hidden),
                format!("it must be from 1 to {MAX_HIDDEN}"),
            ),
            (
                "learning_rate",
                learning_rate.is_finite() && learning_rate > 0.,
                "it must be a finite number above 0".to_string(),
            ),
            ("clip", self.clip > 0., "it must be above 0 (inf clamps nothing)".to_string()),
            ("decay", self.decay.is_valid(), DECAYS.to_string()),
            (
                "weight_decay",
                weight_decay.is_finite() && weight_decay >= 0.,
                "it must be a finite number, 0 or above".to_string(),
            ),
            (
                "dropout",
                (0. ..1.).contains(&self.dropout),
                "it is a probability, at least 0 and below 1".to_string(),
            ),
            (
                "smoothing",
                (0. ..=1.).contains(&self.smoothing),
                "it is the share of an n-gram model in the targets, from 0 to 1".to_string(),
            ),
            (
                "validation",
                (0. ..1.).contains(&validation),
                "it is the share of the names to hold out, at least 0 and below 1".to_string(),
            ),
            (
                "patience",
                self.patience == 0 || validation > 0.,
                "it needs held-out names: give `validation` too".to_string(),
            ),
            ("eval_every", self.eval_every >= 1, "it must be at least 1".to_string()),
            ("samples", self.samples <= MAX_SAMPLES, format!("it must be at most {MAX_SAMPLES}")),
            (
                "dtype",
                matches!(self.dtype, DType::F32 | DType::F64),
                "it must be f32 or f64".to_string(),
            ),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            None => Ok(()),
            Some((name, _, rule)) => Err(Error::setting(name, text(&self.fields()[name]), rule)),
        }
    }

    /// Whether training ends after this many `iterations`, the last `since_best` evaluations without
    /// improvement.
    pub fn is_done(&self, iterations: u64, since_best: u64) -> bool {
        iterations >= self.iterations || (self.patience > 0 && since_best >= self.patience)
    }
}

/// The value of a field as a person writes it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "on" } else { "off" }.to_string(),
        // 5 and not 5.0.
        Value::Number(number) if number.is_f64() => format!("{}", number.as_f64().unwrap_or(0.)),
        other => other.to_string(),
    }
}

/// A float as a JSON number, or where JSON has none for it (infinity, NaN), as text.
mod any_f64 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => serializer.serialize_f64(*value),
            false => serializer.serialize_str(&value.to_string()),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum NumberOrText {
            Number(f64),
            Text(String),
        }
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(value) => Ok(value),
            NumberOrText::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// A number type by candle's name for it.
mod dtype_name {
    use candle_core::DType;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(dtype.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DType, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| D::Error::custom(format!("{name:?} is no number type")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::LetterCase;

    /// The fields of a configuration with one of them changed to another valid value.
    fn changed(field: &str, value: &Value) -> Value {
        match (field, value) {
            ("optimizer", _) => "adamw".into(),
            ("decay", _) => "step:5:0.5".into(),
            ("backprop", _) => "hand".into(),
            ("dtype", _) => "f64".into(),
            ("seed", _) => "notebook".into(),
            (_, Value::Bool(on)) => (!on).into(),
            (_, Value::Number(n)) if n.is_f64() => (n.as_f64().unwrap() + 0.25).into(),
            (_, Value::Number(n)) => (n.as_u64().unwrap() + 1).into(),
            _ => panic!("no other value for {field}"),
        }
    }

    #[test]
    fn every_field_is_stored_and_compared() {
        let default = TrainConfig::default();
        for (field, value) in default.fields() {
            let mut fields = default.fields();
            let other = changed(&field, &value);
            fields.insert(field.clone(), other.clone());
            let config: TrainConfig = serde_json::from_value(fields.into()).unwrap();
            assert_eq!(config.fields()[&field], other);
            let difference = Difference { field, from: text(&value), to: text(&other) };
            assert_eq!(default.differences(&config), [difference]);
        }
        assert_eq!(default.differences(&default), []);
    }

    #[test]
    fn the_default_length_follows_the_list() {
        let length = |names: usize, batch_size| {
            let list: String = (0..names).map(|name| format!("a{name}\n")).collect();
            let corpus = Corpus::parse(list.as_bytes(), "", LetterCase::Lower).unwrap();
            let mut config = TrainConfig { batch_size, ..TrainConfig::default() };
            config.set_length(&corpus, names as u64);
            (config.iterations, config.eval_every)
        };
        assert_eq!(length(1, 1), (1000, 50));
        assert_eq!(length(100, 1), (2500, 200));
        assert_eq!(length(100, 32), (79, 5));
        assert_eq!(length(1317, 1), (32_925, 2000));
        assert_eq!(length(20_000, 1), (300_000, 20_000));
        assert_eq!(length(1, 5000), (1, 1));
        // As the notebook's.
        assert_eq!(TrainConfig::for_list(&Corpus::dinos()), TrainConfig::default());
    }

    #[test]
    fn infinity_is_stored_and_missing_and_unknown_fields_are_refused() {
        let config = TrainConfig { clip: f64::INFINITY, ..TrainConfig::default() };
        assert_eq!(config.fields()["clip"], "inf");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
        let missing = json.replace("\"samples\":7,", "");
        assert!(serde_json::from_str::<TrainConfig>(&missing).is_err());
        let unknown = json.replace("\"samples\"", "\"sample\"");
        assert!(serde_json::from_str::<TrainConfig>(&unknown).is_err());
    }

    #[test]
    fn values_out_of_range_are_refused_by_field() {
        let default = TrainConfig::default;
        let wrong = [
            ("iterations", TrainConfig { iterations: 0, ..default() }),
            ("batch_size", TrainConfig { batch_size: 0, ..default() }),
            ("hidden", TrainConfig { hidden: MAX_HIDDEN + 1, ..default() }),
            ("learning_rate", TrainConfig { learning_rate: f64::NAN, ..default() }),
            ("learning_rate", TrainConfig { learning_rate: -1., ..default() }),
            ("clip", TrainConfig { clip: f64::NAN, ..default() }),
            ("decay", TrainConfig { decay: Decay::Step { every: 0, factor: 0.5 }, ..default() }),
            ("weight_decay", TrainConfig { weight_decay: -0.1, ..default() }),
            ("validation", TrainConfig { validation: 1., ..default() }),
            ("patience", TrainConfig { patience: 3, ..default() }),
            ("eval_every", TrainConfig { eval_every: 0, ..default() }),
            ("samples", TrainConfig { samples: u64::MAX, ..default() }),
            ("dtype", TrainConfig { dtype: DType::U8, ..default() }),
        ];
        for (name, config) in wrong {
            let message = config.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("{name} cannot be ")), "{message}");
        }
        assert!(default().check().is_ok() && TrainConfig::notebook().check().is_ok());
    }
}
