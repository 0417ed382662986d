//! A reader's `sample`: the indices that it returned, letter by letter.

use super::arrays::Cause;
use super::choices::{Choices, DEPARTURES, Departure, choices, one_hot, times};
use super::file::Reader;
use super::pass::{logits, state};
use crate::error::Result;
use crate::gradcheck::problem::Sizes;
use crate::gradcheck::rounding::LINEAR;
use crate::random::NumpyRandom;
use crate::reference::{Matrix, Parameters};
use serde::Serialize;

/// The index of the newline, which ends a name.
const NEWLINE: usize = 0;

/// The first letter that is not the notebook's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Letter {
    /// Its position, from 0.
    pub at: usize,
    /// The index in the file; `None` if the list has ended.
    pub given: Option<usize>,
    /// The notebook's; `None` if its list has ended.
    pub right: Option<usize>,
    /// The notebook's probabilities of this letter; none after its end.
    pub probabilities: Vec<f64>,
    /// Those with the mistake that explains the list, if there is one.
    pub explained: Option<Vec<f64>>,
}

/// The choices of the forward pass that `sample` makes too.
const SHARED: [&str; 5] = ["b", "by", "forward_waa", "activation", "softmax"];

choices! {
    /// What a reader of `sample` decides.
    Sampling, MISTAKES:
    forward: Choices = Choices::default() => {}
    is_carried: bool = true => { "a_prev is not updated: each letter starts from zeros": false; }
    /// x at the first letter; of n_x.
    first: fn(usize) -> Vec<f64> = |n| vec![0.; n] => {
        "x is the newline at the first letter, not zeros": |n| one_hot(Some(NEWLINE), n);
    }
    /// x after the index that was drawn; of x, the index and the probabilities.
    next: fn(&[f64], usize, &[f64]) -> Vec<f64> = |x, index, _| one_hot(Some(index), x.len()) => {
        "x is not updated: it stays zero": |x, _, _| x.to_vec();
        "x is not reset to zeros: it has a one for each letter so far":
            |x, index, _| x.iter().enumerate().map(|(i, &x)| if i == index { 1. } else { x }).collect();
        "x is not one-hot: its entry is the index, not 1":
            |x, index, _| times(&one_hot(Some(index), x.len()), index as f64);
        "x is not one-hot: all of it is 1": |x, _, _| vec![1.; x.len()];
        "x is not one-hot: it holds the probabilities": |_, _, p| p.to_vec();
        "x is the most likely letter, not the one that was drawn":
            |x, _, p| one_hot(Some(most_likely(p)), x.len());
    }
    /// What the generator is seeded with; of the first seed and the number of letters before.
    seed: fn(u32, u32) -> Option<u32> =
        |seed, letter| Some(seed.wrapping_add(letter.wrapping_mul(2))) => {
        "the seed grows by 1 a letter, not by 2: seed += 1 or counter is missing":
            |seed, letter| Some(seed.wrapping_add(letter));
        "the seed is not increased: each letter has the same number": |seed, _| Some(seed);
        "the seed is the counter alone": |_, letter| Some(letter);
        "np.random.seed is called once, not for each letter":
            |seed, letter| (letter == 0).then_some(seed);
    }
    pick: fn(&[f64], &mut NumpyRandom) -> usize =
        |p, random| choice(p, random.random_sample()) => {
        "the most likely letter is taken (argmax), none is drawn": |p, _| most_likely(p);
        "np.random.choice has no p: each letter is equally likely":
            |p, random| random.at_most(p.len() as u32 - 1) as usize;
    }
    stops: bool = true => { "it does not stop at the newline": false; }
    most: usize = 50 => {
        "it does not stop at 50 letters": usize::MAX;
        "it stops at 49 letters, not at 50": 49;
        "it stops at 51 letters, not at 50": 51;
    }
    /// Ends the list. The argument is whether it has the most letters.
    end: fn(&mut Vec<usize>, bool) = |list, is_full| list.extend(is_full.then_some(NEWLINE)) => {
        "the newline is not appended after 50 letters": |_, _| {};
        "a newline is always appended, after that of the name too": |list, _| list.push(NEWLINE);
        "the newline that ends the name is missing in the list":
            |list, is_full| match list.pop_if(|last| *last == NEWLINE) {
                None if is_full => list.push(NEWLINE),
                _ => {}
            };
    }
}

/// `np.random.choice`: the first index whose cumulative probability exceeds `u`.
fn choice(p: &[f64], u: f64) -> usize {
    let total: f64 = p.iter().sum();
    let mut sum = 0.;
    let exceeds = |&p: &f64| {
        sum += p;
        sum / total > u
    };
    p.iter().position(exceeds).unwrap_or(p.len() - 1)
}

fn most_likely(p: &[f64]) -> usize {
    (0..p.len()).fold(0, |best, i| if p[i] > p[best] { i } else { best })
}

