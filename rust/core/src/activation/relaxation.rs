//! Two lines around an activation over an interval, for bounds that are propagated backwards.

use super::Activation;
use super::curve::Curve;
use super::rounding::{product_up, sum_up};
use crate::interval::Interval;

/// The function `slope x + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Slope.
    pub slope: f64,
    /// Value at 0.
    pub offset: f64,
}

/// Two lines with the activation between them, in exact arithmetic on the stored numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lines {
    /// The line below.
    pub lower: Line,
    /// The line above.
    pub upper: Line,
}

impl Line {
    fn proportional(slope: f64) -> Self {
        Self { slope, offset: 0.0 }
    }

    fn is_finite(self) -> bool {
        self.slope.is_finite() && self.offset.is_finite()
    }
}

impl Activation {
    /// Lines below and above the activation everywhere in `over`; `None` if an end of `over` is
    /// not finite, or where the activation overflows.
    ///
    /// For a ReLU these are the adaptive lines of CROWN (arXiv 1811.00866). For the others, of the
    /// lines that a kind's shape offers, those that leave the smallest area.
    pub fn relax(self, over: Interval) -> Option<Lines> {
        if !over.is_finite() {
            return None;
        }
        let values = self.value_range(over);
        let constant = |offset| Line { slope: 0.0, offset };
        let flat = Lines { lower: constant(values.lower), upper: constant(values.upper) };
        let lines = match self {
            _ if over.lower == over.upper => flat,
            Self::Linear => {
                Lines { lower: Line::proportional(1.0), upper: Line::proportional(1.0) }
            }
            Self::Relu { negative_slope, max_value: f64::INFINITY, threshold: 0.0 }
                if negative_slope <= 1.0 =>
            {
                bent(negative_slope, over)
            }
            _ => Lines {
                lower: Curve::mirrored(self).line_above(-over).mirrored(),
                upper: Curve::of(self).line_above(over),
            },
        };
        [lines, flat].into_iter().find(|lines| lines.lower.is_finite() && lines.upper.is_finite())
    }
}

/// Lines of `max(negative_slope x, x)`: where 0 is inside, the chord above; below it the piece that
/// covers more of the interval.
fn bent(negative_slope: f64, over: Interval) -> Lines {
    if over.lower >= 0.0 || over.upper <= 0.0 {
        let line = Line::proportional(if over.lower >= 0.0 { 1.0 } else { negative_slope });
        return Lines { lower: line, upper: line };
    }
    let slope = (over.upper - negative_slope * over.lower) / (over.upper - over.lower);
    let left = sum_up(product_up(negative_slope, over.lower), product_up(-slope, over.lower));
    let right = sum_up(over.upper, product_up(-slope, over.upper));
    let lower = Line::proportional(if over.upper > -over.lower { 1.0 } else { negative_slope });
    Lines { lower, upper: Line { slope, offset: left.max(right) } }
}
