//! Which units to remove first, when those that are left make up for them by least squares:
//! the backward order of the optimal brain surgeon (Hassibi and Stork, 1993).

use ndarray::{Array2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use super::products::{add_gram, add_product, part, part_mut};
use crate::error::{Poll, Result};

/// Removals whose downdates are gathered before they are made by one matrix product.
const BLOCK: usize = 64;
/// Elements of a column that pending downdates are made in at a time: they stay in the cache.
const CHUNK: usize = 1024;
/// Rows of a symmetric difference that are computed as far as its diagonal.
const ROWS: usize = 256;

/// What a consumer makes of a layer's units.
pub(super) struct Reading {
    /// `(C + ridge)^-1`, for the covariance C of the units it reads, in the lower triangle.
    pub(super) inverse: Array2<f64>,
    /// `V^T V`, for the weights V it reads them with, one column a unit, in the lower triangle.
    pub(super) weights: Array2<f64>,
}

/// Units in the order in which they go.
#[derive(Debug, Clone, PartialEq)]
pub struct Elimination {
    /// All units; the last one is the one to keep longest.
    pub order: Vec<usize>,
    /// Sum of squares that the consumers' outputs are off by once this many are gone, from 0 on:
    /// one entry more than units.
    pub losses: Vec<f64>,
}

/// The inverse and the weights of a reading with some downdates still to be made.
///
/// Removing unit j takes `h h^T / H_jj` from H, for its column h, and turns the weights V into
/// `V - V_:j h^T / H_jj`. With `l = h / sqrt(H_jj)` and `f = V_:j / sqrt(H_jj)` that takes
/// `y l^T + l y^T` from `V^T V`, for `y = V^T f - f^T f l / 2`: all that is left are columns of l
/// and y, and a pending removal costs O(n) for each one before it.
///
/// Of both matrices only the lower triangle counts, in the rows and columns of live units.
struct Downdated {
    inverse: Array2<f64>,
    weights: Array2<f64>,
    live: usize,
    /// Columns l, one row each, and below them columns y.
    left: Array2<f64>,
    right: Array2<f64>,
    pending: usize,
    /// Diagonals with everything pending made.
    inverse_diagonal: Vec<f64>,
    weights_diagonal: Vec<f64>,
}

impl Downdated {
    fn new(reading: Reading) -> Self {
        let live = reading.inverse.nrows();
        Self {
            inverse_diagonal: reading.inverse.diag().to_vec(),
            weights_diagonal: reading.weights.diag().to_vec(),
            inverse: reading.inverse,
            weights: reading.weights,
            live,
            left: Array2::zeros((BLOCK, live)),
            right: Array2::zeros((BLOCK, live)),
            pending: 0,
        }
    }

    /// What removing a unit costs.
    fn loss(&self, unit: usize) -> f64 {
        let (weight, inverse) = (self.weights_diagonal[unit], self.inverse_diagonal[unit]);
        if inverse > 0.0 { weight.max(0.0) / inverse } else { f64::INFINITY }
    }

    fn remove(&mut self, unit: usize) {
        let root = self.inverse_diagonal[unit].sqrt();
        let (mut left, mut right) =
            (self.column(&self.inverse, unit), self.column(&self.weights, unit));
        self.make_pending(unit, &mut left, &mut right);
        left.iter_mut().for_each(|element| *element /= root);
        right.iter_mut().for_each(|element| *element /= root);
        let half = 0.5 * right[unit] / root;
        for (at, (&l, y)) in left.iter().zip(&mut right).enumerate() {
            *y -= half * l;
            self.inverse_diagonal[at] -= l * l;
            self.weights_diagonal[at] -= 2.0 * l * *y;
        }
        self.left.row_mut(self.pending).iter_mut().zip(left).for_each(|(to, from)| *to = from);
        self.right.row_mut(self.pending).iter_mut().zip(right).for_each(|(to, from)| *to = from);
        self.pending += 1;
    }

    /// A unit's column of a matrix of which there is the lower triangle.
    fn column(&self, matrix: &Array2<f64>, unit: usize) -> Vec<f64> {
        let row = matrix.row(unit);
        let below = matrix.column(unit);
        row.iter().take(unit).chain(below.iter().take(self.live).skip(unit)).copied().collect()
    }

    /// Make the pending downdates in a unit's columns of both matrices.
    fn make_pending(&self, unit: usize, left: &mut [f64], right: &mut [f64]) {
        let task = |(chunk, (left, right)): (usize, (&mut [f64], &mut [f64]))| {
            let columns = Slice::from(chunk * CHUNK..chunk * CHUNK + left.len());
            let rows = self.left.rows().into_iter().zip(self.right.rows()).take(self.pending);
            for (l, y) in rows {
                let (at_l, at_y) = (l[unit], y[unit]);
                let (l, y) = (l.slice_axis(Axis(0), columns), y.slice_axis(Axis(0), columns));
                for ((left, right), (&l, &y)) in
                    left.iter_mut().zip(right.iter_mut()).zip(l.iter().zip(&y))
                {
                    *left -= at_l * l;
                    *right -= at_l * y + at_y * l;
                }
            }
        };
        let chunks = left.par_chunks_mut(CHUNK).zip(right.par_chunks_mut(CHUNK)).enumerate();
        chunks.for_each(task);
    }

    /// Make the pending downdates, and keep the rows and columns of `live` units only.
    fn settle(&mut self, live: &[usize], poll: &mut Poll<'_>) -> Result<()> {
        let gathered = |columns: &Array2<f64>| {
            columns.slice_axis(Axis(0), Slice::from(..self.pending)).select(Axis(1), live)
        };
        let (left, right) = (gathered(&self.left), gathered(&self.right));
        let count = live.len();
        let mut inverse = drawn_together(&mut self.inverse, live);
        add_gram(inverse.view_mut(), left.view(), -1.0, poll)?;
        self.inverse_diagonal = inverse.diag().to_vec();
        // y l^T + l y^T = ((y + l)(y + l)^T - (y - l)(y - l)^T) / 2 would lose digits where the
        // two are of different sizes.
        let mut weights = drawn_together(&mut self.weights, live);
        take_both_ways(weights.view_mut(), &left, &right, poll)?;
        self.weights_diagonal = weights.diag().to_vec();
        self.live = count;
        self.left = Array2::zeros((BLOCK, count));
        self.right = Array2::zeros((BLOCK, count));
        self.pending = 0;
        Ok(())
    }
}

/// Bring the rows and columns of `live` units, which ascend, to the front, in the lower triangle.
fn drawn_together<'a>(matrix: &'a mut Array2<f64>, live: &[usize]) -> ArrayViewMut2<'a, f64> {
    for (to, &from) in live.iter().enumerate() {
        let (mut before, own) = matrix.view_mut().split_at(Axis(0), from);
        let source = own.row(0);
        if to < from {
            let mut target = before.row_mut(to);
            for (target, &column) in target.iter_mut().zip(&live[..=to]) {
                *target = source[column];
            }
        } else {
            // All units up to here are live: the row is in its place.
            debug_assert_eq!(live[to], to);
        }
    }
    part_mut(matrix.view_mut(), 0..live.len(), 0..live.len())
}

