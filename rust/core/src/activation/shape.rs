//! How the slope of an activation runs: what decides which bounds are exact.

use libm::log;

use super::Activation;
use super::rounding::{sum_down, sum_up};
use crate::interval::Interval;

/// The course of the slope along the real line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// It never falls.
    Convex,
    /// It never rises.
    Concave,
    /// It rises up to some point and falls from there: S-shaped where the kind never falls.
    Unimodal,
    /// Anything else, or a jump of the value.
    Other,
}

impl Activation {
    /// The course of the slope.
    ///
    /// Where `amplitude * rate` equals the slope above 0 up to rounding (CELU), both shapes hold up
    /// to that rounding, which is far below the pad of the values.
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Gelu | Self::GeluTanh | Self::Silu | Self::Mish | Self::HardSilu => Shape::Other,
            Self::Relu { threshold, .. } if threshold != 0.0 => Shape::Other,
            Self::Relu { negative_slope, .. } if negative_slope > 1.0 => Shape::Concave,
            Self::LogSigmoid => Shape::Concave,
            Self::Linear
            | Self::Relu { max_value: f64::INFINITY, .. }
            | Self::Softplus
            | Self::Exponential => Shape::Convex,
            Self::Relu { .. }
            | Self::Sigmoid
            | Self::Tanh
            | Self::Softsign
            | Self::HardSigmoid
            | Self::HardTanh => Shape::Unimodal,
            Self::ExponentialLinear { positive_slope, amplitude, rate } => {
                if amplitude * rate <= positive_slope { Shape::Convex } else { Shape::Unimodal }
            }
        }
    }

    /// Whether the function is known to fall nowhere.
    pub(super) fn is_non_decreasing(self) -> bool {
        match self {
            Self::Relu { negative_slope, threshold, .. } => {
                negative_slope >= 0.0 && threshold == 0.0
            }
            Self::ExponentialLinear { positive_slope, .. } => positive_slope >= 0.0,
            _ => self.shape() != Shape::Other,
        }
    }

    /// Where a piecewise linear kind may bend or jump.
    pub(super) fn kinks(self) -> Option<[f64; 2]> {
        match self {
            Self::Relu { max_value, threshold, .. } => Some([threshold, max_value]),
            Self::HardTanh => Some([-1.0, 1.0]),
            Self::HardSigmoid => Some([-3.0, 3.0]),
            _ => None,
        }
    }

    /// Encloses a `u` where `s(u + gap) - s(u)` is largest, for a unimodal slope and `gap >= 0`:
    /// it grows with `u` as long as the slope at `u + gap` exceeds that at `u`.
    pub(super) fn steepest_start(self, gap: f64) -> Interval {
        if let Some([first, last]) = self.kinks() {
            // The whole ramp where the gap covers it, else anywhere inside: at its start.
            return Interval::new(sum_down(last, -gap).min(first), sum_up(last, -gap).min(first));
        }
        if let Self::ExponentialLinear { positive_slope, amplitude, rate } = self {
            // Where the exponential has the slope above 0; it is steeper only from there to 0.
            let logarithm = log(positive_slope / (amplitude * rate));
            let (point, pad) = (logarithm / rate, 4e-15 * (1.0 + logarithm.abs()) / rate);
            let start = Interval::new((point - pad).min(0.0), (point + pad).min(0.0));
            return Interval::new(start.lower.max(-gap), start.upper.max(-gap));
        }
        // The slope is even.
        Interval::new(-0.5 * gap, -0.5 * gap)
    }
}
