//! Jacobians of the logits that need no gradient of each logit: behind one layer of elementwise
//! functions everything is linear.

use ndarray::{Array2, Axis, Slice};

use super::metric::Metric;
use super::outgoing::Outgoing;
use super::products::add_product;
use crate::error::{Poll, Result};
use crate::forward::Values;
use crate::gradient::Backward;
use crate::network::{Network, NodeId, Op};

/// Rows of the Gram matrix that are computed at a time, as far as its diagonal.
const ROWS: usize = 256;

/// A node from which only elementwise functions lead to another one, and only linear ones from
/// there to a head: the Jacobian at a sample is `R^T diag(d)`, with slopes d.
pub(super) struct Tail {
    pub(super) node: NodeId,
    linear: NodeId,
    /// R: one row for each value of the linear node, one column for each logit of the head, less
    /// the logits' mean.
    root: Array2<f64>,
    /// Slopes d on the samples so far, one row each.
    slopes: Vec<Array2<f32>>,
}

impl Tail {
    /// `None` if the way to the logits is not of this kind.
    pub(super) fn of(
        network: &Network,
        backward: &Backward<'_>,
        node: NodeId,
        poll: &mut Poll<'_>,
    ) -> Result<Option<Self>> {
        let way = Way { network, backward, readers: network.readers(), heads: network.logits() };
        let mut linear = node;
        loop {
            if let Some(root) = way.linear_root(linear, poll)? {
                return Ok(Some(Self { node, linear, root, slopes: Vec::new() }));
            }
            let Some(reader) = way.only_reader(linear) else { return Ok(None) };
            let elementwise = matches!(
                network.node(reader).op,
                Op::Activation(_) | Op::Affine(_) | Op::BatchNormalization(..) | Op::Identity
            );
            if !elementwise {
                return Ok(None);
            }
            linear = reader;
        }
    }

    /// Take the slopes on some more samples.
    pub(super) fn see(
        &mut self,
        backward: &Backward<'_>,
        values: &Values,
        poll: &mut Poll<'_>,
    ) -> Result<()> {
        let ones = Array2::ones(values.of(self.linear).raw_dim());
        let heads = vec![(self.linear, ones)];
        self.slopes.extend(backward.pull_back_to(values, heads, &[self.node], poll)?);
        Ok(())
    }

    /// The lower triangle of the sum of `J^T J` over all samples: `R R^T`, each element times that
    /// of the slopes' Gram matrix.
    pub(super) fn gram(&self, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
        let width = self.root.nrows();
        let views: Vec<_> = self.slopes.iter().map(|slopes| slopes.view()).collect();
        let slopes = ndarray::concatenate(Axis(0), &views).unwrap_or_default().mapv(f64::from);
        let mut gram = Array2::zeros((width, width));
        for first in (0..width).step_by(ROWS) {
            let own = Slice::from(first..(first + ROWS).min(width));
            let upto = Slice::from(..(first + ROWS).min(width));
            let mut part = gram.slice_axis_mut(Axis(0), own);
            let mut part = part.slice_axis_mut(Axis(1), upto);
            let (left, right) =
                (self.root.slice_axis(Axis(0), own), self.root.slice_axis(Axis(0), upto));
            add_product(part.view_mut(), left, right.t(), 1.0, poll)?;
            let mut shared = Array2::zeros(part.raw_dim());
            let (left, right) = (slopes.slice_axis(Axis(1), own), slopes.slice_axis(Axis(1), upto));
            add_product(shared.view_mut(), left.t(), right, 1.0, poll)?;
            part *= &shared;
        }
        Ok(gram)
    }
}

/// What leads to the logits.
struct Way<'a> {
    network: &'a Network,
    backward: &'a Backward<'a>,
    readers: Vec<Vec<NodeId>>,
    heads: Vec<NodeId>,
}

impl Way<'_> {
    /// The one node on the way to the logits that reads this one.
    fn only_reader(&self, id: NodeId) -> Option<NodeId> {
        match self.needed_readers(id)[..] {
            [reader] if !self.heads.contains(&id) => Some(reader),
            _ => None,
        }
    }

    fn needed_readers(&self, id: NodeId) -> Vec<NodeId> {
        let readers = self.readers[id].iter().copied();
        readers.filter(|&reader| self.backward.plan.is_needed(reader)).collect()
    }

    /// The transposed Jacobian from a node to its head, if it is the same for all inputs.
    fn linear_root(&self, id: NodeId, poll: &mut Poll<'_>) -> Result<Option<Array2<f64>>> {
        let node = self.network.node(id);
        if node.len() != node.last_axis() {
            return Ok(None);
        }
        if self.heads.contains(&id) {
            let ends = self.needed_readers(id).is_empty();
            return Ok(ends.then(|| less_mean(node.len())));
        }
        let Some(reader) = self.only_reader(id) else { return Ok(None) };
        let op = &self.network.node(reader).op;
        if !matches!(
            op,
            Op::Dense(_) | Op::Affine(_) | Op::BatchNormalization(..) | Op::Identity | Op::Reshape
        ) {
            return Ok(None);
        }
        let Some(mut root) = self.linear_root(reader, poll)? else { return Ok(None) };
        match op {
            Op::Dense(layer) => {
                let outgoing = Outgoing::new(layer.kernel.view(), layer.kernel.nrows());
                let behind = Metric { root, is_lower: false };
                root = outgoing.by_unit(Some(&behind), poll)?;
            }
            Op::Affine(map) | Op::BatchNormalization(_, map) => {
                for (mut row, scale) in root.rows_mut().into_iter().zip(&map.scale) {
                    row *= *scale;
                }
            }
            _ => {}
        }
        Ok(Some(root))
    }
}

/// Logits less their mean, which no softmax sees; a logit by itself stays.
fn less_mean(logits: usize) -> Array2<f64> {
    let share = if logits > 1 { 1.0 / logits as f64 } else { 0.0 };
    Array2::eye(logits) - share
}
