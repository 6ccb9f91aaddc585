//! Data-free, robustness-preserving pruning of neural networks: the engine.
//!
//! The method is that of Meng, Bai, Teo and Dong (arXiv 2204.00783), made precise in
//! `docs/method.md`. A module uses only those listed before it:
//! [`error`], `tasks`, `lanes`, [`interval`], `similarity`, [`random`], [`activation`], [`gaussian`], [`config`], [`network`], `linalg`,
//! [`forward`], [`gradient`], `adjoint`, [`bounds`], [`inversion`], [`sensitivity`], [`impact`],
//! [`saliency`], [`energy`], [`merge`], [`annealing`], [`one_shot`], [`trace`], [`certificate`],
//! [`verification`], [`prune`], [`compensation`].

#![forbid(unsafe_code)]

pub mod activation;
mod adjoint;
pub mod annealing;
pub mod bounds;
pub mod certificate;
pub mod compensation;
pub mod config;
pub mod energy;
pub mod error;
pub mod forward;
pub mod gaussian;
pub mod gradient;
pub mod impact;
pub mod interval;
pub mod inversion;
mod lanes;
mod linalg;
pub mod merge;
pub mod network;
pub mod one_shot;
pub mod prune;
pub mod random;
pub mod saliency;
pub mod sensitivity;
mod similarity;
mod tasks;
pub mod trace;
pub mod verification;

pub use error::{Error, Result};
pub use linalg::kernel_path;
