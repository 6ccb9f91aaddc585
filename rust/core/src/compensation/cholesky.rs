//! Cholesky factors of regularised covariances, block by block, and what is solved with them.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use crate::error::{Error, Poll, Result};
use crate::linalg::{add_gram, mirror};

/// Rows of a block: what is below it is done by matrix products.
const BLOCK: usize = 64;
/// A pivot below this share of the largest diagonal element, a row, is rounding and not rank.
const SMALLEST_PIVOT: f64 = 4.0 * f64::EPSILON;
/// The smallest ridge, relative to the mean diagonal element, that is tried after 0.
const FIRST_RIDGE: f64 = 1e-12;
/// A ridge beyond which nothing is left of the matrix.
const LARGEST_RIDGE: f64 = 1e9;
/// By what a ridge that does not do is raised.
const RAISE: f64 = 10.0;

/// `A = L L^T` of a symmetric positive definite matrix.
pub(super) struct Cholesky {
    /// The lower triangle; what is above it means nothing.
    lower: Array2<f64>,
}

/// A factor of `A + ridge mean(diag A) I`.
pub(super) struct Regularised {
    pub(super) factor: Cholesky,
    /// The ridge that made the matrix positive definite, relative to the mean diagonal element.
    pub(super) ridge: f64,
}

/// What a relative ridge is relative to: the mean diagonal element, or 1 where all are 0.
pub(super) fn ridge_scale(matrix: &Array2<f64>) -> f64 {
    let mean = matrix.diag().sum() / matrix.nrows().max(1) as f64;
    if mean > 0.0 { mean } else { 1.0 }
}

/// The matrix with a relative ridge on its diagonal.
pub(super) fn with_ridge(matrix: &Array2<f64>, ridge: f64) -> Array2<f64> {
    let added = ridge * ridge_scale(matrix);
    let mut raised = matrix.clone();
    raised.diag_mut().mapv_inplace(|element| element + added);
    raised
}

impl Regularised {
    /// Raise the ridge from `ridge` on until a finite, symmetric, positive semi-definite matrix
    /// has a factor. An error if none does, however large: its elements are too large to compute with.
    pub(super) fn new(matrix: &Array2<f64>, ridge: f64, poll: &mut Poll<'_>) -> Result<Self> {
        let mut ridge = ridge;
        loop {
            if let Some(factor) = Cholesky::factor(with_ridge(matrix, ridge), poll)? {
                return Ok(Self { factor, ridge });
            }
            ridge = (ridge * RAISE).max(FIRST_RIDGE);
            if !(ridge <= LARGEST_RIDGE && ridge_scale(matrix).is_finite()) {
                return Err(Error::Values(
                    "covariances of units are too large to solve for; give smaller values".into(),
                ));
            }
        }
    }
}

impl Cholesky {
    /// `None` if the matrix is not positive definite; only its lower triangle is read.
    fn factor(matrix: Array2<f64>, poll: &mut Poll<'_>) -> Result<Option<Self>> {
        let size = matrix.nrows();
        let largest = matrix.diag().fold(0.0, |most: f64, &element| most.max(element));
        let least = SMALLEST_PIVOT * size as f64 * largest;
        // A selection of columns comes out column by column; what follows goes along rows.
        let mut lower = matrix.as_standard_layout().into_owned();
        for first in (0..size).step_by(BLOCK) {
            poll.check()?;
            let last = (first + BLOCK).min(size);
            let (_, mut right) = lower.view_mut().split_at(Axis(0), first);
            let (mut panel, mut trailing) = {
                let (_, columns) = right.view_mut().split_at(Axis(1), first);
                columns.split_at(Axis(1), last - first)
            };
            let mut diagonal = panel.slice_axis_mut(Axis(0), Slice::from(..last - first));
            if !factor_block(&mut diagonal, least) {
                return Ok(None);
            }
            let diagonal = diagonal.to_owned();
            let mut below = panel.slice_axis_mut(Axis(0), Slice::from(last - first..));
            below.axis_iter_mut(Axis(0)).into_par_iter().with_min_len(BLOCK).for_each(|mut row| {
                forward_in_block(diagonal.view(), row.as_slice_mut().unwrap_or_default());
            });
            let below = below.to_owned();
            let trailing = trailing.slice_axis_mut(Axis(0), Slice::from(last - first..));
            add_gram(trailing, below.t(), -1.0);
        }
        Ok(Some(Self { lower }))
    }

    /// `R A^-1`, for rows R.
    pub(super) fn solve_rows(
        &self,
        rows: &Array2<f64>,
        poll: &mut Poll<'_>,
    ) -> Result<Array2<f64>> {
        poll.check()?;
        let mut solved = rows.as_standard_layout().into_owned();
        solved.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter().for_each(|mut rows| {
            self.forward(&mut rows, 0);
            self.backward(&mut rows, 0);
        });
        Ok(solved)
    }

    /// `A^-1`: of each row only what is right of the diagonal's block is computed.
    pub(super) fn inverse(&self, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
        poll.check()?;
        let size = self.lower.nrows();
        let mut inverse = Array2::eye(size);
        inverse.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter().enumerate().for_each(
            |(block, mut rows)| {
                self.forward(&mut rows, block * BLOCK);
                self.backward(&mut rows, block * BLOCK);
            },
        );
        poll.check()?;
        let mut inverse = inverse.reversed_axes().as_standard_layout().into_owned();
        mirror(&mut inverse);
        Ok(inverse)
    }

