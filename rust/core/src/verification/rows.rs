//! Rows of a Jacobian that varies with the input, as centre + box + ball, one at a time.

use rayon::prelude::*;

use super::curved::windows;
use super::linear::Linear;
use super::norms::Norms;
use super::rounding::{add_up, length, size, sum, times, times_up};
use crate::interval::{Interval, Intervals, centre_radius};
use crate::network::{Network, NodeId, Op, PoolKind};

/// A row `centre + rho` with `|rho| <= radius`, element by element, and `||rho||_2 <= norm`. The
/// centre is some point of its intervals, whose width is only rounding.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) centre: Vec<Interval>,
    pub(super) radius: Vec<f64>,
    pub(super) norm: f64,
}

/// Rows on the output of each node, where there are any.
pub(super) struct Open(Vec<Option<Vec<Row>>>);

impl Open {
    /// No rows on any of `count` nodes.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![None; count])
    }

    /// The rows on a node, which are done with.
    pub(super) fn take(&mut self, id: NodeId) -> Option<Vec<Row>> {
        self.0[id].take()
    }

    /// More rows on a node, added to those that are there.
    pub(super) fn add(&mut self, id: NodeId, rows: Vec<Row>) {
        self.0[id] = Some(match self.0[id].take() {
            None => rows,
            Some(known) => known.iter().zip(&rows).map(|(a, b)| a.plus(b)).collect(),
        });
    }
}

/// Take rows on a node's output back to its sources.
pub(super) fn pull(
    rows: &[Row],
    network: &Network,
    id: NodeId,
    slopes: Option<&Intervals>,
    norms: Option<&Norms>,
) -> Vec<(NodeId, Vec<Row>)> {
    let linear = Linear::of(network, id);
    let of = |row: &Row| match (&linear, norms) {
        (Some(linear), Some(norms)) => row.through_linear(network, linear, norms),
        _ => row.through_curved(network, id, slopes),
    };
    let by_row: Vec<Vec<Row>> = rows.par_iter().map(of).collect();
    let sources = &network.node(id).sources;
    let mut found: Vec<(NodeId, Vec<Row>)> =
        sources.iter().map(|&source| (source, Vec::with_capacity(rows.len()))).collect();
    for parts in by_row {
        for ((_, rows), row) in found.iter_mut().zip(parts) {
            rows.push(row);
        }
    }
    found
}

impl Row {
    /// A row that is known exactly.
    pub(super) fn exact(row: &[f64]) -> Self {
        let centre = row.iter().map(|&x| Interval::point(x)).collect();
        Self { centre, radius: vec![0.0; row.len()], norm: 0.0 }
    }

