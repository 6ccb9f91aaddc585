//! What is known of the original network: its units' activations, and the order they go in.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::cholesky::{Regularised, with_ridge};
use super::config::{Selection, ValidConfig};
use super::elimination::{Reading, eliminate};
use super::metric::Metric;
use super::outgoing::Outgoing;
use super::statistics::Statistics;
use super::swept::Objective;
use crate::config::{BiasTerm, Outgoing as Measure};
use crate::error::{Error, Poll, Result};
use crate::network::{Consumer, Group, Network, NodeId};
use crate::one_shot;
use crate::saliency::Saliency;

/// A layer to be pruned.
pub(super) struct Layer {
    pub(super) group: Group,
    /// Its units in the order in which they go.
    pub(super) order: Vec<usize>,
    /// The ridge that the order took; none if it is that of saliencies.
    pub(super) ridge: Option<f64>,
    /// Why its consumers cannot be refitted, if so.
    pub(super) obstacle: Option<String>,
}

/// The original network, with its statistics.
pub(super) struct Original<'a, S> {
    pub(super) network: &'a Network,
    pub(super) statistics: S,
    pub(super) layers: Vec<Layer>,
    metrics: BTreeMap<NodeId, Metric>,
}

impl<'a, S: Statistics> Original<'a, S> {
    /// Take statistics of the nodes that are named and find every layer's order.
    pub(super) fn new(
        network: &'a Network,
        groups: Vec<Group>,
        config: &ValidConfig,
        poll: &mut Poll<'_>,
        statistics: impl FnOnce(Vec<NodeId>, &mut Poll<'_>) -> Result<S>,
    ) -> Result<Self> {
        let metrics = checked_metrics(network, &groups, &config.metrics)?;
        let consumers: Vec<NodeId> = groups
            .iter()
            .flat_map(|group| &group.consumers)
            .map(|consumer| consumer.node)
            .collect();
        let mut wanted = network.logits();
        for &consumer in &consumers {
            wanted.extend([network.node(consumer).sources[0], consumer]);
        }
        wanted.sort_unstable();
        wanted.dedup();
        let statistics = statistics(wanted, poll)?;
        let mut original = Self { network, statistics, layers: Vec::new(), metrics };
        original.check_logits()?;
        if config.logit_metric && !matches!(config.selection, Selection::Given(_)) {
            for (id, metric) in original.statistics.metrics(&consumers, poll)? {
                original.metrics.entry(id).or_insert(metric);
            }
        }
        for group in groups {
            let layer = original.layer(group, config, poll)?;
            original.layers.push(layer);
        }
        Ok(original)
    }

    /// The node that a consumer reads.
    pub(super) fn input_of(&self, consumer: &Consumer) -> NodeId {
        self.network.node(consumer.node).sources[0]
    }

    /// The weights that a consumer reads a layer's units with.
    pub(super) fn outgoing(&self, consumer: &Consumer, units: usize) -> Option<Outgoing<'a>> {
        let (kernel, _) = self.network.node(consumer.node).op.kernel_and_bias()?;
        Some(Outgoing::new(kernel.view(), units))
    }

