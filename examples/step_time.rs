//! How long a training step takes: forward, backward, clip, update, and the state carried on.
//!
//! ```text
//! cargo run --release --example step_time -- --backprop hand
//! cargo run --release --example step_time -- --backprop autograd --hidden 256 --batch 32 --steps 16
//! cargo run --release --example step_time -- --names data/dinos.txt --backprop hand
//! ```
//!
//! With `--names` it is the notebook's training on that list, as `char-rnn train` does it: names
//! of every length, shuffled, sampled from at every 2000th iteration. Otherwise names are random:
//! letters drawn evenly and `--steps` predictions each, so that nothing is padded. A step's time
//! depends on shapes alone, but a different batch each time keeps the lookups honest.
//!
//! Prints one line of JSON: the median and the extremes over `--repeats` stretches of steps, in
//! microseconds a step. `scripts/compare.py` reads it. Time it on one thread:
//! `RAYON_NUM_THREADS=1`, which `cargo run` sets here.

use candle_core::{DType, Device};
use char_rnn::batch::Batch;
use char_rnn::corpus::{Case, Corpus};
use char_rnn::engine::{Backprop, engine};
use char_rnn::model::{Config, initialize};
use char_rnn::optim::DescentConfig;
use char_rnn::random::Randomness;
use char_rnn::train::{Settings, train};
use clap::Parser;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// 26 letters and the end of a name, as in `data/dinos.txt`.
const VOCABULARY: usize = 27;
/// How many batches are gone through, round and round.
const BATCHES: usize = 64;

/// Time a training step
#[derive(Parser)]
struct Arguments {
    /// unrolled, autograd or hand
    #[arg(long, default_value = "autograd", value_parser = way)]
    backprop: Backprop,
    /// n_a, the number of hidden units
    #[arg(long, default_value_t = 50)]
    hidden: usize,
    /// How many names side by side
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// How many characters to predict in each name, its end included
    #[arg(long, default_value_t = 13, value_parser = clap::value_parser!(u16).range(2..))]
    steps: u16,
    /// f32 or f64
    #[arg(long, default_value = "f32", value_parser = precision)]
    dtype: DType,
    /// Train on the names of this file, one a line, instead of random ones
    #[arg(long, conflicts_with = "steps")]
    names: Option<PathBuf>,
    /// How many stretches to time
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// How long a stretch should be, in milliseconds
    #[arg(long, default_value_t = 50)]
    milliseconds: u64,
}

fn way(name: &str) -> Result<Backprop, &'static str> {
    name.parse().map_err(|_| "it is unrolled, autograd or hand")
}

fn precision(name: &str) -> Result<DType, String> {
    match name {
        "f32" => Ok(DType::F32),
        "f64" => Ok(DType::F64),
        _ => Err("it is f32 or f64".to_string()),
    }
}

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let stretches = match &arguments.names {
        Some(path) => {
            notebook(&arguments, &Corpus::parse(&std::fs::read(path)?, "names", Case::Lower)?)?
        }
        None => random_names(&arguments)?,
    };
    let at = |share: f64| stretches[((stretches.len() - 1) as f64 * share) as usize];
    let Arguments { backprop, hidden, batch, .. } = arguments;
    let dtype = arguments.dtype.as_str();
    println!(
        r#"{{"backprop": "{backprop}", "hidden": {hidden}, "batch": {batch}, "dtype": "{dtype}", "median_us": {:.3}, "fastest_us": {:.3}, "slowest_us": {:.3}}}"#,
        at(0.5),
        at(0.),
        at(1.),
    );
    Ok(())
}

/// Stretches of the notebook's training on `corpus`, each begun anew, in sorted microseconds an
/// iteration.
fn notebook(arguments: &Arguments, corpus: &Corpus) -> Result<Vec<f64>, Box<dyn Error>> {
    let run = |iterations: usize| {
        let settings = Settings {
            iterations: iterations as u64,
            hidden: arguments.hidden,
            batch_size: arguments.batch,
            dtype: arguments.dtype,
            backprop: arguments.backprop,
            ..Settings::default()
        };
        let start = Instant::now();
        train(corpus, &settings, &mut ())?;
        Ok(start.elapsed())
    };
    // Multiples of 2000, so that there is one sampling to every 2000 iterations.
    stretches(arguments, 2000, run)
}

/// Stretches of steps on random names, in sorted microseconds a step.
fn random_names(arguments: &Arguments) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut uniforms = Randomness::Seed(2).uniforms(0);
    let length = usize::from(arguments.steps) - 1;
    let mut letter = || 1 + (uniforms.draw() * (VOCABULARY - 1) as f64) as u32;
    let batches: Vec<Batch> = (0..BATCHES)
        .map(|_| {
            let names: Vec<Vec<u32>> =
                (0..arguments.batch).map(|_| (0..length).map(|_| letter()).collect()).collect();
            Batch::new(names.iter().map(Vec::as_slice))
        })
        .collect();

    let config = Config { vocabulary: VOCABULARY, hidden: arguments.hidden };
    let normals = Randomness::Seed(1).normals();
    let vars = initialize(config, normals, arguments.dtype, &Device::Cpu)?;
    let mut engine = engine(arguments.backprop, config, &vars, DescentConfig::default(), 1)?;

    let mut next = batches.iter().cycle();
    stretches(arguments, 1, |steps| {
        let start = Instant::now();
        for batch in next.by_ref().take(steps) {
            let loss = engine.step(batch)?;
            assert!(loss.is_finite(), "what has diverged is not worth timing");
        }
        Ok(start.elapsed())
    })
}

/// Times `run`, which makes as many steps as it is told. The number of steps is doubled from
/// `steps` on until a stretch is long enough, which warms caches and clock, and then kept.
fn stretches(
    arguments: &Arguments,
    mut steps: usize,
    mut run: impl FnMut(usize) -> Result<Duration, Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    while run(steps)? < Duration::from_millis(arguments.milliseconds) {
        steps *= 2;
    }
    let mut times = (0..arguments.repeats)
        .map(|_| Ok(run(steps)?.as_secs_f64() * 1e6 / steps as f64))
        .collect::<Result<Vec<f64>, Box<dyn Error>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times)
}
