//! How much the logits care about each direction in which a consumer's output may move.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis, Slice};

use super::cholesky::Regularised;
use super::products::add_gram;
use super::slopes::Tail;
use crate::error::{Error, Poll, Result};
use crate::forward::{Feeds, in_rows};
use crate::gradient::Backward;
use crate::linalg::mirror;
use crate::network::{Network, NodeId};

/// More outputs than this have no metric: it is a dense matrix of them.
const WIDEST: usize = 4096;
/// Most samples that gradients are taken on.
const MOST_SAMPLES: usize = 1500;
/// Gradients in all, of one logit on one sample each, from which on samples are left out.
const MOST_GRADIENTS: usize = 96_000;

/// Share of a multiple of the identity: gradients on samples do not know every direction.
const SHARE_OF_IDENTITY: f64 = 0.1;

/// What a change z of a consumer's output counts: `||root^T z||^2`.
pub(super) struct Metric {
    pub(super) root: Array2<f64>,
    /// Whether there are zeros only above its diagonal.
    pub(super) is_lower: bool,
}

impl Metric {
    /// From a matrix M, shape `(any, outputs)`: the change counts `||M z||^2`.
    pub(super) fn given(matrix: &Array2<f64>) -> Self {
        Self { root: matrix.t().as_standard_layout().into_owned(), is_lower: false }
    }

    /// From a Gram matrix of slopes, less a share that goes to all directions alike.
    pub(super) fn of_gram(mut gram: Array2<f64>, poll: &mut Poll<'_>) -> Result<Self> {
        let share = SHARE_OF_IDENTITY * gram.diag().sum() / gram.nrows() as f64;
        gram.par_mapv_inplace(|slope| slope * (1.0 - SHARE_OF_IDENTITY));
        gram.diag_mut().mapv_inplace(|element| element + share);
        let root = Regularised::new(gram, 0.0, poll)?.factor.into_lower();
        Ok(Self { root, is_lower: true })
    }
}

/// For each of the nodes the metric of the mean of `J^T J` over samples, summed over positions, and
/// a share of the identity of the same trace: J is the Jacobian of the logits with respect to the
/// node's last axis, each head's less their mean (which no softmax sees).
///
/// None where the engine knows no gradient, or there are too many logits. `known` are the values
/// on the same samples of nodes before all of these.
pub(super) fn of_logits(
    network: &Network,
    feeds: &Feeds<'_>,
    known: &Feeds<'_>,
    nodes: &[NodeId],
    poll: &mut Poll<'_>,
) -> Result<BTreeMap<NodeId, Metric>> {
    let heads = network.logits();
    let logits: usize = heads.iter().map(|&head| network.node(head).len()).sum();
    let samples = (MOST_GRADIENTS / logits.max(1)).min(MOST_SAMPLES).min(feeds.samples());
    match Backward::new(network, feeds, &heads) {
        Ok(_) if samples > 0 => {}
        Ok(_) | Err(Error::Graph { .. }) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    }
    // From all over: sources one after the other, and what a user gives, are in some order.
    let feeds = &known.spread(samples);
    let backward = Backward::new(network, feeds, &heads)?;
    let width = |id: NodeId| network.node(id).last_axis();
    let (mut tails, mut others) = (Vec::new(), Vec::new());
    for &id in nodes.iter().filter(|&&id| width(id) <= WIDEST) {
        match Tail::of(network, &backward, id, poll)? {
            Some(tail) => tails.push(tail),
            None => others.push(id),
        }
    }
    let mut grams: Vec<Array2<f64>> =
        others.iter().map(|&id| Array2::zeros((width(id), width(id)))).collect();
    for chunk in backward.plan.chunks(samples) {
        let rows = chunk.len();
        let values = backward.values(feeds.rows(chunk), poll)?;
        for tail in &mut tails {
            tail.see(&backward, &values, poll)?;
        }
        for &head in heads.iter().filter(|_| !others.is_empty()) {
            for logit in 0..network.node(head).len() {
                let cotangent = centred(rows, network.node(head).len(), width(head), logit);
                let found =
                    backward.pull_back_to(&values, vec![(head, cotangent)], &others, poll)?;
                for ((gradient, gram), &id) in found.iter().zip(&mut grams).zip(&others) {
                    let wide = in_rows(gradient, width(id)).mapv(f64::from);
                    add_gram(gram.view_mut(), wide.view(), 1.0, poll)?;
                }
            }
        }
    }
    let mut metrics = BTreeMap::new();
    for (gram, id) in grams.into_iter().zip(others) {
        metrics.extend(metric_of(gram, samples, poll)?.map(|metric| (id, metric)));
    }
    for tail in tails {
        let gram = tail.gram(poll)?;
        metrics.extend(metric_of(gram, samples, poll)?.map(|metric| (tail.node, metric)));
    }
    Ok(metrics)
}

/// None where slopes are beyond f32: the weights alone have to do.
fn metric_of(mut gram: Array2<f64>, samples: usize, poll: &mut Poll<'_>) -> Result<Option<Metric>> {
    mirror(&mut gram);
    gram.par_mapv_inplace(|slope| slope / samples as f64);
    if gram.iter().any(|slope| !slope.is_finite()) {
        return Ok(None);
    }
    Metric::of_gram(gram, poll).map(Some)
}

/// For every sample the gradient, by a head's outputs, of one logit less the mean of those beside
/// it.
fn centred(samples: usize, outputs: usize, classes: usize, logit: usize) -> Array2<f32> {
    let mut cotangent = Array2::zeros((samples, outputs));
    if classes > 1 {
        let first = logit / classes * classes;
        let share = Slice::from(first..first + classes);
        #[expect(clippy::cast_possible_truncation)] // a share of 1
        cotangent.slice_axis_mut(Axis(1), share).fill(-(1.0 / classes as f64) as f32);
    }
    cotangent.column_mut(logit).mapv_inplace(|value| value + 1.0);
    cotangent
}
