//! Linear functions of a node's output, taken back to its sources: what backward bounds are made of.
//!
//! A function is a row of coefficients, one for each element of the output. Everything here is in
//! f64 with a rounding pad, so that what is enclosed stays enclosed.

mod enclosure;
mod norms;

pub(crate) use enclosure::Enclosure;
pub(crate) use norms::Norms;

use ndarray::{Array2, ArrayView2, Axis, Slice, Zip};
use rayon::prelude::*;

use crate::error::{Poll, Result};
use crate::linalg::pull_back;
use crate::network::{Conv, DepthwiseConv, Network, NodeId, Op, PoolKind};

/// Rows taken back to one source of a node.
pub(crate) struct Pulled {
    /// The source.
    pub(crate) source: NodeId,
    /// `signed A`, shape `(rows, elements of the source)`; A is the op's linear map.
    pub(crate) signed: Array2<f64>,
    /// `absolute |A|`, of the same shape.
    pub(crate) absolute: Array2<f64>,
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
/// Both arrays have shape `(rows, elements of the node)`; `absolute` holds no negative number.
pub(crate) fn pull(
    network: &Network,
    id: NodeId,
    signed: &Array2<f64>,
    absolute: &Array2<f64>,
    poll: &mut Poll<'_>,
) -> Result<Vec<Pulled>> {
    poll.check()?;
    let node = network.node(id);
    let source = node.sources[0];
    let elements = network.node(source).len();
    let channels = network.node(source).last_axis();
    let one = |(signed, absolute)| vec![Pulled { source, signed, absolute }];
    let moved = |map: &dyn Fn(ArrayView2<'_, f64>) -> Array2<f64>| {
        one((map(signed.view()), map(absolute.view())))
    };
    Ok(match &node.op {
        Op::Dense(layer) => {
            let units = layer.kernel.ncols();
            let rows = (signed.len() / units, units);
            let (signed, absolute) =
                pull_back(layer.kernel.view(), reshaped(signed, rows), reshaped(absolute, rows));
            let shape = (signed.len() / elements, elements);
            one((into_shape(signed, shape), into_shape(absolute, shape)))
        }
        Op::Conv(layer) => one(pull_conv(layer, channels, elements, signed, absolute, poll)?),
        Op::DepthwiseConv(layer) => {
            let kernel = layer.kernel.mapv(f64::from);
            let magnitude = kernel.mapv(f64::abs);
            one((
                pull_depthwise(layer, &kernel, elements, signed),
                pull_depthwise(layer, &magnitude, elements, absolute),
            ))
        }
        Op::BatchNormalization(_, affine) | Op::Affine(affine) => {
            let width = affine.scale.len();
            let scaled = |rows: &Array2<f64>, scale: &dyn Fn(f64) -> f64| {
                let mut rows = rows.clone();
                for mut row in rows.rows_mut() {
                    for (element, value) in row.iter_mut().enumerate() {
                        *value *= scale(affine.scale[element % width]);
                    }
                }
                rows
            };
            one((scaled(signed, &|scale| scale), scaled(absolute, &f64::abs)))
        }
        Op::Pool(..) | Op::GlobalPool(_) => {
            moved(&|rows| pull_mean(&node.op, channels, elements, rows))
        }
        Op::ZeroPadding(padding) => moved(&|rows| {
            let places: Vec<usize> = padding
                .targets()
                .flat_map(|to| (0..channels).map(move |channel| to * channels + channel))
                .collect();
            rows.select(Axis(1), &places)
        }),
        Op::Add => node
            .sources
            .iter()
            .map(|&source| Pulled { source, signed: signed.clone(), absolute: absolute.clone() })
            .collect(),
        Op::Concatenate(axis) => split(network, id, *axis, signed, absolute),
        _ => one((signed.clone(), absolute.clone())),
    })
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
    signed: &Array2<f64>,
    absolute: &Array2<f64>,
    poll: &mut Poll<'_>,
) -> Result<(Array2<f64>, Array2<f64>)> {
    let (positions, filters) = (layer.window.positions(), layer.kernel.ncols());
    let (per_group, columns) = (channels / layer.groups, filters / layer.groups);
    let shape = (signed.nrows(), elements);
    let mut pulled = (Array2::zeros(shape), Array2::zeros(shape));
    for row in 0..signed.nrows() {
        poll.check()?;
        let select = |rows: &Array2<f64>| {
            let row = rows.row(row).to_vec();
            Array2::from_shape_vec((positions, filters), row).unwrap_or_default()
        };
        let (wide, reach) = (select(signed), select(absolute));
        for group in 0..layer.groups {
            let part = Slice::from(group * columns..(group + 1) * columns);
            let kernel = layer.kernel.slice_axis(Axis(1), part);
            let (centres, radii) =
                pull_back(kernel, wide.slice_axis(Axis(1), part), reach.slice_axis(Axis(1), part));
            for position in 0..positions {
                for tap in 0..layer.window.taps() {
                    let Some(at) = layer.window.input_position(position, tap) else { continue };
                    let first = at * channels + group * per_group;
                    for channel in 0..per_group {
                        let from = [position, tap * per_group + channel];
                        pulled.0[[row, first + channel]] += centres[from];
                        pulled.1[[row, first + channel]] += radii[from];
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
fn pull_mean(op: &Op, channels: usize, elements: usize, rows: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut pulled = Array2::zeros((rows.nrows(), elements));
    Zip::from(pulled.rows_mut()).and(rows.rows()).into_par_iter().for_each(
        |(mut to, from)| match op {
            Op::Pool(_, window) => {
                for position in 0..window.positions() {
                    let share = 1.0 / window.inputs(position).count().max(1) as f64;
                    for at in window.inputs(position) {
                        for channel in 0..channels {
                            to[at * channels + channel] +=
                                share * from[position * channels + channel];
                        }
                    }
                }
            }
            _ => {
                let share = channels as f64 / elements as f64;
                for element in 0..elements {
                    to[element] = share * from[element % channels];
                }
            }
        },
    );
    pulled
}

fn split(
    network: &Network,
    id: NodeId,
    axis: usize,
    signed: &Array2<f64>,
    absolute: &Array2<f64>,
) -> Vec<Pulled> {
    let node = network.node(id);
    let inner: usize = node.shape[axis + 1..].iter().product();
    let block = node.shape[axis] * inner;
    let mut first = 0;
    node.sources
        .iter()
        .map(|&source| {
            let run = network.node(source).shape[axis] * inner;
            let places: Vec<usize> = (0..node.len())
                .filter(|element| (first..first + run).contains(&(element % block)))
                .collect();
            first += run;
            let of = |rows: &Array2<f64>| {
                rows.select(Axis(1), &places).as_standard_layout().into_owned()
            };
            Pulled { source, signed: of(signed), absolute: of(absolute) }
        })
        .collect()
}
