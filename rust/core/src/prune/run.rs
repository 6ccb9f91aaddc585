//! A network in the middle of a run: visits, merges, and what must be brought up to date.

use rayon::prelude::*;

use crate::annealing::{self, Schedule};
use crate::bounds::{Bounds, InputBox, Tightening};
use crate::config::{
    AnnealingConfig, Change, EnergyConfig, Method, Normalization, Restart, ValidConfig,
};
use crate::energy::{Heads, quantile};
use crate::error::{Poll, Result};
use crate::impact::{self, Pair, Step};
use crate::interval::Intervals;
use crate::linalg::kernel_path;
use crate::merge;
use crate::network::{Group, Network};
use crate::one_shot;
use crate::random::Random;
use crate::saliency::Saliency;
use crate::sensitivity::Sensitivity;
use crate::trace::{EpochTrace, VisitTrace};

use super::lossless::is_within;
use super::{Merge, Pruning, StoppedBy};

/// Fewest candidates that annealing scores in a visit, unless `pool` is 1 (the paper's line 6).
const SMALLEST_POOL: usize = 8;
/// Energies computed between two polls.
const ENERGIES_PER_POLL: usize = 4;

/// A layer on its way to its quota.
pub(super) struct Layer {
    pub(super) group: Group,
    pub(super) saliency: Saliency,
    pub(super) live: Vec<bool>,
    pub(super) quota_left: usize,
    units_per_epoch: usize,
    last_energy: Option<f64>,
    references: Option<Vec<f64>>,
}

impl Layer {
    pub(super) fn live_units(&self) -> usize {
        self.live.iter().filter(|&&live| live).count()
    }

    fn visit_size(&self) -> usize {
        self.units_per_epoch.min(self.quota_left).min(self.live_units() - 1)
    }
}

/// What undoing an epoch must bring back; after it the run is over.
pub(super) struct Checkpoint {
    network: Network,
    live: Vec<Vec<bool>>,
    merges: usize,
    cumulative: Intervals,
}

