//! Statistics of units from their values on samples.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Slice, Zip};

use super::metric::{self, Metric};
use super::moments::{Joint, Units};
use super::statistics::Statistics;
use crate::error::{Error, Poll, Result};
use crate::forward::{Feeds, for_each_chunk, forward};
use crate::network::{Consumer, Group, Network, NodeId, Op};

/// The original network's values on the samples.
pub(super) struct Sampled<'a> {
    network: &'a Network,
    feeds: &'a Feeds<'a>,
    /// What was given and, of the wanted nodes, what the network makes of it.
    values: Feeds<'a>,
    readers: Vec<Vec<NodeId>>,
}

impl<'a> Sampled<'a> {
    /// Run the samples through the network to the `wanted` nodes.
    pub(super) fn new(
        network: &'a Network,
        feeds: &'a Feeds<'a>,
        wanted: Vec<NodeId>,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        if feeds.samples() < 2 {
            let found = feeds.samples();
            return Err(Error::Values(format!("expected at least two samples, got {found}")));
        }
        let found = forward(network, feeds, &wanted, poll)?;
        let mut values = feeds.clone();
        for (id, found) in wanted.into_iter().zip(found) {
            values.know(id, found);
        }
        Ok(Self { network, feeds, values, readers: network.readers() })
    }

    /// The original's values of a node that was wanted.
    fn of(&self, id: NodeId) -> ArrayView2<'_, f32> {
        self.values.of(id).expect("statistics are asked for of wanted nodes")
    }

    /// The original's values of what a consumer reads.
    fn read_by(&self, consumer: &Consumer) -> ArrayView2<'_, f32> {
        self.of(self.network.node(consumer.node).sources[0])
    }

    /// Units, of which `kept` are there, laid out place by place.
    ///
    /// At a zero-padded border a constant correction would be wrong: such consumers get none.
    fn laid_out<'v>(
        &self,
        consumer: &Consumer,
        units: usize,
        values: ArrayView2<'v, f32>,
        kept: usize,
    ) -> Result<Units<'v>> {
        let node = self.network.node(consumer.node);
        let width = self.network.node(node.sources[0]).last_axis() / units * kept;
        let padded = matches!(&node.op, Op::Conv(conv) if conv.window.is_padded());
        Units::new(values, width, kept, !padded).ok_or_else(|| Error::Graph {
            node: node.name.clone(),
            problem: format!("its input does not hold {units} units"),
        })
    }
}

impl<'a> Statistics for Sampled<'a> {
    /// Values that are the same in the pruned network, or were computed in it.
    type Known = Feeds<'a>;
    type Kept = Array2<f32>;

