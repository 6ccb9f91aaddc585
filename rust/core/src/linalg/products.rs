//! Products of two matrices.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use super::rows_per_task;
use crate::tasks::is_worth_sharing;

/// Rows of the result of a matrix product in f32 that one task takes.
const ROWS_PER_F32_TASK: usize = 128;

/// Add `sign A B` to `target`, on this thread: for products that are shared out in tiles.
pub(crate) fn multiply_add(
    mut target: ArrayViewMut2<'_, f64>,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    sign: f64,
) {
    ndarray::linalg::general_mat_mul(sign, &a, &b, 1.0, &mut target);
}

/// `A B`; threads share out the rows of A.
pub(crate) fn parallel_product(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    if !is_worth_sharing(a.len() * b.ncols()) {
        return a.dot(b);
    }
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    let rows = a.axis_chunks_iter(Axis(0), rows_per_task(a.nrows())).into_par_iter();
    product
        .axis_chunks_iter_mut(Axis(0), rows_per_task(a.nrows()))
        .into_par_iter()
        .zip(rows)
        .for_each(|(mut target, rows)| {
            ndarray::linalg::general_mat_mul(1.0, &rows, b, 0.0, &mut target);
        });
    product
}

/// `A B` in f32 into `product`; threads share out the rows of A.
pub(crate) fn product_f32(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    product: &mut ArrayViewMut2<'_, f32>,
) {
    let parallel = is_worth_sharing(a.len() * b.ncols());
    let rows = a.axis_chunks_iter(Axis(0), ROWS_PER_F32_TASK);
    let targets = product.axis_chunks_iter_mut(Axis(0), ROWS_PER_F32_TASK);
    let task = |(rows, mut target): (ArrayView2<'_, f32>, ArrayViewMut2<'_, f32>)| {
        multiply_f32(rows, b, &mut target);
    };
    if parallel {
        rows.into_par_iter().zip(targets.into_par_iter()).for_each(task);
    } else {
        rows.zip(targets).for_each(task);
    }
}

/// `A B` in f32 into `product`, where `fill(row, values)` writes a row of A (of length
/// `b.nrows()`) when it is needed; A is never there as a whole.
pub(crate) fn product_of_rows(
    b: ArrayView2<'_, f32>,
    product: &mut ArrayViewMut2<'_, f32>,
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let inner = b.nrows();
    product.axis_chunks_iter_mut(Axis(0), ROWS_PER_F32_TASK).into_par_iter().enumerate().for_each(
        |(task, mut target)| {
            let mut rows = vec![0.0; target.nrows() * inner];
            for (offset, row) in rows.chunks_exact_mut(inner).enumerate() {
                fill(task * ROWS_PER_F32_TASK + offset, row);
            }
            if let Ok(rows) = ArrayView2::from_shape((target.nrows(), inner), &rows) {
                multiply_f32(rows, b, &mut target);
            }
        },
    );
}

/// `A B` in f32 into `product`, on this thread.
pub(crate) fn multiply_f32(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    product: &mut ArrayViewMut2<'_, f32>,
) {
    ndarray::linalg::general_mat_mul(1.0, &a, &b, 0.0, product);
}
