//! `char-rnn gradcheck`: compare gradients.

mod table;

use super::args::{json_text, list_bytes, open_device, say};
use super::error::Failure;
use super::files;
use crate::Error;
use crate::checkpoint;
use crate::data::parse_listed;
use crate::gradcheck::{Against, Comparison, Options, Problem, Report, Sizes, against, check};
use crate::page::gradients_page;
use crate::random::RngSource;
use crate::text::escaped;
use candle_core::{DType, Device};
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Compare the gradients of all methods with each other, or your own with the right ones
#[derive(Args)]
#[command(after_help = "\
Methods:
  unrolled      candle's autograd over its primitive ops
  autograd      candle's autograd over the fused ops
  hand          backpropagation by hand; shares the kernels of autograd
  exact         derivatives of the scalar reference's loss in dual numbers, in f64
  directions    the same, along 8 random directions through all entries of a tensor
  differences   central differences of that loss along these directions, in f64

Notes:
  The exit status is 1 if the relative error ||g1 - g2|| / (||g1|| + ||g2||) of two methods exceeds
  1e-12 in f64 and 1e-5 in f32, or, against differences, 1e-7 in f64 and 1e-5 in f32, and the
  rounding that is measured for the problem; 2 if a file cannot be compared.

Examples:
  char-rnn gradcheck                                 random parameters, in f64
  char-rnn gradcheck --against mine.npz              your own gradients: docs/gradients.md
  char-rnn gradcheck --all --hidden 100              every number type and available device
  char-rnn gradcheck --model dinos.safetensors       a trained model, on names of the built-in list")]
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

    /// Seed of the parameters, selected names and random directions
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Problem")]
    seed: u64,

    /// Check a trained model on names of the list, from the zero state
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    model: Option<PathBuf>,

    /// List of names for --model [default: the built-in dinosaurs]
    #[arg(value_name = "NAMES", requires = "model", help_heading = "Data")]
    names: Option<PathBuf>,

    /// Compare your own gradients, clip or sample in a file of np.savez
    #[arg(long, value_name = "FILE.npz", help_heading = "Instead")]
    #[arg(conflicts_with_all = ["hidden", "vocabulary", "steps", "batch", "seed", "model"])]
    against: Option<PathBuf>,

    /// Clamp of the gradients of --against [default: none]
    #[arg(long, value_name = "X", requires = "against", help_heading = "Instead")]
    clip: Option<f64>,

    /// Print the result as JSON, with the details of each comparison
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Write both gradients and their differences as heat maps to a new page
    #[arg(long, value_name = "FILE", conflicts_with = "all", help_heading = "Output")]
    html: Option<PathBuf>,

    /// Number type
    #[arg(long, value_name = "TYPE", default_value = "f64", help_heading = "Runtime")]
    #[arg(value_parser = ["f32", "f64"], conflicts_with = "against")]
    dtype: String,

    /// Device: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Runtime")]
    #[arg(conflicts_with = "against")]
    device: String,

    /// Check every number type on every available device; also one name, 200 steps, odd sizes
    #[arg(long, conflicts_with_all = ["dtype", "device", "against"], help_heading = "Runtime")]
    all: bool,
}

impl Gradcheck {
    pub fn run(self) -> Result<(), Failure> {
        if let Some(path) = &self.html {
            files::check_new(path, "--html")?;
        }
        if let Some(path) = &self.against {
            let found = against(path, self.clip, self.html.is_some())?;
            if self.html.is_some() && found.arrays.is_empty() {
                let problem = "it has no gradients, which are all that the page of `html` shows: \
                               leave `html` out";
                return Err(Error::numpy_file(path, problem).into());
            }
            let result = self.report_against(&found);
            let title = path.display().to_string();
            return self.write(&found.arrays, ["yours", "right"], &title, &[]).and(result);
        }
        let devices = self.devices()?;
        let whole = self.html.is_some();
        let options = Options { seed: self.seed, whole };
        let mut reports = Vec::new();
        let (problems, characters) = self.problems()?;
        for problem in problems {
            for (dtype, device) in &devices {
                reports.push(check(&problem, *dtype, device, &options)?);
            }
        }
        let result = self.report(&reports);
        let shown = reports.first().map_or(&[][..], Report::shown);
        self.write(shown, ["autograd", "hand"], &self.origin(), &characters).and(result)
    }

