//! The interval of `a_delegate - a_nominee`, the scalar that a merge injects.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::Pair;
use super::difference::hull;
use crate::bounds::linear::mean;
use crate::bounds::{Bounds, pooled, zero_padding};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals, centre_radius};
use crate::network::{Consumer, Group, Network, NodeId, Op, PoolKind};

/// Pairs whose difference rows one task sums up.
const PAIRS_PER_TASK: usize = 32;

/// The difference of one pair at every position of the consumer's input.
#[derive(Debug, Clone)]
pub(super) struct PairDifference {
    /// The unit whose outgoing weights carry it.
    pub(super) nominee: usize,
    /// Interval of delegate minus nominee, before the folded gain.
    pub(super) positions: Intervals,
    /// L2 distance of the incoming weights and biases.
    pub(super) distance: f64,
    /// Root mean square of the pre-activations' difference, at each position, over inputs drawn
    /// evenly and independently from their intervals.
    pub(super) moments: Vec<f64>,
}

/// Enclose each pair's difference by the difference of the two affine maps, intersected with the
/// difference of the two intervals, and take it along the path to the consumer.
pub(super) fn differences(
    network: &Network,
    group: &Group,
    consumer: &Consumer,
    pairs: &[Pair],
    bounds: &Bounds,
    poll: &mut Poll<'_>,
) -> Result<Vec<PairDifference>> {
    let Some((kernel, bias)) = network.node(group.producer).op.kernel_and_bias() else {
        return Ok(Vec::new());
    };
    let inputs = bounds.of(network.node(group.producer).sources[0]);
    let positions = inputs.len() / kernel.nrows();
    let folded = |unit: usize| {
        let (scale, offset) = (consumer.fold.scale[unit], consumer.fold.offset[unit]);
        let bias = bias.map_or(0.0, |bias| f64::from(bias[unit]));
        Folded {
            scale,
            bias: scale * bias + offset,
            magnitude: (scale * bias).abs() + consumer.fold.size[unit],
        }
    };
    let prefix = &consumer.path[..consumer.prefix];
    let alike = |pair: Pair| {
        prefix.iter().all(|&id| network.node(id).op.treats_alike(pair.nominee, pair.delegate))
    };
    let at = prefix.last().copied().unwrap_or(group.producer);
    let mut found: Vec<PairDifference> = pairs
        .iter()
        .map(|pair| PairDifference {
            nominee: pair.nominee,
            positions: Intervals::zeros(positions),
            distance: 0.0,
            moments: vec![0.0; positions],
        })
        .collect();
    for position in 0..positions {
        poll.check()?;
        let first = position * kernel.nrows();
        let (centre, radius): (Vec<f64>, Vec<f64>) = (first..first + kernel.nrows())
            .map(|element| centre_radius(inputs.get(element)))
            .unzip();
        let rows = difference_rows(kernel.view(), pairs, &folded, &alike, &centre, &radius);
        for ((pair, row), found) in pairs.iter().zip(rows).zip(&mut found) {
            let value = |unit: usize| bounds.of(at).get(position * group.units + unit);
            let boxes = value(pair.delegate).minus(value(pair.nominee));
            found.positions.set(position, row.interval.intersect(boxes));
            found.distance = row.distance;
            found.moments[position] = row.moment;
        }
    }
    for (pair, found) in pairs.iter().zip(&mut found) {
        for (step, &id) in consumer.path.iter().enumerate().skip(consumer.prefix) {
            let folded = step >= consumer.barrier;
            found.positions = along(network, group, id, *pair, &found.positions, folded, bounds);
        }
    }
    Ok(found)
}

/// The affine map of one unit, normalizations folded in.
#[derive(Clone, Copy)]
struct Folded {
    scale: f64,
    bias: f64,
    /// Sum of the absolute values that `bias` was added up from.
    magnitude: f64,
}

/// The running sums of one pair's difference row.
#[derive(Clone, Copy, Default)]
struct RowSums {
    middle: f64,
    reach: f64,
    size: f64,
    squares: f64,
    variance: f64,
}

/// What is known of one pair's difference of pre-activations.
#[derive(Clone, Copy)]
struct Row {
    interval: Interval,
    distance: f64,
    moment: f64,
}

