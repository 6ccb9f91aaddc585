//! What a pruning injects into the difference of the two networks: at each layer that reads pruned
//! units how what it reads changes, and by how much its stored weights are not the exact merge.

use std::collections::BTreeMap;

use super::curved::hulls;
use super::linear::{affine, by_element, taps};
use super::rounding::{ONE, quotient, sum, times};
use super::values::Side;
use crate::certificate::{Pairing, Takeover};
use crate::error::{Poll, Result};
use crate::impact::Pair;
use crate::interval::{Interval, Intervals};
use crate::network::{Consumer, Group, Network, Node, NodeId, Op, PoolKind};

/// A layer whose weights the pruning changed.
pub(super) struct Change<'a> {
    /// The layer's node.
    pub(super) node: NodeId,
    /// Whose merges they are; `None` if no merge explains the change.
    takeover: Option<(&'a Takeover, &'a Consumer)>,
    /// Stored minus exact, by kernel row; `None` where there is no difference.
    rows: Vec<Option<Vec<Interval>>>,
    /// Stored minus exact.
    bias: Vec<Interval>,
}

/// What a change injects, with the values of one of the networks.
pub(super) struct Injection {
    /// The layer's node.
    pub(super) node: NodeId,
    /// The rows of its kernel that read units that went.
    pub(super) touched: Vec<usize>,
    /// By how much what its original kernel reads changes.
    pub(super) input: Intervals,
    /// What its stored weights add beyond that.
    pub(super) residual: Intervals,
}

/// Affine nodes one after the other, as one affine map for each element of a last axis.
struct Folded<'a> {
    ops: Vec<&'a Op>,
    scale: Vec<Interval>,
    offset: Vec<Interval>,
}

impl<'a> Folded<'a> {
    fn of(network: &'a Network, path: &[NodeId], width: usize) -> Self {
        let ops: Vec<&Op> = path.iter().map(|&id| &network.node(id).op).collect();
        let (mut scale, mut offset) = (vec![ONE; width], vec![Interval::ZERO; width]);
        for op in &ops {
            let maps = affine(op);
            for index in 0..if maps.is_empty() { 0 } else { width } {
                let (factor, shift) = maps[index % maps.len()];
                scale[index] = times(factor, scale[index]);
                offset[index] = sum(times(factor, offset[index]), shift);
            }
        }
        Self { ops, scale, offset }
    }

    /// Whether two elements have the same map, whatever it is exactly.
    fn alike(&self, i: usize, j: usize) -> bool {
        self.ops.iter().all(|op| op.treats_alike(i, j))
    }

    /// With which factor, and which constant beside it, the delegate j stands for the nominee i:
    /// `scale_i / scale_j`, and what then lacks to `offset_i`.
    fn handed_over(&self, i: usize, j: usize) -> (Interval, Interval) {
        if self.alike(i, j) {
            return (ONE, Interval::ZERO);
        }
        let ratio = quotient(self.scale[i], self.scale[j]);
        (ratio, self.offset[i].minus(times(ratio, self.offset[j])))
    }
}

/// Every layer whose weights in the pruned network are not those of the original.
///
/// All are compared, not only those that merges explain: what else was changed is a residual.
pub(super) fn changes<'a>(pairing: &'a Pairing<'_>) -> Vec<Change<'a>> {
    (0..pairing.original.nodes().len()).filter_map(|id| change(pairing, id)).collect()
}

fn change<'a>(pairing: &'a Pairing<'_>, node: NodeId) -> Option<Change<'a>> {
    let (kernel, _) = pairing.original.node(node).op.kernel_and_bias()?;
    let (stored, bias) = pairing.pruned.node(node).op.kernel_and_bias()?;
    let of_group = |takeover: &'a Takeover| {
        let consumer = takeover.group.consumers.iter().find(|consumer| consumer.node == node);
        consumer.map(|consumer| (takeover, consumer))
    };
    let takeover = pairing.takeovers.iter().find_map(of_group);
    let mut merged = Merged { rows: BTreeMap::new(), bias: bias_of(pairing.original.node(node)) };
    if let Some((takeover, consumer)) = takeover {
        merged.merge(pairing.original, takeover, consumer);
    }
    let difference = |row: usize| {
        let exact = merged.rows.remove(&row).unwrap_or_else(|| points(kernel.row(row).iter()));
        let stored = points(stored.row(row).iter());
        let row: Vec<Interval> =
            stored.iter().zip(exact).map(|(s, exact)| s.minus(exact)).collect();
        row.iter().any(|&weight| weight != Interval::ZERO).then_some(row)
    };
    let rows: Vec<Option<Vec<Interval>>> = (0..kernel.nrows()).map(difference).collect();
    let stored = match bias {
        Some(bias) => points(bias.iter()),
        None => vec![Interval::ZERO; merged.bias.len()],
    };
    let bias: Vec<Interval> =
        stored.iter().zip(merged.bias).map(|(s, exact)| s.minus(exact)).collect();
    let same = rows.iter().all(Option::is_none) && bias.iter().all(|&b| b == Interval::ZERO);
    (takeover.is_some() || !same).then_some(Change { node, takeover, rows, bias })
}

