//! `nnprune._core`: thin bindings of the engine. No algorithm lives here.

mod arrays;
mod builder;
mod certificate;
mod compensation;
mod errors;
mod functions;
mod gate;
mod moments;
mod network;
mod pruning;
mod threads;

use pyo3::prelude::*;

/// The compiled core of nnprune.
#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::builder::NetworkBuilder;
    #[pymodule_export]
    use crate::certificate::{certified_margins, certify, tight_bounds, verify};
    #[pymodule_export]
    use crate::compensation::{
        Compensation, compensate, eliminate, search_units, solve_regularised,
    };
    #[pymodule_export]
    use crate::functions::{activation_range, anneal, energy, entropy, kernel_path, uniform_draws};
    #[pymodule_export]
    use crate::moments::{activation_moments, gaussian_moments};
    #[pymodule_export]
    use crate::network::{GroupInfo, Network, NodeInfo};
    #[pymodule_export]
    use crate::pruning::{Pruning, check_options, prune};
    #[pymodule_export]
    use crate::threads::{set_threads, threads};

    #[pymodule_export]
    #[expect(non_upper_case_globals)] // a Python attribute
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// So that a benchmark can refuse a debug build.
    #[pymodule_export]
    #[expect(non_upper_case_globals)] // a Python attribute
    const build_profile: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
}
