//! `char-rnn gradcheck`: compare gradients.

mod picture;
mod table;

use super::args::{DeviceName, List, json_text};
use super::draw::{Picture, check_svg};
use super::error::Failure;
use crate::Error;
use crate::checkpoint;
use crate::gradcheck::{
    Against, ByStep, Checked, DIFFERENCES, DIRECTIONS, EXACT, Options, Planted, Problem, Report,
    Sizes, StepSizes, against, by_step, check, prove, step_sizes,
};
use crate::text::escaped;
use candle_core::{DType, Device};
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

const METHODS: [&str; 6] = ["unrolled", "autograd", "hand", EXACT, DIRECTIONS, DIFFERENCES];

/// The notebook's clamp.
const CLIP: f64 = 5.;

/// Compare the gradients of all methods with each other, or your own with the right ones
#[derive(Args)]
#[command(after_help = "\
Methods:
  unrolled      candle's autograd over its primitive ops
  autograd      candle's autograd over the fused ops
  hand          backpropagation by hand; shares the kernels of autograd
  exact         derivatives of the scalar reference's loss in dual numbers, in f64
  directions    the same, along 8 random directions through all entries of a tensor
  differences   central differences of that loss, in f64

Notes:
  The exit status is 1 if the relative error ||g1 - g2|| / (||g1|| + ||g2||) of two methods exceeds
  1e-12 in f64 and 1e-5 in f32, or, against differences, 1e-7 in f64 and 1e-5 in f32, and the
  rounding that is measured for the problem; 2 if a file cannot be compared.

Examples:
  char-rnn gradcheck                                 random parameters, in f64
  char-rnn gradcheck --against mine.npz              your own gradients: docs/gradients.md
  char-rnn gradcheck --prove                         known mistakes, and how the check finds them
  char-rnn gradcheck --all --hidden 100              every number type and available device
  char-rnn gradcheck --model dinos.safetensors       a trained model, on names of the built-in list
  char-rnn gradcheck --by-step --steps 30            vanishing and exploding gradients
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

    /// Derivatives per tensor, at most [default: 200 differences, fewer for a large network]
    #[arg(long, value_name = "N", help_heading = "Problem")]
    entries: Option<usize>,

    /// Check a trained model on names of the list, from the zero state
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    model: Option<PathBuf>,

    /// List of names for --model [default: the built-in dinosaurs]
    #[arg(value_name = "NAMES", requires = "model", help_heading = "Data")]
    names: Option<PathBuf>,

    /// Compare the gradients in a file of np.savez instead
    #[arg(long, value_name = "FILE.npz", group = "mode", help_heading = "Instead")]
    #[arg(conflicts_with_all = ["hidden", "vocabulary", "steps", "model", "entries", "plot"])]
    against: Option<PathBuf>,

    /// Plant known mistakes instead, and report the tensors by which they are found
    #[arg(long, group = "mode", conflicts_with_all = ["entries", "plot"])]
    #[arg(help_heading = "Instead")]
    prove: bool,

    /// Report the norm of the gradient by steps back through time instead
    #[arg(long, group = "mode", conflicts_with = "entries", help_heading = "Instead")]
    by_step: bool,

    /// Report the error of differences by step size instead
    #[arg(long, group = "mode", help_heading = "Instead")]
    step_sizes: bool,

    /// Clamp of the gradients: of --against [default: none], of --by-step [default: 5]
    #[arg(long, value_name = "X", requires = "mode", help_heading = "Instead")]
    #[arg(conflicts_with_all = ["prove", "step_sizes"])]
    clip: Option<f64>,

    /// Print each comparison
    #[arg(long, conflicts_with_all = ["mode", "json"], help_heading = "Output")]
    verbose: bool,

    /// Print the result as JSON
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Draw gradients and differences, or the result of --by-step or --step-sizes
    #[arg(long, value_name = "FILE.svg", help_heading = "Output")]
    plot: Option<PathBuf>,

    /// Methods to draw [default: the pair of the largest error over bound]
    #[arg(long, value_name = "METHOD,METHOD", value_delimiter = ',', value_parser = METHODS)]
    #[arg(hide_possible_values = true)]
    #[arg(requires = "plot", conflicts_with = "mode", help_heading = "Output")]
    pair: Vec<String>,

    /// Number type
    #[arg(long, value_name = "TYPE", default_value = "f64", help_heading = "Runtime")]
    #[arg(value_parser = ["f32", "f64"], conflicts_with = "mode")]
    dtype: String,

    /// Device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Runtime")]
    #[arg(conflicts_with = "mode")]
    device: DeviceName,

    /// Check every number type on every available device; also one name, 200 steps, odd sizes
    #[arg(long, conflicts_with_all = ["dtype", "device", "mode"], help_heading = "Runtime")]
    all: bool,
}

