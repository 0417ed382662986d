//! The smallest set of mistakes, at most two, under which every array of a file comes out.
//!
//! A set is departures of the passes, and departures of single arrays on top of them. Each candidate
//! is compared with all arrays of the file, those that are right included. Every smallest set is
//! found.

use super::arrays::{COMPARED, Cause, Given, Mistakes, cover};
use super::choices::{Choices, DEPARTURES, Departure};
use super::departures::{ARRAY_DEPARTURES, ArrayDeparture};
use super::pass::{Steps, pass};
use super::solved::Array;
use super::update;
use crate::gradcheck::problem::{GRADIENTS, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// The most multiplications of all pairs of departures: a second or two.
const MAX_WORK: usize = 1_000_000_000;

/// The steps of a counted departure: all up to this, and all but one or two.
const MAX_COUNT: usize = 30;

/// Those of one that is made beside another.
const MAX_COUNT_OF_PAIR: usize = 10;

/// A departure with its number, 0 if it has none.
type Counted = (&'static Departure<Choices>, usize);

/// The smallest sets of at most two mistakes: `problem` is the file's, `given` its arrays by their
/// position in [`COMPARED`], and `clip` the limit of the gradients, infinite if there is none.
pub(super) fn explain(
    problem: &Problem,
    given: &BTreeMap<usize, Given>,
    clip: f64,
) -> Vec<Vec<Cause>> {
    let search = Search::new(problem, given, clip);
    let gradients = || given.range(..GRADIENTS).flat_map(|(_, given)| &given.values);
    if gradients().next().is_some() && gradients().all(|g| *g == 0.) {
        let what = "every gradient is zero: was rnn_backward run, and were its results saved?";
        return vec![vec![search.cause_of_all(what.to_string())]];
    }
    let is_all_wrong = given.values().all(|given| !given.is_right);
    let mut found = search.sets(1);
    if found.is_empty() && is_all_wrong {
        found = search.updated();
        // After a pass over another state everything is wrong.
        if found.is_empty() && given.get(&7).is_some_and(|last| last.values == problem.a0[0]) {
            let what =
                "a_prev is a_last: save the state that rnn_forward read, not the one it returned";
            found.push(vec![search.cause_of_all(what.to_string())]);
        }
    }
    if found.is_empty() && search.work < MAX_WORK / 50 {
        found = search.sets(2);
    }
    found.iter_mut().for_each(|causes| causes.sort());
    found.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

struct Search<'a> {
    problem: &'a Problem,
    given: &'a BTreeMap<usize, Given>,
    clip: f64,
    /// The multiplications of a forward pass.
    work: usize,
    /// The right arrays, in the order of `given`.
    right: Vec<Vec<f64>>,
}

/// What a departure does to each array of the file: whether it changes, and whether it is that of the
/// file then.
type Effect = Vec<(bool, bool)>;

impl<'a> Search<'a> {
    fn new(problem: &'a Problem, given: &'a BTreeMap<usize, Given>, clip: f64) -> Self {
        let steps = pass(problem, &Choices::default());
        let right = given.keys().map(|&i| array(&steps, i, clip)).collect();
        Self { problem, given, clip, work: problem.sizes().forward_work(), right }
    }

    /// The departures of the passes, those with a number of steps for each number up to `most` and
    /// for all steps but one or two.
    fn departures(&self, most: usize) -> Vec<Counted> {
        let steps = self.problem.sizes().steps;
        let numbers = move |departure: &'static Departure<Choices>| {
            let is_counted = departure.what.contains("{k}");
            let counts = (1..steps).filter(move |&k| k <= most || k + 2 >= steps);
            (!is_counted).then_some(0).into_iter().chain(counts.filter(move |_| is_counted))
        };
        let counted = |departure| numbers(departure).map(move |k| (departure, k));
        DEPARTURES.iter().flat_map(counted).collect()
    }

    /// The sets of `size` mistakes: of arrays alone, of departures and arrays, of departures alone.
    fn sets(&self, size: usize) -> Vec<Vec<Cause>> {
        let mut found = self.of_arrays(&pass(self.problem, &Choices::default()), size);
        let departures = self.departures(match size {
            1 => (MAX_WORK / self.work.max(1)).isqrt().min(MAX_COUNT),
            _ => MAX_COUNT_OF_PAIR,
        });
        for &departure in &departures {
            let steps = changed(self.problem, &[departure]);
            for causes in self.of_arrays(&steps, size - 1) {
                found.push([vec![self.cause(departure)], causes].concat());
            }
        }
        if size > 1 {
            found.extend(self.pairs(&departures));
        }
        found
    }

    /// The pairs of departures that explain the file.
    fn pairs(&self, departures: &[Counted]) -> Vec<Vec<Cause>> {
        let effects: Vec<Effect> = departures.iter().map(|&one| self.effect(one)).collect();
        let pairs = (0..departures.len()).flat_map(|i| (0..i).map(move |j| (j, i)));
        let is_possible = |&(i, j): &(usize, usize)| {
            let [(one, k), (other, l)] = [departures[i], departures[j]];
            one.subject != other.subject
                && (k == 0 || l == 0) // there is one number in Choices
                && self.is_possible(&effects[i], &effects[j])
        };
        let possible = pairs.filter(is_possible).take(MAX_WORK / self.work.max(1));
        let both = possible.map(|(i, j)| [departures[i], departures[j]]);
        let explains =
            |both: &[Counted; 2]| !self.of_arrays(&changed(self.problem, both), 0).is_empty();
        both.filter(explains).map(|both| both.map(|one| self.cause(one)).to_vec()).collect()
    }

    fn effect(&self, departure: Counted) -> Effect {
        let steps = changed(self.problem, &[departure]);
        let arrays = self.given.keys().map(|&i| array(&steps, i, self.clip));
        let both = arrays.zip(&self.right).zip(self.given.values());
        both.map(|((array, right), given)| (array != *right, given.is(&array))).collect()
    }

    /// Whether two departures may give the arrays together: one that only one of them changes must
    /// be that of the file under this one alone.
    fn is_possible(&self, one: &Effect, other: &Effect) -> bool {
        let mut all = one.iter().zip(other).zip(self.given.values());
        all.all(|(effects, given)| match effects {
            ((true, _), (true, _)) => true,
            ((true, is_given), _) | (_, (true, is_given)) => *is_given,
            _ => given.is_right,
        })
    }

    /// The parameters of the file are those after the update, and perhaps something else is wrong.
    fn updated(&self) -> Vec<Vec<Cause>> {
        let Some((problem, what)) = update::before(self.problem, self.given) else {
            return vec![];
        };
        let others = self.of_arrays(&pass(&problem, &Choices::default()), 1).into_iter();
        others.map(|causes| [vec![self.cause_of_all(what.clone())], causes].concat()).collect()
    }

    /// A departure with the wrong arrays that it changes.
    fn cause(&self, departure: Counted) -> Cause {
        let given = self.given.iter().zip(self.effect(departure));
        let arrays = given.filter(|((_, given), (is_changed, _))| !given.is_right && *is_changed);
        let arrays = arrays.map(|((&i, _), _)| COMPARED[i]).collect();
        Cause { arrays, what: departure.0.what.replace("{k}", &departure.1.to_string()) }
    }

    /// A cause of all that is wrong.
    fn cause_of_all(&self, what: String) -> Cause {
        let wrong = self.given.iter().filter(|(_, given)| !given.is_right);
        Cause { arrays: wrong.map(|(&i, _)| COMPARED[i]).collect(), what }
    }

    /// The smallest sets of at most `most` mistakes of the arrays that are wrong still after a pass.
    fn of_arrays(&self, steps: &Steps, most: usize) -> Vec<Vec<Cause>> {
        let mut order: Vec<(usize, &Given)> = self.given.iter().map(|(&i, g)| (i, g)).collect();
        order.sort_by_key(|(_, given)| given.values.len()); // the cheapest first
        let mut left = vec![];
        for (i, given) in order {
            if given.is(&array(steps, i, self.clip)) {
                continue;
            }
            if most == 0 || given.is_right {
                return vec![];
            }
            left.push(i);
        }
        let gradients: Vec<Vec<f64>> = (0..GRADIENTS).map(|j| steps.array(j)).collect();
        let mistakes = left.into_iter().map(|i| (i, self.mistakes(steps, &gradients, i)));
        cover(&mistakes.collect::<Mistakes>(), &COMPARED, most)
    }

    /// The mistakes of an array that give it.
    fn mistakes(&self, steps: &Steps, gradients: &[Vec<f64>], i: usize) -> Vec<String> {
        let (given, value, problem) = (&self.given[&i], steps.array(i), steps.problem);
        let with = |change: &dyn Fn(&mut Steps)| {
            let mut steps = steps.clone();
            change(&mut steps);
            steps
        };
        let possible = ARRAY_DEPARTURES.iter().filter(|departure| departure.arrays.contains(&i));
        let gives =
            |departure: &&ArrayDeparture| given.is(&array(&with(&departure.change), i, self.clip));
        let mut names: Vec<String> =
            possible.filter(gives).map(|departure| departure.what.to_string()).collect();
        let limits = [self.clip, 0.1, 0.5, 1., 5., 10.].into_iter().filter(|l| l.is_finite());
        for limit in limits.filter(|_| i < 5) {
            for (at, what) in [
                (0, "the gradient of each step is clipped before the sum"),
                (1, "the sum is clipped within the loop, after each step"),
            ] {
                let clipped = with(&|steps| steps.clips[at] = limit).array(i);
                if clipped != value && given.is(&clipped) {
                    names.push(format!("{what}, to {limit}"));
                }
            }
        }
        let array = Array { i, given: self.given, value, gradients, problem, clip: self.clip };
        names.extend(array.mistakes());
        names
    }
}

/// The pass with these departures, of which at most one has a number.
fn changed<'a>(problem: &'a Problem, departures: &[Counted]) -> Steps<'a> {
    let mut choices = Choices::default();
    for (departure, k) in departures {
        (departure.change)(&mut choices);
        choices.k = choices.k.max(*k);
    }
    pass(problem, &choices)
}

