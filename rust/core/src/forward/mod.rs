//! Values of nodes for many given inputs at a time, in f32, as the model itself computes them.
//!
//! Samples go through the network in chunks of a fixed number, so that memory stays bounded and
//! no result depends on the number of threads.

mod ops;
mod pass;
mod taps;

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2, Slice};

pub(crate) use self::ops::{
    channels_of, for_each_run, in_rows, in_rows_mut, mean_and_deviation, narrow, polled_product,
};
pub(crate) use self::pass::{Plan, Values};
pub(crate) use self::taps::Taps;
use crate::error::{Error, Poll, Result};
use crate::network::{Network, NodeId, Op};

/// Values given for nodes, one row a sample: of every input, and of opaque nodes where known.
///
/// They may be borrowed: nothing writes to them.
#[derive(Debug, Clone)]
pub struct Feeds<'a> {
    values: BTreeMap<NodeId, Arc<CowArray<'a, f32, Ix2>>>,
    samples: usize,
}

impl<'a> Feeds<'a> {
    /// Check the values of nodes, each of shape `(samples, node.len())`.
    ///
    /// Every input must be fed. An opaque node may be: then its sources are not needed.
    pub fn new(network: &Network, values: Vec<(NodeId, CowArray<'a, f32, Ix2>)>) -> Result<Self> {
        let mut feeds = Self { values: BTreeMap::new(), samples: 0 };
        for (id, array) in values {
            feeds.add(network, id, array)?;
        }
        if let Some(id) = network.inputs().iter().find(|id| !feeds.values.contains_key(id)) {
            let name = &network.node(*id).name;
            return Err(Error::Values(format!("no values for input '{name}'; give it, too")));
        }
        Ok(feeds)
    }

    fn add(&mut self, network: &Network, id: NodeId, array: CowArray<'a, f32, Ix2>) -> Result<()> {
        let node = network.node(id);
        let wrong = |problem: String| Err(Error::Values(format!("'{}': {problem}", node.name)));
        if !matches!(node.op, Op::Input | Op::Opaque(_)) {
            let kind = node.op.kind();
            return wrong(format!("only inputs and opaque nodes can be given values, not {kind}"));
        }
        let (samples, len) = array.dim();
        if samples == 0 || len != node.len() {
            let expected = node.len();
            return wrong(format!(
                "expected at least one sample of {expected} elements, got {samples} of {len}"
            ));
        }
        if !self.values.is_empty() && samples != self.samples {
            return wrong(format!("got {samples} samples, others have {}", self.samples));
        }
        let mut rows = array.rows().into_iter().enumerate();
        if let Some((sample, row)) = rows.find(|(_, row)| !row.iter().all(|x| x.is_finite())) {
            let found = row.iter().enumerate().find(|(_, value)| !value.is_finite());
            let (element, value) = found.unwrap_or((0, &f32::NAN));
            return wrong(format!("sample {sample} holds {value} at element {element}"));
        }
        self.samples = samples;
        let array = if array.is_standard_layout() {
            array
        } else {
            array.as_standard_layout().into_owned().into()
        };
        if self.values.insert(id, Arc::new(array)).is_some() {
            return wrong("given twice".into());
        }
        Ok(())
    }

    /// Take values of any node as known, finite or not: what leads to it is then not computed.
    pub(crate) fn know(&mut self, id: NodeId, values: Array2<f32>) {
        self.values.insert(id, Arc::new(values.into()));
    }

    /// Know nothing of some nodes any more.
    pub(crate) fn forget(&mut self, is_forgotten: impl Fn(NodeId) -> bool) {
        self.values.retain(|&id, _| !is_forgotten(id));
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// So many of the samples, evenly from the first to the last.
    pub(crate) fn spread(&self, samples: usize) -> Feeds<'static> {
        let rows: Vec<usize> = (0..samples).map(|at| at * self.samples / samples.max(1)).collect();
        let chosen = |values: &CowArray<'a, f32, Ix2>| {
            Arc::new(CowArray::from(values.select(Axis(0), &rows)))
        };
        let values = self.values.iter().map(|(&id, values)| (id, chosen(values))).collect();
        Feeds { values, samples }
    }

    /// Whether values of this node were given.
    pub fn contains(&self, id: NodeId) -> bool {
        self.values.contains_key(&id)
    }

    /// The given values of a node.
    pub(crate) fn of(&self, id: NodeId) -> Option<ArrayView2<'_, f32>> {
        self.values.get(&id).map(|values| values.view())
    }

    /// The given values of each node, for some of the samples.
    pub(crate) fn rows(
        &self,
        samples: std::ops::Range<usize>,
    ) -> impl Iterator<Item = (NodeId, ArrayView2<'_, f32>)> {
        let rows = Slice::from(samples);
        self.values.iter().map(move |(&id, values)| (id, values.slice_axis(Axis(0), rows)))
    }
}

/// The values of the `wanted` nodes, each of shape `(samples, node.len())`.
///
/// Overflow gives infinities and NaN where the model itself gives them.
pub fn forward(
    network: &Network,
    feeds: &Feeds<'_>,
    wanted: &[NodeId],
    poll: &mut Poll<'_>,
) -> Result<Vec<Array2<f32>>> {
    let mut found: Vec<Array2<f32>> =
        wanted.iter().map(|&id| Array2::zeros((feeds.samples, network.node(id).len()))).collect();
    for_each_chunk(network, feeds, wanted, poll, &mut |first, values| {
        for (all, chunk) in found.iter_mut().zip(values) {
            let rows = Slice::from(first..first + chunk.nrows());
            all.slice_axis_mut(Axis(0), rows).assign(chunk);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Takes the number of a chunk's first sample, and the chunk's values of each wanted node.
pub type Visit<'a> = dyn FnMut(usize, &[&Array2<f32>]) -> Result<()> + 'a;

/// Hand the values of the `wanted` nodes to `visit(first sample, values)`, chunk by chunk and in
/// order: for sums over samples that do not need all values at once.
pub fn for_each_chunk(
    network: &Network,
    feeds: &Feeds<'_>,
    wanted: &[NodeId],
    poll: &mut Poll<'_>,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let plan = Plan::new(network, feeds, wanted)?;
    for samples in plan.chunks(feeds.samples) {
        let values = plan.run(feeds.rows(samples.clone()), wanted, poll)?;
        let wanted: Vec<&Array2<f32>> = wanted.iter().map(|&id| values.of(id)).collect();
        visit(samples.start, &wanted)?;
    }
    Ok(())
}
