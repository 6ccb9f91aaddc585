//! Triangular factors in place, taken apart into halves: nearly all of the work is products of
//! large matrices, whatever their size.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use super::products::{add_gram, add_product};
use crate::error::{Poll, Result};

/// Rows of a triangle that is not taken apart any further.
const LEAF: usize = 64;
/// Rows that are solved side by side.
const LANES: usize = 32;

/// `A = L L^T` in place, in the lower triangle: what is above it is neither read nor written.
/// `false` if a pivot is not above `least`.
pub(super) fn factor(
    mut matrix: ArrayViewMut2<'_, f64>,
    least: f64,
    poll: &mut Poll<'_>,
) -> Result<bool> {
    if matrix.nrows() <= LEAF {
        poll.check()?;
        return Ok(factor_leaf(&mut matrix, least));
    }
    let Quarters { mut first, mut below, mut last } = quarters(matrix.view_mut());
    if !factor(first.view_mut(), least, poll)? {
        return Ok(false);
    }
    solve_transposed(below.view_mut(), first.view(), poll)?;
    add_gram(last.view_mut(), below.t(), -1.0, poll)?;
    factor(last, least, poll)
}

/// Solve `X L^T = R` in place.
pub(super) fn solve_transposed(
    rows: ArrayViewMut2<'_, f64>,
    lower: ArrayView2<'_, f64>,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let Some(half) = half_of(lower.nrows()) else {
        poll.check()?;
        solve_leaves(rows, |lanes| forward(lower, lanes));
        return Ok(());
    };
    let (mut before, mut after) = rows.split_at(Axis(1), half);
    let (upper, below) = lower.split_at(Axis(0), half);
    let (left, right) = below.split_at(Axis(1), half);
    solve_transposed(before.view_mut(), upper.split_at(Axis(1), half).0, poll)?;
    add_product(after.view_mut(), before.view(), left.t(), -1.0, poll)?;
    solve_transposed(after, right, poll)
}

/// Solve `X L = R` in place.
pub(super) fn solve(
    rows: ArrayViewMut2<'_, f64>,
    lower: ArrayView2<'_, f64>,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let Some(half) = half_of(lower.nrows()) else {
        poll.check()?;
        solve_leaves(rows, |lanes| backward(lower, lanes));
        return Ok(());
    };
    let (mut before, mut after) = rows.split_at(Axis(1), half);
    let (upper, below) = lower.split_at(Axis(0), half);
    let (left, right) = below.split_at(Axis(1), half);
    solve(after.view_mut(), right, poll)?;
    add_product(before.view_mut(), after.view(), left, -1.0, poll)?;
    solve(before, upper.split_at(Axis(1), half).0, poll)
}

/// `L^-1` in the place of L, in the lower triangle.
pub(super) fn invert(mut lower: ArrayViewMut2<'_, f64>, poll: &mut Poll<'_>) -> Result<()> {
    if lower.nrows() <= LEAF {
        poll.check()?;
        let mut inverse = Array2::eye(lower.nrows());
        solve_transposed(inverse.view_mut(), lower.view(), poll)?;
        assign_lower(&mut lower, inverse.t());
        return Ok(());
    }
    let Quarters { first, mut below, last } = quarters(lower.view_mut());
    below.mapv_inplace(|element| -element);
    solve(below.view_mut(), first.view(), poll)?;
    solve_transposed(below.reversed_axes(), last.view(), poll)?;
    invert(first, poll)?;
    invert(last, poll)
}

/// `L^T L` in the place of L, in the lower triangle.
pub(super) fn square(mut lower: ArrayViewMut2<'_, f64>, poll: &mut Poll<'_>) -> Result<()> {
    if lower.nrows() <= LEAF {
        poll.check()?;
        let own = triangle(lower.view());
        assign_lower(&mut lower, own.t().dot(&own).view());
        return Ok(());
    }
    let Quarters { mut first, mut below, last } = quarters(lower.view_mut());
    square(first.view_mut(), poll)?;
    add_gram(first, below.view(), 1.0, poll)?;
    multiply_transposed(below.view_mut(), last.view(), poll)?;
    square(last, poll)
}

