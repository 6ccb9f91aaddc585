//! The only matrix products of the engine.
//!
//! Every result element is summed in an order that does not depend on the number of threads:
//! threads share out rows or columns of the result, never terms of a sum.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use crate::error::{Poll, Result};

/// The kernels that the matrix products of this process run, by the processor's features.
pub(crate) fn kernel_path() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("fma") {
            "fma"
        } else if std::arch::is_x86_feature_detected!("avx") {
            "avx"
        } else {
            "sse2"
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}

/// Below this many multiplications a product is not worth sharing out.
const PARALLEL_FROM: usize = 1 << 18;
/// Columns of a matrix-vector product that one task takes.
const COLUMNS_PER_TASK: usize = 512;
/// Rows of the result of a matrix product that one task takes.
const ROWS_PER_TASK: usize = 64;
/// Rows of the result of a matrix product in f32 that one task takes.
const ROWS_PER_F32_TASK: usize = 128;
/// Rows of a kernel that are widened to f64 at a time.
const ROWS_WIDENED: usize = 256;

/// `m W` and `r |W|`, for a centre m and a radius r of length `kernel.nrows()`.
///
/// Rows where both are zero are skipped.
pub(crate) fn centre_radius_product(
    kernel: ArrayView2<'_, f32>,
    centre: &[f64],
    radius: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let columns = kernel.ncols();
    let mut image = (vec![0.0; columns], vec![0.0; columns]);
    let rows: Vec<usize> =
        (0..kernel.nrows()).filter(|&row| centre[row] != 0.0 || radius[row] != 0.0).collect();
    let accumulate = |first: usize, centres: &mut [f64], radii: &mut [f64]| {
        let part = kernel.slice_axis(Axis(1), Slice::from(first..first + centres.len()));
        for &row in &rows {
            let (m, r) = (centre[row], radius[row]);
            let sums = centres.iter_mut().zip(radii.iter_mut());
            for (&weight, (c, rho)) in part.row(row).iter().zip(sums) {
                let weight = f64::from(weight);
                *c += weight * m;
                *rho += weight.abs() * r;
            }
        }
    };
    if rows.len() * columns < PARALLEL_FROM {
        accumulate(0, &mut image.0, &mut image.1);
    } else {
        let radii = image.1.par_chunks_mut(COLUMNS_PER_TASK);
        image.0.par_chunks_mut(COLUMNS_PER_TASK).zip(radii).enumerate().for_each(
            |(task, (centres, radii))| accumulate(task * COLUMNS_PER_TASK, centres, radii),
        );
    }
    image
}

/// `W^T W` in f64, without a copy of W in f64.
pub(crate) fn gram(kernel: ArrayView2<'_, f32>, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
    let units = kernel.ncols();
    let mut gram = Array2::zeros((units, units));
    for first in (0..kernel.nrows()).step_by(ROWS_WIDENED) {
        poll.check()?;
        let last = (first + ROWS_WIDENED).min(kernel.nrows());
        let block = kernel.slice_axis(Axis(0), Slice::from(first..last)).mapv(f64::from);
        add_gram(gram.view_mut(), block.view(), 1.0);
    }
    mirror(&mut gram);
    Ok(gram)
}

/// Add `sign B^T B` to the lower triangle of `gram`.
pub(crate) fn add_gram(mut gram: ArrayViewMut2<'_, f64>, block: ArrayView2<'_, f64>, sign: f64) {
    let task = |(index, mut rows): (usize, ArrayViewMut2<'_, f64>)| {
        let first = index * ROWS_PER_TASK;
        let last = first + rows.nrows();
        let left = block.slice_axis(Axis(1), Slice::from(first..last));
        let right = block.slice_axis(Axis(1), Slice::from(..last));
        let mut target = rows.slice_axis_mut(Axis(1), Slice::from(..last));
        ndarray::linalg::general_mat_mul(sign, &left.t(), &right, 1.0, &mut target);
    };
    let work = block.nrows() * gram.len();
    if work < PARALLEL_FROM {
        gram.axis_chunks_iter_mut(Axis(0), ROWS_PER_TASK).enumerate().for_each(task);
    } else {
        gram.axis_chunks_iter_mut(Axis(0), ROWS_PER_TASK)
            .into_par_iter()
            .enumerate()
            .for_each(task);
    }
}

