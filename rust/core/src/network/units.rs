//! Prunable groups: which units exist, who reads them, and which cannot go and why.

use super::op::{Affine, Op, PoolKind};
use super::{Network, NodeId};
use crate::error::Error;

/// Widest layer that is pruned: its Gram matrix takes 8 GiB.
const MOST_UNITS: usize = 1 << 15;

/// A gain below this share of the largest one leaves nothing of a float32 weight divided by it.
const SMALLEST_GAIN: f64 = 1e-6;

/// A dense or convolutional op that reads a group's units.
///
/// Unit c of n is every element of the consumer's input whose index is c modulo n: that holds
/// through flattening, reshaping, pooling and padding. `gain` and `offset` are indexed along the
/// last axis of the consumer's input.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// The consuming op.
    pub node: NodeId,
    /// The nodes between the producer and the consumer, in order.
    pub path: Vec<NodeId>,
    /// `path[..prefix]` are affine and folded into the incoming weights.
    pub prefix: usize,
    /// The affine nodes in `path[barrier..]` are folded into the outgoing weights.
    pub barrier: usize,
    /// The folded affine map before the activation, one entry a unit.
    pub fold: Affine,
    /// Scale of the folded affine maps after the activation.
    pub gain: Vec<f64>,
    /// Offset of the folded affine maps after the activation.
    pub offset: Vec<f64>,
    /// What the rounding of these offsets is relative to.
    pub offset_size: Vec<f64>,
}

/// The units of one layer.
#[derive(Debug, Clone)]
pub struct Group {
    /// The op whose output columns are the units.
    pub producer: NodeId,
    /// Its layer.
    pub layer: String,
    /// Number of units.
    pub units: usize,
    /// Everything that reads them; empty if they cannot be pruned.
    pub consumers: Vec<Consumer>,
    /// The consumers and all nodes after them up to the logits, in topological order.
    pub downstream: Vec<NodeId>,
    /// Why the units must stay, if so.
    pub reason: Option<String>,
}

impl Consumer {
    /// Whether `unit` can take over another's outgoing weights: its gain is nowhere zero, nor so
    /// small beside the largest that dividing by it would blow the weights up.
    pub fn can_delegate(&self, unit: usize, units: usize) -> bool {
        let largest = self.gain.iter().fold(0.0, |largest: f64, gain| largest.max(gain.abs()));
        let least = largest * SMALLEST_GAIN;
        self.gain.iter().skip(unit).step_by(units).all(|&gain| gain != 0.0 && gain.abs() >= least)
    }
}

impl Network {
    /// The units of every dense and convolutional layer, in topological order.
    pub fn groups(&self) -> Vec<Group> {
        let readers = self.readers();
        let logits = self.logits();
        let leads_to_logits = self.ancestors(&logits);
        (0..self.nodes.len())
            .filter(|&id| matches!(self.nodes[id].op, Op::Dense(_) | Op::Conv(_)))
            .filter(|&id| self.first_of_layer(id) == id)
            .map(|id| self.group(id, &readers, &logits, &leads_to_logits))
            .collect()
    }

    /// The units of one layer, if they can be removed.
    pub fn prunable_group(&self, layer: &str) -> Result<Group, Error> {
        let groups = self.groups();
        let Some(group) = groups.iter().find(|group| group.layer == layer) else {
            let known: Vec<&str> = groups.iter().map(|group| group.layer.as_str()).collect();
            return Err(Error::UnknownLayer { layer: layer.into(), known: known.join(", ") });
        };
        match &group.reason {
            Some(reason) => Err(Error::NotPrunable { layer: layer.into(), reason: reason.clone() }),
            None => Ok(group.clone()),
        }
    }

    /// The groups of the named layers (all prunable ones if none is named), in forward order.
    pub fn prunable_groups(&self, layers: &[String]) -> Result<Vec<Group>, Error> {
        for layer in layers {
            self.prunable_group(layer)?;
        }
        let groups = self.groups();
        let reasons: Vec<String> = groups
            .iter()
            .filter_map(|group| Some(format!("{}: {}", group.layer, group.reason.as_ref()?)))
            .collect();
        let chosen: Vec<Group> = groups
            .into_iter()
            .filter(|group| group.reason.is_none())
            .filter(|group| layers.is_empty() || layers.contains(&group.layer))
            .collect();
        if chosen.is_empty() {
            let why =
                if reasons.is_empty() { "no layer has units".into() } else { reasons.join("; ") };
            return Err(Error::NothingToPrune(why));
        }
        Ok(chosen)
    }

