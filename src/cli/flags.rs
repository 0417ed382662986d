//! The flags of the training configuration: one for each field of [`TrainConfig`], with its name.

use super::args;
use crate::Error;
use crate::data::Corpus;
use crate::random::RngSource;
use crate::train::config::text;
use crate::train::{Decay, GradientMethod, OptimizerKind, TrainConfig};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, Args, Command};
use serde::Serialize;
use serde_json::{Number, Value};

/// AdamW's default learning rate: its steps are about as large as the rate itself.
const ADAMW_LEARNING_RATE: f64 = 0.003;

/// The flags given, as the JSON values of their fields. What is not given is as in the resumed run,
/// or as in [`TrainConfig::default`].
#[derive(Args, Serialize)]
pub struct TrainFlags {
    /// Hidden units
    #[arg(long, value_name = "N", value_parser = whole_number, help_heading = MODEL)]
    hidden: Option<Value>,

    /// Train wax as the product of two matrices
    #[arg(long, help_heading = MODEL)]
    factored_input: bool,

    /// Training steps, each on one minibatch [default: 25 passes over the list]
    #[arg(long, value_name = "N", value_parser = whole_number, help_heading = OPTIMIZATION)]
    iterations: Option<Value>,

    /// Passes over the list, instead of --iterations
    #[arg(long, value_name = "N", value_parser = whole_number, help_heading = OPTIMIZATION)]
    #[arg(conflicts_with = "iterations")]
    #[serde(skip)]
    epochs: Option<Value>,

    /// Names in a minibatch; the loss is their mean
    #[arg(long, value_name = "N", value_parser = whole_number, help_heading = OPTIMIZATION)]
    batch_size: Option<Value>,

    /// Start each name from the last state of the one before it
    #[arg(long, help_heading = OPTIMIZATION)]
    carry_state: bool,

    /// Start each name from the zero state, the default outside --notebook
    #[arg(long, help_heading = OPTIMIZATION, conflicts_with = "carry_state")]
    #[serde(skip)]
    zero_state: bool,

    /// Optimizer
    #[arg(long, value_name = "NAME", value_parser = choice(&OptimizerKind::NAMES))]
    #[arg(help_heading = OPTIMIZATION)]
    optimizer: Option<Value>,

    /// Learning rate [default: 0.015; adamw: 0.003]
    #[arg(long, value_name = "X", value_parser = real_number, help_heading = OPTIMIZATION)]
    learning_rate: Option<Value>,

    /// Schedule: none, cosine or step:N:X (times X every N)
    #[arg(long, value_name = "SCHEDULE", value_parser = decay, help_heading = OPTIMIZATION)]
    decay: Option<Value>,

    /// Weight decay (AdamW)
    #[arg(long, value_name = "X", value_parser = real_number, help_heading = OPTIMIZATION)]
    weight_decay: Option<Value>,

    /// Clamp each entry of the gradients to [-X, X]; inf for none
    #[arg(long, value_name = "X", value_parser = real_number, help_heading = OPTIMIZATION)]
    clip: Option<Value>,

    /// Probability of dropping a hidden unit from the output
    #[arg(long, value_name = "P", value_parser = real_number, help_heading = OPTIMIZATION)]
    dropout: Option<Value>,

    /// Share of a Kneser-Ney n-gram model in the targets
    #[arg(long, value_name = "X", value_parser = real_number, help_heading = OPTIMIZATION)]
    smoothing: Option<Value>,

    /// Gradient method: unrolled, autograd or hand
    #[arg(long, value_name = "METHOD", value_parser = choice(&GradientMethod::NAMES))]
    #[arg(help_heading = OPTIMIZATION, hide_possible_values = true)]
    backprop: Option<Value>,

    /// Share of names to hold out, such as 0.1; saves the best model
    #[arg(long, value_name = "X", value_parser = real_number, help_heading = VALIDATION)]
    validation: Option<Value>,

    /// Stop after N evaluations without improvement; 0 never stops
    #[arg(long, value_name = "N", value_parser = whole_number, help_heading = VALIDATION)]
    patience: Option<Value>,

    /// Evaluate and print names every N iterations [default: 15 times]
    #[arg(long, value_name = "N", value_parser = whole_number, help_heading = VALIDATION)]
    #[arg(alias = "sample-every")]
    eval_every: Option<Value>,

    /// Names to print at an evaluation, and at the end
    #[arg(long, value_name = "N", value_parser = whole_number, help_heading = OUTPUT)]
    samples: Option<Value>,

    /// Seed of the weights, the order of the list and the names
    #[arg(long, value_name = "N", value_parser = seed, help_heading = RUNTIME)]
    #[arg(conflicts_with = "notebook")]
    seed: Option<Value>,

    /// Number type
    #[arg(long, value_name = "TYPE", value_parser = choice(&["f32", "f64"]), help_heading = RUNTIME)]
    dtype: Option<Value>,

    /// Run the notebook's model() with its log: f64, NumPy's random numbers
    #[arg(long, help_heading = RUNTIME)]
    #[serde(skip)]
    pub notebook: bool,
}

