//! `char-rnn sample`: names out of a saved model.

use super::{DeviceName, Failure, shown, whole_number};
use char_rnn::checkpoint;
use char_rnn::model::CharRnn;
use char_rnn::random::Randomness;
use char_rnn::sample::{MAX_LENGTH, Names};
use char_rnn::vocab::Vocabulary;
use clap::Args;
use std::io::{BufWriter, Write, stderr, stdout};
use std::path::PathBuf;

/// Make names with a saved model
///
/// Prints names, one a line. The same model and seed give the same names on every run, and asking
/// for fewer gives the first of them. A name may be one of the list that was learned, or come
/// twice.
#[derive(Args)]
#[command(after_help = "\
Examples:
  char-rnn sample dinos.safetensors -n 20
  char-rnn sample dinos.safetensors -n 20 --seed 1        the same names each time
  char-rnn sample dinos.safetensors -n 1000 | sort -u     each name once")]
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
}

impl Sample {
    pub fn run(self) -> Result<(), Failure> {
        let saved = checkpoint::load(&self.model, &self.device.open()?)?;
        let randomness = Randomness::Seed(self.seed.unwrap_or_else(rand::random));
        let mut out = BufWriter::new(stdout().lock());
        let found = pick(&saved.model, &saved.vocabulary, randomness, self.count, |name| {
            writeln!(out, "{}", shown(name, saved.record.case))?;
            Ok(true)
        })?;
        out.flush()?;
        if found < self.count {
            let _ = writeln!(
                stderr(),
                "char-rnn: only {found} names came out: the model ends nearly every name before its first letter"
            );
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
    mut take: impl FnMut(&str) -> Result<bool, Failure>,
) -> Result<u64, Failure> {
    let most = wanted.saturating_mul(100).saturating_add(10_000);
    let (mut taken, mut made) = (0, 0);
    while taken < wanted && made < most {
        // As many as are missing; after the first round, enough that there are not many rounds.
        let round = (wanted - taken).max(if made == 0 { 1 } else { 64 });
        let end = most.min(made.saturating_add(round));
        for sampled in Names::new(model, randomness, MAX_LENGTH, made..end)? {
            let name = vocabulary.decode(&sampled?.indices);
            let name = name.trim();
            if !name.is_empty() && take(name)? {
                taken += 1;
            }
            if taken == wanted {
                return Ok(taken);
            }
        }
        made = end;
    }
    Ok(taken)
}