    fn group(
        &self,
        producer: NodeId,
        readers: &[Vec<NodeId>],
        logits: &[NodeId],
        leads_to_logits: &[bool],
    ) -> Group {
        let node = &self.nodes[producer];
        let units = node.last_axis();
        let mut group = Group {
            producer,
            layer: node.layer.clone(),
            units,
            consumers: Vec::new(),
            downstream: Vec::new(),
            reason: None,
        };
        let found = self
            .check_producer(producer)
            .and_then(|()| self.find_consumers(producer, units, readers, logits, leads_to_logits))
            .and_then(|consumers| {
                let nodes = consumers.iter().map(|consumer| consumer.node);
                let downstream = self.descendants(nodes, readers, leads_to_logits);
                self.check_downstream(&downstream)?;
                Ok((consumers, downstream))
            });
        match found {
            Ok((consumers, downstream)) => {
                group.consumers = consumers;
                group.downstream = downstream;
            }
            Err(reason) => group.reason = Some(reason),
        }
        group
    }

    fn check_producer(&self, producer: NodeId) -> Result<(), String> {
        let node = &self.nodes[producer];
        if self.is_shared(producer) {
            return Err("the layer is called more than once: its weights are shared".into());
        }
        if matches!(node.op, Op::Conv(_)) {
            return Err("channels of convolutions are not pruned yet".into());
        }
        if node.last_axis() > MOST_UNITS {
            return Err(format!("it has more than {MOST_UNITS} units: n x n distances are kept"));
        }
        if node.last_axis() < 2 {
            return Err("it has a single unit".into());
        }
        Ok(())
    }

    fn find_consumers(
        &self,
        producer: NodeId,
        units: usize,
        readers: &[Vec<NodeId>],
        logits: &[NodeId],
        leads_to_logits: &[bool],
    ) -> Result<Vec<Consumer>, String> {
        let mut consumers = Vec::new();
        let mut open = vec![(producer, Vec::new())];
        while let Some((at, path)) = open.pop() {
            if self.outputs.contains(&at) || logits.contains(&at) {
                return Err("its units are outputs of the model".into());
            }
            for &reader in &readers[at] {
                if self.consumes(reader, units)? {
                    consumers.push(self.consumer(reader, path.clone(), units));
                } else {
                    let mut longer: Vec<NodeId> = path.clone();
                    longer.push(reader);
                    open.push((reader, longer));
                }
            }
        }
        consumers.sort_by_key(|consumer: &Consumer| consumer.node);
        if !consumers.iter().any(|consumer| leads_to_logits[consumer.node]) {
            return Err("its units reach no output".into());
        }
        Ok(consumers)
    }

    /// Whether `reader` mixes the units by a kernel (`true`) or passes them on one by one
    /// (`false`); `Err` if it does something the merge cannot follow.
    fn consumes(&self, reader: NodeId, units: usize) -> Result<bool, String> {
        let node = &self.nodes[reader];
        let name = &node.name;
        if !node.last_axis().is_multiple_of(units)
            && !matches!(node.op, Op::Dense(_) | Op::Conv(_) | Op::Opaque(_))
        {
            return Err(format!("'{name}' lays its units out anew"));
        }
        let owns_weights = !node.op.weights().is_empty();
        if owns_weights && self.is_shared(reader) {
            return Err(format!("it feeds '{name}', which is called more than once"));
        }
        match &node.op {
            Op::Dense(_) => Ok(true),
            Op::Conv(conv) if conv.groups == 1 => Ok(true),
            Op::Activation(_)
            | Op::Identity
            | Op::BatchNormalization(..)
            | Op::Affine(_)
            | Op::Reshape
            | Op::Pool(..)
            | Op::GlobalPool(_)
            | Op::ZeroPadding(_) => Ok(false),
            Op::Add | Op::Concatenate(_) => {
                Err(format!("its units are coupled with others by '{name}'"))
            }
            Op::Opaque(reason) => Err(format!("it feeds '{name}': {reason}")),
            Op::Conv(_) | Op::DepthwiseConv(_) => {
                Err(format!("it feeds '{name}', a grouped or depthwise convolution"))
            }
            _ => Err(format!("'{name}' ({}) mixes its units", node.op.kind())),
        }
    }

