//! Cholesky factors of regularised covariances, and what is solved with them.

use ndarray::{Array1, Array2};

use super::triangular::{self, invert, solve, solve_transposed, square};
use crate::error::{Error, Poll, Result};
use crate::linalg::mirror;

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
fn ridge_scale(diagonal: &Array1<f64>) -> f64 {
    let mean = diagonal.sum() / diagonal.len().max(1) as f64;
    if mean > 0.0 { mean } else { 1.0 }
}

/// The matrix with a relative ridge on its diagonal.
pub(super) fn with_ridge(mut matrix: Array2<f64>, ridge: f64) -> Array2<f64> {
    let added = ridge * ridge_scale(&matrix.diag().to_owned());
    matrix.diag_mut().mapv_inplace(|element| element + added);
    matrix
}

impl Regularised {
    /// Raise the ridge from `ridge` on until a finite, symmetric, positive semi-definite matrix
    /// has a factor, in its place. An error if none does, however large: its elements are too
    /// large to compute with.
    pub(super) fn new(mut matrix: Array2<f64>, ridge: f64, poll: &mut Poll<'_>) -> Result<Self> {
        if !matrix.is_standard_layout() {
            matrix = matrix.as_standard_layout().into_owned();
        }
        let diagonal = matrix.diag().to_owned();
        let scale = ridge_scale(&diagonal);
        let mut ridge = ridge;
        loop {
            let raised = diagonal.mapv(|element| element + ridge * scale);
            matrix.diag_mut().assign(&raised);
            let largest = raised.fold(0.0, |most: f64, &element| most.max(element));
            let least = SMALLEST_PIVOT * diagonal.len() as f64 * largest;
            if triangular::factor(matrix.view_mut(), least, poll)? {
                return Ok(Self { factor: Cholesky { lower: matrix }, ridge });
            }
            ridge = (ridge * RAISE).max(FIRST_RIDGE);
            if !(ridge <= LARGEST_RIDGE && scale.is_finite()) {
                return Err(Error::Values(
                    "covariances of units are too large to solve for; give smaller values".into(),
                ));
            }
            // What is above the diagonal is as it was: a copy for another try.
            matrix = matrix.reversed_axes();
            mirror(&mut matrix);
        }
    }
}

impl Cholesky {
    /// `R A^-1`, for rows R.
    pub(super) fn solve_rows(
        &self,
        mut rows: Array2<f64>,
        poll: &mut Poll<'_>,
    ) -> Result<Array2<f64>> {
        solve_transposed(rows.view_mut(), self.lower.view(), poll)?;
        solve(rows.view_mut(), self.lower.view(), poll)?;
        Ok(rows)
    }

    /// `A^-1` in the place of the factor, in the lower triangle only.
    pub(super) fn lower_inverse(self, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
        let mut inverse = self.lower;
        invert(inverse.view_mut(), poll)?;
        square(inverse.view_mut(), poll)?;
        Ok(inverse)
    }

    /// `A^-1`.
    pub(super) fn inverse(self, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
        let mut inverse = self.lower_inverse(poll)?;
        mirror(&mut inverse);
        Ok(inverse)
    }

    /// `L`, with zeros above its diagonal.
    pub(super) fn into_lower(self) -> Array2<f64> {
        let mut lower = self.lower;
        for (row, mut elements) in lower.rows_mut().into_iter().enumerate() {
            elements.iter_mut().skip(row + 1).for_each(|element| *element = 0.0);
        }
        lower
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
            size in 1_usize..300,
            rows in 1_usize..150,
        ) {
            let mut random = Random::from_seed(seed);
            let root = matrix(&mut random, size, size);
            let positive = root.dot(&root.t()) + Array2::<f64>::eye(size);
            let right = matrix(&mut random, rows, size);
            let mut go_on = never_stop();
            let mut poll = Poll::new(&mut go_on);
            let found = Regularised::new(positive.clone(), 0.0, &mut poll).expect("not stopped");
            prop_assert_eq!(found.ridge, 0.0);
            let solved = found.factor.solve_rows(right.clone(), &mut poll).expect("not stopped");
            let residual = solved.dot(&positive) - &right;
            prop_assert!(residual.iter().all(|gap| gap.abs() < 1e-9));
            let transposed = positive.clone().reversed_axes();
            let found = Regularised::new(transposed, 0.0, &mut poll).expect("not stopped");
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
            let found = Regularised::new(singular, 0.0, &mut poll).expect("not stopped");
            prop_assert!(found.ridge >= FIRST_RIDGE && found.ridge < 1e-6);
            let nothing = Array2::zeros((size, size));
            let found = Regularised::new(nothing, 0.0, &mut poll).expect("not stopped");
            prop_assert!(found.ridge > 0.0);
        }
    }
}
