//! The parameters before an update, where a file has those after it: `update_parameters` changes
//! them in place.

use super::arrays::norm;
use super::pass::{Choices, Pass};
use super::solved::short;
use crate::gradcheck::problem::Problem;
use crate::reference::Parameters;
use std::collections::BTreeMap;

/// The parameters that may have been before the update, w + rate * clip(dw, limit), and in words how
/// they were found. The rate and the limit are those for which the arrays of the file come out, by
/// Gauss and Newton's method from several starts.
pub(super) fn before(
    problem: &Problem,
    given: &BTreeMap<usize, &[f64]>,
) -> Option<(Problem, String)> {
    let update = Update { problem, given };
    let largest = given.range(..5).flat_map(|(_, g)| g.iter()).fold(0., |m: f64, g| g.abs().max(m));
    if given.range(..5).count() < 5 || !(largest > 0. && largest.is_finite()) {
        return None;
    }
    let limits = [f64::INFINITY, 0.8 * largest, 0.4 * largest, 0.1 * largest];
    let starts = limits.into_iter().flat_map(|limit| [0.01, 0.1, 0.001].map(|rate| [rate, limit]));
    starts.into_iter().find_map(|start| {
        let [rate, limit] = update.solve(start, largest)?;
        let clipped = if limit.is_finite() {
            format!(", clipped at {}", short(limit))
        } else {
            String::new()
        };
        let what = format!(
            "the parameters are those after update_parameters (learning rate {}{clipped}): save \
             them before, or copies of them",
            short(rate)
        );
        Some((update.problem([rate, limit])?, what))
    })
}

struct Update<'a> {
    problem: &'a Problem,
    given: &'a BTreeMap<usize, &'a [f64]>,
}

impl Update<'_> {
    fn problem(&self, [rate, limit]: [f64; 2]) -> Option<Problem> {
        let mut flat = self.problem.parameters().flat();
        for (w, g) in flat.iter_mut().zip(self.given.values()) {
            w.iter_mut().zip(*g).for_each(|(w, g)| *w += rate * g.clamp(-limit, limit));
        }
        let sizes = self.problem.sizes();
        let flat = flat.each_ref().map(Vec::as_slice);
        let parameters = Parameters::from_flat(sizes.hidden, sizes.vocabulary, flat);
        let a_prev = self.problem.a0()[0].clone();
        Problem::sequence(parameters, self.problem.sequences()[0].clone(), a_prev).ok()
    }

    /// What is left between the arrays and those of the file, each relative to its size.
    fn rest(&self, at: [f64; 2], largest: f64) -> Option<Vec<f64>> {
        let problem = self.problem(at)?;
        let pass = Pass::new(&problem);
        let steps = pass.run(&Choices::default());
        let mut rest = vec![];
        for (&i, given) in self.given {
            let norm = norm(given).max(f64::MIN_POSITIVE);
            let limit = if i < 5 { largest } else { f64::INFINITY }; // if the saved ones are clipped
            let values = steps.array(i, 0..pass.rows(i)).into_iter().zip(*given);
            rest.extend(values.map(|(v, g)| (v.clamp(-limit, limit) - g) / norm));
        }
        Some(rest)
    }

    /// The rate and the limit, if it is finite, for which nothing is left.
    fn solve(&self, start: [f64; 2], largest: f64) -> Option<[f64; 2]> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut at = start;
        let mut rest = self.rest(at, largest)?;
        for _ in 0..20 {
            let slope = |which: usize| {
                let (mut beside, h) = (at, 1e-6 * at[which]);
                beside[which] += h;
                let other = self.rest(beside, largest)?;
                Some(other.iter().zip(&rest).map(|(a, b)| (a - b) / h).collect::<Vec<f64>>())
            };
            let j = slope(0)?;
            let k = if at[1].is_finite() { slope(1)? } else { vec![0.; j.len()] };
            let (jj, kk, jk) = (dot(&j, &j), dot(&k, &k).max(f64::MIN_POSITIVE), dot(&j, &k));
            let (jr, kr) = (dot(&j, &rest), dot(&k, &rest));
            let determinant = jj * kk - jk * jk;
            let mut step = [(jk * kr - kk * jr) / determinant, (jk * jr - jj * kr) / determinant];
            if !at[1].is_finite() {
                step = [-jr / jj, 0.];
            }
            // Half the step as long as it does not lead nearer; a start that leads nowhere is left.
            let next = (0..5).find_map(|halvings| {
                let next = [0, 1].map(|i| at[i] + step[i] / f64::from(1 << halvings));
                let is_positive = next[0] > 0. && next[1] > 0.;
                let left = is_positive.then(|| self.rest(next, largest))??;
                (norm(&left) < 0.9 * norm(&rest)).then_some((next, left))
            });
            let Some(next) = next else { break };
            (at, rest) = next;
        }
        (norm(&rest) < 1e-6).then_some(at)
    }
}
