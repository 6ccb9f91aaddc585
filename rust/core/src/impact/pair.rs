//! The interval of `a_delegate - a_nominee`, the scalar that a merge injects.

use super::Pair;
use super::difference::hull;
use super::row::{Folded, Row, Units, pairs_at_once};
use crate::bounds::linear::mean;
use crate::bounds::{Bounds, pooled, zero_padding};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals, centre_radius};
use crate::network::{Consumer, Group, Network, NodeId, Op, PoolKind};

/// The difference of one pair at every position of the consumer's input.
#[derive(Debug, Clone)]
pub(super) struct PairDifference {
    /// The unit whose outgoing weights carry it.
    pub(super) nominee: usize,
    /// Interval of delegate minus nominee, before the folded gain.
    pub(super) positions: Intervals,
    /// L2 distance of the incoming weights and biases, if it was asked for.
    pub(super) distance: f64,
    /// Root mean square of the pre-activations' difference, at each position, over inputs drawn
    /// evenly and independently from their intervals, if it was asked for.
    pub(super) moments: Vec<f64>,
}

/// The difference rows of pairs as a consumer sees them, of each pair one a position.
pub(super) fn rows(
    network: &Network,
    group: &Group,
    consumer: &Consumer,
    pairs: &[Pair],
    bounds: &Bounds,
    moments: bool,
    poll: &mut Poll<'_>,
) -> Result<Vec<Vec<Row>>> {
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
    let mut found: Vec<Vec<Row>> = pairs.iter().map(|_| Vec::with_capacity(positions)).collect();
    let at_once = pairs_at_once(kernel.nrows());
    for (pairs, found) in pairs.chunks(at_once).zip(found.chunks_mut(at_once)) {
        let units = Units::new(kernel.view(), pairs, &folded, &alike);
        for position in 0..positions {
            poll.check()?;
            let first = position * kernel.nrows();
            let (centre, radius): (Vec<f64>, Vec<f64>) = (first..first + kernel.nrows())
                .map(|element| centre_radius(inputs.get(element)))
                .unzip();
            for (row, found) in units.rows(&centre, &radius, moments).into_iter().zip(&mut *found) {
                found.push(row);
            }
        }
    }
    Ok(found)
}

/// Enclose each pair's difference by the difference of the two affine maps, intersected with the
/// difference of the two intervals, and take it along the path to the consumer.
///
/// `rows` gives a pair's difference rows, one a position.
pub(super) fn differences<'a>(
    network: &Network,
    group: &Group,
    consumer: &Consumer,
    pairs: &[Pair],
    bounds: &Bounds,
    rows: &dyn Fn(Pair) -> &'a [Row],
) -> Vec<PairDifference> {
    let prefix = &consumer.path[..consumer.prefix];
    let at = prefix.last().copied().unwrap_or(group.producer);
    let difference = |&pair: &Pair| {
        let rows = rows(pair);
        let value = |position: usize, unit: usize| bounds.of(at).get(position * group.units + unit);
        let narrowed = rows.iter().enumerate().map(|(position, row)| {
            let boxes = value(position, pair.delegate).minus(value(position, pair.nominee));
            row.interval.intersect(boxes)
        });
        let mut positions: Intervals = narrowed.collect();
        for (step, &id) in consumer.path.iter().enumerate().skip(consumer.prefix) {
            let folded = step >= consumer.barrier;
            positions = along(network, group, id, pair, &positions, folded, bounds);
        }
        PairDifference {
            nominee: pair.nominee,
            positions,
            distance: rows.first().map_or(0.0, |row| row.distance),
            moments: rows.iter().map(|row| row.moment).collect(),
        }
    };
    pairs.iter().map(difference).collect()
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
