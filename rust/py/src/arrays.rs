//! Copies between NumPy and the core. Weights are copied in once, in logical order, so that
//! Fortran-ordered and strided arrays mean what they show.

use ndarray::{Array1, Array2, Ix1, Ix2};
use nnprune_core::interval::Intervals;
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
        .and_then(ndarray::ArrayBase::into_dimensionality::<Ix2>)
        .map_err(|problem| errors::config(format!("{name}: {problem}")))
}

/// All elements in row-major order.
pub(crate) fn flat(values: &Values<'_>) -> Vec<f64> {
    values.as_array().iter().copied().collect()
}

/// The intervals of every input.
pub(crate) fn boxes(lower: &[Values<'_>], upper: &[Values<'_>]) -> PyResult<Vec<Intervals>> {
    if lower.len() != upper.len() {
        return Err(errors::to_py(nnprune_core::Error::Bounds(format!(
            "{} lower bounds and {} upper bounds",
            lower.len(),
            upper.len()
        ))));
    }
    Ok(lower.iter().zip(upper).map(|(l, u)| Intervals { lower: flat(l), upper: flat(u) }).collect())
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

/// A vector for Python.
pub(crate) fn vector_out<T: numpy::Element>(
    py: Python<'_>,
    values: Vec<T>,
) -> Bound<'_, PyArray1<T>> {
    values.into_pyarray(py)
}