    /// A row of which only the sizes are known.
    fn around_zero(radius: Vec<f64>, norm: f64) -> Self {
        Self { centre: vec![Interval::ZERO; radius.len()], radius, norm }.settled()
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            centre: self.centre.iter().zip(&other.centre).map(|(&a, &b)| sum(a, b)).collect(),
            radius: self.radius.iter().zip(&other.radius).map(|(&a, &b)| add_up(a, b)).collect(),
            norm: add_up(self.norm, other.norm),
        }
        .settled()
    }

    /// The ball is never larger than the box around it; an unknown centre goes into the box.
    fn settled(mut self) -> Self {
        for (centre, radius) in self.centre.iter_mut().zip(&mut self.radius) {
            if !(centre.is_finite() && radius.is_finite()) {
                *centre = Interval::ZERO;
                *radius = f64::INFINITY;
            }
        }
        self.norm = length(self.radius.iter().copied()).min(self.norm);
        self
    }

    fn through_linear(&self, network: &Network, linear: &Linear<'_>, norms: &Norms) -> Vec<Self> {
        let sources = &linear.node().sources;
        let mut found: Vec<Self> = sources
            .iter()
            .map(|&source| {
                let count = network.node(source).len();
                let norm = times_up(norms.spectral, self.norm);
                Self { centre: vec![Interval::ZERO; count], radius: vec![0.0; count], norm }
            })
            .collect();
        let mut terms = Vec::new();
        for (element, (&c, &r)) in self.centre.iter().zip(&self.radius).enumerate() {
            if c == Interval::ZERO && r == 0.0 {
                continue;
            }
            linear.terms(element, &mut terms);
            for term in &terms {
                let to = &mut found[term.source];
                let centre = &mut to.centre[term.element];
                *centre = sum(*centre, times(term.weight, c));
                let radius = &mut to.radius[term.element];
                *radius = add_up(*radius, times_up(size(term.weight), r));
            }
        }
        for row in &mut found {
            for (element, radius) in row.radius.iter_mut().enumerate() {
                let column = norms.columns[element % norms.columns.len()];
                *radius = radius.min(times_up(column, self.norm));
            }
        }
        found.into_iter().map(Self::settled).collect()
    }

    fn through_curved(
        &self,
        network: &Network,
        id: NodeId,
        slopes: Option<&Intervals>,
    ) -> Vec<Self> {
        let node = network.node(id);
        let source = network.node(node.sources[0]);
        match (&node.op, slopes) {
            (Op::Activation(_), Some(slopes)) => vec![self.through_slopes(slopes)],
            (Op::Pool(PoolKind::Max, _) | Op::GlobalPool(PoolKind::Max), _) => {
                vec![self.through_maximum(&node.op, source.last_axis(), source.len())]
            }
            // Lipschitz constants: 1/2 for a softmax, max |gamma| / sqrt(epsilon) for a layer
            // normalization; nothing is known of the rest.
            (Op::Softmax, _) => vec![self.through_lipschitz(0.5)],
            (Op::LayerNormalization(norm), _) => {
                let gain = norm.gamma.as_ref().map_or(1.0, |gamma| {
                    gamma.iter().fold(0.0, |most: f64, &gamma| most.max(f64::from(gamma).abs()))
                });
                vec![self.through_lipschitz((gain / norm.epsilon.sqrt().next_down()).next_up())]
            }
            _ => {
                let unknown = |&source: &NodeId| {
                    let radius = vec![f64::INFINITY; network.node(source).len()];
                    Self::around_zero(radius, f64::INFINITY)
                };
                node.sources.iter().map(unknown).collect()
            }
        }
    }

    /// `s o r = m o c + (c o (s - m) + rho o s)` for slopes s in m +- h.
    fn through_slopes(&self, slopes: &Intervals) -> Self {
        let mut through = self.clone();
        let (mut steepest, mut moved) = (0.0_f64, Vec::with_capacity(slopes.len()));
        for (element, slope) in slopes.iter().enumerate() {
            let (middle, half) = centre_radius(slope);
            let spread = times_up(size(self.centre[element]), half);
            through.centre[element] = times(Interval::point(middle), self.centre[element]);
            through.radius[element] = add_up(times_up(self.radius[element], size(slope)), spread);
            steepest = steepest.max(size(slope));
            moved.push(spread);
        }
        through.norm = add_up(times_up(steepest, self.norm), length(moved.into_iter()));
        through.settled()
    }

    /// The difference of two maxima is a mean of the differences with weights that vary.
    fn through_maximum(&self, op: &Op, channels: usize, source: usize) -> Self {
        let mut through = Self {
            centre: vec![Interval::ZERO; source],
            radius: vec![0.0; source],
            norm: f64::INFINITY,
        };
        for (output, seen) in windows(op, channels, source).into_iter().enumerate() {
            let (c, r) = (self.centre[output], self.radius[output]);
            let share = 1.0 / seen.len().max(1) as f64;
            for input in seen {
                let centre = &mut through.centre[input];
                *centre = sum(*centre, c.scaled(share));
                // A weight lies in [0, 1]: as far from its share as 1 - share or share.
                let far = (1.0 - share).next_up().max(share);
                let radius = &mut through.radius[input];
                *radius = add_up(*radius, add_up(times_up(size(c), far), r));
            }
        }
        through.settled()
    }

    fn through_lipschitz(&self, constant: f64) -> Self {
        let centre = length(self.centre.iter().map(|&c| size(c)));
        let norm = times_up(add_up(centre, self.norm), constant);
        Self::around_zero(vec![norm; self.radius.len()], norm)
    }

    /// Interval of the row times a vector in the given intervals.
    pub(super) fn times(&self, vector: &Intervals) -> Interval {
        let parts = self.centre.iter().zip(vector.iter());
        let centre = parts.fold(Interval::ZERO, |total, (&c, x)| sum(total, times(c, x)));
        let by_box = self
            .radius
            .iter()
            .zip(vector.iter())
            .fold(0.0, |total, (&r, x)| add_up(total, times_up(r, size(x))));
        let by_ball = times_up(self.norm, length(vector.iter().map(size)));
        let deviation = by_box.min(by_ball);
        sum(centre, Interval::new(-deviation, deviation))
    }
}
