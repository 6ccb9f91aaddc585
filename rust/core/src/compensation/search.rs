//! Simulated annealing over which units to keep, for the loss that least squares leaves.

use rayon::prelude::*;

use super::swept::{Objective, Swept};
use crate::config::EnergyConfig;
use crate::energy::{evenness, quantile};
use crate::error::{Poll, Result, never_stop};
use crate::interval::Intervals;
use crate::random::Random;

/// Moves that every chain makes before its regressions are solved anew (sweeps drift) and the
/// caller is asked.
const MOVES_PER_ROUND: usize = 256;
/// Numbers that all chains' moves may change between two questions to whoever may stop them.
const NUMBERS_PER_POLL: usize = 1 << 26;
/// Moves in which a chain cools down; after as many it is heated again.
const MOVES_PER_COOLING: usize = 4096;
/// Moves whose energies tell how far they are apart.
const TRIAL_MOVES: usize = 64;

/// How kept units are searched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// Moves that each chain proposes.
    pub moves: usize,
    /// Chains with random streams of their own, in parallel.
    pub chains: usize,
    /// The energy: the loss alone for `alpha` 1.
    pub energy: EnergyConfig,
    /// The temperature that chains start from, relative to how far the energies of moves are
    /// apart (their interquartile range).
    pub heat: f64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The units to keep, ascending.
    pub kept: Vec<usize>,
    /// Sum of squares that the outputs are off by.
    pub loss: f64,
    /// Moves proposed by all chains together.
    pub moves: usize,
}

/// A set of kept units on its walk.
struct Chain<'a> {
    objectives: &'a [Objective],
    rule: Energy,
    swept: Vec<Swept>,
    kept: Vec<usize>,
    removed: Vec<usize>,
    energy: f64,
    /// The best of all that were solved for.
    best: (f64, Vec<usize>),
    /// The best of the round, by sweeps alone.
    claimed: Option<(f64, Vec<usize>)>,
    random: Random,
    errors: Vec<f64>,
}

/// Energy of a set of kept units by the errors it leaves at the outputs.
#[derive(Debug, Clone, Copy)]
struct Energy {
    config: EnergyConfig,
    /// The loss that counts as 1/2.
    reference: f64,
}

impl Energy {
    /// The paper's energy (eq. 8) of an impact that reaches, at each output, from minus to plus
    /// the root mean square of its change; its size is measured by the squares' sum.
    fn of(&self, errors: &[f64]) -> f64 {
        let loss: f64 = errors.iter().sum();
        let size = loss / (loss + self.reference);
        if self.config.alpha == 1.0 {
            return size;
        }
        let reach: Vec<f64> = errors.iter().map(|error| error.max(0.0).sqrt()).collect();
        let impact = Intervals { lower: reach.iter().map(|r| -r).collect(), upper: reach };
        let evenness = evenness(&impact, self.config.similarity, self.config.density);
        self.config.alpha * size + (1.0 - self.config.alpha) * evenness
    }
}

/// Search from the kept units `start` on, until every chain has made its moves or `goes_on`, told
/// how many were made, says no.
///
/// Chains do not depend on each other nor on the number of threads: the best is the one of least
/// energy, the first of several.
pub(super) fn search(
    objectives: &[Objective],
    start: &[usize],
    how: &Search,
    seed: u64,
    goes_on: &mut dyn FnMut(usize) -> bool,
    poll: &mut Poll<'_>,
) -> Result<Found> {
    let units = objectives.first().map_or(0, Objective::units);
    let swept = solve(objectives, units, start, poll)?;
    let errors = side_by_side(&swept);
    let loss: f64 = errors.iter().sum();
    let nothing = Found { kept: start.to_vec(), loss, moves: 0 };
    if start.is_empty() || start.len() == units || loss <= 0.0 {
        return Ok(nothing);
    }
    let rule = Energy { config: how.energy, reference: loss };
    let chain = |number: u64| Chain {
        objectives,
        rule,
        swept: swept.clone(),
        kept: start.to_vec(),
        removed: (0..units).filter(|unit| start.binary_search(unit).is_err()).collect(),
        energy: rule.of(&errors),
        best: (rule.of(&errors), start.to_vec()),
        claimed: None,
        // Streams of neighbouring seeds share none with each other.
        random: Random::from_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        errors: errors.clone(),
    };
    let mut chains: Vec<Chain<'_>> = (0..how.chains as u64).map(chain).collect();
    let Some(scale) = chains.first().map(Chain::energy_scale) else { return Ok(nothing) };
    // A search that the caller ends by the clock does not know its length: it cools again and again.
    let cycle = how.moves.min(MOVES_PER_COOLING);
    let numbers = how.chains * objectives.iter().map(Objective::numbers).sum::<usize>();
    let moves_per_poll = (NUMBERS_PER_POLL / numbers.max(1)).clamp(1, MOVES_PER_ROUND);
    let mut made = 0;
    while made < how.moves && goes_on(made * how.chains) {
        poll.check()?;
        let round = MOVES_PER_ROUND.min(how.moves - made);
        for first in (made..made + round).step_by(moves_per_poll) {
            poll.check()?;
            let last = (first + moves_per_poll).min(made + round);
            chains.par_iter_mut().for_each(|chain| {
                for at in first..last {
                    let left = 1.0 - (at % cycle) as f64 / cycle as f64;
                    chain.step(how.heat * scale * left);
                }
            });
        }
        if moves_per_poll < MOVES_PER_ROUND {
            chains.iter_mut().try_for_each(|chain| chain.settle(poll))?;
        } else {
            let settle = |chain: &mut Chain<'_>| chain.settle(&mut Poll::new(&mut never_stop()));
            chains.par_iter_mut().map(settle).collect::<Result<Vec<()>>>()?;
        }
        made += round;
    }
    let best = chains
        .into_iter()
        .map(|chain| chain.best)
        .reduce(|best, next| if next.0.total_cmp(&best.0).is_lt() { next } else { best });
    let mut kept = best.map_or_else(|| start.to_vec(), |(_, kept)| kept);
    kept.sort_unstable();
    let loss = side_by_side(&solve(objectives, units, &kept, poll)?).iter().sum();
    Ok(Found { kept, loss, moves: made * how.chains })
}

