//! Gradients of a network's nodes with respect to its inputs, for many samples at a time: reverse
//! mode over the values of `forward`, in f32 and in the same chunks.

mod ops;

use ndarray::{Array2, ArrayView2, Axis, Slice};

use crate::error::{Error, Poll, Result};
use crate::forward::{Feeds, Plan, Values};
use crate::network::{Network, NodeId, Op};

/// The gradient of `sum(cotangent * node)` over the given nodes with respect to every input.
///
/// Each cotangent has the shape `(samples, node.len())`; so has each result, in the order of
/// [`Network::inputs`]. Kinks are taken as TensorFlow does: a ReLU at 0 has slope 0, a pooling
/// window gives all to its first maximum, a maximum over all positions shares equally.
pub fn gradient(
    network: &Network,
    feeds: &Feeds<'_>,
    cotangents: &[(NodeId, Array2<f32>)],
    poll: &mut Poll<'_>,
) -> Result<Vec<Array2<f32>>> {
    if cotangents.is_empty() {
        return Err(Error::Values("no cotangents; give those of at least one node".into()));
    }
    for (id, cotangent) in cotangents {
        check(network, feeds.samples(), *id, cotangent)?;
    }
    let heads: Vec<NodeId> = cotangents.iter().map(|&(id, _)| id).collect();
    let backward = Backward::new(network, feeds, &heads)?;
    let sizes = network.inputs().iter().map(|&id| network.node(id).len());
    let mut gradients: Vec<Array2<f32>> =
        sizes.map(|size| Array2::zeros((feeds.samples(), size))).collect();
    for samples in backward.plan.chunks(feeds.samples()) {
        let rows = Slice::from(samples.clone());
        let values = backward.values(feeds.rows(samples), poll)?;
        let heads = cotangents.iter().map(|(id, all)| (*id, all.slice_axis(Axis(0), rows)));
        let heads = heads.map(|(id, chunk)| (id, chunk.to_owned())).collect();
        for (all, chunk) in gradients.iter_mut().zip(backward.pull_back(&values, heads, poll)?) {
            all.slice_axis_mut(Axis(0), rows).assign(&chunk);
        }
    }
    Ok(gradients)
}

fn check(network: &Network, samples: usize, id: NodeId, cotangent: &Array2<f32>) -> Result<()> {
    let node = network.node(id);
    let wrong = |problem| Err(Error::Values(format!("cotangent of '{}': {problem}", node.name)));
    let expected = (samples, node.len());
    if cotangent.dim() != expected {
        return wrong(format!("expected shape {expected:?}, got {:?}", cotangent.dim()));
    }
    if let Some(value) = cotangent.iter().find(|value| !value.is_finite()) {
        return wrong(format!("it holds {value}"));
    }
    Ok(())
}

/// The part of a network between its inputs and some nodes, to go through in both directions.
pub(crate) struct Backward<'a> {
    pub(crate) plan: Plan<'a>,
    network: &'a Network,
    kept: Vec<NodeId>,
}

impl<'a> Backward<'a> {
    /// Prepare gradients of these nodes; an opaque op before them has none.
    pub(crate) fn new(network: &'a Network, feeds: &Feeds<'_>, heads: &[NodeId]) -> Result<Self> {
        let plan = Plan::new(network, feeds, heads)?;
        let kept: Vec<NodeId> =
            (0..network.nodes().len()).filter(|&id| plan.is_needed(id)).collect();
        for &id in &kept {
            let node = network.node(id);
            if let Op::Opaque(reason) = &node.op {
                let problem = format!("the engine knows no gradient of it ({reason})");
                return Err(Error::Graph { node: node.name.clone(), problem });
            }
        }
        Ok(Self { plan, network, kept })
    }

    /// The values of every node on the way, from those of the inputs.
    pub(crate) fn values<'v>(
        &self,
        inputs: impl Iterator<Item = (NodeId, ArrayView2<'v, f32>)>,
        poll: &mut Poll<'_>,
    ) -> Result<Values> {
        self.plan.run(inputs, &self.kept, poll)
    }

    /// Take cotangents back to the inputs, from the last node to the first.
    pub(crate) fn pull_back(
        &self,
        values: &Values,
        heads: Vec<(NodeId, Array2<f32>)>,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Array2<f32>>> {
        self.pull_back_to(values, heads, self.network.inputs(), poll)
    }

    /// Take cotangents back to some nodes, and no further than the first of them.
    pub(crate) fn pull_back_to(
        &self,
        values: &Values,
        heads: Vec<(NodeId, Array2<f32>)>,
        ends: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Array2<f32>>> {
        let mut waiting: Vec<Option<Array2<f32>>> = vec![None; self.network.nodes().len()];
        let mut found = vec![None; self.network.nodes().len()];
        let first = ends.iter().copied().min().unwrap_or_default();
        let samples = heads.first().map_or(0, |(_, cotangent)| cotangent.nrows());
        for (id, cotangent) in heads {
            add(&mut waiting[id], cotangent);
        }
        for &id in self.kept.iter().rev() {
            let node = self.network.node(id);
            if id < first {
                break;
            }
            let Some(cotangent) = waiting[id].take() else { continue };
            if ends.contains(&id) {
                found[id] = Some(cotangent.clone());
            }
            if matches!(node.op, Op::Input) {
                continue;
            }
            poll.check()?;
            let pulled = ops::pull_back(&self.plan, self.network, id, values, cotangent, poll)?;
            for (&source, cotangent) in node.sources.iter().zip(pulled) {
                add(&mut waiting[source], cotangent);
            }
        }
        let nothing = |id: NodeId| Array2::zeros((samples, self.network.node(id).len()));
        let end = |&id: &NodeId| found[id].clone().unwrap_or_else(|| nothing(id));
        Ok(ends.iter().map(end).collect())
    }
}

fn add(sum: &mut Option<Array2<f32>>, cotangent: Array2<f32>) {
    match sum {
        Some(sum) => *sum += &cotangent,
        None => *sum = Some(cotangent),
    }
}
