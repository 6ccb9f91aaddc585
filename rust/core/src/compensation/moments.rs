//! Means and covariances of the units that a consumer reads, from sampled activations.

use ndarray::{Array2, ArrayView2, Axis, Slice, Zip};
use rayon::prelude::*;

use super::products::{add_gram, add_product};
use crate::error::{Poll, Result};
use crate::linalg::mirror;

/// Rows of activations that are widened to f64 at a time: sums are added up in this order
/// whatever the number of threads.
const ROWS_WIDENED: usize = 1024;

/// Statistics of all units of the original together with those of the kept ones as they are now.
pub(super) struct Joint {
    /// Means of all units, one row for each block.
    pub(super) means: Array2<f64>,
    /// Means of the kept ones.
    pub(super) kept_means: Array2<f64>,
    /// Covariances of all units (rows) with the kept ones (columns).
    pub(super) cross: Array2<f64>,
    /// Covariances of the kept ones.
    pub(super) covariance: Array2<f64>,
}

impl Joint {
    /// From values on the same samples.
    pub(super) fn of(
        original: &Units<'_>,
        pruned: &Units<'_>,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        Ok(Self {
            means: original.means.clone(),
            kept_means: pruned.means.clone(),
            cross: original.covariance_with(pruned, poll)?,
            covariance: pruned.covariance(poll)?,
        })
    }
}

/// What a consumer reads, laid out so that every row holds all units of one place.
///
/// Positions count as samples. Where several elements of the last axis belong to one unit they are
/// different `blocks` of it: each has a mean of its own, and they share their covariances.
pub(super) struct Units<'a> {
    rows: ArrayView2<'a, f32>,
    blocks: usize,
    /// Shape `(blocks, units)`; subtracted before anything is multiplied, and 0 in the uncentred
    /// form.
    means: Array2<f64>,
}

impl<'a> Units<'a> {
    /// Lay out values of shape `(samples, elements)`; `width` is the length of the elements' last
    /// axis, a multiple of `units`. `None` if that is not their shape.
    pub(super) fn new(
        values: ArrayView2<'a, f32>,
        width: usize,
        units: usize,
        centred: bool,
    ) -> Option<Self> {
        let rows = values.len().checked_div(units)?;
        let rows = values.into_shape_with_order((rows, units)).ok()?;
        let blocks = width.checked_div(units).filter(|blocks| *blocks > 0)?;
        let mut units = Self { rows, blocks, means: Array2::zeros((blocks, units)) };
        if centred {
            units.means = units.measured_means();
        }
        Some(units)
    }

    /// Whether every value is finite.
    pub(super) fn are_finite(&self) -> bool {
        self.rows.iter().all(|value| value.is_finite())
    }

    /// Mean of the products of all pairs of units, each less its mean.
    pub(super) fn covariance(&self, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
        let units = self.rows.ncols();
        let mut sums = Array2::zeros((units, units));
        for first in self.firsts() {
            add_gram(sums.view_mut(), self.widened(first).view(), 1.0, poll)?;
        }
        let count = self.count();
        sums.par_mapv_inplace(|sum| sum / count);
        mirror(&mut sums);
        Ok(sums)
    }

    /// The same between these units (rows) and `others` (columns) in the same places.
    fn covariance_with(&self, others: &Units<'_>, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
        let mut sums = Array2::zeros((self.rows.ncols(), others.rows.ncols()));
        for first in self.firsts() {
            let (ours, theirs) = (self.widened(first), others.widened(first));
            add_product(sums.view_mut(), ours.t(), theirs.view(), 1.0, poll)?;
        }
        let count = self.count();
        sums.par_mapv_inplace(|sum| sum / count);
        Ok(sums)
    }

    fn measured_means(&self) -> Array2<f64> {
        let parts: Vec<Array2<f64>> = self
            .firsts()
            .into_par_iter()
            .map(|first| {
                let mut sums = Array2::zeros(self.means.dim());
                for (row, values) in self.chunk(first).rows().into_iter().enumerate() {
                    let block = (first + row) % self.blocks;
                    for (sum, &value) in sums.row_mut(block).iter_mut().zip(values) {
                        *sum += f64::from(value);
                    }
                }
                sums
            })
            .collect();
        let sums = parts.iter().fold(Array2::zeros(self.means.dim()), |sums, part| sums + part);
        sums * (self.blocks as f64 / self.count())
    }

    fn firsts(&self) -> Vec<usize> {
        (0..self.rows.nrows()).step_by(ROWS_WIDENED).collect()
    }

    fn count(&self) -> f64 {
        self.rows.nrows().max(1) as f64
    }

    fn chunk(&self, first: usize) -> ArrayView2<'_, f32> {
        let last = (first + ROWS_WIDENED).min(self.rows.nrows());
        self.rows.slice_axis(Axis(0), Slice::from(first..last))
    }

    fn widened(&self, first: usize) -> Array2<f64> {
        let mut wide = Array2::zeros(self.chunk(first).raw_dim());
        let chunk = self.chunk(first);
        Zip::indexed(wide.rows_mut()).and(chunk.rows()).par_for_each(|row, mut wide, values| {
            let means = self.means.row((first + row) % self.blocks);
            for ((wide, &value), mean) in wide.iter_mut().zip(values).zip(means) {
                *wide = f64::from(value) - mean;
            }
        });
        wide
    }
}
