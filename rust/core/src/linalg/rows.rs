//! Products of float32 kernels with coefficients in float64.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use super::PARALLEL_FROM;

/// Columns of a matrix-vector product that one task takes.
const COLUMNS_PER_TASK: usize = 512;
/// Rows of a kernel that one task widens.
const KERNEL_ROWS_PER_TASK: usize = 64;

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
            let (m, r) = (centre[row], radius[row]);
            let sums = centres.iter_mut().zip(radii.iter_mut());
            for (&weight, (c, rho)) in part.row(row).iter().zip(sums) {
                let weight = f64::from(weight);
                *c += weight * m;
                *rho += weight.abs() * r;
            }
        }
    };
    if rows.len() * columns < PARALLEL_FROM {
        accumulate(0, &mut image.0, &mut image.1);
    } else {
        let radii = image.1.par_chunks_mut(COLUMNS_PER_TASK);
        image.0.par_chunks_mut(COLUMNS_PER_TASK).zip(radii).enumerate().for_each(
            |(task, (centres, radii))| accumulate(task * COLUMNS_PER_TASK, centres, radii),
        );
    }
    image
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
    let blocks: Vec<Array2<f64>> = if count * kernel.len() < PARALLEL_FROM {
        firsts.iter().map(|&first| task(first)).collect()
    } else {
        firsts.par_iter().map(|&first| task(first)).collect()
    };
    let mut pulled = Array2::zeros((count, inputs));
    for (first, block) in firsts.into_iter().zip(blocks) {
        let columns = Slice::from(first..first + block.ncols());
        pulled.slice_axis_mut(Axis(1), columns).assign(&block);
    }
    pulled
}

/// `W C^T`, or `|W| C^T`, for some rows of a kernel W: of shape (those rows, rows of C).
pub(crate) fn selected_product(
    kernel: ArrayView2<'_, f32>,
    selected: &[usize],
    coefficients: ArrayView2<'_, f64>,
    absolute: bool,
) -> Array2<f64> {
    let columns = kernel.ncols();
    let mut product = Array2::zeros((selected.len(), coefficients.nrows()));
    let task = |(rows, mut target): (&[usize], ArrayViewMut2<'_, f64>)| {
        let weight = |(row, column): (usize, usize)| {
            let weight = kernel[[rows[row], column]];
            f64::from(if absolute { weight.abs() } else { weight })
        };
        let block = Array2::from_shape_fn((rows.len(), columns), weight);
        let right = coefficients.t();
        ndarray::linalg::general_mat_mul(1.0, &block, &right, 0.0, &mut target);
    };
    if product.len() * columns < PARALLEL_FROM {
        let targets = product.axis_chunks_iter_mut(Axis(0), KERNEL_ROWS_PER_TASK);
        selected.chunks(KERNEL_ROWS_PER_TASK).zip(targets).for_each(task);
    } else {
        let targets = product.axis_chunks_iter_mut(Axis(0), KERNEL_ROWS_PER_TASK);
        selected.par_chunks(KERNEL_ROWS_PER_TASK).zip(targets.into_par_iter()).for_each(task);
    }
    product
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
        fn selected_rows_are_those_of_the_whole_product(
            seed in 0_u64..1_000,
            rows in 1_usize..200,
            columns in 1_usize..120,
            count in 1_usize..20,
        ) {
            let kernel = sample(seed, rows, columns);
            let coefficients = sample(seed + 1, count, columns).mapv(f64::from);
            let selected: Vec<usize> = (0..rows).filter(|row| row % 3 != 1).collect();
            for absolute in [false, true] {
                let whole = pull_back(kernel.view(), coefficients.view(), absolute);
                let part =
                    selected_product(kernel.view(), &selected, coefficients.view(), absolute);
                let expected = whole.select(Axis(1), &selected).reversed_axes();
                prop_assert!((&part - &expected).iter().all(|d| d.abs() < 1e-12));
            }
        }
    }
}
