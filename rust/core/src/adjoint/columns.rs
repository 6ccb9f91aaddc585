//! Columns of enclosed rows: what single inputs of a dense layer do to the logits.
//!
//! A candidate asks for one input only, and a visit scores few candidates: taking the rows back to
//! those inputs alone costs a small part of what taking them back to all would.

use ndarray::Array2;

use super::enclosure::{ROUNDOFF, slack};
use super::times::around;
use crate::interval::{Interval, Intervals, centre_radius, product as times};

/// Some columns of an [`super::Enclosure`], element by element.
#[derive(Debug)]
pub(crate) struct Columns {
    /// Shape `(elements, rows)`: all rows of one element side by side.
    pub(super) centre: Array2<f64>,
    /// Of the same shape.
    pub(super) radius: Array2<f64>,
}

impl Columns {
    /// Columns that are known exactly, of shape `(elements, rows)`.
    pub(crate) fn exact(centre: Array2<f64>) -> Self {
        Self { radius: Array2::zeros(centre.dim()), centre }
    }

    /// Bounds of every row's element at this place times a number in an interval.
    pub(crate) fn times(&self, place: usize, value: Interval) -> Intervals {
        let (middle, half) = centre_radius(value);
        let most = value.lower.abs().max(value.upper.abs());
        let parts = self.centre.row(place).into_iter().zip(self.radius.row(place));
        let bound = |(&c, &r): (&f64, &f64)| {
            let sum = times(c, middle);
            let deviation = times(c.abs(), half) + times(r, most);
            around(sum, (deviation + 4.0 * ROUNDOFF * sum.abs()) * slack(1))
        };
        parts.map(bound).collect()
    }
}
