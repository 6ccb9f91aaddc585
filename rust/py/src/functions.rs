//! The scalar quantities of the method, one function each.

use std::collections::HashMap;

use nnprune_core::annealing::{self, Schedule};
use nnprune_core::config::{Density, EnergyConfig, Normalization};
use nnprune_core::energy as eq;
use nnprune_core::impact::Pair;
use nnprune_core::interval::{Interval, Intervals};
use nnprune_core::random::Random;
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{Values, flat, vector_out};
use crate::builder::parse_activation;
use crate::errors::{config, to_py};

pub(crate) fn parse_density(name: &str) -> PyResult<Density> {
    match name {
        "inclusive" => Ok(Density::Inclusive),
        "printed" => Ok(Density::Printed),
        other => Err(config(format!("density: expected inclusive or printed, got {other}"))),
    }
}

pub(crate) fn parse_normalization(name: &str) -> PyResult<Normalization> {
    match name {
        "scaled" => Ok(Normalization::Scaled),
        "none" => Ok(Normalization::None),
        other => Err(config(format!("normalization: expected scaled or none, got {other}"))),
    }
}

fn intervals(lower: &Values<'_>, upper: &Values<'_>) -> PyResult<Intervals> {
    let intervals = Intervals { lower: flat(lower), upper: flat(upper) };
    if intervals.lower.len() != intervals.upper.len() {
        return Err(config("lower and upper must have the same length".into()));
    }
    Ok(intervals)
}

/// ENT, eq. 7.
#[pyfunction]
#[pyo3(signature = (lower, upper, *, similarity=0.9, density="inclusive"))]
pub(crate) fn entropy(
    lower: Values<'_>,
    upper: Values<'_>,
    similarity: f64,
    density: &str,
) -> PyResult<f64> {
    let density = parse_density(density)?;
    EnergyConfig { similarity, density, ..EnergyConfig::default() }.check().map_err(to_py)?;
    Ok(eq::entropy(&intervals(&lower, &upper)?, similarity, density))
}

/// Energy of one head, eq. 8.
#[pyfunction]
#[pyo3(signature = (lower, upper, base_lower, base_upper, *, reference, alpha=0.75, similarity=0.9, density="inclusive", normalization="scaled"))]
#[expect(clippy::too_many_arguments)] // Python keywords
pub(crate) fn energy(
    lower: Values<'_>,
    upper: Values<'_>,
    base_lower: Values<'_>,
    base_upper: Values<'_>,
    reference: f64,
    alpha: f64,
    similarity: f64,
    density: &str,
    normalization: &str,
) -> PyResult<f64> {
    let settings = EnergyConfig {
        alpha,
        similarity,
        density: parse_density(density)?,
        normalization: parse_normalization(normalization)?,
    }
    .check()
    .map_err(to_py)?;
    if reference.is_nan() || reference <= 0.0 {
        return Err(config(format!("reference: expected a positive number, got {reference}")));
    }
    let impact = intervals(&lower, &upper)?;
    let base = intervals(&base_lower, &base_upper)?;
    if base.len() != impact.len() {
        return Err(config("the base must have as many outputs as the impact".into()));
    }
    let heads = eq::Heads { sizes: vec![impact.len()] };
    Ok(heads.energy(&impact, &base, &[reference], &settings))
}

/// The accept and reject sequence of one visit.
#[pyfunction]
#[pyo3(signature = (pairs, energies, *, count, temperature, scale, last_energy, rewalks, seed))]
#[expect(clippy::too_many_arguments)] // Python keywords
pub(crate) fn anneal(
    pairs: Vec<(usize, usize)>,
    energies: Values<'_>,
    count: usize,
    temperature: f64,
    scale: f64,
    last_energy: Option<f64>,
    rewalks: usize,
    seed: u64,
) -> PyResult<Vec<usize>> {
    let energies = flat(&energies);
    if energies.len() != pairs.len() {
        return Err(config(format!("{} energies for {} pairs", energies.len(), pairs.len())));
    }
    let mut units: Vec<usize> = pairs.iter().flat_map(|&(i, j)| [i, j]).collect();
    units.sort_unstable();
    units.dedup();
    let place = |unit: usize| units.binary_search(&unit).unwrap_or_default();
    let pairs: Vec<Pair> =
        pairs.into_iter().map(|(i, j)| Pair { nominee: place(i), delegate: place(j) }).collect();
    let acceptance = annealing::anneal(
        &pairs,
        &energies,
        Schedule { count, temperature, scale, rewalks },
        &mut vec![false; units.len()],
        &mut last_energy.clone(),
        &mut Random::from_seed(seed),
    );
    Ok(acceptance.chosen)
}

/// The first draws of a seed's stream.
#[pyfunction]
pub(crate) fn uniform_draws(py: Python<'_>, seed: u64, count: u32) -> Bound<'_, PyArray1<f64>> {
    let mut random = Random::from_seed(seed);
    vector_out(py, (0..count).map(|_| random.uniform()).collect())
}

type Ranges<'py> = (
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
);

/// Ranges of values and of slopes of an activation over intervals.
#[pyfunction]
#[pyo3(signature = (kind, lower, upper, *, parameters=None))]
pub(crate) fn activation_range<'py>(
    py: Python<'py>,
    kind: &str,
    lower: Values<'py>,
    upper: Values<'py>,
    parameters: Option<HashMap<String, f64>>,
) -> PyResult<Ranges<'py>> {
    let activation = parse_activation(kind, parameters)?;
    let over = intervals(&lower, &upper)?;
    let collect =
        |range: &dyn Fn(Interval) -> Interval| -> Intervals { over.iter().map(range).collect() };
    let values = collect(&|interval| activation.value_range(interval));
    let slopes = collect(&|interval| activation.slope_range(interval));
    Ok((
        vector_out(py, values.lower),
        vector_out(py, values.upper),
        vector_out(py, slopes.lower),
        vector_out(py, slopes.upper),
    ))
}

#[pyfunction]
pub(crate) fn kernel_path() -> &'static str {
    nnprune_core::kernel_path()
}