/// `L^T B` in the place of B.
fn multiply_transposed(
    mut columns: ArrayViewMut2<'_, f64>,
    lower: ArrayView2<'_, f64>,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let Some(half) = half_of(lower.nrows()) else {
        let own = columns.to_owned();
        columns.fill(0.0);
        return add_product(columns, triangle(lower).t(), own.view(), 1.0, poll);
    };
    let (mut before, after) = columns.split_at(Axis(0), half);
    let (upper, below) = lower.split_at(Axis(0), half);
    let (left, right) = below.split_at(Axis(1), half);
    multiply_transposed(before.view_mut(), upper.split_at(Axis(1), half).0, poll)?;
    add_product(before, left.t(), after.view(), 1.0, poll)?;
    multiply_transposed(after, right, poll)
}

/// A lower triangle's two halves on the diagonal, and what is below the first of them.
struct Quarters<'a> {
    first: ArrayViewMut2<'a, f64>,
    below: ArrayViewMut2<'a, f64>,
    last: ArrayViewMut2<'a, f64>,
}

fn quarters(matrix: ArrayViewMut2<'_, f64>) -> Quarters<'_> {
    let half = half_of(matrix.nrows()).unwrap_or_default();
    let (upper, lower) = matrix.split_at(Axis(0), half);
    let (below, last) = lower.split_at(Axis(1), half);
    Quarters { first: upper.split_at(Axis(1), half).0, below, last }
}

/// Where to cut a triangle, at a whole number of leaves; none if it is a leaf itself.
fn half_of(size: usize) -> Option<usize> {
    (size > LEAF).then(|| size.div_ceil(2).next_multiple_of(LEAF))
}

/// The lower triangle by itself.
fn triangle(lower: ArrayView2<'_, f64>) -> Array2<f64> {
    let element = |(row, column)| if column <= row { lower[[row, column]] } else { 0.0 };
    Array2::from_shape_fn(lower.dim(), element)
}

fn assign_lower(target: &mut ArrayViewMut2<'_, f64>, values: ArrayView2<'_, f64>) {
    for row in 0..target.nrows() {
        for column in 0..=row {
            target[[row, column]] = values[[row, column]];
        }
    }
}

/// Factor a small block in place; `false` if a pivot is not above `least`.
fn factor_leaf(block: &mut ArrayViewMut2<'_, f64>, least: f64) -> bool {
    for column in 0..block.nrows() {
        for row in column..block.nrows() {
            let done: f64 = (0..column).map(|k| block[[row, k]] * block[[column, k]]).sum();
            let left = block[[row, column]] - done;
            if row > column {
                block[[row, column]] = left / block[[column, column]];
            } else if left > least {
                block[[column, column]] = left.sqrt();
            } else {
                return false;
            }
        }
    }
    true
}

/// One row's element each of rows that are solved side by side.
type Lanes = [f64; LANES];

/// Call `solve` with all rows, some at a time: one entry for each of their columns.
fn solve_leaves(mut rows: ArrayViewMut2<'_, f64>, solve: impl Fn(&mut [Lanes]) + Sync) {
    let columns = rows.ncols();
    rows.axis_chunks_iter_mut(Axis(0), LANES).into_par_iter().for_each(|mut rows| {
        let mut lanes = vec![[0.0; LANES]; columns];
        for (lane, row) in rows.rows().into_iter().enumerate() {
            for (lanes, &element) in lanes.iter_mut().zip(row) {
                lanes[lane] = element;
            }
        }
        solve(&mut lanes);
        for (lane, mut row) in rows.rows_mut().into_iter().enumerate() {
            for (lanes, element) in lanes.iter().zip(&mut row) {
                *element = lanes[lane];
            }
        }
    });
}

/// Solve `x L^T = r` in place.
fn forward(lower: ArrayView2<'_, f64>, lanes: &mut [Lanes]) {
    for at in 0..lanes.len() {
        let (known, open) = lanes.split_at_mut(at);
        let target = &mut open[0];
        for (k, known) in known.iter().enumerate() {
            subtract(target, lower[[at, k]], known);
        }
        divide(target, lower[[at, at]]);
    }
}

/// Solve `x L = r` in place.
fn backward(lower: ArrayView2<'_, f64>, lanes: &mut [Lanes]) {
    for at in (0..lanes.len()).rev() {
        let (open, known) = lanes.split_at_mut(at + 1);
        let target = &mut open[at];
        for (k, known) in known.iter().enumerate() {
            subtract(target, lower[[at + 1 + k, at]], known);
        }
        divide(target, lower[[at, at]]);
    }
}

fn subtract(target: &mut Lanes, weight: f64, known: &Lanes) {
    for (target, known) in target.iter_mut().zip(known) {
        *target -= weight * known;
    }
}

fn divide(target: &mut Lanes, pivot: f64) {
    for target in target {
        *target /= pivot;
    }
}
