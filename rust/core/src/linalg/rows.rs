//! Products of float32 kernels with coefficients in float64.

#![expect(clippy::inline_always)] // what is not inlined is compiled for the narrowest registers

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, Slice, Zip};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::lanes::{self, side_by_side, sum_of_squares};
use crate::tasks::is_worth_sharing;

/// Columns of a matrix-vector product that one task takes.
const COLUMNS_PER_TASK: usize = 512;
/// Rows of a kernel that one task widens.
const KERNEL_ROWS_PER_TASK: usize = 64;
/// Rows of a selection that one task takes: fewer, as there are few in all.
const SELECTED_ROWS_PER_TASK: usize = 32;

/// `m W` and `r |W|`, for a centre m and a radius r of length `kernel.nrows()`.
///
/// Rows where both are zero are skipped.
pub(crate) fn centre_radius_product(
    kernel: ArrayView2<'_, f32>,
    centre: &[f64],
    radius: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let columns = kernel.ncols();
    let mut image = (vec![0.0; columns], vec![0.0; columns]);
    let rows: Vec<usize> =
        (0..kernel.nrows()).filter(|&row| centre[row] != 0.0 || radius[row] != 0.0).collect();
    let accumulate = |first: usize, centres: &mut [f64], radii: &mut [f64]| {
        let part = kernel.slice_axis(Axis(1), Slice::from(first..first + centres.len()));
        for &row in &rows {
            let (middle, reach) = (centre[row], radius[row]);
            let weights = &side_by_side(part.row(row));
            lanes::run(AddRow { weights, middle, reach, centres, radii });
        }
    };
    if is_worth_sharing(rows.len() * columns) {
        let radii = image.1.par_chunks_mut(COLUMNS_PER_TASK);
        image.0.par_chunks_mut(COLUMNS_PER_TASK).zip(radii).enumerate().for_each(
            |(task, (centres, radii))| accumulate(task * COLUMNS_PER_TASK, centres, radii),
        );
    } else {
        accumulate(0, &mut image.0, &mut image.1);
    }
    image
}

/// A row of a kernel times a middle, and its sizes times a reach, added to what there is.
struct AddRow<'a> {
    weights: &'a [f32],
    middle: f64,
    reach: f64,
    centres: &'a mut [f64],
    radii: &'a mut [f64],
}

impl WithSimd for AddRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let sums = self.centres.iter_mut().zip(self.radii);
        for (&weight, (centre, radius)) in self.weights.iter().zip(sums) {
            let weight = f64::from(weight);
            *centre += weight * self.middle;
            *radius += weight.abs() * self.reach;
        }
    }
}

/// Centre and radius rows times W and |W|, many rows at a time.
pub(crate) struct WideKernel {
    signed: Array2<f64>,
    absolute: Array2<f64>,
}

impl WideKernel {
    /// Widen a kernel to f64 once for many products.
    pub(crate) fn new(kernel: ArrayView2<'_, f32>) -> Self {
        let signed = kernel.mapv(f64::from);
        let absolute = signed.mapv(f64::abs);
        Self { signed, absolute }
    }

    /// `(centres W, radii |W|)`, both of shape `(rows, kernel columns)`.
    pub(crate) fn apply(
        &self,
        centres: &Array2<f64>,
        radii: &Array2<f64>,
    ) -> (Array2<f64>, Array2<f64>) {
        (centres.dot(&self.signed), radii.dot(&self.absolute))
    }
}

/// `rows W^T`, or `rows |W|^T`: coefficients on the columns of W, taken back to its rows.
///
/// Tasks share out the rows of W, which is read once.
pub(crate) fn pull_back(
    kernel: ArrayView2<'_, f32>,
    rows: ArrayView2<'_, f64>,
    absolute: bool,
) -> Array2<f64> {
    let (inputs, count) = (kernel.nrows(), rows.nrows());
    let task = |first: usize| {
        let last = (first + KERNEL_ROWS_PER_TASK).min(inputs);
        let part = kernel.slice_axis(Axis(0), Slice::from(first..last));
        let block =
            part.mapv(|weight| if absolute { f64::from(weight.abs()) } else { f64::from(weight) });
        rows.dot(&block.t())
    };
    let firsts: Vec<usize> = (0..inputs).step_by(KERNEL_ROWS_PER_TASK).collect();
    let blocks: Vec<Array2<f64>> = if is_worth_sharing(count * kernel.len()) {
        firsts.par_iter().map(|&first| task(first)).collect()
    } else {
        firsts.iter().map(|&first| task(first)).collect()
    };
    let mut pulled = Array2::zeros((count, inputs));
    for (first, block) in firsts.into_iter().zip(blocks) {
        let columns = Slice::from(first..first + block.ncols());
        pulled.slice_axis_mut(Axis(1), columns).assign(&block);
    }
    pulled
}

