//! `certify` and `verify`: bounds of what pruning did to the outputs, along two paths.

use ndarray::Array2;
use nnprune_core::bounds::{Bounds, Tightening};
use nnprune_core::certificate::local::margins;
use nnprune_core::certificate::{NamedMerge, Pairing};
use nnprune_core::verification::recompute;
use numpy::{IntoPyArray, PyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Ends, Values, ends, input_box, sample_boxes};
use crate::errors::{config, to_py};
use crate::gate::enter;
use crate::network::Network;

/// Bound the change of the logits over an input box; see `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (original, smaller, lower, upper, merges, *, mean_value=true, backward=true, most_multiplications=2e11))]
#[expect(clippy::too_many_arguments)] // Python keywords
pub(crate) fn certify<'py>(
    py: Python<'py>,
    original: &Network,
    smaller: &Network,
    lower: Vec<Values<'py>>,
    upper: Vec<Values<'py>>,
    merges: Vec<(String, usize, Option<usize>)>,
    mean_value: bool,
    backward: bool,
    most_multiplications: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let input_box = input_box(&original.0, &lower, &upper)?;
    let merges = named(merges);
    let tightening = Tightening { mean_value, backward, most_multiplications };
    let found = enter(py, |poll| {
        Pairing::new(&original.0, &smaller.0, &merges)?.certify(&input_box, tightening, poll)
    })?;
    let count = found.change.len();
    let (lower, upper) = ends(py, found.change, &[count])?;
    let margins: Bound<'py, PyArray2<f64>> = found.margins.into_pyarray(py);
    let dict = PyDict::new(py);
    dict.set_item("lower", lower)?;
    dict.set_item("upper", upper)?;
    dict.set_item("margins", margins)?;
    Ok(dict)
}

/// The same bounds once more, without matrix products; see `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (original, smaller, lower, upper, merges, *, mean_value=true, backward=true, most_multiplications=2e11))]
#[expect(clippy::too_many_arguments)] // Python keywords
pub(crate) fn verify<'py>(
    py: Python<'py>,
    original: &Network,
    smaller: &Network,
    lower: Vec<Values<'py>>,
    upper: Vec<Values<'py>>,
    merges: Vec<(String, usize, Option<usize>)>,
    mean_value: bool,
    backward: bool,
    most_multiplications: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let input_box = input_box(&original.0, &lower, &upper)?;
    let merges = named(merges);
    let tightening = Tightening { mean_value, backward, most_multiplications };
    let found = enter(py, |poll| {
        let pairing = Pairing::new(&original.0, &smaller.0, &merges)?;
        recompute(&pairing, &input_box, tightening, poll)
    })?;
    let count = found.len();
    let (lower, upper) = ends(py, found, &[count])?;
    let dict = PyDict::new(py);
    dict.set_item("lower", lower)?;
    dict.set_item("upper", upper)?;
    Ok(dict)
}

fn named(merges: Vec<(String, usize, Option<usize>)>) -> Vec<NamedMerge> {
    let named = |(layer, nominee, delegate)| NamedMerge { layer, nominee, delegate };
    merges.into_iter().map(named).collect()
}

/// Value intervals of one node, as tight as they get; see `_core.pyi`.
#[pyfunction]
#[pyo3(signature = (network, node, lower, upper, *, mean_value=true, backward=true, most_multiplications=2e11))]
#[expect(clippy::too_many_arguments)] // Python keywords
pub(crate) fn tight_bounds<'py>(
    py: Python<'py>,
    network: &Network,
    node: &str,
    lower: Vec<Values<'py>>,
    upper: Vec<Values<'py>>,
    mean_value: bool,
    backward: bool,
    most_multiplications: f64,
) -> PyResult<Ends<'py>> {
    let id = network.0.find(node).map_err(to_py)?;
    let input_box = input_box(&network.0, &lower, &upper)?;
    let tightening = Tightening { mean_value, backward, most_multiplications };
    let bounds = enter(py, |poll| Bounds::tight(&network.0, &input_box, tightening, poll))?;
    ends(py, bounds.of(id).clone(), &network.0.node(id).shape)
}

/// Margins that hold in a box around each sample; see `_core.pyi`.
#[pyfunction]
pub(crate) fn certified_margins<'py>(
    py: Python<'py>,
    network: &Network,
    lower: Values<'py>,
    upper: Values<'py>,
    classes: Vec<usize>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let boxes = sample_boxes(&network.0, &lower, &upper)?;
    if boxes.len() != classes.len() {
        return Err(config(format!("{} samples, {} classes", boxes.len(), classes.len())));
    }
    let tightening = Tightening { mean_value: false, ..Tightening::default() };
    let found = enter(py, |poll| margins(&network.0, &boxes, &classes, tightening, poll))?;
    let columns = found.first().map_or(2, Vec::len);
    let flat: Vec<f64> = found.into_iter().flatten().collect();
    let array = Array2::from_shape_vec((classes.len(), columns), flat)
        .map_err(|problem| config(problem.to_string()))?;
    Ok(array.into_pyarray(py))
}
