//! Closed forms for activations made of straight pieces.

use std::f64::consts::FRAC_1_SQRT_2;

use libm::erfc;

use super::{Expansion, TERMS, density, hermite};
use crate::activation::Activation;

/// `offset + slope x`, from `start` up to the start of the next piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    start: f64,
    offset: f64,
    slope: f64,
}

impl Piece {
    fn new(start: f64, offset: f64, slope: f64) -> Self {
        Self { start, offset, slope }
    }
}

/// The pieces of an activation, if straight ones are all there is.
pub(super) fn pieces(activation: Activation) -> Option<Vec<Piece>> {
    let first = f64::NEG_INFINITY;
    match activation {
        Activation::Linear => Some(vec![Piece::new(first, 0.0, 1.0)]),
        Activation::Relu { negative_slope, max_value, threshold } => {
            let mut pieces = vec![
                Piece::new(first, -negative_slope * threshold, negative_slope),
                Piece::new(threshold, 0.0, 1.0),
            ];
            if max_value < f64::INFINITY {
                pieces.push(Piece::new(max_value, max_value, 0.0));
            }
            Some(pieces)
        }
        Activation::HardSigmoid => Some(vec![
            Piece::new(first, 0.0, 0.0),
            Piece::new(-3.0, 0.5, 1.0 / 6.0),
            Piece::new(3.0, 1.0, 0.0),
        ]),
        Activation::HardTanh => Some(vec![
            Piece::new(first, -1.0, 0.0),
            Piece::new(-1.0, 0.0, 1.0),
            Piece::new(1.0, 1.0, 0.0),
        ]),
        _ => None,
    }
}

/// An end of a piece in units of the deviation: everything there times the density.
struct End {
    at: f64,
    /// `He_k / sqrt(k!)` times the density.
    hermite: [f64; TERMS + 1],
    /// The end itself times the density.
    moment: f64,
}

impl End {
    fn new(at: f64) -> Self {
        let density = density(at);
        // Far out the polynomials overflow; what is left of the density there is nothing.
        if density == 0.0 {
            return Self { at, hermite: [0.0; TERMS + 1], moment: 0.0 };
        }
        Self { at, hermite: hermite(at).map(|value| value * density), moment: at * density }
    }
}

/// Probability between two ends, without cancellation in the tails.
fn mass(left: f64, right: f64) -> f64 {
    let above = |x: f64| 0.5 * erfc(x * FRAC_1_SQRT_2);
    if left > 0.0 { above(left) - above(right) } else { above(-right) - above(-left) }
}

/// Sum the pieces' integrals, of what the activation is above its value at the mean.
pub(super) fn expand(pieces: &[Piece], middle: f64, mean: f64, deviation: f64) -> Expansion {
    let (mut first, mut second, mut terms) = (0.0, 0.0, [0.0; TERMS]);
    for (index, piece) in pieces.iter().enumerate() {
        let stop = pieces.get(index + 1).map_or(f64::INFINITY, |next| next.start);
        let left = End::new((piece.start - mean) / deviation);
        let right = End::new((stop - mean) / deviation);
        let mass = mass(left.at, right.at);
        let offset = piece.offset + piece.slope * mean - middle;
        let slope = piece.slope * deviation;
        let fall = |k: usize| left.hermite[k] - right.hermite[k];
        first += offset * mass + slope * fall(0);
        second += offset * offset * mass
            + 2.0 * offset * slope * fall(0)
            + slope * slope * (mass + left.moment - right.moment);
        for (before, term) in terms.iter_mut().enumerate() {
            let k = before as f64 + 1.0;
            // The integral of g He_k is that of He_(k+1) + k He_(k-1).
            let lower = match before {
                0 => mass,
                _ => (k / (k - 1.0)).sqrt() * fall(before - 1),
            };
            *term += offset * fall(before) / k.sqrt() + slope * (fall(before + 1) + lower);
        }
    }
    Expansion { mean: middle + first, variance: (second - first * first).max(0.0), terms }
}
