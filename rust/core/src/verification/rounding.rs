//! Sizes rounded up, and the few interval operations that only this path needs.

use crate::interval::{Interval, product};

/// The single point one.
pub(super) const ONE: Interval = Interval { lower: 1.0, upper: 1.0 };

/// At least `a + b`; a zero adds nothing, not even rounding.
pub(super) fn add_up(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 {
        return a + b;
    }
    let sum = (a + b).next_up();
    if sum.is_nan() { f64::INFINITY } else { sum }
}

/// At least `a * b`, for sizes; zero wins over infinity.
pub(super) fn times_up(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { (a * b).next_up() }
}

/// At least the square root.
pub(super) fn root_up(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.sqrt().next_up() }
}

/// At least the L2 norm.
pub(super) fn length(sizes: impl Iterator<Item = f64>) -> f64 {
    root_up(sizes.fold(0.0, |squares, x| add_up(squares, times_up(x, x))))
}

/// The largest absolute value.
pub(super) fn size(x: Interval) -> f64 {
    x.lower.abs().max(x.upper.abs())
}

/// Interval of `sum + term`; the first term of a sum is taken as it is.
pub(super) fn sum(total: Interval, term: Interval) -> Interval {
    if term == Interval::ZERO {
        total
    } else if total == Interval::ZERO {
        term
    } else {
        total.plus(term)
    }
}

/// Interval of `weight * x`, with less work for a weight that is known exactly.
pub(super) fn times(weight: Interval, x: Interval) -> Interval {
    if weight.lower != weight.upper {
        x.times(weight)
    } else if weight.lower == 1.0 {
        x
    } else {
        x.scaled(weight.lower)
    }
}

/// Interval of `x / y`; unknown if y may be 0.
pub(super) fn quotient(x: Interval, y: Interval) -> Interval {
    if y.lower <= 0.0 && y.upper >= 0.0 {
        return Interval::UNBOUNDED;
    }
    if x == Interval::ZERO {
        return x;
    }
    let inverse = Interval::new((1.0 / y.upper).next_down(), (1.0 / y.lower).next_up());
    if x == ONE { inverse } else { x.times(inverse) }
}

/// Interval of the square root of what is not negative.
pub(super) fn root(x: Interval) -> Interval {
    Interval::new(x.lower.max(0.0).sqrt().next_down().max(0.0), root_up(x.upper))
}

/// Upper end of `a * x`, where zero wins over infinity.
pub(super) fn highest(a: Interval, x: Interval) -> f64 {
    let ends = [
        product(a.lower, x.lower),
        product(a.lower, x.upper),
        product(a.upper, x.lower),
        product(a.upper, x.upper),
    ];
    let most = ends.into_iter().fold(f64::NEG_INFINITY, f64::max);
    if a == Interval::ZERO || x == Interval::ZERO { 0.0 } else { most.next_up() }
}
