//! `char-rnn gradcheck`: gradients side by side.

use super::{DeviceName, Failure, List, Precision};
use anstyle::{AnsiColor, Style};
use candle_core::{DType, Device};
use char_rnn::checkpoint;
use char_rnn::gradcheck::{
    Case, Checked, DIFFERENCES, Options, Pair, Report, Sizes, StepSizes, TENSORS, check, step_sizes,
};
use char_rnn::plot::{Format, Picture};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Compare the gradients of every way back with each other and with central differences
///
/// Finds the gradients of the five parameters and of the initial state by candle's primitive ops
/// (unrolled), by its autograd over the fused ops (autograd), by hand (hand) and by central
/// differences of the loss (differences), and compares each with each. The exit status is 1 where
/// two of them are further apart than their bound allows: a relative error
/// ||g1 - g2|| / (||g1|| + ||g2||) of 1e-12 in f64 and 1e-5 in f32, or, against differences, 1e-7
/// in f64 and 1e-5 in f32. Differences are always of the loss in f64.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn gradcheck                                 random parameters, in f64
  char-rnn gradcheck --all --hidden 100              every number type and device there is
  char-rnn gradcheck --model dinos.safetensors       a trained model, on names of the built-in list
  char-rnn gradcheck --plot check.svg --pair hand,differences
  char-rnn gradcheck --step-sizes --plot steps.png   how the error of differences depends on h")]
pub struct Gradcheck {
    /// Hidden units of the random network [default: 50]
    #[arg(long, value_name = "N", conflicts_with = "model")]
    hidden: Option<usize>,

    /// Steps of the longest random name, its end included; the others are shorter [default: 8]
    #[arg(long, value_name = "N", conflicts_with = "model")]
    steps: Option<usize>,

    /// Characters of the random network, the end of a name included [default: 27]
    #[arg(long, value_name = "N", conflicts_with = "model")]
    vocabulary: Option<usize>,

    /// Names side by side
    #[arg(long, value_name = "N", default_value_t = 4)]
    batch: usize,

    /// Chooses the random parameters and names, or which names of the list, and the entries of
    /// which differences are taken
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// The number type: single or double precision
    #[arg(long, value_name = "TYPE", default_value = "f64")]
    dtype: Precision,

    /// Where to do the arithmetic: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,

    /// Check every number type on every device that this build and machine offer
    #[arg(long, conflicts_with_all = ["dtype", "device"])]
    all: bool,

    /// Check a model that `char-rnn train` saved, on names of the list, from the zero state
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    #[command(flatten)]
    list: ModelList,

    /// The most entries of each tensor of which differences are taken, chosen at random where it
    /// has more [default: 500, fewer for a large network]
    #[arg(long, value_name = "N")]
    entries: Option<usize>,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,

    /// Draw, for each tensor, the gradient and beside it how far two ways are apart
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    plot: Option<PathBuf>,

    /// The two ways to draw [default: those that are furthest apart for their bound]
    #[arg(
        long,
        value_name = "WAY,WAY",
        value_delimiter = ',',
        requires = "plot",
        conflicts_with = "step_sizes"
    )]
    pair: Vec<Way>,

    /// Instead: show how the error of central differences depends on their step
    #[arg(long, conflicts_with_all = ["all", "dtype", "device"])]
    step_sizes: bool,
}

/// The list of names of a model.
#[derive(Args)]
struct ModelList {
    /// With --model, the list: UTF-8 text with one name a line [default: the built-in dinosaurs]
    #[arg(value_name = "NAMES", requires = "model")]
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// Candle's primitive ops
    Unrolled,
    /// Candle's autograd over fused ops
    Autograd,
    /// Backpropagation through time derived by hand
    Hand,
    /// Central differences
    Differences,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Unrolled => "unrolled",
            Self::Autograd => "autograd",
            Self::Hand => "hand",
            Self::Differences => DIFFERENCES,
        }
    }
}

impl Gradcheck {
    pub fn run(self) -> Result<(), Failure> {
        // What can be refused is refused before the work.
        self.plot()?;
        if self.entries == Some(0) {
            return Err(setting("--entries", "0", "differences of one entry, at least, are taken"));
        }
        let pair = self.chosen_pair()?;
        let kinds = self.kinds()?;
        let case = self.case()?;
        let options = Options { entries: self.entries, seed: self.seed };
        if self.step_sizes {
            return self.show_step_sizes(&step_sizes(&case, &options)?);
        }
        let mut checks = Vec::new();
        for (dtype, device) in &kinds {
            checks.push(check(&case, *dtype, device, &options)?);
        }
        if let Some((path, format)) = self.plot()? {
            picture(&checks, pair)?.save(path, format)?;
        }
        self.show(&checks)
    }

