//! Gradients side by side: each of the ways back, and central differences, compared in pairs.
//!
//! Four answers to one question. The three ways of [`Backprop`] derive the gradient of the loss
//! of a batch; central differences only ever run forward,
//!
//! ```text
//! dL/dw = (L(w + h) - L(w - h)) / 2h + O(h^2)
//! ```
//!
//! and so know nothing of any derivation. The forward pass under them is written out here a
//! scalar at a time, in f64, and shares no code with the engines. They are in f64 for a check in
//! f32 too: at the very same parameters, which f64 holds exactly, since the differences of an f32
//! loss have no correct digits left below 1e-3.
//!
//! # The comparison
//!
//! For two gradients g1, g2 of a tensor: the largest absolute difference and where it sits, the
//! cosine of the angle between them, and what is held against the [`bound`]:
//!
//! ```text
//! relative error = ||g1 - g2|| / (||g1|| + ||g2||)        0 where both are zero, 1 where one is
//! ```
//!
//! Anything that is not finite fails. The initial state `a0` counts as a sixth tensor.
//!
//! ```
//! use candle_core::{DType, Device};
//! use char_rnn::gradcheck::{Case, Options, Sizes, check};
//!
//! let sizes = Sizes { hidden: 5, vocabulary: 4, steps: 3, names: 2 };
//! let case = Case::random(sizes, 1)?;
//! let checked = check(&case, DType::F64, &Device::Cpu, &Options::default())?;
//! assert!(checked.report.agree);
//! # Ok::<(), char_rnn::Error>(())
//! ```

use crate::batch::{Batch, NONE};
use crate::bptt::{Bptt, Parameters};
use crate::bptt_tensors;
use crate::checkpoint::Saved;
use crate::corpus::Corpus;
use crate::engine::Backprop;
use crate::error::{Error, Result};
use crate::kernels::Element;
use crate::model::{CharRnnState, Config, PARAMETERS, char_rnn};
use crate::ops::{Float, with_float};
use crate::plot::{HeatMap, LineChart, Picture, Scale, Series, heat_maps};
use crate::random::Randomness;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use serde::Serialize;

/// The tensors whose gradients are compared: the parameters and the initial state.
pub const TENSORS: [&str; 6] = ["wax", "waa", "wya", "b", "by", "a0"];

/// What central differences are called among the ways.
pub const DIFFERENCES: &str = "differences";

/// The step h of central differences: near the lowest point of their error in f64, where the
/// O(h^2) of the formula and the rounding of the loss, O(eps / h), meet.
pub const STEP: f64 = 1e-5;

/// The step sizes of [`step_sizes`]: half decades, from 1 to 1e-12.
const STEPS: std::ops::RangeInclusive<i32> = 0..=24;

/// The most entries of a tensor whose differences are taken unless asked otherwise.
const ENTRIES: usize = 500;

/// What central differences may cost unless asked otherwise, in multiplications: seconds.
const WORK: usize = 4_000_000_000;

/// The largest case that is accepted, in multiplications of one forward pass: about a minute by
/// all ways together.
const LARGEST: usize = 200_000_000;

/// The largest relative error with which two ways agree: 1e-12 in f64 and 1e-5 in f32 between
/// two derived gradients. Against differences 1e-7 in f64; in f32 1e-5 again, since differences
/// (which are in f64) add nothing to the error of the derived side.
pub fn bound(dtype: DType, against_differences: bool) -> f64 {
    match (dtype, against_differences) {
        (DType::F64, false) => 1e-12,
        (DType::F64, true) => 1e-7,
        _ => 1e-5,
    }
}

/// The sizes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// n_a: hidden units.
    pub hidden: usize,
    /// n_x = n_y: characters, the end of a name included.
    pub vocabulary: usize,
    /// T: the steps of the longest name, its end included.
    pub steps: usize,
    /// B: names side by side.
    pub names: usize,
}

impl Sizes {
    /// Refuses sizes that nothing can be computed for, or not in a reasonable time.
    ///
    /// # Errors
    /// [`Error::Setting`] names the flag of `char-rnn gradcheck`.
    pub fn check(&self) -> Result<()> {
        for (name, value, low, high) in [
            ("--hidden", self.hidden, 1, 2048),
            ("--vocabulary", self.vocabulary, 2, 10_000),
            ("--steps", self.steps, 1, 1001),
            ("--batch", self.names, 1, 4096),
        ] {
            if !(low..=high).contains(&value) {
                let rule = format!("it must be from {low} to {high}");
                return Err(Error::Setting { name, value: value.to_string(), rule });
            }
        }
        if self.forward_work() > LARGEST {
            return Err(Error::Setting {
                name: "--batch",
                value: self.names.to_string(),
                rule: format!(
                    "{} hidden units, {} characters and {} steps make a case too large to check; \
                     take less of any",
                    self.hidden, self.vocabulary, self.steps
                ),
            });
        }
        Ok(())
    }

