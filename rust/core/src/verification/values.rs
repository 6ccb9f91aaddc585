//! Value intervals of one network: plain propagation, and at the nodes that matter the mean value
//! theorem and lines taken back to the inputs, all intersected.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::kernel_rows::KernelRows;
use super::linear::Linear;
use super::norms::Norms;
use super::rounding::sum;
use super::rows::{Open, Row, Rows};
use super::shapes::{Shapes, reach, widened};
use super::{curved, lines, narrow};
use crate::bounds::{InputBox, Tightening, cost, curved_before, matters};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{Dense, Network, NodeId, Op};

/// Rows that are taken back at once.
const ROWS_AT_ONCE: usize = 128;

/// One network with the value intervals of all its nodes.
pub(super) struct Side<'a> {
    pub(super) network: &'a Network,
    /// Of the nodes up to where the propagation has come.
    pub(super) values: Vec<Intervals>,
    /// Of the linear ops, when first needed.
    norms: Vec<OnceLock<Norms>>,
    /// Where deviations can be, found when first needed.
    shapes: Mutex<Shapes>,
}

/// What the mean value theorem starts from.
struct Middle {
    values: Vec<Intervals>,
    /// How far what arose at one node gets through one of the first layers.
    reached: HashMap<(NodeId, NodeId), f64>,
}

impl<'a> Side<'a> {
    /// Propagate the box with plain intervals.
    fn plain(network: &'a Network, input_box: &InputBox, poll: &mut Poll<'_>) -> Result<Self> {
        let mut side = Self::empty(network);
        let mut boxes = input_box.inputs();
        for id in 0..network.nodes().len() {
            let value = side.next(id, &mut boxes, poll)?;
            side.values.push(value);
        }
        Ok(side)
    }

    /// Propagate the box with the bounds of `tightening` intersected where they are worth it.
    pub(super) fn tight(
        network: &'a Network,
        input_box: &InputBox,
        tightening: Tightening,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let values = Self::plain(network, &input_box.middle(), poll)?.values;
        let mut middle = Middle { values, reached: HashMap::new() };
        let curved = curved_before(network);
        let mut side = Self::empty(network);
        let mut boxes = input_box.inputs();
        for (id, curved) in curved.into_iter().enumerate() {
            let mut value = side.next(id, &mut boxes, poll)?;
            let affordable = || cost(network, id) <= tightening.most_multiplications;
            if curved && matters(network, id) && affordable() {
                if tightening.mean_value {
                    narrow(&mut value, &side.by_mean_value(&mut middle, id, poll)?);
                }
                if tightening.backward {
                    narrow(&mut value, &side.by_lines(id, poll)?);
                }
            }
            side.values.push(value);
        }
        Ok(side)
    }

    fn empty(network: &'a Network) -> Self {
        let norms = network.nodes().iter().map(|_| OnceLock::new()).collect();
        let values = Vec::with_capacity(network.nodes().len());
        Self { network, values, norms, shapes: Mutex::default() }
    }

