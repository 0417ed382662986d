//! A reader's `sample`: the indices that it returned, letter by letter.

use super::arrays::Cause;
use super::choices::{Choices, DEPARTURES, Departure, one_hot, times};
use super::file::Reader;
use super::pass::Pass;
use crate::error::Result;
use crate::gradcheck::problem::Sizes;
use crate::gradcheck::rounding::LINEAR;
use crate::random::NumpyRandom;
use crate::reference::Matrix;
use serde::Serialize;

/// The index of the newline, which ends a name.
const NEWLINE: usize = 0;
/// The letters of a name, at most.
const MAX_LETTERS: usize = 50;

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

/// What a reader of `sample` decides.
struct Sampling {
    choices: Choices,
    is_carried: bool,
    first: fn(usize) -> Vec<f64>,
    /// x after the index that was drawn; of x, the index and the probabilities.
    next: fn(&[f64], usize, &[f64]) -> Vec<f64>,
    /// The seed of a letter; of the first seed and the number of letters before it.
    seed: fn(u32, u32) -> u32,
    /// The generator is seeded once.
    is_seeded_once: bool,
    pick: fn(&[f64], &mut NumpyRandom) -> usize,
    stops: bool,
    most: usize,
    /// What stands behind the last letter; of the list and the limit.
    end: fn(&mut Vec<usize>, usize),
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            choices: Choices::default(),
            is_carried: true,
            first: |n| vec![0.; n],
            next: |x, index, _| one_hot(Some(index), x.len()),
            seed: |seed, letter| seed.wrapping_add(letter.wrapping_mul(2)),
            is_seeded_once: false,
            pick: |p, random| choice(p, random.random_sample()),
            stops: true,
            most: MAX_LETTERS,
            end: |indices, most| {
                if indices.len() == most {
                    indices.push(NEWLINE)
                }
            },
        }
    }
}

/// The choices of the forward pass that `sample` makes too.
const SHARED: [&str; 5] = ["b", "by", "forward_waa", "activation", "softmax"];

type Mistake = (&'static str, fn(&mut Sampling));

const MISTAKES: &[Mistake] = &[
    ("a_prev is not updated: each letter starts from zeros", |s| s.is_carried = false),
    ("x is not updated: it stays zero", |s| s.next = |x, _, _| x.to_vec()),
    ("x is not reset to zeros: it has a one for each letter so far", |s| {
        s.next = |x, index, _| {
            x.iter().enumerate().map(|(i, &x)| if i == index { 1. } else { x }).collect()
        };
    }),
    ("x is not one-hot: its entry is the index, not 1", |s| {
        s.next =
            |x, index, _| one_hot(Some(index), x.len()).iter().map(|x| x * index as f64).collect();
    }),
    ("x is not one-hot: all of it is 1", |s| s.next = |x, _, _| vec![1.; x.len()]),
    ("x is not one-hot: it holds the probabilities", |s| s.next = |_, _, p| p.to_vec()),
    ("x is the most likely letter, not the one that was drawn", |s| {
        s.next = |x, _, p| one_hot(Some(largest(p)), x.len());
    }),
    ("x is the newline at the first letter, not zeros", |s| {
        s.first = |n| one_hot(Some(NEWLINE), n)
    }),
    ("the seed grows by 1 a letter, not by 2: seed += 1 or counter is missing", |s| {
        s.seed = |seed, letter| seed.wrapping_add(letter);
    }),
    ("the seed is not increased: each letter has the same number", |s| s.seed = |seed, _| seed),
    ("the seed is the counter alone", |s| s.seed = |_, letter| letter),
    ("np.random.seed is called once, not for each letter", |s| s.is_seeded_once = true),
    ("the most likely letter is taken (argmax), none is drawn", |s| s.pick = |p, _| largest(p)),
    ("np.random.choice has no p: each letter is equally likely", |s| {
        s.pick = |p, random| below(p.len(), random);
    }),
    ("it does not stop at the newline", |s| s.stops = false),
    ("it does not stop at 50 letters", |s| s.most = usize::MAX),
    ("it stops at 49 letters, not at 50", |s| s.most = 49),
    ("it stops at 51 letters, not at 50", |s| s.most = 51),
    ("the newline is not appended after 50 letters", |s| s.end = |_, _| {}),
    ("a newline is always appended, after that of the name too", |s| {
        s.end = |indices, _| indices.push(NEWLINE);
    }),
    ("the newline that ends the name is missing in the list", |s| {
        s.end = |indices, most| match indices.last() {
            Some(&NEWLINE) => drop(indices.pop()),
            _ if indices.len() == most => indices.push(NEWLINE),
            _ => {}
        };
    }),
];

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

fn largest(p: &[f64]) -> usize {
    (0..p.len()).fold(0, |best, i| if p[i] > p[best] { i } else { best })
}

/// `np.random.choice` without p, which is `randint`: masked bits until they are in range.
fn below(n: usize, random: &mut NumpyRandom) -> usize {
    let mask = n.next_power_of_two() - 1;
    loop {
        let bits = random.next_u32() as usize & mask;
        if bits < n {
            return bits;
        }
    }
}

impl Sampling {
    /// The list of at most `longest` letters, and the probabilities of each.
    fn run(&self, pass: &Pass, seed: u32, longest: usize) -> (Vec<usize>, Matrix<f64>) {
        let n_x = pass.problem.sizes().vocabulary;
        let (mut x, mut a) = ((self.first)(n_x), None::<Vec<f64>>);
        let (mut indices, mut all) = (vec![], vec![]);
        let mut random = NumpyRandom::new(seed);
        while indices.len() < self.most.min(longest) {
            let state = pass.state(&self.choices, &x, a.as_deref());
            let p = (self.choices.softmax)(&pass.logits(&self.choices, &state));
            let p = times(&p, 1. / p.iter().sum::<f64>());
            if !self.is_seeded_once {
                random = NumpyRandom::new((self.seed)(seed, indices.len() as u32));
            }
            let index = (self.pick)(&p, &mut random);
            indices.push(index);
            x = (self.next)(&x, index, &p);
            a = self.is_carried.then_some(state);
            all.push(p);
            if index == NEWLINE && self.stops {
                break;
            }
        }
        (self.end)(&mut indices, self.most);
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
    let passes = [&problem, &beside].map(Pass::new);
    let run = |sampling: &Sampling| {
        let [(indices, probabilities), (_, near)] =
            passes.each_ref().map(|pass| sampling.run(pass, seed, given.len() + 1));
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
        let u = NumpyRandom::new((Sampling::default().seed)(seed, at as u32)).random_sample();
        let sums = p.iter().scan(0., |sum, p| {
            *sum += p;
            Some(*sum)
        });
        if sums.fold(f64::INFINITY, |least, sum| (sum - u).abs().min(least))
            < 16. * right.errors[at]
        {
            return Ok((None, vec![]));
        }
    }
    let own = MISTAKES.iter().map(|(what, change)| {
        let mut sampling = Sampling::default();
        change(&mut sampling);
        (what, sampling)
    });
    let shared = DEPARTURES.iter().filter(|departure| SHARED.contains(&departure.subject));
    let shared = shared.map(|Departure { what, change, .. }| {
        let mut sampling = Sampling::default();
        change(&mut sampling.choices);
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
