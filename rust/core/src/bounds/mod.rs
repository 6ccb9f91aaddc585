//! Value intervals of every unit, propagated from the input box.

pub(crate) mod backward;
pub(crate) mod linear;
mod mean_value;
mod tight;

pub use tight::Tightening;
pub(crate) use tight::{cost, curved_before, matters};

use std::sync::Arc;

use crate::error::{Error, Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{LayerNormalization, Network, NodeId, Op, PoolKind, ZeroPadding};

/// The legitimate inputs: one interval for every input element, input by input.
#[derive(Debug, Clone, PartialEq)]
pub struct InputBox(Vec<Arc<Intervals>>);

impl InputBox {
    /// Check the box against the network's inputs.
    pub fn new(network: &Network, intervals: Vec<Intervals>) -> Result<Self> {
        let inputs = network.inputs();
        if intervals.len() != inputs.len() {
            return Err(Error::Bounds(format!(
                "the network has {} inputs, got bounds for {}",
                inputs.len(),
                intervals.len()
            )));
        }
        for (&id, bounds) in inputs.iter().zip(&intervals) {
            let node = network.node(id);
            if bounds.lower.len() != node.len() || bounds.upper.len() != node.len() {
                return Err(Error::Bounds(format!(
                    "input '{}' of shape {:?} has {} elements, got {} lower and {} upper bounds",
                    node.name,
                    node.shape,
                    node.len(),
                    bounds.lower.len(),
                    bounds.upper.len()
                )));
            }
            if let Some(at) = bounds.iter().position(|b| !(b.is_finite() && b.lower <= b.upper)) {
                let bad = bounds.get(at);
                return Err(Error::Bounds(format!(
                    "input '{}', element {at}: expected finite lower <= upper, got [{}, {}]",
                    node.name, bad.lower, bad.upper
                )));
            }
        }
        Ok(Self(intervals.into_iter().map(Arc::new).collect()))
    }

    /// The intervals of each input.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Intervals> {
        self.0.iter().map(|input| &**input)
    }

    /// A point near the middle of the box.
    pub(crate) fn middle(&self) -> Self {
        let point = |value: Interval| {
            let middle = 0.5 * value.lower + 0.5 * value.upper;
            Interval::new(middle, middle)
        };
        Self(self.0.iter().map(|input| Arc::new(input.iter().map(point).collect())).collect())
    }
}

/// Value intervals of the nodes of a network; those nobody needs any more are dropped.
#[derive(Debug, Clone)]
pub struct Bounds {
    values: Vec<Option<Arc<Intervals>>>,
}

impl Bounds {
    /// Propagate the box to the nodes that `keep` marks, and keep those.
    pub fn propagate(
        network: &Network,
        input_box: &InputBox,
        keep: &[bool],
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        Self::walk(network, input_box, keep, &|value| value, poll)
    }

    /// The values at one point, a box without width, of every node.
    ///
    /// Each node's value is taken as computed; intervals around it would carry the rounding of all
    /// layers before, which grows from layer to layer.
    pub fn evaluate(network: &Network, point: &InputBox, poll: &mut Poll<'_>) -> Result<Self> {
        let middle = |value: Intervals| -> Intervals {
            value
                .iter()
                .map(|interval| 0.5 * interval.lower + 0.5 * interval.upper)
                .map(|middle| Interval::new(middle, middle))
                .collect()
        };
        let values = Self::walk(network, point, &vec![true; network.nodes().len()], &middle, poll)?;
        for &output in network.outputs() {
            if values.of(output).lower.iter().any(|value| value.is_nan()) {
                let node = network.node(output).name.clone();
                let problem = "its value is not known: an opaque op comes before it".into();
                return Err(Error::Graph { node, problem });
            }
        }
        Ok(values)
    }

    fn walk(
        network: &Network,
        input_box: &InputBox,
        keep: &[bool],
        pass_on: &dyn Fn(Intervals) -> Intervals,
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let nodes = network.nodes();
        let mut readers_left: Vec<usize> = network.readers().iter().map(Vec::len).collect();
        let mut bounds = Self { values: vec![None; nodes.len()] };
        let mut boxes = input_box.0.iter();
        let needed = network.ancestors_of(keep);
        for (id, node) in nodes.iter().enumerate() {
            if !needed[id] && !matches!(node.op, Op::Input) {
                continue;
            }
            let value = match (&node.op, boxes.as_slice()) {
                (Op::Input, [_, ..]) => boxes.next().map(Arc::clone),
                _ => Some(Arc::new(pass_on(bounds.value_of(network, id, poll)?))),
            };
            bounds.values[id] = value;
            for &source in &node.sources {
                readers_left[source] -= 1;
                if readers_left[source] == 0 && !keep[source] {
                    bounds.values[source] = None;
                }
            }
        }
        Ok(bounds)
    }