    fn known(&self) -> Feeds<'a> {
        self.values.clone()
    }

    fn know(&self, known: &mut Feeds<'a>, group: &Group, inputs: Vec<(NodeId, Array2<f32>)>) {
        let mut behind = vec![false; self.readers.len()];
        behind[group.producer] = true;
        for id in group.producer..behind.len() {
            if behind[id] {
                self.readers[id].iter().for_each(|&reader| behind[reader] = true);
            }
        }
        known.forget(|id| behind[id]);
        for (id, values) in inputs {
            known.know(id, values);
        }
    }

    fn are_finite(&self, id: NodeId) -> bool {
        self.of(id).iter().all(|value| value.is_finite())
    }

    fn giver() -> &'static str {
        "the samples give"
    }

    fn covariance(
        &self,
        consumer: &Consumer,
        units: usize,
        poll: &mut Poll<'_>,
    ) -> Result<Array2<f64>> {
        self.laid_out(consumer, units, self.read_by(consumer), units)?.covariance(poll)
    }

    fn metrics(&self, nodes: &[NodeId], poll: &mut Poll<'_>) -> Result<BTreeMap<NodeId, Metric>> {
        let first = nodes.iter().copied().min().unwrap_or_default();
        let mut known = self.values.clone();
        known.forget(|id| id >= first && !self.feeds.contains(id));
        metric::of_logits(self.network, self.feeds, &known, nodes, poll)
    }

    fn kept(
        &self,
        known: &Feeds<'a>,
        pruned: &Network,
        inputs: &[NodeId],
        units: usize,
        kept: &[usize],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Array2<f32>>> {
        let unknown: Vec<NodeId> =
            inputs.iter().copied().filter(|&id| !known.contains(id)).collect();
        let mut computed = forward(pruned, known, &unknown, poll)?.into_iter();
        let each = inputs.iter().map(|&id| match known.of(id) {
            Some(values) => Some(of_units(values, units, kept)),
            None => computed.next().map(|values| of_units(values.view(), units, kept)),
        });
        Ok(each.flatten().collect())
    }

    fn joint(
        &self,
        consumer: &Consumer,
        units: usize,
        kept: &[usize],
        now: Option<&Array2<f32>>,
        poll: &mut Poll<'_>,
    ) -> Result<Option<Joint>> {
        let all = self.read_by(consumer);
        let own = now.is_none().then(|| of_units(all, units, kept));
        let Some(values) = now.or(own.as_ref()) else { return Ok(None) };
        let known = self.laid_out(consumer, units, values.view(), kept.len())?;
        let target = self.laid_out(consumer, units, all, units)?;
        known.are_finite().then(|| Joint::of(&target, &known, poll)).transpose()
    }

    fn errors_and_variances(
        &self,
        known: &Feeds<'a>,
        pruned: &Network,
        nodes: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<(f64, f64)>> {
        let mut errors = vec![0.0; nodes.len()];
        for_each_chunk(pruned, known, nodes, poll, &mut |first, values| {
            for ((error, &id), after) in errors.iter_mut().zip(nodes).zip(values) {
                let rows = Slice::from(first..first + after.nrows());
                *error += squared_difference(self.of(id).slice_axis(Axis(0), rows), after);
            }
            Ok(())
        })?;
        let each = nodes.iter().zip(errors).map(|(&id, error)| {
            let width = self.network.node(id).last_axis().max(1);
            let rows = self.of(id).len() / width;
            (error / rows.max(1) as f64, total_variance(self.of(id), width))
        });
        Ok(each.collect())
    }
}

/// The values of the elements that belong to kept units.
fn of_units(values: ArrayView2<'_, f32>, units: usize, kept: &[usize]) -> Array2<f32> {
    let blocks = 0..values.ncols() / units;
    let elements: Vec<usize> =
        blocks.flat_map(|block| kept.iter().map(move |&unit| block * units + unit)).collect();
    // Row by row: `select` would lay the columns out one after the other.
    let mut chosen = Array2::zeros((values.nrows(), elements.len()));
    Zip::from(chosen.rows_mut()).and(values.rows()).par_for_each(|mut chosen, values| {
        for (chosen, &element) in chosen.iter_mut().zip(&elements) {
            *chosen = values[element];
        }
    });
    chosen
}

fn squared_difference(before: ArrayView2<'_, f32>, after: &Array2<f32>) -> f64 {
    let gap = |(&before, &after): (&f32, &f32)| f64::from(after) - f64::from(before);
    before.iter().zip(after).map(gap).map(|gap| gap * gap).sum()
}

/// Sum over the last axis of the variance of what is there.
fn total_variance(values: ArrayView2<'_, f32>, width: usize) -> f64 {
    let Ok(rows) = values.into_shape_with_order((values.len() / width, width)) else { return 0.0 };
    let count = rows.nrows().max(1) as f64;
    let mut means = Array1::<f64>::zeros(width);
    for row in rows.rows() {
        Zip::from(&mut means).and(row).for_each(|mean, &value| *mean += f64::from(value));
    }
    means /= count;
    let square = |row: ArrayView1<'_, f32>| -> f64 {
        row.iter().zip(&means).map(|(&value, mean)| (f64::from(value) - mean).powi(2)).sum()
    };
    rows.rows().into_iter().map(square).sum::<f64>() / count
}
