//! `prune` and its result.

use nnprune_core::config::{AnnealingConfig, Change, Config, EnergyConfig, Method, Restart};
use nnprune_core::network::Network as CoreNetwork;
use nnprune_core::prune::{self as driver, Observer, StoppedBy, Verdict};
use nnprune_core::trace::EpochTrace;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arrays::{Ends, Values, ends, input_box};
use crate::errors::{config, to_py};
use crate::functions::{parse_density, parse_normalization};
use crate::gate::enter;
use crate::network::{Network, parse_bias, parse_outgoing, unit_numbers};

/// What a run did; see `_core.pyi`.
#[pyclass(frozen, module = "nnprune._core")]
pub(crate) struct Pruning(driver::Pruning);

#[pymethods]
impl Pruning {
    #[getter]
    fn network(&self) -> Network {
        Network(self.0.network.clone())
    }

    #[getter]
    fn kept<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kept = PyDict::new(py);
        for (layer, units) in &self.0.kept {
            kept.set_item(layer, unit_numbers(py, units)?)?;
        }
        Ok(kept)
    }

    #[getter]
    fn merges<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let merges = PyList::empty(py);
        for merge in &self.0.merges {
            let entry = PyDict::new(py);
            entry.set_item("layer", &merge.layer)?;
            entry.set_item("nominee", merge.nominee)?;
            entry.set_item("delegate", merge.delegate)?;
            entry.set_item("epoch", merge.epoch)?;
            merges.append(entry)?;
        }
        Ok(merges)
    }

    #[getter]
    fn trace<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let entries: PyResult<Vec<_>> = self.0.trace.iter().map(|entry| epoch(py, entry)).collect();
        PyList::new(py, entries?)
    }

    #[getter]
    fn impact<'py>(&self, py: Python<'py>) -> PyResult<Ends<'py>> {
        ends(py, self.0.impact.clone(), &[self.0.impact.len()])
    }

    #[getter]
    fn kernel_path(&self) -> &'static str {
        self.0.kernel_path
    }

    #[getter]
    fn stopped_by(&self) -> &'static str {
        match self.0.stopped_by {
            StoppedBy::Target => "target",
            StoppedBy::Callback => "callback",
            StoppedBy::Undone => "undone",
            StoppedBy::Budget => "max_output_change",
            StoppedBy::Lossless => "lossless",
            StoppedBy::NoDelegate => "no_delegate",
        }
    }
}

/// One epoch's trace as Python sees it.
fn epoch<'py>(py: Python<'py>, entry: &EpochTrace) -> PyResult<Bound<'py, PyDict>> {
    let units = PyDict::new(py);
    for (layer, count) in &entry.units {
        units.set_item(layer, count)?;
    }
    let visits = &entry.visits;
    let dict = PyDict::new(py);
    dict.set_item("epoch", entry.epoch)?;
    dict.set_item("temperature", entry.temperature)?;
    dict.set_item("units", units)?;
    dict.set_item("removed", visits.removed)?;
    dict.set_item("energy", entry.mean_energy())?;
    dict.set_item("energy_scale", entry.mean_scale())?;
    dict.set_item("candidates", visits.candidates)?;
    dict.set_item("accepted", visits.by_energy)?;
    dict.set_item("accepted_by_chance", visits.by_chance)?;
    dict.set_item("rejected", visits.rejections)?;
    dict.set_item("taken", visits.taken)?;
    dict.set_item("impact_lower", &entry.impact.lower)?;
    dict.set_item("impact_upper", &entry.impact.upper)?;
    Ok(dict)
}

/// A required entry of the `method` mapping.
fn entry<'py, T>(method: &Bound<'py, PyAny>, key: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    method
        .get_item(key)
        .and_then(|value| value.extract::<T>())
        .map_err(|problem| config(format!("method: entry '{key}': {problem}")))
}

fn parse_change(name: &str) -> PyResult<Change> {
    match name {
        "interval" => Ok(Change::Interval),
        "distance" => Ok(Change::Distance),
        "moment" => Ok(Change::Moment),
        other => Err(config(format!("impact: expected interval, distance or moment, got {other}"))),
    }
}

