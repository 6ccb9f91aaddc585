//! Saliency of pairs of units (eq. 2), from one Gram product that is kept up to date.

mod distances;

use ndarray::{Array2, ArrayView2};

use crate::config::{BiasTerm, Outgoing};
use crate::error::{Poll, Result};
use crate::impact::Pair;
use crate::linalg::{gram, update_gram};
use crate::network::{Group, Network};
use crate::tasks;

/// Delegates remembered for each nominee.
const REMEMBERED: usize = 4;
/// Below this share of the squared norms a squared distance has lost its digits to cancellation.
const CANCELLATION: f64 = 1e-6;
/// Below this share of the largest squared norms ever, updates have left more error than digits.
const DRIFT: f64 = 1e-10;
/// Fewest nominees whose delegates are looked for between two polls.
const NOMINEES_PER_POLL: usize = 32;
/// Operations between two polls, if there are more nominees than that.
const OPERATIONS_PER_POLL: usize = 1 << 23;
/// Operations that a distance takes, about.
const OPERATIONS: usize = 8;
/// Smallest denominator of the bias term.
const SMALLEST_BIAS_SUM: f64 = 1e-12;

/// A nominee with its cheapest delegate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// `r_nominee * distance`.
    pub saliency: f64,
    /// The two units.
    pub pair: Pair,
}

/// Delegates by distance, the nearest first.
type Nearest = Vec<(f64, usize)>;

/// The saliencies of one layer's units.
#[derive(Debug, Clone)]
pub struct Saliency {
    /// `W^T W` of the kernel as it is, before any folding.
    gram: Array2<f64>,
    scale: Vec<f64>,
    bias: Vec<f64>,
    outgoing: Vec<f64>,
    can_delegate: Vec<bool>,
    measure: Outgoing,
    bias_term: BiasTerm,
    /// Squared norms of the columns, scaled.
    norms: Vec<f64>,
    /// Largest squared norm each column ever had: what its entries may have lost digits to.
    largest: Vec<f64>,
    /// Cheapest live delegates of each nominee, `None` where distances have changed.
    nearest: Vec<Option<Nearest>>,
}

impl Saliency {
    /// Compute the Gram product of a layer and the norms of its outgoing weights.
    pub fn new(
        network: &Network,
        group: &Group,
        measure: Outgoing,
        bias_term: BiasTerm,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let units = group.units;
        let mut saliency = Self {
            gram: gram(kernel_of(network, group), poll)?,
            scale: group.consumers.first().map_or(vec![1.0; units], |c| c.fold.scale.clone()),
            bias: Vec::new(),
            outgoing: vec![0.0; units],
            can_delegate: (0..units)
                .map(|unit| group.consumers.iter().all(|c| c.can_delegate(unit, units)))
                .collect(),
            measure,
            bias_term,
            norms: Vec::new(),
            largest: vec![0.0; units],
            nearest: vec![None; units],
        };
        saliency.note_norms();
        saliency.refresh_bias(network, group);
        saliency.refresh_outgoing(network, group, &(0..units).collect::<Vec<_>>());
        Ok(saliency)
    }

    /// Read the biases anew, with everything folded in.
    pub fn refresh_bias(&mut self, network: &Network, group: &Group) {
        let bias = network.node(group.producer).op.kernel_and_bias().and_then(|(_, bias)| bias);
        self.bias = (0..group.units)
            .map(|unit| {
                let offset = group.consumers.first().map_or(0.0, |c| c.fold.offset[unit]);
                offset + self.scale[unit] * bias.map_or(0.0, |bias| f64::from(bias[unit]))
            })
            .collect();
        self.nearest.fill(None);
    }

    /// Read the sizes of some units' outgoing weights anew.
    pub fn refresh_outgoing(&mut self, network: &Network, group: &Group, units: &[usize]) {
        let reads = |kernel: ArrayView2<'_, f32>| kernel.len() / group.units;
        let weights = group.consumers.iter().filter_map(|consumer| {
            network.node(consumer.node).op.kernel_and_bias().map(|(kernel, _)| reads(kernel.view()))
        });
        let sizes = tasks::map(units.len(), weights.sum(), |at| {
            outgoing_size(network, group, units[at], self.measure)
        });
        for (&unit, size) in units.iter().zip(sizes) {
            if (size == 0.0) != (self.outgoing[unit] == 0.0) {
                self.nearest[unit] = None;
            }
            self.outgoing[unit] = size;
        }
    }

