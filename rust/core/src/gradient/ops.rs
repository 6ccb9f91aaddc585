//! What each op makes of its cotangent: those of its sources, one row a sample.

use ndarray::{Array2, ArrayView1, Axis, Slice, Zip};

use crate::activation::Activation;
use crate::error::{Poll, Result};
use crate::forward::{
    Plan, Taps, Values, channels_of, for_each_run, in_rows, in_rows_mut, mean_and_deviation,
    narrow, polled_product,
};
use crate::linalg::multiply_f32;
use crate::network::{
    Affine, Conv, Dense, DepthwiseConv, LayerNormalization, Network, NodeId, Op, PoolKind,
};

/// Output positions whose patches are taken back at once.
const POSITIONS_PER_BLOCK: usize = 64;

/// The cotangents of the sources of node `id`, in their order.
pub(super) fn pull_back(
    plan: &Plan<'_>,
    network: &Network,
    id: NodeId,
    values: &Values,
    cotangent: Array2<f32>,
    poll: &mut Poll<'_>,
) -> Result<Vec<Array2<f32>>> {
    let node = network.node(id);
    let channels = channels_of(network, id);
    let input = values.of(node.sources[0]);
    let mut pulled = Array2::zeros(input.raw_dim());
    match &node.op {
        Op::Dense(layer) => dense(layer, &cotangent, &mut pulled, poll)?,
        Op::Conv(layer) => conv(layer, plan.taps(id), channels, &cotangent, &mut pulled),
        Op::DepthwiseConv(layer) => depthwise(layer, plan.taps(id), &cotangent, &mut pulled),
        Op::BatchNormalization(_, map) | Op::Affine(map) => affine(map, &cotangent, &mut pulled),
        Op::LayerNormalization(norm) => {
            layer_normalization(norm, channels, input, &cotangent, &mut pulled);
        }
        Op::Activation(function) => activation(*function, input, &cotangent, &mut pulled),
        Op::Softmax => softmax(channels, values.of(id), &cotangent, &mut pulled),
        Op::Pool(kind, _) => {
            let share = if *kind == PoolKind::Max { Share::FirstMaximum } else { Share::Equal };
            pool(plan.taps(id), channels, share, input, &cotangent, &mut pulled);
        }
        Op::GlobalPool(kind) => {
            let share = if *kind == PoolKind::Max { Share::AllMaxima } else { Share::Equal };
            pool(plan.taps(id), channels, share, input, &cotangent, &mut pulled);
        }
        Op::ZeroPadding(padding) => {
            for (from, to) in padding.targets().enumerate() {
                let run = |at: usize| Slice::from(at * channels..(at + 1) * channels);
                let source = cotangent.slice_axis(Axis(1), run(to));
                pulled.slice_axis_mut(Axis(1), run(from)).assign(&source);
            }
        }
        Op::Add => return Ok(vec![cotangent; node.sources.len()]),
        Op::Concatenate(axis) => return Ok(concatenate(network, id, *axis, &cotangent)),
        Op::Reshape | Op::Identity | Op::Input | Op::Opaque(_) => return Ok(vec![cotangent]),
    }
    Ok(vec![pulled])
}

fn concatenate(
    network: &Network,
    id: NodeId,
    axis: usize,
    cotangent: &Array2<f32>,
) -> Vec<Array2<f32>> {
    let sources = network.node(id).sources.iter();
    let mut pulled: Vec<Array2<f32>> = sources
        .map(|&source| Array2::zeros((cotangent.nrows(), network.node(source).len())))
        .collect();
    for_each_run(network, id, axis, |source, to, from| {
        let run = cotangent.slice_axis(Axis(1), from);
        pulled[source].slice_axis_mut(Axis(1), to).assign(&run);
    });
    pulled
}

fn dense(
    layer: &Dense,
    cotangent: &Array2<f32>,
    pulled: &mut Array2<f32>,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let (inputs, units) = layer.kernel.dim();
    let rows = in_rows(cotangent, units);
    polled_product(rows, layer.kernel.t(), in_rows_mut(pulled, inputs), poll)
}

/// The cotangents of patches, added up where they overlap.
fn conv(
    layer: &Conv,
    taps: &Taps,
    channels: usize,
    cotangent: &Array2<f32>,
    pulled: &mut Array2<f32>,
) {
    let filters = layer.kernel.ncols();
    let (width, per_group) = (channels / layer.groups, filters / layer.groups);
    let rows = in_rows(cotangent, filters);
    Zip::indexed(pulled.rows_mut()).par_for_each(|sample, mut pulled| {
        let pulled = pulled.as_slice_mut().expect("values are stored row by row");
        for block in (0..taps.positions()).step_by(POSITIONS_PER_BLOCK) {
            let last = taps.positions().min(block + POSITIONS_PER_BLOCK);
            let first = sample * taps.positions();
            let rows = rows.slice_axis(Axis(0), Slice::from(first + block..first + last));
            for group in 0..layer.groups {
                let columns = Slice::from(group * per_group..(group + 1) * per_group);
                let kernel = layer.kernel.slice_axis(Axis(1), columns);
                let mut patches = Array2::zeros((last - block, kernel.nrows()));
                multiply_f32(
                    rows.slice_axis(Axis(1), columns),
                    kernel.t(),
                    &mut patches.view_mut(),
                );
                for (position, patch) in (block..last).zip(patches.rows()) {
                    for (tap, at) in taps.seen(position) {
                        let under = &mut pulled[at * channels + group * width..][..width];
                        for (sum, part) in under.iter_mut().zip(patch.iter().skip(tap * width)) {
                            *sum += part;
                        }
                    }
                }
            }
        }
    });
}

