//! Laws of nodes' values without any sample: means and covariances taken from the input box
//! through the layers, as if what activations read were Gaussian.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};

use super::law::{Activated, Law, Scaling};
use super::prior::Prior;
use crate::error::{Error, Poll, Result};
use crate::linalg::{add_gram, mirror};
use crate::network::{BatchNormalization, Consumer, Network, Node, NodeId, Op};

/// What an op did to the original's law, to be done to another one.
pub(super) enum Step {
    /// Nothing.
    Same,
    /// A matrix product: the network has the weights.
    Dense,
    /// An elementwise affine map.
    Scaled(Scaling),
    /// An activation.
    Activated(Activated),
}

/// The original network's laws.
pub(super) struct Analytic<'a> {
    pub(super) network: &'a Network,
    steps: BTreeMap<NodeId, Step>,
    laws: BTreeMap<NodeId, Law>,
}

impl<'a> Analytic<'a> {
    /// Take the prior through the network to the `wanted` nodes.
    pub(super) fn new(
        network: &'a Network,
        prior: &Prior,
        wanted: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let needed = needed(network, wanted);
        for (id, node) in network.nodes().iter().enumerate().filter(|(id, _)| needed[*id]) {
            check(network, id, node)?;
        }
        let mut laws = prior.laws(network, &needed);
        let readers = network.readers();
        let mut steps = BTreeMap::new();
        for (id, node) in network.nodes().iter().enumerate().filter(|(id, _)| needed[*id]) {
            poll.check()?;
            let Some(&source) = node.sources.first() else { continue };
            let Some(law) = laws.get(&source) else { continue };
            let step = step(node, law);
            let next = through(&step, node, law);
            laws.insert(id, next);
            steps.insert(id, step);
            // Matrices of wide layers are large: only those that are asked for stay.
            let last = readers[source].iter().rfind(|&&reader| needed[reader]) == Some(&id);
            if last && !wanted.contains(&source) {
                laws.remove(&source);
            }
        }
        Ok(Self { network, steps, laws })
    }

    /// The law of a wanted node.
    pub(super) fn law(&self, id: NodeId) -> &Law {
        &self.laws[&id]
    }

    /// What a node does to its source's law.
    pub(super) fn step(&self, id: NodeId) -> &Step {
        &self.steps[&id]
    }

    /// The law of what a consumer reads.
    pub(super) fn read_by(&self, consumer: &Consumer) -> &Law {
        self.law(self.network.node(consumer.node).sources[0])
    }

    /// For each of the nodes `J^T J`, summed over heads: J is the Jacobian of the logits, each
    /// head's less their mean, with every activation's mean slope.
    pub(super) fn slope_grams(&self, nodes: &[NodeId]) -> BTreeMap<NodeId, Array2<f64>> {
        let mut grams: BTreeMap<NodeId, Array2<f64>> = BTreeMap::new();
        for head in self.network.logits() {
            let (mut at, mut slopes) = (head, centring(self.network.node(head)));
            loop {
                if nodes.contains(&at) {
                    let size = self.network.node(at).len();
                    let gram = grams.entry(at).or_insert_with(|| Array2::zeros((size, size)));
                    add_gram(gram.view_mut(), slopes.view(), 1.0);
                }
                let Some(&source) = self.network.node(at).sources.first() else { break };
                slopes = self.taken_back(self.network.node(at), at, slopes);
                at = source;
            }
        }
        grams.values_mut().for_each(mirror);
        grams
    }

    /// A Jacobian by a node's output as one by its source.
    fn taken_back(&self, node: &Node, id: NodeId, slopes: Array2<f64>) -> Array2<f64> {
        match (&self.steps[&id], &node.op) {
            (Step::Dense, Op::Dense(dense)) => slopes.dot(&dense.kernel.t().mapv(f64::from)),
            (Step::Activated(activated), _) => slopes * &activated.mean_slopes(),
            // Not the step's scale: what the network itself does to a change.
            (_, op) => match op.as_affine() {
                Some(map) => slopes * &Scaling::new(map, node.len()).scale,
                None => slopes,
            },
        }
    }
}

