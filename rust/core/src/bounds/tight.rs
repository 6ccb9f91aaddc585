//! The tightest value intervals that are known: every method's, intersected.

use std::sync::Arc;

use super::mean_value::MeanValue;
use super::{Bounds, InputBox, backward};
use crate::adjoint::is_linear;
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{Network, NodeId, Op};

/// Which bounds are computed beside plain intervals, and how much they may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tightening {
    /// The mean value theorem from the box's middle: best on wide boxes.
    pub mean_value: bool,
    /// Lines taken back to the inputs (CROWN): best in small balls.
    pub backward: bool,
    /// Most multiplications for one node; where it would take more, plain intervals are kept.
    pub most_multiplications: f64,
}

impl Default for Tightening {
    fn default() -> Self {
        Self { mean_value: true, backward: true, most_multiplications: 2e11 }
    }
}

impl Bounds {
    /// Propagate the box with the bounds of `tightening` intersected at every node that matters:
    /// those an activation or another nonlinear op reads, and the logits.
    pub fn tight(
        network: &Network,
        input_box: &InputBox,
        tightening: Tightening,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let everything = vec![true; network.nodes().len()];
        let middle = input_box.middle();
        let middle = Self::propagate(network, &middle, &everything, poll)?;
        let mut mean_value = MeanValue::new(middle);
        let mut bounds = Self { values: vec![None; everything.len()] };
        let curved = curved_before(network);
        let mut boxes = input_box.0.iter();
        for (id, node) in network.nodes().iter().enumerate() {
            if matches!(node.op, Op::Input) {
                bounds.values[id] = boxes.next().map(Arc::clone);
                continue;
            }
            let mut value = bounds.value_of(network, id, poll)?;
            if curved[id]
                && matters(network, id)
                && cost(network, id) <= tightening.most_multiplications
            {
                if tightening.mean_value {
                    narrow(&mut value, &mean_value.intervals(network, id, &bounds, poll)?);
                }
                if tightening.backward {
                    narrow(&mut value, &backward::intervals(network, id, &bounds, poll)?);
                }
            }
            bounds.values[id] = Some(Arc::new(value));
        }
        Ok(bounds)
    }
}

/// Intersect, keeping the first where nothing is known or rounding keeps the two apart.
fn narrow(value: &mut Intervals, other: &Intervals) {
    for index in 0..value.len() {
        let both = Interval::new(
            value.lower[index].max(other.lower[index]),
            value.upper[index].min(other.upper[index]),
        );
        if both.lower <= both.upper {
            value.set(index, both);
        }
    }
}

/// Whether anything but linear ops lies between the inputs and a node.
pub(crate) fn curved_before(network: &Network) -> Vec<bool> {
    let mut curved = vec![false; network.nodes().len()];
    for (id, node) in network.nodes().iter().enumerate() {
        curved[id] = node.sources.iter().any(|&source| {
            curved[source]
                || !(is_linear(&network.node(source).op)
                    || matches!(network.node(source).op, Op::Input))
        });
    }
    curved
}

/// Whether a node is linear and something that is not reads it, or it is a logit.
pub(crate) fn matters(network: &Network, id: NodeId) -> bool {
    if !is_linear(&network.node(id).op) {
        return false;
    }
    let logits = network.logits();
    logits.contains(&id)
        || network
            .nodes()
            .iter()
            .any(|reader| reader.sources.contains(&id) && !is_linear(&reader.op))
}

/// Multiplications of taking every element of a node back to the inputs, twice.
pub(crate) fn cost(network: &Network, id: NodeId) -> f64 {
    let mut marked = vec![false; network.nodes().len()];
    marked[id] = true;
    let before = network.ancestors_of(&marked);
    let macs: usize = (0..=id).filter(|&at| before[at]).map(|at| network.macs(at)).sum();
    2.0 * network.node(id).len() as f64 * macs as f64
}
