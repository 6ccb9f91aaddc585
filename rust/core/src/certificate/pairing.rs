//! An original network and what pruning made of it, side by side in one shape.

use std::sync::Arc;

use ndarray::{Array1, Array2};

use crate::error::{Error, Result};
use crate::impact::{Pair, Rounding};
use crate::merge;
use crate::network::{Consumer, Group, Network, NodeId, Op};
use crate::one_shot::with_final_delegates;

/// Unit roundoff of f64.
const ROUNDOFF: f64 = f64::EPSILON / 2.0;

/// The units of one layer that went, and who took over.
#[derive(Debug, Clone)]
pub struct Takeover {
    /// The layer.
    pub group: Group,
    /// Each nominee with the delegate that is left in the end.
    pub pairs: Vec<Pair>,
    /// Units that nobody stands in for.
    pub dropped: Vec<usize>,
}

/// Both networks in the original's shape: units that went are still there, without outgoing
/// weights.
#[derive(Debug, Clone)]
pub struct Pairing<'a> {
    pub(crate) original: &'a Network,
    pub(crate) pruned: Network,
    pub(crate) takeovers: Vec<Takeover>,
}

/// One unit that went, as a pruning records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMerge {
    /// Its layer.
    pub layer: String,
    /// Its number in the original layer.
    pub nominee: usize,
    /// Who took over its outgoing weights; nobody if they were dropped.
    pub delegate: Option<usize>,
}

impl<'a> Pairing<'a> {
    /// Lay `smaller` over `original`; `merges` are those that led from the one to the other.
    ///
    /// Nothing is taken on trust: the merges only say which units to compare with which, and
    /// whatever the smaller network's weights are beyond them is bounded as it is.
    pub fn new(original: &'a Network, smaller: &Network, merges: &[NamedMerge]) -> Result<Self> {
        let mut pruned = original.clone();
        let takeovers = takeovers(original, merges, &mut pruned)?;
        let kept: Vec<(Group, Vec<usize>)> = takeovers
            .iter()
            .map(|takeover| (takeover.group.clone(), takeover.survivors()))
            .collect();
        overlay(&mut pruned, smaller, &kept)?;
        Ok(Self { original, pruned, takeovers })
    }

    /// The same for a network that still has the original's shape.
    pub(crate) fn of_masked(
        original: &'a Network,
        pruned: Network,
        merges: &[NamedMerge],
    ) -> Result<Self> {
        let takeovers = takeovers(original, merges, &mut original.clone())?;
        Ok(Self { original, pruned, takeovers })
    }

    /// By how much weights changed that no merge touches.
    pub(super) fn residuals_elsewhere(&self) -> Vec<Residual> {
        let consumes = |id: NodeId| {
            let mut consumers = self.takeovers.iter().flat_map(|t| &t.group.consumers);
            consumers.any(|consumer| consumer.node == id)
        };
        let of = |id: NodeId| {
            let (before, old_bias) = self.original.node(id).op.kernel_and_bias()?;
            let (stored, new_bias) = self.pruned.node(id).op.kernel_and_bias()?;
            if consumes(id) || (before == stored && old_bias == new_bias) {
                return None;
            }
            let bias = |unit| bias_of(new_bias, unit) - bias_of(old_bias, unit);
            let size = |unit| bias_of(new_bias, unit).abs() + bias_of(old_bias, unit).abs();
            let rounding = Rounding {
                node: id,
                rows: (0..before.nrows()).collect(),
                weights: stored.mapv(f64::from) - before.mapv(f64::from),
                bias: (0..before.ncols()).map(bias).collect(),
            };
            // A difference of two f32 is rounded once.
            let sizes = stored.mapv(|w| f64::from(w.abs())) + before.mapv(|w| f64::from(w.abs()));
            Some(Residual {
                rounding,
                error: sizes * (2.0 * ROUNDOFF),
                bias_error: (0..before.ncols()).map(|unit| 2.0 * ROUNDOFF * size(unit)).collect(),
            })
        };
        (0..self.original.nodes().len()).filter_map(of).collect()
    }

    /// By how much each consumer's weights are not what the merges alone make of the original's.
    pub(super) fn residuals(&self, takeover: &Takeover) -> Vec<Residual> {
        let of = |consumer: &Consumer| residual(self.original, &self.pruned, takeover, consumer);
        takeover.group.consumers.iter().filter_map(of).collect()
    }
}

/// Stored minus exact weights of a consumer, and how far rounding may have put that off.
pub(super) struct Residual {
    /// As computed.
    pub(super) rounding: Rounding,
    /// The largest error of each of its weights, the same rows.
    pub(super) error: Array2<f64>,
    /// The largest error of each bias.
    pub(super) bias_error: Vec<f64>,
}

