//! The steps of a compensation by themselves, on given covariances and weights.

use ndarray::Array2;

use super::cholesky::{Regularised, with_ridge};
use super::elimination::{Elimination, Reading, eliminate};
use super::products::add_gram;
use super::search::{Found, Search, search};
use super::swept::Objective;
use crate::error::{Error, Poll, Result};

/// `rows (matrix + ridge mean(diag) I)^-1` and the ridge it took, raised tenfold from `ridge` on.
pub fn solve_regularised(
    matrix: &Array2<f64>,
    rows: &Array2<f64>,
    ridge: f64,
    poll: &mut Poll<'_>,
) -> Result<(Array2<f64>, f64)> {
    check_square(matrix)?;
    check_ridge(ridge)?;
    if rows.ncols() != matrix.nrows() || rows.iter().any(|value| !value.is_finite()) {
        let expected = format!("finite values with {} columns", matrix.nrows());
        return Err(wrong("rows", expected, rows));
    }
    let found = Regularised::new(matrix.clone(), ridge, poll)?;
    Ok((found.factor.solve_rows(rows.clone(), poll)?, found.ridge))
}

/// The backward order of units by covariance and weights of each consumer: `weights` have one row
/// a unit.
pub fn elimination(
    consumers: &[(Array2<f64>, Array2<f64>)],
    ridge: f64,
    poll: &mut Poll<'_>,
) -> Result<Elimination> {
    check(consumers)?;
    check_ridge(ridge)?;
    let mut readings = Vec::with_capacity(consumers.len());
    for (covariance, weights) in consumers {
        let factor = Regularised::new(covariance.clone(), ridge, poll)?.factor;
        let mut gram = Array2::zeros(covariance.raw_dim());
        add_gram(gram.view_mut(), weights.t(), 1.0, poll)?;
        readings.push(Reading { inverse: factor.lower_inverse(poll)?, weights: gram });
    }
    eliminate(readings, 0, poll)
}

/// The search for kept units from `start` on, by covariance and weights of each consumer.
pub fn search_from(
    consumers: &[(Array2<f64>, Array2<f64>)],
    start: &[usize],
    ridge: f64,
    how: &Search,
    seed: u64,
    poll: &mut Poll<'_>,
) -> Result<Found> {
    let units = check(consumers)?;
    check_ridge(ridge)?;
    if start.windows(2).any(|pair| pair[0] >= pair[1]) || start.iter().any(|&unit| unit >= units) {
        return Err(Error::Config {
            field: "start",
            expected: format!("different units below {units}, ascending"),
            got: format!("{start:?}"),
        });
    }
    let objective = |(covariance, weights): &(Array2<f64>, Array2<f64>)| {
        Objective::new(with_ridge(covariance.clone(), ridge), weights.clone(), poll)
    };
    let objectives = consumers.iter().map(objective).collect::<Result<Vec<Objective>>>()?;
    search(&objectives, start, how, seed, &mut |_| true, poll)
}

/// The number of units that all consumers read.
fn check(consumers: &[(Array2<f64>, Array2<f64>)]) -> Result<usize> {
    let units = consumers.first().map_or(0, |(covariance, _)| covariance.nrows());
    for (covariance, weights) in consumers {
        check_square(covariance)?;
        let fits = covariance.nrows() == units && weights.nrows() == units;
        if !fits || weights.iter().any(|value| !value.is_finite()) {
            return Err(wrong(
                "weights",
                format!("finite values, a row for {units} units"),
                weights,
            ));
        }
    }
    Ok(units)
}

fn check_ridge(ridge: f64) -> Result<()> {
    if (0.0..=1000.0).contains(&ridge) {
        return Ok(());
    }
    let expected = "a number in [0, 1000]".into();
    Err(Error::Config { field: "ridge", expected, got: ridge.to_string() })
}

fn check_square(matrix: &Array2<f64>) -> Result<()> {
    if matrix.nrows() == matrix.ncols() && matrix.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(wrong("covariance", "a square matrix of finite values".into(), matrix))
}

fn wrong(field: &'static str, expected: String, got: &Array2<f64>) -> Error {
    Error::Config { field, expected, got: format!("shape {:?}", got.dim()) }
}
