//! Enclosed rows times what moves: a vector of intervals, or one that meets a kernel first.

use ndarray::{Array2, ArrayView1, ArrayView2, Zip};

use super::Norms;
use super::enclosure::{Enclosure, ROUNDOFF, kappa, length, length_of, slack};
use super::sums::Sums;
use crate::interval::{Interval, Intervals, centre_radius, product as times};
use crate::lanes::side_by_side;
use crate::linalg::pull_back;
use crate::network::NodeId;
use crate::tasks;

/// The reach of a shape, by where it arose, through given rows and over given sizes.
pub(crate) type Reached<'a> = dyn FnMut(NodeId, &Array2<f64>, &[f64]) -> f64 + 'a;

impl Enclosure {
    /// Bounds of `row . (W^T t)` for a few rows W of a kernel and t in the given intervals.
    ///
    /// The ball is met in three ways: by each row of W, by the sum of their sizes, and by the
    /// spectral norm of these rows alone.
    ///
    /// `reached` is asked for the reach of a part's shape through these rows (see `reach`).
    pub(crate) fn through_rows(
        &self,
        kernel: ArrayView2<'_, f32>,
        vector: &Intervals,
        reached: &mut Reached<'_>,
    ) -> Intervals {
        self.reach_through_rows(&self.reach(), kernel, vector, reached)
    }

    /// The box, and what the centre's rounding needs as it meets a kernel of as many columns.
    pub(super) fn reach(&self) -> Array2<f64> {
        let kappa = kappa(self.centre.ncols());
        let mut reach = Array2::zeros(self.radius.dim());
        let work = Zip::from(&mut reach).and(&self.radius).and(&self.centre);
        let add = |reach: &mut f64, &r: &f64, &c: &f64| *reach = r + kappa * c.abs();
        if tasks::is_worth_sharing(self.radius.len()) {
            work.par_for_each(add);
        } else {
            work.for_each(add);
        }
        reach
    }

    /// [`Self::through_rows`] for a reach that is there already.
    pub(super) fn reach_through_rows(
        &self,
        reach: &Array2<f64>,
        kernel: ArrayView2<'_, f32>,
        vector: &Intervals,
        reached: &mut Reached<'_>,
    ) -> Intervals {
        let norms = Norms::of_rows(kernel);
        let centre = pull_back(kernel, self.centre.view(), false);
        let kappa = kappa(kernel.ncols());
        let radius = pull_back(kernel, reach.view(), true);
        let most: Vec<f64> =
            vector.iter().map(|each| each.lower.abs().max(each.upper.abs())).collect();
        let sums = most.iter().zip(kernel.rows()).fold(
            vec![0.0; kernel.ncols()],
            |mut sums, (&most, row)| {
                for (sum, &weight) in sums.iter_mut().zip(row) {
                    *sum += times(f64::from(weight.abs()), most);
                }
                sums
            },
        );
        let all = slack(kernel.nrows() + kernel.ncols());
        let by_sums = length(sums.into_iter()) * all;
        let by_spectrum = times(norms.spectral, length(most.iter().copied())) * all;
        let factor = slack(kernel.ncols());
        let (middle, half): (Vec<f64>, Vec<f64>) = vector.iter().map(centre_radius).unzip();
        let reaches: Vec<f64> =
            self.parts.iter().map(|part| reached(part.birth, &part.shape, &most)).collect();
        let mut found = Intervals::default();
        for row in 0..self.rows() {
            let rounding = kappa * length_of(self.centre.row(row)) * slack(4);
            let ball = self.norm[row];
            let mut deviation = 0.0;
            for (element, &most) in most.iter().enumerate() {
                let by_box = radius[[row, element]] * factor + f64::MIN_POSITIVE;
                let by_ball = times(ball + rounding, norms.columns[element]) * slack(4);
                deviation +=
                    times(if by_box.is_nan() { by_ball } else { by_box.min(by_ball) }, most);
            }
            // The centre's rounding is at most `rounding` in length as it meets |W| t.
            let by_whole = times(ball, by_sums.min(by_spectrum)) + times(rounding, by_sums);
            let loose = times(self.rounding[row], by_spectrum) + times(rounding, by_sums);
            let by_parts = self.by_parts(row, &reaches) + loose;
            let deviation = (deviation * all).min(by_whole * all).min(by_parts * all);
            let centre = centre_times(centre.row(row), (&middle, &half, &most));
            let value = centre.plus(Interval::new(-deviation, deviation)).without_nan();
            found.lower.push(value.lower);
            found.upper.push(value.upper);
        }
        found
    }

