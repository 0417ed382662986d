//! `char-rnn sample`: names out of a saved model.

use super::{DeviceName, Failure, read_in, real_number, shown, whole_number};
use char_rnn::checkpoint::{self, Saved};
use char_rnn::eval::evaluate;
use char_rnn::known::KnownNames;
use char_rnn::model::CharRnn;
use char_rnn::random::Randomness;
use char_rnn::sample::{MAX_LENGTH, Names, Options};
use char_rnn::vocab::Vocabulary;
use clap::Args;
use serde::Serialize;
use std::collections::HashSet;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write, stderr, stdout};
use std::path::PathBuf;

/// Make names with a saved model
///
/// Prints names, one a line. The same model and seed give the same names on every run, and asking
/// for fewer gives the first of them. A name may be one of the list that was learned, or come
/// twice, unless --new and --unique say otherwise.
///
/// Names that nearly never come (a prefix that hardly fits, new names of a model that repeats its
/// list) are not waited for: it ends after 10,000 names, and 100 more for each that was wanted.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn sample dinos.safetensors -n 20
  char-rnn sample dinos.safetensors -n 20 --seed 1        the same names each time
  char-rnn sample dinos.safetensors --prefix Tyra --new   not in the list, beginning with Tyra
  char-rnn sample dinos.safetensors --temperature 0.5     surer, and less various
  char-rnn sample dinos.safetensors -n 100 --unique --sort --with-probability")]
pub struct Sample {
    /// The model: a file that `char-rnn train` saved
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// How many names to make
    #[arg(short = 'n', long = "count", value_name = "N", default_value = "10")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    count: u64,

    /// Makes the names repeatable: one seed, one sequence [default: another seed each time]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    seed: Option<u64>,

    /// Where to do the arithmetic: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,

    #[command(flatten)]
    choice: Choice,

    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
#[command(next_help_heading = "Which names")]
struct Choice {
    /// What each name begins with, as "Tyra"
    ///
    /// Treated as the list was that the model learned: lower-cased, unless with --keep-case.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    /// Below 1 likely characters become likelier, above 1 all are evened out
    #[arg(long, value_name = "X", default_value = "1")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    temperature: f64,

    /// Choose each character among the N likeliest alone
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    top_k: Option<usize>,

    /// Choose each among the likeliest alone, as few as have the probability P together
    #[arg(long, value_name = "P")]
    #[arg(value_parser = real_number, allow_negative_numbers = true)]
    top_p: Option<f64>,

    /// The shortest name, in characters: its end is not chosen before
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    min_length: usize,

    /// The longest name, in characters: it is cut off there
    #[arg(long, value_name = "N", default_value_t = MAX_LENGTH)]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    max_length: usize,

    /// Only names that are not in the list that the model learned
    ///
    /// The model file keeps a fingerprint of each name, so that none of the list is ever called
    /// new; of names that are new, about one in 2^32 is withheld for each name of the list.
    #[arg(long)]
    new: bool,

    /// Each name once; all are kept in memory
    #[arg(long)]
    unique: bool,
}

#[derive(Args)]
#[command(next_help_heading = "How they are printed")]
struct Output {
    /// Add the logarithm of each name's probability, in nats, after a tab
    ///
    /// It is the probability that the model itself gives to the name as it is printed, and to its
    /// end: temperature, --top-k and the like do not count.
    #[arg(long)]
    with_probability: bool,

    /// Print the likeliest names first; all are made, and kept in memory, before the first is shown
    #[arg(long)]
    sort: bool,

    /// Print each name as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
}

impl Sample {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &self.device.open()?)?;
        let options = self.options(&saved)?;
        let known = match (self.choice.new, &saved.known) {
            (true, None) => {
                return Err(char_rnn::Error::ModelFile {
                    path: self.model,
                    problem: "the file does not say which names it has learned, so that --new cannot tell; \
                              train it again with this version of char-rnn"
                        .to_string(),
                }
                .into());
            }
            (true, Some(known)) => Some(known),
            (false, _) => None,
        };
        let randomness = Randomness::Seed(self.seed.unwrap_or_else(rand::random));
        let mut wanted = Wanted { known, seen: self.choice.unique.then(HashSet::new) };
        let mut printer = Printer::new(&saved, &self.output);
        let (found, tries) =
            pick_by(&saved.model, &saved.vocabulary, randomness, &options, self.count, |name| {
                let wanted = wanted.takes(name);
                if wanted {
                    printer.take(name)?;
                }
                Ok(wanted)
            })?;
        printer.finish()?;
        if found < self.count {
            let mut others = vec!["empty"];
            others.extend(wanted.known.map(|_| "in the list (--new)"));
            others.extend(wanted.seen.map(|_| "printed already (--unique)"));
            let _ = writeln!(
                stderr(),
                "char-rnn: only {found} of {} names came out of {tries} tries: the others were {}",
                self.count,
                others.join(" or ")
            );
        }
        Ok(())
    }

    fn options(&self, saved: &Saved) -> char_rnn::Result<Options> {
        let choice = &self.choice;
        let prefix = choice.prefix.as_deref().map(|text| read_in(saved, "--prefix", text));
        let options = Options {
            temperature: choice.temperature,
            top_k: choice.top_k,
            top_p: choice.top_p,
            prefix: prefix.transpose()?.unwrap_or_default(),
            min_length: choice.min_length,
            max_length: choice.max_length,
        };
        options.check()?;
        Ok(options)
    }
}

