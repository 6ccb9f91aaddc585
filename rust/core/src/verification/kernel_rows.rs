//! Rows of a Jacobian taken through a few rows of a dense kernel, of which each has its own factor.

use rayon::prelude::*;

use super::matrix::Matrix;
use super::norms::Norms;
use super::rounding::{add_up, length, size, sum, times, times_up};
use super::rows::{Row, Rows};
use crate::interval::{Interval, Intervals};

/// Rows W of a kernel, each with its t.
pub(super) struct KernelRows {
    pub(super) weights: Matrix,
    pub(super) norms: Norms,
    pub(super) vector: Intervals,
}

impl KernelRows {
    /// The largest absolute values of t.
    pub(super) fn sizes(&self) -> Vec<f64> {
        self.vector.iter().map(size).collect()
    }

    /// Intervals of `row . (W^T t)`, given the reach of each birth's shape through these rows.
    pub(super) fn times(&self, rows: &Rows, reaches: &[f64]) -> Vec<Interval> {
        let sizes = self.sizes();
        let mut sums = vec![0.0; self.weights.shape().1];
        for (weights, &size) in self.weights.rows.iter().zip(&sizes) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = add_up(*sum, times_up(weight.abs(), size));
            }
        }
        let by_spectrum = times_up(self.norms.spectral, length(sizes.into_iter()));
        let stretch = length(sums.into_iter()).min(by_spectrum);
        rows.rows.par_iter().map(|row| self.met(row, stretch, reaches)).collect()
    }

    /// The ball is met in three ways: by each row of W, by `stretch`, which is the length of the
    /// sum of their sizes or made from their spectral norm, and by where rho can be.
    fn met(&self, row: &Row, stretch: f64, reaches: &[f64]) -> Interval {
        let mut total = Interval::ZERO;
        let mut deviation = 0.0;
        let rows = self.weights.rows.iter().zip(&self.norms.columns).zip(self.vector.iter());
        for ((weights, &column), t) in rows {
            let (mut centre, mut by_box) = (Interval::ZERO, 0.0);
            for (at, &weight) in weights.iter().enumerate() {
                centre = sum(centre, times(Interval::point(weight), row.centre[at]));
                by_box = add_up(by_box, times_up(weight.abs(), row.radius[at]));
            }
            total = sum(total, times(centre, t));
            let by_each = by_box.min(times_up(row.norm, column));
            deviation = add_up(deviation, times_up(by_each, size(t)));
        }
        let by_births = row.by_births(reaches.iter().copied());
        let deviation = deviation.min(times_up(row.norm, stretch)).min(by_births);
        sum(total, Interval::new(-deviation, deviation))
    }
}
