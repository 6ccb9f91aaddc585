//! The one error type of the core, and the poll through which long work may be stopped.

use std::ops::ControlFlow;

use thiserror::Error;

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong; every message names the argument, node or layer, and the remedy.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// A parameter is outside its range.
    #[error("{field}: expected {expected}, got {got}")]
    Config {
        /// Name of the parameter.
        field: &'static str,
        /// The accepted range.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The input box is inverted, not finite or of the wrong shape.
    #[error("input bounds: {0}")]
    Bounds(String),
    /// Values that were given for nodes are missing, not finite or of the wrong shape.
    #[error("inputs: {0}")]
    Values(String),
    /// A weight is not finite or has the wrong shape.
    #[error("layer '{layer}': {problem}")]
    Weight {
        /// The layer that owns the weight.
        layer: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The graph is not valid.
    #[error("node '{node}': {problem}")]
    Graph {
        /// The node at fault.
        node: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No layer has this name.
    #[error("unknown layer '{layer}'; layers with units: {known}")]
    UnknownLayer {
        /// The name that was asked for.
        layer: String,
        /// The names there are.
        known: String,
    },
    /// The layer's units cannot be removed.
    #[error("layer '{layer}' cannot be pruned: {reason}")]
    NotPrunable {
        /// The layer.
        layer: String,
        /// Why its units stay.
        reason: String,
    },
    /// There is no unit to remove at all.
    #[error("nothing to prune: {0}")]
    NothingToPrune(String),
    /// An original and a pruned network do not belong together.
    #[error("the models do not belong together: {0}")]
    Mismatch(String),
    /// The caller's poll asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A closure of the caller's that long work calls now and then; `Break` stops it.
pub struct Poll<'a>(&'a mut dyn FnMut() -> ControlFlow<()>);

impl<'a> Poll<'a> {
    /// Wrap the caller's closure.
    pub fn new(ask: &'a mut dyn FnMut() -> ControlFlow<()>) -> Self {
        Self(ask)
    }

    /// Go on, or return [`Error::Interrupted`] if the caller wants to stop.
    pub fn check(&mut self) -> Result<()> {
        match (self.0)() {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }
}

/// A poll that never stops, for short work.
pub fn never_stop() -> impl FnMut() -> ControlFlow<()> {
    || ControlFlow::Continue(())
}
