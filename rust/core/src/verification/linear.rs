//! One plain view of every linear op: an element of the output is a constant plus a sum of weights
//! times elements of the sources.

use rayon::prelude::*;

use super::rounding::{ONE, quotient, root, sum, times};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{BatchNormalization, Network, Node, NodeId, Op, PoolKind};

/// Elements of an image between two polls.
const ELEMENTS_PER_POLL: usize = 1024;

/// One summand of an output element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// Its place among the node's sources.
    pub(super) source: usize,
    /// The element of that source.
    pub(super) element: usize,
    /// What it is multiplied with.
    pub(super) weight: Interval,
}

/// A linear node, to be asked for the terms of its elements.
pub(super) struct Linear<'a> {
    network: &'a Network,
    id: NodeId,
    /// Scale and offset of an affine map, one a channel.
    affine: Vec<(Interval, Interval)>,
    /// Of zero padding: the input position of every output position.
    inverse: Vec<Option<usize>>,
}

/// Scale and offset of the elementwise affine map that an op is, one a channel; empty if it is
/// none. Those of a batch normalization are computed anew from its parameters.
pub(super) fn affine(op: &Op) -> Vec<(Interval, Interval)> {
    let point = Interval::point;
    match op {
        Op::Affine(map) => {
            map.scale.iter().zip(&map.offset).map(|(&s, &o)| (point(s), point(o))).collect()
        }
        Op::BatchNormalization(norm, _) => {
            (0..norm.mean.len()).map(|channel| normalization(norm, channel)).collect()
        }
        _ => Vec::new(),
    }
}

fn normalization(norm: &BatchNormalization, channel: usize) -> (Interval, Interval) {
    let at = |values: &ndarray::Array1<f32>| Interval::point(f64::from(values[channel]));
    let deviation = root(at(&norm.variance).plus(Interval::point(norm.epsilon)));
    let scale = quotient(norm.gamma.as_ref().map_or(ONE, at), deviation);
    let beta = norm.beta.as_ref().map_or(Interval::ZERO, at);
    (scale, beta.minus(scale.times(at(&norm.mean))))
}

/// For an output element of a kernel's op: the source element under each kernel row that it sees,
/// with that row and column.
pub(super) fn taps(
    network: &Network,
    id: NodeId,
    element: usize,
    mut each: impl FnMut(usize, usize, usize),
) {
    let node = network.node(id);
    let width = node.last_axis();
    let (position, unit) = (element / width, element % width);
    let channels = network.node(node.sources[0]).last_axis();
    match &node.op {
        Op::Dense(layer) => {
            let rows = layer.kernel.nrows();
            for row in 0..rows {
                each(position * rows + row, row, unit);
            }
        }
        Op::Conv(layer) => {
            let per_group = channels / layer.groups;
            let first = unit / (width / layer.groups) * per_group;
            for tap in 0..layer.window.taps() {
                let Some(at) = layer.window.input_position(position, tap) else { continue };
                for channel in 0..per_group {
                    each(at * channels + first + channel, tap * per_group + channel, unit);
                }
            }
        }
        Op::DepthwiseConv(layer) => {
            let multiplier = layer.kernel.ncols();
            let (channel, copy) = (unit / multiplier, unit % multiplier);
            for tap in 0..layer.window.taps() {
                let Some(at) = layer.window.input_position(position, tap) else { continue };
                each(at * channels + channel, tap * channels + channel, copy);
            }
        }
        _ => {}
    }
}

impl<'a> Linear<'a> {
    /// The view of node `id`; `None` if it is not linear.
    pub(super) fn of(network: &'a Network, id: NodeId) -> Option<Self> {
        let node = network.node(id);
        let known = match &node.op {
            Op::Pool(kind, _) | Op::GlobalPool(kind) => *kind == PoolKind::Average,
            Op::Dense(_)
            | Op::Conv(_)
            | Op::DepthwiseConv(_)
            | Op::BatchNormalization(..)
            | Op::Affine(_)
            | Op::ZeroPadding(_)
            | Op::Reshape
            | Op::Identity
            | Op::Add
            | Op::Concatenate(_) => true,
            _ => false,
        };
        let inverse = match &node.op {
            Op::ZeroPadding(padding) => {
                let mut inverse = vec![None; node.len() / node.last_axis()];
                for (from, to) in padding.targets().enumerate() {
                    inverse[to] = Some(from);
                }
                inverse
            }
            _ => Vec::new(),
        };
        known.then(|| Self { network, id, affine: affine(&node.op), inverse })
    }

