//! The weights that a consumer reads a layer's units with, as they are refitted.

use ndarray::{Array1, Array2, ArrayView2, Axis, Slice};

use crate::linalg::{add_product, parallel_product};

/// A consumer's kernel in f64, the rows of a layer's units block by block.
///
/// Row r of it reads unit `r % units`: a block is `units` rows, one for each place (a kernel tap,
/// a flattened position) that a unit is read from.
pub(super) struct Outgoing {
    kernel: Array2<f64>,
    units: usize,
}

impl Outgoing {
    pub(super) fn new(kernel: ArrayView2<'_, f32>, units: usize) -> Self {
        Self { kernel: kernel.mapv(f64::from), units }
    }

    /// The same as seen through a metric on the outputs: M with `metric = M^T M` on its columns.
    pub(super) fn weighted(self, metric: Option<&Array2<f64>>) -> Self {
        let Some(metric) = metric else { return self };
        Self { kernel: parallel_product(&self.kernel, &metric.t().to_owned()), ..self }
    }

    /// One row a unit: all the weights that it is read with, block by block.
    pub(super) fn by_unit(&self) -> Array2<f64> {
        let (blocks, columns) = (self.blocks(), self.kernel.ncols());
        let mut rows = Array2::zeros((self.units, blocks * columns));
        for (block, part) in self.kernel.axis_chunks_iter(Axis(0), self.units).enumerate() {
            let place = Slice::from(block * columns..(block + 1) * columns);
            rows.slice_axis_mut(Axis(1), place).assign(&part);
        }
        rows
    }

    /// `V^T V`, for the weights V, one column a unit.
    pub(super) fn gram(&self) -> Array2<f64> {
        let mut gram = Array2::zeros((self.units, self.units));
        for block in self.kernel.axis_chunks_iter(Axis(0), self.units) {
            add_product(gram.view_mut(), block, block.t(), 1.0);
        }
        gram
    }

    /// The kernel that reads kept units instead: `coefficients` are those of the kept units
    /// (columns) for each unit (rows).
    pub(super) fn refitted(&self, coefficients: &Array2<f64>) -> Array2<f64> {
        let kept = coefficients.ncols();
        let mut kernel = Array2::zeros((self.blocks() * kept, self.kernel.ncols()));
        let targets = kernel.axis_chunks_iter_mut(Axis(0), kept);
        for (target, block) in targets.zip(self.kernel.axis_chunks_iter(Axis(0), self.units)) {
            add_product(target, coefficients.t(), block, 1.0);
        }
        kernel
    }

    /// What the outputs gain when every unit's value grows by its column of `gaps`: one row for
    /// each block of the input's last axis, over and over.
    pub(super) fn shift(&self, gaps: &Array2<f64>) -> Array1<f64> {
        let blocks = self.kernel.axis_chunks_iter(Axis(0), self.units).enumerate();
        blocks.fold(Array1::zeros(self.kernel.ncols()), |shift, (block, weights)| {
            shift + gaps.row(block % gaps.nrows()).dot(&weights)
        })
    }

    fn blocks(&self) -> usize {
        self.kernel.nrows() / self.units
    }
}
