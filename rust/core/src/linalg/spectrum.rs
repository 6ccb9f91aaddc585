//! Bounds of eigenvalues and singular values.

use ndarray::{Array2, ArrayView2};

use super::{add_gram, mirror, parallel_product};

/// Widest kernel (by its shorter side) whose Gram matrix is squared four times, and twice.
const SQUARED: [(usize, i32); 2] = [(512, 4), (2048, 2)];

/// The Frobenius norm, rounded up.
pub(crate) fn frobenius(matrix: &Array2<f64>) -> f64 {
    let squares: f64 = matrix.iter().map(|x| x * x).sum();
    squares.sqrt() * (1.0 + 2.0 * (matrix.len() as f64 + 4.0) * f64::EPSILON)
}

/// An upper bound of the absolute eigenvalues of every matrix within `error` (Frobenius norm) of
/// this one: the norm of a power, squared `squarings` times.
///
/// Rounding is followed along: what a square may be off by is a multiple of the norms that are
/// there. As the power's root is taken in the end, little of it is left.
pub(crate) fn spectral_radius(matrix: &Array2<f64>, error: f64, squarings: i32) -> f64 {
    let square = |power: &Array2<f64>| parallel_product(power, power);
    radius_by_squares(matrix.clone(), error, squarings, &square)
}

fn radius_by_squares(
    mut power: Array2<f64>,
    error: f64,
    squarings: i32,
    square: &dyn Fn(&Array2<f64>) -> Array2<f64>,
) -> f64 {
    let n = power.nrows() as f64;
    let round_up = 1.0 + 8.0 * f64::EPSILON;
    let (mut size, mut error) = (frobenius(&power), error);
    // The logarithm of what the power has been divided by in all.
    let mut scale = 0.0;
    for _ in 0..squarings {
        if size + error == 0.0 {
            return 0.0;
        }
        if !(size + error).is_finite() || size == 0.0 {
            return f64::INFINITY;
        }
        power.mapv_inplace(|x| x / size);
        error = (error / size + 2.0 * f64::EPSILON) * round_up;
        scale = 2.0 * (scale + libm::log(size));
        power = square(&power);
        error = (2.0 * error * round_up + error * error + (n + 2.0) * f64::EPSILON) * round_up;
        size = frobenius(&power);
    }
    let root = 2.0_f64.powi(squarings);
    libm::exp((scale + libm::log((size + error) * round_up)) / root) * (1.0 + 1e-12)
}

/// An upper bound of the largest singular value of W.
///
/// By Gram iteration (Delattre et al., arXiv 2305.16173): the Frobenius norm of the Gram matrix,
/// squared k times, bounds the spectral norm to the power 2^(k+1); after four times it is within
/// a few parts in a thousand. Wide kernels get the geometric mean of the largest absolute row and
/// column sum instead.
pub(crate) fn spectral_norm(kernel: ArrayView2<'_, f32>) -> f64 {
    // Rows of units that are gone are zero and count for nothing.
    let is_filled = |&row: &usize| kernel.row(row).iter().any(|&weight| weight != 0.0);
    let filled: Vec<usize> = (0..kernel.nrows()).filter(is_filled).collect();
    let n = kernel.nrows().max(kernel.ncols()) as f64;
    let by_sums = (largest_sums(kernel)).sqrt() * (1.0 + 4.0 * (n + 4.0) * f64::EPSILON);
    let narrow = filled.len().min(kernel.ncols());
    let Some(&(_, squarings)) = SQUARED.iter().find(|(widest, _)| narrow <= *widest) else {
        return by_sums;
    };
    let at = |(row, column): (usize, usize)| f64::from(kernel[[filled[row], column]]);
    let wide = Array2::from_shape_fn((filled.len(), kernel.ncols()), at);
    let tall = if wide.ncols() == narrow { wide.view() } else { wide.t() };
    let gram = symmetric(narrow, tall);
    let size = frobenius(&wide);
    let error = (n + 2.0) * f64::EPSILON * size * size;
    let square = |power: &Array2<f64>| symmetric(narrow, power.view());
    let radius = radius_by_squares(gram, error, squarings, &square);
    by_sums.min(radius.sqrt() * (1.0 + 4.0 * f64::EPSILON))
}

/// The largest absolute row sum times the largest absolute column sum.
fn largest_sums(kernel: ArrayView2<'_, f32>) -> f64 {
    let mut columns = vec![0.0_f64; kernel.ncols()];
    let mut largest = 0.0_f64;
    for row in kernel.rows() {
        let mut sum = 0.0;
        for (column, &weight) in columns.iter_mut().zip(row) {
            let size = f64::from(weight.abs());
            *column += size;
            sum += size;
        }
        largest = largest.max(sum);
    }
    largest * columns.into_iter().fold(0.0, f64::max)
}

/// `B^T B`, both triangles.
fn symmetric(columns: usize, block: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut product = Array2::zeros((columns, columns));
    add_gram(product.view_mut(), block, 1.0);
    mirror(&mut product);
    product
}
