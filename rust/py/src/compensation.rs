//! `compensate` and its result, and its steps by themselves.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nnprune_core::compensation::{
    self as driver, Allocation, Axes, Config, LayerFit, Observer, Regularisation, Rule, Search,
    SearchProgress, Selection, Source, Towards,
};
use nnprune_core::config::EnergyConfig;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arrays::{Values, Weights};
use crate::errors::{config, to_py};
use crate::functions::{parse_density, parse_normalization};
use crate::gate::enter;
use crate::moments::prior;
use crate::network::{Network, unit_numbers};

type Matrix<'py> = PyReadonlyArray2<'py, f64>;
type Numbers<'py> = Bound<'py, PyArray1<i64>>;

/// What a compensation made for one target; see `_core.pyi`.
#[pyclass(frozen, module = "nnprune._core")]
pub(crate) struct Compensation(driver::Compensated);

#[pymethods]
impl Compensation {
    #[getter]
    fn network(&self) -> Network {
        Network(self.0.network.clone())
    }

    #[getter]
    fn target(&self) -> Option<f64> {
        self.0.target
    }

    #[getter]
    fn loss(&self) -> f64 {
        self.0.loss
    }

    #[getter]
    fn kept<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kept = PyDict::new(py);
        for layer in &self.0.layers {
            kept.set_item(&layer.layer, unit_numbers(py, &layer.kept)?)?;
        }
        Ok(kept)
    }

    #[getter]
    fn layers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let entries: PyResult<Vec<_>> = self.0.layers.iter().map(|fit| entry(py, fit)).collect();
        PyList::new(py, entries?)
    }
}

/// What became of one layer as Python sees it.
fn entry<'py>(py: Python<'py>, fit: &LayerFit) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("layer", &fit.layer)?;
    dict.set_item("kept", fit.kept.len())?;
    dict.set_item("loss", fit.loss)?;
    dict.set_item("ridge", fit.ridge)?;
    dict.set_item("fallback", &fit.fallback)?;
    let pairs = fit.pairs.iter().map(|pair| (pair.nominee, pair.delegate));
    dict.set_item("pairs", pairs.collect::<Vec<_>>())?;
    dict.set_item("moves", fit.moves)?;
    Ok(dict)
}

/// A required entry of the `selection` mapping.
fn required<'py, T>(selection: &Bound<'py, PyAny>, key: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    selection
        .get_item(key)
        .and_then(|value| value.extract::<T>())
        .map_err(|problem| config(format!("selection: entry '{key}': {problem}")))
}

fn parse_search(selection: &Bound<'_, PyAny>) -> PyResult<Search> {
    Ok(Search {
        moves: required(selection, "moves")?,
        chains: required(selection, "chains")?,
        energy: EnergyConfig {
            alpha: required(selection, "alpha")?,
            similarity: required(selection, "similarity")?,
            density: parse_density(&required::<String>(selection, "density")?)?,
            normalization: parse_normalization("scaled")?,
        },
        heat: required(selection, "heat")?,
    })
}

/// How units are selected, and for how long they may be searched for in all.
fn parse_selection(selection: &Bound<'_, PyAny>) -> PyResult<(Selection, Option<Duration>)> {
    match required::<String>(selection, "name")?.as_str() {
        "elimination" => Ok((Selection::Elimination, None)),
        "search" => {
            let seconds: Option<f64> = required(selection, "seconds")?;
            let budget = seconds
                .map(Duration::try_from_secs_f64)
                .transpose()
                .map_err(|problem| config(format!("selection: entry 'seconds': {problem}")))?;
            Ok((Selection::Search(parse_search(selection)?), budget))
        }
        other => Err(config(format!("selection: expected elimination or search, got {other}"))),
    }
}

fn parse_allocation(name: &str) -> PyResult<Allocation> {
    match name {
        "uniform" => Ok(Allocation::Uniform),
        "propagated" => Ok(Allocation::Propagated),
        other => Err(config(format!("allocation: expected uniform or propagated, got {other}"))),
    }
}