impl Chain<'_> {
    /// How far the energies of some moves are apart.
    fn energy_scale(&self) -> f64 {
        let mut random = self.random.clone();
        let mut errors = self.errors.clone();
        let mut energies: Vec<f64> = (0..TRIAL_MOVES)
            .map(|_| {
                let (out, back) = self.propose(&mut random);
                self.after_swap(out, back, &mut errors)
            })
            .collect();
        energies.sort_by(f64::total_cmp);
        match (quantile(&energies, 0.25), quantile(&energies, 0.75)) {
            (Some(low), Some(high)) => high - low,
            _ => 0.0,
        }
    }

    /// Places of a kept and of a removed unit.
    fn propose(&self, random: &mut Random) -> (usize, usize) {
        (random.below(self.kept.len()), random.below(self.removed.len()))
    }

    /// The energy if two units, by their places, changed sides; `errors` is room to work in.
    fn after_swap(&self, out: usize, back: usize, errors: &mut [f64]) -> f64 {
        let (out, back) = (self.kept[out], self.removed[back]);
        let mut first = 0;
        for swept in &self.swept {
            let last = first + swept.errors().len();
            swept.errors_after_swap(out, back, &mut errors[first..last]);
            first = last;
        }
        self.rule.of(errors)
    }

    /// Propose one move, and make it if the energy does not rise or a draw allows it (eq. 9).
    fn step(&mut self, heat: f64) {
        let mut random = self.random.clone();
        let (out, back) = self.propose(&mut random);
        let mut errors = std::mem::take(&mut self.errors);
        let energy = self.after_swap(out, back, &mut errors);
        self.errors = errors;
        let rise = energy - self.energy;
        let accepted = rise <= 0.0 || (heat > 0.0 && random.uniform() < libm::exp(-rise / heat));
        self.random = random;
        if !accepted {
            return;
        }
        let (gone, returned) = (self.kept[out], self.removed[back]);
        (self.kept[out], self.removed[back]) = (returned, gone);
        for swept in &mut self.swept {
            swept.swap(gone, returned);
        }
        self.energy = energy;
        let least = self.claimed.as_ref().map_or(self.best.0, |(energy, _)| *energy);
        if energy < least {
            self.claimed = Some((energy, self.kept.clone()));
        }
    }

    /// Solve for the kept units anew, and believe in the round's best only what solving confirms.
    fn settle(&mut self, poll: &mut Poll<'_>) -> Result<()> {
        let units = self.kept.len() + self.removed.len();
        self.swept = solve(self.objectives, units, &self.kept, poll)?;
        self.energy = self.rule.of(&side_by_side(&self.swept));
        if let Some((_, kept)) = self.claimed.take() {
            let energy = self.rule.of(&side_by_side(&solve(self.objectives, units, &kept, poll)?));
            if energy < self.best.0 {
                self.best = (energy, kept);
            }
        }
        Ok(())
    }
}

fn solve(
    objectives: &[Objective],
    units: usize,
    kept: &[usize],
    poll: &mut Poll<'_>,
) -> Result<Vec<Swept>> {
    let mut inside = vec![false; units];
    for &unit in kept {
        inside[unit] = true;
    }
    objectives.iter().map(|objective| Swept::solve(objective, &inside, poll)).collect()
}

/// The errors of all consumers' outputs; rounding may have left a small negative one.
fn side_by_side(swept: &[Swept]) -> Vec<f64> {
    swept.iter().flat_map(|swept| swept.errors().iter().map(|error| error.max(0.0))).collect()
}
