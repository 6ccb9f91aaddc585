//! Difference rows: what is known of `(w_j - w_i).x + (b_j - b_i)` for x in a box.

use std::collections::HashMap;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::Pair;
use crate::interval::Interval;

/// Pairs whose difference rows one task sums up.
const PAIRS_PER_TASK: usize = 32;
/// Most weights that are laid out at a time.
const MOST_WEIGHTS: usize = 1 << 22;
/// Sums that are kept side by side, for the processor to add at once.
const LANES: usize = 8;

/// The affine map of one unit, normalizations folded in.
#[derive(Clone, Copy)]
pub(super) struct Folded {
    pub(super) scale: f64,
    pub(super) bias: f64,
    /// Sum of the absolute values that `bias` was added up from.
    pub(super) magnitude: f64,
}

/// What is known of one pair's difference of pre-activations.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// All values over the box.
    pub(super) interval: Interval,
    /// L2 distance of the incoming weights and biases; 0 if moments were not asked for.
    pub(super) distance: f64,
    /// Root mean square over inputs drawn evenly from the box; 0 if moments were not asked for.
    pub(super) moment: f64,
}

/// The units of some pairs, each with its weights side by side.
pub(super) struct Units {
    /// Folded scale and all, shape `(units, inputs)`.
    weights: Array2<f64>,
    folded: Vec<Folded>,
    places: Vec<(usize, usize)>,
    /// For each pair whether the folded maps of its units are exactly the same.
    alike: Vec<bool>,
}

/// What one unit's sums are over a box.
#[derive(Clone, Copy)]
struct Sums {
    /// `w . m` for the middle m.
    middle: f64,
    /// `|w| . (|m| + r)`, what its rounding is relative to.
    size: f64,
}

/// How many pairs of a layer with that many inputs are laid out at a time.
pub(super) fn pairs_at_once(inputs: usize) -> usize {
    (MOST_WEIGHTS / (2 * inputs.max(1))).max(PAIRS_PER_TASK)
}

impl Units {
    /// Lay out the units of `pairs`.
    pub(super) fn new(
        kernel: ArrayView2<'_, f32>,
        pairs: &[Pair],
        folded: &dyn Fn(usize) -> Folded,
        alike: &dyn Fn(Pair) -> bool,
    ) -> Self {
        let mut units: Vec<usize> =
            pairs.iter().flat_map(|pair| [pair.nominee, pair.delegate]).collect();
        units.sort_unstable();
        units.dedup();
        let place: HashMap<usize, usize> =
            units.iter().enumerate().map(|(place, &unit)| (unit, place)).collect();
        let mut weights = Array2::zeros((units.len(), kernel.nrows()));
        // Row by row, as the kernel lies in memory.
        let folded: Vec<Folded> = units.iter().map(|&unit| folded(unit)).collect();
        for (input, row) in kernel.rows().into_iter().enumerate() {
            for (place, (&unit, folded)) in units.iter().zip(&folded).enumerate() {
                weights[[place, input]] = folded.scale * f64::from(row[unit]);
            }
        }
        Self {
            weights,
            folded,
            places: pairs
                .iter()
                .map(|pair| (place[&pair.nominee], place[&pair.delegate]))
                .collect(),
            alike: pairs.iter().map(|&pair| alike(pair)).collect(),
        }
    }

    /// Each pair's row over the box of this centre and radius.
    pub(super) fn rows(&self, centre: &[f64], radius: &[f64], moments: bool) -> Vec<Row> {
        if centre.iter().chain(radius).any(|end| !end.is_finite()) {
            let unknown = f64::INFINITY;
            let row = Row { interval: Interval::UNBOUNDED, distance: unknown, moment: unknown };
            return vec![row; self.places.len()];
        }
        let sums: Vec<Sums> = (0..self.folded.len())
            .into_par_iter()
            .map(|place| self.sums(place, centre, radius))
            .collect();
        let numbers: Vec<usize> = (0..self.places.len()).collect();
        numbers
            .par_chunks(PAIRS_PER_TASK)
            .flat_map_iter(|numbers| {
                numbers.iter().map(|&number| {
                    let (i, j) = self.places[number];
                    let interval = self.interval(number, (sums[i], sums[j]), radius);
                    if !moments {
                        return Row { interval, distance: 0.0, moment: 0.0 };
                    }
                    let (distance, moment) =
                        self.moments(number, sums[j].middle - sums[i].middle, radius);
                    Row { interval, distance, moment }
                })
            })
            .collect()
    }

    fn of(&self, place: usize) -> &[f64] {
        self.weights.row(place).to_slice().unwrap_or_default()
    }

    fn sums(&self, place: usize, centre: &[f64], radius: &[f64]) -> Sums {
        let (mut middle, mut size) = (0.0, 0.0);
        for ((&weight, &m), &r) in self.of(place).iter().zip(centre).zip(radius) {
            middle += weight * m;
            size += weight.abs() * (m.abs() + r);
        }
        Sums { middle, size }
    }

    /// The interval of a difference row, with the same pad as for any sum of n products and a few
    /// operations more for the folding of two scales.
    fn interval(&self, number: usize, (sums_i, sums_j): (Sums, Sums), radius: &[f64]) -> Interval {
        let (i, j) = self.places[number];
        let (map_i, map_j) = (self.folded[i], self.folded[j]);
        if self.alike[number] && map_i.bias == map_j.bias && self.of(i) == self.of(j) {
            return Interval::ZERO;
        }
        let reach = spread(self.of(i), self.of(j), radius);
        let n = radius.len() as f64;
        let (kappa, factor) = ((n + 8.0) * f64::EPSILON, 1.0 + (n + 8.0) * f64::EPSILON);
        let size = sums_i.size + sums_j.size + map_i.magnitude + map_j.magnitude;
        let middle = (sums_j.middle - sums_i.middle) + (map_j.bias - map_i.bias);
        let reach = reach * factor + kappa * size;
        if !(middle.is_finite() && reach.is_finite()) {
            return Interval::UNBOUNDED;
        }
        Interval::new(middle - reach, middle + reach)
    }

    fn moments(&self, number: usize, middle: f64, radius: &[f64]) -> (f64, f64) {
        let (i, j) = self.places[number];
        let (map_i, map_j) = (self.folded[i], self.folded[j]);
        let (mut squares, mut variance) = (0.0, 0.0);
        for ((&a, &b), &r) in self.of(i).iter().zip(self.of(j)).zip(radius) {
            let weight = b - a;
            squares += weight * weight;
            variance += weight * weight * r * r;
        }
        let gap = map_j.bias - map_i.bias;
        let middle = middle + gap;
        ((squares + gap * gap).sqrt(), (middle * middle + variance / 3.0).sqrt())
    }
}

/// `|b - a| . r`, in `LANES` sums that are added in the end.
fn spread(a: &[f64], b: &[f64], r: &[f64]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let whole = r.len() - r.len() % LANES;
    let chunks = a.chunks_exact(LANES).zip(b.chunks_exact(LANES)).zip(r.chunks_exact(LANES));
    for ((a, b), r) in chunks {
        for lane in 0..LANES {
            lanes[lane] += (b[lane] - a[lane]).abs() * r[lane];
        }
    }
    let rest = a[whole..].iter().zip(&b[whole..]).zip(&r[whole..]);
    rest.fold(lanes.iter().sum(), |sum, ((&a, &b), &r)| sum + (b - a).abs() * r)
}
