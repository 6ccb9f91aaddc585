//! Ops that are neither linear nor an activation: maxima, softmax and layer normalization.

use super::rounding::{ONE, add_up, length, quotient, root, root_up, size, sum, times_up};
use crate::activation::Activation;
use crate::interval::{Interval, Intervals};
use crate::network::{LayerNormalization, Network, NodeId, Op};

/// The source elements that each output element of a pooling op is taken from.
pub(super) fn windows(op: &Op, channels: usize, source: usize) -> Vec<Vec<usize>> {
    let of_window = |position: usize, channel: usize| match op {
        Op::Pool(_, window) => window.inputs(position).map(|at| at * channels + channel).collect(),
        _ => (channel..source).step_by(channels).collect(),
    };
    let positions = if let Op::Pool(_, window) = op { window.positions() } else { 1 };
    (0..positions * channels).map(|index| of_window(index / channels, index % channels)).collect()
}

/// Interval of the values of a node that is not linear.
pub(super) fn value(network: &Network, id: NodeId, source: &Intervals) -> Intervals {
    let node = network.node(id);
    let width = node.sources.first().map_or(1, |&source| network.node(source).last_axis());
    match &node.op {
        Op::Activation(activation) => source.iter().map(|x| activation.value_range(x)).collect(),
        Op::Pool(..) | Op::GlobalPool(_) => {
            let of = |seen: Vec<usize>| {
                let ends = seen.into_iter().map(|at| source.get(at));
                ends.reduce(|a, b| Interval::new(a.lower.max(b.lower), a.upper.max(b.upper)))
            };
            let windows = windows(&node.op, width, source.len()).into_iter();
            let nothing = Interval::new(f64::NEG_INFINITY, f64::NEG_INFINITY);
            windows.map(|seen| of(seen).unwrap_or(nothing)).collect()
        }
        Op::Softmax => (0..source.len()).map(|at| probability(source, width, at)).collect(),
        Op::LayerNormalization(norm) => layer_normalization(norm, width, source),
        _ => Intervals::unbounded(node.len()),
    }
}

/// Interval of the difference of a node that is neither linear nor an activation.
pub(super) fn difference(network: &Network, id: NodeId, change: &Intervals) -> Intervals {
    let node = network.node(id);
    let width = network.node(node.sources[0]).last_axis();
    let around = |size: f64| Interval::new(-size, size);
    match &node.op {
        // The maximum is non-expansive: between the least and the largest difference.
        Op::Pool(..) | Op::GlobalPool(_) => hulls(&node.op, width, change),
        Op::Softmax => (0..change.len()).map(|at| around(moved(change, width, at))).collect(),
        Op::LayerNormalization(norm) => (0..change.len())
            .map(|at| {
                let first = at / width * width;
                let sizes = (first..first + width).map(|at| size(change.get(at)));
                let steepest = quotient_up(length(sizes), norm.epsilon.sqrt().next_down());
                let most = steepest.min(2.0 * reach(width));
                let gamma = norm.gamma.as_ref().map_or(1.0, |g| f64::from(g[at % width]).abs());
                around(times_up(most, gamma))
            })
            .collect(),
        _ => Intervals::unbounded(node.len()),
    }
}

/// The hull of every window of a pooling op.
pub(super) fn hulls(op: &Op, channels: usize, change: &Intervals) -> Intervals {
    let of = |seen: Vec<usize>| seen.into_iter().map(|at| change.get(at)).reduce(Interval::hull);
    let windows = windows(op, channels, change.len()).into_iter();
    windows.map(|seen| of(seen).unwrap_or(Interval::ZERO)).collect()
}

/// A probability is largest where its own logit is highest and all others are lowest.
fn probability(logits: &Intervals, classes: usize, element: usize) -> Interval {
    let first = element / classes * classes;
    let others = || (first..first + classes).filter(|&other| other != element);
    let own = logits.get(element);
    let ratio = |own: f64, other: f64| {
        let gap = Interval::point(other).minus(Interval::point(own));
        Activation::Exponential.value_range(gap)
    };
    let of = |own: f64, other: &dyn Fn(usize) -> f64| {
        let total = others().fold(ONE, |total, at| sum(total, ratio(own, other(at))));
        quotient(ONE, total)
    };
    let lower = of(own.lower, &|at| logits.upper[at]).lower;
    let upper = of(own.upper, &|at| logits.lower[at]).upper;
    Interval::new(lower.max(0.0), upper.min(1.0))
}

/// `|p'_k - p_k| <= tanh(tau / 4)`, tau the most by which logit k moves against another.
fn moved(change: &Intervals, classes: usize, element: usize) -> f64 {
    let first = element / classes * classes;
    let own = change.get(element);
    let tau =
        (first..first + classes).filter(|&other| other != element).fold(0.0, |most, other| {
            let gap = own.minus(change.get(other));
            f64::max(most, size(gap))
        });
    Activation::Tanh.value_range(Interval::point(tau / 4.0)).upper.min(1.0)
}

/// The largest distance of a normalized element from the mean.
fn reach(width: usize) -> f64 {
    root_up((width.max(1) - 1) as f64)
}

fn quotient_up(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { (a / b).next_up() }
}

/// `gamma (x - mean) / deviation + beta`, from intervals of both.
fn layer_normalization(norm: &LayerNormalization, width: usize, input: &Intervals) -> Intervals {
    let reach = Interval::new(-reach(width), reach(width));
    let at = |values: &Option<ndarray::Array1<f32>>, channel: usize, default: f64| {
        values.as_ref().map_or(default, |values| f64::from(values[channel]))
    };
    let mut found = Vec::with_capacity(input.len());
    for first in (0..input.len()).step_by(width) {
        let elements: Vec<Interval> = (first..first + width).map(|at| input.get(at)).collect();
        let centred = centred(&elements);
        let deviation = deviation(&centred, norm.epsilon);
        for (channel, x) in centred.into_iter().enumerate() {
            // No element is more than sqrt(n - 1) deviations from the mean.
            let value = reach.intersect(quotient(x, deviation));
            let beta = Interval::point(at(&norm.beta, channel, 0.0));
            found.push(value.scaled(at(&norm.gamma, channel, 1.0)).plus(beta));
        }
    }
    found.into_iter().collect()
}

/// Each element minus the mean of all: `((n - 1) x - the others) / n`.
fn centred(elements: &[Interval]) -> Vec<Interval> {
    let n = elements.len();
    // Sums of what comes after each element.
    let mut after = vec![Interval::ZERO; n + 1];
    for at in (0..n).rev() {
        after[at] = sum(after[at + 1], elements[at]);
    }
    let mut before = Interval::ZERO;
    let mut found = Vec::with_capacity(n);
    for (at, &x) in elements.iter().enumerate() {
        let others = sum(before, after[at + 1]);
        let own = x.scaled((n - 1) as f64);
        found.push(quotient(own.minus(others), Interval::point(n as f64)));
        before = sum(before, x);
    }
    found
}

/// Interval of `sqrt(variance + epsilon)`.
fn deviation(centred: &[Interval], epsilon: f64) -> Interval {
    let (mut least, mut most) = (Interval::ZERO, 0.0);
    for &x in centred {
        let nearest = Interval::point(x.lower.max(-x.upper).max(0.0));
        least = sum(least, nearest.times(nearest));
        most = add_up(most, times_up(size(x), size(x)));
    }
    let squares = Interval::new(least.lower.max(0.0), most);
    let variance = quotient(squares, Interval::point(centred.len() as f64));
    root(variance.plus(Interval::point(epsilon)))
}