/// An array, clipped if it is the gradient of a parameter.
fn array(steps: &Steps, i: usize, clip: f64) -> Vec<f64> {
    let clip = if i < 5 { clip } else { f64::INFINITY };
    steps.array(i).into_iter().map(|g| g.clamp(-clip, clip)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::compare::{Pair, bound, norm};
    use crate::gradcheck::gradients::Gradients;
    use crate::gradcheck::numeric::{central_differences, exact};
    use crate::gradcheck::problem::{Sizes, TENSORS};
    use crate::gradcheck::rounding::Rounding;
    use crate::train::GradientMethod;
    use candle_core::{DType, Device};

    fn gradients(steps: &Steps) -> Gradients {
        let values = (0..8).map(|i| steps.array(i)).collect();
        let (method, rounding) = ("pass".to_string(), Rounding::default());
        Gradients { method, values, directions: None, rounding }
    }

    /// The gradients of each method, exact ones and central differences, each with its bound.
    fn correct_gradients(problem: &Problem, dtype: DType) -> Vec<(Gradients, f64)> {
        let derived = |method| problem.derived(method, dtype, &Device::Cpu).unwrap();
        let mut all = Vec::from(GradientMethod::ALL.map(derived));
        all.extend([None, Some(1)].map(|seed| exact(problem, seed)));
        let mut all: Vec<_> = all.into_iter().map(|found| (found, bound(dtype, false))).collect();
        let differences = central_differences(problem, 1, &Rounding::default());
        all.push((differences, bound(dtype, true)));
        all
    }

    /// Every method finds every known mistake, in the gradients that it changes and in no other.
    #[test]
    fn every_method_finds_every_mistake_in_exactly_the_tensors_it_changes() {
        let sizes = Sizes { hidden: 7, vocabulary: 5, steps: 6, batch: 1 };
        let problem = Problem::random(sizes, 1).unwrap();
        let right = pass(&problem, &Choices::default());
        let mut planted = vec![("", gradients(&right))];
        for departure in DEPARTURES {
            planted.push((departure.what, gradients(&changed(&problem, &[(departure, 2)]))));
        }
        for ArrayDeparture { arrays, what, change } in ARRAY_DEPARTURES {
            for &i in arrays.iter().filter(|i| **i < GRADIENTS) {
                let (mut steps, mut found) = (right.clone(), gradients(&right));
                change(&mut steps);
                found.values[i] = steps.array(i);
                planted.push((what, found));
            }
        }
        let right = planted[0].1.values.clone();
        for dtype in [DType::F64, DType::F32] {
            let correct = correct_gradients(&problem, dtype);
            for (what, wrong) in &planted {
                let is_changed = |i: &usize| {
                    let both = wrong.values[*i].iter().zip(&right[*i]);
                    norm(both.map(|(a, b)| a - b)) > 1e-9 * norm(right[*i].iter().copied())
                };
                let expected: Vec<_> =
                    (0..GRADIENTS).filter(is_changed).map(|i| TENSORS[i]).collect();
                for (correct, bound) in &correct {
                    let mut found = Pair::of(&problem, wrong, correct, *bound).disagreeing();
                    found.retain(|name| TENSORS[..GRADIENTS].contains(name));
                    assert_eq!(found, expected, "{what} against {}", correct.method);
                }
            }
        }
    }

    /// An error of one part in 10^11 in one entry of 2,500 is 100 times the bound of the directions.
    #[test]
    fn directions_find_an_error_in_a_single_entry() {
        let sizes = Sizes { hidden: 50, vocabulary: 5, steps: 6, batch: 1 };
        let problem = Problem::random(sizes, 3).unwrap();
        let right = gradients(&pass(&problem, &Choices::default()));
        for seed in 0..20 {
            let directions = exact(&problem, Some(seed));
            assert!(Pair::of(&problem, &right, &directions, 1e-12).agree);
            let mut wrong = right.clone();
            wrong.values[1][1234 + seed as usize] += 1e-10 * norm(right.values[1].iter().copied());
            let found = Pair::of(&problem, &wrong, &directions, 1e-12).disagreeing();
            assert_eq!(found, ["waa"], "{seed}");
        }
    }

    /// The list of docs/gradients.md has all of these.
    #[test]
    fn the_known_mistakes_are_documented() {
        let passes = DEPARTURES.iter().map(|departure| departure.what);
        for what in passes.chain(ARRAY_DEPARTURES.iter().map(|departure| departure.what)) {
            let line = format!("- {}\n", what.replace("{k}", "k"));
            let documented = include_str!("../../../docs/gradients.md").contains(&line);
            assert!(documented, "docs/gradients.md lacks the line {line}");
        }
    }
}
