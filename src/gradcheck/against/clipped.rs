//! A reader's `clip`: the gradients before it and after it.

use super::arrays::{Cause, Given, Mistakes, cover, short};
use super::file::{CLIPPED, LIMITS, Reader};
use crate::error::Result;
use crate::gradcheck::compare::{Comparison, compare, largest, norm};

/// A mistake in `clip`: in words, `{m}` being the limit, and what becomes of an entry.
pub(super) type ClipMistake = (&'static str, fn(f64, f64) -> f64);

pub(super) const CLIP_MISTAKES: &[ClipMistake] = &[
    ("clipped from above only, at {m}", |g, m| g.min(m)),
    ("clipped from below only, at -{m}", |g, m| g.max(-m)),
    ("every entry is -{m}: np.clip has its bounds exchanged", |_, m| -m),
    ("clipped to 0 from below, and to {m}", |g, m| g.clamp(0., m)),
    ("clipped to 0 from above, and to -{m}", |g, m| g.clamp(-m, 0.)),
    ("entries beyond {m} are set to 0", |g, m| if g.abs() > m { 0. } else { g }),
    (
        "entries beyond {m}, negative ones too, are set to {m}",
        |g, m| {
            if g.abs() > m { m } else { g }
        },
    ),
    ("its entries have lost their sign, and are clipped at {m}", |g, m| g.abs().min(m)),
    ("its entries have the wrong sign, and are clipped at {m}", |g, m| (-g).clamp(-m, m)),
];

fn clamped(g: &[f64], max: f64) -> Vec<f64> {
    g.iter().map(|g| g.clamp(-max, max)).collect()
}

/// A gradient before and after `clip`.
struct Clipped {
    /// Its position in [`CLIPPED`].
    at: usize,
    before: Vec<f64>,
    after: Vec<f64>,
}

/// Compares the gradients after `clip` with those before, clipped. Returns the comparisons, with the
/// arrays if they are to be kept `whole`, and the causes of wrong ones.
pub(super) fn check(file: &mut Reader, whole: bool) -> Result<(Vec<Comparison>, Vec<Vec<Cause>>)> {
    let limit = LIMITS.into_iter().find(|name| file.has(name)).unwrap_or("max_value");
    let max = file.number(limit)?;
    if !(max > 0. && max.is_finite()) {
        return Err(file.error(format!("{limit} is {max}; it must be above 0")));
    }
    let (mut arrays, mut compared, mut wrong) = (vec![], vec![], vec![]);
    for (at, name) in file.those(&CLIPPED) {
        let before = name.trim_end_matches("_clipped");
        let shape = file.header(before)?.shape.clone();
        let is_single = file.is_single(name) || file.is_single(before);
        let (before, after) = (file.values(before, &shape)?, file.values(name, &shape)?);
        let (right, bounds) = (clamped(&before, max), [if is_single { 1e-6 } else { 1e-12 }, 0.]);
        let mut comparison = compare(name, shape, [&after, &right], bounds);
        if !comparison.agree {
            wrong.push((arrays.len(), Given::new(after.clone(), &right, false, bounds)));
        }
        comparison.whole = whole.then(|| [after.clone(), right]);
        compared.push(comparison);
        arrays.push(Clipped { at, before, after });
    }
    if arrays.is_empty() {
        return Err(file.error(format!("it has {limit}, but none of {}", CLIPPED.join(", "))));
    }
    if wrong.is_empty() && largest(arrays.iter().flat_map(|array| &array.before)) <= max {
        return Err(file.error(format!(
            "no entry is beyond {limit}, {max}, before clip: there is nothing to see; clip works in \
             place, so save copies of the gradients from before, gradients[\"dWax\"].copy()"
        )));
    }
    let mistakes =
        wrong.iter().map(|(n, given)| (arrays[*n].at, mistakes(&arrays, *n, given, limit, max)));
    let mistakes: Mistakes = mistakes.collect();
    let explanations = if mistakes.is_empty() { vec![] } else { cover(&mistakes, &CLIPPED, 2) };
    Ok((compared, explanations))
}

/// The mistakes that give the array `n`; the limit `max` has the name `limit`.
fn mistakes(arrays: &[Clipped], n: usize, given: &Given, limit: &str, max: f64) -> Vec<String> {
    let before = &arrays[n].before;
    let gives =
        |f: &dyn Fn(f64) -> f64| given.is(&before.iter().map(|&g| f(g)).collect::<Vec<_>>());
    let entries = CLIP_MISTAKES.iter().filter(|(_, f)| gives(&|g| f(g, max)));
    let mut names: Vec<String> =
        entries.map(|(what, _)| what.replace("{m}", &max.to_string())).collect();
    let all = || arrays.iter().flat_map(|array| &array.before);
    let scaled = |size: f64| gives(&|g| if size > max { g * (max / size) } else { g });
    // Another limit, which some array shows.
    let other = largest(arrays.iter().flat_map(|array| &array.after));
    let shows = |array: &Clipped| {
        array.before != array.after && clamped(&array.before, other) == array.after
    };
    let is_other = other != max && arrays.iter().any(shows) && given.is(&clamped(before, other));
    for (what, is_made) in [
        (
            "it is not clipped: np.clip returns a new array, unless it has out=gradient",
            gives(&|g| g),
        ),
        (
            "it is scaled to the norm {limit}, not clipped entry by entry",
            scaled(norm(before.iter().copied())),
        ),
        (
            "all are scaled to the norm {limit} together, not clipped entry by entry",
            scaled(norm(all().copied())),
        ),
        ("it is scaled by its largest entry, not clipped entry by entry", scaled(largest(before))),
        ("it is zero", gives(&|_| 0.)),
        ("the limit is {other}, not {limit}", is_other),
    ] {
        if is_made {
            names.push(what.replace("{limit}", limit).replace("{other}", &short(other)));
        }
    }
    let is_swapped = |other: &&Clipped| {
        other.at != arrays[n].at
            && other.before.len() == before.len()
            && given.is(&clamped(&other.before, max))
    };
    let swapped = arrays.iter().filter(is_swapped);
    names.extend(swapped.map(|other| format!("it holds {}", CLIPPED[other.at])));
    names
}
