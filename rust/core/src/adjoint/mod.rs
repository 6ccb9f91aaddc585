//! Linear functions of a node's output, taken back to its sources: what backward bounds are made of.
//!
//! A function is a row of coefficients, one for each element of the output. Everything here is in
//! f64 with a rounding pad, so that what is enclosed stays enclosed.

mod active;
mod columns;
mod ellipsoid;
mod enclosure;
mod norms;
mod parts;
mod slopes;
mod spectral;
mod sums;
mod through;
mod times;

pub(crate) use active::ActiveRows;
pub(crate) use columns::Columns;
pub(crate) use ellipsoid::reach;
pub(crate) use enclosure::Enclosure;
pub(crate) use norms::Norms;
pub(crate) use parts::Tools;
pub use spectral::SpectralNorms;

use ndarray::{Array2, ArrayView2, Axis, Slice, Zip};
use rayon::prelude::*;

use crate::error::{Poll, Result};
use crate::linalg::pull_back;
use crate::network::{Conv, DepthwiseConv, Network, NodeId, Op, PoolKind};

/// Which linear map rows are taken through: the op's own, or the one of its absolute weights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    /// A itself.
    Signed,
    /// |A|.
    Absolute,
}

/// Whether a node is a linear map plus a constant.
pub(crate) fn is_linear(op: &Op) -> bool {
    match op {
        Op::Pool(kind, _) | Op::GlobalPool(kind) => *kind == PoolKind::Average,
        Op::Input | Op::LayerNormalization(_) | Op::Activation(_) | Op::Softmax | Op::Opaque(_) => {
            false
        }
        _ => true,
    }
}

/// Terms of the longest sum that makes one coefficient of [`pull`].
pub(crate) fn terms(network: &Network, id: NodeId) -> usize {
    match &network.node(id).op {
        Op::Dense(layer) => layer.kernel.ncols(),
        Op::Conv(layer) => layer.window.taps() * layer.kernel.ncols() / layer.groups,
        Op::DepthwiseConv(layer) => layer.window.taps() * layer.kernel.ncols(),
        // The map itself is rounded from gamma, variance and epsilon.
        Op::BatchNormalization(..) | Op::Affine(_) => 8,
        Op::Pool(_, window) => window.taps() + 2,
        Op::GlobalPool(_) => 2,
        _ => 0,
    }
}

/// Take rows on the output of a linear node back to its sources.
///
/// `rows` has shape `(rows, elements of the node)`; each source gets `rows A` (or `rows |A|`), of
/// shape `(rows, elements of the source)`.
pub(crate) fn pull(
    network: &Network,
    id: NodeId,
    rows: &Array2<f64>,
    map: Map,
    poll: &mut Poll<'_>,
) -> Result<Vec<(NodeId, Array2<f64>)>> {
    poll.check()?;
    let node = network.node(id);
    let source = node.sources[0];
    let elements = network.node(source).len();
    let channels = network.node(source).last_axis();
    let pulled = match &node.op {
        Op::Dense(layer) => {
            let units = layer.kernel.ncols();
            let positions = reshaped(rows, (rows.len() / units, units));
            let pulled = pull_back(layer.kernel.view(), positions, map == Map::Absolute);
            into_shape(pulled, (rows.nrows(), elements))
        }
        Op::Conv(layer) => pull_conv(layer, channels, elements, rows, map, poll)?,
        Op::DepthwiseConv(layer) => {
            let weight = |w: f32| f64::from(if map == Map::Absolute { w.abs() } else { w });
            pull_depthwise(layer, &layer.kernel.mapv(weight), elements, rows)
        }
        Op::BatchNormalization(_, affine) | Op::Affine(affine) => {
            let mut scaled = rows.clone();
            for mut row in scaled.rows_mut() {
                for (value, &scale) in row.iter_mut().zip(affine.scale.iter().cycle()) {
                    *value *= if map == Map::Absolute { scale.abs() } else { scale };
                }
            }
            scaled
        }
        Op::Pool(..) | Op::GlobalPool(_) => pull_mean(&node.op, channels, elements, rows),
        Op::ZeroPadding(padding) => {
            let places: Vec<usize> = padding
                .targets()
                .flat_map(|to| (0..channels).map(move |channel| to * channels + channel))
                .collect();
            standard(rows.select(Axis(1), &places))
        }
        Op::Add => return Ok(node.sources.iter().map(|&s| (s, rows.clone())).collect()),
        Op::Concatenate(axis) => return Ok(split(network, id, *axis, rows)),
        _ => rows.clone(),
    };
    Ok(vec![(source, pulled)])
}