/// Take `A^T B + B^T A` from the lower triangle of a matrix.
fn take_both_ways(
    mut target: ArrayViewMut2<'_, f64>,
    a: &Array2<f64>,
    b: &Array2<f64>,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let stacked = |upper: &Array2<f64>, lower: &Array2<f64>| {
        let mut both = Array2::zeros((2 * upper.nrows(), upper.ncols()));
        for (mut row, values) in
            both.rows_mut().into_iter().zip(upper.rows().into_iter().chain(lower.rows()))
        {
            row.assign(&values);
        }
        both
    };
    let (ones, others) = (stacked(a, b), stacked(b, a));
    for first in (0..target.nrows()).step_by(ROWS) {
        let last = (first + ROWS).min(target.nrows());
        let rows = 0..ones.nrows();
        let left = part(ones.view(), rows.clone(), first..last);
        let right = part(others.view(), rows, 0..last);
        let target = part_mut(target.view_mut(), first..last, 0..last);
        add_product(target, left.t(), right, -1.0, poll)?;
    }
    Ok(())
}

/// Remove, again and again, the unit that costs the consumers least; ties by unit number.
///
/// O(n^3) in all, by matrix products; the consumers' losses add up. Once only `least` units are
/// left these follow by number, at losses that are not counted.
pub(super) fn eliminate(
    readings: Vec<Reading>,
    least: usize,
    poll: &mut Poll<'_>,
) -> Result<Elimination> {
    let units = readings.first().map_or(0, |reading| reading.inverse.nrows());
    let mut states: Vec<Downdated> = readings.into_iter().map(Downdated::new).collect();
    let mut elimination = Elimination { order: Vec::with_capacity(units), losses: vec![0.0] };
    // The units' numbers in the matrices as they are, and whether they are still there.
    let mut numbers: Vec<usize> = (0..units).collect();
    let mut total = 0.0;
    while numbers.len() > least {
        let mut open: Vec<usize> = (0..numbers.len()).collect();
        for _ in 0..BLOCK.min(numbers.len() - least) {
            poll.check()?;
            let cost = |unit: usize| states.iter().map(|state| state.loss(unit)).sum::<f64>();
            let costs = open.iter().map(|&unit| cost(unit)).enumerate();
            let Some((place, loss)) = costs.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            let unit = open.remove(place);
            for state in &mut states {
                state.remove(unit);
            }
            total += loss;
            elimination.order.push(numbers[unit]);
            elimination.losses.push(total);
        }
        for state in &mut states {
            state.settle(&open, poll)?;
        }
        numbers = open.into_iter().map(|unit| numbers[unit]).collect();
    }
    elimination.order.extend(numbers);
    Ok(elimination)
}
