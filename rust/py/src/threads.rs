//! How many threads the engine computes on: one pool for the process, made for its first work.

use std::env::{self, VarError};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use pyo3::prelude::*;

use crate::errors::config;

/// Far more than there are cores to run them.
const MOST: usize = 4096;
const VARIABLE: &str = "RAYON_NUM_THREADS";

struct Pool {
    /// What `set_threads` was told.
    asked: Option<usize>,
    /// How many threads there are, once there are any.
    made: Option<usize>,
    /// The process that has them: a copy of it, made by a fork, has none.
    process: u32,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { asked: None, made: None, process: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Say how many threads the engine of this process is to have; see `_core.pyi`.
#[pyfunction]
pub(crate) fn set_threads(count: usize) -> PyResult<()> {
    if !(1..=MOST).contains(&count) {
        return Err(config(format!("threads: expected an integer from 1 to {MOST}, got {count}")));
    }
    let mut pool = pool();
    match pool.made {
        Some(made) if made != count => Err(config(format!(
            "threads: the engine of this process has had {made} since its first work; ask for \
             {count} before that, or in a new process"
        ))),
        _ => {
            pool.asked = Some(count);
            Ok(())
        }
    }
}

/// How many threads the engine has, or will have; see `_core.pyi`.
#[pyfunction]
pub(crate) fn threads() -> PyResult<usize> {
    let pool = pool();
    pool.made.map_or_else(|| wanted(pool.asked), Ok)
}

/// Make the pool, if nobody has.
///
/// The calling thread is not one of it: work that comes from other threads of Python would wait
/// for ever for one that is busy elsewhere.
pub(crate) fn start() -> PyResult<()> {
    let mut pool = pool();
    if pool.made.is_some() {
        if pool.process == process::id() {
            return Ok(());
        }
        return Err(config(
            "threads: this process was forked from one whose engine had begun to work, and has \
             none of its threads; start it with the method 'spawn'"
                .into(),
        ));
    }
    let count = wanted(pool.asked)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|number| format!("nnprune-{number}"))
        .build_global()
        .map_err(|problem| {
            config(format!("threads: {count} cannot be started ({problem}); ask for fewer"))
        })?;
    pool.made = Some(count);
    pool.process = process::id();
    Ok(())
}

/// What was asked for, else the environment's number, else one a core that the process may use.
fn wanted(asked: Option<usize>) -> PyResult<usize> {
    let cores = || available_parallelism().map_or(1, usize::from);
    let text = match (asked, env::var(VARIABLE)) {
        (Some(count), _) => return Ok(count),
        (None, Err(VarError::NotPresent)) => return Ok(cores()),
        (None, Err(VarError::NotUnicode(text))) => text.to_string_lossy().into_owned(),
        (None, Ok(text)) => text,
    };
    match text.trim().parse() {
        Ok(0) => Ok(cores()), // as rayon has it
        Ok(count) if count <= MOST => Ok(count),
        _ if text.is_empty() => Ok(cores()),
        _ => Err(config(format!(
            "{VARIABLE}: expected an integer from 1 to {MOST}, got '{text}'; unset it for one \
             thread a core"
        ))),
    }
}
