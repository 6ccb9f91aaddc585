//! Norms of the linear ops, in plain loops, for the ball of an enclosure.

use ndarray::Array2;
use rayon::prelude::*;

use super::linear::affine;
use super::rounding::{add_up, length, root_up, size, sum, times, times_up};
use crate::interval::Interval;
use crate::network::{Network, NodeId, Op, PoolKind, Window};

/// Widest kernel (by its shorter side) whose Gram matrix is squared four times, and twice: the
/// same as on the first path, or the bounds would not be alike.
const SQUARED: [(usize, u32); 2] = [(512, 4), (2048, 2)];

/// Upper bounds of the norms of one linear op A.
#[derive(Debug, Clone)]
pub(super) struct Norms {
    /// Of the largest singular value of A.
    pub(super) spectral: f64,
    /// Of the L2 norms of A's columns, by the source's element modulo their number.
    pub(super) columns: Vec<f64>,
}

impl Norms {
    /// The norms of the linear op of node `id`.
    pub(super) fn of(network: &Network, id: NodeId) -> Self {
        let node = network.node(id);
        let channels = node.sources.first().map_or(1, |&source| network.node(source).last_axis());
        match &node.op {
            Op::Dense(layer) => {
                let rows: Vec<usize> = (0..layer.kernel.nrows()).collect();
                Self::of_rows(&layer.kernel, &rows)
            }
            Op::Conv(layer) => {
                let width = layer.kernel.ncols() / layer.groups;
                let (mut spectral, mut columns) = (0.0_f64, Vec::new());
                for group in 0..layer.groups {
                    let part = part(&layer.kernel, group * width..(group + 1) * width);
                    spectral = spectral.max(spectral_norm(&part));
                    columns.extend(over_taps(&part, layer.window.taps()));
                }
                Self::sliding(spectral, columns, &layer.window)
            }
            Op::DepthwiseConv(layer) => {
                let part = part(&layer.kernel, 0..layer.kernel.ncols());
                let columns = over_taps(&part, layer.window.taps());
                Self::sliding(largest(&columns), columns, &layer.window)
            }
            Op::BatchNormalization(..) | Op::Affine(_) => {
                let columns: Vec<f64> =
                    affine(&node.op).into_iter().map(|(scale, _)| size(scale)).collect();
                Self { spectral: largest(&columns), columns }
            }
            Op::Pool(PoolKind::Average, window) => {
                let fewest = (0..window.positions()).map(|at| window.inputs(at).count()).min();
                let (fewest, over) = (fewest.unwrap_or(1).max(1) as f64, window.overlap() as f64);
                let columns = vec![(root_up(over) / fewest).next_up()];
                Self { spectral: root_up((over / fewest).next_up()), columns }
            }
            Op::GlobalPool(PoolKind::Average) => {
                let source = network.node(node.sources[0]);
                let share = (1.0 / (source.len() / channels).max(1) as f64).next_up();
                Self { spectral: root_up(share), columns: vec![share] }
            }
            _ => Self { spectral: 1.0, columns: vec![1.0] },
        }
    }

    /// The norms of some rows of a dense op's kernel.
    pub(super) fn of_rows(kernel: &Array2<f32>, rows: &[usize]) -> Self {
        let row = |&row: &usize| kernel.row(row).iter().map(|&w| f64::from(w)).collect();
        let rows: Vec<Vec<f64>> = rows.iter().map(row).collect();
        Self { spectral: spectral_norm(&rows), columns: row_norms(&rows) }
    }

    /// An op whose kernel, with these norms, slides: an input is in `overlap` windows at most.
    fn sliding(kernel: f64, columns: Vec<f64>, window: &Window) -> Self {
        Self { spectral: times_up(kernel, root_up(window.overlap() as f64)), columns }
    }
}