    /// The multiplications of a forward pass, at most.
    fn forward_work(&self) -> usize {
        self.steps * self.names * self.hidden * (self.hidden + self.vocabulary)
    }

    /// How many entries of each tensor differences are taken of, unless asked otherwise: all up
    /// to 500, fewer where `passes` times that would take long, and never fewer than 10.
    fn default_entries(&self, passes: usize) -> usize {
        let each = 2 * TENSORS.len() * passes * self.forward_work();
        (WORK / each.max(1)).clamp(10, ENTRIES)
    }
}

/// A network, a batch and an initial state: where the gradients are taken.
#[derive(Debug, Clone)]
pub struct Case {
    parameters: Parameters<f64>,
    batch: Batch,
    a0: Vec<f64>,
}

impl Case {
    /// The case of these arguments; `a0` is (B, n_a).
    ///
    /// # Errors
    /// Where the sizes do not fit each other, or an index is outside the vocabulary.
    pub fn new(parameters: Parameters<f64>, batch: Batch, a0: Vec<f64>) -> Result<Self> {
        crate::ops::check_indices(batch.x(), parameters.n_x)?;
        crate::ops::check_indices(batch.y(), parameters.n_x)?;
        if batch.size() == 0 || a0.len() != batch.size() * parameters.n_a {
            let (names, n_a) = (batch.size(), parameters.n_a);
            return Err(candle_core::Error::Msg(format!(
                "a0 has {} values, not those of {names} names and {n_a} hidden units",
                a0.len()
            ))
            .into());
        }
        Ok(Self { parameters, batch, a0 })
    }

    /// Random parameters, names and initial state, the same for the same seed.
    ///
    /// The parameters are far larger than those that training begins with: pre-activations have a
    /// standard deviation of about 1.5, so that tanh bends and `1 - a^2` is anything from 0 to 1,
    /// and each state depends on the earlier ones. Of the names, the first has all the steps, the
    /// second half of them, the others any number: the batch is padded.
    ///
    /// # Errors
    /// As [`Sizes::check`].
    pub fn random(sizes: Sizes, seed: u64) -> Result<Self> {
        sizes.check()?;
        let Sizes { hidden, vocabulary, steps, names } = sizes;
        let mut normal = Randomness::Seed(seed).normals();
        let mut parameters = Parameters::zeros(hidden, vocabulary);
        let by_row = 1. / (hidden as f64).sqrt();
        let deviations = [1., by_row, 2. * by_row, 0.5, 0.5];
        for ((_, values), deviation) in parameters.tensors_mut().into_iter().zip(deviations) {
            values.fill_with(|| normal() * deviation);
        }
        let mut a0 = vec![0.; names * hidden];
        a0.fill_with(|| normal().tanh());

        let mut uniforms = Randomness::Seed(seed).uniforms(0);
        let mut below = |limit: usize| (uniforms.draw() * limit as f64) as usize;
        let names: Vec<Vec<u32>> = (0..names)
            .map(|i| match i {
                0 => steps - 1,
                1 => (steps - 1) / 2,
                _ => below(steps),
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|length| (0..length).map(|_| 1 + below(vocabulary - 1) as u32).collect())
            .collect();
        Self::new(parameters, Batch::new(names.iter().map(Vec::as_slice)), a0)
    }

    /// A trained network, on `names` of the list `corpus`, which ones `seed` chooses, from the
    /// zero state, as at the start of a name.
    ///
    /// # Errors
    /// [`Error::UnknownCharacter`] where any name of the list has a character that the model does
    /// not know; else as [`Sizes::check`].
    pub fn trained(saved: &Saved, corpus: &Corpus, names: usize, seed: u64) -> Result<Self> {
        let Config { vocabulary, hidden } = saved.model.config();
        let encoded = corpus.names().iter().map(|name| saved.vocabulary.encode(name));
        let mut encoded = encoded.collect::<Result<Vec<_>>>()?;
        Randomness::Seed(seed).shuffle(&mut encoded);
        encoded.truncate(names);
        let steps = 1 + encoded.iter().map(Vec::len).max().unwrap_or(0);
        Sizes { hidden, vocabulary, steps, names: encoded.len().min(names) }.check()?;

        let mut parameters = Parameters::zeros(hidden, vocabulary);
        for ((_, values), (_, tensor)) in
            parameters.tensors_mut().into_iter().zip(saved.model.parameters())
        {
            values.copy_from_slice(&to_f64(tensor)?);
        }
        let a0 = vec![0.; encoded.len() * hidden];
        Self::new(parameters, Batch::new(encoded.iter().map(Vec::as_slice)), a0)
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters<f64> {
        &self.parameters
    }

    /// The names.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The initial state, (B, n_a).
    pub fn a0(&self) -> &[f64] {
        &self.a0
    }

    /// The sizes.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            hidden: self.parameters.n_a,
            vocabulary: self.parameters.n_x,
            steps: self.batch.steps(),
            names: self.batch.size(),
        }
    }

