//! The rules by which one kept unit stands in for a removed one: the paper's sum, and Neuron
//! Merging's scaled sum (Kim et al., 2020).

use ndarray::{Array2, Axis};

use super::config::Rule;
use crate::activation::Activation;
use crate::config::{BiasTerm, Outgoing};
use crate::error::{Poll, Result};
use crate::impact::Pair;
use crate::linalg::parallel_product;
use crate::merge;
use crate::network::{Consumer, Group, Network, Op};
use crate::saliency::Saliency;

/// Hand what the removed units carry over to kept ones, and cut them out; returns who took over
/// from whom.
///
/// Where no kept unit can be a delegate a unit's outgoing weights are dropped, and all of them
/// where a merged weight would not fit into f32.
pub(super) fn hand_over(
    network: &Network,
    group: &Group,
    kept: &[usize],
    rule: Rule,
    poll: &mut Poll<'_>,
) -> Result<(Network, Vec<Pair>)> {
    let pairs = match rule {
        Rule::Scaled { threshold } => most_similar(network, group, kept, threshold),
        _ => nearest(network, group, kept, poll)?,
    };
    let folded: Vec<Array2<f64>> =
        group.consumers.iter().map(|consumer| incoming(network, group, consumer)).collect();
    let homogeneous: Vec<bool> =
        group.consumers.iter().map(|consumer| is_homogeneous(network, consumer)).collect();
    let scale = |consumer: &Consumer, pair: Pair| {
        let at = group.consumers.iter().position(|other| other.node == consumer.node);
        let (Some(at), true) = (at, matches!(rule, Rule::Scaled { .. })) else { return 1.0 };
        let norm = |unit: usize| folded[at].row(unit).dot(&folded[at].row(unit)).sqrt();
        if homogeneous[at] { norm(pair.nominee) / norm(pair.delegate) } else { 1.0 }
    };
    let mut merged = network.clone();
    if merge::merge_scaled(&mut merged, group, &pairs, &scale).is_ok() {
        return Ok((merge::remove(merged, group, kept), pairs));
    }
    Ok((merge::remove(network.clone(), group, kept), Vec::new()))
}

/// The kept unit of least saliency for every other one.
fn nearest(
    network: &Network,
    group: &Group,
    kept: &[usize],
    poll: &mut Poll<'_>,
) -> Result<Vec<Pair>> {
    let saliency = Saliency::new(network, group, Outgoing::L2, BiasTerm::Absolute, poll)?;
    let is_kept: Vec<bool> = (0..group.units).map(|unit| kept.contains(&unit)).collect();
    let gone = (0..group.units).filter(|&unit| !is_kept[unit]);
    Ok(gone
        .filter_map(|unit| saliency.candidate(network, group, unit, &is_kept))
        .map(|candidate| candidate.pair)
        .collect())
}

/// The kept unit whose incoming weights point most nearly the same way, for every other one: none
/// where the cosine is below the threshold.
fn most_similar(network: &Network, group: &Group, kept: &[usize], threshold: f64) -> Vec<Pair> {
    let Some(consumer) = group.consumers.first() else { return Vec::new() };
    let mut directions = incoming(network, group, consumer);
    for mut row in directions.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row.mapv_inplace(|weight| if norm > 0.0 { weight / norm } else { 0.0 });
    }
    let able = |&unit: &usize| {
        let turned = directions.row(unit).iter().any(|&weight| weight != 0.0);
        turned && group.consumers.iter().all(|consumer| consumer.can_delegate(unit, group.units))
    };
    let delegates: Vec<usize> = kept.iter().copied().filter(able).collect();
    let gone: Vec<usize> = (0..group.units).filter(|unit| !kept.contains(unit)).collect();
    let others = directions.select(Axis(0), &delegates).reversed_axes();
    let cosines = parallel_product(&directions.select(Axis(0), &gone), &others.to_owned());
    let best = |(row, &nominee): (usize, &usize)| {
        let cosines = cosines.row(row);
        let places = (0..delegates.len()).rev();
        let place = places.max_by(|&a, &b| cosines[a].total_cmp(&cosines[b]))?;
        let similar = cosines[place] >= threshold;
        similar.then(|| Pair { nominee, delegate: delegates[place] })
    };
    gone.iter().enumerate().filter_map(best).collect()
}

/// `[w, b]` of every unit, one row each, with what is affine before the activation folded in.
fn incoming(network: &Network, group: &Group, consumer: &Consumer) -> Array2<f64> {
    let Some((kernel, bias)) = network.node(group.producer).op.kernel_and_bias() else {
        return Array2::zeros((group.units, 1));
    };
    let inputs = kernel.nrows();
    Array2::from_shape_fn((group.units, inputs + 1), |(unit, input)| {
        let scale = consumer.fold.scale[unit];
        if input < inputs {
            return scale * f64::from(kernel[[input, unit]]);
        }
        scale * bias.map_or(0.0, |bias| f64::from(bias[unit])) + consumer.fold.offset[unit]
    })
}

/// Whether a positive multiple of a unit's pre-activation gives that multiple of its value, up to
/// what is folded into the outgoing weights.
fn is_homogeneous(network: &Network, consumer: &Consumer) -> bool {
    consumer.path[consumer.prefix..].iter().enumerate().all(|(step, &id)| {
        let folded = consumer.prefix + step >= consumer.barrier;
        match &network.node(id).op {
            Op::Activation(Activation::Relu { max_value, threshold, .. }) => {
                *max_value == f64::INFINITY && *threshold == 0.0
            }
            Op::Activation(Activation::Linear)
            | Op::Identity
            | Op::Reshape
            | Op::Pool(..)
            | Op::GlobalPool(_)
            | Op::ZeroPadding(_) => true,
            Op::Affine(_) | Op::BatchNormalization(..) => folded,
            _ => false,
        }
    })
}