/// Some columns of a kernel, row by row.
fn part(kernel: &Array2<f32>, columns: std::ops::Range<usize>) -> Vec<Vec<f64>> {
    let row = |row| columns.clone().map(|column| f64::from(kernel[[row, column]])).collect();
    (0..kernel.nrows()).map(row).collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn row_norms(rows: &[Vec<f64>]) -> Vec<f64> {
    rows.iter().map(|row| length(row.iter().copied())).collect()
}

/// The norms of a channel's rows, one a tap, together: each tap meets an input at one position.
fn over_taps(rows: &[Vec<f64>], taps: usize) -> Vec<f64> {
    let channels = rows.len() / taps;
    let norms = row_norms(rows);
    (0..channels)
        .map(|channel| length(norms.iter().skip(channel).step_by(channels).copied()))
        .collect()
}

/// An upper bound of the largest singular value.
///
/// The Frobenius norm of the Gram matrix, squared k times, bounds its power 2^(k+1) (Delattre et
/// al., arXiv 2305.16173); between the squarings it is divided by a power of two, which `exponent`
/// counts. Never more than the geometric mean of the largest absolute row and column sum.
fn spectral_norm(rows: &[Vec<f64>]) -> f64 {
    let columns = rows.first().map_or(0, Vec::len);
    let row_sums = rows.iter().map(|row| row.iter().fold(0.0, |sum, w| add_up(sum, w.abs())));
    let mut column_sums = vec![0.0; columns];
    for row in rows {
        for (sum, weight) in column_sums.iter_mut().zip(row) {
            *sum = add_up(*sum, weight.abs());
        }
    }
    let by_sums = root_up(times_up(row_sums.fold(0.0, f64::max), largest(&column_sums)));
    let narrow = rows.len().min(columns);
    let Some(&(_, squarings)) = SQUARED.iter().find(|(widest, _)| narrow <= *widest) else {
        return by_sums;
    };
    let mut gram = if columns <= rows.len() {
        let column = |at| rows.iter().map(|row| Interval::point(row[at])).collect();
        products(&(0..columns).map(column).collect::<Vec<_>>())
    } else {
        let row = |row: &Vec<f64>| row.iter().map(|&w| Interval::point(w)).collect();
        products(&rows.iter().map(row).collect::<Vec<_>>())
    };
    let mut exponent = 0;
    for _ in 0..squarings {
        let (size, down) = normalization(&gram);
        if size == 0.0 || !size.is_finite() {
            return if size == 0.0 { 0.0 } else { by_sums };
        }
        let factor = 2.0_f64.powi(-down);
        for x in gram.iter_mut().flatten() {
            *x = x.scaled(factor);
        }
        exponent = 2 * (exponent + down);
        gram = products(&gram);
    }
    root_of_power(frobenius(&gram), exponent, squarings + 1).min(by_sums)
}

/// All scalar products of the vectors with each other: half of them, and the mirror image.
fn products(vectors: &[Vec<Interval>]) -> Vec<Vec<Interval>> {
    let product = |a: &[Interval], b: &[Interval]| {
        a.iter().zip(b).fold(Interval::ZERO, |total, (&a, &b)| sum(total, times(a, b)))
    };
    let mut found: Vec<Vec<Interval>> = vectors
        .par_iter()
        .enumerate()
        .map(|(at, a)| vectors[..=at].iter().map(|b| product(a, b)).collect())
        .collect();
    for row in 0..found.len() {
        for column in row + 1..found.len() {
            let mirrored = found[column][row];
            found[row].push(mirrored);
        }
    }
    found
}

fn frobenius(matrix: &[Vec<Interval>]) -> f64 {
    length(matrix.iter().flatten().map(|&x| size(x)))
}

/// The Frobenius norm, and the power of two that brings it near 1.
fn normalization(matrix: &[Vec<Interval>]) -> (f64, i32) {
    let size = frobenius(matrix);
    (size, power_of_two(size))
}

/// The power of two that, divided by, brings a size near 1.
#[expect(clippy::cast_possible_truncation)] // a binary exponent
pub(super) fn power_of_two(size: f64) -> i32 {
    if size.is_normal() { size.log2().floor().clamp(-1000.0, 1000.0) as i32 } else { 0 }
}

/// At least `(value 2^exponent)^(1 / 2^roots)`.
pub(super) fn root_of_power(value: f64, exponent: i32, roots: u32) -> f64 {
    let (mut value, mut exponent) = (value, exponent);
    for _ in 0..roots {
        // An odd power of two hands one factor over.
        let odd = exponent.rem_euclid(2);
        value = root_up(value * f64::from(1 + odd));
        exponent = (exponent - odd) / 2;
    }
    times_up(value, 2.0_f64.powi(exponent))
}
