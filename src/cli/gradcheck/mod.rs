//! `char-rnn gradcheck`: compare gradients.

mod picture;
mod table;

use super::args::{DeviceName, List, json_text};
use super::draw::{Picture, check_svg};
use super::error::Failure;
use crate::Error;
use crate::checkpoint;
use crate::gradcheck::{
    Checked, DIFFERENCES, Options, Problem, Report, Sizes, StepSizes, check, step_sizes,
};
use crate::text::escaped;
use candle_core::{DType, Device};
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

const METHODS: [&str; 4] = ["unrolled", "autograd", "hand", DIFFERENCES];

/// Compare the gradients of all methods with each other and with central differences
#[derive(Args)]
#[command(after_help = "\
Methods:
  unrolled      candle's autograd over its primitive ops
  autograd      candle's autograd over the fused ops
  hand          backpropagation by hand; shares the kernels of autograd
  differences   central differences of the loss, in f64

Notes:
  The exit status is 1 if the relative error ||g1 - g2|| / (||g1|| + ||g2||) of two methods exceeds
  1e-12 in f64 and 1e-5 in f32, or, against differences, 1e-7 in f64 and 1e-5 in f32.

Examples:
  char-rnn gradcheck                                 random parameters, in f64
  char-rnn gradcheck --all --hidden 100              every number type and available device
  char-rnn gradcheck --model dinos.safetensors       a trained model, on names of the built-in list
  char-rnn gradcheck --plot check.svg --pair hand,differences
  char-rnn gradcheck --step-sizes --plot steps.svg   the error of differences by step size h")]
pub struct Gradcheck {
    /// Hidden units of the random network [default: 50]
    #[arg(long, value_name = "N", conflicts_with = "model", help_heading = "Problem")]
    hidden: Option<usize>,

    /// Characters of the random network, with the end of a name [default: 27]
    #[arg(long, value_name = "N", conflicts_with = "model", help_heading = "Problem")]
    vocabulary: Option<usize>,

    /// Steps of the longest random name, with its end [default: 8]
    #[arg(long, value_name = "N", conflicts_with = "model", help_heading = "Problem")]
    steps: Option<usize>,

    /// Batch size
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Problem")]
    batch: usize,

    /// Seed of the parameters, and of selected names and entries
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Problem")]
    seed: u64,

    /// Differences per tensor, at most [default: 500, fewer for a large network]
    #[arg(long, value_name = "N", help_heading = "Problem")]
    entries: Option<usize>,

    /// Check a trained model on names of the list, from the zero state
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    model: Option<PathBuf>,

    /// List of names for --model [default: the built-in dinosaurs]
    #[arg(value_name = "NAMES", requires = "model", help_heading = "Data")]
    names: Option<PathBuf>,

    /// Report the error of differences by step size instead
    #[arg(long, conflicts_with_all = ["all", "dtype", "device"], help_heading = "Output")]
    step_sizes: bool,

    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Draw the gradients and their differences, or the errors by step size
    #[arg(long, value_name = "FILE.svg", help_heading = "Output")]
    plot: Option<PathBuf>,

    /// Methods to draw [default: the pair of the largest error over bound]
    #[arg(long, value_name = "METHOD,METHOD", value_delimiter = ',', value_parser = METHODS)]
    #[arg(hide_possible_values = true)]
    #[arg(requires = "plot", conflicts_with = "step_sizes", help_heading = "Output")]
    pair: Vec<String>,

    /// Number type
    #[arg(long, value_name = "TYPE", default_value = "f64", help_heading = "Runtime")]
    #[arg(value_parser = ["f32", "f64"])]
    dtype: String,

    /// Device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Runtime")]
    device: DeviceName,

    /// Check every number type on every available device
    #[arg(long, conflicts_with_all = ["dtype", "device"], help_heading = "Runtime")]
    all: bool,
}

impl Gradcheck {
    pub fn run(self) -> Result<(), Failure> {
        // Bad arguments are reported before the work.
        if let Some(path) = &self.plot {
            check_svg(path, "plot")?;
        }
        self.pair()?;
        let devices = self.devices()?;
        let problem = self.problem()?;
        let options = Options { entries: self.entries, seed: self.seed };
        if self.step_sizes {
            return self.report_step_sizes(&step_sizes(&problem, &options)?);
        }
        let mut checks = Vec::new();
        for (dtype, device) in &devices {
            checks.push(check(&problem, *dtype, device, &options)?);
        }
        if let Some(path) = &self.plot {
            self.picture(&checks)?.save(path)?;
        }
        self.report(&checks)
    }