    /// The shapes of [`TENSORS`].
    pub fn shapes(&self) -> [Vec<usize>; 6] {
        let Sizes { hidden, vocabulary, names, .. } = self.sizes();
        let config = Config { vocabulary, hidden };
        TENSORS.map(|name| if name == "a0" { vec![names, hidden] } else { config.shape(name) })
    }

    /// The values of the tensor at this place of [`TENSORS`], to change.
    fn tensor_mut(&mut self, index: usize) -> &mut [f64] {
        match index {
            0 => &mut self.parameters.wax,
            1 => &mut self.parameters.waa,
            2 => &mut self.parameters.wya,
            3 => &mut self.parameters.b,
            4 => &mut self.parameters.by,
            _ => &mut self.a0,
        }
    }

    /// The same case at the nearest values that `dtype` has.
    fn rounded(&self, dtype: DType) -> Self {
        let mut case = self.clone();
        if dtype == DType::F32 {
            for index in 0..TENSORS.len() {
                case.tensor_mut(index).iter_mut().for_each(|value| *value = *value as f32 as f64);
            }
        }
        case
    }

    /// The gradients by one of the ways back, computed in `dtype` on `device`.
    ///
    /// # Errors
    /// Where the way does not run on the device, or `dtype` is neither `F32` nor `F64`.
    pub fn derived(&self, way: Backprop, dtype: DType, device: &Device) -> Result<Gradients> {
        let values = match way {
            Backprop::Hand if device.is_cpu() => self.by_hand(dtype)?,
            way => self.by_tensors(way, dtype, device)?,
        };
        Ok(Gradients { way: way.to_string(), values, entries: None })
    }