impl Sampling {
    /// The list of at most `longest` letters, and the probabilities of each.
    fn run(&self, p: &Parameters<f64>, seed: u32, longest: usize) -> (Vec<usize>, Matrix<f64>) {
        let (zero, mut x) = (vec![0.; p.b.len()], (self.first)(p.by.len()));
        let mut a = zero.clone();
        let (mut indices, mut all) = (vec![], vec![]);
        let mut random = NumpyRandom::new(seed);
        while indices.len() < self.most.min(longest) {
            let state = state(p, &self.forward, &x, &a);
            let y_hat = (self.forward.softmax)(&logits(p, &self.forward, &state));
            let y_hat = times(&y_hat, 1. / y_hat.iter().sum::<f64>());
            if let Some(seed) = (self.seed)(seed, indices.len() as u32) {
                random = NumpyRandom::new(seed);
            }
            let index = (self.pick)(&y_hat, &mut random);
            indices.push(index);
            x = (self.next)(&x, index, &y_hat);
            a = if self.is_carried { state } else { zero.clone() };
            all.push(y_hat);
            if index == NEWLINE && self.stops {
                break;
            }
        }
        let is_full = indices.len() == self.most;
        (self.end)(&mut indices, is_full);
        (indices, all)
    }
}

/// A run, and where rounding comes in.
struct Run {
    indices: Vec<usize>,
    probabilities: Matrix<f64>,
    /// How far rounding may change the probabilities of a letter.
    errors: Vec<f64>,
    /// The first letter that rounding decides, as in a chaotic network.
    compared: usize,
}

/// Compares `indices` with the notebook's `sample`. Returns the first letter that differs and its
/// causes. A letter that rounding decides is not compared, nor are those after it.
pub(super) fn check(file: &mut Reader) -> Result<(Option<Letter>, Vec<Vec<Cause>>)> {
    let problem = file.sample_problem()?;
    let n_x = problem.sizes().vocabulary;
    let given = file.indices("indices", 0., n_x, Sizes::MAX_STEPS)?;
    let given: Vec<usize> = given.into_iter().flatten().collect();
    let seed = file.number("seed")?;
    if seed.fract() != 0. || !(0. ..=f64::from(u32::MAX)).contains(&seed) {
        return Err(file.error(format!("seed is {seed}, not an integer from 0 to 2^32 - 1")));
    }
    let seed = seed as u32;
    // Farther than rounding, so that what agrees here does not depend on it.
    let unit = if file.is_single("Wax") { 2f64.powi(-22) } else { 2f64.powi(-44) };
    let beside = problem.map(|w| w * (1. + unit));
    let run = |sampling: &Sampling| {
        let [(indices, probabilities), (_, near)] =
            [&problem, &beside].map(|of| sampling.run(&of.parameters, seed, given.len() + 1));
        let distance = |(p, q): (&Vec<f64>, &Vec<f64>)| {
            p.iter().zip(q).map(|(p, q)| (p - q).abs()).sum::<f64>()
        };
        let errors: Vec<f64> = probabilities.iter().zip(&near).map(distance).collect();
        let compared = errors.iter().position(|e| e.is_nan() || *e > LINEAR).unwrap_or(usize::MAX);
        Run { indices, probabilities, errors, compared }
    };
    let right = run(&Sampling::default());
    let differs = |at: &usize| right.indices.get(*at) != given.get(*at);
    let Some(at) = (0..given.len() + 1).find(differs).filter(|at| *at < right.compared) else {
        return Ok((None, vec![]));
    };
    if let Some(p) = right.probabilities.get(at) {
        let seed = (Sampling::default().seed)(seed, at as u32).expect("the notebook's");
        let u = NumpyRandom::new(seed).random_sample();
        let error = 16. * right.errors[at];
        // The letter depends on rounding.
        if choice(p, u - error) != choice(p, u + error) {
            return Ok((None, vec![]));
        }
    }
    let own = MISTAKES.iter().map(|Departure { what, change, .. }| {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        (what, sampling)
    });
    let shared = DEPARTURES.iter().filter(|departure| SHARED.contains(&departure.subject));
    let shared = shared.map(|Departure { what, change, .. }| {
        let mut sampling = Sampling::default();
        change(&mut sampling.forward);
        (what, sampling)
    });
    let (mut explanations, mut explained) = (vec![], None);
    for (what, sampling) in own.chain(shared) {
        let found = run(&sampling);
        let compared = |list: &[usize]| list[..list.len().min(found.compared)].to_vec();
        if at < found.compared && compared(&found.indices) == compared(&given) {
            let cause = Cause { arrays: vec!["indices"], what: what.to_string() };
            explanations.push(vec![cause]);
            explained = explained.or(found.probabilities.get(at).cloned());
        }
    }
    let probabilities = right.probabilities.get(at).cloned().unwrap_or_default();
    let (given, right) = (given.get(at).copied(), right.indices.get(at).copied());
    Ok((Some(Letter { at, given, right, probabilities, explained }), explanations))
}