/// Add `sign A B` to `target`; threads share out the rows of A.
pub(crate) fn add_product(
    mut target: ArrayViewMut2<'_, f64>,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    sign: f64,
) {
    let task = |(mut target, rows): (ArrayViewMut2<'_, f64>, ArrayView2<'_, f64>)| {
        ndarray::linalg::general_mat_mul(sign, &rows, &b, 1.0, &mut target);
    };
    let rows = a.axis_chunks_iter(Axis(0), ROWS_PER_TASK);
    let targets = target.axis_chunks_iter_mut(Axis(0), ROWS_PER_TASK);
    if a.len() * b.ncols() < PARALLEL_FROM {
        targets.zip(rows).for_each(task);
    } else {
        targets.into_par_iter().zip(rows.into_par_iter()).for_each(task);
    }
}

/// Copy the lower triangle to the upper one.
pub(crate) fn mirror(gram: &mut Array2<f64>) {
    for row in 0..gram.nrows() {
        for column in 0..row {
            gram[[column, row]] = gram[[row, column]];
        }
    }
}

/// Change a Gram matrix for rows of W that were replaced: `G + A^T A - R^T R`.
pub(crate) fn update_gram(gram: &mut Array2<f64>, added: &Array2<f64>, removed: &Array2<f64>) {
    add_gram(gram.view_mut(), added.view(), 1.0);
    add_gram(gram.view_mut(), removed.view(), -1.0);
    mirror(gram);
}

/// Centre and radius rows times W and |W|, many rows at a time.
pub(crate) struct WideKernel {
    signed: Array2<f64>,
    absolute: Array2<f64>,
}

impl WideKernel {
    /// Widen a kernel to f64 once for many products.
    pub(crate) fn new(kernel: ArrayView2<'_, f32>) -> Self {
        let signed = kernel.mapv(f64::from);
        let absolute = signed.mapv(f64::abs);
        Self { signed, absolute }
    }

    /// `(centres W, radii |W|)`, both of shape `(rows, kernel columns)`.
    pub(crate) fn apply(
        &self,
        centres: &Array2<f64>,
        radii: &Array2<f64>,
    ) -> (Array2<f64>, Array2<f64>) {
        (centres.dot(&self.signed), radii.dot(&self.absolute))
    }
}

/// `rows W^T`, or `rows |W|^T`: coefficients on the columns of W, taken back to its rows.
///
/// Tasks share out the rows of W, which is read once.
pub(crate) fn pull_back(
    kernel: ArrayView2<'_, f32>,
    rows: ArrayView2<'_, f64>,
    absolute: bool,
) -> Array2<f64> {
    let (inputs, count) = (kernel.nrows(), rows.nrows());
    let task = |first: usize| {
        let last = (first + ROWS_PER_TASK).min(inputs);
        let part = kernel.slice_axis(Axis(0), Slice::from(first..last));
        let block =
            part.mapv(|weight| if absolute { f64::from(weight.abs()) } else { f64::from(weight) });
        rows.dot(&block.t())
    };
    let firsts: Vec<usize> = (0..inputs).step_by(ROWS_PER_TASK).collect();
    let blocks: Vec<Array2<f64>> = if count * kernel.len() < PARALLEL_FROM {
        firsts.iter().map(|&first| task(first)).collect()
    } else {
        firsts.par_iter().map(|&first| task(first)).collect()
    };
    let mut pulled = Array2::zeros((count, inputs));
    for (first, block) in firsts.into_iter().zip(blocks) {
        let columns = Slice::from(first..first + block.ncols());
        pulled.slice_axis_mut(Axis(1), columns).assign(&block);
    }
    pulled
}

