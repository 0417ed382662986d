//! The time of a training step: forward, backward, clip, update.
//!
//! ```text
//! cargo run --release --example step_time -- --backprop hand
//! cargo run --release --example step_time -- --backprop autograd --hidden 256 --batch 32 --steps 16
//! cargo run --release --example step_time -- --names data/dinos.txt --backprop hand
//! ```
//!
//! With `--names` it is the notebook's training on that list: names of every length, one at a time,
//! and samples at every 2000th iteration. Otherwise names are random letters of `--steps` steps each,
//! so that nothing is padded.
//!
//! `--peak` times multiply-adds of vectors in registers instead: what one core can do at most.
//!
//! Prints one line of JSON: the median and the extremes over `--repeats` runs, in microseconds a
//! step. `scripts/compare.py` reads it.

use candle_core::{DType, Device};
use char_rnn::data::{Corpus, LetterCase};
use char_rnn::random::RngSource;
use char_rnn::train::plan::plan;
use char_rnn::train::{GradientMethod, Observer, Progress, TrainConfig, Trainer};
use clap::Parser;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time a training step
#[derive(Parser)]
struct Arguments {
    /// Gradient method: unrolled, autograd or hand
    #[arg(long, default_value = "autograd")]
    backprop: GradientMethod,
    /// Hidden units
    #[arg(long, default_value_t = 50)]
    hidden: usize,
    /// Names in a minibatch
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Steps of each random name, its end included
    #[arg(long, default_value_t = 13, value_parser = clap::value_parser!(u16).range(2..))]
    steps: u16,
    /// Number type: f32 or f64
    #[arg(long, default_value = "f32")]
    dtype: DType,
    /// Train on this list instead of random names
    #[arg(long, conflicts_with = "steps")]
    names: Option<PathBuf>,
    /// The settings of `train --best` for this list
    #[arg(long, requires = "names", conflicts_with_all = ["hidden", "batch"])]
    best: bool,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Runs to time
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Print the peak of one core in single precision, in GFLOP/s
    #[arg(long)]
    peak: bool,
    /// Length of a run in milliseconds
    #[arg(long, default_value_t = 50)]
    milliseconds: u64,
}

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.peak {
        let peak = (0..arguments.repeats).map(|_| pulp::Arch::new().dispatch(Tile));
        println!(r#"{{"gflops": {:.1}}}"#, peak.fold(0., f64::max));
        return Ok(());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    let _pool = pool.use_current_thread().build()?;
    let text = match &arguments.names {
        Some(path) => std::fs::read_to_string(path)?,
        None => random_names(usize::from(arguments.steps) - 1, 64 * arguments.batch),
    };
    let corpus = Corpus::parse(text.as_bytes(), "names", LetterCase::Lower)?;
    let Arguments { backprop, hidden, batch, dtype, .. } = arguments;
    // The step of the notebook, with the random numbers of a seed.
    let notebook = TrainConfig {
        hidden,
        batch_size: batch,
        seed: RngSource::Seed(1),
        samples: if arguments.names.is_some() { 7 } else { 0 },
        ..TrainConfig::notebook()
    };
    let base = if arguments.best { plan(&corpus).candidates.remove(0) } else { notebook };
    let config = TrainConfig { iterations: u64::MAX, backprop, dtype, ..base };
    let (hidden, batch) = (config.hidden, config.batch_size);
    let mut trainer = Trainer::new(&corpus, &config, &Device::Cpu)?;
    let mut time = |steps: u64| {
        let mut clock = Clock { left: steps, start: Instant::now(), elapsed: Duration::ZERO };
        trainer.run(&mut clock).map(|_| clock.elapsed)
    };
    // Doubled until a run is long enough, which warms caches and clock. From 2000 on there is one
    // evaluation in 2000 steps.
    let mut steps = if arguments.names.is_some() && !arguments.best { 2000 } else { 1 };
    while time(steps)? < Duration::from_millis(arguments.milliseconds) {
        steps *= 2;
    }
    let mut times = vec![];
    for _ in 0..arguments.repeats {
        times.push(time(steps)?.as_secs_f64() * 1e6 / steps as f64);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        r#"{{"backprop": "{backprop}", "hidden": {hidden}, "batch": {batch}, "dtype": "{}", "median_us": {:.3}, "fastest_us": {:.3}, "slowest_us": {:.3}}}"#,
        dtype.as_str(),
        at(0.5),
        at(0.),
        at(1.),
    );
    Ok(())
}

/// Multiply-adds of sixteen vectors in registers, as many as hide the time of each.
struct Tile;

impl pulp::WithSimd for Tile {
    /// Billions of operations a second.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> f64 {
        const TIMES: usize = 2_000_000;
        let [x, y] = std::hint::black_box([0.999, 1e-3]).map(|value| simd.splat_f32s(value));
        let mut sums = [simd.splat_f32s(1.); 16];
        let start = Instant::now();
        for _ in 0..TIMES {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, x, y);
            }
        }
        // Before the clock stops.
        std::hint::black_box(&sums);
        let seconds = start.elapsed().as_secs_f64();
        (2 * TIMES * sums.len() * S::F32_LANES) as f64 / seconds / 1e9
    }
}

/// Names of `length` letters drawn evenly, one a line.
fn random_names(length: usize, count: usize) -> String {
    let mut uniforms = RngSource::Seed(2).uniforms(0);
    let mut letter = || char::from(b'a' + (uniforms.draw() * 26.) as u8);
    let mut name = || (0..length).map(|_| letter()).collect::<String>();
    (0..count).map(|_| name() + "\n").collect()
}

/// Stops after so many steps and takes their time.
struct Clock {
    left: u64,
    start: Instant,
    elapsed: Duration,
}

impl Observer for Clock {
    fn iteration(&mut self, _progress: &Progress) -> ControlFlow<()> {
        self.left -= 1;
        if self.left > 0 {
            return ControlFlow::Continue(());
        }
        self.elapsed = self.start.elapsed();
        ControlFlow::Break(())
    }
}
