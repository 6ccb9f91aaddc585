//! The difference of the two networks as the Jacobian of one chain times what the merges inject in
//! the other network.
//!
//! For every input there are secant slopes, the same for all terms, with which this is an equation
//! (`docs/method.md`, "Certificates"); enclosing them and the injections gives bounds.

use std::collections::HashMap;

use ndarray::Array2;

use crate::adjoint::{Enclosure, Tools, reach};
use crate::bounds::Bounds;
use crate::bounds::backward::head_rows;
use crate::error::{Poll, Result};
use crate::impact::Injection;
use crate::interval::Intervals;
use crate::network::{Network, NodeId, Op};

use super::Values;
use super::pairing::Pairing;

/// Whose weights carry a change to the outputs; it is injected in the other network's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    /// Form (A).
    Pruned,
    /// Form (B).
    Original,
}

impl Pairing<'_> {
    /// Bounds of `rows . (g - f)` on the logits side by side.
    pub(super) fn by_jacobian(
        &self,
        chain: Chain,
        rows: &Array2<f64>,
        values: &Values,
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let (f, g) = (self.original, &self.pruned);
        let (carrier, injections) = match chain {
            Chain::Pruned => (g, self.injections(f, &values.original, poll)?),
            Chain::Original => (f, self.injections(g, &values.pruned, poll)?),
        };
        let injections: HashMap<NodeId, Injection> =
            injections.into_iter().map(|injection| (injection.consumer, injection)).collect();
        let changed = descendants(f, injections.keys().copied());
        let mut open: Vec<Option<Enclosure>> = vec![None; f.nodes().len()];
        let mut first = 0;
        for logits in f.logits() {
            let count = f.node(logits).len();
            open[logits] = Some(Enclosure::exact(head_rows(rows, first, count)));
            first += count;
        }
        let mut total = Intervals::zeros(rows.nrows());
        let mut tools = Tools::new(true);
        for id in (0..open.len()).rev() {
            let Some(rows) = open[id].take() else { continue };
            if !changed[id] {
                continue;
            }
            if let Some(injection) = injections.get(&id) {
                total = total.plus(&injected(f, &rows, injection, poll)?);
            }
            let slopes = joint_slopes(f, id, values);
            if !f.node(id).sources.iter().any(|&source| changed[source]) {
                continue;
            }
            for (source, rows) in rows.pull(carrier, id, slopes.as_ref(), &mut tools, poll)? {
                open[source] = Some(match open[source].take() {
                    Some(known) => known.plus(&rows),
                    None => rows,
                });
            }
        }
        Ok(total)
    }
}

/// The outputs' change by what is injected at one consumer, whose output the rows are on.
fn injected(
    original: &Network,
    rows: &Enclosure,
    injection: &Injection,
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let id = injection.consumer;
    let by_residual = rows.times(0..injection.residual.len(), &injection.residual);
    if injection.nominees.is_empty() {
        return Ok(by_residual);
    }
    if let Op::Dense(layer) = &original.node(id).op
        && layer.kernel.ncols() == original.node(id).len()
    {
        // One position: the ball meets only the rows of the units that went.
        let touched: Vec<usize> = (0..layer.kernel.nrows())
            .filter(|row| injection.nominees.binary_search(&(row % injection.units)).is_ok())
            .collect();
        let outgoing = layer.kernel.select(ndarray::Axis(0), &touched);
        let change: Intervals = touched.iter().map(|&row| injection.input.get(row)).collect();
        let mut reached =
            |_, shape: &Array2<f64>, most: &[f64]| reach(shape, outgoing.view(), most);
        return Ok(rows.through_rows(outgoing.view(), &change, &mut reached).plus(&by_residual));
    }
    let mut total = by_residual;
    for (_, rows) in rows.pull(original, id, None, &mut Tools::new(false), poll)? {
        total = total.plus(&rows.times(0..injection.input.len(), &injection.input));
    }
    Ok(total)
}

/// Secant slopes between any values of the two networks.
fn joint_slopes(network: &Network, id: NodeId, values: &Values) -> Option<Intervals> {
    let Op::Activation(activation) = &network.node(id).op else { return None };
    let source = network.node(id).sources[0];
    let of = |bounds: &'_ Bounds, element: usize| bounds.of(source).get(element);
    let elements = 0..network.node(source).len();
    let hull = |element| of(&values.original, element).hull(of(&values.pruned, element));
    Some(elements.map(|element| activation.slope_range(hull(element))).collect())
}

/// The given nodes and all that depend on them.
fn descendants(network: &Network, of: impl Iterator<Item = NodeId>) -> Vec<bool> {
    let mut marked = vec![false; network.nodes().len()];
    for id in of {
        marked[id] = true;
    }
    for (id, node) in network.nodes().iter().enumerate() {
        marked[id] |= node.sources.iter().any(|&source| marked[source]);
    }
    marked
}
