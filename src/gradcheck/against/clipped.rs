//! A reader's `clip`: the gradients before it and after it.

use super::arrays::{Cause, Given, cover, norm};
use super::file::{CLIPPED, LIMITS, Reader};
use super::solved::short;
use crate::error::Result;
use crate::gradcheck::compare::{Comparison, compare};
use std::collections::BTreeMap;

/// A mistake in `clip`: in words, and what it makes of a gradient, the limit, and the norm of all.
type Mistake = (&'static str, fn(&[f64], f64, f64) -> Vec<f64>);

const MISTAKES: &[Mistake] = &[
    ("it is not clipped: np.clip returns a new array, unless it has out=gradient", |g, _, _| {
        g.to_vec()
    }),
    ("it is clipped from above only", |g, m, _| each(g, |g| g.min(m))),
    ("it is clipped from below only", |g, m, _| each(g, |g| g.max(-m))),
    ("np.clip has its bounds exchanged: every entry is the lower one", |g, m, _| each(g, |_| -m)),
    ("it is clipped to 0 from below", |g, m, _| each(g, |g| g.clamp(0., m))),
    ("it is clipped to 0 from above", |g, m, _| each(g, |g| g.clamp(-m, 0.))),
    ("entries beyond the limit are set to 0", |g, m, _| {
        each(g, |g| if g.abs() > m { 0. } else { g })
    }),
    ("entries beyond the limit, negative ones too, are set to max_value", |g, m, _| {
        each(g, |g| if g.abs() > m { m } else { g })
    }),
    ("its entries have lost their sign", |g, m, _| each(g, |g| g.abs().min(m))),
    ("its entries have the wrong sign", |g, m, _| each(g, |g| (-g).clamp(-m, m))),
    ("it is scaled to the norm max_value, not clipped entry by entry", |g, m, _| {
        scaled(g, m, norm(g))
    }),
    ("all are scaled to the norm max_value together, not clipped entry by entry", |g, m, all| {
        scaled(g, m, all)
    }),
    ("it is scaled by its largest entry, not clipped entry by entry", |g, m, _| {
        scaled(g, m, g.iter().fold(0., |most, g| g.abs().max(most)))
    }),
    ("it is zero", |g, _, _| each(g, |_| 0.)),
];

fn each(g: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
    g.iter().map(|&g| f(g)).collect()
}

fn scaled(g: &[f64], max: f64, norm: f64) -> Vec<f64> {
    each(g, |g| if norm > max { g * (max / norm) } else { g })
}

/// Compares the gradients after `clip` with those before, clipped. Returns the comparisons and the
/// causes of wrong ones.
pub(super) fn check(file: &mut Reader) -> Result<(Vec<Comparison>, Vec<Vec<Cause>>)> {
    let limit = LIMITS.into_iter().find(|name| file.has(name)).unwrap_or("max_value");
    let max = file.number(limit)?;
    if !(max > 0. && max.is_finite()) {
        return Err(file.error(format!("{limit} is {max}; it must be above 0")));
    }
    let mut arrays = vec![];
    for name in file.those(&CLIPPED) {
        let before = name.trim_end_matches("_clipped");
        let shape = file.header(before)?.shape.clone();
        let (values, clipped) = (file.values(before, &shape)?, file.values(name, &shape)?);
        let bound = if file.is_single(name) || file.is_single(before) { 1e-6 } else { 1e-12 };
        arrays.push((name, shape, values, clipped, bound));
    }
    let all =
        norm(&arrays.iter().flat_map(|(_, _, values, ..)| values.clone()).collect::<Vec<_>>());
    if arrays.is_empty() {
        return Err(file.error(format!("it has {limit}, but none of {}", CLIPPED.join(", "))));
    }
    let largest = arrays.iter().flat_map(|(_, _, _, after, _)| after);
    let most = largest.fold(0., |most: f64, g| g.abs().max(most));
    // Another limit, which some array shows.
    let is_other = arrays.iter().any(|(_, _, before, after, _)| {
        before != after && each(before, |g| g.clamp(-most, most)) == *after && most != max
    });
    let (mut compared, mut sets) = (vec![], BTreeMap::new());
    for (name, shape, before, after, bound) in &arrays {
        let at = CLIPPED.iter().position(|known| known == name).expect("one of them");
        let right = each(before, |g| g.clamp(-max, max));
        let comparison = compare(name, shape.clone(), [after, &right], None, [*bound, 0.]);
        if !comparison.agree {
            let given = Given::new(after.clone(), &right, false, [*bound, 0.]);
            let is = |(_, f): &&Mistake| given.is(0, &f(before, max, all));
            let named = MISTAKES.iter().filter(is).map(|(what, _)| what.to_string());
            let other = is_other && given.is(0, &each(before, |g| g.clamp(-most, most)));
            let other = other.then(|| format!("the limit is {}, not {limit}", short(most)));
            let swapped = arrays.iter().filter(|(other, _, values, ..)| {
                other != name
                    && values.len() == after.len()
                    && given.is(0, &each(values, |g| g.clamp(-max, max)))
            });
            let swapped = swapped.map(|(other, ..)| format!("it holds {other}"));
            sets.insert(at, named.chain(other).chain(swapped).collect());
        }
        compared.push(Comparison { whole: Some([after.clone(), right]), ..comparison });
    }
    let is_inside = |g: &f64| g.abs() <= max;
    if sets.is_empty() && arrays.iter().all(|(_, _, before, ..)| before.iter().all(is_inside)) {
        return Err(file.error(format!(
            "no entry is beyond {limit}, {max}, before clip: there is nothing to see; clip works in \
             place, so save copies of the gradients from before, gradients[\"dWax\"].copy()"
        )));
    }
    Ok((compared, cover(&sets, &CLIPPED, 2)))
}
