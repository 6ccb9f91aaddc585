//! A line above an activation over an interval, of the smallest area its shape offers.
//!
//! A line below `s` is one above the mirrored curve `-s(-x)`, so only lines above are built. A slope
//! may be any number; what makes a line sound is its offset, rounded upwards from enclosures.

use super::Activation;
use super::relaxation::Line;
use super::rounding::{product_up, sum_up};
use super::shape::Shape;
use crate::interval::Interval;

/// Halvings that find where a tangent touches.
const HALVINGS: usize = 40;
/// Pieces of the part of an interval where kinds of no simple shape bend, and where that part ends.
const PIECES: usize = 33;
const BENDING: f64 = 10.0;
/// Further points of their nearly straight tails.
const TAILS: [f64; 4] = [-40.0, -20.0, 20.0, 40.0];

/// `s(x)`, or `-s(-x)`.
#[derive(Clone, Copy)]
pub(super) struct Curve {
    activation: Activation,
    mirrored: bool,
}

impl Line {
    /// The line below the mirrored curve, for one above a curve.
    pub(super) fn mirrored(self) -> Self {
        Self { slope: self.slope, offset: 0.0 - self.offset }
    }
}

impl Curve {
    pub(super) fn of(activation: Activation) -> Self {
        Self { activation, mirrored: false }
    }

    pub(super) fn mirrored(activation: Activation) -> Self {
        Self { activation, mirrored: true }
    }

    /// A line above the curve everywhere in `over`, which is finite and not a point.
    pub(super) fn line_above(self, over: Interval) -> Line {
        if let Some(kinks) = self.activation.kinks() {
            let kinks = kinks.map(|kink| if self.mirrored { -kink } else { kink });
            return self.line_above_points(&with_ends(over, kinks), over, false);
        }
        match (self.activation.shape(), self.mirrored) {
            (Shape::Convex, false) | (Shape::Concave, true) => self.chord(over),
            (Shape::Convex, true) | (Shape::Concave, false) => {
                self.tangent(middle(over), over, over.lower)
            }
            // Straight above 0, where the slope drops: no tangent there, but a corner.
            (Shape::Unimodal, false)
                if matches!(self.activation, Activation::ExponentialLinear { .. }) =>
            {
                self.line_above_points(&with_ends(over, [0.0]), over, false)
            }
            (Shape::Unimodal, _) => self.line_above_s_shape(over),
            (Shape::Other, _) => self.line_above_points(&sampled(over), over, true),
        }
    }

    /// A curve that is convex up to 0 and concave from there: every smooth S-shaped kind.
    fn line_above_s_shape(self, over: Interval) -> Line {
        if over.upper <= 0.0 {
            return self.chord(over);
        }
        if over.lower < 0.0 {
            let chord = self.chord(over);
            // Still at least as steep as the chord at the end: it approaches the chord from below.
            if self.slopes(Interval::point(over.upper)).lower >= chord.slope {
                return chord;
            }
        }
        let concave_from = over.lower.max(0.0);
        let touching = if over.lower < 0.0 { self.touching(over) } else { over.lower };
        // Of all tangents above the left end, the one at the middle leaves the smallest area.
        self.tangent(touching.max(middle(over)), over, concave_from)
    }

    /// Roughly where the tangent through the left end touches the concave part, or right of it.
    fn touching(self, over: Interval) -> f64 {
        let start = self.value(over.lower);
        let (mut left, mut right) = (0.0, over.upper);
        for _ in 0..HALVINGS {
            let at = 0.5 * (left + right);
            let tangent = self.value(at) + self.slope(at) * (over.lower - at);
            if tangent < start {
                left = at;
            } else {
                right = at;
            }
        }
        right
    }

    /// The line through both ends, for a curve that lies below it.
    fn chord(self, over: Interval) -> Line {
        let slope = self.secant(over.lower, over.upper, self.slopes(over));
        let offset = self.offset(slope, over.lower).max(self.offset(slope, over.upper));
        Line { slope, offset }
    }

    /// A tangent of a curve that is concave from `concave_from` on and convex up to there.
    fn tangent(self, at: f64, over: Interval, concave_from: f64) -> Line {
        let slopes = self.slopes(Interval::point(at));
        let slope = middle(slopes);
        // The curve may leave the tangent as far as its slope is uncertain.
        let missed = sum_up(slopes.upper, -slope).max(sum_up(slope, -slopes.lower));
        let reach = sum_up(over.upper, -at).max(sum_up(at, -concave_from));
        let offset = sum_up(self.offset(slope, at), product_up(missed, reach));
        Line { slope, offset: offset.max(self.offset(slope, over.lower)) }
    }