    fn plot(&self) -> char_rnn::Result<Option<(&Path, Format)>> {
        let Some(path) = &self.plot else { return Ok(None) };
        Ok(Some((path, Format::of(path, "--plot")?)))
    }

    fn chosen_pair(&self) -> Result<Option<[&'static str; 2]>, Failure> {
        match self.pair.iter().map(|way| way.name()).collect::<Vec<_>>()[..] {
            [] => Ok(None),
            [first, second] if first != second => Ok(Some([first, second])),
            ref ways => {
                Err(setting("--pair", &ways.join(","), "it takes two ways, as in hand,autograd"))
            }
        }
    }

    /// The number types and devices to check.
    fn kinds(&self) -> char_rnn::Result<Vec<(DType, Device)>> {
        if !self.all {
            return Ok(vec![(self.dtype.dtype(), self.device.open()?)]);
        }
        let mut devices = vec![Device::Cpu];
        devices.extend(DeviceName::Cuda(0).open());
        let both = |device: Device| [(DType::F64, device.clone()), (DType::F32, device)];
        Ok(devices.into_iter().flat_map(both).collect())
    }

    fn case(&self) -> char_rnn::Result<Case> {
        let Some(path) = &self.model else {
            let sizes = Sizes {
                hidden: self.hidden.unwrap_or(50),
                vocabulary: self.vocabulary.unwrap_or(27),
                steps: self.steps.unwrap_or(8),
                names: self.batch,
            };
            return Case::random(sizes, self.seed);
        };
        let saved = checkpoint::load(path, &Device::Cpu)?;
        let list = List {
            path: self.list.path.clone(),
            keep_case: saved.record.case == char_rnn::corpus::Case::Keep,
        };
        Case::trained(&saved, &list.read()?, self.batch, self.seed)
    }

    /// Where the parameters come from, in words.
    fn origin(&self) -> String {
        match &self.model {
            Some(path) => format!("{}, names chosen by seed {}", path.display(), self.seed),
            None => format!("random parameters of seed {}", self.seed),
        }
    }

    fn show(&self, checks: &[Checked]) -> Result<(), Failure> {
        let reports: Vec<&Report> = checks.iter().map(|checked| &checked.report).collect();
        let agree = reports.iter().all(|report| report.agree);
        let mut out = anstream::stdout().lock();
        if self.json {
            let answer = json!({ "origin": self.origin(), "agree": agree, "checks": reports });
            writeln!(out, "{answer:#}")?;
        } else {
            for report in &reports {
                print_report(&mut out, report, &self.origin())?;
            }
        }
        out.flush()?;
        let apart: Vec<String> = reports
            .iter()
            .flat_map(|report| report.pairs.iter().map(move |pair| (report, pair)))
            .filter(|(_, pair)| !pair.agree)
            .map(|(report, pair)| {
                let [first, second] = &pair.ways;
                let tensors = pair.disagreeing().join(", ");
                format!("{first} and {second} on {tensors} ({} on {})", report.dtype, report.device)
            })
            .collect();
        if apart.is_empty() {
            return Ok(());
        }
        Err(Failure::Check(format!("the gradients disagree: {}", apart.join("; "))))
    }

    fn show_step_sizes(&self, found: &StepSizes) -> Result<(), Failure> {
        if let Some((path, format)) = self.plot()? {
            found.picture().save(path, format)?;
        }
        let mut out = anstream::stdout().lock();
        if self.json {
            writeln!(out, "{:#}", json!({ "origin": self.origin(), "step_sizes": found }))?;
        } else {
            print_step_sizes(&mut out, found, &self.origin())?;
        }
        out.flush()?;
        match found.agree {
            true => Ok(()),
            false => Err(Failure::Check(
                "no step brings central differences within their bound of the gradient by hand"
                    .to_string(),
            )),
        }
    }
}

fn setting(name: &'static str, value: &str, rule: &str) -> Failure {
    let (value, rule) = (value.to_string(), rule.to_string());
    char_rnn::Error::Setting { name, value, rule }.into()
}

fn picture(checks: &[Checked], pair: Option<[&str; 2]>) -> Result<Picture, Failure> {
    // Of several checks the first that fails; else the first.
    let checked = checks.iter().find(|checked| !checked.report.agree).unwrap_or(&checks[0]);
    let pair = match pair {
        None => checked.widest(),
        Some(ways) => checked.pair(ways).ok_or_else(|| {
            let rule = format!("not both ways run on {}", checked.report.device);
            setting("--pair", &ways.join(","), &rule)
        })?,
    };
    Ok(checked.picture(pair))
}

