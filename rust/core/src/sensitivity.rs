//! How the logits answer to changes inside the network: their Jacobian, enclosed for all inputs.
//!
//! A change d of a node's output moves the logits by exactly J d, where J is made of the weights
//! and of the activations' secant slopes. These lie in known intervals, so J can be enclosed once
//! for all candidates of an epoch (`docs/method.md`, "Impact").

use std::collections::HashMap;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

pub use crate::adjoint::SpectralNorms;
use crate::adjoint::{ActiveRows, Columns, Enclosure, Tools};
use crate::bounds::Bounds;
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{Dense, Group, Network, NodeId, Op};
use crate::tasks;

/// Most coefficients of a node that are kept for each logit on its own.
const MOST_COEFFICIENTS: usize = 1 << 26;
/// Units whose weights are turned into columns at a time.
const UNITS_AT_ONCE: usize = 16;

/// The logits' Jacobian with respect to what the consumers of some groups read.
#[derive(Debug)]
pub struct Sensitivity {
    /// By consumer: rows on the elements of its input; none for consumers that read each unit once,
    /// of whose kernels single rows are asked for later.
    inputs: HashMap<NodeId, Enclosure>,
    /// By consumer: rows on the elements of its output.
    outputs: HashMap<NodeId, Outputs>,
    /// Whether it encloses the Jacobian for whatever merges make of the network.
    pub(crate) holds: bool,
    logits: usize,
    /// Whether there is one row for all logits together: a bound of the sum of their sizes.
    together: bool,
}

/// Rows of the Jacobian on the elements of one node's output.
#[derive(Debug)]
enum Rows {
    /// The node is a head: its elements are logits themselves, from this one on.
    Head(usize),
    /// What has been taken back to it.
    Enclosed(Enclosure),
}

/// What is kept of them.
#[derive(Debug)]
enum Outputs {
    /// The node is a head, as above.
    Head(usize),
    /// Of the elements that any logit depends on.
    Active(Box<ActiveRows>),
}

impl Sensitivity {
    /// Enclose the Jacobian for every network that merges make of this one.
    ///
    /// `norms` are those found for earlier networks of the same run, or none yet. Slopes are those
    /// over the whole real line where these are bounded; else those over the
    /// node's value intervals, which hold for this network only.
    pub fn of(
        network: &Network,
        groups: &[&Group],
        bounds: &Bounds,
        norms: &mut SpectralNorms,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        Self::within(MOST_COEFFICIENTS, network, groups, bounds, norms, poll)
    }

    /// The same with a limit: where a node has more coefficients than this, one row for each logit
    /// and one column for each element that is read, one row bounds all logits together.
    pub fn within(
        most_coefficients: usize,
        network: &Network,
        groups: &[&Group],
        bounds: &Bounds,
        norms: &mut SpectralNorms,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let mut reached = vec![false; network.nodes().len()];
        for &id in groups.iter().flat_map(|group| &group.downstream) {
            reached[id] = true;
        }
        let (logits, widest) = (count(network), widest(network, &reached));
        let mut found = Self {
            inputs: HashMap::new(),
            outputs: HashMap::new(),
            holds: true,
            logits,
            together: logits.saturating_mul(widest) > most_coefficients,
        };
        let mut open = found.heads(network);
        let mut tools = Tools::once(std::mem::take(norms));
        for id in (0..reached.len()).rev().filter(|&id| reached[id]) {
            let Some(rows) = open[id].take() else { continue };
            let reads = Reads::of(network, groups, id);
            let further = network.node(id).sources.iter().any(|&source| reached[source]);
            if further || reads == Reads::Blocks {
                let slopes = free_slopes(network, id, bounds, &mut found.holds);
                let pulled = match rows.through_head(network, id, found.logits) {
                    Some(rows) => vec![(network.node(id).sources[0], rows)],
                    None => rows.enclosed(network.node(id).len(), found.logits).pull(
                        network,
                        id,
                        slopes.as_ref(),
                        &mut tools,
                        poll,
                    )?,
                };
                for (source, rows) in pulled {
                    if reads == Reads::Blocks {
                        found.inputs.insert(id, rows.clone());
                    }
                    if reached[source] {
                        open[source] = Some(match open[source].take() {
                            Some(known) => known.plus(rows, found.logits),
                            None => Rows::Enclosed(rows),
                        });
                    }
                }
            }
            if reads != Reads::Nothing {
                found.outputs.insert(id, rows.kept());
            }
        }
        *norms = tools.into_spectral();
        Ok(found)
    }

