//! The smallest set of mistakes, at most two, under which every array of a file comes out.
//!
//! A set is departures of the passes, and departures of single arrays on top of them. Each candidate
//! is compared with all arrays of the file, those that are right included. Every smallest set is
//! found.

use super::arrays::{COMPARED, Cause, Given, cover};
use super::departures::{ARRAY_DEPARTURES, ArrayDeparture, COUNTED, DEPARTURES, Departure};
use super::pass::{Choices, Pass, Steps};
use super::solved::Array;
use super::update;
use crate::gradcheck::problem::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The most multiplications of all pairs of departures: a second or two.
const MAX_WORK: usize = 1_000_000_000;

/// The steps of a counted departure: all up to this, and all but one or two.
const MAX_COUNT: usize = 30;

/// Those of one that is made beside another.
const MAX_COUNT_OF_PAIR: usize = 10;

/// A departure with its number, 0 if it has none.
type Counted = (&'static Departure, usize);

/// The smallest sets of at most two mistakes: `problem` is the file's, `given` its arrays by their
/// position in [`COMPARED`], and `clip` the limit of the gradients, infinite if there is none.
pub(super) fn explain(
    problem: &Problem,
    given: &BTreeMap<usize, Given>,
    clip: f64,
) -> Vec<Vec<Cause>> {
    let mut gradients = given.range(..6).flat_map(|(_, given)| &given.values);
    if given.range(..6).next().is_some() && gradients.all(|g| *g == 0.) {
        let what = "every gradient is zero: was rnn_backward run, and were its results saved?";
        let wrong = given.iter().filter(|(_, given)| !given.is_right);
        return vec![vec![cause(wrong.map(|(&i, _)| COMPARED[i]), what.to_string())]];
    }
    let pass = Pass::new(problem);
    let search = Search { pass: &pass, given, clip, work: problem.sizes().forward_work() };
    let mut found = search.singles();
    let (mut updated, mut updated_more) = (vec![], vec![]);
    if found.is_empty() {
        (updated, updated_more) = search.updated();
    }
    found.append(&mut updated);
    let overwritten = given.get(&7).is_some_and(|last| last.values == problem.a0()[0]);
    if found.is_empty() && overwritten && search.wrong().count() == given.len() {
        let what =
            "a_prev is a_last: save the state that rnn_forward read, not the one it returned";
        found.push(vec![cause(search.wrong().map(|i| COMPARED[i]), what.to_string())]);
    }
    if found.is_empty() && search.work < MAX_WORK / 50 {
        found = search.doubles();
    }
    if found.is_empty() {
        found = updated_more;
    }
    found.iter_mut().for_each(|causes| causes.sort());
    found.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

struct Search<'a> {
    pass: &'a Pass<'a>,
    given: &'a BTreeMap<usize, Given>,
    clip: f64,
    /// The multiplications of a forward pass.
    work: usize,
}

/// What a departure does to each array of the file.
struct Effect {
    is_changed: Vec<bool>,
    /// Whether the array is that of the file then.
    is_given: Vec<bool>,
}

impl Search<'_> {
    /// The departures of the passes, those with a number of steps for each number up to `most` and
    /// for all steps but one or two.
    fn departures(&self, most: usize) -> Vec<Counted> {
        let steps = self.pass.sequence.x.len();
        let counts = (1..steps).filter(|&k| k <= most || k + 2 >= steps);
        let counted = counts.flat_map(|k| COUNTED.iter().map(move |departure| (departure, k)));
        DEPARTURES.iter().map(|departure| (departure, 0)).chain(counted).collect()
    }

    /// Single mistakes.
    fn singles(&self) -> Vec<Vec<Cause>> {
        let mut found = self.of_arrays(&self.pass.run(&Choices::default()), 1);
        let most = (MAX_WORK / self.work.max(1)).isqrt().min(MAX_COUNT);
        for departure in self.departures(most) {
            if self.is_all(&self.pass.run(&changed(&[departure]))) {
                found.push(vec![self.cause(departure)]);
            }
        }
        found
    }

    /// Two mistakes.
    fn doubles(&self) -> Vec<Vec<Cause>> {
        let right = self.pass.run(&Choices::default());
        let mut found = self.of_arrays(&right, 2);
        let right: Vec<Vec<f64>> = self.given.keys().map(|&i| self.array(&right, i)).collect();
        let departures = self.departures(MAX_COUNT_OF_PAIR);
        let mut effects = Vec::new();
        for &departure in &departures {
            let steps = self.pass.run(&changed(&[departure]));
            for causes in self.of_arrays(&steps, 1) {
                found.push([vec![self.cause(departure)], causes].concat());
            }
            let arrays: Vec<Vec<f64>> = self.given.keys().map(|&i| self.array(&steps, i)).collect();
            let is_given = self.given.values().zip(&arrays).map(|(given, a)| given.is(0, a));
            effects.push(Effect {
                is_given: is_given.collect(),
                is_changed: arrays.iter().zip(&right).map(|(a, b)| a != b).collect(),
            });
        }
        let pairs = (0..departures.len()).flat_map(|i| (0..i).map(move |j| (j, i)));
        let pairs = pairs.filter(|&(i, j)| {
            departures[i].0.subject != departures[j].0.subject
                && self.is_possible(&effects[i], &effects[j])
        });
        for (i, j) in pairs.take(MAX_WORK / self.work.max(1)) {
            let both = [departures[i], departures[j]];
            if self.is_all(&self.pass.run(&changed(&both))) {
                found.push(both.map(|departure| self.cause(departure)).to_vec());
            }
        }
        found
    }

    /// Whether two departures may give the arrays together: one that only one of them changes must
    /// be that of the file under this one alone.
    fn is_possible(&self, one: &Effect, other: &Effect) -> bool {
        self.given.values().enumerate().all(|(i, given)| {
            match (one.is_changed[i], other.is_changed[i]) {
                (true, true) => true,
                (true, false) => one.is_given[i],
                (false, true) => other.is_given[i],
                (false, false) => given.is_right,
            }
        })
    }

    /// The parameters of the file are those after the update: then every array is wrong. The
    /// gradients may be clipped beside this, as the update has them; the second list is of those
    /// with another mistake.
    fn updated(&self) -> (Vec<Vec<Cause>>, Vec<Vec<Cause>>) {
        let given: BTreeMap<usize, &[f64]> =
            self.given.iter().map(|(&i, given)| (i, &given.values[..])).collect();
        let is_possible = self.wrong().count() == given.len();
        let before = is_possible.then(|| update::before(self.pass.problem, &given)).flatten();
        let Some((problem, what)) = before else { return (vec![], vec![]) };
        let pass = Pass::new(&problem);
        let search = Search { pass: &pass, ..*self };
        let steps = pass.run(&Choices::default());
        let cause = cause(self.wrong().map(|i| COMPARED[i]), what);
        if search.is_all(&steps) {
            return (vec![vec![cause]], vec![]);
        }
        let others = search.of_arrays(&steps, 1).into_iter();
        let both = others.map(|causes| [vec![cause.clone()], causes].concat());
        both.partition(|causes| causes[1].what.contains("are clipped;"))
    }

    /// The positions of the wrong arrays.
    fn wrong(&self) -> impl Iterator<Item = usize> {
        self.given.iter().filter(|(_, given)| !given.is_right).map(|(&i, _)| i)
    }

    /// A departure with the wrong arrays that it changes.
    fn cause(&self, departure: Counted) -> Cause {
        let right = self.pass.run(&Choices::default());
        let steps = self.pass.run(&changed(&[departure]));
        let is_changed = |i: &usize| self.array(&right, *i) != self.array(&steps, *i);
        let arrays = self.wrong().filter(is_changed).map(|i| COMPARED[i]);
        cause(arrays, departure.0.what.replace("{k}", &departure.1.to_string()))
    }

    fn rows(&self, i: usize) -> Range<usize> {
        0..self.pass.rows(i)
    }

    /// An array, clipped if the file's should be.
    fn array(&self, steps: &Steps, i: usize) -> Vec<f64> {
        clamped(i, steps.array(i, self.rows(i)), self.clip)
    }

    /// Whether every array of the file comes out.
    fn is_all(&self, steps: &Steps) -> bool {
        let mut order: Vec<usize> = self.given.keys().copied().collect();
        order.sort_by_key(|&i| self.given[&i].values.len()); // the cheapest first
        order.into_iter().all(|i| self.is_given(steps, i))
    }

    /// Whether the array comes out: first a few rows, then the others.
    fn is_given(&self, steps: &Steps, i: usize) -> bool {
        let (given, rows) = (&self.given[&i], self.rows(i));
        let columns = given.values.len() / rows.len();
        let few = (16 / columns).clamp(1, rows.len());
        let is = |rows: Range<usize>| {
            given.is(rows.start * columns, &clamped(i, steps.array(i, rows), self.clip))
        };
        is(0..few) && is(rows)
    }

    /// The smallest sets of at most `most` mistakes of arrays that are left after a pass.
    fn of_arrays(&self, steps: &Steps, most: usize) -> Vec<Vec<Cause>> {
        let left = self.given.iter().filter(|(i, _)| !self.is_given(steps, **i));
        let left: Vec<(usize, &Given)> = left.map(|(&i, given)| (i, given)).collect();
        if left.is_empty() || left.iter().any(|(_, given)| given.is_right) {
            return vec![];
        }
        let gradients = (0..6).map(|j| steps.array(j, self.rows(j))).collect::<Vec<_>>();
        let mut sets = BTreeMap::new();
        for (i, _) in left {
            let names = self.departures_of(steps, &gradients, i);
            if names.is_empty() {
                return vec![];
            }
            sets.insert(i, names);
        }
        cover(&sets, &COMPARED, most)
    }

    /// The mistakes of an array that give it.
    fn departures_of(&self, steps: &Steps, gradients: &[Vec<f64>], i: usize) -> Vec<String> {
        let possible = ARRAY_DEPARTURES.iter().filter(|departure| departure.arrays.contains(&i));
        let gives = |departure: &&ArrayDeparture| {
            let mut steps = steps.clone();
            (departure.change)(&mut steps);
            self.is_given(&steps, i)
        };
        let mut names: Vec<String> =
            possible.filter(gives).map(|departure| departure.what.to_string()).collect();
        for limit in
            [self.clip, 0.1, 0.5, 1., 5., 10.].into_iter().filter(|limit| limit.is_finite())
        {
            for (at, what) in [
                (0, "the gradient of each step is clipped before the sum"),
                (1, "the sum is clipped within the loop, after each step"),
            ] {
                let mut steps = steps.clone();
                steps.clips[at] = limit;
                if i < 5 && self.given[&i].is(0, &steps.array(i, self.rows(i))) {
                    names.push(format!("{what}, to {limit}"));
                }
            }
        }
        let array = Array {
            i,
            given: self.given,
            value: steps.array(i, self.rows(i)),
            gradients,
            problem: self.pass.problem,
            clip: self.clip,
        };
        names.extend(array.mistakes());
        names
    }
}