    /// What the search looks at: one objective for each consumer.
    pub(super) fn objectives(
        &self,
        layer: &Layer,
        ridge: f64,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Objective>> {
        let (group, mut found) = (&layer.group, Vec::new());
        for consumer in &group.consumers {
            let Some(outgoing) = self.outgoing(consumer, group.units) else { continue };
            let weights = outgoing.by_unit(self.metrics.get(&consumer.node), poll)?;
            let covariance = self.statistics.covariance(consumer, group.units, poll)?;
            found.push(Objective::new(with_ridge(covariance, ridge), weights, poll)?);
        }
        Ok(found)
    }

    /// A layer with the order in which its units go, unless that is given.
    fn layer(&mut self, group: Group, config: &ValidConfig, poll: &mut Poll<'_>) -> Result<Layer> {
        let ridge = config.selection_ridge;
        let searched = matches!(config.selection, Selection::Search(_));
        if let Some(obstacle) = self.obstacle(&group) {
            let order = self.order_of_saliencies(&group, poll)?;
            return Ok(Layer { group, order, ridge: None, obstacle: Some(obstacle) });
        }
        if let Selection::Given(_) = config.selection {
            return Ok(Layer { group, order: Vec::new(), ridge: Some(ridge), obstacle: None });
        }
        let (mut readings, mut most) = (Vec::new(), ridge);
        for consumer in &group.consumers {
            let Some(outgoing) = self.outgoing(consumer, group.units) else { continue };
            let weights = outgoing.gram(self.metrics.get(&consumer.node), poll)?;
            if !searched {
                self.metrics.remove(&consumer.node);
            }
            let covariance = self.statistics.covariance(consumer, group.units, poll)?;
            let regularised = Regularised::new(covariance, ridge, poll)?;
            most = most.max(regularised.ridge);
            readings.push(Reading { inverse: regularised.factor.lower_inverse(poll)?, weights });
        }
        let least = config.fewest_kept_of_all(group.units);
        let order = eliminate(readings, least, poll)?.order;
        Ok(Layer { group, order, ridge: Some(most), obstacle: None })
    }

    /// Why a layer's consumers cannot be refitted, if so.
    fn obstacle(&self, group: &Group) -> Option<String> {
        for consumer in &group.consumers {
            let input = self.input_of(consumer);
            if !self.statistics.are_finite(input) {
                let name = &self.network.node(input).name;
                return Some(format!("{} values of '{name}' that are not finite", S::giver()));
            }
        }
        None
    }

    /// The order in which the one-shot baseline removes units.
    fn order_of_saliencies(&self, group: &Group, poll: &mut Poll<'_>) -> Result<Vec<usize>> {
        let (measure, bias) = (Measure::L2, BiasTerm::Absolute);
        let mut saliency = Saliency::new(self.network, group, measure, bias, poll)?;
        let pairs = one_shot::order(self.network, group, &mut saliency, group.units, poll)?;
        let mut order: Vec<usize> = pairs.into_iter().map(|pair| pair.nominee).collect();
        let mut gone = vec![false; group.units];
        for &unit in &order {
            gone[unit] = true;
        }
        order.extend((0..group.units).filter(|&unit| !gone[unit]));
        Ok(order)
    }

    fn check_logits(&self) -> Result<()> {
        for id in self.network.logits() {
            if !self.statistics.are_finite(id) {
                let name = &self.network.node(id).name;
                return Err(Error::Values(format!(
                    "{} logits of '{name}' that are not finite; give smaller values",
                    S::giver()
                )));
            }
        }
        Ok(())
    }
}

/// The metrics by their consumers' numbers.
fn checked_metrics(
    network: &Network,
    groups: &[Group],
    metrics: &[(String, Array2<f64>)],
) -> Result<BTreeMap<NodeId, Metric>> {
    let wrong = |name: &str, expected: String, got: String| Error::Config {
        field: "metrics",
        expected: format!("'{name}': {expected}"),
        got,
    };
    let mut found = BTreeMap::new();
    for (name, metric) in metrics {
        let id = network.find(name)?;
        let reads = |group: &Group| group.consumers.iter().any(|consumer| consumer.node == id);
        if !groups.iter().any(reads) {
            let expected = "a node that reads units of a layer that is pruned".into();
            return Err(wrong(name, expected, network.node(id).op.kind().into()));
        }
        let outputs = network.node(id).last_axis();
        if metric.ncols() != outputs || metric.iter().any(|value| !value.is_finite()) {
            let expected = format!("finite values with {outputs} columns");
            return Err(wrong(name, expected, format!("shape {:?}", metric.dim())));
        }
        found.insert(id, Metric::given(metric));
    }
    Ok(found)
}