fn points<'a>(weights: impl Iterator<Item = &'a f32>) -> Vec<Interval> {
    weights.map(|&weight| Interval::point(f64::from(weight))).collect()
}

/// The bias of every element of the last axis.
fn bias_of(node: &Node) -> Vec<Interval> {
    let bias = node.op.kernel_and_bias().and_then(|(_, bias)| bias);
    bias.map_or_else(|| vec![Interval::ZERO; node.last_axis()], |bias| points(bias.iter()))
}

/// What merges alone make of a consumer's weights: the rows that change, and the bias.
struct Merged {
    rows: BTreeMap<usize, Vec<Interval>>,
    bias: Vec<Interval>,
}

impl Merged {
    /// Each delegate takes over what its nominees had in the original.
    fn merge(&mut self, network: &Network, takeover: &Takeover, consumer: &Consumer) {
        let Some((kernel, _)) = network.node(consumer.node).op.kernel_and_bias() else { return };
        let width = consumer.gain.len();
        let folded = Folded::of(network, &consumer.path[consumer.barrier..], width);
        let units = takeover.group.units;
        let pairs = takeover.pairs.iter().flat_map(|pair| rows_of(*pair, units, kernel.nrows()));
        for (i, j) in pairs {
            let (ratio, shift) = folded.handed_over(i % width, j % width);
            let delegate = self.rows.entry(j).or_insert_with(|| points(kernel.row(j).iter()));
            for (column, weight) in points(kernel.row(i).iter()).into_iter().enumerate() {
                delegate[column] = sum(delegate[column], times(ratio, weight));
                self.bias[column] = sum(self.bias[column], times(shift, weight));
            }
            self.rows.insert(i, vec![Interval::ZERO; kernel.ncols()]);
        }
        for row in takeover.dropped.iter().flat_map(|&unit| (unit..kernel.nrows()).step_by(units)) {
            self.rows.insert(row, vec![Interval::ZERO; kernel.ncols()]);
        }
    }
}

/// The kernel rows of a nominee, each with that of its delegate.
fn rows_of(pair: Pair, units: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows / units)
        .map(move |block| (block * units + pair.nominee, block * units + pair.delegate))
}

impl Change<'_> {
    /// What it injects, with the values of `side`.
    pub(super) fn injection(&self, side: &Side<'_>, poll: &mut Poll<'_>) -> Result<Injection> {
        let network = side.network;
        let source = network.node(self.node).sources[0];
        let mut input = Intervals::zeros(network.node(source).len());
        let mut touched = Vec::new();
        if let Some((Takeover { group, pairs, dropped }, consumer)) = self.takeover {
            let width = consumer.gain.len();
            let gain = Folded::of(network, &consumer.path[consumer.barrier..], width).scale;
            for &pair in pairs {
                poll.check()?;
                let moved = unit_difference(side, group, consumer, pair);
                for (position, moved) in moved.iter().enumerate() {
                    let element = position * group.units + pair.nominee;
                    input.set(element, times(gain[element % width], moved));
                }
                let rows = rows_of(pair, group.units, self.rows.len());
                touched.extend(rows.map(|(nominee, _)| nominee));
            }
            let read = &side.values[source];
            for &unit in dropped {
                for element in (unit..input.len()).step_by(group.units) {
                    input.set(element, times(Interval::new(-1.0, -1.0), read.get(element)));
                }
                touched.extend((unit..self.rows.len()).step_by(group.units));
            }
        }
        touched.sort_unstable();
        Ok(Injection { node: self.node, touched, input, residual: self.residual(side, poll)? })
    }

    /// The image of the residual weights.
    fn residual(&self, side: &Side<'_>, poll: &mut Poll<'_>) -> Result<Intervals> {
        let node = side.network.node(self.node);
        let values = &side.values[node.sources[0]];
        let element = |_: &mut Vec<_>, element: usize| {
            let mut total = self.bias[element % node.last_axis()];
            taps(side.network, self.node, element, |at, row, column| {
                if let Some(weights) = &self.rows[row] {
                    total = sum(total, times(weights[column], values.get(at)));
                }
            });
            total
        };
        by_element(node.len(), element, poll)
    }
}