    /// The intervals of the next node, from those of its sources.
    fn next<'b>(
        &self,
        id: NodeId,
        boxes: &mut impl Iterator<Item = &'b Intervals>,
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        poll.check()?;
        let node = self.network.node(id);
        if let Op::Input = node.op {
            return Ok(boxes.next().cloned().unwrap_or_else(|| Intervals::unbounded(node.len())));
        }
        let sources: Vec<&Intervals> = node.sources.iter().map(|&at| &self.values[at]).collect();
        match (Linear::of(self.network, id), sources.first()) {
            (Some(linear), _) => linear.image(&sources, true, poll),
            (None, Some(source)) => Ok(curved::value(self.network, id, source)),
            (None, None) => Ok(Intervals::unbounded(node.len())),
        }
    }

    /// The norms of a linear op; `None` for the others.
    pub(super) fn norms(&self, id: NodeId) -> Option<&Norms> {
        Linear::of(self.network, id)
            .map(|_| self.norms[id].get_or_init(|| Norms::of(self.network, id)))
    }

    /// The shapes that are known so far.
    pub(super) fn shapes(&self) -> MutexGuard<'_, Shapes> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value at the middle, and the Jacobian with secant slopes from there.
    fn by_mean_value(
        &self,
        middle: &mut Middle,
        id: NodeId,
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let count = self.network.node(id).len();
        let mut found = Vec::with_capacity(count);
        for first in (0..count).step_by(ROWS_AT_ONCE) {
            let numbers = first..count.min(first + ROWS_AT_ONCE);
            let row = |number| Row::exact(&unit(count, number));
            let rows = numbers.clone().map(row).collect();
            let moved = self.moved(middle, id, rows, poll)?;
            let value = &middle.values[id];
            found.extend(numbers.zip(moved).map(|(at, moved)| sum(value.get(at), moved)));
        }
        Ok(found.into_iter().collect())
    }

    /// Bounds of `rows . (output of node id at x - at the middle)`.
    fn moved(
        &self,
        middle: &mut Middle,
        id: NodeId,
        rows: Rows,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Interval>> {
        let mut total = vec![Interval::ZERO; rows.rows.len()];
        let mut open = Open::new(id + 1);
        open.add(id, rows);
        for at in (0..=id).rev() {
            let Some(rows) = open.take(at) else { continue };
            poll.check()?;
            let moved = if let Op::Input = self.network.node(at).op {
                let way = self.way(middle, at);
                rows.rows.iter().map(|row| row.times(&way)).collect()
            } else if let Some((input, layer)) = self.first_layer(at) {
                self.through_first(middle, (at, input), layer, &rows)
            } else {
                let slopes = self.slopes_from(&middle.values, at);
                for (source, rows) in rows.pull(self, at, slopes.as_ref()) {
                    open.add(source, rows);
                }
                continue;
            };
            for (total, moved) in total.iter_mut().zip(moved) {
                *total = sum(*total, moved);
            }
        }
        Ok(total)
    }

    /// The way from the middle to anywhere in the box of an input.
    fn way(&self, middle: &Middle, input: NodeId) -> Intervals {
        let both = self.values[input].iter().zip(middle.values[input].iter());
        both.map(|(x, middle)| x.minus(middle)).collect()
    }

    /// A dense layer that reads an input, at one position, and that input.
    fn first_layer(&self, id: NodeId) -> Option<(NodeId, &'a Dense)> {
        let network = self.network;
        let Op::Dense(layer) = &network.node(id).op else { return None };
        let mut source = network.node(id).sources[0];
        while matches!(network.node(source).op, Op::Reshape | Op::Identity) {
            source = network.node(source).sources[0];
        }
        let one_position = layer.kernel.ncols() == network.node(id).len();
        let reads_input = matches!(network.node(source).op, Op::Input);
        (one_position && reads_input).then_some((source, layer))
    }

    /// Rows on a first layer's output, through it and over the way from the middle.
    fn through_first(
        &self,
        middle: &mut Middle,
        (id, input): (NodeId, NodeId),
        layer: &Dense,
        rows: &Rows,
    ) -> Vec<Interval> {
        let whole = KernelRows {
            weights: widened(layer, 0..layer.kernel.nrows()),
            norms: self.norms[id].get_or_init(|| Norms::of(self.network, id)).clone(),
            vector: self.way(middle, input),
        };
        let sizes = whole.sizes();
        let reaches = rows.by_birth(|(birth, shape)| {
            let find = || reach(shape, &whole.weights, &sizes);
            *middle.reached.entry((*birth, id)).or_insert_with(find)
        });
        whole.times(rows, &reaches)
    }

    /// Secant slopes of an activation from its value at the middle, which is itself an interval.
    fn slopes_from(&self, middle: &[Intervals], id: NodeId) -> Option<Intervals> {
        let Op::Activation(activation) = &self.network.node(id).op else { return None };
        let source = self.network.node(id).sources[0];
        let from = |(value, middle): (Interval, Interval)| {
            let over = value.hull(middle);
            let [left, right] =
                [middle.lower, middle.upper].map(|at| activation.slope_range_from(at, over));
            left.hull(right)
        };
        Some(self.values[source].iter().zip(middle[source].iter()).map(from).collect())
    }

    /// Lines taken back to the inputs.
    fn by_lines(&self, id: NodeId, poll: &mut Poll<'_>) -> Result<Intervals> {
        let count = self.network.node(id).len();
        let mut found = Vec::with_capacity(count);
        for first in (0..count).step_by(ROWS_AT_ONCE) {
            let numbers = first..count.min(first + ROWS_AT_ONCE);
            let mut ends = [1.0, -1.0].into_iter().map(|sign| {
                let row = |number| unit(count, number).iter().map(|x| sign * x).collect();
                let rows: Vec<Vec<f64>> = numbers.clone().map(row).collect();
                Ok(lines::above(self, id, &rows, poll)?.highest(self))
            });
            let both: Result<Vec<Vec<f64>>> = ends.by_ref().collect();
            let [upper, lower] = &both?[..] else { continue };
            found.extend(lower.iter().zip(upper).map(|(&l, &u)| Interval::new(-l, u)));
        }
        Ok(found.into_iter().collect())
    }
}

/// Row `number` of the identity.
pub(super) fn unit(count: usize, number: usize) -> Vec<f64> {
    let mut row = vec![0.0; count];
    row[number] = 1.0;
    row
}
