//! The notebook's `model()` in plain loops, without candle: the page to read first.
//!
//! ```sh
//! cargo run --release --example notebook -- dinos.txt
//! ```
//!
//! Each function of `char_rnn::reference` has the name and the steps of one of the notebook's. The
//! log is the notebook's, and that of `char-rnn train --notebook`, letter for letter.

use char_rnn::data::{Corpus, LetterCase};
use char_rnn::random::NumpyRandom;
use char_rnn::reference::{Parameters, optimize, sample};
use std::io::{self, Write};

const N_A: usize = 50;

/// Trains on the names of `corpus` and writes the log to `out`.
fn model(corpus: &Corpus, iterations: u64, out: &mut impl Write) -> io::Result<()> {
    let (vocabulary, newline) = (corpus.vocabulary(), 0);
    let n_x = vocabulary.size();

    // initialize_parameters
    let mut random = NumpyRandom::new(1);
    let mut parameters = Parameters::zeros(N_A, n_x);
    let Parameters { wax, waa, wya, .. } = &mut parameters;
    for w in wax.iter_mut().chain(waa).chain(wya).flatten() {
        *w = random.randn() * 0.01;
    }
    let mut examples = corpus.encoded();
    NumpyRandom::new(0).shuffle(&mut examples);

    let mut loss = (n_x as f64).ln() * 7.; // get_initial_loss(vocab_size, dino_names)
    let mut a_prev = vec![0.; N_A];
    for j in 0..iterations {
        let name = examples[j as usize % examples.len()].iter().map(|&index| index as usize);
        let x: Vec<Option<usize>> = [None].into_iter().chain(name.clone().map(Some)).collect();
        let y: Vec<usize> = name.chain([newline]).collect();
        let (curr_loss, _gradients, a_last) = optimize(&x, &y, &a_prev, &mut parameters, 0.01);
        a_prev = a_last;
        loss = loss * 0.999 + curr_loss * 0.001; // smooth

        if j % 2000 == 0 {
            writeln!(out, "Iteration: {j}, Loss: {loss:.6}\n")?;
            for seed in 0..7 {
                // Each character is drawn after np.random.seed(counter + seed), and both count on.
                let mut counter = 0;
                let indices = sample(&parameters, newline, || {
                    let uniform = NumpyRandom::new(seed + 2 * counter).random_sample();
                    counter += 1;
                    uniform
                });
                let name: Vec<u32> = indices.iter().map(|&index| index as u32).collect();
                let name = vocabulary.decode(&name);
                let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
                writeln!(out, "{}{rest}", first.to_uppercase())?;
            }
            writeln!(out, "\n")?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let corpus = match std::env::args().nth(1) {
        Some(path) => Corpus::read(path.as_ref(), LetterCase::Lower)?,
        None => Corpus::dinos(),
    };
    Ok(model(&corpus, 35_000, &mut io::stdout().lock())?)
}

/// NumPy's log, of `scripts/notebook.py`.
#[cfg(test)]
#[test]
fn the_log_is_the_notebooks() {
    let mut log = Vec::new();
    model(&Corpus::dinos(), 4001, &mut log).unwrap();
    let expected = include_str!("../tests/fixtures/notebook_dinos.log");
    assert!(expected.starts_with(std::str::from_utf8(&log).unwrap()) && log.len() > 300);
}
