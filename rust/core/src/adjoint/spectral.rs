//! Spectral norms of wide kernels, carried from one epoch to the next.
//!
//! Finding one takes products of all units by all units. Merges change few rows: as `W^T W` is a sum
//! over rows, `||W||^2 <= ||U||^2 + ||C||^2` for the changed rows C and the unchanged ones U, which
//! are part of the kernel whose norm was found. So is what is left when columns go.

use std::collections::{BTreeSet, HashMap};

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::norms::{Norms, weights_norm};
use crate::linalg::{select_columns, spectral_norm};
use crate::network::NodeId;
use crate::tasks;

/// Norms of kernels whose shorter side is no longer than this are found anew each time.
const NARROW: usize = 512;
/// The norm is found anew when more than this part of the rows has changed.
const CHANGED_PART: usize = 8;

/// The norms found last, by dense op, and what has changed since.
#[derive(Debug, Clone)]
pub struct SpectralNorms {
    wider_than: usize,
    known: HashMap<NodeId, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    spectral: f64,
    /// The columns that it is the norm of.
    is_active: Vec<bool>,
    changed: BTreeSet<usize>,
}

impl Default for SpectralNorms {
    fn default() -> Self {
        Self::wider_than(NARROW)
    }
}

impl SpectralNorms {
    /// Carry the norms of kernels whose sides are both longer than this.
    pub fn wider_than(units: usize) -> Self {
        Self { wider_than: units, known: HashMap::new() }
    }

    /// Merges have replaced these rows of a node's kernel.
    pub fn note(&mut self, node: NodeId, rows: &[usize]) {
        if let Some(known) = self.known.get_mut(&node) {
            known.changed.extend(rows);
        }
    }

    /// The norms of a dense op with this kernel, of whose columns only some count.
    pub(super) fn norms(
        &mut self,
        node: NodeId,
        kernel: ArrayView2<'_, f32>,
        active: &[usize],
    ) -> Norms {
        if kernel.nrows().min(active.len()) <= self.wider_than {
            if active.len() == kernel.ncols() {
                return Norms::of_rows(kernel);
            }
            return Norms::of_rows(select_columns(kernel, active).view());
        }
        let row_norm = |row: ArrayView1<'_, f32>| {
            weights_norm(active.iter().map(|&column| row[column]), active.len())
        };
        let columns = tasks::map(kernel.nrows(), active.len(), |row| row_norm(kernel.row(row)));
        Norms { spectral: self.spectral(node, kernel, active), columns }
    }

    /// An upper bound of the spectral norm of a node's kernel, where only some columns count.
    fn spectral(&mut self, node: NodeId, kernel: ArrayView2<'_, f32>, active: &[usize]) -> f64 {
        let part = |rows: &[usize]| {
            let at = |(row, place): (usize, usize)| kernel[[rows[row], active[place]]];
            Array2::from_shape_fn((rows.len(), active.len()), at)
        };
        // Rows of units that are gone are zero.
        let is_filled = |&row: &usize| kernel.row(row).iter().any(|&weight| weight != 0.0);
        let filled: Vec<usize> = (0..kernel.nrows()).filter(is_filled).collect();
        if let Some(known) = self.known.get(&node) {
            let changed: Vec<usize> = known.changed.iter().copied().filter(is_filled).collect();
            let is_part = active.iter().all(|&column| known.is_active[column]);
            if is_part && changed.len() * CHANGED_PART <= filled.len() {
                let more = spectral_norm(part(&changed).view());
                return libm::hypot(known.spectral, more) * (1.0 + 4.0 * f64::EPSILON);
            }
        }
        let spectral = spectral_norm(part(&filled).view());
        let mut is_active = vec![false; kernel.ncols()];
        for &column in active {
            is_active[column] = true;
        }
        self.known.insert(node, Known { spectral, is_active, changed: BTreeSet::new() });
        spectral
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::linalg::sample;

    /// The spectral norm as repeated multiplication finds it: never too large.
    fn at_least(kernel: &Array2<f32>, active: &[usize]) -> f64 {
        let wide = Array2::from_shape_fn((kernel.nrows(), active.len()), |(row, place)| {
            f64::from(kernel[[row, active[place]]])
        });
        let mut vector = ndarray::Array1::<f64>::ones(active.len());
        let mut found: f64 = 0.0;
        for _ in 0..50 {
            let length = vector.dot(&vector).sqrt();
            if length == 0.0 {
                return 0.0;
            }
            vector /= length;
            let image = wide.dot(&vector);
            found = image.dot(&image).sqrt();
            vector = wide.t().dot(&image);
        }
        found * (1.0 - 1e-12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn carried_norms_are_never_too_small(
            seed in 0_u64..1_000,
            rows in 4_usize..40,
            columns in 4_usize..40,
            merges in proptest::collection::vec((0_usize..40, 0_usize..40), 1..12),
        ) {
            let mut kernel = sample(seed, rows, columns);
            let mut active: Vec<usize> = (0..columns).collect();
            let mut norms = SpectralNorms::wider_than(0);
            let found = norms.spectral(3, kernel.view(), &active);
            prop_assert!(found >= at_least(&kernel, &active));
            for (nominee, delegate) in merges {
                let (nominee, delegate) = (nominee % rows, delegate % rows);
                if nominee != delegate {
                    let sum = &kernel.row(nominee) + &kernel.row(delegate);
                    kernel.row_mut(delegate).assign(&sum);
                    kernel.row_mut(nominee).fill(0.0);
                    norms.note(3, &[nominee, delegate]);
                }
                // A column goes, and now and then one is back.
                if nominee % 5 == 0 {
                    active = (0..columns).collect();
                } else {
                    active.pop();
                }
                let found = norms.spectral(3, kernel.view(), &active);
                prop_assert!(found >= at_least(&kernel, &active));
            }
        }
    }
}
