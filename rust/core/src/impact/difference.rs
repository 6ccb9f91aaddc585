//! Sound rules for the difference of two networks, node by node (`docs/method.md`).

use crate::bounds::{Bounds, layer_normalization_reach, linear_image, pooled};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals, product};
use crate::network::{Network, NodeId, Op};

/// Differences at the nodes a merge can reach; `None` where both networks agree.
pub(crate) type Differences = Vec<Option<Intervals>>;

/// Propagate from the nodes that already have a difference through `nodes`, in that order.
///
/// `after` are the value intervals of the new network where they are known; a node's new value is
/// otherwise its old one plus the difference.
pub(crate) fn propagate(
    network: &Network,
    nodes: &[NodeId],
    differences: &mut Differences,
    before: &Bounds,
    after: Option<&Bounds>,
    poll: &mut Poll<'_>,
) -> Result<()> {
    for &id in nodes {
        if differences[id].is_none() {
            differences[id] = at_node(network, id, differences, before, after, poll)?;
        }
        if let (Some(after), Some(difference)) = (after, differences[id].as_mut()) {
            narrow(difference, before.of(id), after.of(id));
        }
    }
    Ok(())
}

/// Intersect a difference with the difference of the two value intervals.
fn narrow(difference: &mut Intervals, before: &Intervals, after: &Intervals) {
    for index in 0..difference.len() {
        let by_value = after.get(index).minus(before.get(index));
        difference.set(index, difference.get(index).intersect(by_value));
    }
}

/// The difference at a node that no merge injects anything into.
pub(crate) fn difference_at(
    network: &Network,
    id: NodeId,
    differences: &Differences,
    before: &Bounds,
    after: &Bounds,
    poll: &mut Poll<'_>,
) -> Result<Option<Intervals>> {
    if matches!(network.node(id).op, Op::Input) {
        return Ok(None);
    }
    at_node(network, id, differences, before, Some(after), poll)
}

fn at_node(
    network: &Network,
    id: NodeId,
    differences: &Differences,
    before: &Bounds,
    after: Option<&Bounds>,
    poll: &mut Poll<'_>,
) -> Result<Option<Intervals>> {
    let node = network.node(id);
    if node.sources.iter().all(|&s| differences[s].as_ref().is_none_or(Intervals::is_zero)) {
        return Ok(None);
    }
    let zeros: Vec<Intervals> = node
        .sources
        .iter()
        .map(|&s| match differences[s] {
            Some(_) => Intervals::default(),
            None => Intervals::zeros(network.node(s).len()),
        })
        .collect();
    let sources: Vec<&Intervals> = node
        .sources
        .iter()
        .zip(&zeros)
        .map(|(&s, zero)| differences[s].as_ref().unwrap_or(zero))
        .collect();
    if let Some(image) = linear_image(network, id, &sources, false, poll)? {
        return Ok(Some(image));
    }
    let source = node.sources[0];
    let channels = network.node(source).last_axis();
    let (old, change) = (before.of(source), sources[0]);
    Ok(Some(match &node.op {
        Op::Activation(activation) => (0..change.len())
            .map(|element| {
                let (u, d) = (old.get(element), change.get(element));
                let v = after.map_or_else(|| u.plus(d), |after| after.of(source).get(element));
                activation.difference(u, v, d)
            })
            .collect(),
        Op::Softmax => softmax(change, channels),
        Op::LayerNormalization(norm) => {
            let gamma = |c: usize| norm.gamma.as_ref().map_or(1.0, |gamma| f64::from(gamma[c]));
            layer_normalization(change, channels, norm.epsilon, &gamma)
        }
        Op::Pool(..) | Op::GlobalPool(_) => pooled(&node.op, channels, change, &hull),
        _ => Intervals::unbounded(node.len()),
    }))
}

/// The maximum is non-expansive: its difference lies between the least and the largest one.
pub(crate) fn hull(differences: &mut dyn Iterator<Item = Interval>) -> Interval {
    differences.reduce(Interval::hull).unwrap_or(Interval::ZERO)
}

/// `|p'_k - p_k| <= tanh(tau_k / 4)`, `tau_k` the most by which logit k moves against another.
fn softmax(change: &Intervals, classes: usize) -> Intervals {
    (0..change.len())
        .map(|element| {
            let first = element / classes * classes;
            let others = (first..first + classes).filter(|&other| other != element);
            let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
            for other in others {
                lowest = lowest.min(change.lower[other]);
                highest = highest.max(change.upper[other]);
            }
            let tau = (change.upper[element] - lowest).max(highest - change.lower[element]);
            let bound = if classes < 2 { 0.0 } else { libm::tanh(tau.max(0.0) / 4.0) };
            Interval::new(-bound, bound).widened(8.0)
        })
        .collect()
}

/// The smaller of twice the reach of any normalized element and the Lipschitz bound
/// `||d||_2 / sqrt(epsilon)`.
fn layer_normalization(
    change: &Intervals,
    width: usize,
    epsilon: f64,
    gamma: &dyn Fn(usize) -> f64,
) -> Intervals {
    let reach = 2.0 * layer_normalization_reach(width);
    (0..change.len())
        .map(|element| {
            let first = element / width * width;
            let squares = (first..first + width).map(|other| change.get(other)).map(|difference| {
                let largest = difference.lower.abs().max(difference.upper.abs());
                largest * largest
            });
            let lipschitz = (squares.sum::<f64>() / epsilon).sqrt() * (1.0 + 1e-12);
            let bound = product(reach.min(lipschitz), gamma(element % width).abs());
            Interval::new(-bound, bound)
        })
        .collect()
}
