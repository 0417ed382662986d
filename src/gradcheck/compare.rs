//! The comparison of two gradients, tensor by tensor.

use super::gradients::{DIFFERENCES, DIRECTIONS, EXACT, Gradients};
use super::numbers::LANES;
use super::problem::{GRADIENTS, Problem, TENSORS};
use candle_core::DType;
use serde::Serialize;

/// The largest relative error at which two methods agree, beside the rounding of the
/// [problem](super::rounding): 1e-12 in f64 and 1e-5 in f32. Against differences it is 1e-7 in f64,
/// and in f32 again 1e-5: differences are in f64, so the error is that of the other method.
pub(super) fn bound(dtype: DType, against_differences: bool) -> f64 {
    match (dtype, against_differences) {
        (DType::F64, false) => 1e-12,
        (DType::F64, true) => 1e-7,
        _ => 1e-5,
    }
}

/// The comparison of one tensor by two methods. In JSON a number that is not finite is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The name of the tensor.
    pub tensor: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The number of entries compared, or of directions.
    pub compared: usize,
    /// The largest |g1 - g2|.
    pub largest_difference: f64,
    /// The index of the largest difference, or of the first that is not finite: of an entry, or of
    /// a direction.
    pub at: Vec<usize>,
    /// g1 and g2 there.
    pub values: [f64; 2],
    /// ||g1 - g2|| / (||g1|| + ||g2||).
    pub relative_error: f64,
    /// The largest relative error at which they agree: that of the pair and the rounding.
    pub bound: f64,
    /// Whether the relative error is within the bound.
    pub agree: bool,
    /// All of g1 and g2, row by row, if they were asked for.
    #[serde(skip)]
    pub whole: Option<[Vec<f64>; 2]>,
}

/// The comparison of two methods.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// Their names.
    pub methods: [String; 2],
    /// The code that they share, and with it any error of it: `none`, `kernels`, `candle` or
    /// `reference`.
    pub shared: &'static str,
    /// The largest relative error at which they agree, beside the rounding.
    pub bound: f64,
    /// One for each parameter and the initial state, `a0`, and if both methods have them, for the
    /// `loss` and the last states, `a_last`.
    pub tensors: Vec<Comparison>,
    /// Whether all tensors agree.
    pub agree: bool,
}

impl Pair {
    /// Compares two gradients of `problem`, of methods that share no code.
    ///
    /// # Panics
    /// If they are not gradients of this problem, or along different directions.
    pub(super) fn of(problem: &Problem, first: &Gradients, second: &Gradients, bound: f64) -> Self {
        let along = first.directions.or(second.directions);
        let computed = first.values.len().min(second.values.len());
        let tensor = |(index, shape): (usize, Vec<usize>)| {
            let (g1, g2) = (first.at(index, along), second.at(index, along));
            // Along a random direction an error has the size of its norm.
            let is_projected = |of: &Gradients| of.directions != along && index < GRADIENTS;
            let rounding = |of: &Gradients| {
                of.rounding[index] * if is_projected(of) { (LANES as f64).sqrt() } else { 1. }
            };
            let bounds = [bound, rounding(first) + rounding(second)];
            compare(TENSORS[index], shape, [&g1, &g2], bounds)
        };
        let shapes = problem.shapes().into_iter().enumerate();
        let tensors: Vec<Comparison> = shapes.take(computed).map(tensor).collect();
        let agree = tensors.iter().all(|tensor| tensor.agree);
        let methods = [first.method.clone(), second.method.clone()];
        Self { methods, shared: "none", bound, tensors, agree }
    }

    /// The names of the tensors that do not agree.
    pub fn disagreeing(&self) -> Vec<&'static str> {
        self.tensors.iter().filter(|tensor| !tensor.agree).map(|tensor| tensor.tensor).collect()
    }
}

/// The code that two methods share. Off the CPU `autograd` has no kernels here: it is candle's
/// autograd over primitive ops, as `unrolled` is.
pub(super) fn shared(methods: [&str; 2], on_cpu: bool) -> &'static str {
    let by_reference = |method| [EXACT, DIRECTIONS, DIFFERENCES].contains(&method);
    match methods {
        ["autograd", "hand"] if on_cpu => "kernels",
        ["unrolled", "autograd"] if !on_cpu => "candle",
        [first, second] if by_reference(first) && by_reference(second) => "reference",
        _ => "none",
    }
}

