//! Impact: how far merging pairs of units can move the logits, for every legitimate input (eq. 3).

mod difference;
mod known;
mod pair;
mod row;
mod row_sums;

use ndarray::Array2;

use crate::adjoint::Columns;
use crate::bounds::linear::sparse_rows;
use crate::bounds::{Bounds, linear_image};
use crate::config::Change;
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{Consumer, Group, Network, NodeId, Op};
use crate::sensitivity::Sensitivity;
use crate::tasks;

pub(crate) use difference::difference_at;
use difference::{Differences, propagate};
pub use known::KnownRows;
use pair::PairDifference;

/// Changes of single elements carried to the logits between two polls.
const CHANGES_PER_POLL: usize = 4096;
/// Multiplications for columns of the Jacobian between two polls.
const PRODUCTS_PER_POLL: usize = 1 << 30;

/// A nominee and its delegate, by their unit numbers in the original layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The unit that goes.
    pub nominee: usize,
    /// The unit that takes over its outgoing weights.
    pub delegate: usize,
}

/// By how much rows of a consumer's kernel, as stored, differ from the exact result of a merge.
#[derive(Debug, Clone)]
pub struct Rounding {
    /// The consumer.
    pub node: NodeId,
    /// The numbers of the rows.
    pub rows: Vec<usize>,
    /// Stored minus exact, one row each.
    pub weights: Array2<f64>,
    /// Stored minus exact, for the bias.
    pub bias: Vec<f64>,
}

impl Rounding {
    /// What it does to the consumer's output.
    pub(crate) fn image(&self, network: &Network, values: &Bounds) -> Intervals {
        let node = network.node(self.node);
        let input = values.of(node.sources[0]);
        let positions = node.len() / node.last_axis();
        let element = self.places(network);
        sparse_rows(positions, &self.rows, &self.weights, &self.bias, &element, input)
    }

    /// The input element under a kernel row at a position (`None`: zero padding).
    pub(crate) fn places<'a>(
        &self,
        network: &'a Network,
    ) -> impl Fn(usize, usize) -> Option<usize> + 'a {
        let node = network.node(self.node);
        let width = network.node(node.sources[0]).last_axis();
        move |position: usize, row: usize| match &node.op {
            Op::Conv(conv) => {
                let at = conv.window.input_position(position, row / width)?;
                Some(at * width + row % width)
            }
            _ => Some(position * width + row),
        }
    }
}

/// What merges do to one consumer.
pub(crate) struct Injection {
    /// The consumer.
    pub(crate) consumer: NodeId,
    /// Units of the layer whose merges they are.
    pub(crate) units: usize,
    /// The units that went, ascending.
    pub(crate) nominees: Vec<usize>,
    /// By how much what its original kernel reads changes.
    pub(crate) input: Intervals,
    /// What its stored weights add beyond that.
    pub(crate) residual: Intervals,
}

/// What merges of a group inject, made by [`inject`].
#[derive(Debug, Clone)]
pub struct Injected {
    /// Differences right after the consumers.
    differences: Differences,
    /// What that does to the logits by the Jacobian, if one that holds was given.
    by_jacobian: Option<Intervals>,
}

/// What candidates are scored by.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// What is taken for the change of a unit's value.
    pub change: Change,
    /// Value intervals of the network.
    pub bounds: &'a Bounds,
    /// Its Jacobian.
    pub sensitivity: &'a Sensitivity,
}