impl Takeover {
    /// The units that went, ascending.
    pub(super) fn nominees(&self) -> Vec<usize> {
        let nominees = self.pairs.iter().map(|pair| pair.nominee);
        let mut gone: Vec<usize> = nominees.chain(self.dropped.iter().copied()).collect();
        gone.sort_unstable();
        gone
    }

    fn survivors(&self) -> Vec<usize> {
        let gone = self.nominees();
        (0..self.group.units).filter(|unit| gone.binary_search(unit).is_err()).collect()
    }
}

/// Sort merges by layer, check them one after the other, and make them on `pruned`.
fn takeovers(
    original: &Network,
    merges: &[NamedMerge],
    pruned: &mut Network,
) -> Result<Vec<Takeover>> {
    let mut layers: Vec<&str> = Vec::new();
    for merge in merges {
        if !layers.contains(&merge.layer.as_str()) {
            layers.push(&merge.layer);
        }
    }
    let mut found = Vec::with_capacity(layers.len());
    for layer in layers {
        let group = original.prunable_group(layer)?;
        let mine: Vec<&NamedMerge> = merges.iter().filter(|merge| merge.layer == layer).collect();
        check(&group, &mine)?;
        // Nobody takes over what nobody stands in for: a unit that goes without a delegate leaves
        // none to those that it stood in for.
        let gone = group.units;
        let pairs: Vec<Pair> = mine
            .iter()
            .map(|merge| Pair { nominee: merge.nominee, delegate: merge.delegate.unwrap_or(gone) })
            .collect();
        for &pair in &pairs {
            if pair.delegate == gone {
                merge::silence(pruned, &group, &[pair.nominee]);
            } else {
                merge::merge(pruned, &group, &[pair])?;
            }
        }
        let (dropped, pairs): (Vec<Pair>, Vec<Pair>) =
            with_final_delegates(&pairs).into_iter().partition(|pair| pair.delegate == gone);
        let dropped = dropped.into_iter().map(|pair| pair.nominee).collect();
        found.push(Takeover { group, pairs, dropped });
    }
    Ok(found)
}

/// Every unit goes once, and every delegate is there when it takes over.
fn check(group: &Group, merges: &[&NamedMerge]) -> Result<()> {
    let mut live = vec![true; group.units];
    for merge in merges {
        let there = |unit: usize| live.get(unit).copied().unwrap_or(false);
        let possible = there(merge.nominee)
            && merge.delegate.is_none_or(|delegate| delegate != merge.nominee && there(delegate));
        if !possible {
            return Err(Error::Mismatch(format!(
                "layer '{}': unit {} cannot have gone to {:?}: one of them was not there",
                group.layer, merge.nominee, merge.delegate
            )));
        }
        live[merge.nominee] = false;
    }
    Ok(())
}

/// Put the smaller network's weights where they belong in the original's shape.
fn overlay(pruned: &mut Network, smaller: &Network, kept: &[(Group, Vec<usize>)]) -> Result<()> {
    if smaller.nodes().len() != pruned.nodes().len() {
        return Err(Error::Mismatch(format!(
            "the original has {} ops, the pruned model {}",
            pruned.nodes().len(),
            smaller.nodes().len()
        )));
    }
    let mut expected = pruned.clone();
    for (group, left) in kept {
        expected = merge::remove(expected, group, left);
    }
    for id in 0..pruned.nodes().len() {
        check_alike(&expected, smaller, id)?;
        let rows = kept.iter().find_map(|(group, left)| {
            let reads = group.consumers.iter().any(|consumer| consumer.node == id);
            reads.then_some((group.units, left))
        });
        let columns = kept.iter().find(|(group, _)| group.producer == id).map(|(_, left)| left);
        let Some((theirs, their_bias)) = smaller.node(id).op.kernel_and_bias() else { continue };
        let Some((kernel, bias)) = pruned.node_mut(id).op.kernel_and_bias_mut() else { continue };
        let kernel = Arc::make_mut(kernel);
        let row_places: Vec<usize> = match rows {
            None => (0..kernel.nrows()).collect(),
            Some((units, left)) => (0..kernel.nrows() / units)
                .flat_map(|block| left.iter().map(move |&unit| block * units + unit))
                .collect(),
        };
        let column_places: Vec<usize> =
            columns.map_or_else(|| (0..kernel.ncols()).collect(), Clone::clone);
        for (from, &to) in theirs.rows().into_iter().zip(&row_places) {
            for (&weight, &column) in from.iter().zip(&column_places) {
                kernel[[to, column]] = weight;
            }
        }
        // Compensation gives a layer a bias that had none: where there is none, it is 0.
        if their_bias.is_some() || bias.is_some() {
            let bias = bias.get_or_insert_with(|| Array1::zeros(kernel.ncols()));
            for (place, &column) in column_places.iter().enumerate() {
                bias[column] = their_bias.map_or(0.0, |theirs| theirs[place]);
            }
        }
    }
    Ok(())
}

