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

/// Most logits of a head whose metric is a matrix: 64 million entries.
const WIDEST_HEAD: usize = 8192;

/// Rows of the Gram matrix that are computed at a time, as far as its diagonal.
const ROWS: usize = 1024;

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
            let narrow = node.len() <= WIDEST_HEAD;
            return Ok((ends && narrow).then(|| less_mean(node.len())));
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

#[cfg(test)]
mod tests {
    use ndarray::Array1;
    use proptest::prelude::*;

    use super::*;
    use crate::activation::Activation;
    use crate::error::never_stop;
    use crate::forward::Feeds;
    use crate::network::{Affine, Dense, NetworkBuilder};
    use crate::random::Random;

    #[expect(clippy::cast_possible_truncation)] // test weights
    fn matrix(random: &mut Random, rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, columns), || (2.0 * random.uniform() - 1.0) as f32)
    }

    fn dense(random: &mut Random, inputs: usize, units: usize) -> Op {
        let bias = matrix(random, 1, units).row(0).to_owned();
        Op::Dense(Dense { kernel: matrix(random, inputs, units).into(), bias: Some(bias) })
    }

    /// Two hidden layers; between the second and the logits an activation, a scaling and another
    /// dense layer.
    fn network(random: &mut Random, units: usize, logits: usize) -> Network {
        let numbers = |random: &mut Random| (0..units).map(|_| 0.5 + random.uniform()).collect();
        let mut builder = NetworkBuilder::new();
        let tanh = || Op::Activation(Activation::Tanh);
        let scaling = Affine::new(numbers(random), numbers(random));
        for (name, source, op) in [
            ("first", "x", dense(random, 3, 4)),
            ("bent", "first", tanh()),
            ("second", "bent", dense(random, 4, units)),
            ("scaled", "second", Op::Affine(scaling)),
            ("bent again", "scaled", tanh()),
            ("third", "bent again", dense(random, units, 5)),
            ("out", "third", dense(random, 5, logits)),
        ] {
            if source == "x" {
                builder.add("x", &[], Op::Input, Some(&[3]), None).expect("valid");
            }
            builder.add(name, &[source], op, None, None).expect("valid");
        }
        builder.build(&["out"]).expect("valid")
    }

    /// The sum of `J^T J` by a gradient of each logit, less their mean.
    fn by_gradients(
        backward: &Backward<'_>,
        values: &Values,
        [head, node]: [NodeId; 2],
        poll: &mut Poll<'_>,
    ) -> Array2<f64> {
        let (samples, logits) = values.of(head).dim();
        let width = values.of(node).ncols();
        let mut gradients = Array2::zeros((logits, samples * width));
        for logit in 0..logits {
            let mut cotangent = Array2::zeros((samples, logits));
            cotangent.column_mut(logit).fill(1.0);
            let heads = vec![(head, cotangent)];
            let found = backward.pull_back_to(values, heads, &[node], poll).expect("not stopped");
            let wide: Array1<f64> = found[0].iter().map(|&slope| f64::from(slope)).collect();
            gradients.row_mut(logit).assign(&wide);
        }
        if let Some(mean) = gradients.mean_axis(Axis(0)).filter(|_| logits > 1) {
            gradients -= &mean;
        }
        let rows = gradients.into_shape_with_order((logits * samples, width)).expect("fits");
        rows.t().dot(&rows)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn the_closed_form_is_the_sum_over_all_gradients(
            seed in 0_u64..1_000,
            units in 1_usize..300,
            logits in 1_usize..6,
            samples in 1_usize..8,
        ) {
            let mut random = Random::from_seed(seed);
            let network = network(&mut random, units, logits);
            let id = |name: &str| network.find(name).expect("there");
            let points = matrix(&mut random, samples, 3);
            let feeds = Feeds::new(&network, vec![(id("x"), points.into())]).expect("valid");
            let backward = Backward::new(&network, &feeds, &network.logits()).expect("valid");
            let mut go_on = never_stop();
            let poll = &mut Poll::new(&mut go_on);
            let values = backward.values(feeds.rows(0..samples), poll).expect("not stopped");
            prop_assert!(Tail::of(&network, &backward, id("first"), poll).expect("valid").is_none());
            for name in ["second", "scaled", "bent again", "third", "out"] {
                let tail = Tail::of(&network, &backward, id(name), poll).expect("not stopped");
                let mut tail = tail.expect("one layer of activations");
                tail.see(&backward, &values, poll).expect("not stopped");
                let found = tail.gram(poll).expect("not stopped");
                let expected = by_gradients(&backward, &values, [id("out"), id(name)], poll);
                let size = expected.diag().sum();
                for ((row, column), value) in found.indexed_iter().filter(|((i, j), _)| j <= i) {
                    let gap = (value - expected[[row, column]]).abs();
                    prop_assert!(gap <= 1e-5 * size, "{name} {row} {column}: {gap} of {size}");
                }
            }
        }
    }
}
