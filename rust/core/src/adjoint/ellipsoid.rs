//! Ellipsoids: where rows that were in a ball can be after some layers, whatever the slopes.
//!
//! A shape X, symmetric and positive semidefinite, stands for all rows r with
//! `|r . t| <= sqrt(t' X t)` for every t. Through a kernel it becomes `W X W'`. Through slopes s in
//! `[0, 1]`, with `B = D^-1/2 X D^-1/2 <= I` and D diagonal, it becomes
//! `D^1/2 (2 - B)^-1 D^1/2`: add `s_i r_i (r_i - s_i r_i) >= 0`, twice, for every unit. The inverse
//! is at most `1/2 + B/4 + B^2/8 + B^3/8`, as every eigenvalue of B lies in `[0, 1]`; none needs to
//! be computed.
//!
//! A ball forgets which directions the weights shrink; a shape remembers. It depends on weights
//! only, so that it is computed once for all rows.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use crate::interval::{Interval, product};
use crate::linalg::{frobenius, parallel_product, spectral_radius};
use crate::network::NodeId;

/// Widest layer that gets shapes.
pub(super) const WIDEST: usize = 1024;
/// Squarings of the powers that bound eigenvalues.
const SQUARINGS: i32 = 5;
/// A shape, and how its entries were made: rounding is in it already.
pub(super) type Shape = Arc<Array2<f64>>;

/// What one shape is after one dense op.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    /// The largest sqrt(t' W X W' t) over the unit vectors t of the inputs, one by one.
    pub(super) columns: Arc<Vec<f64>>,
    /// The same over all t of length 1.
    pub(super) stretch: f64,
    /// W X W', where it is needed further back.
    pub(super) shape: Option<Shape>,
}

/// The shapes of one network's deviations: by where they arose, and the op they were taken through.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    pulled: HashMap<(NodeId, NodeId), Pulled>,
    sloped: HashMap<(NodeId, NodeId), Shape>,
}

impl Shapes {
    /// Take the shape of what arose at `birth` through the dense op `id`.
    pub(super) fn through_kernel(
        &mut self,
        (birth, id): (NodeId, NodeId),
        shape: &Shape,
        kernel: ArrayView2<'_, f32>,
        further: bool,
    ) -> Pulled {
        let make = || {
            let wide = kernel.mapv(f64::from);
            Pulled {
                columns: Arc::new(columns(shape, &wide)),
                stretch: stretch(shape, &wide),
                shape: (further && kernel.nrows() <= WIDEST)
                    .then(|| Arc::new(congruent(shape, &wide))),
            }
        };
        self.pulled.entry((birth, id)).or_insert_with(make).clone()
    }

    /// Take the shape of what arose at `birth` through the elementwise scale that op `id` is.
    pub(super) fn through_scale(
        &mut self,
        (birth, id): (NodeId, NodeId),
        shape: &Shape,
        scale: &[f64],
    ) -> Shape {
        let make = || Arc::new(rescaled(shape, scale));
        Arc::clone(self.sloped.entry((birth, id)).or_insert_with(make))
    }

    /// Take the shape of what arose at `birth` through the slopes of activation `id`, which lie in
    /// `anywhere`.
    pub(super) fn through_slopes(
        &mut self,
        (birth, id): (NodeId, NodeId),
        shape: &Shape,
        anywhere: Interval,
    ) -> Option<Shape> {
        if !anywhere.is_finite() {
            return None;
        }
        let make = || Arc::new(after_slopes(shape, anywhere));
        Some(Arc::clone(self.sloped.entry((birth, id)).or_insert_with(make)))
    }
}

/// The ball: every row of length 1.
pub(super) fn ball(units: usize) -> Shape {
    Arc::new(Array2::eye(units))
}

/// Bound the largest sqrt(s' W X W' s) over |s| <= t, by |D^-1/2 W X W' D^-1/2| s' D s.
pub(crate) fn reach(shape: &Array2<f64>, kernel: ArrayView2<'_, f32>, t: &[f64]) -> f64 {
    let wide = kernel.mapv(f64::from);
    let own = floored(&columns(shape, &wide));
    let with = |scale: &[f64]| {
        let mut scaled = wide.clone();
        for (mut row, &scale) in scaled.rows_mut().into_iter().zip(scale) {
            row.mapv_inplace(|weight| weight / scale);
        }
        let length: f64 = t.iter().zip(scale).map(|(&t, &s)| product(t, s).powi(2)).sum();
        product(stretch(shape, &scaled), length.sqrt())
            * (1.0 + 4.0 * (t.len() as f64 + 8.0) * f64::EPSILON)
    };
    let root: Vec<f64> = own.iter().map(|scale| scale.sqrt()).collect();
    with(&root).min(with(&own))
}

