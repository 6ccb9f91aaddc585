//! Linear functions above rows of a node's output, taken back to the inputs row by row: CROWN.
//!
//! A coefficient is an interval whose width is only rounding; where that leaves its sign open, the
//! product with the values is bounded at once.

use rayon::prelude::*;

use super::curved::windows;
use super::linear::Linear;
use super::rounding::{highest, sum, times};
use super::values::Side;
use crate::activation::Lines;
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::{NodeId, Op, PoolKind};

/// One row's coefficients on the elements of a node.
type Coefficients = Vec<Interval>;

/// Functions above the rows that were asked for: `coefficients . inputs + constant`.
pub(super) struct Above {
    /// For each input of the network one entry a row, `None` where no row reaches it.
    coefficients: Vec<Option<Vec<Coefficients>>>,
    /// One a row, an upper end.
    constants: Vec<f64>,
}

impl Above {
    /// The sum of two, over the same inputs.
    pub(super) fn plus(mut self, other: Self) -> Self {
        for (constant, more) in self.constants.iter_mut().zip(other.constants) {
            *constant = raised(*constant, more);
        }
        for (mine, theirs) in self.coefficients.iter_mut().zip(other.coefficients) {
            *mine = joined(mine.take(), theirs);
        }
        self
    }

    /// Upper bounds over the box.
    pub(super) fn highest(&self, side: &Side<'_>) -> Vec<f64> {
        let mut found = self.constants.clone();
        for (rows, &id) in self.coefficients.iter().zip(side.network.inputs()) {
            for (row, total) in rows.iter().flatten().zip(&mut found) {
                *total = row.iter().zip(side.values[id].iter()).fold(*total, bounded);
            }
        }
        found
    }
}

/// At least `total + more`; of an unknown sum nothing is known.
fn raised(total: f64, more: f64) -> f64 {
    if more == 0.0 {
        return total;
    }
    let sum = (total + more).next_up();
    if sum.is_nan() { f64::INFINITY } else { sum }
}

/// A total raised by the most that a coefficient makes of a value.
fn bounded(total: f64, (&a, value): (&Interval, Interval)) -> f64 {
    raised(total, highest(a, value))
}

fn joined(
    mine: Option<Vec<Coefficients>>,
    theirs: Option<Vec<Coefficients>>,
) -> Option<Vec<Coefficients>> {
    let (Some(a), Some(b)) = (&mine, &theirs) else { return mine.or(theirs) };
    let row = |(a, b): (&Coefficients, &Coefficients)| {
        a.iter().zip(b).map(|(&a, &b)| sum(a, b)).collect()
    };
    Some(a.iter().zip(b).map(row).collect())
}

/// Functions of the inputs above `rows . output of node id`, for every input of the box.
pub(super) fn above(
    side: &Side<'_>,
    id: NodeId,
    rows: &[Vec<f64>],
    poll: &mut Poll<'_>,
) -> Result<Above> {
    let network = side.network;
    let mut constants = vec![0.0; rows.len()];
    let mut open: Vec<Option<Vec<Coefficients>>> = vec![None; id + 1];
    let exact = |row: &Vec<f64>| row.iter().map(|&x| Interval::point(x)).collect();
    open[id] = Some(rows.iter().map(exact).collect());
    let mut coefficients = vec![None; network.inputs().len()];
    for at in (0..=id).rev() {
        let Some(rows) = open[at].take() else { continue };
        poll.check()?;
        if let Some(input) = network.inputs().iter().position(|&input| input == at) {
            coefficients[input] = Some(rows);
            continue;
        }
        let step = Step::at(side, at);
        let moved: Vec<Vec<Coefficients>> = rows
            .par_iter()
            .zip(constants.par_iter_mut())
            .map(|(row, constant)| step.through(side, at, row, constant))
            .collect();
        for (place, &source) in network.node(at).sources.iter().enumerate() {
            let rows: Vec<Coefficients> =
                moved.iter().filter_map(|parts| parts.get(place).cloned()).collect();
            // Where a row goes no further back, none does.
            if rows.len() == moved.len() {
                open[source] = joined(open[source].take(), Some(rows));
            }
        }
    }
    Ok(Above { coefficients, constants })
}

