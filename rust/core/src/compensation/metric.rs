//! How much the logits care about each direction in which a consumer's output may move.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis, Slice};

use super::cholesky::Regularised;
use crate::error::{Error, Poll, Result};
use crate::forward::{Feeds, in_rows};
use crate::gradient::Backward;
use crate::linalg::{add_gram, mirror};
use crate::network::{Network, NodeId};

/// More outputs than this have no metric: it is a dense matrix of them.
const WIDEST: usize = 4096;
/// Most samples that gradients are taken on.
const MOST_SAMPLES: usize = 1500;
/// Gradients in all, of one logit on one sample each, from which on samples are left out.
const MOST_GRADIENTS: usize = 96_000;

/// Share of a multiple of the identity: gradients on samples do not know every direction.
const SHARE_OF_IDENTITY: f64 = 0.1;

/// For each of the nodes a matrix M with `M^T M` the mean of `J^T J` over samples, summed over
/// positions, and a share of the identity of the same trace: J is the Jacobian of the logits with
/// respect to the node's last axis, each head's less their mean (which no softmax sees).
///
/// `None` where the engine knows no gradient, or there are too many logits.
pub(super) fn of_logits(
    network: &Network,
    feeds: &Feeds,
    nodes: &[NodeId],
    poll: &mut Poll<'_>,
) -> Result<Option<BTreeMap<NodeId, Array2<f64>>>> {
    let heads = network.logits();
    let logits: usize = heads.iter().map(|&head| network.node(head).len()).sum();
    let samples = (MOST_GRADIENTS / logits.max(1)).min(MOST_SAMPLES).min(feeds.samples());
    // From all over: sources one after the other, and what a user gives, are in some order.
    let feeds = &feeds.spread(samples);
    let backward = match Backward::new(network, feeds, &heads) {
        Ok(backward) if samples > 0 => backward,
        Ok(_) | Err(Error::Graph { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let width = |id: NodeId| network.node(id).last_axis();
    let nodes: Vec<NodeId> = nodes.iter().copied().filter(|&id| width(id) <= WIDEST).collect();
    let mut grams: Vec<Array2<f64>> =
        nodes.iter().map(|&id| Array2::zeros((width(id), width(id)))).collect();
    for chunk in backward.plan.chunks(samples) {
        let rows = chunk.len();
        let values = backward.values(feeds.rows(chunk), poll)?;
        for &head in &heads {
            for logit in 0..network.node(head).len() {
                let cotangent = centred(rows, network.node(head).len(), width(head), logit);
                let found =
                    backward.pull_back_to(&values, vec![(head, cotangent)], &nodes, poll)?;
                for ((gradient, gram), &id) in found.iter().zip(&mut grams).zip(&nodes) {
                    let wide = in_rows(gradient, width(id)).mapv(f64::from);
                    add_gram(gram.view_mut(), wide.view(), 1.0);
                }
            }
        }
    }
    let mut metrics = BTreeMap::new();
    for (mut gram, id) in grams.into_iter().zip(nodes) {
        mirror(&mut gram);
        gram /= samples as f64;
        if gram.iter().any(|slope| !slope.is_finite()) {
            continue; // slopes beyond f32: the weights alone have to do
        }
        metrics.insert(id, root(gram, poll)?);
    }
    Ok(Some(metrics))
}

/// A matrix M with `M^T M` a Gram matrix of slopes, less a share that goes to all directions alike.
pub(super) fn root(mut gram: Array2<f64>, poll: &mut Poll<'_>) -> Result<Array2<f64>> {
    let share = SHARE_OF_IDENTITY * gram.diag().sum() / gram.nrows() as f64;
    gram *= 1.0 - SHARE_OF_IDENTITY;
    gram.diag_mut().mapv_inplace(|element| element + share);
    Ok(Regularised::new(&gram, 0.0, poll)?.factor.upper())
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
