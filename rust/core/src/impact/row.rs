//! Difference rows: what is known of `(w_j - w_i).x + (b_j - b_i)` for x in a box.

use std::collections::HashMap;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use super::{Pair, row_sums};
use crate::interval::Interval;
use crate::lanes::side_by_side;
use crate::tasks;

/// Most weights that are laid out at a time.
const MOST_WEIGHTS: usize = 1 << 24;
/// Inputs of all units that one task lays out.
const INPUTS_PER_TASK: usize = 512;
/// Operations that laying out one weight takes, about: most wait for memory.
const OPERATIONS: usize = 8;
/// Inputs that it lays out at a time: a line of the cache.
const INPUTS_AT_ONCE: usize = 16;
/// Fewest pairs that are laid out at a time.
const FEWEST_PAIRS: usize = 32;

/// The affine map of one unit, normalizations folded in.
#[derive(Clone, Copy)]
pub(super) struct Folded {
    pub(super) scale: f64,
    pub(super) bias: f64,
    /// Sum of the absolute values that `bias` was added up from.
    pub(super) magnitude: f64,
}

/// What is known of one pair's difference of pre-activations.
#[derive(Debug, Clone, Copy)]
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
    /// Shape `(units, inputs)`, without the folded scales.
    weights: Array2<f32>,
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
    (MOST_WEIGHTS / (2 * inputs.max(1))).max(FEWEST_PAIRS)
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
        Self {
            weights: laid_out(kernel, &units),
            folded: units.iter().map(|&unit| folded(unit)).collect(),
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
        let inputs = centre.len();
        let sums = tasks::map(self.folded.len(), inputs, |place| self.sums(place, centre, radius));
        tasks::map(self.places.len(), inputs, |number| {
            let (i, j) = self.places[number];
            let interval = self.interval(number, (sums[i], sums[j]), radius);
            if !moments {
                return Row { interval, distance: 0.0, moment: 0.0 };
            }
            let (distance, moment) = self.moments(number, sums[j].middle - sums[i].middle, radius);
            Row { interval, distance, moment }
        })
    }

    fn of(&self, place: usize) -> &[f32] {
        self.weights.row(place).to_slice().unwrap_or_default()
    }

    fn sums(&self, place: usize, centre: &[f64], radius: &[f64]) -> Sums {
        let scale = self.folded[place].scale;
        let (middle, size) = row_sums::affine(self.of(place), scale, centre, radius);
        Sums { middle, size }
    }

    /// The interval of a difference row, with the same pad as for any sum of n products and a few
    /// operations more for the folding of two scales.
    fn interval(&self, number: usize, (sums_i, sums_j): (Sums, Sums), radius: &[f64]) -> Interval {
        let (i, j) = self.places[number];
        let (map_i, map_j) = (self.folded[i], self.folded[j]);
        let same = self.alike[number] && map_i.scale == map_j.scale && map_i.bias == map_j.bias;
        if same && (map_i.scale == 0.0 || self.of(i) == self.of(j)) {
            return Interval::ZERO;
        }
        let scales = (map_i.scale, map_j.scale);
        let reach = row_sums::spread(self.of(i), self.of(j), scales, radius);
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
        let scales = (map_i.scale, map_j.scale);
        let (squares, variance) = row_sums::moments(self.of(i), self.of(j), scales, radius);
        let gap = map_j.bias - map_i.bias;
        let middle = middle + gap;
        ((squares + gap * gap).sqrt(), (middle * middle + variance / 3.0).sqrt())
    }
}

/// The weights of some units side by side, each unit's inputs in a row.
fn laid_out(kernel: ArrayView2<'_, f32>, units: &[usize]) -> Array2<f32> {
    let mut weights = Array2::zeros((units.len(), kernel.nrows()));
    let task = |(kernel, mut weights): (ArrayView2<'_, f32>, ArrayViewMut2<'_, f32>)| {
        // A few rows of the kernel at a time, as it lies in memory, and then a run of each unit's:
        // one weight of every unit would push the one before out of the cache.
        let mut turned = vec![0.0_f32; INPUTS_AT_ONCE * units.len()];
        let inputs = kernel.axis_chunks_iter(Axis(0), INPUTS_AT_ONCE);
        for (part, mut to) in inputs.zip(weights.axis_chunks_iter_mut(Axis(1), INPUTS_AT_ONCE)) {
            for (input, row) in part.rows().into_iter().enumerate() {
                let row = side_by_side(row);
                for (turned, &unit) in turned.chunks_exact_mut(INPUTS_AT_ONCE).zip(units) {
                    turned[input] = row[unit];
                }
            }
            let runs = turned.chunks_exact(INPUTS_AT_ONCE);
            for (mut run, turned) in to.rows_mut().into_iter().zip(runs) {
                for (weight, &turned) in run.iter_mut().zip(turned) {
                    *weight = turned;
                }
            }
        }
    };
    // Threads share out the inputs: each reads its part of the kernel once.
    let parts = kernel.axis_chunks_iter(Axis(0), INPUTS_PER_TASK);
    if tasks::is_worth_sharing(OPERATIONS * weights.len()) {
        let targets = weights.axis_chunks_iter_mut(Axis(1), INPUTS_PER_TASK);
        parts.into_par_iter().zip(targets.into_par_iter()).for_each(task);
    } else {
        parts.zip(weights.axis_chunks_iter_mut(Axis(1), INPUTS_PER_TASK)).for_each(task);
    }
    weights
}