/// Which of the names that the model makes are printed.
struct Wanted<'a> {
    known: Option<&'a KnownNames>,
    seen: Option<HashSet<String>>,
}

impl Wanted<'_> {
    fn takes(&mut self, name: &str) -> bool {
        self.known.is_none_or(|known| !known.contains(name))
            && self.seen.as_mut().is_none_or(|seen| seen.insert(name.to_string()))
    }
}

/// How many names are scored at a time.
const SCORED: usize = 256;

struct Printer<'a> {
    saved: &'a Saved,
    how: &'a Output,
    out: BufWriter<StdoutLock<'static>>,
    /// Whether somebody watches each line, and whether none has been printed yet.
    terminal: bool,
    first: bool,
    /// Names that have not been scored, and how many are scored together next: at first one, so
    /// that nobody waits for it, then twice as many each time.
    unscored: Vec<String>,
    batch: usize,
    /// Names that have been scored and wait to be sorted.
    scored: Vec<(String, f64)>,
}

/// A name as JSON.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_probability: Option<f64>,
}

impl<'a> Printer<'a> {
    fn new(saved: &'a Saved, how: &'a Output) -> Self {
        Self {
            saved,
            how,
            out: BufWriter::new(stdout().lock()),
            terminal: stdout().is_terminal(),
            first: true,
            unscored: Vec::new(),
            batch: if how.sort { SCORED } else { 1 },
            scored: Vec::new(),
        }
    }

    fn take(&mut self, name: &str) -> Result<(), Failure> {
        if !self.how.with_probability && !self.how.sort {
            return Ok(self.print(name, None)?);
        }
        self.unscored.push(name.to_string());
        if self.unscored.len() >= self.batch {
            self.score()?;
            self.batch = SCORED.min(2 * self.batch);
        }
        Ok(())
    }

    fn score(&mut self) -> Result<(), Failure> {
        let names = std::mem::take(&mut self.unscored);
        let encoded: char_rnn::Result<Vec<Vec<u32>>> =
            names.iter().map(|name| self.saved.vocabulary.encode(name)).collect();
        let losses = evaluate(&self.saved.model, &encoded?)?.losses;
        for (name, loss) in names.into_iter().zip(losses) {
            match self.how.sort {
                true => self.scored.push((name, -loss)),
                false => self.print(&name, Some(-loss))?,
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.score()?;
        let mut scored = std::mem::take(&mut self.scored);
        scored.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        for (name, log_probability) in scored {
            self.print(&name, Some(log_probability))?;
        }
        Ok(self.out.flush()?)
    }

    fn print(&mut self, name: &str, log_probability: Option<f64>) -> io::Result<()> {
        let name = shown(name, self.saved.record.case);
        let log_probability = log_probability.filter(|_| self.how.with_probability);
        match log_probability {
            _ if self.how.json => {
                serde_json::to_writer(&mut self.out, &Line { name: &name, log_probability })?;
                writeln!(self.out)?;
            }
            Some(log_probability) => writeln!(self.out, "{name}\t{log_probability:.4}")?,
            None => writeln!(self.out, "{name}")?,
        }
        if self.first || self.terminal {
            self.first = false;
            self.out.flush()?;
        }
        Ok(())
    }
}

/// Makes names until `take` has taken `wanted` of them, and returns how many it took: fewer only
/// where it takes hardly any. White space around a name is cut off, as it is in the lists that
/// models learn, and names of nothing else are passed over.
pub(super) fn pick(
    model: &CharRnn,
    vocabulary: &Vocabulary,
    randomness: Randomness,
    wanted: u64,
    take: impl FnMut(&str) -> Result<bool, Failure>,
) -> Result<u64, Failure> {
    Ok(pick_by(model, vocabulary, randomness, &Options::default(), wanted, take)?.0)
}

/// The same by `options`; returns how many names were taken, and out of how many.
fn pick_by(
    model: &CharRnn,
    vocabulary: &Vocabulary,
    randomness: Randomness,
    options: &Options,
    wanted: u64,
    mut take: impl FnMut(&str) -> Result<bool, Failure>,
) -> Result<(u64, u64), Failure> {
    let most = wanted.saturating_mul(100).saturating_add(10_000);
    let (mut taken, mut made) = (0, 0);
    while taken < wanted && made < most {
        // As many as are missing; after the first round, enough that there are not many rounds.
        let round = (wanted - taken).max(if made == 0 { 1 } else { 256 });
        let end = most.min(made.saturating_add(round));
        for sampled in Names::with_options(model, randomness, options.clone(), made..end)? {
            let name = vocabulary.decode(&sampled?.indices);
            let name = name.trim();
            // Without its white space a name may have become too short.
            let long_enough = options.min_length <= 1 || name.chars().count() >= options.min_length;
            if !name.is_empty() && long_enough && take(name)? {
                taken += 1;
            }
            if taken == wanted {
                return Ok((taken, made));
            }
        }
        made = end;
    }
    Ok((taken, made))
}
