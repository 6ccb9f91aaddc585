//! What a run records about every epoch.

use crate::annealing::Acceptance;
use crate::interval::Intervals;

/// One visit to one layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VisitTrace {
    /// Units removed.
    pub removed: usize,
    /// Candidates scored.
    pub candidates: usize,
    /// Accepted because the energy did not rise.
    pub by_energy: usize,
    /// Accepted by a draw.
    pub by_chance: usize,
    /// Draws that refused.
    pub rejections: usize,
    /// Taken in the end although refused.
    pub taken: usize,
    /// Energies of the accepted pairs.
    pub energies: Vec<f64>,
    /// Temperature scales, one a pool.
    pub scales: Vec<f64>,
}

impl VisitTrace {
    /// Add what happened to one pool of candidates.
    pub(crate) fn record(&mut self, acceptance: &Acceptance, energies: &[f64], scale: f64) {
        self.by_energy += acceptance.by_energy;
        self.by_chance += acceptance.by_chance;
        self.rejections += acceptance.rejections;
        self.taken += acceptance.taken;
        self.energies.extend(acceptance.chosen.iter().map(|&index| energies[index]));
        self.scales.push(scale);
    }
}

/// One epoch: a visit to every layer with units still to remove.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochTrace {
    /// Number of the epoch, from 0.
    pub epoch: usize,
    /// Units still to remove over all units to remove, at its start.
    pub temperature: f64,
    /// Units left in each layer at its end.
    pub units: Vec<(String, usize)>,
    /// All its visits together.
    pub visits: VisitTrace,
    /// Bounds of the logits' change so far.
    pub impact: Intervals,
}

impl EpochTrace {
    pub(crate) fn new(epoch: usize, temperature: f64) -> Self {
        Self {
            epoch,
            temperature,
            units: Vec::new(),
            visits: VisitTrace::default(),
            impact: Intervals::default(),
        }
    }

    pub(crate) fn add(&mut self, visit: VisitTrace) {
        self.visits.removed += visit.removed;
        self.visits.candidates += visit.candidates;
        self.visits.by_energy += visit.by_energy;
        self.visits.by_chance += visit.by_chance;
        self.visits.rejections += visit.rejections;
        self.visits.taken += visit.taken;
        self.visits.energies.extend(visit.energies);
        self.visits.scales.extend(visit.scales);
    }

    /// Mean energy of the accepted pairs; `None` for methods without one.
    pub fn mean_energy(&self) -> Option<f64> {
        mean(&self.visits.energies)
    }

    /// Mean scale of the temperature; `None` for methods without one.
    pub fn mean_scale(&self) -> Option<f64> {
        mean(&self.visits.scales)
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
