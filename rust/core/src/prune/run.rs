//! A network in the middle of a run: visits, merges, and what must be brought up to date.

use crate::bounds::{Bounds, InputBox, Tightening};
use crate::config::{Method, ValidConfig};
use crate::energy::Heads;
use crate::error::{Poll, Result};
use crate::impact::{self, KnownRows, Pair, Step};
use crate::interval::Intervals;
use crate::linalg::kernel_path;
use crate::merge;
use crate::network::{Group, Network, NodeId};
use crate::one_shot;
use crate::random::Random;
use crate::saliency::Saliency;
use crate::sensitivity::{Sensitivity, SpectralNorms};
use crate::trace::{EpochTrace, VisitTrace};

use super::{Merge, Pruning, StoppedBy};

/// A layer on its way to its quota.
pub(super) struct Layer {
    pub(super) group: Group,
    pub(super) saliency: Saliency,
    pub(super) known: KnownRows,
    pub(super) live: Vec<bool>,
    pub(super) quota_left: usize,
    units_per_epoch: usize,
    pub(super) last_energy: Option<f64>,
    pub(super) references: Option<Vec<f64>>,
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
    pub(super) config: &'a ValidConfig,
    pub(super) bounds: Bounds,
    pub(super) heads: Heads,
    pub(super) layers: Vec<Layer>,
    pub(super) cumulative: Intervals,
    /// Norms of wide kernels, which merges change little by little.
    spectral_norms: SpectralNorms,
    pub(super) random: Random,
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
                known: KnownRows::default(),
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
            spectral_norms: SpectralNorms::default(),
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
        self.spectral_norms = SpectralNorms::default();
        self.merges.truncate(checkpoint.merges);
        self.cumulative = checkpoint.cumulative;
        for (layer, live) in self.layers.iter_mut().zip(checkpoint.live) {
            layer.live = live;
            layer.known.forget();
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
            let (network, norms) = (&self.network, &mut self.spectral_norms);
            let sensitivity = Sensitivity::of(network, &open, &self.bounds, norms, poll)?;
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

    /// Nothing more can be removed within the budget.
    pub(super) fn close(&mut self) {
        self.budget_spent = true;
        for layer in &mut self.layers {
            layer.quota_left = 0;
        }
    }

    /// No unit left in the layer may be a delegate: the rest of its quota can never be met.
    pub(super) fn give_up_rest(&mut self, index: usize) {
        self.ran_short |= self.layers[index].quota_left > 0;
        self.layers[index].quota_left = 0;
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
        let known = (sensitivity, &mut self.layers[index].known);
        let injected = impact::inject(&self.network, &group, &settled, &self.bounds, known, poll)?;
        let changes = merge::merge(&mut self.network, &group, pairs)?;
        for change in &changes {
            self.spectral_norms.note(change.node, &change.rounding.rows);
        }
        let after = self.bounds.updated(&self.network, &group.downstream, poll)?;
        let roundings: Vec<_> = changes.iter().map(|change| change.rounding.clone()).collect();
        let step = Step { before: &self.bounds, after: &after, sensitivity };
        let joint = impact::joint(&self.network, &group, injected, &roundings, &step, poll)?;
        self.cumulative = self.cumulative.plus(&joint);
        self.bounds = after;
        self.forget_rows(&group.downstream);
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

    /// The difference rows of the layers at these nodes are no longer true.
    pub(super) fn forget_rows(&mut self, changed: &[NodeId]) {
        for layer in &mut self.layers {
            if changed.contains(&layer.group.producer) {
                layer.known.forget();
            }
        }
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