    fn note_norms(&mut self) {
        let squares = self.scale.iter().map(|scale| scale * scale);
        self.norms = squares.zip(self.gram.diag()).map(|(square, norm)| square * norm).collect();
        for (largest, &norm) in self.largest.iter_mut().zip(self.gram.diag()) {
            *largest = largest.max(norm);
        }
    }

    /// Rows of the kernel were replaced: correct the Gram product.
    pub fn update_incoming(&mut self, added: &Array2<f64>, removed: &Array2<f64>) {
        update_gram(&mut self.gram, added, removed);
        self.note_norms();
        self.nearest.fill(None);
    }

    /// `d_ij` with the bias term: the saliency without the size of the outgoing weights.
    pub fn distance(&self, kernel: ArrayView2<'_, f32>, nominee: usize, delegate: usize) -> f64 {
        let (si, sj) = (self.scale[nominee], self.scale[delegate]);
        let norms = self.norms[nominee] + self.norms[delegate];
        let mut squared = norms - 2.0 * si * sj * self.gram[[nominee, delegate]];
        let once = si * si * self.largest[nominee] + sj * sj * self.largest[delegate];
        if squared < CANCELLATION * norms || squared < DRIFT * once {
            let columns = kernel.column(nominee).into_iter().zip(kernel.column(delegate));
            squared = columns
                .map(|(&wi, &wj)| si * f64::from(wi) - sj * f64::from(wj))
                .map(|difference| difference * difference)
                .sum();
        }
        let (bi, bj) = (self.bias[nominee], self.bias[delegate]);
        match self.bias_term {
            BiasTerm::Absolute => (squared.max(0.0) + (bi - bj) * (bi - bj)).sqrt(),
            BiasTerm::Relative if bi == bj => squared.max(0.0).sqrt(),
            BiasTerm::Relative => {
                squared.max(0.0).sqrt() + (bi - bj).abs() / (bi + bj).abs().max(SMALLEST_BIAS_SUM)
            }
        }
    }

    /// Saliency of every pair; row = nominee. The diagonal is infinite, as are the columns of
    /// units that cannot be delegates.
    pub fn matrix(&self, network: &Network, group: &Group) -> Array2<f64> {
        let kernel = kernel_of(network, group);
        Array2::from_shape_fn((group.units, group.units), |(nominee, delegate)| {
            if nominee == delegate || !self.can_delegate[delegate] {
                return f64::INFINITY;
            }
            self.outgoing[nominee] * self.distance(kernel, nominee, delegate)
        })
    }

