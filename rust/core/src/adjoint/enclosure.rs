//! Rows of a Jacobian that varies with the input, as centre + box + ball.

use ndarray::{Array2, ArrayView1};

use super::parts::Part;
use crate::lanes::{side_by_side, sum_of_squares};
use crate::linalg::select_columns;

/// Unit roundoff of f64.
pub(super) const ROUNDOFF: f64 = f64::EPSILON / 2.0;

/// Rows `centre + rho` with `|rho| <= radius`, element by element, and `||rho||_2 <= norm`.
///
/// The ball is what keeps a wide input box from exploding: through a layer its norm grows by the
/// spectral norm, while a box grows by sums of absolute weights. In a chain of dense layers the
/// parts bound rho once more, each by an ellipsoid.
#[derive(Debug, Clone)]
pub(crate) struct Enclosure {
    /// Shape `(rows, elements)`.
    pub(crate) centre: Array2<f64>,
    /// Of the same shape.
    pub(crate) radius: Array2<f64>,
    /// One a row.
    pub(crate) norm: Vec<f64>,
    /// Where rho arose, the latest first.
    pub(super) parts: Vec<Part>,
    /// L2 norm of what rounding has added to rho, which is in no part; one a row.
    pub(super) rounding: Vec<f64>,
}

/// An upper bound of the L2 norm, whatever the rounding.
pub(super) fn length(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len();
    root(values.map(|x| x * x).sum(), n)
}

/// The same of a row.
pub(super) fn length_of(row: ArrayView1<'_, f64>) -> f64 {
    root(sum_of_squares(&side_by_side(row)), row.len())
}

/// The root of a sum of so many squares, rounded up.
pub(super) fn root(squares: f64, terms: usize) -> f64 {
    squares.sqrt() * (1.0 + 2.0 * (terms as f64 + 4.0) * f64::EPSILON)
}

/// What a result of about this many rounded operations may be too small by, as a factor.
pub(super) fn slack(operations: usize) -> f64 {
    1.0 + 2.0 * (operations as f64 + 6.0) * f64::EPSILON
}

/// What a sum of so many products errs by, relative to the sum of their sizes.
pub(super) fn kappa(terms: usize) -> f64 {
    (terms as f64 + 3.0) * ROUNDOFF
}

impl Enclosure {
    /// Rows that are known exactly.
    pub(crate) fn exact(rows: Array2<f64>) -> Self {
        let norm = vec![0.0; rows.nrows()];
        let rounding = norm.clone();
        Self { radius: Array2::zeros(rows.dim()), centre: rows, norm, parts: Vec::new(), rounding }
    }

    /// Rows of which only the size of each element is known.
    pub(crate) fn around_zero(radius: Array2<f64>, norm: Vec<f64>) -> Self {
        let rounding = vec![0.0; norm.len()];
        let parts = Vec::new();
        Self { centre: Array2::zeros(radius.dim()), radius, norm, parts, rounding }.narrowed()
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.norm.len()
    }

    /// The elements that any row has a part in.
    pub(super) fn active(&self) -> Vec<usize> {
        // Of a unit that is left nearly every row tells.
        let mut idle: Vec<usize> = (0..self.centre.ncols()).collect();
        for (centres, radii) in self.centre.rows().into_iter().zip(self.radius.rows()) {
            idle.retain(|&element| centres[element] == 0.0 && radii[element] == 0.0);
        }
        let mut is_active = vec![true; self.centre.ncols()];
        for element in idle {
            is_active[element] = false;
        }
        (0..is_active.len()).filter(|&element| is_active[element]).collect()
    }

    /// The rows on some elements only, where all others are 0.
    pub(super) fn select(&self, elements: &[usize]) -> Self {
        Self {
            centre: select_columns(self.centre.view(), elements),
            radius: select_columns(self.radius.view(), elements),
            norm: self.norm.clone(),
            parts: Vec::new(), // their shapes are those of all elements
            rounding: self.rounding.clone(),
        }
    }

    /// The sum of two, row by row.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.radius += &other.radius;
        self.radius *= slack(1);
        for (radius, (a, b)) in self.radius.iter_mut().zip(self.centre.iter().zip(&other.centre)) {
            *radius += ROUNDOFF * 2.0 * (a + b).abs();
        }
        for (norm, more) in self.norm.iter_mut().zip(&other.norm) {
            *norm = (*norm + more) * slack(1);
        }
        self.centre += &other.centre;
        // Ways that part and meet again are no chain.
        self.parts.clear();
        for (norm, row) in self.norm.iter_mut().zip(self.centre.rows()) {
            *norm += 2.0 * ROUNDOFF * length_of(row);
        }
        self.narrowed()
    }

    /// The ball is never larger than the box around it.
    pub(super) fn narrowed(mut self) -> Self {
        for (norm, row) in self.norm.iter_mut().zip(self.radius.rows()) {
            *norm = norm.min(length_of(row));
            if norm.is_nan() {
                *norm = f64::INFINITY;
            }
        }
        self
    }

    /// Where nothing is known, say so without NaN.
    pub(super) fn finite(mut self) -> Self {
        for (centre, radius) in self.centre.iter_mut().zip(self.radius.iter_mut()) {
            if !(centre.is_finite() && radius.is_finite()) {
                *centre = 0.0;
                *radius = f64::INFINITY;
            }
        }
        self
    }
}
