//! What an activation makes of the difference of two values: exactly, where the kind allows it.

use super::Activation;
use super::rounding::{sum_down, sum_up};
use super::shape::Shape;
use crate::interval::Interval;

impl Activation {
    /// Interval of `s(v) - s(u)` for `u` in `before`, `v` in `after`, `v - u` in `difference`.
    ///
    /// Up to rounding this is the smallest one for every kind that never falls and whose slope
    /// only rises, only falls, or rises and then falls. That is all but `Gelu`, `GeluTanh`, `Silu`,
    /// `Mish`, `HardSilu`, and `Relu` with a threshold or a negative slope below 0.
    pub fn difference(self, before: Interval, after: Interval, difference: Interval) -> Interval {
        let (before, after, difference) = consistent(before, after, difference);
        if difference == Interval::ZERO {
            return Interval::ZERO;
        }
        // The least difference is minus the largest one of the reversed step.
        let exact = Interval::new(
            0.0 - self.largest_rise(after, before, -difference.lower),
            self.largest_rise(before, after, difference.upper),
        );
        if self == Self::Linear || self.is_plain_relu() {
            return exact;
        }
        let by_slope = self.slope_range(before.hull(after)).times(difference);
        let by_value = self.value_range(after).minus(self.value_range(before));
        let known = by_slope.intersect(by_value);
        if exact.lower <= exact.upper { known.intersect(exact) } else { known }
    }

    /// At least the largest `s(v) - s(u)` for `u` in `from`, `v` in `to`, `v - u <= gap`.
    fn largest_rise(self, from: Interval, to: Interval, gap: f64) -> f64 {
        if !self.is_non_decreasing() {
            return f64::INFINITY;
        }
        if self == Self::Linear {
            return gap;
        }
        if self.is_plain_relu() {
            // relu(v) - relu(u) = clip(v - u, -relu(u), relu(v)), whose every part is attained.
            return gap.min(to.upper.max(0.0)).max(-from.lower.max(0.0));
        }
        // A function that never falls rises most for `v - u = gap`; what is left is where.
        match (self.shape(), gap >= 0.0) {
            (Shape::Convex, true) | (Shape::Concave, false) => {
                self.rise(sum_down(to.upper, -gap).max(from.lower), to.upper)
            }
            (Shape::Convex, false) | (Shape::Concave, true) => {
                self.rise(from.lower, sum_up(from.lower, gap).min(to.upper))
            }
            (Shape::Unimodal, _) => self.steepest_rise(from, to, gap),
            (Shape::Other, _) => f64::INFINITY,
        }
    }

    /// The largest `s(u + gap) - s(u)` over the `u` that both intervals allow: rising towards the
    /// steepest start and falling from it for a positive gap, the other way round for a negative.
    fn steepest_rise(self, from: Interval, to: Interval, gap: f64) -> f64 {
        // Every point is enclosed, and the function never falls: an enclosure of `u` and one of
        // `u + gap` bound the rise.
        let first = enclosed_sum(to.lower, -gap);
        let first = Interval::new(first.lower.max(from.lower), first.upper.max(from.lower));
        let last = enclosed_sum(to.upper, -gap);
        let last = Interval::new(last.lower.min(from.upper), last.upper.min(from.upper));
        let rise_at = |u: Interval| self.rise(u.lower, sum_up(u.upper, gap).min(to.upper));
        if gap < 0.0 {
            return rise_at(first).max(rise_at(last));
        }
        let start = self.steepest_start(gap);
        rise_at(Interval::new(
            start.lower.min(last.lower).max(first.lower),
            start.upper.min(last.upper).max(first.upper),
        ))
    }

    /// At least `s(v) - s(u)`; infinity where nothing is known.
    fn rise(self, u: f64, v: f64) -> f64 {
        sum_up(
            self.value_range(Interval::point(v)).upper,
            -self.value_range(Interval::point(u)).lower,
        )
    }

    fn is_plain_relu(self) -> bool {
        self == Self::Relu { negative_slope: 0.0, max_value: f64::INFINITY, threshold: 0.0 }
    }
}

fn enclosed_sum(a: f64, b: f64) -> Interval {
    Interval::new(sum_down(a, b), sum_up(a, b))
}

/// What each of the three says about the others. Afterwards the ends that the exact rules use are
/// attained together.
fn consistent(
    before: Interval,
    after: Interval,
    difference: Interval,
) -> (Interval, Interval, Interval) {
    let minus = |x: Interval, y: Interval| {
        Interval::new(sum_down(x.lower, -y.upper), sum_up(x.upper, -y.lower))
    };
    let difference = narrowed(difference, minus(after, before));
    let reached = Interval::new(
        sum_down(before.lower, difference.lower),
        sum_up(before.upper, difference.upper),
    );
    let after = narrowed(after, reached);
    let before = narrowed(before, minus(after, difference));
    (before, after, difference)
}

/// What both contain, or the first where rounding alone keeps them apart.
fn narrowed(first: Interval, second: Interval) -> Interval {
    let both = Interval::new(first.lower.max(second.lower), first.upper.min(second.upper));
    if both.lower <= both.upper { both } else { first }
}