    fn pair(&self) -> crate::Result<Option<[&str; 2]>> {
        match &self.pair[..] {
            [] => Ok(None),
            [first, second] if first != second => Ok(Some([first, second])),
            methods => {
                let rule = "it must be two methods, as in hand,autograd";
                Err(Error::setting("pair", methods.join(","), rule))
            }
        }
    }

    /// The number types and devices to check.
    fn devices(&self) -> crate::Result<Vec<(DType, Device)>> {
        if !self.all {
            let dtype = if self.dtype == "f32" { DType::F32 } else { DType::F64 };
            return Ok(vec![(dtype, self.device.open()?)]);
        }
        let mut devices = vec![Device::Cpu];
        devices.extend(DeviceName::Cuda(0).open());
        let both = |device: Device| [(DType::F64, device.clone()), (DType::F32, device)];
        Ok(devices.into_iter().flat_map(both).collect())
    }

    fn problem(&self) -> crate::Result<Problem> {
        let Some(path) = &self.model else {
            let sizes = Sizes {
                hidden: self.hidden.unwrap_or(50),
                vocabulary: self.vocabulary.unwrap_or(27),
                steps: self.steps.unwrap_or(8),
                batch: self.batch,
            };
            return Problem::random(sizes, self.seed);
        };
        let saved = checkpoint::load(path, &Device::Cpu)?;
        let keep_case = saved.list.case == crate::data::LetterCase::Keep;
        let list = List { path: self.names.clone(), keep_case };
        Problem::trained(&saved, &list.read()?, self.batch, self.seed)
    }

    /// The source of the parameters, in words.
    fn origin(&self) -> String {
        match &self.model {
            Some(path) => format!("{}, names chosen by seed {}", path.display(), self.seed),
            None => format!("random parameters of seed {}", self.seed),
        }
    }

    /// The picture of the first check that fails, else of the first.
    fn picture(&self, checks: &[Checked]) -> crate::Result<Picture> {
        let checked = checks.iter().find(|checked| !checked.report.agree).unwrap_or(&checks[0]);
        let pair = match self.pair()? {
            None => checked.worst_pair(),
            Some(methods) => checked.pair(methods).expect("a check has every method"),
        };
        Ok(picture::pair(checked, pair))
    }

    fn report(&self, checks: &[Checked]) -> Result<(), Failure> {
        let reports: Vec<&Report> = checks.iter().map(|checked| &checked.report).collect();
        let agree = reports.iter().all(|report| report.agree);
        let mut out = anstream::stdout().lock();
        if self.json {
            let answer = json!({ "origin": self.origin(), "agree": agree, "checks": reports });
            writeln!(out, "{}", json_text(&answer))?;
        } else {
            for report in &reports {
                table::print_report(&mut out, report, &escaped(&self.origin()))?;
            }
        }
        out.flush()?;
        let mut failed = Vec::new();
        for Report { pairs, dtype, device, .. } in reports {
            for pair in pairs.iter().filter(|pair| !pair.agree) {
                let ([first, second], tensors) = (&pair.methods, pair.disagreeing().join(", "));
                failed.push(format!("{first} and {second} on {tensors} ({dtype} on {device})"));
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::Check(format!("the gradients disagree: {}", failed.join("; "))))
    }

    fn report_step_sizes(&self, found: &StepSizes) -> Result<(), Failure> {
        if let Some(path) = &self.plot {
            picture::step_sizes(found).save(path)?;
        }
        let mut out = anstream::stdout().lock();
        if self.json {
            let answer = json!({ "origin": self.origin(), "step_sizes": found });
            writeln!(out, "{}", json_text(&answer))?;
        } else {
            table::print_step_sizes(&mut out, found, &escaped(&self.origin()))?;
        }
        out.flush()?;
        if found.agree {
            return Ok(());
        }
        let message = "at no step size are central differences within their bound of the gradient \
                       of hand";
        Err(Failure::Check(message.to_string()))
    }
}