pub const MODEL: &str = "Model";
pub const OPTIMIZATION: &str = "Optimization";
pub const VALIDATION: &str = "Validation";
pub const OUTPUT: &str = "Output";
pub const RUNTIME: &str = "Runtime";

fn whole_number(text: &str) -> Result<Value, String> {
    args::whole_number::<u64>(text).map(Value::from)
}

/// JSON has no infinity and no NaN: those are text. A negative zero is a zero.
fn real_number(text: &str) -> Result<Value, String> {
    let number = args::real_number(text)? + 0.;
    Ok(Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::from))
}

fn choice(names: &'static [&'static str]) -> impl TypedValueParser<Value = Value> {
    PossibleValuesParser::new(names).map(Value::from)
}

fn decay(text: &str) -> Result<Value, String> {
    text.parse::<Decay>().map(|decay| decay.to_string().into())
}

fn seed(text: &str) -> Result<Value, String> {
    whole_number(text).map(|seed| seed.to_string().into())
}

/// Adds the defaults of [`TrainConfig`] to the help of its flags.
pub fn show_defaults(command: Command) -> Command {
    let defaults = TrainConfig::default().fields();
    command.mut_args(|arg: Arg| {
        let Some(default) = defaults.get(arg.get_id().as_str()) else { return arg };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        match default.is_boolean() || help.contains("[default") {
            true => arg,
            false => arg.help(format!("{help} [default: {}]", text(default))),
        }
    })
}

impl TrainFlags {
    /// The configuration: the flags given over that of the resumed run, or over the default.
    pub fn resolve(&self, resumed: Option<&TrainConfig>) -> crate::Result<TrainConfig> {
        let mut base = resumed.cloned().unwrap_or_default();
        // A resumed run of the notebook keeps what was given with it.
        if self.notebook && base.seed != RngSource::Notebook {
            let TrainConfig { learning_rate, decay, carry_state, dtype, seed, .. } =
                TrainConfig::notebook();
            base = TrainConfig { learning_rate, decay, carry_state, dtype, seed, ..base };
        }
        let mut fields = base.fields();
        match serde_json::to_value(self) {
            Ok(Value::Object(flags)) => {
                let is_given = |(_, value): &(_, Value)| !value.is_null() && *value != false;
                fields.extend(flags.into_iter().filter(is_given));
            }
            _ => unreachable!("flags are plain data"),
        }
        if self.zero_state {
            fields.insert("carry_state".to_string(), false.into());
        }
        let mut config: TrainConfig =
            serde_json::from_value(fields.into()).expect("the parsers accept what fields hold");
        if self.learning_rate.is_none() && config.optimizer != base.optimizer {
            config.learning_rate = match config.optimizer {
                OptimizerKind::AdamW => ADAMW_LEARNING_RATE,
                OptimizerKind::Sgd => TrainConfig::default().learning_rate,
            };
        }
        if let Some(value) = &self.weight_decay
            && config.optimizer != OptimizerKind::AdamW
        {
            return Err(Error::setting(
                "weight_decay",
                text(value),
                "it belongs to --optimizer adamw",
            ));
        }
        if self.patience.is_none() && config.validation == 0. {
            config.patience = 0;
        }
        config.check()?;
        Ok(config)
    }

    /// Sets the length of the run by --epochs or, if `config` does not have it yet and no flag says
    /// it, by the list. Some iterations are `done`.
    pub fn set_length(
        &self,
        config: &mut TrainConfig,
        corpus: &Corpus,
        done: u64,
        has_length: bool,
    ) -> crate::Result<()> {
        let mut names = corpus.names().len() as u64;
        if config.validation > 0. {
            let held_out = corpus.validation_split(config.validation, config.seed)?;
            names -= held_out.iter().filter(|is_held_out| **is_held_out).count() as u64;
        }
        if let Some(epochs) = self.epochs.as_ref().and_then(Value::as_u64) {
            config.iterations = iterations(epochs, names, config.batch_size, done)?;
        }
        if has_length {
            return Ok(());
        }
        let eval_every = config.eval_every;
        if self.iterations.is_none() && self.epochs.is_none() {
            config.set_length(corpus, names);
        }
        config.eval_every =
            if self.eval_every.is_some() { eval_every } else { config.default_evaluations() };
        Ok(())
    }
}

/// The iterations of so many passes over so many names, of which some are `done`.
fn iterations(epochs: u64, names: u64, batch_size: usize, done: u64) -> crate::Result<u64> {
    let Some(examples) = epochs.checked_mul(names).filter(|&examples| examples > 0) else {
        let rule = format!("it must be from 1 to {}", u64::MAX / names);
        return Err(Error::setting("epochs", epochs, rule));
    };
    let iterations = examples.div_ceil(batch_size as u64);
    if iterations <= done {
        let rule = format!("that is {iterations} iterations, and {done} are done already");
        return Err(Error::setting("epochs", epochs, rule));
    }
    Ok(iterations)
}