    /// How many logits there are.
    pub(crate) fn logits(&self) -> usize {
        self.logits
    }

    /// For every node, what is known of it before anything is taken back: the heads.
    fn heads(&self, network: &Network) -> Vec<Option<Rows>> {
        let mut open: Vec<Option<Rows>> = network.nodes().iter().map(|_| None).collect();
        let mut first = 0;
        for id in network.logits() {
            let size = network.node(id).len();
            open[id] = Some(if self.together {
                let norm = vec![f64::INFINITY];
                Rows::Enclosed(Enclosure::around_zero(Array2::ones((1, size)), norm))
            } else {
                Rows::Head(first)
            });
            first += size;
        }
        open
    }

    /// What single units do to the logits through a consumer that reads each of them once; `None`
    /// for another consumer.
    pub(crate) fn columns(
        &self,
        network: &Network,
        consumer: NodeId,
        units: &[usize],
    ) -> Option<Columns> {
        if self.inputs.contains_key(&consumer) {
            return None;
        }
        let layer = dense(network, consumer)?;
        Some(match self.outputs.get(&consumer)? {
            Outputs::Head(first) => {
                let mut columns = Array2::zeros((units.len(), self.logits));
                for (mut column, &unit) in columns.rows_mut().into_iter().zip(units) {
                    let weights = layer.kernel.row(unit);
                    for (logit, &weight) in column.iter_mut().skip(*first).zip(weights) {
                        *logit = f64::from(weight);
                    }
                }
                Columns::exact(columns)
            }
            Outputs::Active(rows) => rows.columns(layer.kernel.view(), units),
        })
    }

    /// By how much the logits move if the unit at this place of some columns changes so.
    pub(crate) fn change_of_unit(
        &self,
        columns: &Columns,
        place: usize,
        change: Interval,
    ) -> Intervals {
        self.shared(columns.times(place, change))
    }

    /// By how much the logits move when these elements of a consumer's input change so.
    pub(crate) fn change_of(
        &self,
        consumer: NodeId,
        elements: impl ExactSizeIterator<Item = usize> + Clone + Sync,
        change: &Intervals,
    ) -> Intervals {
        let Some(rows) = self.inputs.get(&consumer) else { return Intervals::zeros(self.logits) };
        self.shared(rows.times(elements, change))
    }

    /// By how much the logits move when a consumer's whole input changes so; its kernel is that of
    /// `network`.
    pub(crate) fn change(
        &self,
        network: &Network,
        consumer: NodeId,
        change: &Intervals,
    ) -> Intervals {
        if self.inputs.contains_key(&consumer) {
            return self.change_of(consumer, 0..change.len(), change);
        }
        let changed: Vec<usize> =
            (0..change.len()).filter(|&unit| change.get(unit) != Interval::ZERO).collect();
        let (Some(layer), false) = (dense(network, consumer), changed.is_empty()) else {
            return Intervals::zeros(self.logits);
        };
        let part: Intervals = changed.iter().map(|&unit| change.get(unit)).collect();
        let kernel = layer.kernel.select(Axis(0), &changed);
        match self.outputs.get(&consumer) {
            Some(Outputs::Head(first)) => {
                let moved = Enclosure::exact(kernel.t().mapv(f64::from));
                self.at_head(*first, &moved.times(0..part.len(), &part))
            }
            Some(Outputs::Active(rows)) => self.shared(rows.through(kernel.view(), &part)),
            None => Intervals::zeros(self.logits),
        }
    }

    /// By how much the logits move when a consumer's output changes so.
    pub(crate) fn change_after(&self, consumer: NodeId, change: &Intervals) -> Intervals {
        match self.outputs.get(&consumer) {
            Some(Outputs::Head(first)) => self.at_head(*first, change),
            Some(Outputs::Active(rows)) => self.shared(rows.times(change)),
            None => Intervals::zeros(self.logits),
        }
    }

    /// A change of one head's logits, among those of all.
    fn at_head(&self, first: usize, change: &Intervals) -> Intervals {
        let mut logits = Intervals::zeros(self.logits);
        for (place, change) in change.iter().enumerate() {
            logits.set(first + place, change);
        }
        logits
    }

    /// The change of each logit, where only a bound of the sum of their sizes may be known.
    fn shared(&self, moved: Intervals) -> Intervals {
        if !self.together {
            return moved;
        }
        // One logit may move by all of it.
        let most = moved.upper[0].max(-moved.lower[0]);
        (0..self.logits).map(|_| Interval::new(-most, most)).collect()
    }
}

