//! The interval of `a_delegate - a_nominee`, the scalar that a merge injects.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::Pair;
use super::difference::pooled_maximum;
use crate::bounds::{Bounds, linear, zero_padding};
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
        (scale, scale * bias + offset)
    };
    let at = consumer.path[..consumer.prefix].last().copied().unwrap_or(group.producer);
    let mut found: Vec<PairDifference> = pairs
        .iter()
        .map(|pair| PairDifference {
            nominee: pair.nominee,
            positions: Intervals::zeros(positions),
        })
        .collect();
    for position in 0..positions {
        poll.check()?;
        let first = position * kernel.nrows();
        let (centre, radius): (Vec<f64>, Vec<f64>) = (first..first + kernel.nrows())
            .map(|element| centre_radius(inputs.get(element)))
            .unzip();
        let rows = difference_rows(kernel.view(), pairs, &folded, &centre, &radius);
        for ((pair, row), found) in pairs.iter().zip(rows).zip(&mut found) {
            let value = |unit: usize| bounds.of(at).get(position * group.units + unit);
            let boxes = value(pair.delegate).minus(value(pair.nominee));
            found.positions.set(position, row.intersect(boxes));
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

/// `(w_j - w_i).m + (b_j - b_i) +- |w_j - w_i|.r` for every pair, in one pass over the kernel.
fn difference_rows(
    kernel: ArrayView2<'_, f32>,
    pairs: &[Pair],
    folded: &(dyn Fn(usize) -> (f64, f64) + Sync),
    centre: &[f64],
    radius: &[f64],
) -> Vec<Interval> {
    // The same pad as for any sum of `n` products, plus the folding of two scales.
    let n = kernel.nrows() as f64;
    let (kappa, factor) = ((n + 8.0) * f64::EPSILON, 1.0 + (n + 8.0) * f64::EPSILON);
    let unbounded = radius.iter().any(|radius| !radius.is_finite());
    pairs
        .par_iter()
        .map(|pair| {
            if unbounded {
                return Interval::UNBOUNDED;
            }
            let ((si, bi), (sj, bj)) = (folded(pair.nominee), folded(pair.delegate));
            let (mut middle, mut reach, mut size) = (0.0, 0.0, 0.0);
            let columns = kernel.column(pair.nominee).into_iter().zip(kernel.column(pair.delegate));
            for ((&wi, &wj), (&m, &r)) in columns.zip(centre.iter().zip(radius)) {
                let (left, right) = (sj * f64::from(wj), si * f64::from(wi));
                let weight = left - right;
                middle += weight * m;
                reach += weight.abs() * r;
                // A cancelling difference of two rounded products keeps their rounding.
                if weight != 0.0 {
                    size += (left.abs() + right.abs()) * (m.abs() + r);
                }
            }
            let constant = bj - bi;
            if size == 0.0 && constant == 0.0 {
                return Interval::ZERO;
            }
            let pad = kappa * (size + bj.abs() + bi.abs());
            let (middle, reach) = (middle + constant, reach * factor + pad);
            Interval::new(middle - reach, middle + reach)
        })
        .collect()
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
                let offset = affine.offset[j % width] - affine.offset[i % width];
                let moved = change
                    .get(position)
                    .scaled(gj)
                    .plus(bounds.of(source).get(i).scaled(gj - gi))
                    .plus(Interval::new(offset, offset))
                    .widened(16.0);
                let boxes = bounds.of(id).get(j).minus(bounds.of(id).get(i));
                moved.intersect(boxes)
            })
            .collect(),
        Op::Pool(PoolKind::Average, window) => linear::average_pool(window, copies, change),
        Op::Pool(PoolKind::Max, window) => (0..window.positions() * copies)
            .map(|index| {
                let (position, copy) = (index / copies, index % copies);
                pooled_maximum(window.inputs(position).map(|at| change.get(at * copies + copy)))
            })
            .collect(),
        Op::GlobalPool(PoolKind::Average) => linear::global_average(copies, change),
        Op::GlobalPool(PoolKind::Max) => (0..copies)
            .map(|copy| {
                let elements = (copy..change.len()).step_by(copies);
                pooled_maximum(elements.map(|element| change.get(element)))
            })
            .collect(),
        Op::ZeroPadding(padding) => zero_padding(padding, copies, node.len() / units, change),
        _ => change.clone(),
    }
}
