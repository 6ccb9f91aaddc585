//! What can go at no cost, and what a budget of certified change leaves room for.

use crate::bounds::{Bounds, Tightening};
use crate::certificate::{NamedMerge, Pairing};
use crate::error::{Poll, Result};
use crate::impact::{self, KnownRows, Pair};
use crate::interval::{Interval, Intervals};
use crate::merge;
use crate::network::Consumer;
use crate::trace::{EpochTrace, VisitTrace};

use super::Merge;
use super::run::Run;

/// Share of the budget that is kept back for the rounding of merged weights.
const KEPT_BACK: f64 = 1e-3;

impl Run<'_> {
    /// Remove, layer by layer, every unit that is 0 for every input, and merge every unit into one
    /// that is always equal to it or whose weights nobody reads.
    pub(super) fn remove_lossless(&mut self, poll: &mut Poll<'_>) -> Result<EpochTrace> {
        let mut entry = EpochTrace::new(self.epoch, 1.0);
        for index in 0..self.layers.len() {
            let silent = self.silent_units(index);
            self.silence(index, &silent);
            entry.add(VisitTrace { removed: silent.len(), ..VisitTrace::default() });
            loop {
                let pairs = self.free_pairs(index, poll)?;
                if pairs.is_empty() {
                    break;
                }
                entry.add(VisitTrace { removed: pairs.len(), ..VisitTrace::default() });
                self.apply(index, &pairs, None, poll)?;
            }
        }
        self.end_epoch(&mut entry);
        Ok(entry)
    }

    /// Units of a layer whose value, as every consumer reads it, is 0 for every input; one unit
    /// always stays.
    fn silent_units(&self, index: usize) -> Vec<usize> {
        let layer = &self.layers[index];
        let is_silent = |unit: usize| {
            layer.group.consumers.iter().all(|consumer| {
                let read = self.bounds.of(self.network.node(consumer.node).sources[0]);
                let mut elements = (unit..read.len()).step_by(layer.group.units);
                elements.all(|element| read.get(element) == Interval::ZERO)
            })
        };
        let live = (0..layer.group.units).filter(|&unit| layer.live[unit]);
        let room = layer.quota_left.min(layer.live_units() - 1);
        live.filter(|&unit| is_silent(unit)).take(room).collect()
    }

    fn silence(&mut self, index: usize, units: &[usize]) {
        if units.is_empty() {
            return;
        }
        let group = self.layers[index].group.clone();
        let changes = merge::silence(&mut self.network, &group, units);
        self.refresh_saliencies(index, units, &changes);
        self.forget_rows(&group.downstream);
        let epoch = self.epoch;
        let layer = &mut self.layers[index];
        for &nominee in units {
            layer.live[nominee] = false;
            let name = group.layer.clone();
            self.merges.push(Merge { layer: name, nominee, delegate: None, epoch });
        }
        layer.quota_left -= units.len();
    }

    /// Disjoint pairs of a layer whose merge changes nothing but by the rounding of weights.
    fn free_pairs(&mut self, index: usize, poll: &mut Poll<'_>) -> Result<Vec<Pair>> {
        let room = self.layers[index].quota_left.min(self.layers[index].live_units() - 1);
        let layer = &mut self.layers[index];
        let live = layer.live.clone();
        let found = layer.saliency.candidates(&self.network, &layer.group, &live, &live, poll)?;
        let pairs: Vec<Pair> = found
            .into_iter()
            .filter(|candidate| candidate.saliency == 0.0)
            .map(|candidate| candidate.pair)
            .collect();
        let mut chosen: Vec<Pair> = Vec::new();
        let mut used = vec![false; live.len()];
        for pair in pairs {
            let unused = !used[pair.nominee] && !used[pair.delegate] && chosen.len() < room;
            if !unused || !self.changes_nothing(index, pair, poll)? {
                continue;
            }
            used[pair.nominee] = true;
            used[pair.delegate] = true;
            chosen.push(pair);
        }
        Ok(chosen)
    }

    fn changes_nothing(&self, index: usize, pair: Pair, poll: &mut Poll<'_>) -> Result<bool> {
        let group = &self.layers[index].group;
        let known = (&self.bounds, &mut KnownRows::default());
        let reads = impact::consumer_inputs(&self.network, group, &[pair], known, poll)?;
        let carries = |(consumer, read): (&Consumer, &Intervals)| {
            let (Some((kernel, _)), false) =
                (self.network.node(consumer.node).op.kernel_and_bias(), read.is_zero())
            else {
                return false;
            };
            let mut rows = (pair.nominee..kernel.nrows()).step_by(group.units);
            rows.any(|row| kernel.row(row).iter().any(|&weight| weight != 0.0))
        };
        Ok(!group.consumers.iter().zip(&reads).any(carries))
    }

    /// Bound the change made so far anew, directly and with the tightest value intervals; whether
    /// that left more room.
    pub(super) fn recertify(&mut self, poll: &mut Poll<'_>) -> Result<bool> {
        let tightening = Tightening::default();
        self.bounds = Bounds::tight(&self.network, self.input_box, tightening, poll)?;
        for layer in &mut self.layers {
            layer.known.forget();
        }
        let pairing =
            Pairing::of_masked(self.original, self.network.clone(), &self.named_merges())?;
        let direct = pairing.certify(self.input_box, tightening, poll)?.change;
        let known = std::mem::take(&mut self.cumulative);
        let both = known.iter().zip(direct.iter()).map(|(known, direct)| known.intersect(direct));
        self.cumulative = both.collect();
        let shrunk = known.iter().zip(self.cumulative.iter());
        Ok(shrunk.into_iter().any(|(old, new)| new.width() < old.width() * (1.0 - 1e-6)))
    }

    fn named_merges(&self) -> Vec<NamedMerge> {
        let named = |merge: &Merge| NamedMerge {
            layer: merge.layer.clone(),
            nominee: merge.nominee,
            delegate: merge.delegate,
        };
        self.merges.iter().map(named).collect()
    }

    /// How many pairs may be merged, and the first `pool` candidates of which any that many keep
    /// every output within the budget: impacts of merges add up.
    pub(super) fn within_budget(
        &self,
        most: f64,
        wanted: (usize, usize),
        pairs: &[Pair],
        impacts: &[Intervals],
    ) -> (usize, Vec<usize>) {
        let (count, pool) = wanted;
        let sizes: Vec<f64> = impacts.iter().map(largest).collect();
        let room = most * (1.0 - KEPT_BACK);
        for together in (1..=count).rev() {
            let times = together as f64;
            let fits = |impact: &Intervals| {
                impact.iter().zip(self.cumulative.iter()).all(|(own, so_far)| {
                    so_far.lower + times * own.lower.min(0.0) >= -room
                        && so_far.upper + times * own.upper.max(0.0) <= room
                })
            };
            let mut fitting: Vec<usize> =
                (0..pairs.len()).filter(|&at| fits(&impacts[at])).collect();
            if fitting.len() >= together {
                // The cheapest first: what is dear leaves room for fewer.
                fitting.sort_by(|&a, &b| sizes[a].total_cmp(&sizes[b]).then(a.cmp(&b)));
                fitting.truncate(pool);
                return (together, fitting);
            }
        }
        (0, Vec::new())
    }
}

/// The most that any output moves.
fn largest(impact: &Intervals) -> f64 {
    impact.iter().map(|each| each.upper.max(-each.lower)).fold(0.0, f64::max)
}

/// Whether every end of `change` is within `most` of 0.
pub(super) fn is_within(change: &Intervals, most: f64) -> bool {
    change.iter().all(|change| -change.lower <= most && change.upper <= most)
}
