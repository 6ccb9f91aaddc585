//! Statistics of units from their values on samples.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::metric;
use super::moments::{Joint, Units};
use super::statistics::Statistics;
use crate::error::{Error, Poll, Result};
use crate::forward::{Feeds, forward};
use crate::network::{Consumer, Network, NodeId, Op};

/// The original network's values on the samples.
pub(super) struct Sampled<'a> {
    network: &'a Network,
    feeds: &'a Feeds,
    values: BTreeMap<NodeId, Array2<f32>>,
}

impl<'a> Sampled<'a> {
    /// Run the samples through the network to the `wanted` nodes.
    pub(super) fn new(
        network: &'a Network,
        feeds: &'a Feeds,
        wanted: Vec<NodeId>,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        if feeds.samples() < 2 {
            let found = feeds.samples();
            return Err(Error::Values(format!("expected at least two samples, got {found}")));
        }
        let found = forward(network, feeds, &wanted, poll)?;
        Ok(Self { network, feeds, values: wanted.into_iter().zip(found).collect() })
    }

    /// The original's values of what a consumer reads.
    fn read_by(&self, consumer: &Consumer) -> &Array2<f32> {
        &self.values[&self.network.node(consumer.node).sources[0]]
    }

    /// Units, of which `kept` are there, laid out place by place.
    ///
    /// At a zero-padded border a constant correction would be wrong: such consumers get none.
    fn laid_out<'v>(
        &self,
        consumer: &Consumer,
        units: usize,
        values: &'v Array2<f32>,
        kept: usize,
    ) -> Result<Units<'v>> {
        let node = self.network.node(consumer.node);
        let width = self.network.node(node.sources[0]).last_axis() / units * kept;
        let padded = matches!(&node.op, Op::Conv(conv) if conv.window.is_padded());
        Units::new(values.view(), width, kept, !padded).ok_or_else(|| Error::Graph {
            node: node.name.clone(),
            problem: format!("its input does not hold {units} units"),
        })
    }
}

impl Statistics for Sampled<'_> {
    type Known = Feeds;
    type Kept = Array2<f32>;

    fn known(&self) -> Feeds {
        self.feeds.clone()
    }

    fn know(known: &mut Feeds, id: NodeId, kept: Array2<f32>) {
        known.know(id, kept);
    }

    fn are_finite(&self, id: NodeId) -> bool {
        self.values[&id].iter().all(|value| value.is_finite())
    }

    fn giver() -> &'static str {
        "the samples give"
    }

    fn covariance(&self, consumer: &Consumer, units: usize) -> Result<Array2<f64>> {
        Ok(self.laid_out(consumer, units, self.read_by(consumer), units)?.covariance())
    }

    fn metrics(
        &self,
        nodes: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<BTreeMap<NodeId, Array2<f64>>> {
        let found = metric::of_logits(self.network, self.feeds, nodes, poll)?;
        Ok(found.unwrap_or_default())
    }

    fn kept(
        &self,
        known: &Feeds,
        pruned: &Network,
        inputs: &[NodeId],
        units: usize,
        kept: &[usize],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Array2<f32>>> {
        let values = forward(pruned, known, inputs, poll)?;
        Ok(values.into_iter().map(|values| of_units(&values, units, kept)).collect())
    }

    fn joint(
        &self,
        consumer: &Consumer,
        units: usize,
        kept: &[usize],
        now: Option<&Array2<f32>>,
    ) -> Result<Option<Joint>> {
        let all = self.read_by(consumer);
        let own = now.is_none().then(|| of_units(all, units, kept));
        let Some(values) = now.or(own.as_ref()) else { return Ok(None) };
        let known = self.laid_out(consumer, units, values, kept.len())?;
        let target = self.laid_out(consumer, units, all, units)?;
        Ok(known.are_finite().then(|| Joint::of(&target, &known)))
    }

    fn errors_and_variances(
        &self,
        known: &Feeds,
        pruned: &Network,
        nodes: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<(f64, f64)>> {
        let values = forward(pruned, known, nodes, poll)?;
        let each = nodes.iter().zip(&values).map(|(&id, values)| {
            error_and_variance(&self.values[&id], values, self.network.node(id).last_axis())
        });
        Ok(each.collect())
    }
}

/// The values of the elements that belong to kept units.
fn of_units(values: &Array2<f32>, units: usize, kept: &[usize]) -> Array2<f32> {
    let blocks = 0..values.ncols() / units;
    let elements: Vec<usize> =
        blocks.flat_map(|block| kept.iter().map(move |&unit| block * units + unit)).collect();
    // A selection of columns comes out column by column; samples are kept row by row.
    values.select(Axis(1), &elements).as_standard_layout().into_owned()
}

/// Sum over the last axis of the mean squared difference, and of the variance of `before`.
fn error_and_variance(before: &Array2<f32>, after: &Array2<f32>, width: usize) -> (f64, f64) {
    let (rows, width) = (before.len() / width.max(1), width.max(1));
    let shaped = |values: &Array2<f32>| -> Option<Array2<f64>> {
        let view: ArrayView2<'_, f32> = values.view().into_shape_with_order((rows, width)).ok()?;
        Some(view.mapv(f64::from))
    };
    let (Some(before), Some(after)) = (shaped(before), shaped(after)) else { return (0.0, 0.0) };
    let error = (&after - &before).mapv(|gap| gap * gap).sum() / rows as f64;
    let means = before.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(width));
    let variance = (&before - &means).mapv(|gap| gap * gap).sum() / rows as f64;
    (error, variance)
}
