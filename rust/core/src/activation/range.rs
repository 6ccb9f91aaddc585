//! What an activation does over a whole interval: its values and its secant slopes.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use libm::{erfc, exp, tanh};

use super::{Activation, GELU_TANH, gelu_tanh_argument, sigmoid, softplus};
use crate::interval::Interval;

/// `1 / sqrt(2 pi)`, the standard normal density at 0.
const NORMAL_DENSITY_AT_ZERO: f64 = 0.398_942_280_401_432_7;

/// Absolute pad of the values of kinds that are computed with rounding.
const TAIL: f64 = 1e-15;

/// A stationary point and the function there.
type Extremum = (f64, f64);

impl Activation {
    /// The derivative of a smooth kind at `x`; at a kink, that of the right side.
    pub(super) fn slope(self, x: f64) -> f64 {
        match self {
            Self::Softsign => return 1.0 / ((1.0 + x.abs()) * (1.0 + x.abs())),
            // A small rate (CELU with a large alpha) is still falling far out.
            Self::ExponentialLinear { positive_slope, amplitude, rate } => {
                return if x > 0.0 { positive_slope } else { amplitude * rate * exp(rate * x) };
            }
            _ => {}
        }
        // Beyond this every slope below has reached its limit, and inf * 0 cannot occur.
        let x = x.clamp(-1e4, 1e4);
        match self {
            Self::Sigmoid => sigmoid(x) * sigmoid(-x),
            Self::Tanh => 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x),
            Self::Softplus => sigmoid(x),
            Self::Exponential => exp(x),
            Self::Gelu => {
                0.5 * erfc(-x * FRAC_1_SQRT_2) + x * NORMAL_DENSITY_AT_ZERO * exp(-0.5 * x * x)
            }
            Self::GeluTanh => {
                let s = sigmoid(2.0 * gelu_tanh_argument(x));
                let inner = 2.0 * GELU_TANH.0 * (1.0 + 3.0 * GELU_TANH.1 * x * x);
                s + x * s * sigmoid(-2.0 * gelu_tanh_argument(x)) * inner
            }
            Self::Silu => sigmoid(x) * (1.0 + x * sigmoid(-x)),
            Self::Mish => {
                let t = tanh(softplus(x));
                t + x * (1.0 - t * t) * sigmoid(x)
            }
            Self::HardSilu => {
                if x < -3.0 {
                    0.0
                } else if x < 3.0 {
                    (2.0 * x + 3.0) / 6.0
                } else {
                    1.0
                }
            }
            Self::LogSigmoid => sigmoid(-x),
            Self::HardSigmoid => f64::from(u8::from((-3.0..3.0).contains(&x))) / 6.0,
            Self::HardTanh => f64::from(u8::from((-1.0..1.0).contains(&x))),
            Self::Linear | Self::Relu { .. } | Self::Softsign | Self::ExponentialLinear { .. } => {
                1.0
            }
        }
    }

    /// Where the function itself turns (constants computed to 18 digits).
    fn value_extrema(self) -> &'static [Extremum] {
        match self {
            Self::Gelu => &[(-0.751_791_524_693_564_4, -0.169_971_207_479_903_66)],
            Self::GeluTanh => &[(-0.752_461_422_071_016_2, -0.170_040_750_571_254_05)],
            Self::Silu => &[(-1.278_464_542_761_074, -0.278_464_542_761_073_8)],
            Self::Mish => &[(-1.192_431_214_515_495_2, -0.308_843_413_017_250_4)],
            Self::HardSilu => &[(-1.5, -0.375)],
            _ => &[],
        }
    }

    /// Where the slope turns or jumps, and the most extreme slope there.
    fn slope_extrema(self) -> &'static [Extremum] {
        match self {
            Self::Sigmoid => &[(0.0, 0.25)],
            Self::Tanh | Self::Softsign => &[(0.0, 1.0)],
            Self::Gelu => &[(-SQRT_2, -0.128_904_145_185_154_8), (SQRT_2, 1.128_904_145_185_154_8)],
            Self::GeluTanh => &[
                (-1.418_504_008_790_828_4, -0.128_993_068_658_771_77),
                (1.418_504_008_790_828_4, 1.128_993_068_658_771_8),
            ],
            Self::Silu => &[
                (-2.399_357_280_515_468, -0.099_839_320_128_866_92),
                (2.399_357_280_515_468, 1.099_839_320_128_867),
            ],
            Self::Mish => &[
                (-2.256_376_396_360_793, -0.112_526_122_389_462_55),
                (1.490_571_179_485_428_5, 1.088_498_161_251_728),
            ],
            Self::HardSilu => &[(-3.0, -0.5), (3.0, 1.5)],
            _ => &[],
        }
    }

    /// Interval of the values over `x` (eq. of `docs/method.md`, "Value intervals").
    pub fn value_range(self, x: Interval) -> Interval {
        let mut range = Interval::point(self.value(x.lower));
        let mut include = |value: f64| range = range.hull(Interval::point(value));
        if x.lower < x.upper {
            include(self.value(x.upper));
        }
        for &(at, value) in self.value_extrema() {
            if x.lower < at && at < x.upper {
                include(value);
            }
        }
        if let Self::Relu { max_value, threshold, .. } = self
            && x.lower <= threshold
            && threshold <= x.upper
        {
            // Both sides of the (possible) jump.
            include(0.0);
            include(threshold.min(max_value));
        }
        if self.is_exact() {
            return range;
        }
        // Tails of the erf- and tanh-based kinds lose relative, not absolute digits.
        let range = without_overflow(range).widened(16.0);
        Interval::new(range.lower - TAIL, range.upper + TAIL)
    }

    /// Interval that contains every secant slope `(s(y) - s(x)) / (y - x)` over `x`.
    pub fn slope_range(self, x: Interval) -> Interval {
        match self {
            Self::Linear => Interval::new(1.0, 1.0),
            Self::Relu { negative_slope, max_value, threshold } => {
                if threshold != 0.0 && x.lower <= threshold && threshold < x.upper {
                    return Interval::UNBOUNDED;
                }
                piecewise(x, &[negative_slope, 1.0, 0.0], &[threshold, max_value])
            }
            Self::HardTanh => piecewise(x, &[0.0, 1.0, 0.0], &[-1.0, 1.0]),
            Self::HardSigmoid => piecewise(x, &[0.0, 1.0 / 6.0, 0.0], &[-3.0, 3.0]).widened(4.0),
            Self::ExponentialLinear { positive_slope, .. } => {
                let left = self.slope(x.lower.min(0.0));
                let right = if x.upper > 0.0 { positive_slope } else { self.slope(x.upper) };
                // The slope jumps at 0: its limit from the left counts where 0 is inside.
                let at_zero = if x.lower < 0.0 && x.upper > 0.0 { self.slope(0.0) } else { right };
                let left = if x.lower >= 0.0 { right } else { left };
                pad_slope(Interval::new(left.min(right).min(at_zero), left.max(right).max(at_zero)))
            }
            _ => {
                let ends = [self.slope(x.lower), self.slope(x.upper)];
                let mut range = Interval::new(ends[0].min(ends[1]), ends[0].max(ends[1]));
                for &(at, slope) in self.slope_extrema() {
                    if x.lower <= at && at <= x.upper {
                        range = range.hull(Interval::new(slope, slope));
                    }
                }
                pad_slope(range)
            }
        }
    }

    /// Whether `value` is computed without any rounding.
    fn is_exact(self) -> bool {
        match self {
            Self::Linear | Self::HardTanh => true,
            Self::Relu { negative_slope, threshold, .. } => {
                negative_slope == 0.0 || (negative_slope == 1.0 && threshold == 0.0)
            }
            _ => false,
        }
    }
}

