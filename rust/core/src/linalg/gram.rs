//! Gram products, of which one triangle is computed.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use super::rows_per_task;
use crate::error::{Poll, Result};
use crate::tasks::is_worth_sharing;

/// Rows of a kernel that are widened to f64 at a time.
const ROWS_WIDENED: usize = 512;
/// Columns of a task's result that are multiplied at a time.
const COLUMNS_AT_ONCE: usize = 512;
/// Sides of the squares that are mirrored at a time: both fit into a core's cache.
const SQUARE: usize = 64;

/// `W^T W` in f64, without a copy of W in f64.
pub(crate) fn gram(kernel: ArrayView2<'_, f32>, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
    let units = kernel.ncols();
    let mut gram = Array2::zeros((units, units));
    let mut wide = Array2::zeros((ROWS_WIDENED.min(kernel.nrows()), units));
    for part in kernel.axis_chunks_iter(Axis(0), ROWS_WIDENED) {
        poll.check()?;
        let mut block = wide.slice_axis_mut(Axis(0), Slice::from(..part.nrows()));
        let work = ndarray::Zip::from(&mut block).and(&part);
        let widen = |wide: &mut f64, &weight: &f32| *wide = f64::from(weight);
        if is_worth_sharing(part.len()) {
            work.par_for_each(widen);
        } else {
            work.for_each(widen);
        }
        add_gram(gram.view_mut(), block.view(), 1.0);
    }
    mirror(&mut gram);
    Ok(gram)
}

/// Add `sign B^T B` to the lower triangle of `gram`.
pub(crate) fn add_gram(gram: ArrayViewMut2<'_, f64>, block: ArrayView2<'_, f64>, sign: f64) {
    add_lower(gram, block, block, sign);
}

/// Add `sign A^T B`, which is symmetric, to the lower triangle of `gram`.
fn add_lower(
    mut gram: ArrayViewMut2<'_, f64>,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    sign: f64,
) {
    let rows = rows_per_task(gram.nrows());
    let task = |(index, mut target): (usize, ArrayViewMut2<'_, f64>)| {
        let first = index * rows;
        let last = first + target.nrows();
        let left = a.slice_axis(Axis(1), Slice::from(first..last));
        let right = b.slice_axis(Axis(1), Slice::from(..last));
        let mut target = target.slice_axis_mut(Axis(1), Slice::from(..last));
        let targets = target.axis_chunks_iter_mut(Axis(1), COLUMNS_AT_ONCE);
        // A part of the columns at a time: what is packed of each stays in the core's own cache,
        // where one thread does not push out what another needs.
        let parts = right.axis_chunks_iter(Axis(1), COLUMNS_AT_ONCE);
        for (mut target, right) in targets.zip(parts) {
            ndarray::linalg::general_mat_mul(sign, &left.t(), &right, 1.0, &mut target);
        }
    };
    if !is_worth_sharing(a.nrows() * gram.len()) {
        gram.axis_chunks_iter_mut(Axis(0), rows).enumerate().for_each(task);
        return;
    }
    // The longest rows first: then the last tasks are short, and no thread waits long for another.
    let mut tasks: Vec<_> = gram.axis_chunks_iter_mut(Axis(0), rows).enumerate().collect();
    tasks.reverse();
    tasks.into_par_iter().with_max_len(1).for_each(task);
}

/// Copy the lower triangle to the upper one, tile by tile.
pub(crate) fn mirror(matrix: &mut Array2<f64>) {
    let size = matrix.nrows();
    for first in (0..size).step_by(SQUARE) {
        let last = (first + SQUARE).min(size);
        let (upper, mut below) = matrix.view_mut().split_at(Axis(0), last);
        let mut rows = upper.slice_axis_move(Axis(0), Slice::from(first..));
        let below = below.slice_axis_mut(Axis(1), Slice::from(first..last));
        let (mut own, right) = rows.view_mut().split_at(Axis(1), last);
        let mut own = own.slice_axis_mut(Axis(1), Slice::from(first..));
        for row in 0..last - first {
            for column in 0..row {
                own[[column, row]] = own[[row, column]];
            }
        }
        let tiles = below.axis_chunks_iter(Axis(0), SQUARE);
        let mut right = right;
        let targets = right.axis_chunks_iter_mut(Axis(1), SQUARE);
        let turn = |(mut target, tile): (ArrayViewMut2<'_, f64>, ArrayView2<'_, f64>)| {
            target.assign(&tile.t());
        };
        if is_worth_sharing(size * size) {
            targets.into_par_iter().zip(tiles.into_par_iter()).for_each(turn);
        } else {
            targets.zip(tiles).for_each(turn);
        }
    }
}

/// Change a Gram matrix for rows of W that were replaced: `G + A^T A - R^T R`.
pub(crate) fn update_gram(gram: &mut Array2<f64>, added: &Array2<f64>, removed: &Array2<f64>) {
    // Of a merge's rows the nominees' are all zero, and many may be so already.
    let filled = |rows: &Array2<f64>| -> Vec<usize> {
        let is_filled = |&row: &usize| rows.row(row).iter().any(|&weight| weight != 0.0);
        (0..rows.nrows()).filter(is_filled).collect()
    };
    let added = added.select(Axis(0), &filled(added));
    let removed = removed.select(Axis(0), &filled(removed));
    let rows = ndarray::concatenate![Axis(0), added, removed];
    let signed = ndarray::concatenate![Axis(0), added, -removed];
    add_lower(gram.view_mut(), rows.view(), signed.view(), 1.0);
    mirror(gram);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::never_stop;
    use crate::linalg::sample;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn gram_is_the_product_and_follows_replaced_rows(
            seed in 0_u64..1_000,
            rows in 1_usize..400,
            columns in 1_usize..300,
        ) {
            let kernel = sample(seed, rows, columns);
            let wide = kernel.mapv(f64::from);
            let mut go_on = never_stop();
            let mut product = gram(kernel.view(), &mut Poll::new(&mut go_on)).expect("not stopped");
            prop_assert!((&product - &wide.t().dot(&wide)).iter().all(|d| d.abs() < 1e-12));
            let removed = wide.select(Axis(0), &[0]);
            let added = sample(seed + 1, 1, columns).mapv(f64::from);
            update_gram(&mut product, &added, &removed);
            let expected = wide.t().dot(&wide) - removed.t().dot(&removed) + added.t().dot(&added);
            prop_assert!((&product - &expected).iter().all(|d| d.abs() < 1e-12));
            prop_assert_eq!(&product, &product.t());
        }
    }
}