    /// Bounds of one element of every row times a number in an interval.
    fn times_one(&self, element: usize, value: Interval) -> Intervals {
        let (middle, half) = centre_radius(value);
        let most = value.lower.abs().max(value.upper.abs());
        let mut found = Intervals::zeros(self.rows());
        for (row, &norm) in self.norm.iter().enumerate() {
            let (c, r) = (self.centre[[row, element]], self.radius[[row, element]]);
            let sum = times(c, middle);
            let deviation = times(c.abs(), half) + times(r.min(norm), most);
            let radius = (deviation + 4.0 * ROUNDOFF * sum.abs()) * slack(1);
            found.set(row, around(sum, radius));
        }
        found
    }

    /// Bounds of every row times a vector that is zero but for `elements`, which lie in the given
    /// intervals; if these are all of them they are in order.
    pub(crate) fn times(
        &self,
        elements: impl ExactSizeIterator<Item = usize> + Clone + Sync,
        vector: &Intervals,
    ) -> Intervals {
        if let (1, Some(element)) = (vector.len(), elements.clone().next()) {
            return self.times_one(element, vector.get(0));
        }
        let n = vector.len();
        let (middle, half): (Vec<f64>, Vec<f64>) = vector.iter().map(centre_radius).unzip();
        let most: Vec<f64> =
            vector.iter().map(|each| each.lower.abs().max(each.upper.abs())).collect();
        let whole = length_of(ArrayView1::from(&most));
        let kappa = kappa(n);
        let bound = |row: usize| {
            let (centre, radius) = (self.centre.row(row), self.radius.row(row));
            let slices = centre.to_slice().zip(radius.to_slice());
            let vector = (middle.as_slice(), half.as_slice(), most.as_slice());
            let sums = if let Some((centre, radius)) = slices.filter(|(c, _)| c.len() == n) {
                Sums::of(centre, radius, vector)
            } else {
                let of = |row: ArrayView1<'_, f64>| -> Vec<f64> {
                    elements.clone().map(|element| row[element]).collect()
                };
                Sums::of(&of(centre), &of(radius), vector)
            };
            let by_ball = times(self.norm[row], whole);
            let radius = (sums.reach + sums.by_box.min(by_ball) + kappa * sums.size) * slack(n);
            around(sums.sum, radius)
        };
        tasks::map(self.rows(), n, bound).into_iter().collect()
    }
}

/// The interval around a computed centre; an exact zero stays one.
pub(super) fn around(centre: f64, radius: f64) -> Interval {
    if centre == 0.0 && radius == 0.0 {
        return Interval::ZERO;
    }
    if !(centre.is_finite() && radius.is_finite()) {
        return Interval::UNBOUNDED;
    }
    let radius = radius + f64::MIN_POSITIVE;
    Interval::new((centre - radius).next_down(), (centre + radius).next_up())
}

/// A row that is known times a vector of those middles, half widths and sizes.
fn centre_times(row: ArrayView1<'_, f64>, vector: (&[f64], &[f64], &[f64])) -> Interval {
    let n = row.len();
    let Sums { sum, size, reach, .. } = Sums::of(&side_by_side(row), &vec![0.0; n], vector);
    around(sum, (reach + kappa(n) * size) * slack(n))
}
