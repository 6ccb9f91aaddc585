//! The only place that maps the core's errors to Python's exceptions.

use nnprune_core::Error;
use pyo3::PyErr;
use pyo3::exceptions::PyKeyboardInterrupt;

// Defined and documented in nnprune/errors.py.
mod exceptions {
    pyo3::import_exception!(nnprune.errors, BoundsError);
    pyo3::import_exception!(nnprune.errors, ConfigError);
    pyo3::import_exception!(nnprune.errors, ModelError);
    pyo3::import_exception!(nnprune.errors, NnpruneError);
    pyo3::import_exception!(nnprune.errors, NothingToPruneError);
    pyo3::import_exception!(nnprune.errors, UnknownLayerError);
    pyo3::import_exception!(nnprune.errors, WeightError);
}

/// The Python exception for an error of the core.
pub(crate) fn to_py(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Config { .. } | Error::Values(_) => exceptions::ConfigError::new_err(message),
        Error::Bounds(_) => exceptions::BoundsError::new_err(message),
        Error::Weight { .. } => exceptions::WeightError::new_err(message),
        Error::Graph { .. } | Error::Mismatch(_) => exceptions::ModelError::new_err(message),
        Error::UnknownLayer { .. } | Error::NotPrunable { .. } => {
            exceptions::UnknownLayerError::new_err(message)
        }
        Error::NothingToPrune(_) => exceptions::NothingToPruneError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
    }
}

/// The exception for a defect of the engine itself.
pub(crate) fn internal(panic: &(dyn std::any::Any + Send)) -> PyErr {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    exceptions::NnpruneError::new_err(format!(
        "internal error of the engine ({text}); please report it with the model's summary"
    ))
}

/// An argument of the binding itself is out of range.
pub(crate) fn config(message: String) -> PyErr {
    exceptions::ConfigError::new_err(message)
}