impl Rows {
    /// The rows of a head that is a dense op, on its inputs: its weights.
    fn through_head(&self, network: &Network, id: NodeId, logits: usize) -> Option<Enclosure> {
        let (Self::Head(first), Some(layer)) = (self, dense(network, id)) else { return None };
        let mut rows = Array2::zeros((logits, layer.kernel.nrows()));
        let own = Slice::from(*first..first + layer.kernel.ncols());
        let mut own = rows.slice_axis_mut(Axis(0), own);
        // A few units at a time: of those, reading and writing both stay in the cache.
        let parts = layer.kernel.axis_chunks_iter(Axis(0), UNITS_AT_ONCE);
        let targets = own.axis_chunks_iter_mut(Axis(1), UNITS_AT_ONCE);
        let turn = |(mut to, part): (ArrayViewMut2<'_, f64>, ArrayView2<'_, f32>)| {
            for (mut row, weights) in to.rows_mut().into_iter().zip(part.columns()) {
                for (coefficient, &weight) in row.iter_mut().zip(weights) {
                    *coefficient = f64::from(weight);
                }
            }
        };
        if tasks::is_worth_sharing(layer.kernel.len()) {
            targets.into_par_iter().zip(parts.into_par_iter()).for_each(turn);
        } else {
            targets.zip(parts).for_each(turn);
        }
        Some(Enclosure::exact(rows))
    }

    /// The same as an enclosure, on the `size` elements of a node.
    fn enclosed(&self, size: usize, logits: usize) -> std::borrow::Cow<'_, Enclosure> {
        match self {
            Self::Enclosed(rows) => std::borrow::Cow::Borrowed(rows),
            Self::Head(first) => {
                let unit = |(row, element)| f64::from(u8::from(row == first + element));
                let rows = Array2::from_shape_fn((logits, size), unit);
                std::borrow::Cow::Owned(Enclosure::exact(rows))
            }
        }
    }

    fn kept(self) -> Outputs {
        match self {
            Self::Head(first) => Outputs::Head(first),
            Self::Enclosed(rows) => Outputs::Active(Box::new(ActiveRows::of(rows))),
        }
    }

    fn plus(self, other: Enclosure, logits: usize) -> Self {
        let size = other.centre.ncols();
        Self::Enclosed(self.enclosed(size, logits).into_owned().plus(&other))
    }
}

/// How a node reads the units of the groups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// It is no consumer of theirs.
    Nothing,
    /// A dense op that reads each unit once: a unit is a row of its kernel.
    Units,
    /// A unit has several elements, or meets the kernel at several places.
    Blocks,
}

impl Reads {
    fn of(network: &Network, groups: &[&Group], id: NodeId) -> Self {
        let mut readers = groups
            .iter()
            .filter(|group| group.consumers.iter().any(|consumer| consumer.node == id))
            .peekable();
        if readers.peek().is_none() {
            return Self::Nothing;
        }
        let rows = dense(network, id).map(|layer| layer.kernel.nrows());
        if readers.all(|group| rows == Some(group.units)) { Self::Units } else { Self::Blocks }
    }
}

/// The dense op of a node, if it is one and has one position.
fn dense(network: &Network, id: NodeId) -> Option<&Dense> {
    let node = network.node(id);
    match &node.op {
        Op::Dense(layer) if layer.kernel.ncols() == node.len() => Some(layer),
        _ => None,
    }
}

/// How many logits there are.
fn count(network: &Network) -> usize {
    network.logits().iter().map(|&id| network.node(id).len()).sum()
}

/// Most elements that a reached node reads.
fn widest(network: &Network, reached: &[bool]) -> usize {
    let read = |id: usize| network.node(id).sources.iter().map(|&s| network.node(s).len()).sum();
    (0..reached.len()).filter(|&id| reached[id]).map(read).fold(1, Ord::max)
}

fn free_slopes(
    network: &Network,
    id: NodeId,
    bounds: &Bounds,
    holds: &mut bool,
) -> Option<Intervals> {
    let Op::Activation(activation) = &network.node(id).op else { return None };
    let anywhere = activation.slope_range(Interval::UNBOUNDED);
    let values = bounds.of(network.node(id).sources[0]);
    Some(if anywhere.is_finite() {
        values.iter().map(|_| anywhere).collect()
    } else {
        *holds = false;
        values.iter().map(|value| activation.slope_range(value)).collect()
    })
}
