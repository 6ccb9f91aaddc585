//! What a compensation wants to know of units, whatever it is taken from.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::metric::Metric;
use super::moments::Joint;
use crate::error::{Poll, Result};
use crate::network::{Consumer, Group, Network, NodeId};

/// Means and covariances of the original network's units, and of those of the network pruned so
/// far together with them.
pub(super) trait Statistics {
    /// What is known of the pruned network: what consumers read of layers that are done.
    type Known: Clone;
    /// The kept units of a layer, as a consumer reads them in the pruned network.
    type Kept;

    /// What is known before anything is pruned.
    fn known(&self) -> Self::Known;

    /// From now on these nodes, which a group's consumers read, hold these kept units in the pruned
    /// network; nothing else is known any more of the group's nodes and of what comes after them.
    fn know(&self, known: &mut Self::Known, group: &Group, inputs: Vec<(NodeId, Self::Kept)>);

    /// Whether everything that is known of a node of the original is finite.
    fn are_finite(&self, id: NodeId) -> bool;

    /// What gives such values, for messages.
    fn giver() -> &'static str;

    /// Covariance of the units that a consumer reads in the original.
    fn covariance(
        &self,
        consumer: &Consumer,
        units: usize,
        poll: &mut Poll<'_>,
    ) -> Result<Array2<f64>>;

    /// For each of the nodes what a change of it does to the logits, as far as gradients tell.
    fn metrics(&self, nodes: &[NodeId], poll: &mut Poll<'_>) -> Result<BTreeMap<NodeId, Metric>>;

    /// The kept units of a layer of `units`, as they are read at each of these nodes.
    fn kept(
        &self,
        known: &Self::Known,
        pruned: &Network,
        inputs: &[NodeId],
        units: usize,
        kept: &[usize],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Self::Kept>>;

    /// All units of the original that a consumer reads together with the kept ones: as they are
    /// `now` or, in an open loop, were. None where these are not finite.
    fn joint(
        &self,
        consumer: &Consumer,
        units: usize,
        kept: &[usize],
        now: Option<&Self::Kept>,
        poll: &mut Poll<'_>,
    ) -> Result<Option<Joint>>;

    /// For each node the sum over its values of the mean squared change, and of the variance in
    /// the original.
    fn errors_and_variances(
        &self,
        known: &Self::Known,
        pruned: &Network,
        nodes: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<(f64, f64)>>;
}