/// How rows go through a node.
enum Step<'a> {
    Linear(Linear<'a>),
    /// Two lines for each element of an activation.
    Lines(Vec<Lines>),
    /// The inputs of each maximum.
    Maximum(Vec<Vec<usize>>),
    /// No further: the node's own intervals bound the rows.
    End,
}

impl<'a> Step<'a> {
    fn at(side: &Side<'a>, id: NodeId) -> Self {
        if let Some(linear) = Linear::of(side.network, id) {
            return Self::Linear(linear);
        }
        let node = side.network.node(id);
        let Some(&source) = node.sources.first() else { return Self::End };
        let channels = side.network.node(source).last_axis();
        match &node.op {
            Op::Activation(activation) => {
                let lines = side.values[source].iter().map(|value| activation.relax(value));
                lines.collect::<Option<Vec<_>>>().map_or(Self::End, Self::Lines)
            }
            Op::Pool(PoolKind::Max, _) | Op::GlobalPool(PoolKind::Max) => {
                Self::Maximum(windows(&node.op, channels, side.values[source].len()))
            }
            _ => Self::End,
        }
    }

    /// One row as rows on the sources, what is left over going to the constant.
    fn through(
        &self,
        side: &Side<'_>,
        id: NodeId,
        row: &Coefficients,
        constant: &mut f64,
    ) -> Vec<Coefficients> {
        let sources = &side.network.node(id).sources;
        let mut found: Vec<Coefficients> = sources
            .iter()
            .map(|&source| vec![Interval::ZERO; side.network.node(source).len()])
            .collect();
        let mut terms = Vec::new();
        for (element, &a) in row.iter().enumerate() {
            if a == Interval::ZERO {
                continue;
            }
            let open_sign = a.lower < 0.0 && a.upper > 0.0;
            match self {
                Self::Linear(linear) => {
                    linear.terms(element, &mut terms);
                    for term in &terms {
                        let to = &mut found[term.source][term.element];
                        *to = sum(*to, times(term.weight, a));
                    }
                    *constant = raised(*constant, highest(a, linear.constant(element)));
                }
                Self::Lines(lines) if !open_sign => {
                    let Lines { lower, upper } = lines[element];
                    let line = if a.upper > 0.0 { upper } else { lower };
                    found[0][element] = times(Interval::point(line.slope), a);
                    *constant = raised(*constant, highest(a, Interval::point(line.offset)));
                }
                Self::Maximum(windows) if !open_sign => {
                    let inputs = &side.values[sources[0]];
                    through_maximum(a, &windows[element], inputs, &mut found[0], constant);
                }
                _ => *constant = bounded(*constant, (&a, side.values[id].get(element))),
            }
        }
        if let Self::End = self { Vec::new() } else { found }
    }
}

/// A maximum is at least any of its inputs, so also the one with the largest lower bound; it is at
/// most the largest upper bound, and equal to an input that no other can exceed.
fn through_maximum(
    a: Interval,
    seen: &[usize],
    inputs: &Intervals,
    found: &mut Coefficients,
    constant: &mut f64,
) {
    let by_lower = |a: &&usize, b: &&usize| inputs.lower[**a].total_cmp(&inputs.lower[**b]);
    let Some(&likely) = seen.iter().max_by(by_lower) else { return };
    let most = |others: &mut dyn Iterator<Item = &usize>| {
        others.fold(f64::NEG_INFINITY, |most, &at| most.max(inputs.upper[at]))
    };
    let dominates = inputs.lower[likely] >= most(&mut seen.iter().filter(|&&at| at != likely));
    if a.upper <= 0.0 || dominates {
        found[likely] = sum(found[likely], a);
    } else {
        let ceiling = Interval::point(most(&mut seen.iter()));
        *constant = raised(*constant, highest(a, ceiling));
    }
}