fn depthwise(
    layer: &DepthwiseConv,
    taps: &Taps,
    cotangent: &Array2<f32>,
    pulled: &mut Array2<f32>,
) {
    let multiplier = layer.kernel.ncols();
    let channels = layer.kernel.nrows() / layer.window.taps();
    let filters = channels * multiplier;
    Zip::from(pulled.rows_mut()).and(cotangent.rows()).par_for_each(|mut pulled, cotangent| {
        for position in 0..taps.positions() {
            for (tap, at) in taps.seen(position) {
                for filter in 0..filters {
                    let (channel, copy) = (filter / multiplier, filter % multiplier);
                    let weight = layer.kernel[[tap * channels + channel, copy]];
                    pulled[at * channels + channel] +=
                        weight * cotangent[position * filters + filter];
                }
            }
        }
    });
}

fn affine(map: &Affine, cotangent: &Array2<f32>, pulled: &mut Array2<f32>) {
    let width = map.scale.len();
    let cotangent = in_rows(cotangent, width);
    Zip::from(in_rows_mut(pulled, width).rows_mut()).and(cotangent.rows()).par_for_each(
        |pulled, cotangent| {
            for ((pulled, &given), scale) in pulled.into_iter().zip(cotangent).zip(&map.scale) {
                *pulled = narrow(scale * f64::from(given));
            }
        },
    );
}

fn activation(
    function: Activation,
    input: &Array2<f32>,
    cotangent: &Array2<f32>,
    pulled: &mut Array2<f32>,
) {
    Zip::from(pulled).and(input).and(cotangent).par_for_each(|pulled, &x, &given| {
        *pulled = narrow(function.derivative(f64::from(x)) * f64::from(given));
    });
}

/// `p (g - sum(g p))` for probabilities p.
fn softmax(
    classes: usize,
    probabilities: &Array2<f32>,
    cotangent: &Array2<f32>,
    pulled: &mut Array2<f32>,
) {
    let (probabilities, cotangent) = (in_rows(probabilities, classes), in_rows(cotangent, classes));
    Zip::from(in_rows_mut(pulled, classes).rows_mut())
        .and(probabilities.rows())
        .and(cotangent.rows())
        .par_for_each(|pulled, probabilities, cotangent| {
            let mean = product_sum(probabilities, cotangent);
            for ((pulled, &p), &given) in pulled.into_iter().zip(probabilities).zip(cotangent) {
                *pulled = narrow(f64::from(p) * (f64::from(given) - mean));
            }
        });
}

fn product_sum(a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// `(h - mean(h) - z mean(h z)) / deviation`, with h = gamma g and z the normalized row.
fn layer_normalization(
    norm: &LayerNormalization,
    width: usize,
    input: &Array2<f32>,
    cotangent: &Array2<f32>,
    pulled: &mut Array2<f32>,
) {
    let (input, cotangent) = (in_rows(input, width), in_rows(cotangent, width));
    Zip::from(in_rows_mut(pulled, width).rows_mut())
        .and(input.rows())
        .and(cotangent.rows())
        .par_for_each(|pulled, input, cotangent| {
            let n = width as f64;
            let (mean, deviation) = mean_and_deviation(input, norm.epsilon);
            let parts: Vec<(f64, f64)> = (0..width)
                .map(|channel| {
                    let gamma = norm.gamma.as_ref().map_or(1.0, |gamma| f64::from(gamma[channel]));
                    let normalized = (f64::from(input[channel]) - mean) / deviation;
                    (gamma * f64::from(cotangent[channel]), normalized)
                })
                .collect();
            let common = parts.iter().map(|(h, _)| h).sum::<f64>() / n;
            let along = parts.iter().map(|(h, z)| h * z).sum::<f64>() / n;
            for (pulled, (h, z)) in pulled.into_iter().zip(parts) {
                *pulled = narrow((h - common - z * along) / deviation);
            }
        });
}

/// Who gets a pooling window's cotangent.
#[derive(Clone, Copy)]
enum Share {
    /// All elements alike: a mean.
    Equal,
    /// The first of the largest elements.
    FirstMaximum,
    /// The largest elements alike.
    AllMaxima,
}

/// Give each window's cotangent to the elements under it.
fn pool(
    taps: &Taps,
    channels: usize,
    share: Share,
    input: &Array2<f32>,
    cotangent: &Array2<f32>,
    pulled: &mut Array2<f32>,
) {
    Zip::from(pulled.rows_mut()).and(input.rows()).and(cotangent.rows()).par_for_each(
        |mut pulled, input, cotangent| {
            for position in 0..taps.positions() {
                for channel in 0..channels {
                    let seen = || taps.seen(position).map(|(_, at)| at * channels + channel);
                    let given = cotangent[position * channels + channel];
                    let largest = seen().fold(f32::NEG_INFINITY, |most, at| most.max(input[at]));
                    let chosen = |at: &usize| match share {
                        Share::Equal => true,
                        Share::FirstMaximum | Share::AllMaxima => input[*at] == largest,
                    };
                    if let Share::FirstMaximum = share {
                        if let Some(at) = seen().find(chosen) {
                            pulled[at] += given;
                        }
                        continue;
                    }
                    let count = seen().filter(chosen).count();
                    for at in seen().filter(chosen) {
                        pulled[at] += given / count as f32;
                    }
                }
            }
        },
    );
}
