//! Ellipsoids: where rows that were in a ball can be after some layers, whatever the slopes.
//!
//! A shape X, symmetric and positive semidefinite and known exactly, stands for all rows r with
//! `|r . t| <= sqrt(t' X t)` for every t. What rounding leaves open is added to its diagonal. The
//! scalings need not be exact, only positive: they are those of the first path. So that they stay
//! so where a shape is nearly flat, no diagonal is raised by less than on the first path.

use std::collections::HashMap;
use std::sync::Arc;

use super::matrix::{Matrix, size_in};
use super::rounding::{add_up, length, root_up, size, times, times_up};
use crate::interval::Interval;
use crate::network::{Dense, NodeId};

/// Widest layer that gets shapes: the same as on the first path.
pub(super) const WIDEST: usize = 1024;

/// A shape, shared by all rows.
pub(super) type Shape = Arc<Matrix>;

/// What one shape is after one dense op.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    /// The largest sqrt(t' W X W' t) over the unit vectors t of the inputs, one by one.
    pub(super) columns: Arc<Vec<f64>>,
    /// The same over all t of length 1.
    pub(super) stretch: f64,
    /// W X W'; `None` where it is too wide, or nothing is further back.
    pub(super) shape: Option<Shape>,
}

/// The shapes of one network's deviations: by where they arose, and the op they were taken through.
/// They depend on weights only.
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
        shape: &Matrix,
        layer: &Dense,
        further: bool,
    ) -> Pulled {
        let make = || {
            let kernel = widened(layer, 0..layer.kernel.nrows());
            Pulled {
                columns: Arc::new(kernel.rows.iter().map(|row| size_in(row, shape)).collect()),
                stretch: stretch(shape, &kernel),
                shape: (further && layer.kernel.nrows() <= WIDEST)
                    .then(|| Arc::new(congruent(shape, &kernel))),
            }
        };
        self.pulled.entry((birth, id)).or_insert_with(make).clone()
    }

    /// Take the shape of what arose at `birth` through the elementwise scale that op `id` is.
    pub(super) fn through_scale(
        &mut self,
        (birth, id): (NodeId, NodeId),
        shape: &Matrix,
        scale: &[Interval],
    ) -> Shape {
        let make = || {
            let at = |row: usize, column: usize| {
                times(scale[row], times(scale[column], shape.at(row, column)))
            };
            let moved = Matrix::from_fn(shape.shape(), at);
            let least = 32.0 * f64::EPSILON * moved.frobenius();
            Arc::new(moved.raised(least))
        };
        Arc::clone(self.sloped.entry((birth, id)).or_insert_with(make))
    }

    /// Take the shape of what arose at `birth` through the slopes of activation `id`, which lie in
    /// `anywhere`.
    pub(super) fn through_slopes(
        &mut self,
        (birth, id): (NodeId, NodeId),
        shape: &Matrix,
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
    Arc::new(Matrix::diagonal(&vec![1.0; units]))
}

/// Some rows of a dense op's kernel.
pub(super) fn widened(layer: &Dense, rows: impl Iterator<Item = usize>) -> Matrix {
    let row = |row| layer.kernel.row(row).iter().map(|&weight| f64::from(weight)).collect();
    Matrix::exact(rows.map(row).collect())
}

/// Bound the largest sqrt(s' W X W' s) over |s| <= t, by |D^-1/2 W X W' D^-1/2| s' D s.
pub(super) fn reach(shape: &Matrix, kernel: &Matrix, t: &[f64]) -> f64 {
    // An input that counts for nothing must not get a scale that is mere rounding.
    let noise = 4.0 * (shape.shape().0 as f64 + 4.0) * f64::EPSILON * shape.frobenius();
    let own = |row: &Vec<f64>| {
        let least = length(row.iter().copied()) * noise.sqrt();
        (size_in(row, shape).powi(2) + least.powi(2)).sqrt()
    };
    let own = floored(&kernel.rows.iter().map(own).collect::<Vec<f64>>());
    let root: Vec<f64> = own.iter().map(|scale| scale.sqrt()).collect();
    let with = |scale: &[f64]| {
        let at = |row: usize, column: usize| by_point(kernel.at(row, column), scale[row]);
        let scaled = Matrix::from_fn(kernel.shape(), at);
        let far = length(t.iter().zip(scale).map(|(&t, &scale)| times_up(t, scale)));
        times_up(stretch(shape, &scaled), far)
    };
    with(&root).min(with(&own))
}

/// Interval of a quotient by what is positive and known.
fn by_point(x: Interval, y: f64) -> Interval {
    let end = |end: f64, outward: fn(f64) -> f64| if end == 0.0 { 0.0 } else { outward(end / y) };
    Interval::new(end(x.lower, f64::next_down), end(x.upper, f64::next_up))
}

