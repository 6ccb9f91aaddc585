//! Rows of a Jacobian that varies with the input, as centre + box + ball.

use ndarray::Array2;

use super::{Norms, Pulled, pull, terms};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals, centre_radius, product as times};
use crate::network::{Network, NodeId, Op, PoolKind};

/// Unit roundoff of f64.
const ROUNDOFF: f64 = f64::EPSILON / 2.0;

/// Rows `centre + rho` with `|rho| <= radius`, element by element, and `||rho||_2 <= norm`.
///
/// The ball is what keeps a wide input box from exploding: through a layer its norm grows by the
/// spectral norm, while a box grows by sums of absolute weights.
#[derive(Debug, Clone)]
pub(crate) struct Enclosure {
    /// Shape `(rows, elements)`.
    pub(crate) centre: Array2<f64>,
    /// Of the same shape.
    pub(crate) radius: Array2<f64>,
    /// One a row.
    pub(crate) norm: Vec<f64>,
}

/// An upper bound of the L2 norm, whatever the rounding.
fn length(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.map(|x| x * x).sum::<f64>().sqrt() * (1.0 + 2.0 * (n + 4.0) * f64::EPSILON)
}

/// What a result of about this many rounded operations may be too small by, as a factor.
fn slack(operations: usize) -> f64 {
    1.0 + 2.0 * (operations as f64 + 6.0) * f64::EPSILON
}

impl Enclosure {
    /// Rows that are known exactly.
    pub(crate) fn exact(rows: Array2<f64>) -> Self {
        let norm = vec![0.0; rows.nrows()];
        Self { radius: Array2::zeros(rows.dim()), centre: rows, norm }
    }

    /// Rows of which only the size of each element is known.
    pub(crate) fn around_zero(radius: Array2<f64>, norm: Vec<f64>) -> Self {
        Self { centre: Array2::zeros(radius.dim()), radius, norm }.narrowed()
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
    /// `slopes` holds the secant slopes of an activation; `norms` those of a linear op, without
    /// which the ball is not used.
    pub(crate) fn pull(
        &self,
        network: &Network,
        id: NodeId,
        slopes: Option<&Intervals>,
        norms: Option<&Norms>,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<(NodeId, Self)>> {
        let node = network.node(id);
        let source = node.sources[0];
        Ok(match (&node.op, slopes) {
            (Op::Activation(_), Some(slopes)) => vec![(source, self.through_slopes(slopes))],
            (Op::Pool(PoolKind::Max, _) | Op::GlobalPool(PoolKind::Max), _) => {
                vec![(source, self.through_maximum(network, id))]
            }
            (op, _) if super::is_linear(op) => self.through_linear(network, id, norms, poll)?,
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
    fn through_slopes(&self, slopes: &Intervals) -> Self {
        let (middle, half): (Vec<f64>, Vec<f64>) = slopes.iter().map(centre_radius).unzip();
        let most: Vec<f64> =
            slopes.iter().map(|slope| slope.lower.abs().max(slope.upper.abs())).collect();
        let steepest = most.iter().copied().fold(0.0, f64::max);
        let mut through = self.clone();
        for row in 0..self.rows() {
            let mut moved = Vec::with_capacity(middle.len());
            for element in 0..middle.len() {
                let at = [row, element];
                let (c, r) = (self.centre[at], self.radius[at]);
                let centre = times(c, middle[element]);
                let spread = times(c.abs(), half[element]) + ROUNDOFF * 2.0 * centre.abs();
                moved.push(spread);
                through.centre[at] = centre;
                through.radius[at] = (times(r, most[element]) + spread) * slack(3);
            }
            through.norm[row] =
                (times(steepest, self.norm[row]) + length(moved.into_iter())) * slack(3);
        }
        through.finite().narrowed()
    }

    fn through_linear(
        &self,
        network: &Network,
        id: NodeId,
        norms: Option<&Norms>,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<(NodeId, Self)>> {
        let count = terms(network, id);
        let kappa = (count as f64 + 3.0) * ROUNDOFF;
        let factor = slack(count);
        // What the centre's own rounding needs goes the way of the box.
        let reach = &self.radius + &self.centre.mapv(|c| kappa * c.abs());
        let mut found = Vec::new();
        for Pulled { source, signed, mut absolute } in
            pull(network, id, &self.centre, &reach, poll)?
        {
            absolute.mapv_inplace(|radius| {
                if radius == 0.0 { 0.0 } else { radius * factor + f64::MIN_POSITIVE * factor }
            });
            let mut norm = vec![f64::INFINITY; self.rows()];
            if let Some(norms) = norms {
                let column = |element: usize| norms.columns[element % norms.columns.len()];
                let frobenius = length((0..absolute.ncols()).map(column));
                for row in 0..self.rows() {
                    let ball = self.norm[row];
                    // The centre's rounding is at most kappa |c| |A|: by Cauchy-Schwarz this much
                    // of a column's norm, and of the Frobenius norm (|A| has no smaller one).
                    let rounding = kappa * length(self.centre.row(row).iter().copied()) * slack(4);
                    for (element, radius) in absolute.row_mut(row).iter_mut().enumerate() {
                        let by_ball = times(ball + rounding, column(element));
                        *radius = radius.min(by_ball * slack(4));
                    }
                    norm[row] =
                        (times(ball, norms.spectral) + times(rounding, frobenius)) * slack(4);
                }
            }
            found.push((
                source,
                Self { centre: signed, radius: absolute, norm }.finite().narrowed(),
            ));
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

    /// Bounds of every row times a vector that is zero but for `elements`, which lie in the given
    /// intervals.
    pub(crate) fn times(
        &self,
        elements: impl ExactSizeIterator<Item = usize> + Clone,
        vector: &Intervals,
    ) -> Intervals {
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