/// sqrt(w' X w) for every row w of the kernel, rounded up.
fn columns(shape: &Array2<f64>, kernel: &Array2<f64>) -> Vec<f64> {
    let moved = parallel_product(kernel, shape);
    let size = frobenius(shape);
    let kappa = 4.0 * (shape.nrows() as f64 + 4.0) * f64::EPSILON;
    kernel
        .rows()
        .into_iter()
        .zip(moved.rows())
        .map(|(row, moved)| {
            let square: f64 = row.iter().zip(moved).map(|(a, b)| a * b).sum();
            let length: f64 = row.iter().map(|a| a * a).sum();
            (square.max(0.0) + kappa * size * length).sqrt() * (1.0 + 4.0 * f64::EPSILON)
        })
        .collect()
}

/// Bound the largest sqrt(t' W X W' t) over all t of length 1.
fn stretch(shape: &Array2<f64>, kernel: &Array2<f64>) -> f64 {
    let (inputs, units) = kernel.dim();
    let weight = frobenius(kernel);
    let terms = (inputs + units) as f64 + 8.0;
    let error = 2.0 * terms * f64::EPSILON * weight * weight * frobenius(shape);
    // X W' W has the eigenvalues of W X W' that are not 0; the smaller of the two is taken.
    let matrix = if units <= inputs {
        parallel_product(shape, &parallel_product(&kernel.t().to_owned(), kernel))
    } else {
        parallel_product(&parallel_product(kernel, shape), &kernel.t().to_owned())
    };
    spectral_radius(&matrix, error, SQUARINGS).sqrt() * (1.0 + 4.0 * f64::EPSILON)
}

/// S X S for a diagonal S, raised by what rounding may have taken.
fn rescaled(shape: &Array2<f64>, scale: &[f64]) -> Array2<f64> {
    let at = |(row, column)| shape[[row, column]] * (scale[row] * scale[column]);
    let moved = Array2::from_shape_fn(shape.dim(), at);
    let error = 16.0 * f64::EPSILON * frobenius(&moved);
    raised(moved, error)
}

/// W X W', raised by what rounding may have taken.
fn congruent(shape: &Array2<f64>, kernel: &Array2<f64>) -> Array2<f64> {
    let weight = frobenius(kernel);
    let terms = (kernel.nrows() + kernel.ncols()) as f64 + 8.0;
    let error = 2.0 * terms * f64::EPSILON * weight * weight * frobenius(shape);
    let moved = parallel_product(&parallel_product(kernel, shape), &kernel.t().to_owned());
    raised(moved, error)
}

/// Symmetric, and larger than every symmetric matrix within `error` of it.
fn raised(mut matrix: Array2<f64>, error: f64) -> Array2<f64> {
    for row in 0..matrix.nrows() {
        for column in 0..row {
            let mean = 0.5 * (matrix[[row, column]] + matrix[[column, row]]);
            matrix[[row, column]] = mean;
            matrix[[column, row]] = mean;
        }
        matrix[[row, row]] += 2.0 * error;
    }
    matrix
}

/// Enclose s o r for slopes s in `anywhere` and r in the shape.
fn after_slopes(shape: &Array2<f64>, anywhere: Interval) -> Array2<f64> {
    let n = shape.nrows();
    let steepest = anywhere.upper.max(-anywhere.lower);
    let diagonal: Vec<f64> = shape.diag().iter().map(|x| x.max(0.0)).collect();
    // Half way between no scaling and one that makes the diagonal even.
    let scale: Vec<f64> = floored(&diagonal).iter().map(|x| x.sqrt().sqrt()).collect();
    let mut scaled = Array2::zeros((n, n));
    for row in 0..n {
        scaled[[row, row]] = 1.0 / scale[row];
    }
    let over = stretch(shape, &scaled) * (1.0 + 1e-12);
    if over == 0.0 {
        return Array2::zeros((n, n));
    }
    let root: Vec<f64> = scale.iter().map(|scale| scale * over).collect();
    let weight = |row: usize, column: usize| steepest * root[row] * (steepest * root[column]);
    if anywhere.lower < 0.0 {
        let squares = |row: usize| weight(row, row) * (1.0 + 1e-12);
        return Array2::from_shape_fn((n, n), |(r, c)| if r == c { squares(r) } else { 0.0 });
    }
    let b = Array2::from_shape_fn((n, n), |(r, c)| shape[[r, c]] / (root[r] * root[c]));
    let square = parallel_product(&b, &b);
    let cube = parallel_product(&square, &b);
    let mut inner = b / 4.0 + square / 8.0 + cube / 8.0;
    for row in 0..n {
        inner[[row, row]] += 0.5;
    }
    // B <= I, so that the norms of its powers are at most sqrt(n) and n u of them is lost.
    let count = n as f64;
    let inner = raised(inner, 8.0 * (count + 8.0) * count * f64::EPSILON);
    Array2::from_shape_fn((n, n), |(row, column)| inner[[row, column]] * weight(row, column))
}

/// Keep a scale away from 0, where a unit or an input counts for nothing.
fn floored(scale: &[f64]) -> Vec<f64> {
    let largest = scale.iter().copied().fold(0.0, f64::max);
    scale.iter().map(|&each| each.max(1e-9 * largest).max(1e-150)).collect()
}