/// The same op with the same shapes; weights that no merge touches must be the same, too.
fn check_alike(expected: &Network, smaller: &Network, id: NodeId) -> Result<()> {
    let (a, b) = (expected.node(id), smaller.node(id));
    let mismatch = |what: String| Err(Error::Mismatch(format!("layer '{}': {what}", a.layer)));
    if a.op.kind() != b.op.kind() || a.sources != b.sources {
        return mismatch(format!(
            "{} in the original, {} in the pruned model",
            a.op.kind(),
            b.op.kind()
        ));
    }
    if a.shape != b.shape {
        return mismatch(format!(
            "its output should have shape {:?} after those merges, but has {:?}",
            a.shape, b.shape
        ));
    }
    // Such weights are not laid out as a matrix from all inputs to all outputs: what a change of
    // them does is not followed.
    let apart =
        matches!(&a.op, Op::DepthwiseConv(_)) || matches!(&a.op, Op::Conv(conv) if conv.groups > 1);
    if (apart || a.op.kernel_and_bias().is_none()) && a.op != b.op {
        return mismatch("its parameters are not those of the original".into());
    }
    match (a.op.kernel_and_bias(), b.op.kernel_and_bias()) {
        (Some((ours, _)), Some((theirs, _))) if ours.dim() != theirs.dim() => mismatch(format!(
            "its kernel should have shape {:?} after those merges, but has {:?}",
            ours.dim(),
            theirs.dim()
        )),
        _ => Ok(()),
    }
}

fn bias_of(bias: Option<&Array1<f32>>, unit: usize) -> f64 {
    bias.map_or(0.0, |bias| f64::from(bias[unit]))
}

fn residual(
    original: &Network,
    pruned: &Network,
    takeover: &Takeover,
    consumer: &Consumer,
) -> Option<Residual> {
    let Takeover { group, pairs, dropped } = takeover;
    let (before, old_bias) = original.node(consumer.node).op.kernel_and_bias()?;
    let (stored, new_bias) = pruned.node(consumer.node).op.kernel_and_bias()?;
    let (units, width) = (group.units, consumer.gain.len());
    let mut exact = before.mapv(f64::from);
    let mut size = exact.mapv(f64::abs);
    let columns = before.ncols();
    let mut shift: Vec<f64> = (0..columns).map(|unit| bias_of(old_bias, unit)).collect();
    let mut shift_size: Vec<f64> = shift.iter().map(|b| b.abs()).collect();
    for pair in pairs {
        let rows = (pair.nominee..before.nrows()).step_by(units);
        for (i, j) in rows.zip((pair.delegate..).step_by(units)) {
            let ratio = consumer.gain[i % width] / consumer.gain[j % width];
            let (from, to) = (consumer.offset[i % width], consumer.offset[j % width] * ratio);
            for column in 0..columns {
                let weight = f64::from(before[[i, column]]);
                exact[[j, column]] += ratio * weight;
                size[[j, column]] += (ratio * weight).abs();
                exact[[i, column]] = 0.0;
                size[[i, column]] = 0.0;
                shift[column] += (from - to) * weight;
                let sizes = &consumer.offset_size;
                let parts = sizes[i % width] + sizes[j % width] * ratio.abs();
                shift_size[column] += parts * weight.abs();
            }
        }
    }
    for row in dropped.iter().flat_map(|&unit| (unit..before.nrows()).step_by(units)) {
        exact.row_mut(row).fill(0.0);
        size.row_mut(row).fill(0.0);
    }
    let kappa = (pairs.len() as f64 + 24.0) * 2.0 * ROUNDOFF;
    let all: Vec<usize> = (0..before.nrows()).collect();
    let weights = stored.mapv(f64::from) - &exact;
    let bias = (0..columns).map(|unit| bias_of(new_bias, unit) - shift[unit]).collect();
    Some(Residual {
        rounding: Rounding { node: consumer.node, rows: all, weights, bias },
        error: size.mapv(|size| kappa * size),
        bias_error: shift_size.into_iter().map(|size| kappa * size).collect(),
    })
}
