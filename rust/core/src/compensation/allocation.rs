//! How many units each layer keeps, when some layers can spare more than others.

use super::config::ValidConfig;
use super::original::{Layer, Original};
use super::prefix::Prefix;
use super::statistics::Statistics;
use crate::config::kept_units;
use crate::error::{Poll, Result};
use crate::network::Node;

/// Share of a layer's units that goes at a time.
const STEP: usize = 32;

/// The units that each layer keeps when all lose the same fraction.
pub(super) fn uniform(layers: &[Layer], target: f64, multiple: usize) -> Vec<usize> {
    layers.iter().map(|layer| kept_units(layer.group.units, target, multiple)).collect()
}

/// The layer's units that are left when `count` of them stay, ascending.
pub(super) fn kept_of(layer: &Layer, count: usize) -> Vec<usize> {
    let mut kept = layer.order[layer.order.len() - count..].to_vec();
    kept.sort_unstable();
    kept
}

/// Take units where the outputs' error grows least for the parameters saved, until no more
/// parameters are left than `uniform` pruning leaves.
///
/// Errors are those of the whole network with everything refitted: a layer's own loss says little
/// about what becomes of it in those after it.
pub(super) fn propagated<S: Statistics>(
    original: &Original<'_, S>,
    target: f64,
    config: &ValidConfig,
    poll: &mut Poll<'_>,
) -> Result<Vec<usize>> {
    let layers = &original.layers;
    let multiple = config.width_multiple;
    let goal = parameters(original, &uniform(layers, target, multiple));
    let least: Vec<usize> =
        layers.iter().map(|layer| config.fewest_kept(layer.group.units, target)).collect();
    let mut counts: Vec<usize> = layers.iter().map(|layer| layer.group.units).collect();
    let mut prefixes = vec![Prefix::new(original)];
    let mut error = 0.0;
    while parameters(original, &counts) > goal {
        extend(original, &mut prefixes, &counts, config, poll)?;
        let now = parameters(original, &counts);
        let mut best: Option<(f64, usize, usize, f64)> = None;
        for at in 0..layers.len() {
            let Some(fewer) = next_count(layers[at].group.units, counts[at], least[at], multiple)
            else {
                continue;
            };
            let mut tried = counts.clone();
            tried[at] = fewer;
            let found = error_of(original, &prefixes[at], at, &tried, config, poll)?;
            let saved = (now - parameters(original, &tried)).max(1) as f64;
            let price = (found - error) / saved;
            let price = if price.is_nan() { f64::INFINITY } else { price };
            if best.is_none_or(|(cheapest, ..)| price.total_cmp(&cheapest).is_lt()) {
                best = Some((price, at, fewer, found));
            }
        }
        let Some((_, at, fewer, found)) = best else { break };
        counts[at] = fewer;
        error = found;
        prefixes.truncate(at + 1);
    }
    Ok(counts)
}

/// The next smaller number of units, if the layer may lose more.
fn next_count(units: usize, count: usize, least: usize, multiple: usize) -> Option<usize> {
    let step = units.div_ceil(STEP).next_multiple_of(multiple);
    let rounded = count.saturating_sub(step).next_multiple_of(multiple);
    (count > least).then(|| rounded.min(count - 1).max(least))
}

/// Prune layer after layer, until there is a prefix before each layer.
fn extend<S: Statistics>(
    original: &Original<'_, S>,
    prefixes: &mut Vec<Prefix<S>>,
    counts: &[usize],
    config: &ValidConfig,
    poll: &mut Poll<'_>,
) -> Result<()> {
    while prefixes.len() < original.layers.len() {
        let at = prefixes.len() - 1;
        let mut next = prefixes[at].clone();
        let layer = &original.layers[at];
        next.fit(original, layer, &kept_of(layer, counts[at]), config, poll)?;
        prefixes.push(next);
    }
    Ok(())
}

/// The error at the logits with the layers from `first` on pruned to `counts`.
fn error_of<S: Statistics>(
    original: &Original<'_, S>,
    before: &Prefix<S>,
    first: usize,
    counts: &[usize],
    config: &ValidConfig,
    poll: &mut Poll<'_>,
) -> Result<f64> {
    let mut network = before.clone();
    for (layer, &count) in original.layers.iter().zip(counts).skip(first) {
        network.fit(original, layer, &kept_of(layer, count), config, poll)?;
    }
    network.error_at(original, &original.network.logits(), poll)
}

/// Parameters of the network when each layer keeps that many units.
fn parameters<S>(original: &Original<'_, S>, counts: &[usize]) -> usize {
    let nodes = original.network.nodes().iter().enumerate();
    let of = |(id, node): (usize, &Node)| {
        let (mut rows, mut columns) = match node.op.kernel_and_bias() {
            Some((kernel, _)) => (kernel.nrows(), kernel.ncols()),
            None => (0, node.parameters()),
        };
        let biases = usize::from(matches!(node.op.kernel_and_bias(), Some((_, Some(_)))));
        for (layer, &count) in original.layers.iter().zip(counts) {
            let group = &layer.group;
            if group.producer == id {
                columns = count;
            }
            if group.consumers.iter().any(|consumer| consumer.node == id) {
                rows = rows / group.units * count;
            }
            if group.consumers.iter().any(|consumer| consumer.path.contains(&id)) {
                columns = columns / group.units * count;
            }
        }
        if node.op.kernel_and_bias().is_some() { (rows + biases) * columns } else { columns }
    };
    nodes.map(of).sum()
}