    /// The line above that is lowest in the middle, for a curve known at `points`: straight or
    /// sagging in between, or `curved` within its range of slopes.
    fn line_above_points(self, points: &[f64], over: Interval, curved: bool) -> Line {
        let slopes = self.slopes(over);
        let values: Vec<f64> = points.iter().map(|&x| self.values(x).upper).collect();
        // Beside the middle, so that a point there belongs to an edge that supports the hull.
        let at = middle(over) + 1e-6 * (over.upper - middle(over));
        let slope = hull_slope(points, &values, at).clamp(slopes.lower, slopes.upper);
        let offsets: Vec<f64> = points.iter().map(|&x| self.offset(slope, x)).collect();
        let mut offset = offsets.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if curved {
            for (x, ends) in points.windows(2).zip(offsets.windows(2)) {
                let bulge = self.bulge(Interval::new(x[0], x[1]), slope);
                offset = offset.max(sum_up(ends[0].max(ends[1]), bulge));
            }
        }
        Line { slope, offset }
    }

    /// How far the curve less the line may rise between two points above the higher of its ends:
    /// it can rise no faster than the slopes allow and must fall back no faster.
    fn bulge(self, piece: Interval, slope: f64) -> f64 {
        let slopes = self.slopes(piece);
        let rising = sum_up(slopes.upper, -slope);
        let falling = sum_up(slope, -slopes.lower);
        if rising <= 0.0 || falling <= 0.0 {
            return 0.0;
        }
        let width = sum_up(piece.upper, -piece.lower);
        // Five roundings, each of a relative 2^-53 or of the least subnormal.
        (rising / (rising + falling) * falling * width * (1.0 + 8.0 * f64::EPSILON)).next_up()
    }

    fn secant(self, left: f64, right: f64, slopes: Interval) -> f64 {
        let slope = half_secant((left, self.value(left)), (right, self.value(right)));
        if slope.is_nan() { 0.0 } else { slope.max(slopes.lower).min(slopes.upper) }
    }

    /// At least `s(x) - slope x`.
    fn offset(self, slope: f64, x: f64) -> f64 {
        sum_up(self.values(x).upper, product_up(-slope, x))
    }

    fn value(self, x: f64) -> f64 {
        if self.mirrored { -self.activation.value(-x) } else { self.activation.value(x) }
    }

    fn slope(self, x: f64) -> f64 {
        self.activation.slope(if self.mirrored { -x } else { x })
    }

    /// Encloses the value at `x`, on both sides of a jump.
    fn values(self, x: f64) -> Interval {
        if self.mirrored {
            -self.activation.value_range(Interval::point(-x))
        } else {
            self.activation.value_range(Interval::point(x))
        }
    }

    fn slopes(self, over: Interval) -> Interval {
        self.activation.slope_range(if self.mirrored { -over } else { over })
    }
}

/// Slope between two points, from halves so that no difference of finite numbers overflows.
fn half_secant(left: (f64, f64), right: (f64, f64)) -> f64 {
    (0.5 * right.1 - 0.5 * left.1) / (0.5 * right.0 - 0.5 * left.0)
}

/// Slope of the edge over `at` of the upper hull of the points.
fn hull_slope(points: &[f64], values: &[f64], at: f64) -> f64 {
    let mut best = (f64::NEG_INFINITY, 0.0);
    for (i, &left) in points.iter().enumerate().take_while(|&(_, &left)| left <= at) {
        for (j, &right) in points.iter().enumerate().skip(i + 1) {
            let slope = half_secant((left, values[i]), (right, values[j]));
            let height = values[i] + slope * (at - left);
            if right >= at && height > best.0 {
                best = (height, slope);
            }
        }
    }
    best.1
}

fn middle(over: Interval) -> f64 {
    (0.5 * over.lower + 0.5 * over.upper).clamp(over.lower, over.upper)
}

/// Both ends and the points strictly between them, in order.
fn with_ends(over: Interval, inner: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let inside = inner.into_iter().filter(|&x| over.lower < x && x < over.upper);
    let mut points: Vec<f64> = inside.chain([over.lower, over.upper]).collect();
    points.sort_by(f64::total_cmp);
    points.dedup();
    points
}

/// Points between which a smooth curve bends little.
fn sampled(over: Interval) -> Vec<f64> {
    let bending = Interval::new(over.lower.max(-BENDING), over.upper.min(BENDING));
    let share = |index: usize| index as f64 / PIECES as f64;
    let fine = (0..=PIECES).map(|index| bending.lower + share(index) * bending.width());
    with_ends(over, fine.chain(TAILS))
}
