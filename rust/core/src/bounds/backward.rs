//! Linear bounds of a node's output in the inputs, taken back layer by layer: CROWN.
//!
//! Every activation is replaced by a line above and one below it (Zhang et al., arXiv 1811.00866);
//! a row of coefficients takes the one or the other by its sign. Rounding goes into the constant: a
//! coefficient that is off by delta moves the sum by at most delta times the largest value there.

use ndarray::{Array2, ArrayView1, Axis, Slice};

use super::{Bounds, linear_image};
use crate::adjoint::{Map, is_linear, pull, terms};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals, centre_radius, product};
use crate::network::{Network, NodeId, Op, PoolKind};

/// Unit roundoff of f64.
const ROUNDOFF: f64 = f64::EPSILON / 2.0;
/// Rows that are taken back at once.
const ROWS_AT_ONCE: usize = 128;

/// Functions above the rows that were asked for: `coefficients . inputs + constant`.
#[derive(Debug, Clone)]
pub(crate) struct Above {
    /// For each input of the network its rows, `None` where no row reaches it.
    coefficients: Vec<Option<Array2<f64>>>,
    /// One a row, rounding included.
    constants: Vec<f64>,
}

impl Above {
    /// The sum of two, over the same inputs.
    pub(crate) fn plus(mut self, other: &Self, input_box: &Bounds, network: &Network) -> Self {
        for (constant, more) in self.constants.iter_mut().zip(&other.constants) {
            *constant = (*constant + more).next_up();
        }
        for ((mine, theirs), &id) in
            self.coefficients.iter_mut().zip(&other.coefficients).zip(network.inputs())
        {
            match (mine, theirs) {
                (Some(rows), Some(more)) => {
                    *rows += more;
                    let sizes = magnitudes(input_box.of(id));
                    for (row, constant) in rows.rows().into_iter().zip(&mut self.constants) {
                        *constant += 2.0 * ROUNDOFF * weighted(row, &sizes);
                    }
                }
                (mine @ None, Some(more)) => *mine = Some(more.clone()),
                (_, None) => {}
            }
        }
        self
    }

    /// Upper bounds over the box.
    pub(crate) fn largest(&self, input_box: &Bounds, network: &Network) -> Vec<f64> {
        let mut found = self.constants.clone();
        for (rows, &id) in self.coefficients.iter().zip(network.inputs()) {
            let Some(rows) = rows else { continue };
            let (middle, half): (Vec<f64>, Vec<f64>) =
                input_box.of(id).iter().map(centre_radius).unzip();
            let kappa = (middle.len() as f64 + 4.0) * 2.0 * ROUNDOFF;
            for (row, total) in rows.rows().into_iter().zip(&mut found) {
                let (mut sum, mut reach, mut size) = (0.0, 0.0, 0.0);
                for ((&a, &m), &r) in row.iter().zip(&middle).zip(&half) {
                    sum += a * m;
                    reach += a.abs() * r;
                    size += a.abs() * m.abs();
                }
                let size = size + reach + total.abs();
                *total += sum + reach + kappa * size + f64::MIN_POSITIVE;
            }
        }
        found.into_iter().map(|bound| if bound.is_nan() { f64::INFINITY } else { bound }).collect()
    }
}

/// The largest absolute values of intervals.
fn magnitudes(values: &Intervals) -> Vec<f64> {
    values.iter().map(|value| value.lower.abs().max(value.upper.abs())).collect()
}

/// `|row| . sizes`, where zero wins over infinity.
fn weighted(row: ArrayView1<'_, f64>, sizes: &[f64]) -> f64 {
    row.iter().zip(sizes).map(|(&a, &size)| product(a.abs(), size)).sum()
}

/// Intervals of the outputs of node `id`, from lines taken back to the inputs.
///
/// `values` holds the intervals of everything before it.
pub(crate) fn intervals(
    network: &Network,
    id: NodeId,
    values: &Bounds,
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let count = network.node(id).len();
    let mut found = Intervals::unbounded(count);
    for first in (0..count).step_by(ROWS_AT_ONCE) {
        let rows = ROWS_AT_ONCE.min(count - first);
        let mut identity = Array2::zeros((rows, count));
        for row in 0..rows {
            identity[[row, first + row]] = 1.0;
        }
        let bounds = both_signs(network, id, identity, values, poll)?.largest(values, network);
        for row in 0..rows {
            found.set(first + row, Interval::new(-bounds[rows + row], bounds[row]));
        }
    }
    Ok(found)
}