/// Compares two gradients, or values; they agree if the norm of their difference is at most
/// `bound` times the sum of their norms, and `floor` more.
pub(super) fn compare(
    tensor: &'static str,
    shape: Vec<usize>,
    [g1, g2]: [&[f64]; 2],
    [bound, floor]: [f64; 2],
) -> Comparison {
    assert_eq!(g1.len(), g2.len(), "the gradients of {tensor} have different shapes");
    let largest = worst([g1, g2], 1)[0];
    let is_whole = g1.len() == shape.iter().product::<usize>();
    let at = if is_whole { unravel(largest, &shape) } else { vec![largest] }; // of a direction
    let (relative_error, norms) = errors(g1, g2);
    let bound = if norms > 0. { bound + floor / norms } else { bound };
    Comparison {
        tensor,
        compared: g1.len(),
        largest_difference: (g1[largest] - g2[largest]).abs(),
        at,
        values: [g1[largest], g2[largest]],
        relative_error,
        bound,
        agree: relative_error <= bound, // false for NaN
        shape,
        whole: None,
    }
}

/// The indices of the `most` largest differences, the largest first; one that is not finite before
/// any other.
pub(crate) fn worst([g1, g2]: [&[f64]; 2], most: usize) -> Vec<usize> {
    let size = |&at: &usize| {
        let difference = (g1[at] - g2[at]).abs();
        if difference.is_finite() { difference } else { f64::INFINITY }
    };
    let order = |a: &usize, b: &usize| size(b).total_cmp(&size(a)).then(a.cmp(b));
    let mut indices: Vec<usize> = (0..g1.len()).collect();
    if most < indices.len() {
        indices.select_nth_unstable_by(most, order);
        indices.truncate(most);
    }
    indices.sort_by(order);
    indices
}

/// The relative error, NaN if a value is not finite, and ||g1|| + ||g2||.
fn errors(g1: &[f64], g2: &[f64]) -> (f64, f64) {
    if !g1.iter().chain(g2).all(|g| g.is_finite()) {
        return (f64::NAN, 0.);
    }
    let largest = largest(g1.iter().chain(g2));
    if largest == 0. {
        return (0., 0.);
    }
    // Divided by the largest entry, so that no square underflows or overflows: a tiny gradient
    // whose squares are zero would agree with any other.
    let of = |g: &[f64]| norm(g.iter().map(|g| g / largest));
    let norms = of(g1) + of(g2);
    let difference = norm(g1.iter().zip(g2).map(|(g1, g2)| (g1 - g2) / largest));
    (difference / norms, norms * largest)
}

/// The largest size of a number.
pub(crate) fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0., |most, value| value.abs().max(most))
}

/// The Euclidean norm.
pub(super) fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The index along each dimension of the entry `flat` of a tensor of this shape.
pub(super) fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (at, &size) in at.iter_mut().zip(shape).rev() {
        *at = flat % size;
        flat /= size;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(g1: &[f64], g2: &[f64]) -> Comparison {
        compare("b", vec![g1.len()], [g1, g2], [1e-12, 0.])
    }

    #[test]
    fn the_measures_match_their_formulas() {
        for (g1, g2, error) in [
            ([3., 4., 0.], [3., 0., 0.], 4. / 8.),
            ([0.; 3], [0.; 3], 0.),
            ([0.; 3], [1e-200; 3], 1.),
            // No square underflows or overflows.
            ([1e-300; 3], [1e-300, 1e-300, 0.5e-300], 0.5 / (3f64.sqrt() + 1.5)),
            ([1e300; 3], [1e300, 1e300, 0.5e300], 0.5 / (3f64.sqrt() + 1.5)),
            ([1e300; 3], [1e300; 3], 0.),
        ] {
            let found = comparison(&g1, &g2);
            assert!((found.relative_error - error).abs() < 1e-15, "{found:?}");
            assert_eq!(found.agree, error == 0.);
        }
    }

    #[test]
    fn the_largest_difference_is_reported_or_one_that_is_not_finite() {
        let found = comparison(&[3., 4., 0.], &[3., 0., 1.]);
        assert_eq!((found.largest_difference, found.at), (4., vec![1]));
        assert_eq!(found.values, [4., 0.]);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for (g1, g2) in [([9., bad], [1., 2.]), ([9., 2.], [1., bad]), ([9., bad], [1., bad])] {
                let found = comparison(&g1, &g2);
                assert!(!found.agree, "{g1:?} and {g2:?}");
                assert_eq!(found.at, [1]);
            }
        }
        let values: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let sorted = worst([&values, &[0.; 100]], 3).into_iter().map(|at| values[at]);
        assert_eq!(sorted.collect::<Vec<_>>(), [99., 98., 97.]);
    }

    #[test]
    fn the_rounding_of_a_problem_is_a_floor_of_the_bound() {
        let found = |floor| compare("b", vec![2], [&[1., 0.], &[1., 1e-9]], [1e-12, floor]);
        assert!(!found(0.9e-9).agree);
        assert!(found(1.1e-9).agree);
    }

    #[test]
    fn a_flat_index_is_unravelled_in_row_major_order() {
        assert_eq!(unravel(7, &[3, 5]), [1, 2]);
        assert_eq!(unravel(7, &[9]), [7]);
    }
}
