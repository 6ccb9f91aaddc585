//! Value intervals from the mean value theorem: the value at the box's middle plus the Jacobian,
//! enclosed as centre + box + ball, times the way from there.
//!
//! On a wide box nearly every unit switches, and the lines of CROWN are poor; a ball does not lose
//! the square root of the width at every layer.

use std::collections::HashMap;

use ndarray::Array2;

use super::Bounds;
use crate::adjoint::{Enclosure, Tools, reach};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{Dense, Network, NodeId, Op};

/// Rows that are taken back at once.
const ROWS_AT_ONCE: usize = 128;

/// What all nodes' bounds share: the values at the middle, and what is known of the weights.
pub(crate) struct MeanValue {
    middle: Bounds,
    tools: Tools,
    /// How far the deviation that arose at one node gets through one of the first layers.
    reached: HashMap<(NodeId, NodeId), f64>,
}

impl MeanValue {
    /// `middle` holds the values at a point of the box.
    pub(crate) fn new(middle: Bounds) -> Self {
        Self { middle, tools: Tools::new(true), reached: HashMap::new() }
    }

    /// Intervals of the outputs of node `id`; `values` holds those of everything before it.
    pub(crate) fn intervals(
        &mut self,
        network: &Network,
        id: NodeId,
        values: &Bounds,
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let count = network.node(id).len();
        let mut found = Intervals::default();
        for first in (0..count).step_by(ROWS_AT_ONCE) {
            let rows = ROWS_AT_ONCE.min(count - first);
            let mut identity = Array2::zeros((rows, count));
            for row in 0..rows {
                identity[[row, first + row]] = 1.0;
            }
            let moved = self.change(network, id, identity, values, poll)?;
            for (row, change) in moved.iter().enumerate() {
                let value = self.middle.of(id).get(first + row).plus(change);
                found.lower.push(value.lower);
                found.upper.push(value.upper);
            }
        }
        Ok(found)
    }

    /// Bounds of `rows . (output of node id at x - at the middle)`.
    fn change(
        &mut self,
        network: &Network,
        id: NodeId,
        rows: Array2<f64>,
        values: &Bounds,
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let mut total = Intervals::zeros(rows.nrows());
        let mut open: Vec<Option<Enclosure>> = vec![None; id + 1];
        open[id] = Some(Enclosure::exact(rows));
        for at in (0..=id).rev() {
            let Some(rows) = open[at].take() else { continue };
            if matches!(network.node(at).op, Op::Input) {
                let way = self.way(at, values);
                total = total.plus(&rows.times(0..way.len(), &way));
                continue;
            }
            if let Some((input, layer)) = first_layer(network, at) {
                let way = self.way(input, values);
                let reached = &mut self.reached;
                let mut once = |birth: NodeId, shape: &Array2<f64>, way: &[f64]| {
                    let find = || reach(shape, layer.kernel.view(), way);
                    *reached.entry((birth, at)).or_insert_with(find)
                };
                total = total.plus(&rows.through_rows(layer.kernel.view(), &way, &mut once));
                continue;
            }
            let slopes = self.slopes(network, at, values);
            let tools = &mut self.tools;
            for (source, rows) in rows.pull(network, at, slopes.as_ref(), tools, poll)? {
                open[source] = Some(match open[source].take() {
                    Some(known) => known.plus(&rows),
                    None => rows,
                });
            }
        }
        Ok(total)
    }

    /// The way from the middle to anywhere in the box of an input.
    fn way(&self, input: NodeId, values: &Bounds) -> Intervals {
        let ends = values.of(input).iter().zip(self.middle.of(input).iter());
        ends.map(|(x, middle)| x.minus(middle)).collect()
    }

    /// Secant slopes from the value at the middle, which is known to within its own rounding.
    fn slopes(&self, network: &Network, id: NodeId, values: &Bounds) -> Option<Intervals> {
        let Op::Activation(activation) = &network.node(id).op else { return None };
        let source = network.node(id).sources[0];
        let from = |(value, middle): (Interval, Interval)| {
            let over = value.hull(middle);
            activation
                .slope_range_from(middle.lower, over)
                .hull(activation.slope_range_from(middle.upper, over))
        };
        Some(values.of(source).iter().zip(self.middle.of(source).iter()).map(from).collect())
    }
}

/// A dense layer that reads an input, at one position, and that input.
fn first_layer(network: &Network, id: NodeId) -> Option<(NodeId, &Dense)> {
    let Op::Dense(layer) = &network.node(id).op else { return None };
    let mut source = network.node(id).sources[0];
    while matches!(network.node(source).op, Op::Reshape | Op::Identity) {
        source = network.node(source).sources[0];
    }
    let one_position = layer.kernel.ncols() == network.node(id).len();
    (one_position && matches!(network.node(source).op, Op::Input)).then_some((source, layer))
}
