//! What each op makes of its sources' values, one row a sample.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, Slice, Zip};

use super::pass::Plan;
use super::taps::Taps;
use crate::activation::Activation;
use crate::error::{Poll, Result};
use crate::linalg::{product_f32, product_of_rows};
use crate::network::{
    Affine, Conv, Dense, DepthwiseConv, LayerNormalization, Network, NodeId, Op, PoolKind,
};

/// Multiplications between two questions to whoever may stop them: a tenth of a second.
const MULTIPLICATIONS_PER_POLL: usize = 1 << 33;
/// A product is cut into a multiple of so many columns.
const COLUMNS_AT_ONCE: usize = 256;

/// The f32 nearest to a result that was computed in f64.
#[expect(clippy::cast_possible_truncation)] // rounding is meant
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}

/// Last axis of the first source of node `id`.
pub(crate) fn channels_of(network: &Network, id: NodeId) -> usize {
    network.node(id).sources.first().map_or(1, |&source| network.node(source).last_axis())
}

/// The values of all samples as rows of `width` elements.
///
/// # Panics
/// If `width` does not divide the rows: shapes were checked when the network was built.
pub(crate) fn in_rows(values: &Array2<f32>, width: usize) -> ArrayView2<'_, f32> {
    let rows = values.len() / width;
    values.view().into_shape_with_order((rows, width)).expect("width divides the rows")
}

/// The same, to write.
///
/// # Panics
/// As [`in_rows`].
pub(crate) fn in_rows_mut(values: &mut Array2<f32>, width: usize) -> ArrayViewMut2<'_, f32> {
    let rows = values.len() / width;
    values.view_mut().into_shape_with_order((rows, width)).expect("width divides the rows")
}

/// The values of node `id`, which is no input, opaque op or mere view.
pub(super) fn value(
    plan: &Plan<'_>,
    network: &Network,
    id: NodeId,
    sources: &[&Array2<f32>],
    poll: &mut Poll<'_>,
) -> Result<Array2<f32>> {
    let node = network.node(id);
    let channels = channels_of(network, id);
    let mut values = Array2::zeros((sources[0].nrows(), node.len()));
    match &node.op {
        Op::Dense(layer) => dense(layer, sources[0], &mut values, poll)?,
        Op::Conv(layer) => conv(layer, plan.taps(id), channels, sources[0], &mut values),
        Op::DepthwiseConv(layer) => depthwise_conv(layer, plan.taps(id), sources[0], &mut values),
        Op::BatchNormalization(_, map) | Op::Affine(map) => affine(map, sources[0], &mut values),
        Op::LayerNormalization(norm) => {
            layer_normalization(norm, channels, sources[0], &mut values);
        }
        Op::Activation(function) => activation(*function, sources[0], &mut values),
        Op::Softmax => softmax(channels, sources[0], &mut values),
        Op::Pool(kind, _) | Op::GlobalPool(kind) => {
            pool(*kind, plan.taps(id), channels, sources[0], &mut values);
        }
        Op::ZeroPadding(padding) => {
            for (from, to) in padding.targets().enumerate() {
                let run = |at: usize| Slice::from(at * channels..(at + 1) * channels);
                let source = sources[0].slice_axis(Axis(1), run(from));
                values.slice_axis_mut(Axis(1), run(to)).assign(&source);
            }
        }
        Op::Add => {
            for source in sources {
                values += *source;
            }
        }
        Op::Concatenate(axis) => {
            for_each_run(network, id, *axis, |source, from, to| {
                let source = sources[source].slice_axis(Axis(1), from);
                values.slice_axis_mut(Axis(1), to).assign(&source);
            });
        }
        Op::Reshape | Op::Identity | Op::Input | Op::Opaque(_) => values.assign(sources[0]),
    }
    Ok(values)
}

/// Call `copy(source number, its columns, columns of the result)` for every run of a concatenation.
pub(crate) fn for_each_run(
    network: &Network,
    id: NodeId,
    axis: usize,
    mut copy: impl FnMut(usize, Slice, Slice),
) {
    let node = network.node(id);
    let inner: usize = node.shape[axis + 1..].iter().product();
    let outer: usize = node.shape[..axis].iter().product();
    let mut to = 0;
    for block in 0..outer {
        for (number, &source) in node.sources.iter().enumerate() {
            let run = network.node(source).shape[axis] * inner;
            copy(number, Slice::from(block * run..(block + 1) * run), Slice::from(to..to + run));
            to += run;
        }
    }
}

fn dense(
    layer: &Dense,
    source: &Array2<f32>,
    values: &mut Array2<f32>,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let (inputs, units) = layer.kernel.dim();
    let rows = in_rows(source, inputs);
    polled_product(rows, layer.kernel.view(), in_rows_mut(values, units), poll)?;
    add_bias(layer.bias.as_ref(), values);
    Ok(())
}

/// `A B`, with a question to whoever may stop it between some columns and the next.
pub(crate) fn polled_product(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    mut product: ArrayViewMut2<'_, f32>,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let columns = MULTIPLICATIONS_PER_POLL / a.len().max(1);
    let columns = (columns / COLUMNS_AT_ONCE).max(1) * COLUMNS_AT_ONCE;
    let targets = product.axis_chunks_iter_mut(Axis(1), columns);
    for (mut target, b) in targets.zip(b.axis_chunks_iter(Axis(1), columns)) {
        poll.check()?;
        product_f32(a, b, &mut target);
    }
    Ok(())
}

