//! Elementwise activations: values, slopes, differences, and lines around them.

mod curve;
mod derivative;
mod difference;
mod range;
mod relaxation;
mod rounding;
mod secant;
mod shape;

use std::f64::consts::FRAC_1_SQRT_2;

use libm::{erfc, exp, expm1, log1p, tanh};

pub use self::relaxation::{Line, Lines};
use crate::error::{Error, Result};

/// `sqrt(2 / pi)` and the cubic coefficient of the tanh form of GELU.
const GELU_TANH: (f64, f64) = (0.797_884_560_802_865_4, 0.044_715);
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

/// An elementwise function with its parameters, as Keras 3 defines it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x`.
    Linear,
    /// `max_value` above it, `x` above `threshold`, `negative_slope (x - threshold)` up to there.
    Relu {
        /// Slope below the threshold.
        negative_slope: f64,
        /// Saturation value, or infinity.
        max_value: f64,
        /// Where the linear part begins.
        threshold: f64,
    },
    /// `positive_slope x` above 0, `amplitude (exp(rate x) - 1)` below: ELU, CELU, SELU.
    ExponentialLinear {
        /// Slope above 0.
        positive_slope: f64,
        /// Minus the limit towards minus infinity.
        amplitude: f64,
        /// Rate of the exponential.
        rate: f64,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `exp(x)`.
    Exponential,
    /// `x Phi(x)`, the exact form.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `x tanh(softplus(x))`.
    Mish,
    /// `clip(x + 3, 0, 6) / 6`.
    HardSigmoid,
    /// `x hard_sigmoid(x)`.
    HardSilu,
    /// `clip(x, -1, 1)`.
    HardTanh,
    /// `ln sigmoid(x)`.
    LogSigmoid,
}

impl Activation {
    /// The activation called `kind` with the given parameters; missing ones take Keras' defaults.
    pub fn parse(kind: &str, parameters: &[(String, f64)]) -> Result<Self> {
        let known: &[&str] = match kind {
            "relu" => &["negative_slope", "max_value", "threshold"],
            "leaky_relu" => &["negative_slope"],
            "elu" | "celu" => &["alpha"],
            _ => &[],
        };
        if let Some((name, _)) = parameters.iter().find(|(name, _)| !known.contains(&name.as_str()))
        {
            return Err(Error::Config {
                field: "activation",
                expected: format!("parameters of {kind} among {known:?}"),
                got: name.clone(),
            });
        }
        let get = |name: &str, default: f64| {
            parameters.iter().find(|(key, _)| key == name).map_or(default, |&(_, value)| value)
        };
        let plain_relu = |negative_slope, max_value| Self::Relu {
            negative_slope,
            max_value,
            threshold: get("threshold", 0.0),
        };
        let activation = match kind {
            "linear" => Self::Linear,
            "relu" => plain_relu(get("negative_slope", 0.0), get("max_value", f64::INFINITY)),
            "relu6" => plain_relu(0.0, 6.0),
            "leaky_relu" => plain_relu(get("negative_slope", 0.2), f64::INFINITY),
            "elu" => Self::exponential_linear(1.0, get("alpha", 1.0), 1.0),
            "celu" => {
                let alpha = get("alpha", 1.0);
                Self::exponential_linear(1.0, alpha, 1.0 / alpha)
            }
            "selu" => Self::exponential_linear(SELU_SCALE, SELU_SCALE * SELU_ALPHA, 1.0),
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "softplus" => Self::Softplus,
            "softsign" => Self::Softsign,
            "exponential" => Self::Exponential,
            "gelu" => Self::Gelu,
            "gelu_tanh" => Self::GeluTanh,
            "silu" => Self::Silu,
            "mish" => Self::Mish,
            "hard_sigmoid" => Self::HardSigmoid,
            "hard_silu" => Self::HardSilu,
            "hard_tanh" => Self::HardTanh,
            "log_sigmoid" => Self::LogSigmoid,
            other => {
                return Err(Error::Config {
                    field: "activation",
                    expected: "a kind the engine knows".into(),
                    got: other.into(),
                });
            }
        };
        activation.checked()
    }

    fn exponential_linear(positive_slope: f64, amplitude: f64, rate: f64) -> Self {
        Self::ExponentialLinear { positive_slope, amplitude, rate }
    }

    fn checked(self) -> Result<Self> {
        let sound = match self {
            Self::Relu { negative_slope, max_value, threshold } => {
                negative_slope.is_finite() && threshold.is_finite() && max_value >= threshold
            }
            Self::ExponentialLinear { amplitude, rate, .. } => {
                amplitude.is_finite() && amplitude > 0.0 && rate.is_finite() && rate > 0.0
            }
            _ => true,
        };
        if sound {
            return Ok(self);
        }
        Err(Error::Config {
            field: "activation",
            expected: "finite parameters, alpha > 0, max_value >= threshold".into(),
            got: format!("{self:?}"),
        })
    }

    /// The function at `x`; at an infinite `x` its limit.
    pub fn value(self, x: f64) -> f64 {
        if x == f64::NEG_INFINITY {
            match self {
                Self::Gelu | Self::GeluTanh | Self::Silu | Self::Mish | Self::HardSilu => {
                    return 0.0;
                }
                Self::Softsign => return -1.0,
                _ => {}
            }
        } else if x == f64::INFINITY && self == Self::Softsign {
            return 1.0;
        }
        match self {
            Self::Linear => x,
            Self::Relu { negative_slope, max_value, threshold } => {
                if x >= max_value {
                    max_value
                } else if x > threshold {
                    x
                } else if negative_slope == 0.0 {
                    0.0
                } else {
                    negative_slope * (x - threshold)
                }
            }
            Self::ExponentialLinear { positive_slope, amplitude, rate } => {
                if x > 0.0 {
                    positive_slope * x
                } else {
                    amplitude * expm1(rate * x)
                }
            }
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => tanh(x),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Exponential => exp(x),
            Self::Gelu => 0.5 * x * erfc(-x * FRAC_1_SQRT_2),
            Self::GeluTanh => x * sigmoid(2.0 * gelu_tanh_argument(x)),
            Self::Silu => x * sigmoid(x),
            Self::Mish => x * tanh(softplus(x)),
            Self::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::HardSilu => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::HardTanh => x.clamp(-1.0, 1.0),
            Self::LogSigmoid => -softplus(-x),
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + exp(-x))
    } else {
        let e = exp(x);
        e / (1.0 + e)
    }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + log1p(exp(-x.abs()))
}

fn gelu_tanh_argument(x: f64) -> f64 {
    GELU_TANH.0 * (x + GELU_TANH.1 * x * x * x)
}
