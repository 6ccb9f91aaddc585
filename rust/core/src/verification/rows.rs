//! Rows of a Jacobian that varies with the input, as centre + box + ball, and in a chain of dense
//! layers as ellipsoids.

use rayon::prelude::*;

use super::curved::windows;
use super::linear::{Linear, affine};
use super::norms::Norms;
use super::rounding::{add_up, length, size, sum, times, times_up};
use super::shapes::{Pulled, Shape, WIDEST, ball};
use super::values::Side;
use crate::interval::{Interval, Intervals, centre_radius};
use crate::network::{Network, NodeId, Op, PoolKind};

/// A row `centre + rho` with `|rho| <= radius`, element by element, and `||rho||_2 <= norm`. The
/// centre is some point of its intervals, whose width is only rounding.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) centre: Vec<Interval>,
    pub(super) radius: Vec<f64>,
    pub(super) norm: f64,
    /// What of rho arose at each birth of the rows that it is one of.
    arisen: Vec<Arisen>,
}

/// L2 norms of what arose at one activation.
#[derive(Debug, Clone, Copy)]
struct Arisen {
    /// Of what arose there.
    fresh: f64,
    /// Of all that rho was there.
    total: f64,
}

/// Rows on the output of one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    /// The activations where rho arose, the latest first, and what has become of a ball there.
    births: Vec<(NodeId, Shape)>,
}

/// Rows on the output of each node, where there are any.
pub(super) struct Open(Vec<Option<Rows>>);

impl Open {
    /// No rows on any of `count` nodes.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![None; count])
    }

    /// The rows on a node, which are done with.
    pub(super) fn take(&mut self, id: NodeId) -> Option<Rows> {
        self.0[id].take()
    }

    /// More rows on a node, added to those that are there.
    pub(super) fn add(&mut self, id: NodeId, rows: Rows) {
        self.0[id] = Some(match self.0[id].take() {
            None => rows,
            // Ways that part and meet again are no chain.
            Some(known) => known.rows.iter().zip(&rows.rows).map(|(a, b)| a.plus(b)).collect(),
        });
    }
}

impl FromIterator<Row> for Rows {
    /// Rows that are in no ellipsoids.
    fn from_iter<I: IntoIterator<Item = Row>>(rows: I) -> Self {
        Self { rows: rows.into_iter().collect(), births: Vec::new() }
    }
}

impl Rows {
    /// Something of every shape, by where it arose.
    pub(super) fn by_birth<T>(&self, of: impl FnMut(&(NodeId, Shape)) -> T) -> Vec<T> {
        self.births.iter().map(of).collect()
    }

    /// Take rows on a node's output back to its sources.
    pub(super) fn pull(
        &self,
        side: &Side<'_>,
        id: NodeId,
        slopes: Option<&Intervals>,
    ) -> Vec<(NodeId, Self)> {
        let network = side.network;
        let linear = Linear::of(network, id);
        let pulled = self.through_dense(side, id);
        let of = |row: &Row| match (&linear, side.norms(id)) {
            (Some(linear), Some(norms)) => row.through_linear(network, linear, norms, &pulled),
            _ => row.through_curved(network, id, slopes),
        };
        let by_row: Vec<Vec<Row>> = self.rows.par_iter().map(of).collect();
        let sources = &network.node(id).sources;
        let mut found: Vec<(NodeId, Self)> =
            sources.iter().map(|&source| (source, Self::default())).collect();
        for parts in by_row {
            for ((_, found), row) in found.iter_mut().zip(parts) {
                found.rows.push(row);
            }
        }
        for (_, found) in &mut found {
            found.births = self.births_after(side, id, &pulled, &found.rows);
            for row in &mut found.rows {
                row.arisen.truncate(found.births.len());
            }
        }
        found
    }

    /// What a dense op in a chain does to the shapes; nothing where it is none.
    fn through_dense(&self, side: &Side<'_>, id: NodeId) -> Vec<Pulled> {
        let node = side.network.node(id);
        let Op::Dense(layer) = &node.op else { return Vec::new() };
        if layer.kernel.ncols() != node.len() {
            return Vec::new();
        }
        let further = !matches!(side.network.node(node.sources[0]).op, Op::Input);
        let mut shapes = side.shapes();
        self.by_birth(|(birth, shape)| shapes.through_kernel((*birth, id), shape, layer, further))
    }

