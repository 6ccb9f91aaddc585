//! Enclosed rows on the outputs of one op, kept for those outputs that any row has a part in.
//!
//! Units that are gone keep their weights until a run is over; no row asks for them, and what they
//! would cost is saved.

use ndarray::{Array2, ArrayView2};

use super::columns::Columns;
use super::enclosure::{Enclosure, kappa, length_of, slack};
use crate::interval::{Intervals, product as times};
use crate::linalg::{select_columns, selected_products};

/// An [`Enclosure`] on the active elements of a node's output.
#[derive(Debug)]
pub(crate) struct ActiveRows {
    /// Their numbers, ascending.
    active: Vec<usize>,
    /// Elements of the node.
    elements: usize,
    /// Rows on the active elements only.
    rows: Enclosure,
    /// The box, and what the centre's rounding needs as it meets a kernel of that many columns.
    reach: Array2<f64>,
    /// Of every row the ball, with the same for rounding.
    balls: Vec<f64>,
}

impl ActiveRows {
    /// Keep what is active of some rows.
    pub(crate) fn of(rows: Enclosure) -> Self {
        let (active, elements) = (rows.active(), rows.centre.ncols());
        let rows = if active.len() == elements { rows } else { rows.select(&active) };
        let (reach, kappa) = (rows.reach(), kappa(active.len()));
        let lengths = rows.centre.rows().into_iter().map(length_of);
        let balls = rows.norm.iter().zip(lengths);
        let balls = balls.map(|(&ball, length)| ball + kappa * length * slack(4)).collect();
        Self { active, elements, rows, reach, balls }
    }

    /// The rows taken back through a dense op at one position, to some of its inputs.
    pub(crate) fn columns(&self, kernel: ArrayView2<'_, f32>, inputs: &[usize]) -> Columns {
        let (centre, reach) = (self.rows.centre.view(), self.reach.view());
        let (centre, radius, norms) =
            selected_products(kernel, inputs, &self.active, (centre, reach));
        let mut columns = Columns { centre, radius };
        let factor = slack(self.active.len());
        let rows = columns.radius.rows_mut().into_iter().zip(columns.centre.rows_mut());
        for ((mut radii, mut centres), &norm) in rows.zip(&norms) {
            let norm = norm * slack(self.active.len());
            for ((radius, centre), &ball) in radii.iter_mut().zip(&mut centres).zip(&self.balls) {
                let by_box =
                    if *radius == 0.0 { 0.0 } else { (*radius + f64::MIN_POSITIVE) * factor };
                *radius = by_box.min(times(ball, norm) * slack(4));
                if !(centre.is_finite() && radius.is_finite()) {
                    (*centre, *radius) = (0.0, f64::INFINITY);
                }
            }
        }
        columns
    }

    /// Bounds of `row . (W^T t)` for a few rows W of a kernel and t in the given intervals.
    pub(crate) fn through(&self, kernel: ArrayView2<'_, f32>, vector: &Intervals) -> Intervals {
        let mut unknown = |_, _: &Array2<f64>, _: &[f64]| f64::INFINITY;
        if self.active.len() == self.elements {
            return self.rows.reach_through_rows(&self.reach, kernel, vector, &mut unknown);
        }
        let kernel = select_columns(kernel, &self.active);
        self.rows.reach_through_rows(&self.reach, kernel.view(), vector, &mut unknown)
    }

    /// Bounds of every row times a vector in the given intervals.
    pub(crate) fn times(&self, vector: &Intervals) -> Intervals {
        let active: Intervals = self.active.iter().map(|&element| vector.get(element)).collect();
        self.rows.times(0..active.len(), &active)
    }
}