    /// Candle's backward pass, through primitive ops or through the fused ones, or the hand-derived
    /// one on candle's tensors. A tensor that a graph does not reach has a gradient of zero.
    fn by_tensors(
        &self,
        way: Backprop,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<[Vec<f64>; 6]> {
        let Sizes { hidden, vocabulary, names, .. } = self.sizes();
        let config = Config { vocabulary, hidden };
        let variable = |values: &[f64], shape: Vec<usize>| {
            let tensor = Tensor::from_slice(values, shape, &Device::Cpu)?;
            Var::from_tensor(&tensor.to_dtype(dtype)?.to_device(device)?)
        };
        let vars = VarMap::new();
        for (name, values) in self.parameters.tensors() {
            let var = variable(values, config.shape(name))?;
            vars.data().lock().expect("nobody else has this map").insert(name.to_string(), var);
        }
        let a0 = variable(&self.a0, vec![names, hidden])?;
        let model = char_rnn(config, VarBuilder::from_varmap(&vars, dtype, device))?;
        let start = CharRnnState::new(a0.as_tensor().clone());
        let forward = match way {
            Backprop::Unrolled => model.loss_unrolled(&self.batch, &start)?,
            Backprop::Autograd => model.loss(&self.batch, &start)?,
            Backprop::Hand => {
                let back = bptt_tensors::loss_and_gradients(&model, &self.batch, &start)?;
                let [wax, waa, wya, b, by] = back.parameters.each_ref().map(to_f64);
                return Ok([wax?, waa?, wya?, b?, by?, to_f64(&back.start)?]);
            }
        };
        let gradients = forward.loss.backward()?;
        let mut values: [Vec<f64>; 6] = Default::default();
        let vars = vars.data().lock().expect("nobody else has this map");
        let variables = PARAMETERS.iter().map(|&name| &vars[name]).chain([&a0]);
        for (values, var) in values.iter_mut().zip(variables) {
            *values = match gradients.get(var) {
                Some(gradient) => to_f64(gradient)?,
                None => vec![0.; var.elem_count()],
            };
        }
        Ok(values)
    }

    fn by_hand(&self, dtype: DType) -> candle_core::Result<[Vec<f64>; 6]> {
        Ok(with_float!(dtype, "hand", F => self.by_hand_in::<F>()))
    }

    fn by_hand_in<F: Float>(&self) -> [Vec<f64>; 6] {
        let narrow = |values: &[f64]| -> Vec<F> {
            values.iter().map(|&value| <F as Element>::from_f64(value)).collect()
        };
        let wide =
            |values: &[F]| -> Vec<f64> { values.iter().map(|&v| Element::to_f64(v)).collect() };
        let Sizes { hidden, vocabulary, steps, names } = self.sizes();
        let mut parameters = Parameters::<F>::zeros(hidden, vocabulary);
        for ((_, to), (_, from)) in
            parameters.tensors_mut().into_iter().zip(self.parameters.tensors())
        {
            to.copy_from_slice(&narrow(from));
        }
        let mut bptt = Bptt::new(hidden, vocabulary);
        let (x, y) = (self.batch.x(), self.batch.y());
        bptt.loss_and_gradients(&parameters, x, y, steps, names, &narrow(&self.a0), F::ONE);
        let [wax, waa, wya, b, by] = bptt.gradients().tensors().map(|(_, values)| wide(values));
        [wax, waa, wya, b, by, wide(bptt.gradient_of_initial_state())]
    }

    /// The losses of the characters one by one, in nats, name by name: the equations (1) to (4)
    /// of [`crate::bptt`] as they stand.
    fn losses(&self, losses: &mut Vec<f64>) {
        let Parameters { n_a, n_x, wax, waa, wya, b, by } = &self.parameters;
        let dot = |row: &[f64], a: &[f64]| row.iter().zip(a).map(|(w, a)| w * a).sum::<f64>();
        let names = self.batch.size();
        losses.clear();
        let (mut now, mut z) = (vec![0.; *n_a], vec![0.; *n_x]);
        for i in 0..names {
            let mut a = self.a0[i * n_a..][..*n_a].to_vec();
            for row in (i..names * self.batch.steps()).step_by(names) {
                let (x, y) = (self.batch.x()[row], self.batch.y()[row]);
                if y == NONE {
                    break;
                }
                for (r, now) in now.iter_mut().enumerate() {
                    let input = if x == NONE { 0. } else { wax[r * n_x + x as usize] };
                    *now = (input + dot(&waa[r * n_a..][..*n_a], &a) + b[r]).tanh();
                }
                std::mem::swap(&mut a, &mut now);
                for (c, z) in z.iter_mut().enumerate() {
                    *z = dot(&wya[c * n_a..][..*n_a], &a) + by[c];
                }
                let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = z.iter().map(|z| (z - largest).exp()).sum();
                losses.push(sum.ln() + largest - z[y as usize]);
            }
        }
    }

    /// Central differences of the loss with the step `step`, at `entries` of each tensor.
    pub fn differences(&self, step: f64, entries: Entries) -> Gradients {
        let mut case = self.clone();
        let (mut above, mut below) = (Vec::new(), Vec::new());
        let mut values: [Vec<f64>; 6] = Default::default();
        for (index, (values, at)) in values.iter_mut().zip(&entries.0).enumerate() {
            values.extend(at.iter().map(|&at| {
                let middle = case.tensor_mut(index)[at];
                let (high, low) = (middle + step, middle - step);
                case.tensor_mut(index)[at] = high;
                case.losses(&mut above);
                case.tensor_mut(index)[at] = low;
                case.losses(&mut below);
                case.tensor_mut(index)[at] = middle;
                // Subtracted character by character: the sums are larger, and so are their
                // rounding errors. And divided by the step that was really made.
                let change: f64 = above.iter().zip(&below).map(|(a, b)| a - b).sum();
                change / (high - low)
            }));
        }
        Gradients { way: DIFFERENCES.to_string(), values, entries: Some(entries) }
    }

    /// Entries of each tensor: all where there are no more than `limit`, else so many, chosen by
    /// `seed`, each as likely as any other.
    pub fn entries(&self, limit: usize, seed: u64) -> Entries {
        Entries(self.shapes().map(|shape| {
            let mut at: Vec<usize> = (0..shape.iter().product()).collect();
            if at.len() > limit {
                Randomness::Seed(seed).shuffle(&mut at);
                at.truncate(limit);
                at.sort_unstable();
            }
            at
        }))
    }
}

/// The values of a float tensor, row by row; f32 becomes f64 exactly.
fn to_f64(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// For each of [`TENSORS`], the places of some of its entries, counted row by row and ascending.
#[derive(Debug, Clone)]
pub struct Entries([Vec<usize>; 6]);

/// The gradients of [`TENSORS`] by one way.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// Its name.
    pub way: String,
    /// Row by row, or the `entries` alone.
    pub values: [Vec<f64>; 6],
    /// The entries that `values` holds; all where `None`.
    pub entries: Option<Entries>,
}

impl Gradients {
    /// The values of a tensor at `at`, or all.
    fn at(&self, tensor: usize, at: Option<&Entries>) -> Vec<f64> {
        let values = &self.values[tensor];
        match (at, &self.entries) {
            (Some(at), None) => at.0[tensor].iter().map(|&at| values[at]).collect(),
            _ => values.clone(),
        }
    }
}

/// Two gradients of one tensor. Written as JSON, a number that is not finite is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Its name.
    pub tensor: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How many of its entries were compared.
    pub compared: usize,
    /// The largest |g1 - g2|.
    pub largest_difference: f64,
    /// Where it sits.
    pub at: Vec<usize>,
    /// g1 and g2 there.
    pub values: [f64; 2],
    /// ||g1 - g2|| / (||g1|| + ||g2||).
    pub relative_error: f64,
    /// Of the angle between g1 and g2; 1 where both are zero, 0 where one is.
    pub cosine: f64,
    /// Whether the relative error is within the bound.
    pub agree: bool,
}

