//! One consumer's weights refitted: every unit re-expressed by those that are kept.

use ndarray::{Array1, Array2};

use super::cholesky::Regularised;
use super::moments::Joint;
use super::outgoing::Outgoing;
use crate::error::{Poll, Result};

/// What a coefficient that the samples say little about is drawn to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// 0: the smallest coefficients.
    Zero,
    /// The unit itself where it is kept, and 0 elsewhere: the weights as they were.
    Unchanged,
}

/// How a fit is regularised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regularisation {
    /// Added to the diagonal of the kept units' covariance, relative to its mean element.
    pub ridge: f64,
    /// What it draws to.
    pub towards: Towards,
}

/// Coefficients of the kept units for every unit, and what they were found with.
pub(super) struct Coefficients {
    /// Shape `(units, kept)`.
    pub(super) values: Array2<f64>,
    /// The ridge it took.
    pub(super) ridge: f64,
}

/// `B = C_xK (C_KK + ridge)^-1`, or `B = E + (C_xK - E C_KK) (C_KK + ridge)^-1` where E takes each
/// kept unit for itself: `cross` is the covariance of all units with the kept ones, `covariance`
/// that of the kept ones.
pub(super) fn coefficients(
    cross: Array2<f64>,
    covariance: Array2<f64>,
    kept: &[usize],
    how: Regularisation,
    poll: &mut Poll<'_>,
) -> Result<Coefficients> {
    let mut rest = cross;
    if how.towards == Towards::Unchanged {
        for (row, &unit) in kept.iter().enumerate() {
            let mut left = rest.row_mut(unit);
            left -= &covariance.row(row);
        }
    }
    let Regularised { factor, ridge } = Regularised::new(covariance, how.ridge, poll)?;
    let mut values = factor.solve_rows(rest, poll)?;
    if how.towards == Towards::Unchanged {
        for (column, &unit) in kept.iter().enumerate() {
            values[[unit, column]] += 1.0;
        }
    }
    Ok(Coefficients { values, ridge })
}

/// A consumer's weights after the fit.
pub(super) struct Refit {
    /// Shape `(blocks * kept, outputs)`.
    pub(super) kernel: Array2<f64>,
    /// What is added to the bias.
    pub(super) shift: Array1<f64>,
    /// The ridge it took.
    pub(super) ridge: f64,
}

/// Fit the kept units' activations in the pruned network to all units' in the original one.
pub(super) fn refit(
    outgoing: &Outgoing<'_>,
    joint: Joint,
    kept: &[usize],
    how: Regularisation,
    poll: &mut Poll<'_>,
) -> Result<Refit> {
    let found = coefficients(joint.cross, joint.covariance, kept, how, poll)?;
    let gaps = &joint.means - &joint.kept_means.dot(&found.values.t());
    Ok(Refit {
        kernel: outgoing.refitted(&found.values, poll)?,
        shift: outgoing.shift(&gaps),
        ridge: found.ridge,
    })
}
