//! One chunk of samples through the part of the network that is needed.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use super::ops;
use super::taps::Taps;
use super::{Feeds, channels_of};
use crate::error::{Error, Poll, Result};
use crate::network::{Network, Node, NodeId, Op};

/// Elements of intermediate values that a chunk may have, if it is more than one sample.
const ELEMENTS_PER_CHUNK: usize = 1 << 23;
/// Weights for each of which it may have one more: large ones are read once for every chunk.
const WEIGHTS_PER_ELEMENT: usize = 4;
/// Most samples of a chunk.
const MOST_SAMPLES: usize = 512;

/// Which nodes are computed, and what can be prepared once for all chunks.
pub(crate) struct Plan<'a> {
    network: &'a Network,
    needed: Vec<bool>,
    computed: Vec<bool>,
    taps: Vec<Option<Taps>>,
}

/// The values of the nodes that are still needed, one row a sample.
pub(crate) struct Values(Vec<Option<Arc<Array2<f32>>>>);

impl Values {
    /// The values of node `id`.
    ///
    /// # Panics
    /// If they were dropped: callers keep what they read.
    pub(crate) fn of(&self, id: NodeId) -> &Array2<f32> {
        self.0[id].as_deref().expect("a node that is read later is kept")
    }
}

impl<'a> Plan<'a> {
    /// The plan for the values of `wanted`, given those of the fed nodes.
    pub(crate) fn new(network: &'a Network, feeds: &Feeds<'_>, wanted: &[NodeId]) -> Result<Self> {
        let nodes = network.nodes();
        let mut needed = vec![false; nodes.len()];
        for &id in wanted {
            needed[id] = true;
        }
        for (id, node) in nodes.iter().enumerate().rev() {
            if !needed[id] || feeds.contains(id) {
                continue;
            }
            if let Op::Opaque(reason) = &node.op {
                return Err(Error::Graph {
                    node: node.name.clone(),
                    problem: format!(
                        "its values are needed, and the engine cannot compute them ({reason}); \
                         give them beside the inputs"
                    ),
                });
            }
            for &source in &node.sources {
                needed[source] = true;
            }
        }
        let computed: Vec<bool> =
            (0..nodes.len()).map(|id| needed[id] && !feeds.contains(id)).collect();
        let taps = (0..nodes.len()).map(|id| taps_of(network, id, computed[id])).collect();
        Ok(Self { network, needed, computed, taps })
    }

    /// The samples of each chunk: a number that only depends on the network and what is wanted.
    pub(crate) fn chunks(&self, samples: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let nodes = self.network.nodes().iter().zip(&self.needed);
        let elements: usize =
            nodes.filter(|&(_, &needed)| needed).map(|(node, _)| node.len()).sum();
        let weights: usize = self.network.nodes().iter().map(Node::parameters).sum();
        let most = ELEMENTS_PER_CHUNK.max(weights / WEIGHTS_PER_ELEMENT);
        let size = (most / elements.max(1)).clamp(1, MOST_SAMPLES);
        (0..samples).step_by(size).map(move |first| first..samples.min(first + size))
    }

    /// Whether the values of node `id` are needed at all.
    pub(crate) fn is_needed(&self, id: NodeId) -> bool {
        self.needed[id]
    }

    /// The window of node `id`.
    ///
    /// # Panics
    /// If the node is not computed or has no window.
    pub(crate) fn taps(&self, id: NodeId) -> &Taps {
        self.taps[id].as_ref().expect("made for every computed node with a window")
    }

    /// The values of the nodes `kept`, from those of the fed nodes.
    pub(crate) fn run<'v>(
        &self,
        fed: impl Iterator<Item = (NodeId, ArrayView2<'v, f32>)>,
        kept: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<Values> {
        let mut values = Values(vec![None; self.needed.len()]);
        for (id, array) in fed.filter(|&(id, _)| self.needed[id]) {
            values.0[id] = Some(Arc::new(array.to_owned()));
        }
        let mut readers_left = self.readers();
        for &id in kept {
            readers_left[id] += 1;
        }
        for id in 0..self.computed.len() {
            if !self.computed[id] {
                continue;
            }
            poll.check()?;
            let node = self.network.node(id);
            values.0[id] = Some(match node.op {
                Op::Reshape | Op::Identity => Arc::clone(values.shared(node.sources[0])),
                _ => {
                    let sources: Vec<_> = node.sources.iter().map(|&at| values.of(at)).collect();
                    Arc::new(ops::value(self, self.network, id, &sources, poll)?)
                }
            });
            for &source in &node.sources {
                readers_left[source] -= 1;
                if readers_left[source] == 0 {
                    values.0[source] = None;
                }
            }
        }
        Ok(values)
    }

    /// How often the values of each node are read.
    fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.computed.len()];
        for (id, node) in self.network.nodes().iter().enumerate() {
            if self.computed[id] {
                for &source in &node.sources {
                    readers[source] += 1;
                }
            }
        }
        readers
    }
}

impl Values {
    fn shared(&self, id: NodeId) -> &Arc<Array2<f32>> {
        self.0[id].as_ref().expect("a node that is read later is kept")
    }
}

fn taps_of(network: &Network, id: NodeId, computed: bool) -> Option<Taps> {
    if !computed {
        return None;
    }
    match &network.node(id).op {
        Op::Conv(conv) => Some(Taps::of(&conv.window)),
        Op::DepthwiseConv(conv) => Some(Taps::of(&conv.window)),
        Op::Pool(_, window) => Some(Taps::of(window)),
        Op::GlobalPool(_) => {
            let source = network.node(network.node(id).sources[0]);
            Some(Taps::over_all(source.len() / channels_of(network, id)))
        }
        _ => None,
    }
}
