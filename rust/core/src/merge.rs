//! The primitive operation: the delegate takes over the nominee's outgoing weights.

use std::sync::Arc;

use ndarray::{Array1, Array2, Axis};

use crate::error::{Error, Result};
use crate::impact::{Pair, Rounding};
use crate::linalg::select_columns;
use crate::network::{Affine, BatchNormalization, Consumer, Group, Network, NodeId, Op};

/// The rows of a consumer's kernel that a merge replaced.
#[derive(Debug, Clone)]
pub struct RowChange {
    /// The consumer.
    pub node: NodeId,
    /// The rows as they are now.
    pub added: Array2<f64>,
    /// The rows as they were.
    pub removed: Array2<f64>,
    /// Whether its bias changed too.
    pub bias_changed: bool,
    /// By how much they differ, stored in f32, from the exact result of the merges.
    pub rounding: Rounding,
}

/// Merge pairs, in order, by masking: the nominees keep their place with zero outgoing weights.
///
/// `Err` if a merged weight does not fit into f32; the network is then of no further use.
pub fn merge(network: &mut Network, group: &Group, pairs: &[Pair]) -> Result<Vec<RowChange>> {
    merge_scaled(network, group, pairs, &|_, _| 1.0)
}

/// The same, where the delegate takes a multiple of what the nominee's outgoing weights were: how
/// much of it, for a consumer and a pair, is `scale`'s to say.
///
/// The changes' `rounding` is that from the unscaled sums: bounds that take it into account hold.
pub fn merge_scaled(
    network: &mut Network,
    group: &Group,
    pairs: &[Pair],
    scale: &dyn Fn(&Consumer, Pair) -> f64,
) -> Result<Vec<RowChange>> {
    let changes: Vec<RowChange> = group
        .consumers
        .iter()
        .filter_map(|consumer| merge_rows(network, group.units, consumer, pairs, scale))
        .collect();
    for change in &changes {
        let weights = change.rounding.weights.iter().chain(&change.rounding.bias);
        if weights.chain(&change.added).any(|weight| !weight.is_finite()) {
            return Err(Error::Weight {
                layer: network.node(change.node).layer.clone(),
                problem: format!(
                    "the weights that units of '{}' hand over are too large for float32; leave \
                     that layer out",
                    group.layer
                ),
            });
        }
    }
    Ok(changes)
}

/// Take units away whose value is 0 for every input: their outgoing weights become 0, and nobody
/// takes them over.
pub fn silence(network: &mut Network, group: &Group, units: &[usize]) -> Vec<RowChange> {
    let mut changes = Vec::with_capacity(group.consumers.len());
    for consumer in &group.consumers {
        let Some((kernel, _)) = network.node_mut(consumer.node).op.kernel_and_bias_mut() else {
            continue;
        };
        let kernel = Arc::make_mut(kernel);
        let mut rows: Vec<usize> =
            units.iter().flat_map(|&unit| (unit..kernel.nrows()).step_by(group.units)).collect();
        rows.sort_unstable();
        let removed = kernel.select(Axis(0), &rows).mapv(f64::from);
        for &row in &rows {
            kernel.row_mut(row).fill(0.0);
        }
        let added = Array2::zeros(removed.dim());
        let rounding = Rounding {
            node: consumer.node,
            weights: added.clone(),
            bias: vec![0.0; kernel.ncols()],
            rows,
        };
        changes.push(RowChange {
            node: consumer.node,
            added,
            removed,
            bias_changed: false,
            rounding,
        });
    }
    changes
}