/// Intervals of delegate minus nominee at every position of what the consumer reads, before the
/// affine maps that are folded into its weights.
fn unit_difference(side: &Side<'_>, group: &Group, consumer: &Consumer, pair: Pair) -> Intervals {
    let network = side.network;
    let before = &consumer.path[..consumer.prefix];
    let at = before.last().copied().unwrap_or(group.producer);
    let folded = Folded::of(network, before, group.units);
    let Some((kernel, _)) = network.node(group.producer).op.kernel_and_bias() else {
        return Intervals::default();
    };
    let inputs = side.values[network.node(group.producer).sources[0]].len();
    let mut moved: Intervals = (0..inputs / kernel.nrows())
        .map(|position| {
            let row = difference_row(side, group, &folded, pair, position);
            let value = |unit: usize| side.values[at].get(position * group.units + unit);
            row.intersect(value(pair.delegate).minus(value(pair.nominee)))
        })
        .collect();
    for (step, &id) in consumer.path.iter().enumerate().skip(consumer.prefix) {
        moved = along(side, group.units, id, pair, step >= consumer.barrier, &moved);
    }
    moved
}

/// `(w_j - w_i) . x + (b_j - b_i)`, both scaled and moved by the affine maps that follow.
fn difference_row(
    side: &Side<'_>,
    group: &Group,
    folded: &Folded<'_>,
    pair: Pair,
    position: usize,
) -> Interval {
    let producer = side.network.node(group.producer);
    let Some((kernel, bias)) = producer.op.kernel_and_bias() else { return Interval::UNBOUNDED };
    let inputs = &side.values[producer.sources[0]];
    let (i, j) = (pair.nominee, pair.delegate);
    let point = |weight: f32| Interval::point(f64::from(weight));
    let bias = |unit: usize| bias.map_or(Interval::ZERO, |bias| point(bias[unit]));
    let alike = folded.alike(i, j);
    // Where both units get the same map, it meets their difference.
    let scale = |unit: usize| if alike { ONE } else { folded.scale[unit] };
    let offset = |unit: usize| if alike { Interval::ZERO } else { folded.offset[unit] };
    let constant = |unit: usize| sum(times(scale(unit), bias(unit)), offset(unit));
    let mut total = constant(j).minus(constant(i));
    for (row, weights) in kernel.rows().into_iter().enumerate() {
        let left = times(scale(j), point(weights[j]));
        let right = times(scale(i), point(weights[i]));
        let x = inputs.get(position * kernel.nrows() + row);
        total = sum(total, times(left.minus(right), x));
    }
    if alike { times(folded.scale[i], total) } else { total }
}

/// The difference after node `id` of the path; both units belong to the same network.
fn along(
    side: &Side<'_>,
    units: usize,
    id: NodeId,
    pair: Pair,
    folded: bool,
    change: &Intervals,
) -> Intervals {
    let node = side.network.node(id);
    let source = node.sources[0];
    // Channels of one unit: more than one once positions were moved into the last axis.
    let copies = side.network.node(source).last_axis() / units;
    let elements =
        |position: usize| (position * units + pair.nominee, position * units + pair.delegate);
    let at = |values: &Intervals, position: usize| {
        let (i, j) = elements(position);
        (values.get(i), values.get(j))
    };
    match &node.op {
        Op::Activation(activation) => (0..change.len())
            .map(|position| {
                let (u, v) = at(&side.values[source], position);
                activation.difference(u, v, change.get(position))
            })
            .collect(),
        op @ (Op::BatchNormalization(..) | Op::Affine(_)) if !folded => {
            let maps = affine(op);
            let of = |position: usize| {
                let (i, j) = elements(position);
                let ((gi, oi), (gj, oj)) = (maps[i % maps.len()], maps[j % maps.len()]);
                let moved = times(gj, change.get(position));
                if op.treats_alike(i, j) {
                    return moved;
                }
                let (u, _) = at(&side.values[source], position);
                let moved = sum(sum(moved, gj.minus(gi).times(u)), oj.minus(oi));
                let (u, v) = at(&side.values[id], position);
                moved.intersect(v.minus(u))
            };
            (0..change.len()).map(of).collect()
        }
        Op::Pool(PoolKind::Average, _) | Op::GlobalPool(PoolKind::Average) => {
            means(&node.op, copies, change)
        }
        Op::Pool(..) | Op::GlobalPool(_) => hulls(&node.op, copies, change),
        Op::ZeroPadding(padding) => {
            let mut padded = Intervals::zeros(node.len() / units);
            for (from, to) in padding.targets().enumerate() {
                for copy in 0..copies {
                    padded.set(to * copies + copy, change.get(from * copies + copy));
                }
            }
            padded
        }
        _ => change.clone(),
    }
}

/// The mean of every window of a pooling op.
fn means(op: &Op, channels: usize, change: &Intervals) -> Intervals {
    let of = |seen: Vec<usize>| {
        let total = seen.iter().fold(Interval::ZERO, |total, &at| sum(total, change.get(at)));
        quotient(total, Interval::point(seen.len().max(1) as f64))
    };
    super::curved::windows(op, channels, change.len()).into_iter().map(of).collect()
}