/// Rows in row-major order, as everything here reads them.
fn standard(rows: Array2<f64>) -> Array2<f64> {
    rows.as_standard_layout().into_owned()
}

fn reshaped(rows: &Array2<f64>, shape: (usize, usize)) -> ArrayView2<'_, f64> {
    // Rows are made here, whole and in order: they can always be read under another shape.
    ArrayView2::from_shape(shape, rows.as_slice().unwrap_or_default())
        .unwrap_or_else(|_| unreachable!("{} coefficients do not fill {shape:?}", rows.len()))
}

fn into_shape(rows: Array2<f64>, shape: (usize, usize)) -> Array2<f64> {
    let length = rows.len();
    let (values, _) = rows.into_raw_vec_and_offset();
    Array2::from_shape_vec(shape, values)
        .unwrap_or_else(|_| unreachable!("{length} coefficients do not fill {shape:?}"))
}

fn pull_conv(
    layer: &Conv,
    channels: usize,
    elements: usize,
    rows: &Array2<f64>,
    map: Map,
    poll: &mut Poll<'_>,
) -> Result<Array2<f64>> {
    let (positions, filters) = (layer.window.positions(), layer.kernel.ncols());
    let (per_group, columns) = (channels / layer.groups, filters / layer.groups);
    let mut pulled = Array2::zeros((rows.nrows(), elements));
    for (row, mut to) in rows.rows().into_iter().zip(pulled.rows_mut()) {
        poll.check()?;
        let row = into_shape(row.to_owned().insert_axis(Axis(0)), (positions, filters));
        for group in 0..layer.groups {
            let part = Slice::from(group * columns..(group + 1) * columns);
            let kernel = layer.kernel.slice_axis(Axis(1), part);
            let patches = pull_back(kernel, row.slice_axis(Axis(1), part), map == Map::Absolute);
            for position in 0..positions {
                for tap in 0..layer.window.taps() {
                    let Some(at) = layer.window.input_position(position, tap) else { continue };
                    let first = at * channels + group * per_group;
                    for channel in 0..per_group {
                        to[first + channel] += patches[[position, tap * per_group + channel]];
                    }
                }
            }
        }
    }
    Ok(pulled)
}

fn pull_depthwise(
    layer: &DepthwiseConv,
    kernel: &Array2<f64>,
    elements: usize,
    rows: &Array2<f64>,
) -> Array2<f64> {
    let multiplier = kernel.ncols();
    let channels = kernel.nrows() / layer.window.taps();
    let filters = channels * multiplier;
    let mut pulled = Array2::zeros((rows.nrows(), elements));
    Zip::from(pulled.rows_mut()).and(rows.rows()).into_par_iter().for_each(|(mut to, from)| {
        for position in 0..layer.window.positions() {
            for tap in 0..layer.window.taps() {
                let Some(at) = layer.window.input_position(position, tap) else { continue };
                for filter in 0..filters {
                    let (channel, copy) = (filter / multiplier, filter % multiplier);
                    to[at * channels + channel] += kernel[[tap * channels + channel, copy]]
                        * from[position * filters + filter];
                }
            }
        }
    });
    pulled
}

/// Every input of a window has the same share of its mean.
fn pull_mean(op: &Op, channels: usize, elements: usize, rows: &Array2<f64>) -> Array2<f64> {
    let mut pulled = Array2::zeros((rows.nrows(), elements));
    Zip::from(pulled.rows_mut()).and(rows.rows()).into_par_iter().for_each(|(mut to, from)| {
        let Op::Pool(_, window) = op else {
            let share = channels as f64 / elements as f64;
            for (to, from) in to.iter_mut().zip(from.iter().cycle()) {
                *to = share * from;
            }
            return;
        };
        for position in 0..window.positions() {
            let share = 1.0 / window.inputs(position).count().max(1) as f64;
            for at in window.inputs(position) {
                for channel in 0..channels {
                    to[at * channels + channel] += share * from[position * channels + channel];
                }
            }
        }
    });
    pulled
}

fn split(
    network: &Network,
    id: NodeId,
    axis: usize,
    rows: &Array2<f64>,
) -> Vec<(NodeId, Array2<f64>)> {
    let node = network.node(id);
    let inner: usize = node.shape[axis + 1..].iter().product();
    let block = node.shape[axis] * inner;
    let mut first = 0;
    node.sources
        .iter()
        .map(|&source| {
            let run = first..first + network.node(source).shape[axis] * inner;
            first = run.end;
            let places: Vec<usize> =
                (0..node.len()).filter(|element| run.contains(&(element % block))).collect();
            (source, standard(rows.select(Axis(1), &places)))
        })
        .collect()
}