/// Slopes of the pieces that an interval touches with more than a point.
fn piecewise(x: Interval, slopes: &[f64; 3], kinks: &[f64; 2]) -> Interval {
    let touched = [
        x.lower < kinks[0],
        (x.upper > kinks[0] && x.lower < kinks[1]) || x.lower == x.upper,
        x.upper > kinks[1],
    ];
    let mut range: Option<Interval> = None;
    for (&slope, _) in slopes.iter().zip(touched).filter(|&(_, touched)| touched) {
        let point = Interval::new(slope, slope);
        range = Some(range.map_or(point, |range| range.hull(point)));
    }
    range.unwrap_or(Interval::ZERO)
}

/// A value that overflows is as large as the largest float, and not unknown from below.
fn without_overflow(range: Interval) -> Interval {
    Interval::new(range.lower.min(f64::MAX), range.upper.max(f64::MIN))
}

/// Slopes are sums of products of rounded exponentials: a few units of 1.0's last place.
fn pad_slope(range: Interval) -> Interval {
    let range = without_overflow(range).widened(32.0);
    Interval::new(range.lower - 4e-15, range.upper + 4e-15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_celu_of_large_alpha_is_flat_only_far_out() {
        let celu = Activation::parse("celu", &[("alpha".into(), 1e6)]).expect("known");
        let far = celu.slope_range(Interval::new(-1e8, -5e7));
        assert!(far.lower <= 1e-20 && far.upper <= 1e-14, "{far:?}");
        assert!(celu.slope_range(Interval::new(-1e8, -1.0)).lower <= 1e-14);
    }
}
