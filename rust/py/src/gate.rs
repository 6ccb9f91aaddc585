//! The one gate for long calls.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nnprune_core::Result;
use nnprune_core::error::Poll;
use pyo3::prelude::*;

use crate::{errors, threads};

/// How often Python is asked for pending signals.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// Run long core work: other Python threads may run, Ctrl-C is honoured, no panic gets out.
///
/// Signals are only delivered to the main thread; called from another one, the work runs through.
/// That is why the work stays on the thread that called, and only its pieces go to the pool.
pub(crate) fn enter<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut Poll<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    threads::start()?;
    let mut pending: Option<PyErr> = None;
    let outcome = py.detach(|| {
        let mut asked = Instant::now();
        let mut ask = || {
            if asked.elapsed() < POLL_EVERY {
                return ControlFlow::Continue(());
            }
            asked = Instant::now();
            #[expect(clippy::redundant_closure_for_method_calls)]
            // the method is not general in its lifetime
            match Python::attach(|py| py.check_signals()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    pending = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        catch_unwind(AssertUnwindSafe(|| work(&mut Poll::new(&mut ask))))
    });
    match (pending, outcome) {
        (Some(error), _) => Err(error),
        (None, Ok(result)) => result.map_err(errors::to_py),
        (None, Err(panic)) => Err(errors::internal(panic.as_ref())),
    }
}
