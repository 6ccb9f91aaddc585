//! How many output intervals are similar to each one (eq. 6), for few outputs and for many.
//!
//! Two intervals are similar if `1 - (|l - l'| + |u - u'|) / (2 R)` is at least phi, R the range of
//! all. With many outputs comparing each with each would be most of a run's work: they are swept
//! instead, in the order of `l + u`, which finds all counts in `m log m` steps. The sweep decides
//! by sums that are rounded otherwise; where that could matter, that output is compared with each.

use crate::interval::Intervals;

/// From this many outputs on they are swept.
const MANY: usize = 384;

/// Operations that finding them takes, about.
pub(crate) fn operations(outputs: &Intervals) -> usize {
    let count = outputs.len();
    if count < MANY { 4 * count * count } else { 2048 * count }
}

/// For each output the number of others that are similar to it.
///
/// `range` is the range of all of them, positive and finite.
pub(crate) fn neighbours(outputs: &Intervals, range: f64, similarity: f64) -> Vec<usize> {
    let farthest = farthest_similar(range, similarity);
    if outputs.len() < MANY {
        return (0..outputs.len()).map(|k| compared(outputs, k, farthest)).collect();
    }
    // Sums of two ends, and their differences, err by this much at most.
    let largest = |ends: &[f64]| ends.iter().fold(0.0_f64, |most, end| most.max(end.abs()));
    let error = 16.0 * f64::EPSILON * (largest(&outputs.lower) + largest(&outputs.upper));
    let swept = Sweep::new(outputs);
    let (sure, possible) = (swept.counts(farthest - error), swept.counts(farthest + error));
    sure.into_iter()
        .zip(possible)
        .enumerate()
        .map(
            |(k, (sure, possible))| {
                if sure == possible { sure - 1 } else { compared(outputs, k, farthest) }
            },
        )
        .collect()
}

/// The largest distance `|l - l'| + |u - u'|` of similar outputs, in the arithmetic of the
/// definition: it never grows with the distance, so that halving finds where it ends.
fn farthest_similar(range: f64, similarity: f64) -> f64 {
    let similar = |distance: f64| 1.0 - distance / (2.0 * range) >= similarity;
    let (mut sure, mut too_far) = (0_u64, f64::INFINITY.to_bits());
    while too_far - sure > 1 {
        let middle = sure + (too_far - sure) / 2;
        if similar(f64::from_bits(middle)) { sure = middle } else { too_far = middle }
    }
    f64::from_bits(sure)
}

/// Compare output k with each.
fn compared(outputs: &Intervals, k: usize, farthest: f64) -> usize {
    let (lower, upper) = (outputs.lower[k], outputs.upper[k]);
    // Without a branch and over everything, itself too: the processor does several at once.
    let alike: usize = outputs
        .lower
        .iter()
        .zip(&outputs.upper)
        .map(|(&l, &u)| usize::from((lower - l).abs() + (upper - u).abs() <= farthest))
        .sum();
    alike - 1
}

/// Outputs by `p = l + u` and `q = l - u`: a distance is `max(|p - p'|, |q - q'|)`.
struct Sweep {
    /// `(p, output)`, ascending.
    by_sum: Vec<(f64, usize)>,
    /// `(q, output)`, ascending.
    by_difference: Vec<(f64, usize)>,
    /// Place of each output in `by_difference`.
    place: Vec<usize>,
}

impl Sweep {
    fn new(outputs: &Intervals) -> Self {
        let ends = || outputs.lower.iter().zip(&outputs.upper).enumerate();
        let mut by_sum: Vec<(f64, usize)> = ends().map(|(k, (l, u))| (l + u, k)).collect();
        let mut by_difference: Vec<(f64, usize)> = ends().map(|(k, (l, u))| (l - u, k)).collect();
        by_sum.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        by_difference.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut place = vec![0; outputs.len()];
        for (at, &(_, k)) in by_difference.iter().enumerate() {
            place[k] = at;
        }
        Self { by_sum, by_difference, place }
    }

