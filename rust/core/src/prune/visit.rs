//! One visit to a layer: candidates scored, pairs chosen and merged.

use crate::annealing::{self, Schedule};
use crate::config::{AnnealingConfig, Change, EnergyConfig, Method, Normalization, Restart};
use crate::energy::quantile;
use crate::error::{Poll, Result};
use crate::impact::{self, Pair, Scoring};
use crate::interval::Intervals;
use crate::sensitivity::Sensitivity;
use crate::trace::VisitTrace;
use crate::{similarity, tasks};

use super::lossless::is_within;
use super::run::{Layer, Run};

/// Fewest candidates that annealing scores in a visit, unless `pool` is 1 (the paper's line 6).
const SMALLEST_POOL: usize = 8;
/// Fewest energies computed between two polls.
const ENERGIES_PER_POLL: usize = 4;
/// Operations between two polls, if more energies than that take no longer.
const OPERATIONS_PER_POLL: usize = 1 << 23;

impl Run<'_> {
    /// Choose up to `count` pairs of a layer by scoring pools of candidates, and merge them.
    pub(super) fn visit(
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
            let scoring = Scoring { change: self.change(), bounds: &self.bounds, sensitivity };
            let Layer { group, known, .. } = &mut self.layers[index];
            let impacts = impact::candidates(&self.network, group, &pairs, scoring, known, poll)?;
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
        let operations = impacts.first().map_or(1, similarity::operations);
        for batch in impacts.chunks((OPERATIONS_PER_POLL / operations).max(ENERGIES_PER_POLL)) {
            poll.check()?;
            energies.extend(tasks::map(batch.len(), operations, |at| {
                heads.energy(&batch[at], &self.cumulative, references, config)
            }));
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
