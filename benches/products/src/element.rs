//! Numbers that products are of, and the matrices that are timed.

use ndarray::{Array2, LinalgScalar};

/// f32 or f64.
pub trait Element: faer::traits::ComplexField + LinalgScalar + Send + Sync {
    const ONE: Self;
    const ZERO: Self;

    fn of(value: f32) -> Self;

    /// The value's bits.
    fn bits(self) -> u64;

    fn wide(self) -> f64;
}

impl Element for f32 {
    const ONE: Self = 1.0;
    const ZERO: Self = 0.0;

    fn of(value: f32) -> Self {
        value
    }

    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    const ONE: Self = 1.0;
    const ZERO: Self = 0.0;

    fn of(value: f32) -> Self {
        f64::from(value)
    }

    fn bits(self) -> u64 {
        self.to_bits()
    }

    fn wide(self) -> f64 {
        self
    }
}

/// Numbers from -1/2 to 1/2, the same as `products.py` makes: multiples of the golden ratio.
pub fn matrix(rows: usize, columns: usize, first: u32) -> Array2<f32> {
    let mut number = first;
    Array2::from_shape_simple_fn((rows, columns), || {
        number = number.wrapping_add(0x9E37_79B9);
        (number >> 8) as f32 / (1 << 24) as f32 - 0.5
    })
}