fn cause(arrays: impl Iterator<Item = &'static str>, what: String) -> Cause {
    Cause { arrays: arrays.collect(), what }
}

/// The choices with these departures.
fn changed(departures: &[Counted]) -> Choices {
    let mut choices = Choices::default();
    for (departure, k) in departures {
        (departure.change)(&mut choices);
        choices.k = choices.k.max(*k); // only one has a number
    }
    choices
}

/// A gradient of a parameter, clipped.
fn clamped(i: usize, mut values: Vec<f64>, clip: f64) -> Vec<f64> {
    if i < 5 && clip.is_finite() {
        values.iter_mut().for_each(|g| *g = g.clamp(-clip, clip));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::compare::{Pair, bound};
    use crate::gradcheck::gradients::{Gradients, Scope};
    use crate::gradcheck::numeric::{STEP, central_differences, exact};
    use crate::gradcheck::problem::{Sizes, TENSORS};
    use crate::gradcheck::rounding::Rounding;
    use crate::train::GradientMethod;
    use candle_core::{DType, Device};

    fn problem() -> Problem {
        Problem::random(Sizes { hidden: 7, vocabulary: 5, steps: 6, batch: 1 }, 1).unwrap()
    }

    fn gradients(steps: &Steps) -> Gradients {
        Gradients {
            method: "pass".to_string(),
            values: std::array::from_fn(|i| steps.array(i, 0..steps.pass.rows(i))),
            loss: Some(steps.losses.iter().sum()),
            last: steps.a.last().cloned(),
            scope: Scope::All,
            rounding: Rounding::default(),
        }
    }

    /// The gradients of each method, exact ones and central differences, each with its bound.
    fn correct_gradients(problem: &Problem, dtype: DType) -> Vec<(Gradients, f64)> {
        let derived = |method| problem.derived(method, dtype, &Device::Cpu).unwrap();
        let mut all: Vec<_> =
            GradientMethod::ALL.map(|method| (derived(method), bound(dtype, false))).into();
        for scope in [Scope::All, Scope::Entries(problem.entries(1000, 1)), Scope::Directions(1)] {
            all.push((exact(problem, scope), bound(dtype, false)));
        }
        let entries = problem.entries(1000, 1);
        let differences = central_differences(problem, STEP, entries, &Rounding::default());
        all.push((differences, bound(dtype, true)));
        all
    }

    /// Every method finds every known mistake, in the gradients that it changes and in no other.
    #[test]
    fn every_method_finds_every_mistake_in_exactly_the_tensors_it_changes() {
        let problem = problem();
        let pass = Pass::new(&problem);
        let right = pass.run(&Choices::default());
        let mut planted = vec![("", gradients(&right))];
        for departure in DEPARTURES.iter().chain(COUNTED) {
            planted.push((departure.what, gradients(&pass.run(&changed(&[(departure, 2)])))));
        }
        for ArrayDeparture { arrays, what, change } in ARRAY_DEPARTURES {
            for &i in arrays.iter().filter(|i| **i < 6) {
                let (mut steps, mut found) = (right.clone(), gradients(&right));
                change(&mut steps);
                found.values[i] = steps.array(i, 0..pass.rows(i));
                planted.push((what, found));
            }
        }
        for dtype in [DType::F64, DType::F32] {
            let correct = correct_gradients(&problem, dtype);
            for (what, wrong) in &planted {
                let pairs = TENSORS.iter().zip(wrong.values.iter().zip(&planted[0].1.values));
                let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
                let is_changed = |(_, (a, b)): &(_, (&Vec<f64>, &Vec<f64>))| {
                    let distance = norm(&mut a.iter().zip(*b).map(|(a, b)| a - b));
                    distance > 1e-9 * norm(&mut b.iter().copied())
                };
                let expected: Vec<_> = pairs.filter(is_changed).map(|(name, _)| *name).collect();
                for (correct, bound) in &correct {
                    let pair = Pair::of(&problem, wrong, correct, *bound);
                    let found: Vec<_> = pair.disagreeing();
                    let found: Vec<_> = found.into_iter().filter(|n| TENSORS.contains(n)).collect();
                    assert_eq!(found, expected, "{what} against {}", correct.method);
                }
            }
        }
    }

    /// Also where a departure leaves out steps, or there is one only.
    #[test]
    fn an_array_with_any_mistakes_has_its_shape() {
        for steps in [1, 6] {
            let sizes = Sizes { hidden: 3, vocabulary: 4, steps, batch: 1 };
            let problem = Problem::random(sizes, 1).unwrap();
            let pass = Pass::new(&problem);
            for departure in DEPARTURES.iter().chain(COUNTED) {
                let run = pass.run(&changed(&[(departure, 1)]));
                for ArrayDeparture { arrays, change, .. } in ARRAY_DEPARTURES {
                    let mut steps = run.clone();
                    change(&mut steps);
                    for &i in *arrays {
                        let right = run.array(i, 0..pass.rows(i)).len();
                        assert_eq!(steps.array(i, 0..pass.rows(i)).len(), right);
                    }
                }
            }
        }
    }

    /// An error of one part in 10^11 in one entry of 2,500 is 100 times the bound of the directions.
    #[test]
    fn directions_find_an_error_in_a_single_entry() {
        let sizes = Sizes { hidden: 50, vocabulary: 5, steps: 6, batch: 1 };
        let problem = Problem::random(sizes, 3).unwrap();
        let right = gradients(&Pass::new(&problem).run(&Choices::default()));
        for seed in 0..20 {
            let directions = exact(&problem, Scope::Directions(seed));
            assert!(Pair::of(&problem, &right, &directions, 1e-12).agree);
            let norm = right.values[1].iter().map(|g| g * g).sum::<f64>().sqrt();
            let mut wrong = right.clone();
            wrong.values[1][1234 + seed as usize] += 1e-10 * norm;
            let found = Pair::of(&problem, &wrong, &directions, 1e-12).disagreeing();
            assert_eq!(found, ["waa"], "{seed}");
        }
    }

    /// The list of docs/gradients.md has all of these.
    #[test]
    fn the_known_mistakes_are_documented() {
        let passes = DEPARTURES.iter().chain(COUNTED).map(|departure| departure.what);
        for what in passes.chain(ARRAY_DEPARTURES.iter().map(|departure| departure.what)) {
            let line = format!("- {}\n", what.replace("{k}", "k"));
            let documented = include_str!("../../../docs/gradients.md").contains(&line);
            assert!(documented, "docs/gradients.md lacks the line {line}");
        }
    }
}