    /// The node.
    pub(super) fn node(&self) -> &'a Node {
        self.network.node(self.id)
    }

    /// What is added to an output element: its bias or offset.
    pub(super) fn constant(&self, element: usize) -> Interval {
        let node = self.node();
        if !self.affine.is_empty() {
            return self.affine[element % self.affine.len()].1;
        }
        let bias = node.op.kernel_and_bias().and_then(|(_, bias)| bias);
        bias.map_or(Interval::ZERO, |b| Interval::point(f64::from(b[element % node.last_axis()])))
    }

    /// The terms of an output element, in place of what `found` held.
    pub(super) fn terms(&self, element: usize, found: &mut Vec<Term>) {
        found.clear();
        let node = self.node();
        let channels = node.last_axis();
        let mut give = |element, weight| found.push(Term { source: 0, element, weight });
        match &node.op {
            Op::BatchNormalization(..) | Op::Affine(_) => {
                give(element, self.affine[element % self.affine.len()].0);
            }
            Op::Pool(_, window) => {
                let seen: Vec<usize> = window.inputs(element / channels).collect();
                let share = share(seen.len());
                for at in seen {
                    give(at * channels + element % channels, share);
                }
            }
            Op::GlobalPool(_) => {
                let len = self.network.node(node.sources[0]).len();
                let share = share(len / channels);
                for at in (element..len).step_by(channels) {
                    give(at, share);
                }
            }
            Op::ZeroPadding(_) => {
                if let Some(from) = self.inverse[element / channels] {
                    give(from * channels + element % channels, ONE);
                }
            }
            Op::Add => found.extend((0..node.sources.len()).map(|source| Term {
                source,
                element,
                weight: ONE,
            })),
            Op::Concatenate(axis) => found.push(self.beside(*axis, element)),
            op => match op.kernel_and_bias() {
                Some((kernel, _)) => taps(self.network, self.id, element, |at, row, column| {
                    give(at, Interval::point(f64::from(kernel[[row, column]])));
                }),
                None => give(element, ONE),
            },
        }
    }

    /// Where an element of sources side by side comes from.
    fn beside(&self, axis: usize, element: usize) -> Term {
        let node = self.node();
        let inner: usize = node.shape[axis + 1..].iter().product();
        let block = node.shape[axis] * inner;
        let mut place = element % block;
        for (source, &id) in node.sources.iter().enumerate() {
            let run = self.network.node(id).shape[axis] * inner;
            if place < run {
                return Term { source, element: element / block * run + place, weight: ONE };
            }
            place -= run;
        }
        unreachable!("the sources are as long together as what they are joined to")
    }

    /// The image of the sources' intervals; without its constant it is the difference rule.
    pub(super) fn image(
        &self,
        sources: &[&Intervals],
        with_constant: bool,
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let element = |terms: &mut Vec<Term>, element: usize| {
            self.terms(element, terms);
            let start = if with_constant { self.constant(element) } else { Interval::ZERO };
            terms.iter().fold(start, |total, term| match sources[term.source].get(term.element) {
                Interval::ZERO => total,
                x => sum(total, times(term.weight, x)),
            })
        };
        by_element(self.node().len(), element, poll)
    }
}

/// Intervals of `count` elements, each made by itself with a list of terms to reuse.
pub(super) fn by_element(
    count: usize,
    element: impl Fn(&mut Vec<Term>, usize) -> Interval + Sync,
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let mut found = Vec::with_capacity(count);
    for first in (0..count).step_by(ELEMENTS_PER_POLL) {
        poll.check()?;
        let last = (first + ELEMENTS_PER_POLL).min(count);
        found.par_extend((first..last).into_par_iter().map_init(Vec::new, &element));
    }
    Ok(found.into_iter().collect())
}

/// One part in `count`.
fn share(count: usize) -> Interval {
    quotient(ONE, Interval::point(count.max(1) as f64))
}
