//! Copies between NumPy and the core. Weights are copied in once, in logical order, so that
//! Fortran-ordered and strided arrays mean what they show.

use ndarray::{Array1, Array2, CowArray, Ix1, Ix2};
use nnprune_core::Error;
use nnprune_core::bounds::InputBox;
use nnprune_core::interval::Intervals;
use nnprune_core::network::Network;
use numpy::{IntoPyArray, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use crate::errors;

/// A float32 array of any number of axes.
pub(crate) type Weights<'py> = PyReadonlyArrayDyn<'py, f32>;
/// A float64 array of any number of axes.
pub(crate) type Values<'py> = PyReadonlyArrayDyn<'py, f64>;
/// Lower and upper ends, as Python gets them.
pub(crate) type Ends<'py> = (Bound<'py, PyArrayDyn<f64>>, Bound<'py, PyArrayDyn<f64>>);

/// A weight vector.
pub(crate) fn vector(name: &str, weights: &Weights<'_>) -> PyResult<Array1<f32>> {
    let array = weights.as_array();
    let axes = array.ndim();
    array
        .into_dimensionality::<Ix1>()
        .map(|vector| vector.as_standard_layout().into_owned())
        .map_err(|_| errors::config(format!("{name}: expected 1 axis, got {axes}")))
}

/// A kernel with all axes but the last merged.
pub(crate) fn kernel(name: &str, weights: &Weights<'_>) -> PyResult<Array2<f32>> {
    let array = weights.as_array();
    let Some(&last) = array.shape().last().filter(|_| array.ndim() >= 2) else {
        let axes = array.ndim();
        return Err(errors::config(format!("{name}: expected at least 2 axes, got {axes}")));
    };
    let rows = array.shape()[..array.ndim() - 1].iter().product();
    let flat: Vec<f32> = array.iter().copied().collect();
    Array2::from_shape_vec((rows, last), flat)
        .map_err(|problem| errors::config(format!("{name}: {problem}")))
}

/// All elements in row-major order.
pub(crate) fn flat(values: &Values<'_>) -> Vec<f64> {
    values.as_array().iter().copied().collect()
}

/// The input box, each array of its input's own shape.
pub(crate) fn input_box(
    network: &Network,
    lower: &[Values<'_>],
    upper: &[Values<'_>],
) -> PyResult<InputBox> {
    let wrong = |text: String| errors::to_py(Error::Bounds(text));
    if lower.len() != upper.len() {
        return Err(wrong(format!("{} lower and {} upper bounds", lower.len(), upper.len())));
    }
    let mut intervals = Vec::with_capacity(lower.len());
    for (at, (l, u)) in lower.iter().zip(upper).enumerate() {
        if let Some(node) = network.inputs().get(at).map(|&id| network.node(id)) {
            let (l, u) = (l.as_array(), u.as_array());
            if l.shape() != node.shape || u.shape() != node.shape {
                return Err(wrong(format!(
                    "input '{}': expected shape {:?}, got {:?} and {:?}",
                    node.name,
                    node.shape,
                    l.shape(),
                    u.shape()
                )));
            }
        }
        intervals.push(Intervals { lower: flat(l), upper: flat(u) });
    }
    InputBox::new(network, intervals).map_err(errors::to_py)
}

/// A box for each sample of a network with one input; the first axis counts samples.
pub(crate) fn sample_boxes(
    network: &Network,
    lower: &Values<'_>,
    upper: &Values<'_>,
) -> PyResult<Vec<InputBox>> {
    let (lower, upper) = (lower.as_array(), upper.as_array());
    if lower.shape() != upper.shape() || lower.ndim() == 0 {
        let shapes = format!("{:?} and {:?}", lower.shape(), upper.shape());
        return Err(errors::config(format!("samples: lower and upper have shapes {shapes}")));
    }
    let samples = lower.outer_iter().zip(upper.outer_iter());
    samples
        .map(|(lower, upper)| {
            let ends = |end: ndarray::ArrayViewD<'_, f64>| end.iter().copied().collect();
            let intervals = Intervals { lower: ends(lower), upper: ends(upper) };
            InputBox::new(network, vec![intervals]).map_err(errors::to_py)
        })
        .collect()
}

/// Intervals as a pair of arrays of this shape.
pub(crate) fn ends<'py>(
    py: Python<'py>,
    intervals: Intervals,
    shape: &[usize],
) -> PyResult<Ends<'py>> {
    let array = |values: Vec<f64>| values.into_pyarray(py).reshape(shape);
    Ok((array(intervals.lower)?, array(intervals.upper)?))
}

/// Samples of one node, one row a sample; the first axis counts samples. No copy where they are
/// laid out that way already.
pub(crate) fn samples<'a>(
    name: &str,
    shape: &[usize],
    values: &'a Weights<'_>,
) -> PyResult<CowArray<'a, f32, Ix2>> {
    let array = values.as_array();
    if array.ndim() != shape.len() + 1 || &array.shape()[1..] != shape {
        let got = array.shape();
        return Err(errors::to_py(Error::Values(format!(
            "'{name}': expected shape (samples, *{shape:?}), got {got:?}"
        ))));
    }
    let rows = (array.shape()[0], shape.iter().product());
    let wrong = |problem| errors::config(format!("{name}: {problem}"));
    if array.is_standard_layout() {
        return Ok(array.into_shape_with_order(rows).map_err(wrong)?.into());
    }
    let flat: Vec<f32> = array.iter().copied().collect();
    Ok(Array2::from_shape_vec(rows, flat).map_err(wrong)?.into())
}

/// Samples of one node for Python, in the node's own shape.
pub(crate) fn samples_out<'py>(
    py: Python<'py>,
    values: Array2<f32>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let whole: Vec<usize> = std::iter::once(values.nrows()).chain(shape.iter().copied()).collect();
    values.into_pyarray(py).reshape(whole)
}

/// A vector for Python.
pub(crate) fn vector_out<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
) -> Bound<'_, PyArray1<T>> {
    values.into_pyarray(py)
}
