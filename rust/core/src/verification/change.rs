//! Enclosures of g - f: differences forward, the Jacobian of either chain, lines through both.

use super::injection::{Change, Injection, changes};
use super::kernel_rows::KernelRows;
use super::linear::Linear;
use super::lines::{Above, above};
use super::norms::Norms;
use super::rounding::{sum, times};
use super::rows::{Open, Row, Rows};
use super::shapes::{reach, widened};
use super::values::Side;
use super::{curved, narrow};
use crate::certificate::Pairing;
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{NodeId, Op};

/// The two networks, and what the pruning injects with the values of either.
pub(super) struct Both<'a> {
    original: Side<'a>,
    pruned: Side<'a>,
    in_original: Vec<Injection>,
    in_pruned: Vec<Injection>,
}

/// Whose weights carry a change to the outputs; it is injected in the other network's values.
#[derive(Clone, Copy)]
pub(super) enum Chain {
    /// Form (A).
    Pruned,
    /// Form (B).
    Original,
}

impl<'a> Both<'a> {
    /// Work out the injections.
    pub(super) fn new(
        pairing: &Pairing<'_>,
        original: Side<'a>,
        pruned: Side<'a>,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let changes = changes(pairing);
        let mut with = |side: &Side<'_>| -> Result<Vec<Injection>> {
            changes.iter().map(|change: &Change<'_>| change.injection(side, poll)).collect()
        };
        let (in_original, in_pruned) = (with(&original)?, with(&pruned)?);
        Ok(Self { original, pruned, in_original, in_pruned })
    }

    /// The logits, with the number of the first among all side by side, and how many they are.
    fn heads(&self) -> Vec<(NodeId, usize, usize)> {
        let mut first = 0;
        let mut heads = Vec::new();
        for id in self.original.network.logits() {
            let count = self.original.network.node(id).len();
            heads.push((id, first, count));
            first += count;
        }
        heads
    }

    /// Differences propagated forward, node by node: `rows . (g - f)`.
    pub(super) fn forward(&self, rows: &[Vec<f64>], poll: &mut Poll<'_>) -> Result<Intervals> {
        let count = self.original.network.nodes().len();
        let mut differences: Vec<Option<Intervals>> = Vec::with_capacity(count);
        for id in 0..count {
            poll.check()?;
            let place = self.in_original.iter().position(|injection| injection.node == id);
            let mut found = match place {
                Some(place) => Some(self.at_injection(place, &differences, poll)?),
                None => self.at_node(id, &differences, poll)?,
            };
            if let Some(found) = &mut found {
                let both = self.pruned.values[id].iter().zip(self.original.values[id].iter());
                narrow(found, &both.map(|(after, before)| after.minus(before)).collect());
            }
            differences.push(found);
        }
        let mut logits = Vec::new();
        for (id, _, count) in self.heads() {
            let unchanged = Intervals::zeros(count);
            logits.extend(differences[id].as_ref().unwrap_or(&unchanged).iter());
        }
        let image = |row: &Vec<f64>| {
            let parts = row.iter().zip(&logits);
            parts.fold(Interval::ZERO, |total, (&a, &d)| sum(total, times(Interval::point(a), d)))
        };
        Ok(rows.iter().map(image).collect())
    }

    /// Identity (A): the pruned weights carry what comes, the merges inject in f. Identity (B) the
    /// other way round. Both hold.
    fn at_injection(
        &self,
        place: usize,
        differences: &[Option<Intervals>],
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let id = self.in_original[place].node;
        let read = differences[self.original.network.node(id).sources[0]].as_ref();
        let mut found: Option<Intervals> = None;
        for (carrier, injections) in
            [(&self.pruned, &self.in_original), (&self.original, &self.in_pruned)]
        {
            let Injection { input, residual, .. } = &injections[place];
            let image = |side: &Side<'_>, x: &Intervals, poll: &mut Poll<'_>| match Linear::of(
                side.network,
                id,
            ) {
                Some(linear) => linear.image(&[x], false, poll),
                None => Ok(Intervals::unbounded(residual.len())),
            };
            let mut by_this = added(&image(&self.original, input, poll)?, residual);
            if let Some(read) = read {
                by_this = added(&by_this, &image(carrier, read, poll)?);
            }
            match &mut found {
                Some(found) => narrow(found, &by_this),
                None => found = Some(by_this),
            }
        }
        Ok(found.unwrap_or_default())
    }

    /// The difference at a node into which nothing is injected; `None` where there is none.
    fn at_node(
        &self,
        id: NodeId,
        differences: &[Option<Intervals>],
        poll: &mut Poll<'_>,
    ) -> Result<Option<Intervals>> {
        let network = self.original.network;
        let node = network.node(id);
        let at = |&source: &NodeId| differences[source].as_ref();
        if node.sources.iter().all(|source| at(source).is_none_or(Intervals::is_zero)) {
            return Ok(None);
        }
        let or_zeros = |source: &NodeId| {
            at(source).cloned().unwrap_or_else(|| Intervals::zeros(network.node(*source).len()))
        };
        let sources: Vec<Intervals> = node.sources.iter().map(or_zeros).collect();
        if let Some(linear) = Linear::of(network, id) {
            let sources: Vec<&Intervals> = sources.iter().collect();
            return linear.image(&sources, false, poll).map(Some);
        }
        let (change, source) = (&sources[0], node.sources[0]);
        let Op::Activation(activation) = &node.op else {
            return Ok(Some(curved::difference(network, id, change)));
        };
        let (before, after) = (&self.original.values[source], &self.pruned.values[source]);
        let of = |at: usize| activation.difference(before.get(at), after.get(at), change.get(at));
        Ok(Some((0..change.len()).map(of).collect()))
    }