    /// For each output the number of outputs, itself included, within this distance.
    fn counts(&self, distance: f64) -> Vec<usize> {
        let windows = windows(&self.by_difference, distance);
        let mut counts = vec![0; self.place.len()];
        let mut inside = Tally::new(self.place.len());
        let sums = windows_in_order(&self.by_sum, distance);
        let (mut first, mut last) = (0, 0);
        for (&(_, k), (from, to)) in self.by_sum.iter().zip(sums) {
            while last < to {
                inside.add(self.place[self.by_sum[last].1], 1);
                last += 1;
            }
            while first < from {
                inside.add(self.place[self.by_sum[first].1], -1);
                first += 1;
            }
            let (from, to) = windows[self.place[k]];
            counts[k] = inside.below(to).saturating_sub(inside.below(from)).max(1);
        }
        counts
    }
}

/// For each place of an ascending list the places of what is within a distance: from, to.
fn windows_in_order(
    sorted: &[(f64, usize)],
    distance: f64,
) -> impl Iterator<Item = (usize, usize)> + '_ {
    let (mut first, mut last) = (0, 0);
    sorted.iter().enumerate().map(move |(at, &(own, _))| {
        while first < at && own - sorted[first].0 > distance {
            first += 1;
        }
        last = last.max(at + 1);
        while last < sorted.len() && sorted[last].0 - own <= distance {
            last += 1;
        }
        (first, last)
    })
}

fn windows(sorted: &[(f64, usize)], distance: f64) -> Vec<(usize, usize)> {
    windows_in_order(sorted, distance).collect()
}

/// How many of some places are taken, below any one of them: a Fenwick tree.
struct Tally(Vec<i32>);

impl Tally {
    fn new(places: usize) -> Self {
        Self(vec![0; places + 1])
    }

    fn add(&mut self, place: usize, count: i32) {
        let mut at = place + 1;
        while at < self.0.len() {
            self.0[at] += count;
            at += at & at.wrapping_neg();
        }
    }

    fn below(&self, place: usize) -> usize {
        let (mut at, mut sum) = (place, 0);
        while at > 0 {
            sum += self.0[at];
            at &= at - 1;
        }
        usize::try_from(sum).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Random;

    fn by_definition(outputs: &Intervals, range: f64, similarity: f64) -> Vec<usize> {
        let similar = |a: usize, b: usize| {
            let moved = (outputs.lower[a] - outputs.lower[b]).abs()
                + (outputs.upper[a] - outputs.upper[b]).abs();
            1.0 - moved / (2.0 * range) >= similarity
        };
        let count = outputs.len();
        let others = |k| (0..count).filter(|&other| other != k && similar(k, other)).count();
        (0..count).map(others).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Ends on a grid, so that distances fall on the border of similarity again and again.
        #[test]
        fn sweeping_and_comparing_count_what_the_definition_says(
            seed in 0_u64..10_000,
            count in 1_usize..(2 * MANY),
            similarity in prop_oneof![Just(0.0), Just(0.5), Just(0.9), Just(1.0), 0.0..1.0],
            grid in prop_oneof![Just(4.0), Just(100.0), Just(1e9)],
            centre in prop_oneof![Just(0.0), Just(1e3), Just(-1e-3)],
        ) {
            let mut random = Random::from_seed(seed);
            let mut end = || centre + (random.uniform() * grid).floor() / grid;
            let ends: Vec<(f64, f64)> = (0..count).map(|_| (end(), end())).collect();
            let outputs = Intervals {
                lower: ends.iter().map(|(a, b)| a.min(*b)).collect(),
                upper: ends.iter().map(|(a, b)| a.max(*b)).collect(),
            };
            let lowest = outputs.lower.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = outputs.upper.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assume!(highest > lowest);
            let range = highest - lowest;
            let found = neighbours(&outputs, range, similarity);
            prop_assert_eq!(found, by_definition(&outputs, range, similarity));
        }
    }
}
