//! Columns of enclosed rows: what single inputs of a dense layer do to the logits.
//!
//! A candidate asks for one input only, and a visit scores few candidates: taking the rows back to
//! those inputs alone costs a small part of what taking them back to all would.

use ndarray::{Array2, ArrayView2, Axis};

use super::enclosure::{Enclosure, ROUNDOFF, length, slack};
use super::norms::row_norm;
use super::times::around;
use crate::interval::{Interval, Intervals, centre_radius, product as times};
use crate::linalg::selected_product;

/// Some columns of an [`Enclosure`], element by element.
#[derive(Debug)]
pub(crate) struct Columns {
    /// Shape `(elements, rows)`: all rows of one element side by side.
    centre: Array2<f64>,
    /// Of the same shape.
    radius: Array2<f64>,
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

impl Enclosure {
    /// The rows taken back through a dense op at one position, to some of its inputs.
    pub(crate) fn columns_through(&self, kernel: ArrayView2<'_, f32>, inputs: &[usize]) -> Columns {
        let terms = kernel.ncols();
        let (kappa, factor) = ((terms as f64 + 3.0) * ROUNDOFF, slack(terms));
        // What the centre's own rounding needs goes the way of the box.
        let reach = &self.radius + &self.centre.mapv(|c| kappa * c.abs());
        let mut centre = selected_product(kernel, inputs, self.centre.view(), false);
        let mut radius = selected_product(kernel, inputs, reach.view(), true);
        let balls: Vec<f64> = self
            .centre
            .rows()
            .into_iter()
            .zip(&self.norm)
            .map(|(row, &ball)| ball + kappa * length(row.iter().copied()) * slack(4))
            .collect();
        // Units that are gone keep their weights; no row asks for them.
        let active = self.active();
        for ((place, mut radii), mut centres) in
            radius.rows_mut().into_iter().enumerate().zip(centre.rows_mut())
        {
            let column = row_norm(kernel.row(inputs[place]).select(Axis(0), &active).view());
            for ((radius, centre), &ball) in radii.iter_mut().zip(&mut centres).zip(&balls) {
                let by_box =
                    if *radius == 0.0 { 0.0 } else { (*radius + f64::MIN_POSITIVE) * factor };
                *radius = by_box.min(times(ball, column) * slack(4));
                if !(centre.is_finite() && radius.is_finite()) {
                    (*centre, *radius) = (0.0, f64::INFINITY);
                }
            }
        }
        Columns { centre, radius }
    }
}