/// The nodes that some depend on.
fn needed(network: &Network, wanted: &[NodeId]) -> Vec<bool> {
    let mut marked = vec![false; network.nodes().len()];
    for &id in wanted {
        marked[id] = true;
    }
    network.ancestors_of(&marked)
}

/// Refuse what moments cannot be taken through.
fn check(network: &Network, id: NodeId, node: &Node) -> Result<()> {
    let reason = match &node.op {
        Op::Input
        | Op::BatchNormalization(..)
        | Op::Affine(_)
        | Op::Activation(_)
        | Op::Reshape
        | Op::Identity => return Ok(()),
        Op::Dense(dense)
            if network.node(network.node(id).sources[0]).len() == dense.kernel.nrows() =>
        {
            return Ok(());
        }
        Op::Dense(_) => "a Dense layer at several places".to_string(),
        Op::Opaque(reason) => reason.clone(),
        op => op.kind().to_string(),
    };
    let problem = format!(
        "analytic moments are known of chains of Dense layers only, and this is {reason}; take \
         statistics from sampled inputs"
    );
    Err(Error::Graph { node: node.name.clone(), problem })
}

/// What a node does to a law.
fn step(node: &Node, law: &Law) -> Step {
    match &node.op {
        Op::Dense(_) => Step::Dense,
        Op::BatchNormalization(norm, _) if norm.mean.len() == node.len() => {
            Step::Scaled(anchored(norm, law))
        }
        Op::BatchNormalization(_, map) | Op::Affine(map) => {
            Step::Scaled(Scaling::new(map, node.len()))
        }
        Op::Activation(activation) => Step::Activated(Activated::new(*activation, law)),
        _ => Step::Same,
    }
}

fn through(step: &Step, node: &Node, law: &Law) -> Law {
    match (step, &node.op) {
        (Step::Dense, Op::Dense(dense)) => {
            law.through_dense(&dense.kernel.mapv(f64::from), dense.bias.as_ref())
        }
        (Step::Scaled(map), _) => law.through_scaling(map),
        (Step::Activated(activated), _) => activated.law(law),
        _ => law.clone(),
    }
}

/// The affine map that gives every unit the mean and variance that its normalization has stored of
/// real inputs, instead of those of its own law: only correlations come from what is assumed.
///
/// After DFQ (Nagel et al., 2019). A unit that the law holds constant stays so.
fn anchored(norm: &BatchNormalization, law: &Law) -> Scaling {
    let variances = law.variances();
    let parameter = |values: &Option<Array1<f32>>, at: usize, default: f64| {
        values.as_ref().map_or(default, |values| f64::from(values[at]))
    };
    let scale: Array1<f64> = (0..norm.mean.len())
        .map(|at| {
            let stored = f64::from(norm.variance[at]);
            let wanted = (stored / (stored + norm.epsilon)).sqrt();
            let deviation = variances[at].max(0.0).sqrt();
            if deviation > 0.0 { parameter(&norm.gamma, at, 1.0) * wanted / deviation } else { 0.0 }
        })
        .collect();
    let beta: Array1<f64> = (0..norm.mean.len()).map(|at| parameter(&norm.beta, at, 0.0)).collect();
    let offset = beta - &law.means * &scale;
    Scaling { scale, offset }
}

/// Every logit less the mean of those beside it.
fn centring(node: &Node) -> Array2<f64> {
    let (size, classes) = (node.len(), node.last_axis());
    let share = if classes > 1 { 1.0 / classes as f64 } else { 0.0 };
    let beside = |i: usize, j: usize| if i / classes == j / classes { share } else { 0.0 };
    Array2::from_shape_fn((size, size), |(i, j)| f64::from(u8::from(i == j)) - beside(i, j))
}
