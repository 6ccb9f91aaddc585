//! Gaussian moments: of activations by themselves, and of a network's nodes.

use nnprune_core::compensation::{self, Axes, Prior};
use nnprune_core::gaussian::{Expansion, TERMS};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2};
use pyo3::prelude::*;
use std::collections::HashMap;

use crate::arrays::{Values, flat, input_box};
use crate::builder::parse_activation;
use crate::errors::{config, to_py};
use crate::gate::enter;
use crate::network::Network;

type Vector<'py> = Bound<'py, PyArray1<f64>>;
type Matrix<'py> = Bound<'py, PyArray2<f64>>;

/// What is assumed of inputs by their box.
pub(crate) fn prior(
    network: &Network,
    lower: &[Values<'_>],
    upper: &[Values<'_>],
    images: Option<Vec<Axes>>,
    correlation: f64,
) -> PyResult<Prior> {
    let images = images.unwrap_or_else(|| vec![None; network.0.inputs().len()]);
    let input_box = input_box(&network.0, lower, upper)?;
    Prior::new(&network.0, input_box, images, correlation).map_err(to_py)
}

/// Means and covariances of a node; see `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (network, node, lower, upper, *, images=None, correlation=0.0))]
pub(crate) fn gaussian_moments<'py>(
    py: Python<'py>,
    network: &Network,
    node: &str,
    lower: Vec<Values<'py>>,
    upper: Vec<Values<'py>>,
    images: Option<Vec<Axes>>,
    correlation: f64,
) -> PyResult<(Vector<'py>, Matrix<'py>)> {
    let prior = prior(network, &lower, &upper, images, correlation)?;
    let node = network.0.find(node).map_err(to_py)?;
    let (means, covariances) =
        enter(py, |poll| compensation::moments(&network.0, &prior, node, poll))?;
    Ok((means.into_pyarray(py), covariances.into_pyarray(py)))
}

/// Moments and Hermite terms of an activation; see `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (kind, mean, deviation, *, parameters=None))]
pub(crate) fn activation_moments<'py>(
    py: Python<'py>,
    kind: &str,
    mean: Values<'py>,
    deviation: Values<'py>,
    parameters: Option<HashMap<String, f64>>,
) -> PyResult<(Vector<'py>, Vector<'py>, Matrix<'py>)> {
    let activation = parse_activation(kind, parameters)?;
    let (means, deviations) = (flat(&mean), flat(&deviation));
    let sound = means.iter().all(|mean| mean.is_finite())
        && deviations.iter().all(|deviation| deviation.is_finite() && *deviation >= 0.0);
    if means.len() != deviations.len() || !sound {
        let expected = "deviation: expected finite values of at least 0, one for each finite mean";
        return Err(config(expected.into()));
    }
    let found: Vec<Expansion> = means
        .iter()
        .zip(&deviations)
        .map(|(&mean, &deviation)| Expansion::new(activation, mean, deviation))
        .collect();
    let each = |of: fn(&Expansion) -> f64| found.iter().map(of).collect::<Vec<f64>>();
    let terms = Array2::from_shape_fn((found.len(), TERMS), |(at, term)| found[at].terms[term]);
    Ok((
        each(|expansion| expansion.mean).into_pyarray(py),
        each(|expansion| expansion.variance).into_pyarray(py),
        terms.into_pyarray(py),
    ))
}