    /// Each free nominee with its cheapest free delegate, by (saliency, nominee, delegate).
    ///
    /// `is_live` marks the units that are left, `is_free` those of them that are not yet part of a
    /// pair in this visit. Only live delegates are remembered: what is not free now is so again in
    /// the next visit.
    pub fn candidates(
        &mut self,
        network: &Network,
        group: &Group,
        is_live: &[bool],
        is_free: &[bool],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Candidate>> {
        let kernel = kernel_of(network, group);
        let (live, open) = (self.apart(is_live), self.apart(is_free));
        let free: Vec<usize> = (0..is_free.len()).filter(|&unit| is_free[unit]).collect();
        let at_once = (OPERATIONS_PER_POLL / (OPERATIONS * group.units)).max(NOMINEES_PER_POLL);
        let mut candidates = Vec::with_capacity(free.len());
        for batch in free.chunks(at_once) {
            poll.check()?;
            let any_live = |list: &Nearest| list.iter().any(|&(_, unit)| is_live[unit]);
            let stale: Vec<usize> = batch
                .iter()
                .copied()
                .filter(|&nominee| !self.nearest[nominee].as_ref().is_some_and(any_live))
                .collect();
            let found = tasks::map(stale.len(), OPERATIONS * group.units, |at| {
                self.cheapest(kernel, stale[at], &live)
            });
            for (nominee, found) in stale.into_iter().zip(found) {
                self.nearest[nominee] = Some(found);
            }
            candidates.extend(batch.iter().filter_map(|&nominee| {
                let first_free =
                    |list: &[(f64, usize)]| list.iter().find(|&&(_, unit)| is_free[unit]).copied();
                let (distance, delegate) = self.nearest[nominee]
                    .as_deref()
                    .and_then(first_free)
                    .or_else(|| first_free(&self.cheapest(kernel, nominee, &open)))?;
                let saliency = self.outgoing[nominee] * distance;
                Some(Candidate { saliency, pair: Pair { nominee, delegate } })
            }));
        }
        candidates.sort_by(|a, b| {
            a.saliency.total_cmp(&b.saliency).then(a.pair.nominee.cmp(&b.pair.nominee))
        });
        Ok(candidates)
    }

    /// One nominee with its cheapest free delegate, if there is any.
    pub fn candidate(
        &self,
        network: &Network,
        group: &Group,
        nominee: usize,
        is_free: &[bool],
    ) -> Option<Candidate> {
        let nearest = self.cheapest(kernel_of(network, group), nominee, &self.apart(is_free));
        let &(distance, delegate) = nearest.first()?;
        let saliency = self.outgoing[nominee] * distance;
        Some(Candidate { saliency, pair: Pair { nominee, delegate } })
    }

    /// Infinity for the units that cannot be delegates now, 0 for the others.
    fn apart(&self, is_free: &[bool]) -> Vec<f64> {
        let can_delegate = self.can_delegate.iter().zip(is_free);
        can_delegate.map(|(&can, &free)| if can && free { 0.0 } else { f64::INFINITY }).collect()
    }

    /// The nominee's cheapest delegates of those that are not `apart`, cheapest first, ties by unit
    /// number.
    fn cheapest(
        &self,
        kernel: ArrayView2<'_, f32>,
        nominee: usize,
        apart: &[f64],
    ) -> Vec<(f64, usize)> {
        let mut best: Nearest = Vec::with_capacity(REMEMBERED + 1);
        // Without outgoing weights every delegate costs nothing: the first will do.
        let idle = self.outgoing[nominee] == 0.0;
        let mut farthest = f64::INFINITY;
        for (delegate, square) in self.squares(nominee, apart).into_iter().enumerate() {
            // Most are too far away to be remembered.
            if square > farthest || apart[delegate] != 0.0 || delegate == nominee {
                continue;
            }
            let distance = if idle { 0.0 } else { self.distance(kernel, nominee, delegate) };
            if best.len() == REMEMBERED && distance >= best[REMEMBERED - 1].0 {
                continue;
            }
            let place = best.partition_point(|&(known, _)| known <= distance);
            best.insert(place, (distance, delegate));
            best.truncate(REMEMBERED);
            if best.len() == REMEMBERED && self.bias_term == BiasTerm::Absolute {
                let last = best[REMEMBERED - 1].0;
                farthest = last * last * (1.0 + 8.0 * f64::EPSILON);
            }
        }
        best
    }
}

fn kernel_of<'a>(network: &'a Network, group: &Group) -> ArrayView2<'a, f32> {
    match network.node(group.producer).op.kernel_and_bias() {
        Some((kernel, _)) => kernel.view(),
        // Groups are only made of ops with a kernel; an empty one has no units.
        None => ArrayView2::from_shape((0, 0), &[]).expect("an empty view"),
    }
}

fn outgoing_size(network: &Network, group: &Group, unit: usize, measure: Outgoing) -> f64 {
    let (mut sum, mut count) = (0.0, 0_usize);
    for consumer in &group.consumers {
        let Some((kernel, _)) = network.node(consumer.node).op.kernel_and_bias() else { continue };
        for row in (unit..kernel.nrows()).step_by(group.units) {
            let gain = consumer.gain[row % consumer.gain.len()];
            for &weight in kernel.row(row) {
                let weight = gain * f64::from(weight);
                sum += if measure == Outgoing::L2 { weight * weight } else { weight.abs() };
                count += 1;
            }
        }
    }
    match measure {
        Outgoing::L2 => sum.sqrt(),
        Outgoing::MeanAbsolute => sum / count.max(1) as f64,
    }
}