    /// Writes the page of `--html`.
    fn write(
        &self,
        tensors: &[Comparison],
        sides: [&str; 2],
        title: &str,
        characters: &[char],
    ) -> Result<(), Failure> {
        let Some(path) = &self.html else { return Ok(()) };
        let page = gradients_page(tensors, sides, title, characters);
        files::write_new(path, page.as_bytes(), "--html")?;
        say(&format!("Wrote {}", path.display()));
        Ok(())
    }

    /// With `--all` also the cases that the problem may not have: one name, which is what training
    /// takes by default, 200 steps, and sizes that no vector divides.
    fn problems(&self) -> crate::Result<(Vec<Problem>, Vec<char>)> {
        let (problem, characters) = self.problem(self.batch)?;
        let mut problems = vec![problem];
        if !self.all {
            return Ok((problems, characters));
        }
        problems.push(self.problem(1)?.0);
        if self.model.is_none() {
            for (hidden, vocabulary, steps, batch) in [(17, 27, 200, 2), (67, 257, 5, 3)] {
                let sizes = Sizes { hidden, vocabulary, steps, batch };
                problems.push(Problem::random(sizes, self.seed)?);
            }
        }
        Ok((problems, characters))
    }

    /// The number types and devices to check.
    fn devices(&self) -> crate::Result<Vec<(DType, Device)>> {
        if !self.all {
            let dtype = if self.dtype == "f32" { DType::F32 } else { DType::F64 };
            return Ok(vec![(dtype, open_device(&self.device)?)]);
        }
        let mut devices = vec![Device::Cpu];
        devices.extend(crate::device::cuda(0));
        let both = |device: Device| [(DType::F64, device.clone()), (DType::F32, device)];
        Ok(devices.into_iter().flat_map(both).collect())
    }

    /// The problem of so many names, and the characters of a trained model.
    fn problem(&self, batch: usize) -> crate::Result<(Problem, Vec<char>)> {
        let Some(path) = &self.model else {
            let sizes = Sizes {
                hidden: self.hidden.unwrap_or(50),
                vocabulary: self.vocabulary.unwrap_or(27),
                steps: self.steps.unwrap_or(8),
                batch,
            };
            return Ok((Problem::random(sizes, self.seed)?, vec![]));
        };
        let saved = checkpoint::load(path, &Device::Cpu)?;
        let (bytes, origin) = list_bytes(self.names.as_deref())?;
        let listed = parse_listed(&bytes, &origin, &saved.spelling())?;
        let names = listed.iter().map(|listed| saved.vocabulary.encode(&listed.name));
        let mut names = names.collect::<crate::Result<Vec<_>>>()?;
        RngSource::Seed(self.seed).shuffle(&mut names);
        names.truncate(batch);
        let problem = Problem::of_model(&saved.model, &names)?;
        Ok((problem, saved.vocabulary.characters().to_vec()))
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

    fn report(&self, reports: &[Report]) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        if self.json {
            let agree = reports.iter().all(|report| report.agree);
            let answer = json!({ "origin": self.origin(), "agree": agree, "checks": reports });
            writeln!(out, "{}", json_text(&answer))?;
        } else {
            for report in reports {
                let (out, origin) = (&mut out, self.origin());
                match report.agree && reports.len() > 1 {
                    true => table::print_result(out, report, &origin)?,
                    false => table::print_summary(out, report, &origin)?,
                }
            }
        }
        out.flush()?;
        let mut failed = Vec::new();
        for Report { pairs, unrepeatable, dtype, device, .. } in reports {
            for pair in pairs.iter().filter(|pair| !pair.agree) {
                let ([first, second], tensors) = (&pair.methods, pair.disagreeing().join(", "));
                failed.push(format!("{first} and {second} on {tensors} ({dtype} on {device})"));
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

    fn report_against(&self, found: &Against) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", json_text(&json!(found)))?,
            false => table::print_against(&mut out, found)?,
        }
        out.flush()?;
        if found.agree {
            return Ok(());
        }
        let wrong = found.arrays.iter().filter(|array| !array.agree).map(|array| array.tensor);
        let wrong = wrong.chain(found.letter.as_ref().map(|_| "indices"));
        Err(Failure::Check(format!("wrong: {}", wrong.collect::<Vec<_>>().join(", "))))
    }
}