/// Two ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// Their names.
    pub ways: [String; 2],
    /// The largest relative error that passes.
    pub bound: f64,
    /// One for each of [`TENSORS`].
    pub tensors: Vec<Comparison>,
    /// Whether all agree.
    pub agree: bool,
}

impl Pair {
    /// Compares two gradients of `case` with each other.
    ///
    /// # Panics
    /// Where they are not gradients of this case, or each has entries of its own.
    pub fn of(case: &Case, first: &Gradients, second: &Gradients, bound: f64) -> Self {
        let entries = match (&first.entries, &second.entries) {
            (Some(_), Some(_)) => panic!("one of the gradients must have all entries"),
            (first, second) => first.as_ref().or(second.as_ref()),
        };
        let compare = |(index, shape)| {
            let (g1, g2) = (first.at(index, entries), second.at(index, entries));
            compare(TENSORS[index], shape, [&g1, &g2], entries.map(|e| &e.0[index][..]), bound)
        };
        let tensors: Vec<_> = case.shapes().into_iter().enumerate().map(compare).collect();
        let agree = tensors.iter().all(|tensor| tensor.agree);
        Self { ways: [first.way.clone(), second.way.clone()], bound, tensors, agree }
    }

    /// The names of the tensors that do not agree.
    pub fn disagreeing(&self) -> Vec<&'static str> {
        self.tensors.iter().filter(|tensor| !tensor.agree).map(|tensor| tensor.tensor).collect()
    }

    /// The largest relative error, in bounds; infinite where a gradient is not finite.
    fn width(&self) -> f64 {
        let errors = self.tensors.iter().map(|tensor| tensor.relative_error / self.bound);
        errors.fold(0., |most, error| if error.is_nan() { f64::INFINITY } else { error.max(most) })
    }

    fn is_whole(&self) -> bool {
        let whole = |tensor: &Comparison| tensor.compared == tensor.shape.iter().product::<usize>();
        self.tensors.iter().all(whole)
    }
}

fn compare(
    tensor: &'static str,
    shape: Vec<usize>,
    [g1, g2]: [&[f64]; 2],
    entries: Option<&[usize]>,
    bound: f64,
) -> Comparison {
    assert_eq!(g1.len(), g2.len(), "the gradients of {tensor} have different shapes");
    // The first entry that is not finite, or else the one with the largest difference.
    let difference = |at: usize| (g1[at] - g2[at]).abs();
    let largest = (0..g1.len()).find(|&at| !difference(at).is_finite()).unwrap_or_else(|| {
        (0..g1.len()).fold(0, |best, at| if difference(at) > difference(best) { at } else { best })
    });
    let flat = entries.map_or(largest, |entries| entries[largest]);
    let (relative_error, cosine) = errors(g1, g2);
    Comparison {
        tensor,
        compared: g1.len(),
        largest_difference: difference(largest),
        at: unravelled(flat, &shape),
        values: [g1[largest], g2[largest]],
        relative_error,
        cosine,
        // Not `!(error > bound)`: a NaN must fail.
        agree: relative_error <= bound,
        shape,
    }
}