fn parse_method(method: &Bound<'_, PyAny>) -> PyResult<Method> {
    match entry::<String>(method, "name")?.as_str() {
        "annealing" => Ok(Method::Annealing(AnnealingConfig {
            energy: EnergyConfig {
                alpha: entry(method, "alpha")?,
                similarity: entry(method, "similarity")?,
                density: parse_density(&entry::<String>(method, "density")?)?,
                normalization: parse_normalization(&entry::<String>(method, "normalization")?)?,
            },
            change: parse_change(&entry::<String>(method, "impact")?)?,
            pool: entry(method, "pool")?,
            rewalks: entry(method, "rewalks")?,
            restart: match entry::<String>(method, "restart")?.as_str() {
                "never" => Restart::Never,
                "visit" => Restart::Visit,
                other => {
                    return Err(config(format!("restart: expected never or visit, got {other}")));
                }
            },
        })),
        "greedy" => Ok(Method::Greedy {
            pool: entry(method, "pool")?,
            change: parse_change(&entry::<String>(method, "impact")?)?,
        }),
        "one_shot" => Ok(Method::OneShot),
        other => {
            Err(config(format!("method: expected annealing, greedy or one_shot, got {other}")))
        }
    }
}

/// Check options before any work is done; see `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (*, target, step, method, outgoing, bias="absolute", max_output_change=None, width_multiple=1))]
pub(crate) fn check_options(
    target: f64,
    step: f64,
    method: Bound<'_, PyAny>,
    outgoing: &str,
    bias: &str,
    max_output_change: Option<f64>,
    width_multiple: usize,
) -> PyResult<()> {
    let (method, outgoing) = (parse_method(&method)?, parse_outgoing(outgoing)?);
    let config = Config {
        layers: Vec::new(),
        target,
        step,
        method,
        outgoing,
        bias: parse_bias(bias)?,
        seed: 0,
        max_output_change,
        lossless: false,
        width_multiple,
    };
    config.check().map(drop).map_err(to_py)
}

/// Prune a network; see `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (network, lower, upper, *, layers, target, step, method, outgoing, seed, on_epoch=None, supervised=false, bias="absolute", max_output_change=None, lossless=false, width_multiple=1))]
#[expect(clippy::too_many_arguments)] // Python keywords
pub(crate) fn prune(
    py: Python<'_>,
    network: &Network,
    lower: Vec<Values<'_>>,
    upper: Vec<Values<'_>>,
    layers: Vec<String>,
    target: f64,
    step: f64,
    method: Bound<'_, PyAny>,
    outgoing: &str,
    seed: u64,
    on_epoch: Option<Py<PyAny>>,
    supervised: bool,
    bias: &str,
    max_output_change: Option<f64>,
    lossless: bool,
    width_multiple: usize,
) -> PyResult<Pruning> {
    let method = parse_method(&method)?;
    let outgoing = parse_outgoing(outgoing)?;
    let bias = parse_bias(bias)?;
    let asked = Config {
        layers,
        target,
        step,
        method,
        outgoing,
        bias,
        seed,
        max_output_change,
        lossless,
        width_multiple,
    };
    let valid = asked.check().map_err(to_py)?;
    let input_box = input_box(&network.0, &lower, &upper)?;
    let mut raised: Option<PyErr> = None;
    let mut tell = |trace: &EpochTrace, network: &CoreNetwork| {
        let Some(callback) = &on_epoch else { return Verdict::Continue };
        Python::attach(|py| {
            let shown = supervised.then(|| Network(network.clone()));
            ask(callback.bind(py), epoch(py, trace)?, shown)
        })
        .unwrap_or_else(|error| {
            raised = Some(error);
            Verdict::Stop
        })
    };
    let done = enter(py, |poll| {
        let observer = Observer { on_epoch: &mut tell, may_undo: supervised };
        driver::prune(&network.0, &input_box, &valid, poll, observer)
    });
    match raised {
        Some(error) => Err(error),
        None => done.map(Pruning),
    }
}

/// What Python's callback makes of an epoch: None or true, false, or "undo".
fn ask(
    callback: &Bound<'_, PyAny>,
    entry: Bound<'_, PyDict>,
    network: Option<Network>,
) -> PyResult<Verdict> {
    let answer = match network {
        Some(network) => callback.call1((entry, network))?,
        None => callback.call1((entry,))?,
    };
    if answer.is_none() {
        return Ok(Verdict::Continue);
    }
    if answer.extract::<String>().is_ok_and(|word| word == "undo") {
        return Ok(Verdict::Undo);
    }
    Ok(if answer.is_truthy()? { Verdict::Continue } else { Verdict::Stop })
}
