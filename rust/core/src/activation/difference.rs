//! What an activation makes of the difference of two values.

use super::Activation;
use crate::interval::Interval;

impl Activation {
    /// Interval of `s(v) - s(u)` for `u` in `before`, `v` in `after`, `v - u` in `difference`.
    pub fn difference(self, before: Interval, after: Interval, difference: Interval) -> Interval {
        if difference == Interval::ZERO {
            return Interval::ZERO;
        }
        let by_slope = self.slope_range(before.hull(after)).times(difference);
        by_slope.intersect(self.value_range(after).minus(self.value_range(before)))
    }
}