/// The relative error and the cosine; NaN where a value is not finite.
fn errors(g1: &[f64], g2: &[f64]) -> (f64, f64) {
    // Both are divided by the largest entry: a tiny gradient must not vanish when it is squared,
    // for then it would agree with anything, nor a huge one overflow.
    let largest = g1.iter().chain(g2).fold(0., |most: f64, g| g.abs().max(most));
    if !g1.iter().chain(g2).all(|g| g.is_finite()) {
        return (f64::NAN, f64::NAN);
    }
    if largest == 0. {
        return (0., 1.);
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| (value / largest).powi(2)).sum::<f64>().sqrt()
    };
    let (n1, n2) = (norm(&mut g1.iter().copied()), norm(&mut g2.iter().copied()));
    let apart = norm(&mut g1.iter().zip(g2).map(|(g1, g2)| g1 - g2));
    let product: f64 = g1.iter().zip(g2).map(|(g1, g2)| (g1 / largest) * (g2 / largest)).sum();
    let cosine = if n1 == 0. || n2 == 0. { 0. } else { (product / n1 / n2).clamp(-1., 1.) };
    (apart / (n1 + n2), cosine)
}

/// The index along each side of the entry `flat` of a tensor of this shape.
fn unravelled(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut at: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&side| {
            let along = flat % side;
            flat /= side;
            along
        })
        .collect();
    at.reverse();
    at
}

/// What may be chosen about a check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The most entries of each tensor of which differences are taken; by default 500, and fewer
    /// for a network so large that they would take more than seconds.
    pub entries: Option<usize>,
    /// Chooses the entries where not all are taken.
    pub seed: u64,
}

/// The answer of a check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The number type of the derived gradients: `f32` or `f64`.
    pub dtype: &'static str,
    /// Where they were computed.
    pub device: String,
    /// The sizes of the case.
    pub sizes: Sizes,
    /// The step of the central differences.
    pub step: f64,
    /// Each way with each other.
    pub pairs: Vec<Pair>,
    /// Whether every comparison is within its bound.
    pub agree: bool,
}

/// A check: the report, and what it is about.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The answer.
    pub report: Report,
    /// By each way, in the order in which pairs name them.
    pub gradients: Vec<Gradients>,
}

/// Finds the gradients of `case`, rounded to `dtype`, by every way and by central differences, and compares each with each.
///
/// # Errors
/// Where `dtype` is neither `F32` nor `F64`, or the device fails.
pub fn check(case: &Case, dtype: DType, device: &Device, options: &Options) -> Result<Checked> {
    let case = case.rounded(dtype);
    let limit = options.entries.unwrap_or(case.sizes().default_entries(1));
    let mut gradients = Vec::new();
    for way in Backprop::ALL {
        gradients.push(case.derived(way, dtype, device)?);
    }
    gradients.push(case.differences(STEP, case.entries(limit, options.seed)));

    let mut pairs = Vec::new();
    for (i, second) in gradients.iter().enumerate() {
        for first in &gradients[..i] {
            let bound = bound(dtype, second.entries.is_some());
            pairs.push(Pair::of(&case, first, second, bound));
        }
    }
    let agree = pairs.iter().all(|pair| pair.agree);
    let device = match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_string(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    };
    let (dtype, sizes) = (dtype.as_str(), case.sizes());
    let report = Report { dtype, device, sizes, step: STEP, pairs, agree };
    Ok(Checked { report, gradients })
}

impl Checked {
    /// The pair that is worth seeing first: one that fails before one that holds, then one that was
    /// compared at every entry, then the one whose error is largest beside its bound.
    pub fn widest(&self) -> &Pair {
        let rank = |pair: &&Pair| (!pair.agree, pair.is_whole());
        let by_rank =
            |a: &&Pair, b: &&Pair| rank(a).cmp(&rank(b)).then(a.width().total_cmp(&b.width()));
        self.report.pairs.iter().max_by(by_rank).expect("there are pairs")
    }

    /// The pair of these two ways, in either order.
    pub fn pair(&self, ways: [&str; 2]) -> Option<&Pair> {
        let is_it = |pair: &&Pair| ways.iter().all(|way| pair.ways.iter().any(|w| w == way));
        self.report.pairs.iter().filter(|_| ways[0] != ways[1]).find(is_it)
    }

