//! What activations make of Gaussian variables: means, variances and covariances.
//!
//! With `g = (x - mean) / deviation` and the Hermite polynomials `He_k`, an activation f has the
//! coefficients `t_k = E[f(x) He_k(g)]`, and two Gaussian variables of correlation r give
//! `Cov(f(x), h(y)) = sum_k r^k t_k u_k / k!` (Wright, Nakahira and Moura, 2024).

mod piecewise;
mod quadrature;

use ndarray::{Array2, ArrayView1, Axis, Zip};

use crate::activation::Activation;

/// Coefficients of the series that are taken: the fifth of a ReLU still holds 3 % of a covariance
/// at a correlation of 0.9, and those after the twelfth a quarter of a percent.
pub const TERMS: usize = 12;
/// Power of a correlation by which what the series leaves out counts: next to nothing but between
/// variables that are almost multiples of each other, and even, so that the covariances of many
/// variables stay positive semi-definite (Schur's product theorem).
const REST_POWER: i32 = 48;

/// What an activation makes of one Gaussian variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expansion {
    /// Mean of the activation.
    pub mean: f64,
    /// Its variance.
    pub variance: f64,
    /// `t_k / sqrt(k!)` from k = 1 on: squares that add up to the variance.
    pub terms: [f64; TERMS],
}

impl Expansion {
    /// Expand an activation of a variable with this mean and standard deviation.
    ///
    /// Closed forms for what is piecewise linear and for the exponential, quadrature for the rest.
    pub fn new(activation: Activation, mean: f64, deviation: f64) -> Self {
        if deviation == 0.0 {
            return Self { mean: activation.value(mean), variance: 0.0, terms: [0.0; TERMS] };
        }
        if let Some(pieces) = piecewise::pieces(activation) {
            return piecewise::expand(&pieces, activation.value(mean), mean, deviation);
        }
        if activation == Activation::Exponential {
            return exponential(mean, deviation);
        }
        quadrature::expand(activation, mean, deviation)
    }

    /// Root of the part of the variance that the terms leave out.
    fn rest(&self) -> f64 {
        let held: f64 = self.terms.iter().map(|term| term * term).sum();
        (self.variance - held).max(0.0).sqrt()
    }
}

/// `exp(x)` is log-normal.
fn exponential(mean: f64, deviation: f64) -> Expansion {
    let whole = libm::exp(mean + 0.5 * deviation * deviation);
    let mut terms = [0.0; TERMS];
    let mut term = whole;
    for (before, slot) in terms.iter_mut().enumerate() {
        term *= deviation / (before as f64 + 1.0).sqrt();
        *slot = term;
    }
    let variance = whole * whole * libm::expm1(deviation * deviation);
    Expansion { mean: whole, variance, terms }
}

/// Covariances of activations, by those of the Gaussian variables `(rows, columns)` that they are
/// of; `deviations` are the variables' own.
///
/// Exact between multiples of one variable, as far as their activations are alike, and up to the
/// terms that the series leaves out elsewhere.
pub fn covariances(
    (rows, row_deviations): (&[Expansion], &[f64]),
    (columns, column_deviations): (&[Expansion], &[f64]),
    covariances: &Array2<f64>,
) -> Array2<f64> {
    let rests: Vec<f64> = columns.iter().map(Expansion::rest).collect();
    let mut found = Array2::zeros(covariances.dim());
    let fill =
        |row: usize, mut targets: ndarray::ArrayViewMut1<'_, f64>, given: ArrayView1<'_, f64>| {
            let (own, rest) = (&rows[row], rows[row].rest());
            for (column, (target, &covariance)) in targets.iter_mut().zip(given).enumerate() {
                let size = row_deviations[row] * column_deviations[column];
                if size > 0.0 {
                    let correlation = (covariance / size).clamp(-1.0, 1.0);
                    let pairs = own.terms.iter().zip(&columns[column].terms).rev();
                    let series = pairs.fold(0.0, |sum, (a, b)| correlation * (sum + a * b));
                    *target = series + correlation.powi(REST_POWER) * rest * rests[column];
                }
            }
        };
    Zip::indexed(found.axis_iter_mut(Axis(0)))
        .and(covariances.axis_iter(Axis(0)))
        .par_for_each(fill);
    found
}

/// Normalised Hermite polynomials `He_k(x) / sqrt(k!)` from k = 0 on.
fn hermite(x: f64) -> [f64; TERMS + 1] {
    let mut values = [1.0; TERMS + 1];
    values[1] = x;
    for k in 1..TERMS {
        let (now, before) = (values[k], values[k - 1]);
        values[k + 1] = (x * now - (k as f64).sqrt() * before) / (k as f64 + 1.0).sqrt();
    }
    values
}

/// Density of the standard normal distribution.
fn density(x: f64) -> f64 {
    const PEAK: f64 = 0.398_942_280_401_432_7;
    PEAK * libm::exp(-0.5 * x * x)
}