/// For some rows and columns W of a kernel: `W S^T`, `|W| A^T` for coefficients S and A on the
/// columns, both of shape (rows of W, rows of S), and the lengths of the rows of W, as computed.
pub(crate) fn selected_products(
    kernel: ArrayView2<'_, f32>,
    rows: &[usize],
    columns: &[usize],
    (signed, absolute): (ArrayView2<'_, f64>, ArrayView2<'_, f64>),
) -> (Array2<f64>, Array2<f64>, Vec<f64>) {
    let shape = (rows.len(), signed.nrows());
    let (mut by_sign, mut by_size) = (Array2::zeros(shape), Array2::zeros(shape));
    let mut lengths = vec![0.0; rows.len()];
    let task = |rows: &[usize],
                mut by_sign: ArrayViewMut2<'_, f64>,
                mut by_size: ArrayViewMut2<'_, f64>,
                lengths: &mut [f64]| {
        let mut block = Array2::zeros((rows.len(), columns.len()));
        for ((mut weights, length), &row) in block.rows_mut().into_iter().zip(lengths).zip(rows) {
            let row = kernel.row(row);
            for (weight, &column) in weights.iter_mut().zip(columns) {
                *weight = f64::from(row[column]);
            }
            *length = weights.as_slice().map_or(0.0, sum_of_squares).sqrt();
        }
        general_mat_mul(1.0, &block, &signed.t(), 0.0, &mut by_sign);
        block.mapv_inplace(f64::abs);
        general_mat_mul(1.0, &block, &absolute.t(), 0.0, &mut by_size);
    };
    let parts = rows.chunks(SELECTED_ROWS_PER_TASK).zip(lengths.chunks_mut(SELECTED_ROWS_PER_TASK));
    let targets = by_sign
        .axis_chunks_iter_mut(Axis(0), SELECTED_ROWS_PER_TASK)
        .zip(by_size.axis_chunks_iter_mut(Axis(0), SELECTED_ROWS_PER_TASK));
    let tasks = parts.zip(targets);
    if is_worth_sharing(rows.len() * columns.len() * signed.nrows()) {
        let tasks: Vec<_> = tasks.collect();
        tasks
            .into_par_iter()
            .with_max_len(1)
            .for_each(|((rows, lengths), (signs, sizes))| task(rows, signs, sizes, lengths));
    } else {
        tasks.for_each(|((rows, lengths), (signs, sizes))| task(rows, signs, sizes, lengths));
    }
    (by_sign, by_size, lengths)
}

/// Some columns of a matrix, in row-major order: `select` would lay them out one after the other.
pub(crate) fn select_columns<T: Copy + Default + Send + Sync>(
    matrix: ArrayView2<'_, T>,
    columns: &[usize],
) -> Array2<T> {
    let mut selected = Array2::default((matrix.nrows(), columns.len()));
    let work = Zip::from(selected.rows_mut()).and(matrix.rows());
    let row = |mut to: ArrayViewMut1<'_, T>, from: ArrayView1<'_, T>| {
        for (to, &column) in to.iter_mut().zip(columns) {
            *to = from[column];
        }
    };
    if is_worth_sharing(matrix.nrows() * columns.len()) {
        work.par_for_each(row);
    } else {
        work.for_each(row);
    }
    selected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::linalg::sample;
    use crate::random::Random;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn skipping_zero_rows_and_sharing_out_columns_change_nothing(
            seed in 0_u64..1_000,
            rows in 1_usize..600,
            columns in 1_usize..1200,
        ) {
            let kernel = sample(seed, rows, columns);
            let mut random = Random::from_seed(seed + 1);
            let mut part = || if random.uniform() < 0.3 { 0.0 } else { random.uniform() };
            let centre: Vec<f64> = (0..rows).map(|_| part()).collect();
            let radius: Vec<f64> = (0..rows).map(|_| part()).collect();
            let (c, r) = centre_radius_product(kernel.view(), &centre, &radius);
            for column in 0..columns {
                let (mut middle, mut reach) = (0.0, 0.0);
                for row in 0..rows {
                    let weight = f64::from(kernel[[row, column]]);
                    middle += weight * centre[row];
                    reach += weight.abs() * radius[row];
                }
                prop_assert_eq!(c[column], middle);
                prop_assert_eq!(r[column], reach);
            }
        }

        #[test]
        fn selected_rows_and_columns_are_those_of_the_whole_product(
            seed in 0_u64..1_000,
            rows in 1_usize..200,
            columns in 1_usize..120,
            count in 1_usize..20,
        ) {
            let kernel = sample(seed, rows, columns);
            let coefficients = sample(seed + 1, count, columns).mapv(f64::from);
            let selected: Vec<usize> = (0..rows).filter(|row| row % 3 != 1).collect();
            let active: Vec<usize> = (0..columns).filter(|column| column % 4 != 2).collect();
            let part = select_columns(coefficients.view(), &active);
            prop_assert_eq!(&part, &coefficients.select(Axis(1), &active));
            let found =
                selected_products(kernel.view(), &selected, &active, (part.view(), part.view()));
            let weights = select_columns(kernel.view(), &active);
            for (absolute, found) in [(false, &found.0), (true, &found.1)] {
                let whole = pull_back(weights.view(), part.view(), absolute);
                let expected = whole.select(Axis(1), &selected).reversed_axes();
                prop_assert!((found - &expected).iter().all(|d| d.abs() < 1e-12));
            }
            for (&row, length) in selected.iter().zip(found.2) {
                let squares: f64 = weights.row(row).iter().map(|&w| f64::from(w).powi(2)).sum();
                prop_assert!((length - squares.sqrt()).abs() < 1e-12);
            }
        }
    }
}