    /// A pair as a picture: for each tensor the gradient (by the pair's first way) beside the size
    /// of its difference from the second's.
    ///
    /// # Panics
    /// Where the pair is not one of this check's.
    pub fn picture(&self, pair: &Pair) -> Picture {
        let [first, second] = pair.ways.each_ref().map(|way| {
            let found = self.gradients.iter().find(|gradients| &gradients.way == way);
            found.expect("the pair is one of this check's")
        });
        let entries = first.entries.as_ref().or(second.entries.as_ref());
        let maps: Vec<[HeatMap; 2]> = pair
            .tensors
            .iter()
            .enumerate()
            .map(|(index, tensor)| {
                let (g1, g2) = (first.at(index, entries), second.at(index, entries));
                let apart = g1.iter().zip(&g2).map(|(g1, g2)| (g1 - g2).abs()).collect();
                let spread = |values: Vec<f64>| match entries {
                    None => values.into_iter().map(Some).collect(),
                    Some(entries) => {
                        let mut all = vec![None; tensor.shape.iter().product()];
                        for (&at, value) in entries.0[index].iter().zip(values) {
                            all[at] = Some(value);
                        }
                        all
                    }
                };
                let axes = axes_of(tensor.tensor).map(str::to_string);
                let map = |title, values, scale| HeatMap {
                    title,
                    axes: axes.clone(),
                    columns: *tensor.shape.last().expect("no tensor is a scalar"),
                    values: spread(values),
                    scale,
                };
                let verdict = if tensor.agree { "" } else { ": TOO LARGE" };
                [
                    map(format!("gradient of {}, {}", tensor.tensor, first.way), g1, Scale::Signed),
                    map(
                        format!(
                            "|difference|, relative error {:.1e}{verdict}",
                            tensor.relative_error
                        ),
                        apart,
                        Scale::Logarithmic,
                    ),
                ]
            })
            .collect();
        let Report { dtype, device, sizes, .. } = &self.report;
        let mut notes = vec![format!(
            "{dtype} on {device}; {} hidden units, {} characters, {} names of up to {} steps; \
             bound {:.0e}",
            sizes.hidden, sizes.vocabulary, sizes.names, sizes.steps, pair.bound
        )];
        notes.push(match pair.is_whole() {
            true => "White: no difference.".to_string(),
            false => "White: no difference. Grey: not compared.".to_string(),
        });
        heat_maps(&format!("Gradients: {} and {}", pair.ways[0], pair.ways[1]), &notes, &maps)
    }
}

/// What the rows and the columns of a tensor are.
fn axes_of(tensor: &str) -> [&'static str; 2] {
    match tensor {
        "wax" => ["hidden unit", "input character"],
        "waa" => ["hidden unit", "earlier hidden unit"],
        "wya" => ["output character", "hidden unit"],
        "by" => ["", "output character"],
        "a0" => ["name", "hidden unit"],
        _ => ["", "hidden unit"],
    }
}

/// The error of central differences at one step size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepError {
    /// h.
    pub step: f64,
    /// The relative error against the gradient by hand in f64, for each of [`TENSORS`].
    pub relative_errors: [f64; 6],
}

/// How the error of central differences depends on their step: it falls with h^2 while the curve
/// of the loss is what is wrong with them, and rises with 1/h once rounding is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepSizes {
    /// The sizes of the case.
    pub sizes: Sizes,
    /// The names of the tensors, in the order of the errors.
    pub tensors: [&'static str; 6],
    /// How many entries of each tensor were taken.
    pub entries: [usize; 6],
    /// By falling step.
    pub steps: Vec<StepError>,
    /// For each tensor the step with the smallest error.
    pub best: [f64; 6],
    /// The bound that the smallest error of each tensor is held against.
    pub bound: f64,
    /// Whether each is within it.
    pub agree: bool,
}

