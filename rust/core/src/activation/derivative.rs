//! The derivative that gradients are made of: at a kink, the one TensorFlow takes.

use super::Activation;

impl Activation {
    /// The derivative at `x`; that of the side where less changes, but for hard tanh.
    pub(crate) fn derivative(self, x: f64) -> f64 {
        match self {
            Self::Relu { negative_slope, max_value, threshold } => {
                if x >= max_value {
                    0.0
                } else if x > threshold {
                    1.0
                } else {
                    negative_slope
                }
            }
            Self::HardTanh => f64::from(u8::from((-1.0..=1.0).contains(&x))),
            Self::HardSigmoid => f64::from(u8::from(-3.0 < x && x < 3.0)) / 6.0,
            Self::HardSilu if x <= -3.0 => 0.0,
            Self::HardSilu if x >= 3.0 => 1.0,
            _ => self.slope(x),
        }
    }
}
