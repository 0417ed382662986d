//! The rounding error of a gradient: the floor of every bound.
//!
//! A relative bound alone fails right gradients. A gradient is a sum over steps and names whose
//! terms may cancel, and its factors have passed through many steps; what rounding leaves is
//! relative to these terms and not to their sum.
//!
//! The error follows from the problem. With unit roundoff u each operation returns its exact result
//! times 1 + d, |d| <= u, so to first order in u the error of a gradient is u times a sum of the
//! d / u, each between -1 and 1, times factors that depend on the problem alone: it is proportional
//! to u. The reference in f32, u = 2^-24, against itself in f64 measures it; times u / 2^-24 it is
//! the error in another number type. The d are different in each order of summation and at each
//! point, so that the root mean square is taken over [`POINTS`] points close to the problem's, and
//! other kernels, of which `tanh` and `exp` are off by two units in the last place and not by a
//! half, are allowed [`FACTOR`] times as much.
//!
//! Central differences (L(w + h) - L(w - h)) / 2h have the rounding of two losses over 2h, and
//! their truncation, h^2 L''' / 6, which the differences with 2h show: these have four times as
//! much of it, so that the two differ by three times the truncation.

use super::forward::Forward;
use super::problem::Problem;
use candle_core::DType;

/// The points at which the error is measured.
const POINTS: usize = 4;

/// The error that is allowed, as a multiple of the one that is measured.
const FACTOR: f64 = 16.;

/// 2^-24, the unit roundoff of f32, and 2^-53.
const F32: f64 = f32::EPSILON as f64 / 2.;
const F64: f64 = f64::EPSILON / 2.;

/// The rounding error of a method that computes in one number type, as a norm.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rounding {
    /// Of the gradients of [`TENSORS`](super::TENSORS).
    pub gradients: [f64; 6],
    /// Of the loss.
    pub loss: f64,
    /// Of the last states.
    pub last: f64,
}

impl Rounding {
    /// The error of `problem` in f32.
    fn in_f32(problem: &Problem) -> Self {
        let mut sums = [0.; 8];
        for point in 0..POINTS {
            let problem =
                problem.map(|value| value * (1. + point as f64 / 1024.)).rounded(DType::F32);
            let exact = Forward::<f64>::new(&problem).backward();
            let found = Forward::<f32>::new(&problem).backward();
            let pairs = exact.gradients.iter().zip(&found.gradients);
            let pairs = pairs.chain([(&exact.losses, &found.losses), (&exact.last, &found.last)]);
            for (sum, (exact, found)) in sums.iter_mut().zip(pairs) {
                let squares = exact.iter().zip(found).map(|(a, &b)| (a - f64::from(b)).powi(2));
                *sum += squares.sum::<f64>() / POINTS as f64;
            }
        }
        let [wax, waa, wya, b, by, a0, loss, last] = sums.map(f64::sqrt);
        Self { gradients: [wax, waa, wya, b, by, a0], loss, last }
    }

    /// The error that is allowed on `problem` in f64 and in f32.
    pub(super) fn of(problem: &Problem) -> [Self; 2] {
        let measured = Self::in_f32(problem);
        [F64, F32].map(|u| measured.times(FACTOR * u / F32))
    }

    fn times(self, factor: f64) -> Self {
        let Self { gradients, loss, last } = self;
        Self { gradients: gradients.map(|g| g * factor), loss: loss * factor, last: last * factor }
    }
}