    /// The bounds after the ops of `changed` (in topological order) got other weights or sources.
    pub fn updated(
        &self,
        network: &Network,
        changed: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<Self> {
        let mut bounds = self.clone();
        for &id in changed {
            bounds.values[id] = Some(Arc::new(bounds.value_of(network, id, poll)?));
        }
        Ok(bounds)
    }

    /// The intervals of node `id`.
    ///
    /// # Panics
    /// If the node was dropped: callers keep what they read.
    pub fn of(&self, id: NodeId) -> &Intervals {
        self.values[id].as_deref().expect("a node that is read later is kept")
    }

    fn value_of(&self, network: &Network, id: NodeId, poll: &mut Poll<'_>) -> Result<Intervals> {
        poll.check()?;
        let node = network.node(id);
        let sources: Vec<&Intervals> = node.sources.iter().map(|&source| self.of(source)).collect();
        let channels = node.sources.first().map_or(1, |&source| network.node(source).last_axis());
        if let Some(image) = linear_image(network, id, &sources, true, poll)? {
            return Ok(image);
        }
        Ok(match &node.op {
            Op::Activation(activation) => {
                sources[0].iter().map(|interval| activation.value_range(interval)).collect()
            }
            Op::Softmax => softmax(sources[0], channels),
            Op::LayerNormalization(norm) => layer_normalization(norm, channels, sources[0]),
            Op::Pool(..) | Op::GlobalPool(_) => pooled(&node.op, channels, sources[0], &maximum),
            _ => Intervals::unbounded(node.len()),
        })
    }
}

/// The image of the sources' intervals if node `id` is a linear op (`None` if it is not).
///
/// Without its constant (biases, offsets) this is the exact difference rule.
pub(crate) fn linear_image(
    network: &Network,
    id: NodeId,
    sources: &[&Intervals],
    with_constant: bool,
    poll: &mut Poll<'_>,
) -> Result<Option<Intervals>> {
    let node = network.node(id);
    let channels = node.sources.first().map_or(1, |&source| network.node(source).last_axis());
    Ok(Some(match &node.op {
        Op::Dense(layer) => linear::dense(layer, sources[0], with_constant, poll)?,
        Op::Conv(layer) => linear::conv(layer, channels, sources[0], with_constant, poll)?,
        Op::DepthwiseConv(layer) => linear::depthwise_conv(layer, sources[0], with_constant),
        Op::BatchNormalization(_, affine) | Op::Affine(affine) => {
            linear::affine(affine, sources[0], with_constant)
        }
        Op::Pool(PoolKind::Average, _) | Op::GlobalPool(PoolKind::Average) => {
            pooled(&node.op, channels, sources[0], &linear::mean)
        }
        Op::ZeroPadding(padding) => zero_padding(padding, channels, node.len(), sources[0]),
        Op::Reshape | Op::Identity => sources[0].clone(),
        Op::Add => sum(sources),
        Op::Concatenate(axis) => concatenate(network, id, *axis, sources),
        _ => return Ok(None),
    }))
}

fn sum(sources: &[&Intervals]) -> Intervals {
    let n = sources.len() as f64;
    (0..sources[0].len())
        .map(|element| {
            let parts = sources.iter().map(|source| source.get(element));
            let total = parts.clone().fold(Interval::ZERO, Interval::plus);
            // Each addition errs by half a unit in the last place of a partial sum.
            let size: f64 = parts.map(|part| part.lower.abs().max(part.upper.abs())).sum();
            let pad = if size.is_finite() { n * f64::EPSILON * size } else { 0.0 };
            Interval::new(total.lower - pad, total.upper + pad).without_nan()
        })
        .collect()
}

fn concatenate(network: &Network, id: NodeId, axis: usize, sources: &[&Intervals]) -> Intervals {
    let node = network.node(id);
    let inner: usize = node.shape[axis + 1..].iter().product();
    let outer: usize = node.shape[..axis].iter().product();
    let runs: Vec<usize> =
        node.sources.iter().map(|&source| network.node(source).shape[axis] * inner).collect();
    let mut joined = Intervals::default();
    for block in 0..outer {
        for (source, &run) in sources.iter().zip(&runs) {
            joined.lower.extend_from_slice(&source.lower[block * run..(block + 1) * run]);
            joined.upper.extend_from_slice(&source.upper[block * run..(block + 1) * run]);
        }
    }
    joined
}

pub(crate) fn zero_padding(
    padding: &ZeroPadding,
    channels: usize,
    len: usize,
    input: &Intervals,
) -> Intervals {
    let mut padded = Intervals::zeros(len);
    for (from, to) in padding.targets().enumerate() {
        for channel in 0..channels {
            padded.set(to * channels + channel, input.get(from * channels + channel));
        }
    }
    padded
}

/// What a pooling op makes of each channel's windows, padding left out.
pub(crate) fn pooled(
    op: &Op,
    channels: usize,
    input: &Intervals,
    reduce: &dyn Fn(&mut dyn Iterator<Item = Interval>) -> Interval,
) -> Intervals {
    match op {
        Op::Pool(_, window) => (0..window.positions() * channels)
            .map(|index| {
                let (position, channel) = (index / channels, index % channels);
                let seen = window.inputs(position);
                reduce(&mut seen.map(|at| input.get(at * channels + channel)))
            })
            .collect(),
        _ => (0..channels)
            .map(|channel| {
                let elements = (channel..input.len()).step_by(channels);
                reduce(&mut elements.map(|element| input.get(element)))
            })
            .collect(),
    }
}

/// Interval of the largest of several values.
fn maximum(intervals: &mut dyn Iterator<Item = Interval>) -> Interval {
    intervals.fold(Interval::new(f64::NEG_INFINITY, f64::NEG_INFINITY), |max, interval| {
        Interval::new(max.lower.max(interval.lower), max.upper.max(interval.upper))
    })
}

/// Each probability is largest where its own logit is highest and all others are lowest.
fn softmax(logits: &Intervals, classes: usize) -> Intervals {
    let probability = |own: f64, others: &mut dyn Iterator<Item = f64>| {
        1.0 / (1.0 + others.map(|other| libm::exp(other - own)).sum::<f64>())
    };
    (0..logits.len())
        .map(|element| {
            let first = element / classes * classes;
            let others = || (first..first + classes).filter(move |&other| other != element);
            let lower =
                probability(logits.lower[element], &mut others().map(|other| logits.upper[other]));
            let upper =
                probability(logits.upper[element], &mut others().map(|other| logits.lower[other]));
            let known = |value: f64, default: f64| if value.is_nan() { default } else { value };
            let range = Interval::new(known(lower, 0.0), known(upper, 1.0));
            let range = range.widened(16.0 + 2.0 * classes as f64);
            Interval::new(range.lower.max(0.0), range.upper.min(1.0))
        })
        .collect()
}

/// `gamma (x - mean) / sqrt(variance + epsilon) + beta`.
///
/// From the intervals of the centred elements and of the variance; whatever the input, a normalized
/// element is at most sqrt(n - 1) from 0.
fn layer_normalization(norm: &LayerNormalization, width: usize, input: &Intervals) -> Intervals {
    let reach = layer_normalization_reach(width);
    let mut normalized = Intervals::zeros(input.len());
    for first in (0..input.len()).step_by(width) {
        let centred = centred(first, width, input);
        let deviations = deviation(&centred, norm.epsilon);
        for (channel, element) in centred.into_iter().enumerate() {
            let gamma = norm.gamma.as_ref().map_or(1.0, |gamma| f64::from(gamma[channel]));
            let beta = norm.beta.as_ref().map_or(0.0, |beta| f64::from(beta[channel]));
            // A quotient is largest over the smaller deviation where it is positive.
            let least = if element.lower < 0.0 { deviations.lower } else { deviations.upper };
            let most = if element.upper > 0.0 { deviations.lower } else { deviations.upper };
            let quotient = Interval::new(element.lower / least, element.upper / most);
            let quotient = Interval::new(-reach, reach).intersect(quotient.widened(8.0));
            let value = quotient.scaled(gamma).plus(Interval::new(beta, beta)).widened(4.0);
            normalized.set(first + channel, value);
        }
    }
    normalized
}

/// Intervals of the elements minus their mean; unbounded if any element is.
fn centred(first: usize, width: usize, input: &Intervals) -> Vec<Interval> {
    let elements = first..first + width;
    let n = width as f64;
    let (lower, upper) = (&input.lower[elements.clone()], &input.upper[elements]);
    let (sum_lower, sum_upper): (f64, f64) = (lower.iter().sum(), upper.iter().sum());
    let size: f64 = lower.iter().zip(upper).map(|(l, u)| l.abs().max(u.abs())).sum();
    if !size.is_finite() {
        return vec![Interval::UNBOUNDED; width];
    }
    // n additions and a few more operations on numbers no larger than `size`.
    let pad = (n + 8.0) * f64::EPSILON * size / n;
    lower
        .iter()
        .zip(upper)
        .map(|(&l, &u)| {
            let (below, above) = (l - (sum_upper - u + l) / n, u - (sum_lower - l + u) / n);
            Interval::new(below - pad, above + pad).widened(4.0)
        })
        .collect()
}

/// Interval of `sqrt(variance + epsilon)`, from the centred elements.
fn deviation(centred: &[Interval], epsilon: f64) -> Interval {
    let n = centred.len() as f64;
    let (mut least, mut most) = (0.0, 0.0);
    for element in centred {
        let nearest = element.lower.max(-element.upper).max(0.0);
        let farthest = element.upper.max(-element.lower);
        least += nearest * nearest;
        most += farthest * farthest;
    }
    let pad = 4.0 * (n + 4.0) * f64::EPSILON;
    Interval::new(
        (least / n * (1.0 - pad) + epsilon).sqrt(),
        (most / n * (1.0 + pad) + epsilon).sqrt(),
    )
    .widened(4.0)
}

/// Largest distance of a normalized element from the mean, rounded up.
pub(crate) fn layer_normalization_reach(width: usize) -> f64 {
    ((width.max(1) - 1) as f64).sqrt() * (1.0 + 4.0 * f64::EPSILON)
}
