//! Closed intervals of reals, one and many, with outward rounding.

use std::ops::Neg;

/// A closed interval `[lower, upper]`; either end may be infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// `a * b` where an infinite end times an exact zero is zero, as interval products need it.
///
/// Without a branch, so that loops do several at once.
#[inline(always)]
#[expect(clippy::inline_always)] // part of such loops, or they are compiled for narrow registers
pub(crate) fn product(a: f64, b: f64) -> f64 {
    if (a == 0.0) | (b == 0.0) { 0.0 } else { a * b }
}

impl Interval {
    /// The whole real line.
    pub const UNBOUNDED: Self = Self { lower: f64::NEG_INFINITY, upper: f64::INFINITY };
    /// The single point zero.
    pub const ZERO: Self = Self { lower: 0.0, upper: 0.0 };

    /// The interval from `lower` to `upper`.
    pub fn new(lower: f64, upper: f64) -> Self {
        Self { lower, upper }
    }

    /// The interval of one point.
    pub(crate) fn point(x: f64) -> Self {
        Self::new(x, x)
    }

    /// Smallest interval that contains both.
    pub fn hull(self, other: Self) -> Self {
        Self::new(self.lower.min(other.lower), self.upper.max(other.upper))
    }

    /// What both contain. Two enclosures of one value always meet; where rounding alone keeps
    /// them apart, `self` is returned.
    pub fn intersect(self, other: Self) -> Self {
        let both = Self::new(self.lower.max(other.lower), self.upper.min(other.upper));
        if both.lower <= both.upper {
            return both;
        }
        let size = [self.lower, self.upper, other.lower, other.upper]
            .into_iter()
            .fold(1.0, |size: f64, end| size.max(end.abs()));
        debug_assert!(both.lower - both.upper <= 1e-9 * size, "{self:?} and {other:?} are apart");
        self
    }

    /// Interval of `x - y`.
    pub fn minus(self, other: Self) -> Self {
        Self::new(self.lower - other.upper, self.upper - other.lower).outward()
    }

    /// Interval of `x + y`.
    pub fn plus(self, other: Self) -> Self {
        Self::new(self.lower + other.lower, self.upper + other.upper).outward()
    }

    /// Interval of `x * y`.
    pub fn times(self, other: Self) -> Self {
        let ends = [
            product(self.lower, other.lower),
            product(self.lower, other.upper),
            product(self.upper, other.lower),
            product(self.upper, other.upper),
        ];
        let found = Self::new(
            ends.iter().copied().fold(f64::INFINITY, f64::min),
            ends.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        let corners = [(self.lower, other.lower), (self.lower, other.upper)];
        let corners =
            corners.into_iter().chain([(self.upper, other.lower), (self.upper, other.upper)]);
        found.outward().beyond_vanished(corners)
    }

    /// Interval of `factor * x`.
    pub fn scaled(self, factor: f64) -> Self {
        let (a, b) = (product(factor, self.lower), product(factor, self.upper));
        let found = Self::new(a.min(b), a.max(b)).outward();
        found.beyond_vanished([(factor, self.lower), (factor, self.upper)].into_iter())
    }

    /// Widened past 0 where a product of two numbers that are not 0 has vanished.
    fn beyond_vanished(self, mut factors: impl Iterator<Item = (f64, f64)>) -> Self {
        if factors.any(|(a, b)| a != 0.0 && b != 0.0 && a * b == 0.0) {
            return self.hull(Self::new(-f64::MIN_POSITIVE, f64::MIN_POSITIVE));
        }
        self
    }

    /// Widened by `ulps` units in the last place of each end; exact zeros stay.
    pub fn widened(self, ulps: f64) -> Self {
        let pad = ulps * f64::EPSILON;
        // Far below the normal numbers the pad itself would vanish.
        let floor = |end: f64| if end == 0.0 { 0.0 } else { f64::MIN_POSITIVE };
        Self::new(
            self.lower - (pad * self.lower.abs()).max(floor(self.lower)),
            self.upper + (pad * self.upper.abs()).max(floor(self.upper)),
        )
        .without_nan()
    }

    /// `upper - lower`.
    pub fn width(self) -> f64 {
        self.upper - self.lower
    }

    /// Whether both ends are finite.
    pub fn is_finite(self) -> bool {
        self.lower.is_finite() && self.upper.is_finite()
    }

    /// Moved outward by what one operation may have rounded; a sum that is 0 is exactly so.
    fn outward(self) -> Self {
        let known = self.without_nan();
        Self::new(
            if known.lower == 0.0 { 0.0 } else { known.lower.next_down() },
            if known.upper == 0.0 { 0.0 } else { known.upper.next_up() },
        )
    }

    /// `inf - inf` and `inf / inf`: nothing is known about that end.
    pub(crate) fn without_nan(self) -> Self {
        Self::new(
            if self.lower.is_nan() { f64::NEG_INFINITY } else { self.lower },
            if self.upper.is_nan() { f64::INFINITY } else { self.upper },
        )
    }
}

impl Neg for Interval {
    type Output = Self;

    fn neg(self) -> Self {
        Self::new(-self.upper, -self.lower)
    }
}

/// One interval for each element of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Intervals {
    /// Lower ends.
    pub lower: Vec<f64>,
    /// Upper ends.
    pub upper: Vec<f64>,
}

impl Intervals {
    /// `count` times the point zero.
    pub fn zeros(count: usize) -> Self {
        Self { lower: vec![0.0; count], upper: vec![0.0; count] }
    }

    /// `count` times the whole real line.
    pub fn unbounded(count: usize) -> Self {
        Self { lower: vec![f64::NEG_INFINITY; count], upper: vec![f64::INFINITY; count] }
    }

    /// Number of intervals.
    pub fn len(&self) -> usize {
        self.lower.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lower.is_empty()
    }

    /// The interval of element `index`.
    pub fn get(&self, index: usize) -> Interval {
        Interval::new(self.lower[index], self.upper[index])
    }

    /// Replace the interval of element `index`.
    pub fn set(&mut self, index: usize, value: Interval) {
        self.lower[index] = value.lower;
        self.upper[index] = value.upper;
    }

    /// All intervals in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Interval> + '_ {
        self.lower.iter().zip(&self.upper).map(|(&lower, &upper)| Interval::new(lower, upper))
    }

    /// Element-wise sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.iter().zip(other.iter()).map(|(a, b)| a.plus(b)).collect()
    }

    /// Whether every end is finite.
    pub fn is_finite(&self) -> bool {
        self.lower.iter().chain(&self.upper).all(|end| end.is_finite())
    }

    /// Whether every interval is the point zero.
    pub fn is_zero(&self) -> bool {
        self.lower.iter().chain(&self.upper).all(|&end| end == 0.0)
    }

    /// Sum of the widths (NORM, eq. 4).
    pub fn total_width(&self) -> f64 {
        self.iter().map(Interval::width).sum()
    }
}

impl FromIterator<Interval> for Intervals {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> Self {
        let (lower, upper) = intervals.into_iter().map(|i| (i.lower, i.upper)).unzip();
        Self { lower, upper }
    }
}

/// Centre of an interval and a radius that covers it after rounding.
pub(crate) fn centre_radius(interval: Interval) -> (f64, f64) {
    if interval.lower == interval.upper {
        return (interval.lower, 0.0);
    }
    // Halved before the sum, so that no finite interval overflows.
    let centre = 0.5 * interval.lower + 0.5 * interval.upper;
    (centre, (interval.upper - centre).max(centre - interval.lower).next_up())
}
