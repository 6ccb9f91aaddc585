//! The matrix products of the engine; those that may be stopped half-way call these for their tiles.
//!
//! They are ndarray's, which are the matrixmultiply crate's: one kernel for each kind of processor,
//! chosen when the process runs, and a portable one. `benches/products.py` compares it with others.
//! Every result element is summed in an order that does not depend on the number of threads:
//! threads share out rows or columns of the result, never terms of a sum.

mod gram;
mod products;
mod rows;
mod spectrum;

pub(crate) use gram::{add_gram, gram, mirror, update_gram};
pub(crate) use products::{
    multiply_add, multiply_f32, parallel_product, product_f32, product_of_rows,
};
pub(crate) use rows::{
    WideKernel, centre_radius_product, pull_back, select_columns, selected_products,
};
pub(crate) use spectrum::{frobenius, spectral_norm, spectral_radius};

/// Which kernels the matrix products of this process run, by the processor's features: results may
/// differ in their last bits between them, and are the same bytes on each.
pub fn kernel_path() -> &'static str {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") {
            return "avx512";
        }
        if has!("fma") && has!("avx2") {
            return "fma";
        }
        if has!("avx") {
            return "avx";
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return "neon";
    }
    "portable"
}

/// Rows of the result that one task takes: many, so that what they meet is packed seldom, but
/// enough tasks for any number of threads.
fn rows_per_task(rows: usize) -> usize {
    (rows / 16).next_multiple_of(8).clamp(64, 256)
}

/// Weights for tests.
#[cfg(test)]
#[expect(clippy::cast_possible_truncation)]
pub(crate) fn sample(seed: u64, rows: usize, columns: usize) -> ndarray::Array2<f32> {
    let mut random = crate::random::Random::from_seed(seed);
    ndarray::Array2::from_shape_simple_fn((rows, columns), || (random.uniform() - 0.5) as f32)
}