/// Bound the largest sqrt(t' W X W' t) over all t of length 1.
fn stretch(shape: &Matrix, kernel: &Matrix) -> f64 {
    let (inputs, units) = kernel.shape();
    // X W' W has the eigenvalues of W X W' that are not 0; the smaller of the two is taken.
    let matrix = if units <= inputs {
        shape.times(&kernel.transposed().times(kernel))
    } else {
        kernel.times(shape).times(&kernel.transposed())
    };
    root_up(matrix.spectral_radius())
}

/// W X W'.
fn congruent(shape: &Matrix, kernel: &Matrix) -> Matrix {
    let terms = (kernel.shape().0 + kernel.shape().1) as f64 + 8.0;
    let least = 4.0 * terms * f64::EPSILON * kernel.frobenius().powi(2) * shape.frobenius();
    kernel.times(shape).times(&kernel.transposed()).raised(least)
}

/// Enclose s o r for slopes s in `anywhere` and r in the shape: with `B = R^-1 X R^-1 <= I`, R
/// diagonal, in `R (2 - B)^-1 R`, where the inverse is at most `1/2 + B/4 + B^2/8 + B^3/8`.
fn after_slopes(shape: &Matrix, anywhere: Interval) -> Matrix {
    let (n, _) = shape.shape();
    let diagonal: Vec<f64> = (0..n).map(|at| shape.rows[at][at].max(0.0)).collect();
    // Half way between no scaling and one that makes the diagonal even.
    let scale: Vec<f64> = floored(&diagonal).iter().map(|x| x.sqrt().sqrt()).collect();
    let similar = Matrix::from_fn((n, n), |row, column| {
        by_point(by_point(shape.at(row, column), scale[column]), scale[column])
    });
    let over = root_up(similar.spectral_radius());
    if over == 0.0 {
        return Matrix::diagonal(&vec![0.0; n]);
    }
    let root: Vec<f64> = scale.iter().map(|&scale| times_up(scale, over)).collect();
    let steepest = size(anywhere);
    let moved = |x: Interval, row: usize, column: usize| {
        [root[row], root[column], steepest, steepest].into_iter().fold(x, Interval::scaled)
    };
    if anywhere.lower < 0.0 {
        let square = |at| moved(Interval::point(1.0), at, at).upper;
        return Matrix::diagonal(&(0..n).map(square).collect::<Vec<f64>>());
    }
    let b = Matrix::from_fn((n, n), |row, column| {
        by_point(by_point(shape.at(row, column), root[row]), root[column])
    });
    let square = b.times(&b);
    let cube = square.times(&b);
    let error = times_up(0.25, add_up(add_up(b.error(), square.error()), cube.error()));
    let inner = Matrix::from_fn((n, n), |row, column| {
        let half = Interval::point(if row == column { 0.5 } else { 0.0 });
        let eighths = square.at(row, column).plus(cube.at(row, column)).scaled(0.125);
        b.at(row, column).scaled(0.25).plus(eighths).plus(half)
    });
    // Raised before it gets the scale, which would make much of what is little where it is small.
    let count = n as f64;
    let inner = inner.off_by(error).raised(16.0 * (count + 8.0) * count * f64::EPSILON);
    Matrix::from_fn((n, n), |row, column| moved(inner.at(row, column), row, column)).raised(0.0)
}

/// Keep a scale away from 0, where a unit or an input counts for nothing.
fn floored(scale: &[f64]) -> Vec<f64> {
    let largest = scale.iter().copied().fold(0.0, f64::max);
    scale.iter().map(|&each| each.max(1e-9 * largest).max(1e-150)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn symmetric(random: &mut Random, count: usize) -> Vec<f64> {
        (0..count).map(|_| 2.0 * random.uniform() - 1.0).collect()
    }

    fn product(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn rows_of_a_ball_stay_in_its_shape() {
        let random = &mut Random::from_seed(5);
        for (lower, upper) in [(0.0, 1.0), (0.0, 1.2), (-0.2, 1.1)] {
            let kernel = Matrix::exact((0..7).map(|_| symmetric(random, 5)).collect());
            let anywhere = Interval::new(lower, upper);
            let pulled = congruent(&ball(5), &kernel);
            let shape = after_slopes(&pulled, anywhere);
            let far = stretch(&pulled, &Matrix::diagonal(&[1.0; 7]));
            for _ in 0..200 {
                let row = symmetric(random, 5);
                let norm = product(&row, &row).sqrt();
                let row: Vec<f64> = kernel.rows.iter().map(|w| product(w, &row) / norm).collect();
                assert!(product(&row, &row).sqrt() <= far);
                let slope = |r: &f64| r * (lower + random.uniform().round() * (upper - lower));
                let row: Vec<f64> = row.iter().map(slope).collect();
                let direction = symmetric(random, 7);
                assert!(product(&row, &direction).abs() <= size_in(&direction, &shape));
            }
        }
    }
}
