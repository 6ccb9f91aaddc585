//! A network: a validated directed acyclic graph of typed ops that owns its weights.

mod builder;
mod op;
mod units;
mod window;

pub use builder::{NetworkBuilder, WindowSpec};
pub use op::{
    Affine, BatchNormalization, Conv, Dense, DepthwiseConv, Kernel, LayerNormalization, Op,
    PoolKind, ZeroPadding,
};
pub use units::{Consumer, Group};
pub use window::{Padding, Window};

use crate::activation::Activation;
use crate::error::{Error, Result};

/// Index of a node; sources always have smaller indices than the nodes that read them.
pub type NodeId = usize;

/// One op of the graph, with its name, sources and output shape.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique name.
    pub name: String,
    /// The layer that owns the weights; nodes of one layer share them.
    pub layer: String,
    /// What it computes.
    pub op: Op,
    /// Where its inputs come from.
    pub sources: Vec<NodeId>,
    /// Output shape without the batch axis.
    pub shape: Vec<usize>,
}

impl Node {
    /// Number of elements of the output.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the output has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the last axis (1 for a scalar).
    pub fn last_axis(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.op.weights().iter().map(|(_, values)| values.len()).sum()
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Network {
    nodes: Vec<Node>,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
}

impl Network {
    /// All nodes in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with this index.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// Index of the node called `name`.
    pub fn find(&self, name: &str) -> Result<NodeId> {
        self.nodes.iter().position(|node| node.name == name).ok_or_else(|| Error::Graph {
            node: name.into(),
            problem: "no node has this name".into(),
        })
    }

    /// The input nodes, in the order they were added.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The output nodes, in the caller's order.
    pub fn outputs(&self) -> &[NodeId] {
        &self.outputs
    }

    /// The outputs with a final softmax or sigmoid left out, each once.
    pub fn logits(&self) -> Vec<NodeId> {
        let mut logits = Vec::new();
        for &output in &self.outputs {
            let node = self.before_final_activation(output);
            if !logits.contains(&node) {
                logits.push(node);
            }
        }
        logits
    }

    fn before_final_activation(&self, output: NodeId) -> NodeId {
        let mut at = output;
        loop {
            let node = &self.nodes[at];
            match node.op {
                Op::Softmax | Op::Activation(Activation::Sigmoid) => return node.sources[0],
                Op::Identity => at = node.sources[0],
                _ => return output,
            }
        }
    }

    /// For each node, the nodes that read it.
    pub fn readers(&self) -> Vec<Vec<NodeId>> {
        let mut readers = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            for &source in &node.sources {
                readers[source].push(id);
            }
        }
        readers
    }

    /// Number of multiply-accumulates of one evaluation of `id`.
    pub fn macs(&self, id: NodeId) -> usize {
        let node = &self.nodes[id];
        match &node.op {
            Op::Dense(dense) => node.len() * dense.kernel.nrows(),
            Op::Conv(conv) => node.len() * conv.kernel.nrows(),
            Op::DepthwiseConv(conv) => node.len() * conv.window.taps(),
            _ => 0,
        }
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id]
    }
}