/// Functions above some rows and, after them, above their negatives.
///
/// A linear op takes both back alike, so that only half of them need to go through its weights.
fn both_signs(
    network: &Network,
    id: NodeId,
    rows: Array2<f64>,
    values: &Bounds,
    poll: &mut Poll<'_>,
) -> Result<Above> {
    let twice = |rows: &Array2<f64>| ndarray::concatenate![Axis(0), *rows, rows.mapv(|x| -x)];
    let node = network.node(id);
    let ([source], true) = (&node.sources[..], is_linear(&node.op)) else {
        return above(network, id, twice(&rows), values, poll);
    };
    let (offsets, sizes) = constant_and_size(network, id, values, poll)?;
    let shifts = rows.rows().into_iter().map(|row| {
        let shift: f64 = row.iter().zip(&offsets).map(|(a, b)| a * b).sum();
        (shift, linear_pad(network, id) * weighted(row, &sizes))
    });
    let (shifts, pads): (Vec<f64>, Vec<f64>) = shifts.unzip();
    let up = shifts.iter().zip(&pads).map(|(shift, pad)| shift + pad);
    let down = shifts.iter().zip(&pads).map(|(shift, pad)| pad - shift);
    let constants = up.chain(down).collect();
    let pulled = pull(network, id, &rows, Map::Signed, poll)?;
    let Some((_, rows)) = pulled.into_iter().next() else {
        return above(network, id, twice(&rows), values, poll);
    };
    taken_back(network, *source, twice(&rows), constants, values, poll)
}

/// What the rounding of a linear op's coefficients and of their sums is at most, relative to sizes.
fn linear_pad(network: &Network, id: NodeId) -> f64 {
    (terms(network, id) as f64 + network.node(id).len() as f64 + 8.0) * 2.0 * ROUNDOFF
}

/// Functions of the inputs above `rows . output of node id`, for every input of the box.
pub(crate) fn above(
    network: &Network,
    id: NodeId,
    rows: Array2<f64>,
    values: &Bounds,
    poll: &mut Poll<'_>,
) -> Result<Above> {
    let constants = vec![0.0; rows.nrows()];
    taken_back(network, id, rows, constants, values, poll)
}

fn taken_back(
    network: &Network,
    id: NodeId,
    rows: Array2<f64>,
    mut constants: Vec<f64>,
    values: &Bounds,
    poll: &mut Poll<'_>,
) -> Result<Above> {
    let mut open: Vec<Option<Array2<f64>>> = vec![None; id + 1];
    open[id] = Some(rows);
    let mut coefficients = vec![None; network.inputs().len()];
    for at in (0..=id).rev() {
        let Some(rows) = open[at].take() else { continue };
        if let Some(input) = network.inputs().iter().position(|&input| input == at) {
            coefficients[input] = Some(rows);
            continue;
        }
        for (source, rows) in through(network, at, rows, values, &mut constants, poll)? {
            open[source] = Some(match open[source].take() {
                None => rows,
                Some(known) => {
                    let sum = known + rows;
                    let sizes = magnitudes(values.of(source));
                    for (row, constant) in sum.rows().into_iter().zip(&mut constants) {
                        *constant += 2.0 * ROUNDOFF * weighted(row, &sizes);
                    }
                    sum
                }
            });
        }
    }
    Ok(Above { coefficients, constants })
}

/// Rows on a node's output as rows on its sources, what is left over going to the constants.
fn through(
    network: &Network,
    id: NodeId,
    rows: Array2<f64>,
    values: &Bounds,
    constants: &mut [f64],
    poll: &mut Poll<'_>,
) -> Result<Vec<(NodeId, Array2<f64>)>> {
    let node = network.node(id);
    if is_linear(&node.op) {
        let (offsets, sizes) = constant_and_size(network, id, values, poll)?;
        let pad = linear_pad(network, id);
        for (row, constant) in rows.rows().into_iter().zip(constants.iter_mut()) {
            let shift: f64 = row.iter().zip(&offsets).map(|(a, b)| a * b).sum();
            let pad = pad * weighted(row, &sizes) + 2.0 * ROUNDOFF * constant.abs();
            *constant += shift + pad;
        }
        return pull(network, id, &rows, Map::Signed, poll);
    }
    let source = node.sources.first().copied();
    match (&node.op, source) {
        (Op::Activation(activation), Some(source)) => {
            let lines: Option<Vec<_>> =
                values.of(source).iter().map(|value| activation.relax(value)).collect();
            let Some(lines) = lines else {
                break_off(&rows, values.of(id), constants);
                return Ok(Vec::new());
            };
            let sizes = magnitudes(values.of(source));
            let kappa = (sizes.len() as f64 + 4.0) * 2.0 * ROUNDOFF;
            let mut rows = rows;
            for (mut row, constant) in rows.rows_mut().into_iter().zip(constants.iter_mut()) {
                let (mut shift, mut size) = (0.0, constant.abs());
                for ((a, lines), &most) in row.iter_mut().zip(&lines).zip(&sizes) {
                    if *a == 0.0 {
                        continue;
                    }
                    let line = if *a > 0.0 { lines.upper } else { lines.lower };
                    shift += *a * line.offset;
                    size += a.abs() * (product(line.slope.abs(), most) + line.offset.abs());
                    *a *= line.slope;
                }
                *constant += shift + kappa * size;
            }
            Ok(vec![(source, rows)])
        }
        (Op::Pool(PoolKind::Max, _) | Op::GlobalPool(PoolKind::Max), Some(source)) => {
            Ok(vec![(source, through_maximum(network, id, &rows, values, constants))])
        }
        _ => {
            break_off(&rows, values.of(id), constants);
            Ok(Vec::new())
        }
    }
}