    /// `L^T`.
    pub(super) fn upper(&self) -> Array2<f64> {
        let lower = &self.lower;
        Array2::from_shape_fn(
            lower.dim(),
            |(row, column)| {
                if column >= row { lower[[column, row]] } else { 0.0 }
            },
        )
    }

    /// Solve `X L^T = R` in place, for rows that are 0 in the columns before `from`.
    fn forward(&self, rows: &mut ArrayViewMut2<'_, f64>, from: usize) {
        let size = self.lower.nrows();
        for first in (from..size).step_by(BLOCK) {
            let last = (first + BLOCK).min(size);
            let (known, mut open) = rows.view_mut().split_at(Axis(1), first);
            let known = known.slice_axis(Axis(1), Slice::from(from..)).to_owned();
            let mut open = open.slice_axis_mut(Axis(1), Slice::from(..last - first));
            let left = self.part(first..last, from..first);
            ndarray::linalg::general_mat_mul(-1.0, &known, &left.t(), 1.0, &mut open);
            let diagonal = self.part(first..last, first..last);
            for mut row in open.rows_mut() {
                forward_in_block(diagonal, row.as_slice_mut().unwrap_or_default());
            }
        }
    }

    /// Solve `X L = R` in place, in the columns from `from` on.
    fn backward(&self, rows: &mut ArrayViewMut2<'_, f64>, from: usize) {
        let size = self.lower.nrows();
        for first in (from..size).step_by(BLOCK).rev() {
            let last = (first + BLOCK).min(size);
            let (mut open, known) = rows.view_mut().split_at(Axis(1), last);
            let mut open = open.slice_axis_mut(Axis(1), Slice::from(first..));
            let below = self.part(last..size, first..last);
            ndarray::linalg::general_mat_mul(-1.0, &known, &below, 1.0, &mut open);
            let diagonal = self.part(first..last, first..last);
            for mut row in open.rows_mut() {
                backward_in_block(diagonal, row.as_slice_mut().unwrap_or_default());
            }
        }
    }

    fn part(
        &self,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> ArrayView2<'_, f64> {
        self.lower
            .slice_axis(Axis(0), Slice::from(rows))
            .slice_axis_move(Axis(1), Slice::from(columns))
    }
}

/// Factor a small block in place; `false` if a pivot is not above `least`.
fn factor_block(block: &mut ArrayViewMut2<'_, f64>, least: f64) -> bool {
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

/// Solve `x L^T = r` in place.
fn forward_in_block(lower: ArrayView2<'_, f64>, row: &mut [f64]) {
    for at in 0..row.len() {
        let done: f64 = (0..at).map(|k| row[k] * lower[[at, k]]).sum();
        row[at] = (row[at] - done) / lower[[at, at]];
    }
}

/// Solve `x L = r` in place.
fn backward_in_block(lower: ArrayView2<'_, f64>, row: &mut [f64]) {
    for at in (0..row.len()).rev() {
        let done: f64 = (at + 1..row.len()).map(|k| row[k] * lower[[k, at]]).sum();
        row[at] = (row[at] - done) / lower[[at, at]];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::never_stop;
    use crate::random::Random;

    fn matrix(random: &mut Random, rows: usize, columns: usize) -> Array2<f64> {
        Array2::from_shape_simple_fn((rows, columns), || random.uniform() - 0.5)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn what_is_solved_gives_the_right_side_back(
            seed in 0_u64..1_000,
            size in 1_usize..200,
            rows in 1_usize..150,
        ) {
            let mut random = Random::from_seed(seed);
            let root = matrix(&mut random, size, size);
            let positive = root.dot(&root.t()) + Array2::<f64>::eye(size);
            let right = matrix(&mut random, rows, size);
            let mut go_on = never_stop();
            let mut poll = Poll::new(&mut go_on);
            let found = Regularised::new(&positive, 0.0, &mut poll).expect("not stopped");
            prop_assert_eq!(found.ridge, 0.0);
            let solved = found.factor.solve_rows(&right, &mut poll).expect("not stopped");
            let residual = solved.dot(&positive) - &right;
            prop_assert!(residual.iter().all(|gap| gap.abs() < 1e-9));
            let transposed = positive.clone().reversed_axes();
            let found = Regularised::new(&transposed, 0.0, &mut poll).expect("not stopped");
            let inverse = found.factor.inverse(&mut poll).expect("not stopped");
            let gap = inverse.dot(&positive) - Array2::<f64>::eye(size);
            prop_assert!(gap.iter().all(|gap| gap.abs() < 1e-9));
        }

        #[test]
        fn a_singular_matrix_gets_the_first_ridge_that_does(
            seed in 0_u64..1_000,
            size in 2_usize..150,
        ) {
            let mut random = Random::from_seed(seed);
            let root = matrix(&mut random, size, size / 2);
            let singular = root.dot(&root.t());
            let mut go_on = never_stop();
            let mut poll = Poll::new(&mut go_on);
            let found = Regularised::new(&singular, 0.0, &mut poll).expect("not stopped");
            prop_assert!(found.ridge >= FIRST_RIDGE && found.ridge < 1e-6);
            let nothing = Array2::zeros((size, size));
            let found = Regularised::new(&nothing, 0.0, &mut poll).expect("not stopped");
            prop_assert!(found.ridge > 0.0);
        }
    }
}
