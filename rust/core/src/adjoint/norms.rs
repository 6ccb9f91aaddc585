//! Norms of the linear ops, for the ball of an enclosure.

use ndarray::{ArrayView1, ArrayView2, Axis, Slice};

use crate::linalg::spectral_norm;
use crate::network::{Network, NodeId, Op, PoolKind, Window};

/// Upper bounds of the norms of one linear op A.
#[derive(Debug, Clone)]
pub(crate) struct Norms {
    /// Of the largest singular value of A.
    pub(crate) spectral: f64,
    /// Of the L2 norms of A's columns, by the source's element modulo their number.
    pub(crate) columns: Vec<f64>,
}

impl Norms {
    /// The norms of the linear op of node `id`.
    pub(crate) fn of(network: &Network, id: NodeId) -> Self {
        let node = network.node(id);
        let channels = node.sources.first().map_or(1, |&source| network.node(source).last_axis());
        match &node.op {
            Op::Dense(layer) => Self::of_rows(layer.kernel.view()),
            Op::Conv(layer) => {
                let columns = layer.kernel.ncols() / layer.groups;
                let parts = (0..layer.groups).map(|group| {
                    let part = Slice::from(group * columns..(group + 1) * columns);
                    let kernel = layer.kernel.slice_axis(Axis(1), part);
                    (spectral_norm(kernel), over_taps(&row_norms(kernel), layer.window.taps()))
                });
                let (spectral, columns): (Vec<f64>, Vec<Vec<f64>>) = parts.unzip();
                Self::sliding(largest(&spectral), columns.concat(), &layer.window)
            }
            Op::DepthwiseConv(layer) => {
                let columns = over_taps(&row_norms(layer.kernel.view()), layer.window.taps());
                Self::sliding(largest(&columns), columns, &layer.window)
            }
            Op::BatchNormalization(_, affine) | Op::Affine(affine) => {
                let columns: Vec<f64> = affine.scale.iter().map(|s| up(s.abs(), 8)).collect();
                Self { spectral: largest(&columns), columns }
            }
            Op::Pool(PoolKind::Average, window) => {
                let fewest = (0..window.positions()).map(|at| window.inputs(at).count()).min();
                let (fewest, over) = (fewest.unwrap_or(1).max(1) as f64, window.overlap() as f64);
                Self {
                    spectral: up((over / fewest).sqrt(), 4),
                    columns: vec![up(over.sqrt() / fewest, 4)],
                }
            }
            Op::GlobalPool(PoolKind::Average) => {
                let source = network.node(node.sources[0]);
                let positions = (source.len() / channels).max(1) as f64;
                Self {
                    spectral: up(1.0 / positions.sqrt(), 4),
                    columns: vec![up(1.0 / positions, 4)],
                }
            }
            _ => Self { spectral: 1.0, columns: vec![1.0] },
        }
    }

    /// The norms of a dense op with this kernel.
    pub(crate) fn of_rows(kernel: ArrayView2<'_, f32>) -> Self {
        Self { spectral: spectral_norm(kernel), columns: row_norms(kernel) }
    }

    /// An op whose kernel, with these norms, slides: an input is in `overlap` windows at most.
    fn sliding(kernel: f64, columns: Vec<f64>, window: &Window) -> Self {
        Self { spectral: up(kernel * (window.overlap() as f64).sqrt(), 4), columns }
    }
}

/// A sum of `terms` rounded numbers without a sign, or the root of one, rounded up.
fn up(value: f64, terms: usize) -> f64 {
    value * (1.0 + 4.0 * (terms as f64 + 4.0) * f64::EPSILON)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn row_norms(kernel: ArrayView2<'_, f32>) -> Vec<f64> {
    kernel.rows().into_iter().map(row_norm).collect()
}

/// The L2 norm of one row, rounded up.
fn row_norm(row: ArrayView1<'_, f32>) -> f64 {
    weights_norm(row.iter().copied(), row.len())
}

/// The L2 norm of so many weights, rounded up.
pub(super) fn weights_norm(weights: impl Iterator<Item = f32>, count: usize) -> f64 {
    let squares: f64 = weights.map(|w| f64::from(w) * f64::from(w)).sum();
    up(squares.sqrt(), count)
}

/// The norms of a channel's rows, one a tap, together: each tap meets an input at one position.
fn over_taps(rows: &[f64], taps: usize) -> Vec<f64> {
    let channels = rows.len() / taps;
    (0..channels)
        .map(|channel| {
            let squares: f64 = rows.iter().skip(channel).step_by(channels).map(|n| n * n).sum();
            up(squares.sqrt(), taps)
        })
        .collect()
}
