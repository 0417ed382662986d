//! The arrays of a reader's file under the notebook's names: which there are, their shapes, and what
//! is wrong with those that cannot be used.

use super::arrays::COMPARED;
use super::npz::{Archive, Header};
use crate::error::{Error, Result};
use crate::gradcheck::problem::{Problem, Sequence, Sizes};
use crate::reference::Parameters;
use crate::text::excerpt;
use std::path::Path;

/// The arrays of a backward pass, and with `indices` and `seed` those of a sample.
const PARAMETERS: [&str; 5] = ["Wax", "Waa", "Wya", "b", "by"];
const INPUTS: [&str; 3] = ["a_prev", "X", "Y"];
const SAMPLE: [&str; 2] = ["indices", "seed"];
/// The gradients after `clip`, and its limit.
pub(super) const CLIPPED: [&str; 5] =
    ["dWax_clipped", "dWaa_clipped", "dWya_clipped", "db_clipped", "dby_clipped"];
pub(super) const LIMITS: [&str; 3] = ["max_value", "maxValue", "mValue"];

/// How dictionaries and lists are saved.
const SAVE: &str = "write np.savez(file, **parameters, **gradients, X=x, Y=Y, a_prev=a_prev)";

/// A file, its headers read.
pub(super) struct Reader<'a> {
    path: &'a Path,
    archive: Archive,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// [`Error::NumpyFile`] if it cannot be read or an array has an unknown name.
    pub fn open(path: &'a Path) -> Result<Self> {
        let reader = Self { path, archive: Archive::open(path)? };
        let known = [&PARAMETERS[..], &INPUTS, &COMPARED, &SAMPLE, &CLIPPED, &LIMITS].concat();
        for (name, header) in &reader.archive.headers {
            if known.contains(&&name[..]) {
                continue;
            }
            let is_numbered = name.strip_prefix("arr_").is_some_and(|n| n.parse::<u32>().is_ok());
            let same = known.iter().find(|known| known.eq_ignore_ascii_case(name));
            let name = &excerpt(name);
            return Err(reader.error(match (same, name.as_str()) {
                _ if header.number() == "O" && header.shape.is_empty() => {
                    format!("{name} is a dictionary; {SAVE}")
                }
                _ if is_numbered => format!("it has arrays without names, such as {name}; {SAVE}"),
                (Some(same), _) => format!("it has an array {name}; did you mean {same}?"),
                (_, "ba" | "dba") => format!(
                    "{name} is the name in another notebook, Building a RNN step by step; here it \
                     is {}",
                    name.replace("ba", "b")
                ),
                _ => {
                    format!("it has an array {name}; the notebook's are {}", known[..16].join(", "))
                }
            }));
        }
        Ok(reader)
    }

    pub fn has(&self, name: &str) -> bool {
        self.archive.headers.contains_key(name)
    }

    /// Those of `names` that it has, with their positions.
    pub fn those(&self, names: &[&'static str]) -> Vec<(usize, &'static str)> {
        names.iter().copied().enumerate().filter(|(_, name)| self.has(name)).collect()
    }

    pub fn error(&self, problem: String) -> Error {
        Error::numpy_file(self.path, problem)
    }

    pub fn header(&self, name: &str) -> Result<&Header> {
        self.archive.headers.get(name).ok_or_else(|| {
            let needed = match SAMPLE.contains(&name) {
                true => [&PARAMETERS[..], &SAMPLE].concat().join(", "),
                false => [&PARAMETERS[..], &INPUTS].concat().join(", ") + " and the gradients",
            };
            self.error(format!("it has no array {name}; it needs {needed}"))
        })
    }

    /// Whether the array has numbers of single precision.
    pub fn is_single(&self, name: &str) -> bool {
        self.archive.headers.get(name).is_some_and(|header| header.number() == "f4")
    }

    /// Checks that the array has this shape; (n), (n, 1) and (1, n) are the same.
    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<()> {
        let found = &self.header(name)?.shape;
        let trimmed =
            |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        if trimmed(found) == trimmed(shape) {
            return Ok(());
        }
        let is_turned = found.iter().rev().eq(shape);
        let hint = if is_turned { ": it is transposed" } else { "" };
        Err(self.error(format!("{name} is {}, not {}{hint}", tuple(found), tuple(shape))))
    }

    /// The values of an array of this shape.
    pub fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        self.check_shape(name, shape)?;
        if self.header(name)?.len() == 0 {
            return Err(self.error(format!("{name} is empty")));
        }
        self.archive.values(self.path, name)
    }

    fn finite(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let values = self.values(name, shape)?;
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.error(format!("{name} has the value {value}"))),
            None => Ok(values),
        }
    }

    /// Indices from `lowest` to `n_x - 1`, at most `most`; -1 is `None`.
    pub fn indices(
        &mut self,
        name: &str,
        lowest: f64,
        n_x: usize,
        most: usize,
    ) -> Result<Vec<Option<usize>>> {
        let header = self.header(name)?;
        let (length, shape) = (header.len(), header.shape.clone());
        if header.number() == "O" {
            let advice = "an array with None does; give it numbers, and write -1 for None";
            return Err(self.error(format!("{name} holds Python objects, as {advice}")));
        }
        if shape.iter().filter(|n| **n != 1).count() > 1 && shape.contains(&n_x) {
            let advice = "give the index of each step, as np.argmax does, and -1 for None";
            return Err(self.error(format!("{name} is {}: one-hot; {advice}", tuple(&shape))));
        }
        if length > most {
            return Err(self.error(format!("{name} has {length} entries; at most {most} are read")));
        }
        let values = self.values(name, &[length])?;
        let is_index = |v: &f64| v.fract() == 0. && (lowest..n_x as f64).contains(v);
        let index = |(t, v): (usize, &f64)| match is_index(v) {
            true => Ok((*v >= 0.).then_some(*v as usize)),
            false if v.is_nan() => {
                Err(self.error(format!("{name}[{t}] is NaN; write -1 for None")))
            }
            false => {
                let range = format!("an index from {lowest} to {}", n_x - 1);
                Err(self.error(format!("{name}[{t}] is {v}, not {range}")))
            }
        };
        values.iter().enumerate().map(index).collect()
    }

    /// n_a and n_x, after b and by, with which the weights must agree.
    fn sizes(&self, steps: usize) -> Result<Sizes> {
        let (hidden, vocabulary) = (self.header("b")?.len(), self.header("by")?.len());
        let sizes = Sizes { hidden, vocabulary, steps, batch: 1 };
        for (name, shape) in PARAMETERS.iter().zip(sizes.shapes()) {
            self.check_shape(name, &shape)?;
        }
        sizes.check().map_err(|e| self.error(e.to_string()))?;
        Ok(sizes)
    }

    fn parameters(&mut self, sizes: Sizes) -> Result<Parameters<f64>> {
        let shapes = sizes.shapes();
        let mut read = |i: usize| self.finite(PARAMETERS[i], &shapes[i]);
        let flat = [read(0)?, read(1)?, read(2)?, read(3)?, read(4)?];
        let flat = flat.each_ref().map(Vec::as_slice);
        Ok(Parameters::from_flat(sizes.hidden, sizes.vocabulary, flat))
    }

    /// The parameters, sequence and first state of a backward pass.
    pub fn problem(&mut self) -> Result<Problem> {
        let mut sizes = self.sizes(1)?;
        let (n_a, n_x) = (sizes.hidden, sizes.vocabulary);
        let x = self.indices("X", -1., n_x, Sizes::MAX_STEPS)?;
        let y = self.indices("Y", 0., n_x, Sizes::MAX_STEPS)?;
        if x.len() != y.len() {
            return Err(self.error(format!("X has {} steps and Y has {}", x.len(), y.len())));
        }
        sizes.steps = x.len();
        sizes.check().map_err(|e| self.error(e.to_string()))?;
        for (i, name) in self.those(&COMPARED) {
            self.check_shape(name, &compared_shape(&sizes, i))?;
        }
        let a_prev = self.finite("a_prev", &[n_a, 1])?;
        let sequences = vec![Sequence { x, y: y.into_iter().flatten().collect() }];
        Ok(Problem { parameters: self.parameters(sizes)?, sequences, a0: vec![a_prev] })
    }

    /// The parameters of a sample, from the zero state.
    pub fn sample_problem(&mut self) -> Result<Problem> {
        let sizes = self.sizes(1)?;
        Problem::new(self.parameters(sizes)?, &[vec![]], vec![vec![0.; sizes.hidden]])
    }

    /// One number.
    pub fn number(&mut self, name: &str) -> Result<f64> {
        Ok(self.values(name, &[])?[0])
    }
}

/// The shape of an array of [`COMPARED`], as the notebook has it.
pub(super) fn compared_shape(sizes: &Sizes, i: usize) -> Vec<usize> {
    match i {
        0..=2 => sizes.shapes()[i].clone(),
        4 => vec![sizes.vocabulary, 1],
        6 => vec![],
        _ => vec![sizes.hidden, 1],
    }
}

/// A shape as NumPy prints it.
fn tuple(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    match &sizes[..] {
        [one] => format!("({one},)"),
        sizes => format!("({})", sizes.join(", ")),
    }
}