fn merge_rows(
    network: &mut Network,
    units: usize,
    consumer: &Consumer,
    pairs: &[Pair],
    scale: &dyn Fn(&Consumer, Pair) -> f64,
) -> Option<RowChange> {
    let (kernel, bias) = network.node_mut(consumer.node).op.kernel_and_bias_mut()?;
    let kernel = Arc::make_mut(kernel);
    let mut touched: Vec<usize> = pairs
        .iter()
        .flat_map(|pair| [pair.nominee, pair.delegate])
        .flat_map(|unit| (unit..kernel.nrows()).step_by(units))
        .collect();
    touched.sort_unstable();
    touched.dedup();
    let removed = kernel.select(Axis(0), &touched).mapv(f64::from);
    let place = |row: usize| touched.partition_point(|&known| known < row);
    let mut exact = removed.clone();
    let width = consumer.gain.len();
    let mut shift = Array1::<f64>::zeros(kernel.ncols());
    let mut exact_shift = shift.clone();
    for &pair in pairs {
        let scale = scale(consumer, pair);
        let rows = (pair.nominee..kernel.nrows()).step_by(units);
        for (i, j) in rows.zip((pair.delegate..).step_by(units)) {
            let ratio = consumer.gain[i % width] / consumer.gain[j % width];
            let gap = |ratio: f64| consumer.offset[i % width] - consumer.offset[j % width] * ratio;
            let (constant, exact_constant) = (gap(scale * ratio), gap(ratio));
            let (place_i, place_j) = (place(i), place(j));
            for column in 0..kernel.ncols() {
                let nominee = f64::from(kernel[[i, column]]);
                let taken_over = f64::from(kernel[[j, column]]) + scale * ratio * nominee;
                kernel[[j, column]] = to_f32(taken_over);
                kernel[[i, column]] = 0.0;
                shift[column] += constant * nominee;
                exact_shift[column] += exact_constant * exact[[place_i, column]];
                exact[[place_j, column]] += ratio * exact[[place_i, column]];
                exact[[place_i, column]] = 0.0;
            }
        }
    }
    let added = kernel.select(Axis(0), &touched).mapv(f64::from);
    let bias_changed = shift.iter().any(|&shift| shift != 0.0);
    let mut bias_rounding = vec![0.0; kernel.ncols()];
    if bias_changed {
        // A consumer without a bias gets one: the offset has nowhere else to go.
        let bias = bias.get_or_insert_with(|| Array1::zeros(shift.len()));
        for (unit, bias) in bias.iter_mut().enumerate() {
            let before = f64::from(*bias);
            *bias = to_f32(before + shift[unit]);
            bias_rounding[unit] = f64::from(*bias) - (before + exact_shift[unit]);
        }
    }
    let node = consumer.node;
    let rounding = Rounding { node, rows: touched, weights: &added - &exact, bias: bias_rounding };
    Some(RowChange { node, added, removed, bias_changed, rounding })
}

/// The network without the units that are not in `kept`; the numbers refer to `group`.
#[must_use]
pub fn remove(network: Network, group: &Group, kept: &[usize]) -> Network {
    let mut smaller = network;
    let units = group.units;
    let elements = |width: usize| -> Vec<usize> {
        (0..width / units)
            .flat_map(|block| kept.iter().map(move |&unit| block * units + unit))
            .collect()
    };
    if let Some((kernel, bias)) = smaller.node_mut(group.producer).op.kernel_and_bias_mut() {
        *kernel = select_columns(kernel.view(), kept).into();
        *bias = bias.as_ref().map(|bias| bias.select(Axis(0), kept));
    }
    let mut resized = vec![group.producer];
    for consumer in &group.consumers {
        if let Some((kernel, _)) = smaller.node_mut(consumer.node).op.kernel_and_bias_mut() {
            *kernel = kernel.select(Axis(0), &elements(kernel.nrows())).into();
        }
        resized.extend(&consumer.path);
    }
    resized.sort_unstable();
    resized.dedup();
    for id in resized {
        let node = smaller.node_mut(id);
        if let Some(last) = node.shape.last_mut() {
            let left = elements(*last);
            *last = left.len();
            resize_affine(&mut node.op, &left);
        }
    }
    smaller
}

fn resize_affine(op: &mut Op, kept: &[usize]) {
    let cut = |weight: &Array1<f32>| weight.select(Axis(0), kept);
    match op {
        Op::BatchNormalization(norm, affine) => {
            *norm = BatchNormalization {
                gamma: norm.gamma.as_ref().map(cut),
                beta: norm.beta.as_ref().map(cut),
                mean: cut(&norm.mean),
                variance: cut(&norm.variance),
                epsilon: norm.epsilon,
            };
            *affine = norm.affine();
        }
        Op::Affine(affine) => {
            *affine = Affine {
                scale: kept.iter().map(|&at| affine.scale[at]).collect(),
                offset: kept.iter().map(|&at| affine.offset[at]).collect(),
                size: kept.iter().map(|&at| affine.size[at]).collect(),
            };
        }
        _ => {}
    }
}

#[expect(clippy::cast_possible_truncation)] // Keras stores f32: the rounding is the point
fn to_f32(value: f64) -> f32 {
    value as f32
}
