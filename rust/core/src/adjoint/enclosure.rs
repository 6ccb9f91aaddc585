//! Rows of a Jacobian that varies with the input, as centre + box + ball.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::ellipsoid::{WIDEST, ball};
use super::parts::{Part, Tools};
use super::{Map, Norms, is_linear, pull, terms};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals, centre_radius, product as times};
use crate::linalg::pull_back;
use crate::network::{Network, NodeId, Op, PoolKind};

/// Unit roundoff of f64.
const ROUNDOFF: f64 = f64::EPSILON / 2.0;

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
    rounding: Vec<f64>,
}

/// The reach of a shape, by where it arose, through given rows and over given sizes.
pub(crate) type Reached<'a> = dyn FnMut(NodeId, &Array2<f64>, &[f64]) -> f64 + 'a;

/// An upper bound of the L2 norm, whatever the rounding.
fn length(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.map(|x| x * x).sum::<f64>().sqrt() * (1.0 + 2.0 * (n + 4.0) * f64::EPSILON)
}

/// What a result of about this many rounded operations may be too small by, as a factor.
pub(super) fn slack(operations: usize) -> f64 {
    1.0 + 2.0 * (operations as f64 + 6.0) * f64::EPSILON
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
            *norm += 2.0 * ROUNDOFF * length(row.iter().copied());
        }
        self.narrowed()
    }

    /// The ball is never larger than the box around it.
    fn narrowed(mut self) -> Self {
        for (norm, row) in self.norm.iter_mut().zip(self.radius.rows()) {
            *norm = norm.min(length(row.iter().copied()));
            if norm.is_nan() {
                *norm = f64::INFINITY;
            }
        }
        self
    }

    /// Take the rows back through a node.
    ///
    /// `slopes` holds the secant slopes of an activation.
    pub(crate) fn pull(
        &self,
        network: &Network,
        id: NodeId,
        slopes: Option<&Intervals>,
        tools: &mut Tools,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<(NodeId, Self)>> {
        let node = network.node(id);
        let source = node.sources[0];
        Ok(match (&node.op, slopes) {
            (Op::Activation(activation), Some(slopes)) => {
                let anywhere = activation.slope_range(Interval::UNBOUNDED);
                vec![(source, self.through_slopes(id, slopes, anywhere, tools))]
            }
            (Op::Pool(PoolKind::Max, _) | Op::GlobalPool(PoolKind::Max), _) => {
                vec![(source, self.through_maximum(network, id))]
            }
            (op, _) if is_linear(op) => self.through_linear(network, id, tools, poll)?,
            // Lipschitz constants: 1/2 for a softmax, max |gamma| / sqrt(epsilon) for a layer
            // normalization; nothing is known of the rest.
            (Op::Softmax, _) => vec![(source, self.through_lipschitz(0.5))],
            (Op::LayerNormalization(norm), _) => {
                let gain = norm.gamma.as_ref().map_or(1.0, |gamma| {
                    gamma.iter().fold(0.0, |most: f64, &gamma| most.max(f64::from(gamma).abs()))
                });
                vec![(source, self.through_lipschitz(slack(4) * gain / norm.epsilon.sqrt()))]
            }
            _ => {
                let shape = (self.rows(), network.node(source).len());
                let unknown = Array2::from_elem(shape, f64::INFINITY);
                let norm = vec![f64::INFINITY; self.rows()];
                node.sources
                    .iter()
                    .map(|&source| (source, Self::around_zero(unknown.clone(), norm.clone())))
                    .collect()
            }
        })
    }

    /// `s o r = m o c + (c o (s - m) + rho o s)` for slopes s in m +- h.
    fn through_slopes(
        &self,
        id: NodeId,
        slopes: &Intervals,
        anywhere: Interval,
        tools: &mut Tools,
    ) -> Self {
        let (middle, half): (Vec<f64>, Vec<f64>) = slopes.iter().map(centre_radius).unzip();
        let most: Vec<f64> =
            slopes.iter().map(|slope| slope.lower.abs().max(slope.upper.abs())).collect();
        let steepest = most.iter().copied().fold(0.0, f64::max);
        let mut through = self.clone();
        let mut fresh = Vec::with_capacity(self.rows());
        for row in 0..self.rows() {
            let mut moved = Vec::with_capacity(middle.len());
            for element in 0..middle.len() {
                let at = [row, element];
                let (c, r) = (self.centre[at], self.radius[at]);
                let centre = times(c, middle[element]);
                let spread = times(c.abs(), half[element]) + ROUNDOFF * 2.0 * centre.abs();
                moved.push(spread * slack(2));
                through.centre[at] = centre;
                through.radius[at] = (times(r, most[element]) + spread) * slack(3);
            }
            fresh.push(length(moved.into_iter()));
            through.norm[row] = (times(steepest, self.norm[row]) + fresh[row]) * slack(3);
            through.rounding[row] = times(steepest, self.rounding[row]) * slack(1);
        }
        let mut through = through.finite().narrowed();
        through.parts = self.parts_through_slopes(id, anywhere, tools);
        if tools.shapes.is_some() && middle.len() <= WIDEST && fresh.iter().all(|x| x.is_finite()) {
            let total = through.norm.clone();
            let part = Part { birth: id, shape: ball(middle.len()), fresh, total };
            through.parts.insert(0, part);
            // All that there is, rounding too, is in the new part's total; in those before it, not.
        } else {
            // Without a part for what arose here, those before it would bound too little.
            through.parts.clear();
        }
        through
    }

    fn through_linear(
        &self,
        network: &Network,
        id: NodeId,
        tools: &mut Tools,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<(NodeId, Self)>> {
        let count = terms(network, id);
        let kappa = (count as f64 + 3.0) * ROUNDOFF;
        let factor = slack(count);
        // What the centre's own rounding needs goes the way of the box.
        let reach = &self.radius + &self.centre.mapv(|c| kappa * c.abs());
        let pulled = self.parts_through(network, id, tools);
        let norms = tools.norms(network, id).clone();
        let column = |element: usize| norms.columns[element % norms.columns.len()];
        let centres = pull(network, id, &self.centre, Map::Signed, poll)?;
        let boxes = pull(network, id, &reach, Map::Absolute, poll)?;
        let mut found = Vec::new();
        for ((source, centre), (_, mut radius)) in centres.into_iter().zip(boxes) {
            radius.mapv_inplace(|radius| {
                if radius == 0.0 { 0.0 } else { radius * factor + f64::MIN_POSITIVE * factor }
            });
            let frobenius = length((0..radius.ncols()).map(column));
            let (mut norm, mut rounding) = (self.norm.clone(), self.rounding.clone());
            for row in 0..self.rows() {
                let ball = self.norm[row];
                // The centre's rounding is at most kappa |c| |A|: by Cauchy-Schwarz this much
                // of a column's norm, and of the Frobenius norm (|A| has no smaller one).
                let added = kappa * length(self.centre.row(row).iter().copied()) * slack(4);
                for (element, radius) in radius.row_mut(row).iter_mut().enumerate() {
                    let by_ball = times(ball + added, column(element));
                    *radius = radius.min(by_ball * slack(4));
                    if let Some(pulled) = &pulled {
                        let factors: Vec<f64> =
                            pulled.iter().map(|pulled| pulled.columns[element]).collect();
                        let loose = times(self.rounding[row] + added, column(element));
                        *radius = radius.min((self.by_parts(row, &factors) + loose) * slack(4));
                    }
                }
                norm[row] = (times(ball, norms.spectral) + times(added, frobenius)) * slack(4);
                rounding[row] = (times(self.rounding[row], norms.spectral)
                    + times(added, frobenius))
                    * slack(4);
                if let Some(pulled) = &pulled {
                    let factors: Vec<f64> = pulled.iter().map(|pulled| pulled.stretch).collect();
                    norm[row] =
                        norm[row].min((self.by_parts(row, &factors) + rounding[row]) * slack(4));
                }
            }
            let parts = self.parts_after(network, id, pulled.as_deref(), tools);
            let rows = Self { centre, radius, norm, parts, rounding };
            found.push((source, rows.finite().narrowed()));
        }
        Ok(found)
    }

    /// The difference of two maxima is a mean of the differences with weights that vary.
    fn through_maximum(&self, network: &Network, id: NodeId) -> Self {
        let node = network.node(id);
        let source = network.node(node.sources[0]);
        let channels = source.last_axis();
        let mut through = Self {
            centre: Array2::zeros((self.rows(), source.len())),
            radius: Array2::zeros((self.rows(), source.len())),
            norm: vec![f64::INFINITY; self.rows()],
            parts: Vec::new(),
            rounding: vec![0.0; self.rows()],
        };
        let mut give = |output: usize, inputs: &[usize]| {
            let share = 1.0 / inputs.len().max(1) as f64;
            for row in 0..self.rows() {
                let at = [row, output];
                let (c, r) = (self.centre[at], self.radius[at]);
                for &input in inputs {
                    let centre = share * c;
                    through.centre[[row, input]] += centre;
                    // A weight lies in [0, 1]: as far from its share as 1 - share or share.
                    through.radius[[row, input]] +=
                        (c.abs() * (1.0 - share).max(share) + r + ROUNDOFF * 8.0 * c.abs())
                            * slack(8);
                }
            }
        };
        match &node.op {
            Op::Pool(_, window) => {
                for position in 0..window.positions() {
                    for channel in 0..channels {
                        let inputs: Vec<usize> =
                            window.inputs(position).map(|at| at * channels + channel).collect();
                        give(position * channels + channel, &inputs);
                    }
                }
            }
            _ => {
                for channel in 0..channels {
                    let inputs: Vec<usize> = (channel..source.len()).step_by(channels).collect();
                    give(channel, &inputs);
                }
            }
        }
        through.finite().narrowed()
    }

    fn through_lipschitz(&self, constant: f64) -> Self {
        let mut radius = self.radius.clone();
        let norm: Vec<f64> = (0..self.rows())
            .map(|row| {
                let centre = length(self.centre.row(row).iter().copied());
                let norm = times((centre + self.norm[row]) * slack(4), constant);
                radius.row_mut(row).fill(norm);
                norm
            })
            .collect();
        Self::around_zero(radius, norm)
    }

    /// Where nothing is known, say so without NaN.
    fn finite(mut self) -> Self {
        for (centre, radius) in self.centre.iter_mut().zip(self.radius.iter_mut()) {
            if !(centre.is_finite() && radius.is_finite()) {
                *centre = 0.0;
                *radius = f64::INFINITY;
            }
        }
        self
    }

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
        let norms = Norms::of_rows(kernel);
        let centre = pull_back(kernel, self.centre.view(), false);
        let kappa = (kernel.ncols() as f64 + 3.0) * ROUNDOFF;
        let reach = &self.radius + &self.centre.mapv(|c| kappa * c.abs());
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
        let reaches: Vec<f64> =
            self.parts.iter().map(|part| reached(part.birth, &part.shape, &most)).collect();
        let mut found = Intervals::default();
        for row in 0..self.rows() {
            let rounding = kappa * length(self.centre.row(row).iter().copied()) * slack(4);
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
            let centre = centre_times(centre.row(row), vector);
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
    /// intervals.
    pub(crate) fn times(
        &self,
        elements: impl ExactSizeIterator<Item = usize> + Clone,
        vector: &Intervals,
    ) -> Intervals {
        if let (1, Some(element)) = (vector.len(), elements.clone().next()) {
            return self.times_one(element, vector.get(0));
        }
        let n = vector.len();
        let (middle, half): (Vec<f64>, Vec<f64>) = vector.iter().map(centre_radius).unzip();
        let most: Vec<f64> =
            vector.iter().map(|each| each.lower.abs().max(each.upper.abs())).collect();
        let whole = length(most.iter().copied());
        let kappa = (n as f64 + 3.0) * ROUNDOFF;
        (0..self.rows())
            .map(|row| {
                let (mut sum, mut size, mut reach, mut by_box) = (0.0, 0.0, 0.0, 0.0);
                for (place, element) in elements.clone().enumerate() {
                    let c = self.centre[[row, element]];
                    sum += times(c, middle[place]);
                    size += times(c.abs(), middle[place].abs());
                    reach += times(c.abs(), half[place]);
                    by_box += times(self.radius[[row, element]], most[place]);
                }
                let by_ball = times(self.norm[row], whole);
                let radius = (reach + by_box.min(by_ball) + kappa * size) * slack(n);
                around(sum, radius)
            })
            .collect()
    }
}

/// The interval around a computed centre; an exact zero stays one.
fn around(centre: f64, radius: f64) -> Interval {
    if centre == 0.0 && radius == 0.0 {
        return Interval::ZERO;
    }
    if !(centre.is_finite() && radius.is_finite()) {
        return Interval::UNBOUNDED;
    }
    let radius = radius + f64::MIN_POSITIVE;
    Interval::new((centre - radius).next_down(), (centre + radius).next_up())
}

/// A row that is known times a vector.
fn centre_times(row: ArrayView1<'_, f64>, vector: &Intervals) -> Interval {
    let (mut sum, mut size, mut reach) = (0.0, 0.0, 0.0);
    for (&c, value) in row.iter().zip(vector.iter()) {
        let (middle, half) = centre_radius(value);
        sum += times(c, middle);
        size += times(c.abs(), middle.abs());
        reach += times(c.abs(), half);
    }
    let n = vector.len();
    let kappa = (n as f64 + 3.0) * ROUNDOFF;
    around(sum, (reach + kappa * size) * slack(n))
}