/// What a linear op adds, and the size of everything that makes an element of its output.
fn constant_and_size(
    network: &Network,
    id: NodeId,
    values: &Bounds,
    poll: &mut Poll<'_>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let node = network.node(id);
    let symmetric: Vec<Intervals> = node
        .sources
        .iter()
        .map(|&source| {
            magnitudes(values.of(source)).into_iter().map(|m| Interval::new(-m, m)).collect()
        })
        .collect();
    let sources: Vec<&Intervals> = symmetric.iter().collect();
    let reach = linear_image(network, id, &sources, false, poll)?;
    let reach = reach.unwrap_or_else(|| Intervals::unbounded(node.len()));
    let width = node.last_axis();
    let offset = |unit: usize| match &node.op {
        Op::BatchNormalization(_, affine) | Op::Affine(affine) => affine.offset[unit],
        op => op
            .kernel_and_bias()
            .and_then(|(_, bias)| bias.map(|bias| f64::from(bias[unit])))
            .unwrap_or(0.0),
    };
    let offsets: Vec<f64> = (0..node.len()).map(|element| offset(element % width)).collect();
    let size = |element: usize| match node.op.as_affine() {
        Some(affine) => affine.size[element % width],
        None => offsets[element].abs(),
    };
    let sizes = (0..node.len()).map(|element| reach.upper[element] + size(element)).collect();
    Ok((offsets, sizes))
}

/// Go no further back: bound the rows by the node's own intervals.
fn break_off(rows: &Array2<f64>, values: &Intervals, constants: &mut [f64]) {
    let kappa = (values.len() as f64 + 4.0) * 2.0 * ROUNDOFF;
    for (row, constant) in rows.rows().into_iter().zip(constants) {
        let (mut sum, mut size) = (0.0, constant.abs());
        for (&a, value) in row.iter().zip(values.iter()) {
            let most = product(a, if a > 0.0 { value.upper } else { value.lower });
            sum += most;
            size += most.abs();
        }
        *constant += sum + kappa * size;
    }
}

/// A maximum is at least any of its inputs, so also the one with the largest lower bound; it is at
/// most the largest upper bound, and equal to an input that no other can exceed.
fn through_maximum(
    network: &Network,
    id: NodeId,
    rows: &Array2<f64>,
    values: &Bounds,
    constants: &mut [f64],
) -> Array2<f64> {
    let node = network.node(id);
    let source = network.node(node.sources[0]);
    let channels = source.last_axis();
    let inputs = values.of(node.sources[0]);
    let mut moved = Array2::zeros((rows.nrows(), source.len()));
    for output in 0..node.len() {
        let (position, channel) = (output / channels, output % channels);
        let seen: Vec<usize> = match &node.op {
            Op::Pool(_, window) => {
                window.inputs(position).map(|at| at * channels + channel).collect()
            }
            _ => (channel..source.len()).step_by(channels).collect(),
        };
        let by_lower = |a: &&usize, b: &&usize| inputs.lower[**a].total_cmp(&inputs.lower[**b]);
        let Some(&likely) = seen.iter().max_by(by_lower) else { continue };
        let most = |others: &mut dyn Iterator<Item = &usize>| {
            others.fold(f64::NEG_INFINITY, |most, &at| most.max(inputs.upper[at]))
        };
        let dominates = inputs.lower[likely] >= most(&mut seen.iter().filter(|&&at| at != likely));
        let ceiling = most(&mut seen.iter());
        for (row, constant) in constants.iter_mut().enumerate() {
            let a = rows[[row, output]];
            if a <= 0.0 || dominates {
                moved[[row, likely]] += a;
                *constant += 8.0
                    * ROUNDOFF
                    * product(
                        a.abs(),
                        inputs.get(likely).lower.abs().max(inputs.get(likely).upper.abs()),
                    );
            } else {
                let bound = product(a, ceiling);
                *constant += bound + 4.0 * ROUNDOFF * (bound.abs() + constant.abs());
            }
        }
    }
    moved
}

/// Rows `first..first + count` of a network's logits side by side, on one head.
pub(crate) fn head_rows(rows: &Array2<f64>, first: usize, count: usize) -> Array2<f64> {
    rows.slice_axis(Axis(1), Slice::from(first..first + count)).as_standard_layout().into_owned()
}
