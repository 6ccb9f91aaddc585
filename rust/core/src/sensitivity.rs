//! How the logits answer to changes inside the network: their Jacobian, enclosed for all inputs.
//!
//! A change d of a node's output moves the logits by exactly J d, where J is made of the weights
//! and of the activations' secant slopes. These lie in known intervals, so J can be enclosed once
//! for all candidates of an epoch (`docs/method.md`, "Impact").

use std::collections::HashMap;

use ndarray::Array2;

use crate::adjoint::{Enclosure, Tools};
use crate::bounds::Bounds;
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{Group, Network, NodeId, Op};

/// Most coefficients of a node that are kept for each logit on its own.
const MOST_COEFFICIENTS: usize = 1 << 26;

/// The logits' Jacobian with respect to what the consumers of some groups read.
#[derive(Debug)]
pub struct Sensitivity {
    /// By consumer: rows on the elements of its input.
    inputs: HashMap<NodeId, Enclosure>,
    /// By consumer: rows on the elements of its output.
    outputs: HashMap<NodeId, Enclosure>,
    /// Whether it encloses the Jacobian for whatever merges make of the network.
    pub(crate) holds: bool,
    logits: usize,
    /// Whether there is one row for all logits together: a bound of the sum of their sizes.
    together: bool,
}

impl Sensitivity {
    /// Enclose the Jacobian for every network that merges make of this one.
    ///
    /// Slopes are those over the whole real line where these are bounded; else those over the
    /// node's value intervals, which hold for this network only.
    pub fn of(
        network: &Network,
        groups: &[&Group],
        bounds: &Bounds,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let logits = network.logits();
        let sizes: Vec<usize> = logits.iter().map(|&id| network.node(id).len()).collect();
        let count: usize = sizes.iter().sum();
        let wanted = groups.iter().flat_map(|group| &group.consumers).map(|consumer| consumer.node);
        let mut reached = vec![false; network.nodes().len()];
        let mut kept = reached.clone();
        for group in groups {
            for &id in &group.downstream {
                reached[id] = true;
            }
        }
        for id in wanted {
            kept[id] = true;
        }
        let widest = (0..reached.len())
            .filter(|&id| reached[id])
            .map(|id| network.node(id).sources.iter().map(|&s| network.node(s).len()).sum())
            .fold(1_usize, Ord::max);
        let together = count.saturating_mul(widest) > MOST_COEFFICIENTS;
        let mut open: Vec<Option<Enclosure>> = vec![None; reached.len()];
        let mut first = 0;
        for (&id, &size) in logits.iter().zip(&sizes) {
            open[id] = Some(seed(first, size, count, together));
            first += size;
        }
        let (mut inputs, mut outputs) = (HashMap::new(), HashMap::new());
        let mut holds = true;
        let mut tools = Tools::new(false);
        for id in (0..reached.len()).rev().filter(|&id| reached[id]) {
            let Some(rows) = open[id].take() else { continue };
            let slopes = free_slopes(network, id, bounds, &mut holds);
            if kept[id] {
                outputs.insert(id, rows.clone());
            }
            let pulled = rows.pull(network, id, slopes.as_ref(), &mut tools, poll)?;
            for (source, rows) in pulled {
                if kept[id] {
                    inputs.insert(id, rows.clone());
                }
                if reached[source] {
                    open[source] = Some(match open[source].take() {
                        Some(known) => known.plus(&rows),
                        None => rows,
                    });
                }
            }
        }
        Ok(Self { inputs, outputs, holds, logits: count, together })
    }

    /// By how much the logits move when these elements of a consumer's input change so.
    pub(crate) fn change(
        &self,
        consumer: NodeId,
        elements: impl ExactSizeIterator<Item = usize> + Clone,
        change: &Intervals,
    ) -> Intervals {
        self.moved(self.inputs.get(&consumer), elements, change)
    }

    /// By how much the logits move when a consumer's output changes so.
    pub(crate) fn change_after(&self, consumer: NodeId, change: &Intervals) -> Intervals {
        self.moved(self.outputs.get(&consumer), 0..change.len(), change)
    }

    fn moved(
        &self,
        rows: Option<&Enclosure>,
        elements: impl ExactSizeIterator<Item = usize> + Clone,
        change: &Intervals,
    ) -> Intervals {
        let Some(rows) = rows else { return Intervals::zeros(self.logits) };
        let moved = rows.times(elements, change);
        if !self.together {
            return moved;
        }
        let share = moved.upper[0].max(-moved.lower[0]) / self.logits as f64;
        (0..self.logits).map(|_| Interval::new(-share, share)).collect()
    }
}

/// The identity on a head's logits, or a row that bounds the sum of the sizes of all.
fn seed(first: usize, size: usize, count: usize, together: bool) -> Enclosure {
    if together {
        return Enclosure::around_zero(Array2::ones((1, size)), vec![f64::INFINITY]);
    }
    let mut rows = Array2::zeros((count, size));
    for element in 0..size {
        rows[[first + element, element]] = 1.0;
    }
    Enclosure::exact(rows)
}

fn free_slopes(
    network: &Network,
    id: NodeId,
    bounds: &Bounds,
    holds: &mut bool,
) -> Option<Intervals> {
    let Op::Activation(activation) = &network.node(id).op else { return None };
    let anywhere = activation.slope_range(Interval::UNBOUNDED);
    let values = bounds.of(network.node(id).sources[0]);
    Some(if anywhere.is_finite() {
        values.iter().map(|_| anywhere).collect()
    } else {
        *holds = false;
        values.iter().map(|value| activation.slope_range(value)).collect()
    })
}
