//! Numbers for the loops of [`crate::reference`] beside f64: f32, coarser ones, and dual numbers.
//!
//! A dual number is a value and its derivatives along [`LANES`] directions. Each operation applies
//! its rule of differentiation to them, so the loss of the reference, computed in dual numbers, is
//! its own exact directional derivative: no derivation of the backward pass, no truncation. (The
//! crate num-dual has such numbers, but builds nalgebra and ten other crates for them.)

use crate::random::RngSource;
use crate::reference::Number;
use std::array::from_fn;
use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// The directions of one pass.
pub(super) const LANES: usize = 8;

/// The components of [`LANES`] random directions through a tensor, entry by entry: standard normal,
/// so that the mean square of the derivatives along them is the squared norm of the gradient.
pub(super) fn directions(seed: u64, index: usize) -> impl FnMut() -> [f64; LANES] {
    let mut normals = RngSource::Seed(seed.wrapping_add(index as u64)).normals();
    move || from_fn(|_| normals())
}

/// A value and its derivatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dual {
    pub value: f64,
    pub tangent: [f64; LANES],
}

impl Dual {
    /// A function of this number, given its value and its slope there.
    fn apply(self, value: f64, slope: f64) -> Self {
        Self { value, tangent: self.tangent.map(|tangent| slope * tangent) }
    }

    /// A function of two numbers, given its value and its two partial derivatives.
    fn combine(self, other: Self, value: f64, [left, right]: [f64; 2]) -> Self {
        let tangent = from_fn(|i| left * self.tangent[i] + right * other.tangent[i]);
        Self { value, tangent }
    }
}

/// The operators of a number, from the results of the first four.
macro_rules! operators {
    ($N:ident: $($Op:ident $op:ident |$a:ident, $b:ident| $result:expr;)*) => {
        $(impl $Op for $N {
            type Output = Self;
            fn $op(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                $result
            }
        })*
        impl Neg for $N {
            type Output = Self;
            fn neg(self) -> Self {
                Self::from_f64(0.) - self
            }
        }
        impl AddAssign for $N {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl SubAssign for $N {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }
    };
}

operators! { Dual:
    Add add |a, b| a.combine(b, a.value + b.value, [1., 1.]);
    Sub sub |a, b| a.combine(b, a.value - b.value, [1., -1.]);
    Mul mul |a, b| a.combine(b, a.value * b.value, [b.value, a.value]);
    Div div |a, b| {
        let (quotient, reciprocal) = (a.value / b.value, 1. / b.value);
        a.combine(b, quotient, [reciprocal, -quotient * reciprocal])
    };
}

operators! { Coarse:
    Add add |a, b| Self::from_f64(a.0 + b.0);
    Sub sub |a, b| Self::from_f64(a.0 - b.0);
    Mul mul |a, b| Self::from_f64(a.0 * b.0);
    Div div |a, b| Self::from_f64(a.0 / b.0);
}

impl PartialOrd for Dual {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Number for Dual {
    fn from_f64(value: f64) -> Self {
        Self { value, tangent: [0.; LANES] }
    }
    fn exp(self) -> Self {
        let e = self.value.exp();
        self.apply(e, e)
    }
    fn ln(self) -> Self {
        self.apply(self.value.ln(), 1. / self.value)
    }
    fn tanh(self) -> Self {
        let a = self.value.tanh();
        self.apply(a, (1. - a) * (1. + a))
    }
}

impl Number for f32 {
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    fn exp(self) -> Self {
        f32::exp(self)
    }
    fn ln(self) -> Self {
        f32::ln(self)
    }
    fn tanh(self) -> Self {
        f32::tanh(self)
    }
}

/// An f64 that each operation rounds to 44 bits.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Coarse(pub f64);

impl Number for Coarse {
    fn from_f64(x: f64) -> Self {
        // Infinities and NaN have no bits to round.
        Self(if x.is_finite() { f64::from_bits((x.to_bits() + (1 << 8)) & !0x1ff) } else { x })
    }
    fn exp(self) -> Self {
        Self::from_f64(self.0.exp())
    }
    fn ln(self) -> Self {
        Self::from_f64(self.0.ln())
    }
    fn tanh(self) -> Self {
        Self::from_f64(self.0.tanh())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn derivatives_are_those_of_calculus(x in -3f64..3., y in 0.1f64..3.) {
            let (mut a, mut b) = (Dual::from_f64(x), Dual::from_f64(y));
            (a.tangent[0], b.tangent[1]) = (1., 1.);
            for (found, by_x, by_y) in [
                (a + b, 1., 1.),
                (a - b, 1., -1.),
                (a * b, y, x),
                (a / b, 1. / y, -x / (y * y)),
                (-a, -1., 0.),
                (a.exp(), x.exp(), 0.),
                (b.ln(), 0., 1. / y),
                (a.tanh(), 1. / x.cosh().powi(2), 0.),
            ] {
                let close = |a: f64, b: f64| (a - b).abs() <= 1e-13 * b.abs().max(1.);
                prop_assert!(close(found.tangent[0], by_x) && close(found.tangent[1], by_y));
                prop_assert_eq!(found.tangent[2], 0.);
            }
        }
    }
}
