//! Laws of the engine, on random networks.

#![expect(clippy::unwrap_used)] // a test may panic

mod activation_difference;
mod activation_lines;
mod activations;
mod budgets;
mod certificates;
mod networks;
mod runs;
mod soundness;
mod verification;