impl Gradcheck {
    pub fn run(self) -> Result<(), Failure> {
        // Bad arguments are reported before the work.
        if let Some(path) = &self.plot {
            check_svg(path, "plot")?;
        }
        self.pair()?;
        if let Some(clip) = self.clip.filter(|clip| *clip <= 0. || clip.is_nan()) {
            return Err(Error::setting("clip", clip, "it must be above 0").into());
        }
        if let Some(path) = &self.against {
            return self.report_against(&against(path, self.clip)?);
        }
        let devices = self.devices()?;
        let problem = self.problem()?;
        let options = Options { entries: self.entries, seed: self.seed };
        if self.prove {
            return self.report_proof(&prove(&problem)?, &problem);
        }
        if self.by_step {
            return self.report_by_step(&by_step(&problem, self.clip.unwrap_or(CLIP)));
        }
        if self.step_sizes {
            return self.report_step_sizes(&step_sizes(&problem, &options)?);
        }
        let mut checks = Vec::new();
        for problem in self.problems(problem)? {
            for (dtype, device) in &devices {
                checks.push(check(&problem, *dtype, device, &options)?);
            }
        }
        if let Some(path) = &self.plot {
            self.picture(&checks)?.save(path)?;
        }
        self.report(&checks)
    }

    /// With `--all` also the cases that the problem may not have: one name, which is what training
    /// takes by default, 200 steps, and sizes that no vector divides.
    fn problems(&self, problem: Problem) -> crate::Result<Vec<Problem>> {
        if !self.all {
            return Ok(vec![problem]);
        }
        let mut problems = vec![problem.first_name(), problem];
        if self.model.is_none() {
            for (hidden, vocabulary, steps, batch) in [(17, 27, 200, 2), (67, 257, 5, 3)] {
                let sizes = Sizes { hidden, vocabulary, steps, batch };
                problems.push(Problem::random(sizes, self.seed)?);
            }
        }
        problems.rotate_left(1); // the given one first
        Ok(problems)
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
            Some(path) => {
                let path = escaped(&path.display().to_string());
                format!("{path}, names chosen by seed {}", self.seed)
            }
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
                let (out, origin) = (&mut out, self.origin());
                match report.agree && reports.len() > 1 {
                    _ if self.verbose => table::print_report(out, report, &origin)?,
                    true => table::print_result(out, report, &origin)?,
                    false => table::print_summary(out, report, &origin)?,
                }
            }
        }
        out.flush()?;
        let mut failed = Vec::new();
        for Report { pairs, taylor, ops, unrepeatable, dtype, device, .. } in reports {
            for pair in pairs.iter().filter(|pair| !pair.agree) {
                let ([first, second], tensors) = (&pair.methods, pair.disagreeing().join(", "));
                failed.push(format!("{first} and {second} on {tensors} ({dtype} on {device})"));
            }
            for slopes in taylor.iter().filter(|slopes| !slopes.agree) {
                failed.push(format!("{} and the slope of its Taylor remainder", slopes.method));
            }
            for op in ops.iter().filter(|op| !op.agree) {
                failed.push(format!("autograd and unrolled on {} of {} alone", op.worst, op.op));
            }
            for method in unrepeatable {
                failed.push(format!("{method} and its second run"));
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
            table::print_step_sizes(&mut out, found, &self.origin())?;
        }
        out.flush()?;
        if found.agree {
            return Ok(());
        }
        let message = "at no step size are central differences within their bound of the gradient \
                       of hand";
        Err(Failure::Check(message.to_string()))
    }

    fn report_against(&self, found: &Against) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", json_text(&json!(found)))?,
            false => table::print_against(&mut out, found)?,
        }
        out.flush()?;
        let wrong = found.arrays.iter().filter(|array| !array.agree).map(|array| array.tensor);
        match found.agree {
            true => Ok(()),
            false => {
                let wrong: Vec<&str> = wrong.collect();
                Err(Failure::Check(format!("wrong: {}", wrong.join(", "))))
            }
        }
    }

    fn report_proof(&self, found: &[Planted], problem: &Problem) -> Result<(), Failure> {
        let agree = found.iter().all(|planted| planted.agree);
        let mut out = anstream::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", json_text(&json!({ "agree": agree, "mistakes": found })))?,
            false => table::print_proof(&mut out, found, &problem.sizes(), &self.origin())?,
        }
        out.flush()?;
        let missed = found.iter().filter(|planted| !planted.agree);
        let missed: Vec<&str> = missed.map(|planted| planted.known.what).collect();
        match agree {
            true => Ok(()),
            false => Err(Failure::Check(format!("not found: {}", missed.join("; ")))),
        }
    }

    fn report_by_step(&self, found: &ByStep) -> Result<(), Failure> {
        if let Some(path) = &self.plot {
            picture::by_step(found).save(path)?;
        }
        let mut out = anstream::stdout().lock();
        match self.json {
            true => writeln!(
                out,
                "{}",
                json_text(&json!({ "origin": self.origin(), "by_step": found }))
            )?,
            false => table::print_by_step(&mut out, found, &self.origin())?,
        }
        out.flush()?;
        Ok(())
    }
}