fn parse_rule(name: &str, threshold: f64) -> PyResult<Rule> {
    match name {
        "least_squares" => Ok(Rule::LeastSquares),
        "scaled" => Ok(Rule::Scaled { threshold }),
        "sum" => Ok(Rule::Sum),
        other => Err(config(format!("rule: expected least_squares, scaled or sum, got {other}"))),
    }
}

fn parse_towards(name: &str) -> PyResult<Towards> {
    match name {
        "zero" => Ok(Towards::Zero),
        "unchanged" => Ok(Towards::Unchanged),
        other => Err(config(format!("towards: expected zero or unchanged, got {other}"))),
    }
}

/// Whether a search goes on: each may take its share of the whole time.
fn has_time(started: Instant, budget: Option<Duration>, progress: SearchProgress) -> bool {
    let share = (progress.done + 1) as f64 / progress.searches.max(1) as f64;
    budget.is_none_or(|budget| started.elapsed() < budget.mul_f64(share.min(1.0)))
}

/// Call a callback, unless there is none or one has raised before; whether work goes on.
fn called(
    callback: Option<&Py<PyAny>>,
    raised: &Mutex<Option<PyErr>>,
    call: impl FnOnce(Python<'_>, &Py<PyAny>) -> PyResult<bool>,
) -> bool {
    let Some(callback) = callback else { return true };
    let mut raised = raised.lock().unwrap_or_else(PoisonError::into_inner);
    if raised.is_some() {
        return false;
    }
    Python::attach(|py| call(py, callback)).unwrap_or_else(|error| {
        *raised = Some(error);
        false
    })
}

/// Prune with compensation; see `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (original, feeds=None, *, layers, targets, allocation, width_multiple, ridge, closed_loop, selection, seed, rule="least_squares", threshold=0.45, selection_ridge=1e-3, logit_metric=true, towards="zero", kept=None, metrics=None, lower=None, upper=None, images=None, correlation=0.0, on_layer=None, on_search=None))]
#[expect(clippy::too_many_arguments)] // Python keywords
pub(crate) fn compensate(
    py: Python<'_>,
    original: &Network,
    feeds: Option<BTreeMap<String, Weights<'_>>>,
    layers: Vec<String>,
    targets: Vec<f64>,
    allocation: &str,
    width_multiple: usize,
    ridge: f64,
    closed_loop: bool,
    selection: Bound<'_, PyAny>,
    seed: u64,
    rule: &str,
    threshold: f64,
    selection_ridge: f64,
    logit_metric: bool,
    towards: &str,
    kept: Option<BTreeMap<String, Vec<usize>>>,
    metrics: Option<BTreeMap<String, Matrix<'_>>>,
    lower: Option<Vec<Values<'_>>>,
    upper: Option<Vec<Values<'_>>>,
    images: Option<Vec<Axes>>,
    correlation: f64,
    on_layer: Option<Py<PyAny>>,
    on_search: Option<Py<PyAny>>,
) -> PyResult<Vec<Compensation>> {
    let (mut selection, budget) = parse_selection(&selection)?;
    if let Some(kept) = kept {
        selection = Selection::Given(kept.into_iter().collect());
    }
    let metrics = metrics.unwrap_or_default();
    let asked = Config {
        layers,
        targets,
        allocation: parse_allocation(allocation)?,
        width_multiple,
        rule: parse_rule(rule, threshold)?,
        selection_ridge,
        logit_metric,
        regularisation: Regularisation { ridge, towards: parse_towards(towards)? },
        closed_loop,
        selection,
        metrics: metrics.iter().map(|(node, m)| (node.clone(), m.as_array().to_owned())).collect(),
        seed,
    };
    let valid = asked.check().map_err(to_py)?;
    let samples = feeds.as_ref().map(|feeds| original.feeds(feeds)).transpose()?;
    let assumed = match (lower, upper) {
        (Some(lower), Some(upper)) => Some(prior(original, &lower, &upper, images, correlation)?),
        _ => None,
    };
    let source = match (&samples, &assumed) {
        (Some(feeds), None) => Source::Samples(feeds),
        (None, Some(prior)) => Source::Moments(prior),
        _ => return Err(config("feeds: expected either samples, or lower and upper".into())),
    };
    let raised = Mutex::new(None);
    let mut tell = |target: Option<f64>, fit: &LayerFit| {
        called(on_layer.as_ref(), &raised, |py, callback| {
            callback.call1(py, (target, entry(py, fit)?)).map(|_| true)
        })
    };
    let started = Instant::now();
    let mut keeps_searching = |progress: SearchProgress| {
        has_time(started, budget, progress)
            && called(on_search.as_ref(), &raised, |py, callback| {
                let answer = callback.call1(py, (progress.moves,))?;
                Ok(answer.is_none(py) || answer.is_truthy(py)?)
            })
    };
    let done = enter(py, |poll| {
        let observer = Observer { on_layer: &mut tell, keeps_searching: &mut keeps_searching };
        driver::compensate(&original.0, source, &valid, poll, observer)
    });
    match raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(done?.into_iter().map(Compensation).collect()),
    }
}

