//! Enclosed rows taken back through a node.

use ndarray::Array2;

use super::ellipsoid::{WIDEST, ball};
use super::enclosure::{Enclosure, ROUNDOFF, kappa, length, length_of, slack};
use super::parts::{Part, Tools};
use super::slopes::{Sloped, Slopes};
use super::{Map, is_linear, pull, terms};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals, product as times};
use crate::network::{Network, NodeId, Op, PoolKind};

impl Enclosure {
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

    fn through_slopes(
        &self,
        id: NodeId,
        slopes: &Intervals,
        anywhere: Interval,
        tools: &mut Tools,
    ) -> Self {
        let slopes = Slopes::of(slopes);
        let steepest = slopes.steepest();
        let Sloped { centre, radius, fresh, around } = slopes.apply(self);
        let elements = centre.ncols();
        let longer = |((&norm, fresh), &around): ((&f64, &f64), &f64)| {
            // The ball is never larger than the box around it.
            let norm = ((times(steepest, norm) + fresh) * slack(3)).min(around);
            if norm.is_nan() { f64::INFINITY } else { norm }
        };
        let norm = self.norm.iter().zip(&fresh).zip(&around).map(longer).collect();
        let rounding = self.rounding.iter().map(|&r| times(steepest, r) * slack(1)).collect();
        let mut through = Self { centre, radius, norm, parts: Vec::new(), rounding };
        through.parts = self.parts_through_slopes(id, anywhere, tools);
        if tools.shapes.is_some() && elements <= WIDEST && fresh.iter().all(|x| x.is_finite()) {
            let total = through.norm.clone();
            let part = Part { birth: id, shape: ball(elements), fresh, total };
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
        let kappa = kappa(count);
        let factor = slack(count);
        // What the centre's own rounding needs goes the way of the box.
        let reach = &self.radius + &self.centre.mapv(|c| kappa * c.abs());
        let pulled = self.parts_through(network, id, tools);
        let norms = tools.norms(network, id, || self.active());
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
                let added = kappa * length_of(self.centre.row(row)) * slack(4);
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
                let centre = length_of(self.centre.row(row));
                let norm = times((centre + self.norm[row]) * slack(4), constant);
                radius.row_mut(row).fill(norm);
                norm
            })
            .collect();
        Self::around_zero(radius, norm)
    }
}