    /// `rows . (g - f)` as the Jacobian of one chain times what is injected in the other network.
    pub(super) fn by_jacobian(
        &self,
        chain: Chain,
        rows: &[Vec<f64>],
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let (carrier, injections) = match chain {
            Chain::Pruned => (&self.pruned, &self.in_original),
            Chain::Original => (&self.original, &self.in_pruned),
        };
        let network = carrier.network;
        let changed = self.changed();
        let mut open = Open::new(network.nodes().len());
        for (id, first, count) in self.heads() {
            let head = |row: &Vec<f64>| Row::exact(&row[first..first + count]);
            open.add(id, rows.iter().map(head).collect());
        }
        let mut total = vec![Interval::ZERO; rows.len()];
        for id in (0..network.nodes().len()).rev() {
            let Some(rows) = open.take(id) else { continue };
            poll.check()?;
            if let Some(injection) = injections.iter().find(|injection| injection.node == id) {
                for (total, more) in total.iter_mut().zip(self.injected(&rows, injection)) {
                    *total = sum(*total, more);
                }
            }
            if !network.node(id).sources.iter().any(|&source| changed[source]) {
                continue;
            }
            let slopes = self.joint_slopes(id);
            for (source, rows) in rows.pull(carrier, id, slopes.as_ref()) {
                open.add(source, rows);
            }
        }
        Ok(total.into_iter().collect())
    }

    /// Which nodes the pruning can change: those with an injection and all after them.
    fn changed(&self) -> Vec<bool> {
        let nodes = self.original.network.nodes();
        let mut marked = vec![false; nodes.len()];
        for injection in &self.in_original {
            marked[injection.node] = true;
        }
        for (id, node) in nodes.iter().enumerate() {
            marked[id] |= node.sources.iter().any(|&source| marked[source]);
        }
        marked
    }

    /// Secant slopes between any values of the two networks.
    fn joint_slopes(&self, id: NodeId) -> Option<Intervals> {
        let node = self.original.network.node(id);
        let Op::Activation(activation) = &node.op else { return None };
        let source = node.sources[0];
        let both = self.original.values[source].iter().zip(self.pruned.values[source].iter());
        Some(both.map(|(a, b)| activation.slope_range(a.hull(b))).collect())
    }

    /// What an injection makes of rows on the output of its node, through the original's weights.
    fn injected(&self, rows: &Rows, injection: &Injection) -> Vec<Interval> {
        let Injection { node: id, touched, input, residual } = injection;
        let network = self.original.network;
        let mut found: Vec<Interval> = rows.rows.iter().map(|row| row.times(residual)).collect();
        if let Op::Dense(layer) = &network.node(*id).op
            && layer.kernel.ncols() == network.node(*id).len()
        {
            // One position: the ball meets only the rows of the units that went.
            let part = KernelRows {
                weights: widened(layer, touched.iter().copied()),
                norms: Norms::of_rows(&layer.kernel, touched),
                vector: touched.iter().map(|&row| input.get(row)).collect(),
            };
            let sizes = part.sizes();
            let reaches = rows.by_birth(|(_, shape)| reach(shape, &part.weights, &sizes));
            for (found, moved) in found.iter_mut().zip(part.times(rows, &reaches)) {
                *found = sum(*found, moved);
            }
            return found;
        }
        for (_, rows) in rows.pull(&self.original, *id, None) {
            for (found, row) in found.iter_mut().zip(&rows.rows) {
                *found = sum(*found, row.times(input));
            }
        }
        found
    }

    /// CROWN on the network g - f: both networks' lines over the same inputs, added up.
    pub(super) fn by_lines(&self, rows: &[Vec<f64>], poll: &mut Poll<'_>) -> Result<Intervals> {
        let mut ends = Vec::with_capacity(2);
        for sign in [1.0, -1.0] {
            let mut total: Option<Above> = None;
            for (id, first, count) in self.heads() {
                for (side, sign) in [(&self.pruned, sign), (&self.original, -sign)] {
                    let part = |row: &Vec<f64>| {
                        row[first..first + count].iter().map(|a| sign * a).collect()
                    };
                    let rows: Vec<Vec<f64>> = rows.iter().map(part).collect();
                    let lines = above(side, id, &rows, poll)?;
                    total = Some(match total {
                        None => lines,
                        Some(known) => known.plus(lines),
                    });
                }
            }
            let unknown = || vec![f64::INFINITY; rows.len()];
            ends.push(total.map_or_else(unknown, |total| total.highest(&self.original)));
        }
        Ok(ends[1].iter().zip(&ends[0]).map(|(&l, &u)| Interval::new(-l, u)).collect())
    }
}

fn added(a: &Intervals, b: &Intervals) -> Intervals {
    a.iter().zip(b.iter()).map(|(a, b)| sum(a, b)).collect()
}