fn consumers(
    covariances: &[Matrix<'_>],
    weights: &[Matrix<'_>],
) -> PyResult<Vec<(ndarray::Array2<f64>, ndarray::Array2<f64>)>> {
    if covariances.len() != weights.len() || covariances.is_empty() {
        let (c, w) = (covariances.len(), weights.len());
        return Err(config(format!("covariances: expected one for each weights, got {c} and {w}")));
    }
    let pairs = covariances.iter().zip(weights);
    Ok(pairs.map(|(c, w)| (c.as_array().to_owned(), w.as_array().to_owned())).collect())
}

/// A regularised system by itself; see `_core.pyi`.
#[pyfunction]
pub(crate) fn solve_regularised<'py>(
    py: Python<'py>,
    matrix: Matrix<'py>,
    rows: Matrix<'py>,
    ridge: f64,
) -> PyResult<(Bound<'py, PyArray2<f64>>, f64)> {
    let (matrix, rows) = (matrix.as_array().to_owned(), rows.as_array().to_owned());
    let (solved, ridge) = enter(py, |poll| driver::solve_regularised(&matrix, &rows, ridge, poll))?;
    Ok((solved.into_pyarray(py), ridge))
}

/// The backward order by itself; see `_core.pyi`.
#[pyfunction]
pub(crate) fn eliminate<'py>(
    py: Python<'py>,
    covariances: Vec<Matrix<'py>>,
    weights: Vec<Matrix<'py>>,
    ridge: f64,
) -> PyResult<(Numbers<'py>, Bound<'py, PyArray1<f64>>)> {
    let consumers = consumers(&covariances, &weights)?;
    let found = enter(py, |poll| driver::elimination(&consumers, ridge, poll))?;
    Ok((unit_numbers(py, &found.order)?, found.losses.into_pyarray(py)))
}

/// The search for kept units by itself; see `_core.pyi`.
#[pyfunction]
pub(crate) fn search_units<'py>(
    py: Python<'py>,
    covariances: Vec<Matrix<'py>>,
    weights: Vec<Matrix<'py>>,
    start: Vec<usize>,
    ridge: f64,
    selection: Bound<'py, PyAny>,
    seed: u64,
) -> PyResult<(Numbers<'py>, f64, usize)> {
    let consumers = consumers(&covariances, &weights)?;
    let how = parse_search(&selection)?;
    let found = enter(py, |poll| driver::search_from(&consumers, &start, ridge, &how, seed, poll))?;
    Ok((unit_numbers(py, &found.kept)?, found.loss, found.moves))
}
