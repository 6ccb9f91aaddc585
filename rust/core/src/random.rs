//! The one source of randomness: Pcg64, and the one way numbers are drawn from it.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64;

/// A seeded, portable stream of uniform numbers.
#[derive(Debug, Clone)]
pub struct Random(Pcg64);

impl Random {
    /// The stream of this seed: the same numbers on every platform and in every release.
    pub fn from_seed(seed: u64) -> Self {
        Self(Pcg64::seed_from_u64(seed))
    }

    /// The next number, uniform in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        // Our own conversion: a library's distributions may change from release to release.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `count`, which is at least 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 <= x < count
    pub fn below(&mut self, count: usize) -> usize {
        ((self.uniform() * count as f64) as usize).min(count - 1)
    }
}
