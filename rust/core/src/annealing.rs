//! Simulated annealing over the candidates of one visit (Algorithm 1, eq. 9).

use crate::impact::Pair;
use crate::random::Random;

/// What the acceptance rule needs besides the candidates.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Units still to accept.
    pub count: usize,
    /// Temperature T, the share of units still to remove.
    pub temperature: f64,
    /// Scale s of the temperature.
    pub scale: f64,
    /// Further walks over rejected candidates.
    pub rewalks: usize,
}

/// What happened to the candidates of a visit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acceptance {
    /// Indices of the accepted candidates, in order.
    pub chosen: Vec<usize>,
    /// Accepted because the energy did not rise (or there was none to compare with).
    pub by_energy: usize,
    /// Accepted by a draw.
    pub by_chance: usize,
    /// Draws that refused.
    pub rejections: usize,
    /// Taken in the end although refused.
    pub taken: usize,
}

/// Walk the candidates in order and accept `count` of them (fewer if units run out).
///
/// `used` marks units already in an accepted pair; `last_energy` is e*, updated on the way.
pub fn anneal(
    pairs: &[Pair],
    energies: &[f64],
    schedule: Schedule,
    used: &mut [bool],
    last_energy: &mut Option<f64>,
    random: &mut Random,
) -> Acceptance {
    let mut acceptance = Acceptance::default();
    let mut open: Vec<usize> = (0..pairs.len()).collect();
    for _ in 0..=schedule.rewalks {
        if open.is_empty() {
            break;
        }
        let mut rejected = Vec::new();
        for index in open {
            if acceptance.chosen.len() == schedule.count {
                return acceptance;
            }
            if is_used(used, pairs[index]) {
                continue;
            }
            let rise = last_energy.map_or(0.0, |last| energies[index] - last);
            let heat = schedule.temperature * schedule.scale;
            if rise <= 0.0 || heat <= 0.0 {
                acceptance.by_energy += 1;
            } else if random.uniform() < libm::exp(-rise / heat) {
                acceptance.by_chance += 1;
            } else {
                acceptance.rejections += 1;
                rejected.push(index);
                continue;
            }
            accept(index, pairs, energies, used, last_energy, &mut acceptance);
        }
        open = rejected;
    }
    open.sort_by(|&a, &b| energies[a].total_cmp(&energies[b]).then(a.cmp(&b)));
    for index in open {
        if acceptance.chosen.len() < schedule.count && !is_used(used, pairs[index]) {
            acceptance.taken += 1;
            accept(index, pairs, energies, used, last_energy, &mut acceptance);
        }
    }
    acceptance
}

fn is_used(used: &[bool], pair: Pair) -> bool {
    used[pair.nominee] || used[pair.delegate]
}

fn accept(
    index: usize,
    pairs: &[Pair],
    energies: &[f64],
    used: &mut [bool],
    last_energy: &mut Option<f64>,
    acceptance: &mut Acceptance,
) {
    used[pairs[index].nominee] = true;
    used[pairs[index].delegate] = true;
    *last_energy = Some(energies[index]);
    acceptance.chosen.push(index);
}