/// A network in the middle of a run.
pub(super) struct Run<'a> {
    pub(super) original: &'a Network,
    pub(super) input_box: &'a InputBox,
    pub(super) network: Network,
    config: &'a ValidConfig,
    pub(super) bounds: Bounds,
    heads: Heads,
    pub(super) layers: Vec<Layer>,
    pub(super) cumulative: Intervals,
    random: Random,
    pub(super) merges: Vec<Merge>,
    pub(super) epoch: usize,
    ran_short: bool,
    budget_spent: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        original: &'a Network,
        groups: &[Group],
        input_box: &'a InputBox,
        config: &'a ValidConfig,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let network = original.clone();
        let bounds = if config.is_certified() {
            Bounds::tight(&network, input_box, Tightening::default(), poll)?
        } else {
            Bounds::propagate(&network, input_box, &kept_nodes(&network, groups), poll)?
        };
        let sizes: Vec<usize> =
            network.logits().into_iter().map(|id| network.node(id).len()).collect();
        let mut layers = Vec::with_capacity(groups.len());
        for group in groups {
            layers.push(Layer {
                saliency: Saliency::new(&network, group, config.outgoing, config.bias, poll)?,
                live: vec![true; group.units],
                quota_left: config.quota(group.units),
                units_per_epoch: config.units_per_epoch(group.units),
                last_energy: None,
                references: None,
                group: group.clone(),
            });
        }
        Ok(Self {
            original,
            input_box,
            network,
            config,
            bounds,
            cumulative: Intervals::zeros(sizes.iter().sum()),
            heads: Heads { sizes },
            layers,
            random: Random::from_seed(config.seed),
            merges: Vec::new(),
            epoch: 0,
            ran_short: false,
            budget_spent: false,
        })
    }

    pub(super) fn units_left(&self) -> usize {
        self.layers.iter().map(|layer| layer.quota_left).sum()
    }

    /// Whether a layer stopped because anything more would exceed `max_output_change`.
    pub(super) fn budget_spent(&self) -> bool {
        self.budget_spent
    }

    pub(super) fn ran_short(&self) -> bool {
        self.ran_short
    }

    /// The network as it stands, of the original shape.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            network: self.network.clone(),
            live: self.layers.iter().map(|layer| layer.live.clone()).collect(),
            merges: self.merges.len(),
            cumulative: self.cumulative.clone(),
        }
    }

    pub(super) fn restore(&mut self, checkpoint: Checkpoint) {
        self.network = checkpoint.network;
        self.merges.truncate(checkpoint.merges);
        self.cumulative = checkpoint.cumulative;
        for (layer, live) in self.layers.iter_mut().zip(checkpoint.live) {
            layer.live = live;
        }
    }

    pub(super) fn run_epoch(
        &mut self,
        temperature: f64,
        poll: &mut Poll<'_>,
    ) -> Result<EpochTrace> {
        let mut entry = self.try_epoch(temperature, poll)?;
        if self.config.max_output_change.is_some() && entry.visits.removed == 0 {
            // Sums of steps' bounds are looser than one bound of all: there may be room again.
            if self.recertify(poll)? {
                entry = self.try_epoch(temperature, poll)?;
            }
            if entry.visits.removed == 0 {
                self.close();
            }
        }
        self.end_epoch(&mut entry);
        Ok(entry)
    }

    fn try_epoch(&mut self, temperature: f64, poll: &mut Poll<'_>) -> Result<EpochTrace> {
        let mut entry = EpochTrace::new(self.epoch, temperature);
        if self.config.method == Method::OneShot {
            self.run_one_shot(&mut entry, poll)?;
        } else {
            // Visits go forward, and a merge changes nothing behind its consumers' kernels: one
            // enclosure of the Jacobian serves all visits of an epoch.
            let open: Vec<&Group> = self
                .layers
                .iter()
                .filter(|layer| layer.visit_size() > 0)
                .map(|layer| &layer.group)
                .collect();
            let sensitivity = Sensitivity::of(&self.network, &open, &self.bounds, poll)?;
            for index in 0..self.layers.len() {
                let count = self.layers[index].visit_size();
                if count > 0 {
                    let visit = self.visit(index, count, temperature, &sensitivity, poll)?;
                    entry.add(visit);
                }
            }
        }
        Ok(entry)
    }

    pub(super) fn end_epoch(&mut self, entry: &mut EpochTrace) {
        entry.units = self
            .layers
            .iter()
            .map(|layer| (layer.group.layer.clone(), layer.live_units()))
            .collect();
        entry.impact = self.cumulative.clone();
        self.epoch += 1;
    }

    /// Every layer's order is that of the original network, so all are found before any merge.
    fn run_one_shot(&mut self, entry: &mut EpochTrace, poll: &mut Poll<'_>) -> Result<()> {
        let mut orders = Vec::with_capacity(self.layers.len());
        for layer in &mut self.layers {
            let count = layer.quota_left;
            let Layer { group, saliency, .. } = layer;
            orders.push(one_shot::order(&self.network, group, saliency, count, poll)?);
        }
        for (index, pairs) in orders.into_iter().enumerate() {
            self.apply(index, &pairs, None, poll)?;
            self.give_up_rest(index);
            entry.add(VisitTrace { removed: pairs.len(), ..VisitTrace::default() });
        }
        Ok(())
    }

    /// Choose up to `count` pairs of a layer by scoring pools of candidates, and merge them.
    fn visit(
        &mut self,
        index: usize,
        count: usize,
        temperature: f64,
        sensitivity: &Sensitivity,
        poll: &mut Poll<'_>,
    ) -> Result<VisitTrace> {
        let mut visit = VisitTrace::default();
        let mut chosen: Vec<Pair> = Vec::with_capacity(count);
        let mut used: Vec<bool> = self.layers[index].live.iter().map(|&live| !live).collect();
        if self.forgets_energy() {
            self.layers[index].last_energy = None;
        }
        while chosen.len() < count {
            let free: Vec<bool> = used.iter().map(|&used| !used).collect();
            let layer = &mut self.layers[index];
            let mut pool =
                layer.saliency.candidates(&self.network, &layer.group, &layer.live, &free, poll)?;
            if pool.is_empty() {
                break;
            }
            if self.config.max_output_change.is_none() {
                pool.truncate(self.pool_size(count));
            }
            let pairs: Vec<Pair> = pool.iter().map(|candidate| candidate.pair).collect();
            let group = &self.layers[index].group;
            let impacts = impact::candidates(
                &self.network,
                group,
                &pairs,
                self.change(),
                &self.bounds,
                sensitivity,
                poll,
            )?;
            let (pairs, impacts, missing) = self.affordable(pairs, impacts, count - chosen.len());
            visit.candidates += pairs.len();
            match self.config.method {
                Method::Annealing(config) => {
                    let energies = self.energies(index, &impacts, &config.energy, poll)?;
                    let schedule = Schedule {
                        count: missing,
                        temperature,
                        scale: temperature_scale(&config, &energies),
                        rewalks: config.rewalks,
                    };
                    let accepted =
                        self.anneal_pool(index, &pairs, &energies, schedule, &mut used, &mut visit);
                    chosen.extend(accepted);
                }
                _ => chosen.extend(least_impact(&pairs, &impacts, missing, &mut used)),
            }
            if self.config.max_output_change.is_some() {
                break; // what is left of the budget is known once these are merged
            }
        }
        visit.removed = chosen.len();
        let Some(most) = self.config.max_output_change else {
            self.apply(index, &chosen, Some(sensitivity), poll)?;
            if chosen.is_empty() {
                self.give_up_rest(index);
            }
            return Ok(visit);
        };
        let checkpoint = self.checkpoint();
        self.apply(index, &chosen, Some(sensitivity), poll)?;
        if !is_within(&self.cumulative, most) {
            // The merged weights were rounded by more than was kept back for it.
            self.restore(checkpoint);
            self.close();
            return Ok(VisitTrace::default());
        }
        Ok(visit)
    }

    /// The candidates that the budget has room for, and how many of them may be merged.
    fn affordable(
        &self,
        pairs: Vec<Pair>,
        impacts: Vec<Intervals>,
        missing: usize,
    ) -> (Vec<Pair>, Vec<Intervals>, usize) {
        let Some(most) = self.config.max_output_change else { return (pairs, impacts, missing) };
        let wanted = (missing, self.pool_size(missing));
        let (count, fitting) = self.within_budget(most, wanted, &pairs, &impacts);
        let (pairs, impacts) =
            fitting.into_iter().map(|at| (pairs[at], impacts[at].clone())).unzip();
        (pairs, impacts, count)
    }

    /// Nothing more can be removed within the budget.
    fn close(&mut self) {
        self.budget_spent = true;
        for layer in &mut self.layers {
            layer.quota_left = 0;
        }
    }

    /// No unit left in the layer may be a delegate: the rest of its quota can never be met.
    fn give_up_rest(&mut self, index: usize) {
        self.ran_short |= self.layers[index].quota_left > 0;
        self.layers[index].quota_left = 0;
    }

    fn forgets_energy(&self) -> bool {
        matches!(self.config.method, Method::Annealing(a) if a.restart == Restart::Visit)
    }

    fn change(&self) -> Change {
        match self.config.method {
            Method::Annealing(AnnealingConfig { change, .. }) | Method::Greedy { change, .. } => {
                change
            }
            Method::OneShot => Change::Interval,
        }
    }

    fn pool_size(&self, count: usize) -> usize {
        match self.config.method {
            Method::Annealing(AnnealingConfig { pool: 1, .. }) | Method::OneShot => count,
            Method::Annealing(annealing) => annealing.pool.saturating_mul(count).max(SMALLEST_POOL),
            Method::Greedy { pool, .. } => pool.saturating_mul(count),
        }
    }

    /// Energies of candidates on top of the cumulative impact.
    fn energies(
        &mut self,
        index: usize,
        impacts: &[Intervals],
        config: &EnergyConfig,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<f64>> {
        let heads = &self.heads;
        let references =
            self.layers[index].references.get_or_insert_with(|| heads.references(impacts));
        let mut energies: Vec<f64> = Vec::with_capacity(impacts.len());
        for batch in impacts.chunks(ENERGIES_PER_POLL) {
            poll.check()?;
            energies.par_extend(
                batch
                    .par_iter()
                    .map(|impact| heads.energy(impact, &self.cumulative, references, config)),
            );
        }
        Ok(energies)
    }

    fn anneal_pool(
        &mut self,
        index: usize,
        pairs: &[Pair],
        energies: &[f64],
        schedule: Schedule,
        used: &mut [bool],
        visit: &mut VisitTrace,
    ) -> Vec<Pair> {
        let acceptance = annealing::anneal(
            pairs,
            energies,
            schedule,
            used,
            &mut self.layers[index].last_energy,
            &mut self.random,
        );
        visit.record(&acceptance, energies, schedule.scale);
        acceptance.chosen.iter().map(|&chosen| pairs[chosen]).collect()
    }

    /// Merge pairs of a layer and bring bounds, cumulative impact and saliencies up to date.
    pub(super) fn apply(
        &mut self,
        index: usize,
        pairs: &[Pair],
        sensitivity: Option<&Sensitivity>,
        poll: &mut Poll<'_>,
    ) -> Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let group = self.layers[index].group.clone();
        let settled = one_shot::with_final_delegates(pairs);
        let injected = impact::inject(&self.network, &group, &settled, &self.bounds, poll)?;
        let changes = merge::merge(&mut self.network, &group, pairs)?;
        let after = self.bounds.updated(&self.network, &group.downstream, poll)?;
        let roundings: Vec<_> = changes.iter().map(|change| change.rounding.clone()).collect();
        let step = Step { before: &self.bounds, after: &after, sensitivity };
        let joint = impact::joint(&self.network, &group, injected, &roundings, &step, poll)?;
        self.cumulative = self.cumulative.plus(&joint);
        self.bounds = after;
        if self.config.method != Method::OneShot {
            let delegates: Vec<usize> = pairs.iter().map(|pair| pair.delegate).collect();
            self.refresh_saliencies(index, &delegates, &changes);
        }
        let epoch = self.epoch;
        let layer = &mut self.layers[index];
        for &pair in pairs {
            layer.live[pair.nominee] = false;
            let Pair { nominee, delegate } = pair;
            let name = layer.group.layer.clone();
            self.merges.push(Merge { layer: name, nominee, delegate: Some(delegate), epoch });
        }
        layer.quota_left = layer.quota_left.saturating_sub(pairs.len());
        Ok(())
    }

    pub(super) fn refresh_saliencies(
        &mut self,
        index: usize,
        delegates: &[usize],
        changes: &[merge::RowChange],
    ) {
        let changed =
            |layer: &Layer| changes.iter().find(|change| change.node == layer.group.producer);
        for (at, layer) in self.layers.iter_mut().enumerate() {
            if at == index {
                layer.saliency.refresh_outgoing(&self.network, &layer.group, delegates);
            }
            if let Some(change) = changed(layer) {
                layer.saliency.update_incoming(&change.added, &change.removed);
                if change.bias_changed {
                    layer.saliency.refresh_bias(&self.network, &layer.group);
                }
            }
        }
    }

    pub(super) fn finish(self, trace: Vec<EpochTrace>, stopped_by: StoppedBy) -> Pruning {
        let mut network = self.network;
        let mut kept = Vec::with_capacity(self.layers.len());
        for layer in self.layers {
            let left: Vec<usize> =
                (0..layer.group.units).filter(|&unit| layer.live[unit]).collect();
            network = merge::remove(network, &layer.group, &left);
            kept.push((layer.group.layer, left));
        }
        Pruning {
            network,
            kept,
            merges: self.merges,
            trace,
            impact: self.cumulative,
            stopped_by,
            kernel_path: kernel_path(),
        }
    }
}

