//! The flags that decide how training goes.

use super::{Precision, real_number, whole_number};
use candle_core::Device;
use char_rnn::corpus::Corpus;
use char_rnn::engine::Backprop;
use char_rnn::optim::{Algorithm, Decay};
use char_rnn::random::Randomness;
use char_rnn::train::Settings;
use clap::{Args, ValueEnum};

/// What is not given is as in the run that goes on, or as in [`Settings::default`].
#[derive(Args)]
pub struct SettingsFlags {
    /// How many times to learn a name, or a batch of names, going round the list [default: 35000]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    iterations: Option<u64>,

    /// How many times to go round the list, instead of --iterations
    #[arg(long, value_name = "N", conflicts_with = "iterations")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    epochs: Option<u64>,

    /// Hold out this share of the list: do not learn it, and judge by it
    ///
    /// Such as 0.1. Which names depends on the seed; a name that stands twice is not parted. Their
    /// loss is shown with the others', and the saved model is the one that did best on them.
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    validation: Option<f64>,

    /// With --validation, end after N looks (see --sample-every) that found it no better; 0 never
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    patience: Option<u64>,

    /// How many names to learn side by side each time [default: 1]
    ///
    /// The loss is their mean, so that the learning rate keeps its meaning; each has a hidden
    /// state of its own.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    batch_size: Option<usize>,

    /// Begin each name from the zero state, as new names begin
    ///
    /// Without it a name begins with what the network remembers of the name before it, as in the
    /// notebook. New names are then a little less like the list's.
    #[arg(long)]
    zero_state: bool,

    /// Hidden units: how much the network can remember [default: 50]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    hidden: Option<usize>,

    /// How the weights follow from the gradients [default: sgd]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<Optimizer>,

    /// How far to step down the gradient [default: 0.01, and 0.003 for adamw]
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    learning_rate: Option<f64>,

    /// How the learning rate falls: none, cosine, or step:N:X [default: none]
    ///
    /// cosine: to zero at the last iteration. step:N:X: after each N iterations, times X.
    #[arg(long, value_name = "HOW")]
    decay: Option<Decay>,

    /// What adamw takes from each weight at a step, over the learning rate [default: 0.01]
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    weight_decay: Option<f64>,

    /// Clamp each entry of the gradients to [-X, X]; inf clamps nothing [default: 5]
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    clip: Option<f64>,

    /// Chooses the first weights, the order of the list and the names printed [default: 1]
    ///
    /// The same list, settings and seed give the same model and names on every run.
    #[arg(long, value_name = "N", conflicts_with = "notebook")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    seed: Option<u64>,

    /// Print names, and look at those held out, every N iterations [default: 2000]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    sample_every: Option<u64>,

    /// How many names to print then, and at the end [default: 7]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    samples: Option<u64>,

    /// How many threads learn the names of a batch side by side [default: 1]
    ///
    /// Of use for large batches of large networks. Another number changes the last digits.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    threads: Option<usize>,

    /// The number type: single or double precision [default: f32]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<Precision>,

    /// Where the gradient comes from [default: autograd]
    #[arg(long, value_name = "WAY")]
    backprop: Option<Way>,

    /// Do exactly what the notebook does, and print its log
    ///
    /// Double precision, NumPy's random numbers and the notebook's seeds. Flags beside it override
    /// what it sets. The model is saved only where -o says so, or --resume.
    #[arg(long)]
    pub notebook: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// A graph node for each op of each time step: the slow reference
    Unrolled,
    /// Candle's autograd over fused ops
    Autograd,
    /// No graph: backpropagation through time derived by hand, the fastest
    Hand,
}

#[derive(Clone, Copy, ValueEnum)]
enum Optimizer {
    /// Stochastic gradient descent, the notebook's
    Sgd,
    /// Adam with decoupled weight decay: it chooses each weight's step
    Adamw,
}

/// AdamW's steps are of the size of the learning rate, whatever the size of the gradient.
const ADAMW_LEARNING_RATE: f64 = 0.003;

impl SettingsFlags {
    /// The settings: those of the command line, then those of the run that goes on.
    pub fn over(&self, begun: Option<&Settings>, device: Device) -> char_rnn::Result<Settings> {
        let mut base = begun.cloned().unwrap_or_default();
        // A run that is the notebook's already keeps what was given beside it.
        if self.notebook && base.randomness != Randomness::Notebook {
            let Settings { dtype, randomness, .. } = Settings::notebook();
            base = Settings { dtype, randomness, ..base };
        }
        let optimizer = match self.optimizer {
            Some(Optimizer::Sgd) => Algorithm::Sgd,
            Some(Optimizer::Adamw) => Algorithm::AdamW,
            None => base.optimizer,
        };
        let usual_rate = match optimizer {
            same if same == base.optimizer => base.learning_rate,
            Algorithm::AdamW => ADAMW_LEARNING_RATE,
            Algorithm::Sgd => Settings::default().learning_rate,
        };
        if self.weight_decay.is_some() && optimizer != Algorithm::AdamW {
            return Err(char_rnn::Error::Setting {
                name: "--weight-decay",
                value: self.weight_decay.unwrap_or_default().to_string(),
                rule: "it belongs to --optimizer adamw".to_string(),
            });
        }
        // A negative zero is one.
        let validation = self.validation.unwrap_or(base.validation) + 0.;
        let patience = match self.patience {
            Some(patience) => Some(patience).filter(|&patience| patience > 0),
            None => base.patience.filter(|_| validation > 0.),
        };
        let settings = Settings {
            iterations: self.iterations.unwrap_or(base.iterations),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            hidden: self.hidden.unwrap_or(base.hidden),
            learning_rate: self.learning_rate.unwrap_or(usual_rate),
            clip: self.clip.unwrap_or(base.clip),
            optimizer,
            decay: self.decay.unwrap_or(base.decay),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            zero_state: self.zero_state || base.zero_state,
            validation,
            patience,
            sample_every: self.sample_every.unwrap_or(base.sample_every),
            samples: self.samples.unwrap_or(base.samples),
            backprop: match self.backprop {
                Some(Way::Unrolled) => Backprop::Unrolled,
                Some(Way::Autograd) => Backprop::Autograd,
                Some(Way::Hand) => Backprop::Hand,
                None => base.backprop,
            },
            threads: self.threads.unwrap_or(base.threads),
            dtype: self.dtype.map_or(base.dtype, Precision::dtype),
            randomness: self.seed.map_or(base.randomness, Randomness::Seed),
            device,
        };
        settings.check()?;
        Ok(settings)
    }

    /// Turns --epochs, where given, into iterations, of which some are `done`: that takes the list.
    pub fn count_epochs(
        &self,
        settings: &mut Settings,
        corpus: &Corpus,
        done: u64,
    ) -> char_rnn::Result<()> {
        let Some(epochs) = self.epochs else { return Ok(()) };
        settings.iterations = settings.iterations_of(epochs, corpus)?;
        match settings.iterations > done {
            true => Ok(()),
            false => Err(char_rnn::Error::Setting {
                name: "--epochs",
                value: epochs.to_string(),
                rule: format!(
                    "that is {} iterations, and {done} are done already",
                    settings.iterations
                ),
            }),
        }
    }
}