const HEADING: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

fn print_sizes(out: &mut impl Write, sizes: &Sizes) -> io::Result<()> {
    let plural = |count: usize, one: &str| {
        if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
    };
    writeln!(
        out,
        "{}, {}, {} of up to {}",
        plural(sizes.hidden, "hidden unit"),
        plural(sizes.vocabulary, "character"),
        plural(sizes.names, "name"),
        plural(sizes.steps, "step"),
    )
}

fn print_report(out: &mut impl Write, report: &Report, origin: &str) -> io::Result<()> {
    writeln!(out, "{HEADING}{} on {}{HEADING:#}: {origin}", report.dtype, report.device)?;
    print_sizes(out, &report.sizes)?;
    writeln!(out, "differences: (L(w + h) - L(w - h)) / 2h in f64 with h = {:e}", report.step)?;
    for pair in &report.pairs {
        print_pair(out, pair)?;
    }
    let comparisons = report.pairs.iter().flat_map(|pair| &pair.tensors);
    let (all, failed) =
        (comparisons.clone().count(), comparisons.filter(|tensor| !tensor.agree).count());
    match failed {
        0 => writeln!(out, "\n{GOOD}All {all} comparisons are within their bounds.{GOOD:#}\n"),
        _ => writeln!(out, "\n{BAD}{failed} of {all} comparisons are out of bounds.{BAD:#}\n"),
    }
}

fn print_pair(out: &mut impl Write, pair: &Pair) -> io::Result<()> {
    let [first, second] = &pair.ways;
    writeln!(
        out,
        "\n{HEADING}{first} and {second}{HEADING:#}, relative error at most {:e}",
        pair.bound
    )?;
    writeln!(
        out,
        "{FAINT}  {:<6} {:>9} {:>15}  {:>10}  {:>12}  {:>14}  {:>11}{FAINT:#}",
        "tensor", "shape", "compared", "rel. error", "largest diff", "at", "cosine"
    )?;
    for tensor in &pair.tensors {
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let at = format!("{:?}", tensor.at);
        let entries: usize = tensor.shape.iter().product();
        let compared = match tensor.compared {
            all if all == entries => "all".to_string(),
            some => format!("{some} of {entries}"),
        };
        let at = if tensor.largest_difference == 0. { String::new() } else { at };
        let (style, verdict) = if tensor.agree { (GOOD, "ok") } else { (BAD, "OUT OF BOUNDS") };
        writeln!(
            out,
            "  {:<6} {:>9} {compared:>15}  {:>10}  {:>12}  {:>14}  {:>11.8}  {style}{verdict}{style:#}",
            tensor.tensor,
            shape.join(" x "),
            short(tensor.relative_error),
            short(tensor.largest_difference),
            at,
            tensor.cosine,
        )?;
    }
    Ok(())
}

fn short(error: f64) -> String {
    if error == 0. { "0".to_string() } else { format!("{error:.1e}") }
}

fn print_step_sizes(out: &mut impl Write, found: &StepSizes, origin: &str) -> io::Result<()> {
    writeln!(out, "{HEADING}Central differences by their step h{HEADING:#}: {origin}")?;
    print_sizes(out, &found.sizes)?;
    writeln!(
        out,
        "relative error beside the gradient by hand, f64; the smallest of each is marked"
    )?;
    write!(out, "\n{FAINT}  {:<8}", "h")?;
    for (tensor, entries) in TENSORS.iter().zip(found.entries) {
        write!(out, " {:>11}", format!("{tensor} ({entries})"))?;
    }
    writeln!(out, "{FAINT:#}")?;
    for row in &found.steps {
        write!(out, "  {:<8}", format!("{:.1e}", row.step))?;
        for (error, best) in row.relative_errors.iter().zip(found.best) {
            let error = short(*error);
            match best == row.step {
                true => write!(out, " {GOOD}{:>11}{GOOD:#}", format!("> {error}"))?,
                false => write!(out, " {error:>11}")?,
            }
        }
        writeln!(out)?;
    }
    let (style, verdict) = if found.agree { (GOOD, "within") } else { (BAD, "not all within") };
    writeln!(
        out,
        "\n{style}At its best step each tensor's error is {verdict} the bound of {:e}.{style:#}",
        found.bound
    )
}