/// The `count` pairs of least NORM, each unit once; ties by order.
fn least_impact(
    pairs: &[Pair],
    impacts: &[Intervals],
    count: usize,
    used: &mut [bool],
) -> Vec<Pair> {
    let norms: Vec<f64> = impacts.iter().map(Intervals::total_width).collect();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|&a, &b| norms[a].total_cmp(&norms[b]).then(a.cmp(&b)));
    let mut chosen = Vec::with_capacity(count);
    for index in order {
        let pair = pairs[index];
        if chosen.len() < count && !used[pair.nominee] && !used[pair.delegate] {
            used[pair.nominee] = true;
            used[pair.delegate] = true;
            chosen.push(pair);
        }
    }
    chosen
}

/// Scale s of the temperature: how far the energies of a visit's candidates are apart.
fn temperature_scale(config: &AnnealingConfig, energies: &[f64]) -> f64 {
    match config.energy.normalization {
        Normalization::Scaled => interquartile_range(energies),
        Normalization::None => 1.0,
    }
}

fn interquartile_range(energies: &[f64]) -> f64 {
    let mut sorted = energies.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (quantile(&sorted, 0.25), quantile(&sorted, 0.75)) {
        (Some(low), Some(high)) => high - low,
        _ => 0.0,
    }
}

/// The nodes whose intervals a run reads again after the first propagation.
fn kept_nodes(network: &Network, groups: &[Group]) -> Vec<bool> {
    let mut keep = vec![false; network.nodes().len()];
    for group in groups {
        keep[group.producer] = true;
        keep[network.node(group.producer).sources[0]] = true;
        for consumer in &group.consumers {
            for &id in &consumer.path {
                keep[id] = true;
            }
        }
        for &id in &group.downstream {
            keep[id] = true;
            for &source in &network.node(id).sources {
                keep[source] = true;
            }
        }
    }
    keep
}