/// Takes central differences of `case`, in f64, with steps from 1 to 1e-12.
///
/// # Errors
/// None that a case made by this module could cause.
pub fn step_sizes(case: &Case, options: &Options) -> Result<StepSizes> {
    let derived = case.derived(Backprop::Hand, DType::F64, &Device::Cpu)?;
    let limit = options.entries.unwrap_or(case.sizes().default_entries(STEPS.count()).min(100));
    let entries = case.entries(limit, options.seed);
    let bound = bound(DType::F64, true);
    let steps: Vec<StepError> = STEPS
        .map(|half_decades| {
            let step = 10f64.powf(-f64::from(half_decades) / 2.);
            let differences = case.differences(step, entries.clone());
            let pair = Pair::of(case, &derived, &differences, bound);
            let relative_errors = std::array::from_fn(|i| pair.tensors[i].relative_error);
            StepError { step, relative_errors }
        })
        .collect();
    let best: [&StepError; 6] = std::array::from_fn(|i| {
        let smaller =
            |a: &&StepError, b: &&StepError| a.relative_errors[i].total_cmp(&b.relative_errors[i]);
        steps.iter().min_by(smaller).expect("there are steps")
    });
    let agree = (0..6).all(|i| best[i].relative_errors[i] <= bound);
    Ok(StepSizes {
        sizes: case.sizes(),
        tensors: TENSORS,
        entries: entries.0.each_ref().map(Vec::len),
        best: best.map(|step| step.step),
        steps,
        bound,
        agree,
    })
}

impl StepSizes {
    /// The errors as a chart, a line for each tensor.
    pub fn picture(&self) -> Picture {
        let series = |(i, name): (usize, &&str)| Series {
            name: name.to_string(),
            points: self.steps.iter().map(|step| (step.step, step.relative_errors[i])).collect(),
            pale: false,
        };
        LineChart {
            title: "Central differences: their error by their step".to_string(),
            subtitle: format!(
                "f64; {} hidden units, {} characters, {} names of up to {} steps; beside the \
                 gradient by hand",
                self.sizes.hidden, self.sizes.vocabulary, self.sizes.names, self.sizes.steps
            ),
            x: "step h".to_string(),
            y: "relative error".to_string(),
            logarithmic: [true, true],
            least: [vec![], vec![]],
            series: self.tensors.iter().enumerate().map(series).collect(),
        }
        .picture()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(g1: &[f64], g2: &[f64]) -> Comparison {
        compare("b", vec![g1.len()], [g1, g2], None, 1e-12)
    }

    #[test]
    fn the_measures_are_those_of_their_formulas() {
        let found = comparison(&[3., 4., 0.], &[3., 0., 0.]);
        assert_eq!((found.largest_difference, found.at), (4., vec![1]));
        assert_eq!(found.values, [4., 0.]);
        assert!((found.relative_error - 4. / 8.).abs() < 1e-15);
        assert!((found.cosine - 9. / 15.).abs() < 1e-15);
        assert!(!found.agree);
    }

    #[test]
    fn zeros_agree_with_zeros_and_with_nothing_else() {
        let both = comparison(&[0.; 3], &[0.; 3]);
        assert_eq!((both.relative_error, both.cosine, both.agree), (0., 1., true));
        let one = comparison(&[0.; 3], &[1e-200; 3]);
        assert_eq!((one.relative_error, one.cosine, one.agree), (1., 0., false));
    }

    #[test]
    fn whatever_is_not_finite_fails_and_is_pointed_at() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for (g1, g2) in [([9., bad], [1., 2.]), ([9., 2.], [1., bad]), ([9., bad], [1., bad])] {
                let found = comparison(&g1, &g2);
                assert!(!found.agree, "{g1:?} and {g2:?}");
                assert_eq!(found.at, [1]);
            }
        }
    }

    #[test]
    fn neither_tiny_nor_huge_gradients_hide_a_disagreement() {
        for size in [1e-300, 1e300] {
            assert!(comparison(&[size, size], &[size, size]).agree);
            assert!(!comparison(&[size, size], &[size, 0.5 * size]).agree);
        }
    }

    #[test]
    fn a_place_is_found_row_by_row() {
        assert_eq!(unravelled(7, &[3, 5]), [1, 2]);
        assert_eq!(unravelled(7, &[9]), [7]);
    }

    #[test]
    fn random_networks_bend_and_their_batches_are_padded() {
        let sizes = Sizes { hidden: 40, vocabulary: 27, steps: 9, names: 5 };
        let case = Case::random(sizes, 1).unwrap();
        assert_eq!(case.sizes(), sizes);
        assert!(case.batch.y().contains(&NONE));
        let gradients = case.derived(Backprop::Hand, DType::F64, &Device::Cpu).unwrap();
        for (name, values) in TENSORS.iter().zip(&gradients.values) {
            let mean = values.iter().map(|g| g.abs()).sum::<f64>() / values.len() as f64;
            assert!(mean > 0.01, "{name}: {mean}");
        }
    }
}
