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
    // Where only what is all alike is similar every distance is at the border.
    if outputs.len() < MANY || farthest == 0.0 {
        return (0..outputs.len()).map(|k| compared(outputs, k, farthest)).collect();
    }
    // Sums of two ends, and their differences, err by this much at most.
    let largest = |ends: &[f64]| ends.iter().fold(0.0_f64, |most, end| most.max(end.abs()));
    let error = 16.0 * f64::EPSILON * (largest(&outputs.lower) + largest(&outputs.upper));
    let counts = Sweep::new(outputs).counts(farthest, error);
    let others = |(k, count): (usize, Option<usize>)| {
        count.map_or_else(|| compared(outputs, k, farthest), |count| count - 1)
    };
    counts.into_iter().enumerate().map(others).collect()
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
    alike.saturating_sub(1)
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

    /// For each output the number of outputs, itself included, within this distance; `None` where
    /// any is as far away as that but for `error`.
    fn counts(&self, distance: f64, error: f64) -> Vec<Option<usize>> {
        let mut counts = vec![None; self.place.len()];
        let differences: Vec<Option<(usize, usize)>> =
            Windows::of(&self.by_difference, distance, error).collect();
        let mut inside = Tally::new(self.place.len());
        let (mut first, mut last) = (0, 0);
        let sums = Windows::of(&self.by_sum, distance, error);
        for (&(_, k), window) in self.by_sum.iter().zip(sums) {
            let (Some((from, to)), Some((least, most))) = (window, differences[self.place[k]])
            else {
                continue;
            };
            while last < to {
                inside.add(self.place[self.by_sum[last].1], 1);
                last += 1;
            }
            while first < from {
                inside.add(self.place[self.by_sum[first].1], -1);
                first += 1;
            }
            counts[k] = Some(inside.below(most) - inside.below(least));
        }
        counts
    }
}

/// For each place of an ascending list the places (from, to) of what is within a distance; `None`
/// where an error of the distance could make them others.
struct Windows<'a> {
    sorted: &'a [(f64, usize)],
    distance: f64,
    error: f64,
    at: usize,
    first: usize,
    last: usize,
}

impl<'a> Windows<'a> {
    fn of(sorted: &'a [(f64, usize)], distance: f64, error: f64) -> Self {
        Self { sorted, distance, error, at: 0, first: 0, last: 0 }
    }
}

impl Iterator for Windows<'_> {
    type Item = Option<(usize, usize)>;

    fn next(&mut self) -> Option<Self::Item> {
        let own = self.sorted.get(self.at)?.0;
        let far = |other: usize| (self.sorted[other].0 - own).abs();
        while self.first < self.at && far(self.first) > self.distance {
            self.first += 1;
        }
        self.last = self.last.max(self.at + 1);
        while self.last < self.sorted.len() && far(self.last) <= self.distance {
            self.last += 1;
        }
        // The outermost inside and their neighbours outside must be clear of the border.
        let before = self.first.checked_sub(1);
        let after = (self.last < self.sorted.len()).then_some(self.last);
        let clear = [Some(self.first), Some(self.last - 1), before, after]
            .into_iter()
            .flatten()
            .filter(|&other| other != self.at)
            .all(|other| (far(other) - self.distance).abs() > self.error);
        self.at += 1;
        Some(clear.then_some((self.first, self.last)))
    }
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
