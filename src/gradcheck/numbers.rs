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

impl Add for Dual {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.combine(other, self.value + other.value, [1., 1.])
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.combine(other, self.value - other.value, [1., -1.])
    }
}

impl Mul for Dual {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        self.combine(other, self.value * other.value, [other.value, self.value])
    }
}

impl Div for Dual {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let (quotient, reciprocal) = (self.value / other.value, 1. / other.value);
        self.combine(other, quotient, [reciprocal, -quotient * reciprocal])
    }
}

impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        self.apply(-self.value, -1.)
    }
}

impl AddAssign for Dual {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Dual {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
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

macro_rules! coarse {
    ($($Op:ident $op:ident),*) => {$(
        impl $Op for Coarse {
            type Output = Self;
            fn $op(self, other: Self) -> Self {
                Self::from_f64(self.0.$op(other.0))
            }
        }
    )*};
}
coarse!(Add add, Sub sub, Mul mul, Div div);

impl AddAssign for Coarse {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Coarse {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Coarse {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
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