/// `(w_j - w_i).m + (b_j - b_i) +- |w_j - w_i|.r` for every pair; tasks share out the pairs, and
/// each goes through the kernel row by row, as it lies in memory.
fn difference_rows(
    kernel: ArrayView2<'_, f32>,
    pairs: &[Pair],
    folded: &(dyn Fn(usize) -> Folded + Sync),
    alike: &(dyn Fn(Pair) -> bool + Sync),
    centre: &[f64],
    radius: &[f64],
) -> Vec<Row> {
    if centre.iter().chain(radius).any(|end| !end.is_finite()) {
        let unknown = f64::INFINITY;
        return vec![
            Row { interval: Interval::UNBOUNDED, distance: unknown, moment: unknown };
            pairs.len()
        ];
    }
    pairs
        .par_chunks(PAIRS_PER_TASK)
        .flat_map_iter(|pairs| {
            let maps: Vec<(Folded, Folded, bool)> = pairs
                .iter()
                .map(|&pair| (folded(pair.nominee), folded(pair.delegate), alike(pair)))
                .collect();
            let mut sums = vec![RowSums::default(); pairs.len()];
            for ((row, &m), &r) in kernel.rows().into_iter().zip(centre).zip(radius) {
                for ((pair, (i, j, same)), sums) in pairs.iter().zip(&maps).zip(&mut sums) {
                    let left = j.scale * f64::from(row[pair.delegate]);
                    let right = i.scale * f64::from(row[pair.nominee]);
                    let weight = left - right;
                    sums.middle += weight * m;
                    sums.reach += weight.abs() * r;
                    sums.squares += weight * weight;
                    sums.variance += weight * weight * r * r;
                    // A cancelling difference of two rounded products keeps their rounding;
                    // products of the same two numbers have none.
                    if weight != 0.0 || !same {
                        sums.size += (left.abs() + right.abs()) * (m.abs() + r);
                    }
                }
            }
            let n = kernel.nrows() as f64;
            maps.into_iter().zip(sums).map(move |((i, j, same), sums)| {
                let gap = j.bias - i.bias;
                let middle = sums.middle + gap;
                Row {
                    interval: row_interval(n, i, j, same, sums),
                    distance: (sums.squares + gap * gap).sqrt(),
                    moment: (middle * middle + sums.variance / 3.0).sqrt(),
                }
            })
        })
        .collect()
}

/// The interval of a difference row, with the same pad as for any sum of n products and a few
/// operations more for the folding of two scales.
fn row_interval(n: f64, i: Folded, j: Folded, alike: bool, sums: RowSums) -> Interval {
    if sums.size == 0.0 && alike && i.bias == j.bias {
        return Interval::ZERO;
    }
    let (kappa, factor) = ((n + 8.0) * f64::EPSILON, 1.0 + (n + 8.0) * f64::EPSILON);
    let pad = kappa * (sums.size + i.magnitude + j.magnitude);
    let (middle, reach) = (sums.middle + (j.bias - i.bias), sums.reach * factor + pad);
    if !(middle.is_finite() && reach.is_finite()) {
        return Interval::UNBOUNDED;
    }
    Interval::new(middle - reach, middle + reach)
}

/// The difference after node `id` of the path; both units belong to the same network.
fn along(
    network: &Network,
    group: &Group,
    id: NodeId,
    pair: Pair,
    change: &Intervals,
    folded: bool,
    bounds: &Bounds,
) -> Intervals {
    let node = network.node(id);
    let source = node.sources[0];
    let (units, channels) = (group.units, network.node(source).last_axis());
    // Channels of one unit: more than one once positions were moved into the last axis.
    let copies = channels / units;
    match &node.op {
        Op::Activation(activation) => (0..change.len())
            .map(|position| {
                let value = |unit| bounds.of(source).get(position * units + unit);
                activation.difference(
                    value(pair.nominee),
                    value(pair.delegate),
                    change.get(position),
                )
            })
            .collect(),
        Op::BatchNormalization(_, affine) | Op::Affine(affine) if !folded => (0..change.len())
            .map(|position| {
                let (i, j) = (position * units + pair.nominee, position * units + pair.delegate);
                let width = affine.scale.len();
                let (gi, gj) = (affine.scale[i % width], affine.scale[j % width]);
                let change = change.get(position).scaled(gj).widened(8.0);
                if node.op.treats_alike(i, j) {
                    return change;
                }
                // Both maps are rounded: their differences by ulps of what they are made of.
                let around = |difference: f64, size: f64| {
                    let pad = 8.0 * f64::EPSILON * size;
                    Interval::new(difference - pad, difference + pad)
                };
                let gap = around(gj - gi, gj.abs() + gi.abs());
                let (from, to) = (i % width, j % width);
                let offset = around(
                    affine.offset[to] - affine.offset[from],
                    affine.size[to] + affine.size[from],
                );
                let moved = change.plus(gap.times(bounds.of(source).get(i))).plus(offset);
                let boxes = bounds.of(id).get(j).minus(bounds.of(id).get(i));
                moved.intersect(boxes)
            })
            .collect(),
        Op::Pool(PoolKind::Average, _) | Op::GlobalPool(PoolKind::Average) => {
            pooled(&node.op, copies, change, &mean)
        }
        Op::Pool(..) | Op::GlobalPool(_) => pooled(&node.op, copies, change, &hull),
        Op::ZeroPadding(padding) => zero_padding(padding, copies, node.len() / units, change),
        _ => change.clone(),
    }
}
