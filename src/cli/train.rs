//! `char-rnn train`: learn a list.

use super::notebook_log::NotebookLog;
use super::progress::{Bar, Live, rounded};
use super::sample::pick;
use super::{DeviceName, Failure, List, Precision, real_number, whole_number};
use char_rnn::checkpoint::{self, Record};
use char_rnn::corpus::Corpus;
use char_rnn::engine::Backprop;
use char_rnn::known::KnownNames;
use char_rnn::random::Randomness;
use char_rnn::train::{Settings, Trained, train};
use clap::{Args, ValueEnum};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Learn a list of names and save the model
///
/// Prints names that the network makes as it learns, and at the end some that are not in the list.
/// The model is saved for `char-rnn sample`. Names go to standard output; how training goes
/// (iteration, loss in nats a name, smoothed) goes to standard error.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn train                                 learn the built-in dinosaurs
  char-rnn train towns.txt                       learn a list, save towns.safetensors
  char-rnn train towns.txt --hidden 100 -o big.safetensors
  char-rnn train --notebook | diff - notebook.log")]
pub struct Train {
    #[command(flatten)]
    list: List,

    /// Where to save the model [default: NAMES with .safetensors for its ending, in this folder]
    ///
    /// An older model in its place is replaced once training is done; any other file is left alone
    /// and refused.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// How many times to learn a name, or a batch of names, going round the list [default: 35000]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    iterations: Option<u64>,

    /// How many names to learn side by side each time [default: 1]
    ///
    /// The loss is their mean, so that the learning rate keeps its meaning; each has a hidden
    /// state of its own.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    batch_size: Option<usize>,

    /// Hidden units: how much the network can remember [default: 50]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    hidden: Option<usize>,

    /// How far to step down the gradient [default: 0.01]
    #[arg(long, value_name = "X")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    learning_rate: Option<f64>,

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

    /// Print names every N iterations, beginning with the first [default: 2000]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    sample_every: Option<u64>,

    /// How many names to print then, and at the end [default: 7]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    samples: Option<u64>,

    /// The number type: single or double precision [default: f32]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<Precision>,

    /// Where to do the arithmetic: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,

    /// Where the gradient comes from [default: autograd]
    #[arg(long, value_name = "WAY")]
    backprop: Option<Way>,

    /// Do exactly what the notebook does, and print its log
    ///
    /// Double precision, NumPy's random numbers and the notebook's seeds. Flags beside it override
    /// what it sets. The model is saved only where -o says so.
    #[arg(long)]
    notebook: bool,

    /// Add the notebook's debug lines to its log
    #[arg(long, requires = "notebook")]
    verbose: bool,

    /// Print names alone: nothing on standard error but errors
    #[arg(short, long)]
    quiet: bool,
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

impl Train {
    pub fn run(self) -> Result<(), Failure> {
        let settings = self.settings()?;
        let corpus = self.list.read()?;
        let output = self.output_path();
        if let Some(path) = &output {
            checkpoint::check_writable(path)?;
        }
        if self.notebook {
            let bar = Bar::new(settings.iterations, self.quiet);
            let log_alone = output.is_none();
            let mut log = NotebookLog::new(bar, &corpus, self.list.case(), self.verbose, log_alone);
            let trained = train(&corpus, &settings, &mut log)?;
            if let Some(path) = &output {
                self.save(path, &corpus, &settings, &trained)?;
            }
            return log.finish();
        }

        let bar = Bar::new(settings.iterations, self.quiet);
        bar.say(&format!(
            "Learning {} names, written with {} characters: {} hidden units, {} iterations",
            corpus.names().len(),
            corpus.vocabulary().size() - 1,
            settings.hidden,
            settings.iterations
        ));
        let mut live = Live::new(bar, &corpus, self.list.case());
        let trained = train(&corpus, &settings, &mut live)?;
        live.bar.finish();
        if let Some(path) = &output {
            self.save(path, &corpus, &settings, &trained)?;
        }
        self.print_new_names(&mut live, &corpus, &settings, &trained)?;
        if let Some(path) = &output {
            live.bar
                .say(&format!("\nSaved {0}; for more names: char-rnn sample {0}", path.display()));
        }
        live.finish()
    }

    fn settings(&self) -> char_rnn::Result<Settings> {
        let base = if self.notebook { Settings::notebook() } else { Settings::default() };
        let settings = Settings {
            iterations: self.iterations.unwrap_or(base.iterations),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            hidden: self.hidden.unwrap_or(base.hidden),
            learning_rate: self.learning_rate.unwrap_or(base.learning_rate),
            clip: self.clip.unwrap_or(base.clip),
            sample_every: self.sample_every.unwrap_or(base.sample_every),
            samples: self.samples.unwrap_or(base.samples),
            backprop: match self.backprop {
                Some(Way::Unrolled) => Backprop::Unrolled,
                Some(Way::Autograd) => Backprop::Autograd,
                Some(Way::Hand) => Backprop::Hand,
                None => base.backprop,
            },
            dtype: self.dtype.map_or(base.dtype, Precision::dtype),
            randomness: self.seed.map_or(base.randomness, Randomness::Seed),
            device: self.device.open()?,
        };
        settings.check()?;
        Ok(settings)
    }

    /// Where the model goes; the notebook saves none unless asked.
    fn output_path(&self) -> Option<PathBuf> {
        if self.output.is_some() || self.notebook {
            return self.output.clone();
        }
        let stem = self.list.path.as_deref().and_then(Path::file_stem);
        let mut file = PathBuf::from(stem.unwrap_or("dinos".as_ref()));
        file.as_mut_os_string().push(".safetensors");
        Some(file)
    }

    fn save(
        &self,
        path: &Path,
        corpus: &Corpus,
        settings: &Settings,
        trained: &Trained,
    ) -> char_rnn::Result<()> {
        let record = Record {
            program: format!("char-rnn {}", env!("CARGO_PKG_VERSION")),
            case: self.list.case(),
            names: corpus.names().len(),
            iterations: settings.iterations,
            smoothed_loss: trained.progress.smoothed,
            learning_rate: settings.learning_rate,
            clip: settings.clip.is_finite().then_some(settings.clip),
            backprop: settings.backprop.to_string(),
            seed: match settings.randomness {
                Randomness::Seed(seed) => seed.to_string(),
                Randomness::Notebook => "notebook".to_string(),
            },
        };
        let known = KnownNames::of(corpus.names().iter().map(String::as_str));
        checkpoint::save(path, &trained.model, corpus.vocabulary(), &record, Some(&known))
    }

    /// Ends with names that are not in the list, each once.
    fn print_new_names(
        &self,
        live: &mut Live,
        corpus: &Corpus,
        settings: &Settings,
        trained: &Trained,
    ) -> Result<(), Failure> {
        let (model, vocabulary) = (&trained.model, corpus.vocabulary());
        let mut seen: HashSet<String> = corpus.names().iter().cloned().collect();
        let mut new = Vec::new();
        let found = pick(model, vocabulary, settings.randomness, settings.samples, |name| {
            let is_new = seen.insert(name.to_string());
            if is_new {
                new.push(name.to_string());
            }
            Ok(is_new)
        })?;
        live.bar.say(&format!(
            "New names, after {} iterations with the loss at {}:",
            settings.iterations,
            rounded(trained.progress.smoothed)
        ));
        live.print(new.iter().map(String::as_str));
        if found < settings.samples {
            live.bar.say(&format!(
                "No more than {found} of {} were found: the network repeats the list, or itself",
                settings.samples
            ));
        }
        Ok(())
    }
}