/// The impact of each pair alone, on the logits side by side; the network stays as it is.
///
/// With [`Change::Interval`] it holds for every input as far as the sensitivity does; the others
/// are estimates of its size.
pub fn candidates(
    network: &Network,
    group: &Group,
    pairs: &[Pair],
    scoring: Scoring<'_>,
    known: &mut KnownRows,
    poll: &mut Poll<'_>,
) -> Result<Vec<Intervals>> {
    let Scoring { change, bounds, sensitivity } = scoring;
    let moments = change != Change::Interval;
    known.keep(pairs);
    let per_consumer = pair_differences(network, group, pairs, bounds, (known, moments), poll)?;
    let numbers: Vec<usize> = (0..pairs.len()).collect();
    let mut impacts = Vec::with_capacity(pairs.len());
    let positions = per_consumer.iter().flatten().map(|pair| pair.positions.len()).max();
    let operations = 16 * sensitivity.logits() * positions.unwrap_or(1);
    // What the candidates' columns of the Jacobian take counts too.
    let widest = group.consumers.iter().map(|read| network.node(read.node).last_axis()).max();
    let columns = sensitivity.logits().saturating_mul(widest.unwrap_or(1)).max(1);
    let at_once =
        (CHANGES_PER_POLL / positions.unwrap_or(1).max(1)).min(PRODUCTS_PER_POLL / columns).max(4);
    for batch in numbers.chunks(at_once) {
        poll.check()?;
        let nominees: Vec<usize> = batch.iter().map(|&number| pairs[number].nominee).collect();
        let columns: Vec<Option<Columns>> = group
            .consumers
            .iter()
            .map(|consumer| sensitivity.columns(network, consumer.node, &nominees))
            .collect();
        let impact = |place: usize| {
            let number = batch[place];
            let consumers = group.consumers.iter().zip(&per_consumer).zip(&columns);
            let parts = consumers.map(|((consumer, pairs), columns)| {
                let pair = &pairs[number];
                let input = change_of(consumer, group.units, pair, change);
                if let Some(columns) = columns {
                    return sensitivity.change_of_unit(columns, place, input.get(0));
                }
                let elements = (0..input.len()).map(|at| at * group.units + pair.nominee);
                sensitivity.change_of(consumer.node, elements, &input)
            });
            parts.reduce(|sum, part| sum.plus(&part)).unwrap_or_default()
        };
        impacts.extend(tasks::map(batch.len(), operations, impact));
    }
    Ok(impacts)
}

/// By how much the nominee's elements of a consumer's input change, position by position.
fn change_of(
    consumer: &Consumer,
    units: usize,
    pair: &PairDifference,
    change: Change,
) -> Intervals {
    let width = consumer.gain.len();
    let around_zero = |size: f64| Interval::new(-size, size);
    let by_position = pair.positions.iter().enumerate().map(|(position, difference)| {
        let difference = match change {
            Change::Interval => difference,
            Change::Distance => around_zero(pair.distance),
            Change::Moment => around_zero(*pair.moments.get(position).unwrap_or(&pair.moments[0])),
        };
        difference.scaled(consumer.gain[(position * units + pair.nominee) % width]).widened(16.0)
    });
    by_position.collect()
}

/// The differences that merging all pairs at once makes right after the consumers.
///
/// `network` and `before` are those without the merges; the delegates are those that are left in
/// the end. With the Jacobian of the network without the merges its bounds are intersected later.
pub fn inject(
    network: &Network,
    group: &Group,
    pairs: &[Pair],
    before: &Bounds,
    (sensitivity, known): (Option<&Sensitivity>, &mut KnownRows),
    poll: &mut Poll<'_>,
) -> Result<Injected> {
    let inputs = consumer_inputs(network, group, pairs, (before, known), poll)?;
    let differences = injected(network, group, &inputs, poll)?;
    let sensitivity = sensitivity.filter(|sensitivity| sensitivity.holds);
    let by_jacobian = sensitivity.and_then(|sensitivity| {
        let consumers = group.consumers.iter().zip(&inputs);
        let moved = consumers.map(|(read, input)| sensitivity.change(network, read.node, input));
        moved.reduce(|sum, part| sum.plus(&part))
    });
    Ok(Injected { differences, by_jacobian })
}

/// What is known around some merges.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Value intervals without them.
    pub before: &'a Bounds,
    /// Value intervals with them.
    pub after: &'a Bounds,
    /// The Jacobian of the network without them, if [`inject`] was given it.
    pub sensitivity: Option<&'a Sensitivity>,
}

