//! The rounding error of a gradient: the floor of every bound.
//!
//! A relative bound alone fails right gradients, whose terms may cancel and whose factors have passed
//! through many steps. With unit roundoff u each operation returns its exact result times 1 + d,
//! |d| <= u, so to first order the error is proportional to u, by a factor that depends on the problem
//! alone. For f32 it is measured: the reference in f32 against itself in f64. For f64 the reference
//! with u = 2^-44, [`Coarse`], measures it; times 2^-9 it is that of f64. (The error of f32 would
//! not do: where a network amplifies 2^-24 to 1 the error no longer grows with u.) The d differ with
//! the order of summation and the point: the root mean square is taken over [`POINTS`] points close
//! to the problem's, and other kernels, whose `tanh` and `exp` are off by two units in the last place
//! and not by a half, are allowed [`FACTOR`] times as much.

use super::forward::Forward;
use super::numbers::Coarse;
use super::problem::Problem;
use crate::reference::Number;

/// The points at which the error is measured.
const POINTS: usize = 4;

/// The error that is allowed, as a multiple of the one that is measured.
const FACTOR: f64 = 16.;

/// The unit roundoff of f64 over that of [`Coarse`].
const COARSE: f64 = 1. / (1 << 9) as f64;

/// The relative error up to which it grows with u.
pub(super) const LINEAR: f64 = 1e-3;

/// The norms of the errors that rounding leaves in the values of [`TENSORS`](super::TENSORS).
pub(super) type Rounding = [f64; 8];

/// The error that is allowed on `problem` in f64 and in f32. Where the error of coarser numbers is
/// not far below the value itself it no longer grows with u, and that of f64 may be as large.
pub(super) fn rounding(problem: &Problem) -> [Rounding; 2] {
    // The values are rounded by Coarse alone: where a network is chaotic it is another one then.
    let in_f64 = measured::<Coarse>(problem, |w| w, |x| x.0, FACTOR * COARSE);
    let in_f32 = measured::<f32>(problem, |w| f64::from(w as f32), f64::from, FACTOR);
    [in_f64, in_f32]
}

/// The error of `problem`, its values `rounded`, in numbers `N`, times `factor`.
fn measured<N: Number>(
    problem: &Problem,
    rounded: fn(f64) -> f64,
    value: fn(N) -> f64,
    factor: f64,
) -> Rounding {
    let mut sums = [0.; 8];
    for point in 0..POINTS {
        let problem = problem.map(|w| rounded(w * (1. + point as f64 / 1024.)));
        let exact = Forward::<f64>::new(&problem).backward();
        let found = Forward::<N>::new(&problem).backward();
        for (sum, (exact, found)) in sums.iter_mut().zip(exact.iter().zip(found)) {
            let squares = exact.iter().zip(found).map(|(a, b)| (a - value(b)).powi(2));
            let (error, norm) = (squares.sum::<f64>(), exact.iter().map(|a| a * a).sum::<f64>());
            let factor = if error < LINEAR * LINEAR * norm { factor } else { FACTOR };
            *sum += factor * factor * error / POINTS as f64;
        }
    }
    sums.map(f64::sqrt)
}
