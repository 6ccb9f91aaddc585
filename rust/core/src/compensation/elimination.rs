//! Which units to remove first, when those that are left make up for them by least squares:
//! the backward order of the optimal brain surgeon (Hassibi and Stork, 1993).

use ndarray::{Array2, ArrayView2, Axis, Slice};

use crate::error::{Poll, Result};
use crate::linalg::{add_gram, add_product, mirror};

/// Removals whose downdates are gathered before they are made by one matrix product.
const BLOCK: usize = 64;

/// What a consumer makes of a layer's units.
pub(super) struct Reading {
    /// `(C + ridge)^-1`, for the covariance C of the units it reads.
    pub(super) inverse: Array2<f64>,
    /// `V^T V`, for the weights V it reads them with, one column a unit.
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
struct Downdated {
    inverse: Array2<f64>,
    weights: Array2<f64>,
    /// Columns l, one row each.
    left: Array2<f64>,
    /// Columns y, one row each.
    right: Array2<f64>,
    pending: usize,
    /// Diagonals with everything pending made.
    inverse_diagonal: Vec<f64>,
    weights_diagonal: Vec<f64>,
}

impl Downdated {
    fn new(reading: Reading) -> Self {
        let units = reading.inverse.nrows();
        Self {
            inverse_diagonal: reading.inverse.diag().to_vec(),
            weights_diagonal: reading.weights.diag().to_vec(),
            inverse: reading.inverse,
            weights: reading.weights,
            left: Array2::zeros((BLOCK, units)),
            right: Array2::zeros((BLOCK, units)),
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
            (self.inverse.row(unit).to_owned(), self.weights.row(unit).to_owned());
        for earlier in 0..self.pending {
            let (l, y) = (self.left.row(earlier), self.right.row(earlier));
            left.scaled_add(-l[unit], &l);
            right.scaled_add(-l[unit], &y);
            right.scaled_add(-y[unit], &l);
        }
        left /= root;
        right /= root;
        let loss = right[unit] / root;
        right.scaled_add(-0.5 * loss, &left);
        for (at, (&l, &y)) in left.iter().zip(&right).enumerate() {
            self.inverse_diagonal[at] -= l * l;
            self.weights_diagonal[at] -= 2.0 * l * y;
        }
        self.left.row_mut(self.pending).assign(&left);
        self.right.row_mut(self.pending).assign(&right);
        self.pending += 1;
    }

    /// Make the pending downdates, and keep the rows and columns of `live` units only.
    fn settle(&mut self, live: &[usize]) {
        let gathered = |columns: &Array2<f64>| {
            columns.slice_axis(Axis(0), Slice::from(..self.pending)).select(Axis(1), live)
        };
        let (left, right) = (gathered(&self.left), gathered(&self.right));
        let chosen = |matrix: &Array2<f64>| matrix.select(Axis(0), live).select(Axis(1), live);
        let (mut inverse, mut weights) = (chosen(&self.inverse), chosen(&self.weights));
        add_gram(inverse.view_mut(), left.view(), -1.0);
        mirror(&mut inverse);
        // y l^T + l y^T = ((y + l)(y + l)^T - (y - l)(y - l)^T) / 2 would lose digits where the
        // two are of different sizes.
        take_both_ways(&mut weights, left.view(), right.view());
        self.inverse_diagonal = inverse.diag().to_vec();
        self.weights_diagonal = weights.diag().to_vec();
        self.inverse = inverse;
        self.weights = weights;
        self.left = Array2::zeros((BLOCK, live.len()));
        self.right = Array2::zeros((BLOCK, live.len()));
        self.pending = 0;
    }
}

/// Take `A^T B + B^T A` from a matrix.
fn take_both_ways(target: &mut Array2<f64>, a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) {
    add_product(target.view_mut(), a.t(), b, -1.0);
    add_product(target.view_mut(), b.t(), a, -1.0);
}

/// Remove, again and again, the unit that costs the consumers least; ties by unit number.
///
/// O(n^3) in all, by matrix products; the consumers' losses add up.
pub(super) fn eliminate(readings: Vec<Reading>, poll: &mut Poll<'_>) -> Result<Elimination> {
    let units = readings.first().map_or(0, |reading| reading.inverse.nrows());
    let mut states: Vec<Downdated> = readings.into_iter().map(Downdated::new).collect();
    let mut elimination = Elimination { order: Vec::with_capacity(units), losses: vec![0.0] };
    // The units' numbers in the matrices as they are, and whether they are still there.
    let mut numbers: Vec<usize> = (0..units).collect();
    let mut total = 0.0;
    while !numbers.is_empty() {
        poll.check()?;
        let mut open: Vec<usize> = (0..numbers.len()).collect();
        for _ in 0..BLOCK.min(numbers.len()) {
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
            state.settle(&open);
        }
        numbers = open.into_iter().map(|unit| numbers[unit]).collect();
    }
    Ok(elimination)
}