/// `W C^T`, or `|W| C^T`, for some rows of a kernel W: of shape (those rows, rows of C).
pub(crate) fn selected_product(
    kernel: ArrayView2<'_, f32>,
    selected: &[usize],
    coefficients: ArrayView2<'_, f64>,
    absolute: bool,
) -> Array2<f64> {
    let columns = kernel.ncols();
    let mut product = Array2::zeros((selected.len(), coefficients.nrows()));
    let task = |(rows, mut target): (&[usize], ArrayViewMut2<'_, f64>)| {
        let weight = |(row, column): (usize, usize)| {
            let weight = kernel[[rows[row], column]];
            f64::from(if absolute { weight.abs() } else { weight })
        };
        let block = Array2::from_shape_fn((rows.len(), columns), weight);
        let right = coefficients.t();
        ndarray::linalg::general_mat_mul(1.0, &block, &right, 0.0, &mut target);
    };
    if product.len() * columns < PARALLEL_FROM {
        let targets = product.axis_chunks_iter_mut(Axis(0), ROWS_PER_TASK);
        selected.chunks(ROWS_PER_TASK).zip(targets).for_each(task);
    } else {
        let targets = product.axis_chunks_iter_mut(Axis(0), ROWS_PER_TASK);
        selected.par_chunks(ROWS_PER_TASK).zip(targets.into_par_iter()).for_each(task);
    }
    product
}

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
    let n = matrix.nrows() as f64;
    let round_up = 1.0 + 8.0 * f64::EPSILON;
    let mut power = matrix.clone();
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
        power = parallel_product(&power, &power);
        error = (2.0 * error * round_up + error * error + (n + 2.0) * f64::EPSILON) * round_up;
        size = frobenius(&power);
    }
    let root = 2.0_f64.powi(squarings);
    libm::exp((scale + libm::log((size + error) * round_up)) / root) * (1.0 + 1e-12)
}

/// `A B`; threads share out the rows of A.
pub(crate) fn parallel_product(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    if a.len() * b.ncols() < PARALLEL_FROM {
        return a.dot(b);
    }
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    let rows = a.axis_chunks_iter(Axis(0), ROWS_PER_TASK).into_par_iter();
    product.axis_chunks_iter_mut(Axis(0), ROWS_PER_TASK).into_par_iter().zip(rows).for_each(
        |(mut target, rows)| ndarray::linalg::general_mat_mul(1.0, &rows, b, 0.0, &mut target),
    );
    product
}

/// `A B` in f32 into `product`; threads share out the rows of A.
pub(crate) fn product_f32(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    product: &mut ArrayViewMut2<'_, f32>,
) {
    let parallel = a.len() * b.ncols() >= PARALLEL_FROM;
    let rows = a.axis_chunks_iter(Axis(0), ROWS_PER_F32_TASK);
    let targets = product.axis_chunks_iter_mut(Axis(0), ROWS_PER_F32_TASK);
    let task = |(rows, mut target): (ArrayView2<'_, f32>, ArrayViewMut2<'_, f32>)| {
        multiply_f32(rows, b, &mut target);
    };
    if parallel {
        rows.into_par_iter().zip(targets.into_par_iter()).for_each(task);
    } else {
        rows.zip(targets).for_each(task);
    }
}

/// `A B` in f32 into `product`, where `fill(row, values)` writes a row of A (of length
/// `b.nrows()`) when it is needed; A is never there as a whole.
pub(crate) fn product_of_rows(
    b: ArrayView2<'_, f32>,
    product: &mut ArrayViewMut2<'_, f32>,
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let inner = b.nrows();
    product.axis_chunks_iter_mut(Axis(0), ROWS_PER_F32_TASK).into_par_iter().enumerate().for_each(
        |(task, mut target)| {
            let mut rows = vec![0.0; target.nrows() * inner];
            for (offset, row) in rows.chunks_exact_mut(inner).enumerate() {
                fill(task * ROWS_PER_F32_TASK + offset, row);
            }
            if let Ok(rows) = ArrayView2::from_shape((target.nrows(), inner), &rows) {
                multiply_f32(rows, b, &mut target);
            }
        },
    );
}