    fn consumer(&self, node: NodeId, path: Vec<NodeId>, units: usize) -> Consumer {
        let is_layout = |op: &Op| matches!(op, Op::Identity | Op::Reshape);
        let affine_of = |id: &NodeId| self.nodes[*id].op.as_affine();
        let prefix = path
            .iter()
            .position(|id| {
                let op = &self.nodes[*id].op;
                let folds = op.as_affine().is_some_and(|affine| affine.scale.len() == units);
                !(folds || is_layout(op))
            })
            .unwrap_or(path.len());
        let fold = composed(units, path[..prefix].iter().filter_map(affine_of));
        let averages = |op: &Op| {
            matches!(op, Op::Pool(PoolKind::Average, _) | Op::GlobalPool(PoolKind::Average))
        };
        let mut barrier = path
            .iter()
            .rposition(|id| {
                let op = &self.nodes[*id].op;
                !(is_layout(op) || averages(op) || op.as_affine().is_some())
            })
            .map_or(prefix, |last| (last + 1).max(prefix));
        let width = self.nodes[self.nodes[node].sources[0]].last_axis();
        // At a padded border a folded offset would be missing, and a parameter that is not a
        // function of the kernel's row cannot be folded into it.
        let padded = matches!(&self.nodes[node].op, Op::Conv(conv) if conv.window.is_padded());
        let mut after = path[barrier..].iter().filter_map(affine_of);
        if after.any(|affine| padded || !width.is_multiple_of(affine.scale.len())) {
            barrier = path.len();
        }
        let Affine { scale: gain, offset, size: offset_size } =
            composed(width, path[barrier..].iter().filter_map(affine_of));
        Consumer { node, path, prefix, barrier, fold, gain, offset, offset_size }
    }

    fn check_downstream(&self, downstream: &[NodeId]) -> Result<(), String> {
        for &id in downstream {
            if let Op::Opaque(reason) = &self.nodes[id].op {
                let name = &self.nodes[id].name;
                return Err(format!("its effect cannot be followed through '{name}': {reason}"));
            }
        }
        Ok(())
    }

    fn first_of_layer(&self, id: NodeId) -> NodeId {
        let layer = &self.nodes[id].layer;
        self.nodes.iter().position(|node| node.layer == *layer).unwrap_or(id)
    }

    fn is_shared(&self, id: NodeId) -> bool {
        let layer = &self.nodes[id].layer;
        let owners = |node: &&super::Node| node.layer == *layer && !node.op.weights().is_empty();
        self.nodes.iter().filter(owners).count() > 1
    }

    fn ancestors(&self, of: &[NodeId]) -> Vec<bool> {
        let mut marked = vec![false; self.nodes.len()];
        for &id in of {
            marked[id] = true;
        }
        self.ancestors_of(&marked)
    }

    /// The marked nodes and all that they depend on.
    pub(crate) fn ancestors_of(&self, marked: &[bool]) -> Vec<bool> {
        let mut marked = marked.to_vec();
        for id in (0..self.nodes.len()).rev() {
            if marked[id] {
                for &source in &self.nodes[id].sources {
                    marked[source] = true;
                }
            }
        }
        marked
    }

    fn descendants(
        &self,
        of: impl Iterator<Item = NodeId>,
        readers: &[Vec<NodeId>],
        within: &[bool],
    ) -> Vec<NodeId> {
        let mut marked = vec![false; self.nodes.len()];
        for id in of {
            marked[id] = within[id];
        }
        for id in 0..self.nodes.len() {
            if marked[id] {
                for &reader in &readers[id] {
                    marked[reader] = within[reader];
                }
            }
        }
        (0..self.nodes.len()).filter(|&id| marked[id]).collect()
    }
}

/// The affine maps one after the other, on a last axis of length `width`; each map's length
/// divides it.
fn composed<'a>(width: usize, maps: impl Iterator<Item = &'a Affine>) -> Affine {
    let mut whole = Affine::new(vec![1.0; width], vec![0.0; width]);
    for map in maps {
        for index in 0..width {
            let at = index % map.scale.len();
            let (scale, offset) = (map.scale[at], map.offset[at]);
            whole.scale[index] *= scale;
            whole.offset[index] = whole.offset[index] * scale + offset;
            whole.size[index] = whole.size[index] * scale.abs() + map.size[at];
        }
    }
    whole
}
