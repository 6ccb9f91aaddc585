//! Which units to remove first, when those that are left make up for them by least squares:
//! the backward order of the optimal brain surgeon (Hassibi and Stork, 1993).

use ndarray::{Array2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use super::products::{add_gram, add_symmetric, part_mut};
use crate::error::{Poll, Result};

/// Removals whose downdates are gathered before they are made by one matrix product.
const BLOCK: usize = 64;
/// Once one in so many units is gone, what is left of the matrices is drawn together.
const SHARE_GONE: usize = 8;
/// Elements of a column that pending downdates are made in at a time: they stay in the cache.
const CHUNK: usize = 1024;

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
/// Of both matrices only the lower triangle counts, in the first `size` rows and columns.
struct Downdated {
    inverse: Array2<f64>,
    weights: Array2<f64>,
    /// How many units are left in the matrices, those since removed among them.
    size: usize,
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
        let size = reading.inverse.nrows();
        Self {
            inverse_diagonal: reading.inverse.diag().to_vec(),
            weights_diagonal: reading.weights.diag().to_vec(),
            inverse: reading.inverse,
            weights: reading.weights,
            size,
            left: Array2::zeros((BLOCK, size)),
            right: Array2::zeros((BLOCK, size)),
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
        for element in left.iter_mut().chain(&mut right) {
            *element /= root;
        }
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
        row.iter().take(unit).chain(below.iter().take(self.size).skip(unit)).copied().collect()
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

    /// Make the pending downdates.
    fn settle(&mut self, poll: &mut Poll<'_>) -> Result<()> {
        let pending = |columns: &Array2<f64>| {
            columns.slice_axis(Axis(0), Slice::from(..self.pending)).to_owned()
        };
        let (left, right) = (pending(&self.left), pending(&self.right));
        let mut inverse = part_mut(self.inverse.view_mut(), 0..self.size, 0..self.size);
        add_gram(inverse.view_mut(), left.view(), -1.0, poll)?;
        self.inverse_diagonal = inverse.diag().to_vec();
        // y l^T + l y^T = ((y + l)(y + l)^T - (y - l)(y - l)^T) / 2 would lose digits where the
        // two are of different sizes.
        let mut weights = part_mut(self.weights.view_mut(), 0..self.size, 0..self.size);
        take_both_ways(weights.view_mut(), &left, &right, poll)?;
        self.weights_diagonal = weights.diag().to_vec();
        self.pending = 0;
        Ok(())
    }

    /// Keep the rows and columns of `live` units only, with nothing pending.
    fn draw_together(&mut self, live: &[usize]) {
        draw_together(&mut self.inverse, live);
        draw_together(&mut self.weights, live);
        let chosen = |diagonal: &[f64]| live.iter().map(|&unit| diagonal[unit]).collect();
        self.inverse_diagonal = chosen(&self.inverse_diagonal);
        self.weights_diagonal = chosen(&self.weights_diagonal);
        self.size = live.len();
        self.left = Array2::zeros((BLOCK, self.size));
        self.right = Array2::zeros((BLOCK, self.size));
    }
}

/// Bring the rows and columns of `live` units, which ascend, to the front, in the lower triangle.
fn draw_together(matrix: &mut Array2<f64>, live: &[usize]) {
    for (to, &from) in live.iter().enumerate().filter(|&(to, &from)| to < from) {
        let (mut before, own) = matrix.view_mut().split_at(Axis(0), from);
        let source = own.row(0);
        let mut target = before.row_mut(to);
        for (target, &column) in target.iter_mut().zip(&live[..=to]) {
            *target = source[column];
        }
    }
}

/// Take `A^T B + B^T A` from the lower triangle of a matrix.
fn take_both_ways(
    target: ArrayViewMut2<'_, f64>,
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
    add_symmetric(target, ones.view(), others.view(), -1.0, poll)
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
    // The units' numbers in the matrices as they are, and the places of those still there.
    let mut numbers: Vec<usize> = (0..units).collect();
    let mut open = numbers.clone();
    let mut total = 0.0;
    while open.len() > least {
        for _ in 0..BLOCK.min(open.len() - least) {
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
        states.iter_mut().try_for_each(|state| state.settle(poll))?;
        if open.len() <= numbers.len() - numbers.len() / SHARE_GONE {
            for state in &mut states {
                state.draw_together(&open);
            }
            numbers = open.into_iter().map(|unit| numbers[unit]).collect();
            open = (0..numbers.len()).collect();
        }
    }
    elimination.order.extend(open.into_iter().map(|unit| numbers[unit]));
    Ok(elimination)
}