fn add_bias(bias: Option<&Array1<f32>>, values: &mut Array2<f32>) {
    if let Some(bias) = bias {
        Zip::from(in_rows_mut(values, bias.len()).rows_mut()).par_for_each(|mut row| row += bias);
    }
}

/// Patches under the window, written where they are multiplied, times the kernel.
fn conv(
    layer: &Conv,
    taps: &Taps,
    channels: usize,
    source: &Array2<f32>,
    values: &mut Array2<f32>,
) {
    let positions = taps.positions();
    let filters = layer.kernel.ncols();
    let (width, per_group) = (channels / layer.groups, filters / layer.groups);
    let elements = source.as_slice().expect("values are stored row by row");
    for group in 0..layer.groups {
        let columns = Slice::from(group * per_group..(group + 1) * per_group);
        let kernel = layer.kernel.slice_axis(Axis(1), columns);
        let mut rows = in_rows_mut(values, filters);
        let mut rows = rows.slice_axis_mut(Axis(1), columns);
        product_of_rows(kernel, &mut rows, &|row, patch| {
            let first = row / positions * source.ncols() + group * width;
            for (tap, at) in taps.seen(row % positions) {
                let seen = &elements[first + at * channels..][..width];
                patch[tap * width..(tap + 1) * width].copy_from_slice(seen);
            }
        });
    }
    add_bias(layer.bias.as_ref(), values);
}

fn depthwise_conv(
    layer: &DepthwiseConv,
    taps: &Taps,
    source: &Array2<f32>,
    values: &mut Array2<f32>,
) {
    let multiplier = layer.kernel.ncols();
    let channels = layer.kernel.nrows() / layer.window.taps();
    let filters = channels * multiplier;
    Zip::from(values.rows_mut()).and(source.rows()).par_for_each(|mut row, source| {
        for position in 0..taps.positions() {
            for (tap, at) in taps.seen(position) {
                for filter in 0..filters {
                    let (channel, copy) = (filter / multiplier, filter % multiplier);
                    let weight = layer.kernel[[tap * channels + channel, copy]];
                    row[position * filters + filter] += weight * source[at * channels + channel];
                }
            }
        }
    });
    add_bias(layer.bias.as_ref(), values);
}

fn affine(map: &Affine, source: &Array2<f32>, values: &mut Array2<f32>) {
    let width = map.scale.len();
    let source = in_rows(source, width);
    Zip::from(in_rows_mut(values, width).rows_mut()).and(source.rows()).par_for_each(
        |row, source| {
            for (channel, (value, &x)) in row.into_iter().zip(source).enumerate() {
                *value = narrow(map.scale[channel] * f64::from(x) + map.offset[channel]);
            }
        },
    );
}

fn activation(function: Activation, source: &Array2<f32>, values: &mut Array2<f32>) {
    Zip::from(values).and(source).par_for_each(|value, &x| {
        *value = narrow(function.value(f64::from(x)));
    });
}

fn softmax(classes: usize, source: &Array2<f32>, values: &mut Array2<f32>) {
    let source = in_rows(source, classes);
    Zip::from(in_rows_mut(values, classes).rows_mut()).and(source.rows()).par_for_each(
        |row, logits| {
            let largest = logits.fold(f32::NEG_INFINITY, |largest, &logit| largest.max(logit));
            let power = |logit: f32| libm::exp(f64::from(logit - largest));
            let sum: f64 = logits.iter().map(|&logit| power(logit)).sum();
            for (value, &logit) in row.into_iter().zip(logits) {
                *value = narrow(power(logit) / sum);
            }
        },
    );
}

/// `gamma (x - mean) / sqrt(variance + epsilon) + beta` over the last axis.
fn layer_normalization(
    norm: &LayerNormalization,
    width: usize,
    source: &Array2<f32>,
    values: &mut Array2<f32>,
) {
    let source = in_rows(source, width);
    Zip::from(in_rows_mut(values, width).rows_mut()).and(source.rows()).par_for_each(
        |row, source| {
            let (mean, deviation) = mean_and_deviation(source, norm.epsilon);
            for (channel, (value, &x)) in row.into_iter().zip(source).enumerate() {
                let gamma = norm.gamma.as_ref().map_or(1.0, |gamma| f64::from(gamma[channel]));
                let beta = norm.beta.as_ref().map_or(0.0, |beta| f64::from(beta[channel]));
                *value = narrow(gamma * (f64::from(x) - mean) / deviation + beta);
            }
        },
    );
}

/// The mean and `sqrt(variance + epsilon)` that layer normalization takes of a row.
pub(crate) fn mean_and_deviation(row: ArrayView1<'_, f32>, epsilon: f64) -> (f64, f64) {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let squares: f64 = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    (mean, (squares / n + epsilon).sqrt())
}

fn pool(
    kind: PoolKind,
    taps: &Taps,
    channels: usize,
    source: &Array2<f32>,
    values: &mut Array2<f32>,
) {
    Zip::from(values.rows_mut()).and(source.rows()).par_for_each(|mut row, source| {
        for position in 0..taps.positions() {
            for channel in 0..channels {
                let seen = taps.seen(position).map(|(_, at)| source[at * channels + channel]);
                row[position * channels + channel] = match kind {
                    PoolKind::Max => seen.fold(f32::NEG_INFINITY, f32::max),
                    PoolKind::Average => mean(seen),
                };
            }
        }
    });
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) =
        values.fold((0.0, 0_usize), |(sum, count), value| (sum + f64::from(value), count + 1));
    narrow(sum / count as f64)
}
