//! The regression of removed on kept units, kept up to date as units go and come back: the sweep
//! operator (Goodnight, 1979).

use ndarray::{Array1, Array2, ArrayViewMut1, Axis};
use rayon::prelude::*;

use super::cholesky::Regularised;
use super::products::{add_product, product};
use crate::error::{Poll, Result};

/// Rows of a sweep that one task takes.
const ROWS_PER_TASK: usize = 64;

/// What a consumer makes of a layer's units, to be searched over.
#[derive(Debug, Clone)]
pub(super) struct Objective {
    /// The regularised covariance of the units.
    covariance: Array2<f64>,
    /// One row a unit: its weights at every output.
    weights: Array2<f64>,
    /// Covariance of every unit with every output.
    carried: Array2<f64>,
}

impl Objective {
    /// `covariance` has its ridge already; `weights` has one row a unit.
    pub(super) fn new(
        covariance: Array2<f64>,
        weights: Array2<f64>,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let carried = product(covariance.view(), weights.view(), poll)?;
        Ok(Self { covariance, weights, carried })
    }

    /// How many numbers a move may change.
    pub(super) fn numbers(&self) -> usize {
        2 * (self.covariance.len() + self.weights.len())
    }

    /// Number of units.
    pub(super) fn units(&self) -> usize {
        self.covariance.nrows()
    }
}

/// An objective swept over a set of kept units.
///
/// With `C` the covariance, `B` the coefficients of the kept units K for the removed ones P and
/// `S = C_PP - B C_KP` what is left of these, the matrix holds `-C_KK^-1`, `B` and `S`; the carried
/// rows are the refitted weights of kept units, and the covariances of the removed units' rests
/// with the outputs' errors.
#[derive(Debug, Clone)]
pub(super) struct Swept {
    matrix: Array2<f64>,
    carried: Array2<f64>,
    /// Mean squared error of every output.
    errors: Array1<f64>,
}

impl Swept {
    /// Solve for the kept units at once.
    pub(super) fn solve(objective: &Objective, kept: &[bool], poll: &mut Poll<'_>) -> Result<Self> {
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            (0..kept.len()).partition(|&unit| kept[unit]);
        let part = |rows: &[usize], columns: &[usize]| {
            objective.covariance.select(Axis(0), rows).select(Axis(1), columns)
        };
        let inverse = Regularised::new(part(&inside, &inside), 0.0, poll)?.factor.inverse(poll)?;
        let between = part(&inside, &outside);
        let coefficients = product(inverse.view(), between.view(), poll)?;
        let carried = objective.carried.select(Axis(0), &inside);
        let refitted = product(inverse.view(), carried.view(), poll)?;
        let mut rest = part(&outside, &outside);
        add_product(rest.view_mut(), between.t(), coefficients.view(), -1.0, poll)?;
        let mut errors_carried = objective.carried.select(Axis(0), &outside);
        add_product(errors_carried.view_mut(), between.t(), refitted.view(), -1.0, poll)?;
        let removed = objective.weights.select(Axis(0), &outside);
        let errors = (&removed * &errors_carried).sum_axis(Axis(0));
        let mut matrix = Array2::zeros(objective.covariance.dim());
        let mut carried = Array2::zeros(objective.carried.dim());
        for (row, &i) in inside.iter().enumerate() {
            for (column, &j) in inside.iter().enumerate() {
                matrix[[i, j]] = -inverse[[row, column]];
            }
            for (column, &j) in outside.iter().enumerate() {
                matrix[[i, j]] = coefficients[[row, column]];
                matrix[[j, i]] = coefficients[[row, column]];
            }
            carried.row_mut(i).assign(&refitted.row(row));
        }
        for (row, &i) in outside.iter().enumerate() {
            for (column, &j) in outside.iter().enumerate() {
                matrix[[i, j]] = rest[[row, column]];
            }
            carried.row_mut(i).assign(&errors_carried.row(row));
        }
        Ok(Self { matrix, carried, errors })
    }

    /// Mean squared error of every output.
    pub(super) fn errors(&self) -> &Array1<f64> {
        &self.errors
    }

    /// The errors if a kept unit went and a removed one came back, written to `errors`; O(outputs).
    ///
    /// Where rounding has left nothing to divide by, they are infinite.
    pub(super) fn errors_after_swap(&self, out: usize, back: usize, errors: &mut [f64]) {
        let inverse = -self.matrix[[out, out]];
        let coupling = self.matrix[[back, out]] / inverse;
        let rest = self.matrix[[back, back]] + coupling * self.matrix[[back, out]];
        if inverse <= 0.0 || rest <= 0.0 {
            errors.fill(f64::INFINITY);
            return;
        }
        let (gone, returned) = (self.carried.row(out), self.carried.row(back));
        let outputs = self.errors.iter().zip(gone.iter().zip(returned));
        for (error, (&before, (&gone, &returned))) in errors.iter_mut().zip(outputs) {
            let explained = returned + coupling * gone;
            *error = (before + gone * gone / inverse - explained * explained / rest).max(0.0);
        }
    }

    /// Take a kept unit out and a removed one back in.
    pub(super) fn swap(&mut self, out: usize, back: usize) {
        self.sweep(out);
        self.sweep(back);
    }

    /// Sweep on one unit: a removed one (its pivot is positive) comes in, a kept one goes.
    fn sweep(&mut self, unit: usize) {
        let pivot = self.matrix[[unit, unit]];
        let row = self.matrix.row(unit).to_owned();
        let carried = self.carried.row(unit).to_owned();
        let update = |(at, mut target, mut image): (
            usize,
            ArrayViewMut1<'_, f64>,
            ArrayViewMut1<'_, f64>,
        )| {
            if at == unit {
                return;
            }
            let factor = row[at] / pivot;
            target.scaled_add(-factor, &row);
            target[unit] = factor * pivot.signum();
            image.scaled_add(-factor, &carried);
        };
        let targets = self.matrix.axis_iter_mut(Axis(0)).into_par_iter();
        let images = self.carried.axis_iter_mut(Axis(0)).into_par_iter();
        targets
            .zip(images)
            .enumerate()
            .with_min_len(ROWS_PER_TASK)
            .for_each(|(at, (target, image))| update((at, target, image)));
        self.errors.scaled_add(-1.0 / pivot, &(&carried * &carried));
        let sign = pivot.signum();
        self.matrix.row_mut(unit).assign(&(&row * (sign / pivot)));
        self.matrix[[unit, unit]] = -1.0 / pivot;
        self.carried.row_mut(unit).assign(&(&carried * (sign / pivot)));
    }
}
