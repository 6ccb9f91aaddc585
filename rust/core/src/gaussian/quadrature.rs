//! Gauss-Legendre quadrature, panel by panel, for smooth activations.

use super::{Expansion, TERMS, density, hermite};
use crate::activation::Activation;

/// Deviations from the mean where the density is next to nothing: panels of width 1 up to there.
const REACH: i32 = 11;
/// Panels also end at 0, at plus and minus 3 (hard Swish) and at powers of two up to this one: there
/// activations have their kinks and bend, however wide the variable.
const LARGEST_POWER: i32 = 12;
/// Abscissae and weights of eight points on [-1, 1], one half.
const POINTS: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// Integrate what the activation is above its value at the mean.
pub(super) fn expand(activation: Activation, mean: f64, deviation: f64) -> Expansion {
    let middle = activation.value(mean);
    let (mut first, mut second, mut terms) = (0.0, 0.0, [0.0; TERMS]);
    for ends in panel_ends(mean, deviation).windows(2) {
        let (centre, half) = (0.5 * (ends[0] + ends[1]), 0.5 * (ends[1] - ends[0]));
        for (abscissa, weight) in POINTS {
            for at in [centre - half * abscissa, centre + half * abscissa] {
                let height = activation.value(mean + deviation * at) - middle;
                let share = weight * half * density(at) * height;
                first += share;
                second += share * height;
                for (term, polynomial) in terms.iter_mut().zip(&hermite(at)[1..]) {
                    *term += share * polynomial;
                }
            }
        }
    }
    Expansion { mean: middle + first, variance: (second - first * first).max(0.0), terms }
}

/// Ends of the panels in units of the deviation, ascending.
fn panel_ends(mean: f64, deviation: f64) -> Vec<f64> {
    let powers = (-1..=LARGEST_POWER).map(|power| 2.0_f64.powi(power));
    let bends = powers.chain([3.0]).flat_map(|bend| [bend, -bend]).chain([0.0]);
    let inside =
        bends.map(|bend| (bend - mean) / deviation).filter(|end| end.abs() < f64::from(REACH));
    let mut ends: Vec<f64> = (-REACH..=REACH).map(f64::from).chain(inside).collect();
    ends.sort_by(f64::total_cmp);
    ends
}
