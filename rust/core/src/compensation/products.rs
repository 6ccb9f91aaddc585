//! Products of large matrices that may be stopped: they ask between slabs of the result's rows.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use crate::error::{Poll, Result};
use crate::linalg;

/// Multiplications between two questions to the caller: some hundredths of a second.
const MULTIPLICATIONS_PER_POLL: usize = 1 << 30;
/// Slabs have a multiple of so many rows, for products to be cut into even tasks.
const ROWS_OF_SLABS: usize = 256;
/// Sides of the tiles that are mirrored at a time: both fit into a core's cache.
const TILE: usize = 64;

/// Some rows and columns of a matrix.
pub(super) fn part<T>(
    matrix: ArrayView2<'_, T>,
    rows: Range<usize>,
    columns: Range<usize>,
) -> ArrayView2<'_, T> {
    matrix.slice_axis_move(Axis(0), rows.into()).slice_axis_move(Axis(1), columns.into())
}

/// The same, to write.
pub(super) fn part_mut<T>(
    matrix: ArrayViewMut2<'_, T>,
    rows: Range<usize>,
    columns: Range<usize>,
) -> ArrayViewMut2<'_, T> {
    matrix.slice_axis_move(Axis(0), rows.into()).slice_axis_move(Axis(1), columns.into())
}

/// Add `sign A B` to `target`.
pub(super) fn add_product(
    mut target: ArrayViewMut2<'_, f64>,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    sign: f64,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let rows = rows_per_poll(a.ncols() * b.ncols());
    let slabs = target.axis_chunks_iter_mut(Axis(0), rows).zip(a.axis_chunks_iter(Axis(0), rows));
    for (target, a) in slabs {
        poll.check()?;
        linalg::add_product(target, a, b, sign);
    }
    Ok(())
}

/// `A B`.
pub(super) fn product(
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    poll: &mut Poll<'_>,
) -> Result<Array2<f64>> {
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    add_product(product.view_mut(), a, b, 1.0, poll)?;
    Ok(product)
}

/// Add `sign B^T B` to the lower triangle of `gram`; what is above it stays as it is.
pub(super) fn add_gram(
    mut gram: ArrayViewMut2<'_, f64>,
    block: ArrayView2<'_, f64>,
    sign: f64,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let size = gram.nrows();
    let rows = rows_per_poll(block.nrows() * size);
    let tile = |(at, tile): (usize, ArrayViewMut2<'_, f64>)| {
        let (first, rows) = (at * ROWS_OF_SLABS, tile.nrows());
        let (before, own) = tile.split_at(Axis(1), first);
        let upto = block.slice_axis(Axis(1), Slice::from(..first + rows));
        let (left, right) = upto.split_at(Axis(1), first);
        linalg::add_product(before, right.t(), left, sign);
        let mut square = Array2::zeros((rows, rows));
        linalg::add_gram(square.view_mut(), right, sign);
        let mut own = own;
        for (row, (mut target, values)) in own.rows_mut().into_iter().zip(square.rows()).enumerate()
        {
            for (target, value) in target.iter_mut().zip(values).take(row + 1) {
                *target += value;
            }
        }
    };
    for (slab, mut rows_of_slab) in gram.axis_chunks_iter_mut(Axis(0), rows).enumerate() {
        poll.check()?;
        let before = slab * (rows / ROWS_OF_SLABS);
        let tiles = rows_of_slab.axis_chunks_iter_mut(Axis(0), ROWS_OF_SLABS).into_par_iter();
        tiles.enumerate().for_each(|(at, rows)| tile((before + at, rows)));
    }
    Ok(())
}

fn rows_per_poll(multiplications_per_row: usize) -> usize {
    let rows = MULTIPLICATIONS_PER_POLL / multiplications_per_row.max(1);
    (rows / ROWS_OF_SLABS).max(1) * ROWS_OF_SLABS
}

/// Copy the lower triangle to the upper one, tile by tile.
pub(super) fn mirror(matrix: &mut Array2<f64>) {
    let size = matrix.nrows();
    for first in (0..size).step_by(TILE) {
        let last = (first + TILE).min(size);
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
        let tiles = below.axis_chunks_iter(Axis(0), TILE);
        let mut right = right;
        let targets = right.axis_chunks_iter_mut(Axis(1), TILE);
        targets.into_par_iter().zip(tiles.into_par_iter()).for_each(|(mut target, tile)| {
            target.assign(&tile.t());
        });
    }
}