/// `A B` in f32 into `product`, on this thread.
pub(crate) fn multiply_f32(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    product: &mut ArrayViewMut2<'_, f32>,
) {
    ndarray::linalg::general_mat_mul(1.0, &a, &b, 0.0, product);
}

/// An upper bound of the largest singular value of W.
///
/// By Gram iteration (Delattre et al., arXiv 2305.16173): the Frobenius norm of the Gram matrix,
/// squared k times, bounds the spectral norm to the power 2^(k+1); after four times it is within
/// a few parts in a thousand. Wide kernels get the geometric mean of the largest absolute row and
/// column sum instead.
pub(crate) fn spectral_norm(kernel: ArrayView2<'_, f32>) -> f64 {
    let wide = kernel.mapv(f64::from);
    let sums = |axis: usize| {
        let sums = wide.mapv(f64::abs).sum_axis(Axis(axis));
        sums.fold(0.0, |most: f64, &sum| most.max(sum))
    };
    let n = kernel.nrows().max(kernel.ncols()) as f64;
    let by_sums = (sums(0) * sums(1)).sqrt() * (1.0 + 4.0 * (n + 4.0) * f64::EPSILON);
    let narrow = kernel.nrows().min(kernel.ncols());
    let Some(&(_, squarings)) = SQUARED.iter().find(|(widest, _)| narrow <= *widest) else {
        return by_sums;
    };
    let columns = kernel.ncols() <= kernel.nrows();
    let gram = if columns { wide.t().dot(&wide) } else { wide.dot(&wide.t()) };
    let size = frobenius(&wide);
    let error = (n + 2.0) * f64::EPSILON * size * size;
    by_sums.min(spectral_radius(&gram, error, squarings).sqrt() * (1.0 + 4.0 * f64::EPSILON))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::never_stop;
    use crate::random::Random;

    #[expect(clippy::cast_possible_truncation)] // test weights
    fn matrix(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
        let mut random = Random::from_seed(seed);
        Array2::from_shape_simple_fn((rows, columns), || (random.uniform() - 0.5) as f32)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn gram_is_the_product_and_follows_replaced_rows(
            seed in 0_u64..1_000,
            rows in 1_usize..400,
            columns in 1_usize..150,
        ) {
            let kernel = matrix(seed, rows, columns);
            let wide = kernel.mapv(f64::from);
            let mut go_on = never_stop();
            let mut product = gram(kernel.view(), &mut Poll::new(&mut go_on)).expect("not stopped");
            prop_assert!((&product - &wide.t().dot(&wide)).iter().all(|d| d.abs() < 1e-12));
            let removed = wide.select(Axis(0), &[0]);
            let added = matrix(seed + 1, 1, columns).mapv(f64::from);
            update_gram(&mut product, &added, &removed);
            let expected = wide.t().dot(&wide) - removed.t().dot(&removed) + added.t().dot(&added);
            prop_assert!((&product - &expected).iter().all(|d| d.abs() < 1e-12));
            prop_assert_eq!(&product, &product.t());
        }

        #[test]
        fn skipping_zero_rows_and_sharing_out_columns_change_nothing(
            seed in 0_u64..1_000,
            rows in 1_usize..600,
            columns in 1_usize..1200,
        ) {
            let kernel = matrix(seed, rows, columns);
            let mut random = Random::from_seed(seed + 1);
            let mut part = || if random.uniform() < 0.3 { 0.0 } else { random.uniform() };
            let centre: Vec<f64> = (0..rows).map(|_| part()).collect();
            let radius: Vec<f64> = (0..rows).map(|_| part()).collect();
            let (c, r) = centre_radius_product(kernel.view(), &centre, &radius);
            for column in 0..columns {
                let (mut middle, mut reach) = (0.0, 0.0);
                for row in 0..rows {
                    let weight = f64::from(kernel[[row, column]]);
                    middle += weight * centre[row];
                    reach += weight.abs() * radius[row];
                }
                prop_assert_eq!(c[column], middle);
                prop_assert_eq!(r[column], reach);
            }
        }
    }
}
