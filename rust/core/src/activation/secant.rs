//! Slopes of the secants that share one point, as mean-value forms need them.

use super::Activation;
use super::rounding::{sum_down, sum_up};
use super::shape::Shape;
use crate::interval::Interval;

impl Activation {
    /// Interval that contains `(s(x) - s(point)) / (x - point)` for every other `x` in `over`.
    ///
    /// Exact up to rounding for piecewise linear, convex and concave kinds; for a slope that rises
    /// and then falls its lower end is. Never more than `slope_range` of the interval.
    pub fn slope_range_from(self, point: f64, over: Interval) -> Interval {
        if !(over.lower <= point && point <= over.upper) {
            return self.slope_range(over.hull(Interval::point(point)));
        }
        let all = self.slope_range(over);
        if over.lower == over.upper { all } else { all.intersect(self.secants(point, over)) }
    }

    /// What the secants to a few points say about all others.
    fn secants(self, point: f64, over: Interval) -> Interval {
        let ends = [over.lower, over.upper].map(|end| self.secant(point, end));
        if let Some(kinks) = self.kinks() {
            if self.shape() == Shape::Other && kinks.contains(&point) {
                return Interval::UNBOUNDED;
            }
            // On a linear piece the secant slope runs one way: its ends are extreme.
            return kinks
                .into_iter()
                .filter(|&kink| over.lower < kink && kink < over.upper)
                .map(|kink| self.secant(point, kink))
                .chain(ends)
                .flatten()
                .reduce(Interval::hull)
                .unwrap_or(Interval::UNBOUNDED);
        }
        // A secant slope is the mean of the slopes in between: it runs as they do.
        let [left, right] = ends.map(|end| end.unwrap_or(Interval::UNBOUNDED));
        match self.shape() {
            Shape::Convex => Interval::new(left.lower, right.upper),
            Shape::Concave => Interval::new(right.lower, left.upper),
            Shape::Unimodal => {
                let tangent = || self.slope_range(Interval::point(point));
                let [left, right] = ends.map(|end| end.unwrap_or_else(tangent));
                Interval::new(left.lower.min(right.lower), f64::INFINITY)
            }
            Shape::Other => Interval::UNBOUNDED,
        }
    }

    /// Encloses the slope of one secant; `None` where the two points are one.
    fn secant(self, point: f64, x: f64) -> Option<Interval> {
        if x == point {
            return None;
        }
        if x.is_infinite() {
            return Some(self.limit_slope(x));
        }
        let (left, right) = (point.min(x), point.max(x));
        let run = Interval::new(sum_down(right, -left), sum_up(right, -left));
        let [from, to] = [left, right].map(|end| self.value_range(Interval::point(end)));
        let rise = Interval::new(sum_down(to.lower, -from.upper), sum_up(to.upper, -from.lower));
        let lower = rise.lower / if rise.lower >= 0.0 { run.upper } else { run.lower };
        let upper = rise.upper / if rise.upper >= 0.0 { run.lower } else { run.upper };
        let known = Interval::new(lower, upper).without_nan();
        Some(Interval::new(
            if rise.lower == 0.0 { 0.0 } else { known.lower.next_down() },
            if rise.upper == 0.0 { 0.0 } else { known.upper.next_up() },
        ))
    }
    /// The slope towards an infinite `x`, which that of the secants approaches too.
    fn limit_slope(self, x: f64) -> Interval {
        let Some([first, last]) = self.kinks() else {
            return self.slope_range(Interval::point(x));
        };
        if x < 0.0 {
            return self.slope_range(Interval::new(x, first));
        }
        let last = if last.is_finite() { last } else { first };
        self.slope_range(Interval::new(last, x))
    }
}
