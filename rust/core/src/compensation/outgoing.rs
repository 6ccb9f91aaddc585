//! The weights that a consumer reads a layer's units with, as they are refitted.

use ndarray::{Array1, Array2, ArrayView2, Axis, Slice, Zip};

use super::metric::Metric;
use super::products::{add_gram, add_product, part, part_mut};
use crate::error::{Poll, Result};

/// Columns that are there in f64 at a time.
const COLUMNS_WIDENED: usize = 512;

/// A consumer's kernel, the rows of a layer's units block by block.
///
/// Row r of it reads unit `r % units`: a block is `units` rows, one for each place (a kernel tap,
/// a flattened position) that a unit is read from.
pub(super) struct Outgoing<'a> {
    kernel: ArrayView2<'a, f32>,
    units: usize,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(kernel: ArrayView2<'a, f32>, units: usize) -> Self {
        Self { kernel, units }
    }

    /// One row a unit: all the weights that it is read with, block by block, as seen through a
    /// metric on the outputs.
    pub(super) fn by_unit(
        &self,
        metric: Option<&Metric>,
        poll: &mut Poll<'_>,
    ) -> Result<Array2<f64>> {
        let columns = self.columns(metric);
        let mut rows = Array2::zeros((self.units, self.blocks().len() * columns));
        for (number, block) in self.blocks().enumerate() {
            for first in (0..columns).step_by(COLUMNS_WIDENED) {
                let last = (first + COLUMNS_WIDENED).min(columns);
                let panel = panel(block, metric, first, last, poll)?;
                let place = number * columns + first..number * columns + last;
                part_mut(rows.view_mut(), 0..self.units, place).assign(&panel);
            }
        }
        Ok(rows)
    }

    /// `V^T V`, for the weights V as seen through a metric, one column a unit: the lower triangle.
    pub(super) fn gram(&self, metric: Option<&Metric>, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
        let columns = self.columns(metric);
        let mut gram = Array2::zeros((self.units, self.units));
        for block in self.blocks() {
            for first in (0..columns).step_by(COLUMNS_WIDENED) {
                let last = (first + COLUMNS_WIDENED).min(columns);
                let panel = panel(block, metric, first, last, poll)?;
                add_gram(gram.view_mut(), panel.t(), 1.0, poll)?;
            }
        }
        Ok(gram)
    }

    /// The kernel that reads kept units instead: `coefficients` are those of the kept units
    /// (columns) for each unit (rows).
    pub(super) fn refitted(
        &self,
        coefficients: &Array2<f64>,
        poll: &mut Poll<'_>,
    ) -> Result<Array2<f64>> {
        let (kept, columns) = (coefficients.ncols(), self.kernel.ncols());
        let mut kernel = Array2::zeros((self.blocks().len() * kept, columns));
        let targets = kernel.axis_chunks_iter_mut(Axis(0), kept.max(1));
        for (mut target, block) in targets.zip(self.blocks()) {
            for first in (0..columns).step_by(COLUMNS_WIDENED) {
                let last = (first + COLUMNS_WIDENED).min(columns);
                let wide = widened(part(block, 0..self.units, first..last));
                let target = part_mut(target.view_mut(), 0..kept, first..last);
                add_product(target, coefficients.t(), wide.view(), 1.0, poll)?;
            }
        }
        Ok(kernel)
    }

    /// What the outputs gain when every unit's value grows by its column of `gaps`: one row for
    /// each block of the input's last axis, over and over.
    pub(super) fn shift(&self, gaps: &Array2<f64>) -> Array1<f64> {
        let mut shift = Array1::zeros(self.kernel.ncols());
        for (number, block) in self.blocks().enumerate() {
            for (weights, &gap) in block.rows().into_iter().zip(gaps.row(number % gaps.nrows())) {
                Zip::from(&mut shift).and(weights).for_each(|shift: &mut f64, &weight| {
                    *shift += gap * f64::from(weight);
                });
            }
        }
        shift
    }

    fn blocks(&self) -> impl ExactSizeIterator<Item = ArrayView2<'a, f32>> + use<'a> {
        let (kernel, units) = (self.kernel, self.units);
        let part = move |first: usize| Slice::from(first * units..(first + 1) * units);
        (0..kernel.nrows() / units).map(move |at| kernel.slice_axis_move(Axis(0), part(at)))
    }

    fn columns(&self, metric: Option<&Metric>) -> usize {
        metric.map_or(self.kernel.ncols(), |metric| metric.root.ncols())
    }
}

/// Some columns of a block as seen through a metric.
fn panel(
    block: ArrayView2<'_, f32>,
    metric: Option<&Metric>,
    first: usize,
    last: usize,
    poll: &mut Poll<'_>,
) -> Result<Array2<f64>> {
    let units = 0..block.nrows();
    let Some(metric) = metric else { return Ok(widened(part(block, units, first..last))) };
    let mut panel = Array2::zeros((block.nrows(), last - first));
    // A triangle has nothing above its diagonal.
    let from = if metric.is_lower { first } else { 0 };
    for from in (from..block.ncols()).step_by(COLUMNS_WIDENED) {
        let upto = (from + COLUMNS_WIDENED).min(block.ncols());
        let wide = widened(part(block, units.clone(), from..upto));
        let root = part(metric.root.view(), from..upto, first..last);
        add_product(panel.view_mut(), wide.view(), root, 1.0, poll)?;
    }
    Ok(panel)
}

fn widened(part: ArrayView2<'_, f32>) -> Array2<f64> {
    let mut wide = Array2::zeros(part.raw_dim());
    Zip::from(&mut wide).and(part).par_for_each(|wide, &value| *wide = f64::from(value));
    wide
}