    /// The shapes after a node: kept in a chain, else forgotten.
    fn births_after(
        &self,
        side: &Side<'_>,
        id: NodeId,
        pulled: &[Pulled],
        after: &[Row],
    ) -> Vec<(NodeId, Shape)> {
        let node = side.network.node(id);
        let births = self.births.iter().map(|&(birth, _)| birth);
        let mut shapes = side.shapes();
        match &node.op {
            Op::Dense(_) => births
                .zip(pulled)
                .map(|(birth, pulled)| Some((birth, pulled.shape.clone()?)))
                .collect::<Option<_>>()
                .unwrap_or_default(),
            Op::Reshape | Op::Identity => self.births.clone(),
            op @ (Op::BatchNormalization(..) | Op::Affine(_)) => {
                let scale: Vec<Interval> = affine(op).into_iter().map(|(scale, _)| scale).collect();
                if scale.len() != node.len() {
                    return Vec::new();
                }
                self.by_birth(|(birth, shape)| {
                    (*birth, shapes.through_scale((*birth, id), shape, &scale))
                })
            }
            Op::Activation(activation) => {
                let fresh = |row: &Row| row.arisen.first().is_some_and(|now| now.fresh.is_finite());
                if node.len() > WIDEST || !after.iter().all(fresh) {
                    return Vec::new();
                }
                let anywhere = activation.slope_range(Interval::UNBOUNDED);
                let known = self.births.iter().map(|(birth, shape)| {
                    Some((*birth, shapes.through_slopes((*birth, id), shape, anywhere)?))
                });
                let known: Option<Vec<_>> = known.collect();
                [vec![(id, ball(node.len()))], known.unwrap_or_default()].concat()
            }
            _ => Vec::new(),
        }
    }
}

impl Row {
    /// A row that is known exactly.
    pub(super) fn exact(row: &[f64]) -> Self {
        let centre = row.iter().map(|&x| Interval::point(x)).collect();
        Self { centre, radius: vec![0.0; row.len()], norm: 0.0, arisen: Vec::new() }
    }

    /// A row of which only the sizes are known.
    fn around_zero(radius: Vec<f64>, norm: f64) -> Self {
        let centre = vec![Interval::ZERO; radius.len()];
        Self { centre, radius, norm, arisen: Vec::new() }.settled()
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            centre: self.centre.iter().zip(&other.centre).map(|(&a, &b)| sum(a, b)).collect(),
            radius: self.radius.iter().zip(&other.radius).map(|(&a, &b)| add_up(a, b)).collect(),
            norm: add_up(self.norm, other.norm),
            arisen: Vec::new(),
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

    /// Bound what rho can come to by a factor for each birth: everything that it was at one of
    /// them, and what arose after it.
    pub(super) fn by_births(&self, factors: impl Iterator<Item = f64>) -> f64 {
        let (mut least, mut later) = (f64::INFINITY, 0.0);
        for (arisen, factor) in self.arisen.iter().zip(factors) {
            least = least.min(add_up(later, times_up(arisen.total, factor)));
            later = add_up(later, times_up(arisen.fresh, factor));
        }
        least
    }

    fn through_linear(
        &self,
        network: &Network,
        linear: &Linear<'_>,
        norms: &Norms,
        pulled: &[Pulled],
    ) -> Vec<Self> {
        let sources = &linear.node().sources;
        let mut found: Vec<Self> = sources
            .iter()
            .map(|&source| {
                let count = network.node(source).len();
                let stretched = self.by_births(pulled.iter().map(|pulled| pulled.stretch));
                Self {
                    centre: vec![Interval::ZERO; count],
                    radius: vec![0.0; count],
                    norm: times_up(norms.spectral, self.norm).min(stretched),
                    arisen: self.arisen.clone(),
                }
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
                let reached = self.by_births(pulled.iter().map(|pulled| pulled.columns[element]));
                *radius = radius.min(times_up(column, self.norm)).min(reached);
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
        let fresh = length(moved.into_iter());
        through.norm = add_up(times_up(steepest, self.norm), fresh);
        let mut through = through.settled();
        through.arisen.insert(0, Arisen { fresh, total: through.norm });
        through
    }

    /// The difference of two maxima is a mean of the differences with weights that vary.
    fn through_maximum(&self, op: &Op, channels: usize, source: usize) -> Self {
        let mut through = Self {
            centre: vec![Interval::ZERO; source],
            radius: vec![0.0; source],
            norm: f64::INFINITY,
            arisen: Vec::new(),
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
