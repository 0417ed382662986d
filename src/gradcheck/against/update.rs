//! The parameters before an update, where a file has those after it: `update_parameters` changes
//! them in place.

use super::arrays::{Given, short};
use super::choices::Choices;
use super::pass::pass;
use crate::gradcheck::compare::{largest, norm};
use crate::gradcheck::problem::Problem;
use crate::reference::Parameters;
use std::collections::BTreeMap;

/// The parameters that may have been before the update, w + rate * clip(dw, limit), and in words how
/// they were found. The rate and the limit are those for which the arrays of the file come out, by
/// Gauss and Newton's method from several starts.
pub(super) fn before(
    problem: &Problem,
    given: &BTreeMap<usize, Given>,
) -> Option<(Problem, String)> {
    let largest = largest(given.range(..5).flat_map(|(_, given)| &given.values));
    if given.range(..5).count() < 5 || !(largest > 0. && largest.is_finite()) {
        return None;
    }
    let update = Update { problem, given, largest };
    // The largest entry is a limit that clips nothing.
    let limits = [1., 0.8, 0.4, 0.1].map(|part| part * largest);
    let mut starts = limits.iter().flat_map(|&limit| [0.01, 0.1, 0.001].map(|rate| [rate, limit]));
    let [rate, limit] = starts.find_map(|start| update.solve(start))?;
    let clipped =
        if limit < largest { format!(", clipped at {}", short(limit)) } else { String::new() };
    let what = format!(
        "the parameters are those after update_parameters (learning rate {}{clipped}): save them \
         before, or copies of them",
        short(rate)
    );
    Some((update.problem([rate, limit]), what))
}

struct Update<'a> {
    problem: &'a Problem,
    given: &'a BTreeMap<usize, Given>,
    /// The largest entry of the gradients in the file, which may be clipped.
    largest: f64,
}

impl Update<'_> {
    fn problem(&self, [rate, limit]: [f64; 2]) -> Problem {
        let mut flat = self.problem.parameters.flat();
        for (w, given) in flat.iter_mut().zip(self.given.values()) {
            let steps = given.values.iter().map(|g| rate * g.clamp(-limit, limit));
            w.iter_mut().zip(steps).for_each(|(w, step)| *w += step);
        }
        let sizes = self.problem.sizes();
        let flat = flat.each_ref().map(Vec::as_slice);
        let parameters = Parameters::from_flat(sizes.hidden, sizes.vocabulary, flat);
        Problem { parameters, ..self.problem.clone() }
    }

    /// What is left between the arrays and those of the file, each relative to its size.
    fn rest(&self, at: [f64; 2]) -> Vec<f64> {
        let problem = self.problem(at);
        let steps = pass(&problem, &Choices::default());
        let rest = |(&i, given): (&usize, &Given)| {
            let size = norm(given.values.iter().copied()).max(f64::MIN_POSITIVE);
            let limit = if i < 5 { self.largest } else { f64::INFINITY };
            let both = steps.array(i).into_iter().zip(&given.values);
            both.map(|(v, g)| (v.clamp(-limit, limit) - g) / size).collect::<Vec<_>>()
        };
        self.given.iter().flat_map(rest).collect()
    }

    /// The rate and the limit for which nothing is left.
    fn solve(&self, start: [f64; 2]) -> Option<[f64; 2]> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let size = |rest: &[f64]| norm(rest.iter().copied());
        let (mut at, mut rest) = (start, self.rest(start));
        for _ in 0..20 {
            let slope = |which: usize| {
                let (mut beside, h) = (at, 1e-6 * at[which]);
                beside[which] += h;
                let changes = self.rest(beside).into_iter().zip(&rest).map(|(a, b)| (a - b) / h);
                changes.collect::<Vec<_>>()
            };
            let (j, k) = (slope(0), slope(1));
            let (jj, jk, jr) = (dot(&j, &j), dot(&j, &k), dot(&j, &rest));
            // Where no entry is clipped, nothing depends on the limit.
            let (kk, kr) = (dot(&k, &k).max(1e-20 * jj), dot(&k, &rest));
            let determinant = jj * kk - jk * jk;
            let step = [(jk * kr - kk * jr) / determinant, (jk * jr - jj * kr) / determinant];
            // Half the step as long as it does not lead nearer; a start that leads nowhere is left.
            let steps =
                [1., 0.5, 0.25, 0.125, 0.0625].map(|part| [0, 1].map(|i| at[i] + part * step[i]));
            let possible = steps.into_iter().filter(|next| next.iter().all(|&x| x > 0.));
            let mut next = possible.map(|next| (next, self.rest(next)));
            let Some(next) = next.find(|(_, left)| size(left) < 0.9 * size(&rest)) else { break };
            (at, rest) = next;
        }
        (size(&rest) < 1e-6).then_some(at)
    }
}