/// The impact of injected merges on the logits side by side.
///
/// A merge changes nothing after its consumers, so `network` may have the merges or not;
/// `roundings` tells by how much the merged weights, as they are stored, differ from the exact
/// ones.
pub fn joint(
    network: &Network,
    group: &Group,
    injected: Injected,
    roundings: &[Rounding],
    step: &Step<'_>,
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let Step { before, after, sensitivity } = *step;
    let Injected { mut differences, mut by_jacobian } = injected;
    for rounding in roundings {
        let moved = rounding.image(network, after);
        if let (Some(sensitivity), Some(sum)) = (sensitivity, &mut by_jacobian) {
            *sum = sum.plus(&sensitivity.change_after(rounding.node, &moved));
        }
        if let Some(difference) = &mut differences[rounding.node] {
            *difference = difference.plus(&moved);
        }
    }
    propagate(network, &group.downstream, &mut differences, before, Some(after), poll)?;
    let forward = at_logits(network, &network.logits(), &differences);
    Ok(match by_jacobian {
        None => forward,
        Some(other) => forward.iter().zip(other.iter()).map(|(a, b)| a.intersect(b)).collect(),
    })
}

/// For each consumer, the change of what its original kernel reads when all pairs are merged.
pub(crate) fn consumer_inputs(
    network: &Network,
    group: &Group,
    pairs: &[Pair],
    (values, known): (&Bounds, &mut KnownRows),
    poll: &mut Poll<'_>,
) -> Result<Vec<Intervals>> {
    let per_consumer = pair_differences(network, group, pairs, values, (known, false), poll)?;
    let of = |(consumer, pairs): (&Consumer, &Vec<PairDifference>)| {
        consumer_input(network, group, consumer, pairs)
    };
    Ok(group.consumers.iter().zip(&per_consumer).map(of).collect())
}

/// For each consumer, the difference delegate - nominee of each pair as the consumer sees it.
///
/// What is not `known` yet is found, with moments if they are asked for.
fn pair_differences(
    network: &Network,
    group: &Group,
    pairs: &[Pair],
    bounds: &Bounds,
    (known, moments): (&mut KnownRows, bool),
    poll: &mut Poll<'_>,
) -> Result<Vec<Vec<PairDifference>>> {
    let mut found = Vec::with_capacity(group.consumers.len());
    for (number, consumer) in group.consumers.iter().enumerate() {
        let missing = known.missing(number, pairs, moments);
        let all = known.moments();
        let rows = pair::rows(network, group, consumer, &missing, bounds, all, poll)?;
        known.add(number, missing, rows);
        let rows = |pair| known.of(number, pair);
        found.push(pair::differences(network, group, consumer, pairs, bounds, &rows));
    }
    Ok(found)
}

/// The differences right after the consumers' kernels.
fn injected(
    network: &Network,
    group: &Group,
    inputs: &[Intervals],
    poll: &mut Poll<'_>,
) -> Result<Differences> {
    let mut differences: Differences = vec![None; network.nodes().len()];
    for (consumer, input) in group.consumers.iter().zip(inputs) {
        differences[consumer.node] = linear_image(network, consumer.node, &[input], false, poll)?;
    }
    Ok(differences)
}

/// What the consumer's original kernel would have to read for the same change of its output.
fn consumer_input(
    network: &Network,
    group: &Group,
    consumer: &Consumer,
    pairs: &[PairDifference],
) -> Intervals {
    let source = network.node(consumer.node).sources[0];
    let mut input = Intervals::zeros(network.node(source).len());
    for pair in pairs {
        let changes = change_of(consumer, group.units, pair, Change::Interval);
        for (position, change) in changes.iter().enumerate() {
            input.set(position * group.units + pair.nominee, change);
        }
    }
    input
}

pub(crate) fn at_logits(
    network: &Network,
    logits: &[NodeId],
    differences: &Differences,
) -> Intervals {
    let mut side_by_side = Intervals::default();
    for &id in logits {
        let unchanged = Intervals::zeros(network.node(id).len());
        let difference = differences[id].as_ref().unwrap_or(&unchanged);
        side_by_side.lower.extend_from_slice(&difference.lower);
        side_by_side.upper.extend_from_slice(&difference.upper);
    }
    side_by_side
}
