//! Sums and products rounded to a chosen side. The rounding mode cannot be changed in Rust: what a
//! rounded sum left out is computed instead, so that a sum without rounding stays as it is.

/// The largest float that is at most `a + b`; minus infinity where that is unknown.
pub(super) fn sum_down(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if sum.is_nan() {
        return f64::NEG_INFINITY;
    }
    if sum.is_infinite() {
        let overflowed = sum > 0.0 && a.is_finite() && b.is_finite();
        return if overflowed { f64::MAX } else { sum };
    }
    // Two-sum: what `sum` left out, exactly.
    let second = sum - a;
    let left_out = (a - (sum - second)) + (b - second);
    if left_out >= 0.0 { sum } else { sum.next_down() }
}

/// The smallest float that is at least `a + b`; infinity where that is unknown.
pub(super) fn sum_up(a: f64, b: f64) -> f64 {
    0.0 - sum_down(-a, -b)
}

/// At least `a * b`, for finite factors.
pub(super) fn product_up(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { (a * b).next_up() }
}
