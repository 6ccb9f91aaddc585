//! Loops over many numbers, compiled for every width of registers and chosen when the process runs.
//!
//! Sums are taken in [`LANES`] parts whatever the width, and nothing is fused or reordered for it:
//! the bytes are the same on every processor.

#![expect(clippy::inline_always)] // what is not inlined is compiled for the narrowest registers

use std::borrow::Cow;

use ndarray::ArrayView1;
use pulp::{Arch, Simd, WithSimd};

/// Parts of a sum that are taken side by side.
pub(crate) const LANES: usize = 8;

/// Run a loop with the widest registers that there are.
pub(crate) fn run<L: WithSimd>(work: L) -> L::Output {
    #[cfg(test)]
    if NARROW.get() {
        return work.with_simd(pulp::Scalar);
    }
    Arch::new().dispatch(work)
}

#[cfg(test)]
thread_local! {
    /// Whether this thread's loops run without wide registers.
    static NARROW: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What `work` makes where this thread's loops run without wide registers.
#[cfg(test)]
pub(crate) fn narrowly<R>(work: impl FnOnce() -> R) -> R {
    NARROW.set(true);
    let made = work();
    NARROW.set(false);
    made
}

/// A row's numbers side by side, as such loops need them; copied where they do not lie so.
pub(crate) fn side_by_side<T: Clone>(row: ArrayView1<'_, T>) -> Cow<'_, [T]> {
    row.to_slice().map_or_else(|| row.to_vec().into(), Cow::Borrowed)
}

/// The sum of the squares of some numbers.
pub(crate) fn sum_of_squares(values: &[f64]) -> f64 {
    run(Squares(values))
}

/// What a sum's parts make together.
#[inline(always)]
pub(crate) fn total(parts: [f64; LANES]) -> f64 {
    parts.into_iter().sum()
}

struct Squares<'a>(&'a [f64]);

impl WithSimd for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        let mut parts = [0.0; LANES];
        for chunk in chunks {
            for (part, x) in parts.iter_mut().zip(chunk) {
                *part += x * x;
            }
        }
        for (part, x) in parts.iter_mut().zip(rest) {
            *part += x * x;
        }
        total(parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn squares_are_summed_whatever_the_length(
            values in proptest::collection::vec(-1e3_f64..1e3, 0..50),
        ) {
            let expected: f64 = values.iter().map(|x| x * x).sum();
            let found = sum_of_squares(&values);
            prop_assert!((found - expected).abs() <= 1e-12 * expected);
            prop_assert_eq!(narrowly(|| sum_of_squares(&values)).to_bits(), found.to_bits());
        }
    }
}
