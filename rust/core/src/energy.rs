//! Size, evenness and energy of an impact (eq. 4-8).

use crate::config::{Density, EnergyConfig, Normalization};
use crate::interval::Intervals;
use crate::similarity::neighbours;

/// The logistic function.
fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// Shannon entropy of the densities of the output intervals (eq. 5-7), natural logarithm.
///
/// Where the outputs' common range is zero or not finite all are alike.
pub fn entropy(outputs: &Intervals, similarity: f64, density: Density) -> f64 {
    let m = outputs.len();
    let lowest = outputs.lower.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = outputs.upper.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = highest - lowest;
    let counts = if range.is_finite() && range > 0.0 {
        neighbours(outputs, range, similarity)
    } else {
        vec![m.saturating_sub(1); m]
    };
    let itself = usize::from(density == Density::Inclusive);
    counts
        .into_iter()
        .map(|count| (count + itself) as f64 / m as f64)
        .filter(|&density| density > 0.0)
        .map(|density| -density * libm::log(density))
        .sum()
}

/// How even an impact is, between 1/2 and 1: the logistic function of its entropy.
pub fn evenness(outputs: &Intervals, similarity: f64, density: Density) -> f64 {
    logistic(entropy(outputs, similarity, density))
}

/// The output nodes' places among the logits side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// Number of outputs of each head.
    pub sizes: Vec<usize>,
}

impl Heads {
    /// The intervals of each head.
    fn split(&self, side_by_side: &Intervals) -> Vec<Intervals> {
        let mut first = 0;
        self.sizes
            .iter()
            .map(|&size| {
                let range = first..first + size;
                first += size;
                Intervals {
                    lower: side_by_side.lower[range.clone()].to_vec(),
                    upper: side_by_side.upper[range].to_vec(),
                }
            })
            .collect()
    }

    /// Reference size of each head: the median of the candidates' NORM, or, if that is 0, the
    /// smallest positive one, or 1.
    pub fn references(&self, impacts: &[Intervals]) -> Vec<f64> {
        let split: Vec<Vec<Intervals>> = impacts.iter().map(|impact| self.split(impact)).collect();
        (0..self.sizes.len())
            .map(|head| {
                let mut norms: Vec<f64> =
                    split.iter().map(|heads| heads[head].total_width()).collect();
                norms.retain(|norm| norm.is_finite());
                norms.sort_by(f64::total_cmp);
                let median = quantile(&norms, 0.5).unwrap_or(0.0);
                if median > 0.0 {
                    return median;
                }
                norms.into_iter().find(|&norm| norm > 0.0).unwrap_or(1.0)
            })
            .collect()
    }

    /// Energy of a candidate's impact on top of the cumulative one, averaged over heads (eq. 8).
    pub fn energy(
        &self,
        impact: &Intervals,
        base: &Intervals,
        references: &[f64],
        config: &EnergyConfig,
    ) -> f64 {
        let whole = self.split(&base.plus(impact));
        let parts = self.split(impact).into_iter().zip(whole).zip(references);
        let total: f64 = parts
            .map(|((own, whole), &reference)| {
                let size = match config.normalization {
                    Normalization::Scaled => {
                        let norm = own.total_width();
                        if norm.is_finite() { norm / (norm + reference) } else { 1.0 }
                    }
                    Normalization::None => logistic(whole.total_width()),
                };
                let evenness = evenness(&whole, config.similarity, config.density);
                config.alpha * size + (1.0 - config.alpha) * evenness
            })
            .sum();
        total / self.sizes.len() as f64
    }
}

/// Quantile by linear interpolation between order statistics; `None` of nothing.
pub(crate) fn quantile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = fraction * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 <= place <= last
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (place - below as f64) * (sorted[above] - sorted[below]))
}
