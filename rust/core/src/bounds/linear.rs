//! Images of intervals under linear ops, in centre and radius form with a rounding pad.
//!
//! The same code serves values (with the op's constant) and differences (without it).

use ndarray::{Array2, Axis, Slice};
use rayon::prelude::*;

use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals, centre_radius};
use crate::linalg::{WideKernel, centre_radius_product};
use crate::network::{Affine, Conv, Dense, DepthwiseConv};

/// Unit roundoff of f64.
const ROUNDOFF: f64 = f64::EPSILON / 2.0;
/// Added to every radius that is not 0: times the smallest float32 it does not vanish, so that a
/// radius of 0 always means an exact 0.
const VANISHING: f64 = 1e-250;
/// Output positions whose patches are multiplied at once.
const POSITIONS_PER_TASK: usize = 64;
/// Tasks between two polls.
const TASKS_PER_POLL: usize = 8;

/// The rounding pad of a sum of `terms` products.
///
/// With radius terms `r + kappa |m|`, kappa = (n+3)u, and the final factor 1 + 2(n+6)u, the
/// computed ball contains the exact image (Rump 2012; Jeannerod and Rump 2013), for any
/// order of summation.
#[derive(Clone, Copy)]
struct Pad {
    kappa: f64,
    factor: f64,
    underflow: f64,
}

impl Pad {
    fn of(terms: usize) -> Self {
        let n = terms as f64;
        Self {
            kappa: (n + 3.0) * ROUNDOFF,
            factor: 1.0 + 2.0 * (n + 6.0) * ROUNDOFF,
            underflow: 8.0 * (n + 2.0) * f64::MIN_POSITIVE,
        }
    }

    /// Centre and padded radius of an interval.
    fn split(self, interval: Interval) -> (f64, f64) {
        let (centre, radius) = centre_radius(interval);
        if centre == 0.0 && radius == 0.0 {
            return (0.0, 0.0);
        }
        (centre, radius + self.kappa * centre.abs() + VANISHING)
    }

    /// The interval around a computed centre, moved by a constant.
    fn interval(self, centre: f64, radius: f64, constant: f64) -> Interval {
        if radius == 0.0 && centre.is_finite() {
            return Interval::new(centre + constant, centre + constant);
        }
        let centre = centre + constant;
        let radius = (radius + self.kappa * constant.abs()) * self.factor + self.underflow;
        if !(centre.is_finite() && radius.is_finite()) {
            return Interval::UNBOUNDED; // sums of large finite numbers have overflowed
        }
        Interval::new((centre - radius).next_down(), (centre + radius).next_up())
    }
}

/// Image under a dense layer on the last axis.
pub(crate) fn dense(
    layer: &Dense,
    input: &Intervals,
    with_constant: bool,
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let (rows, units) = layer.kernel.dim();
    let positions = input.len() / rows;
    if !input.is_finite() {
        return Ok(Intervals::unbounded(positions * units));
    }
    let constant = |unit: usize| constant(layer.bias.as_ref(), unit, with_constant);
    // A difference is zero but for a few units: then rows are better skipped than multiplied.
    let sparse =
        8 * input.iter().filter(|&interval| interval != Interval::ZERO).count() < input.len();
    if positions >= POSITIONS_PER_TASK && !sparse {
        let patch = |position: usize, tap: usize| Some(position * rows + tap);
        return patches(positions, rows, rows, &layer.kernel, input, &constant, &patch, poll);
    }
    let pad = Pad::of(rows);
    let mut image = Intervals::zeros(positions * units);
    for position in 0..positions {
        let (centre, radius): (Vec<f64>, Vec<f64>) = (position * rows..(position + 1) * rows)
            .map(|element| pad.split(input.get(element)))
            .unzip();
        let (centre, radius) = centre_radius_product(layer.kernel.view(), &centre, &radius);
        for unit in 0..units {
            let interval = pad.interval(centre[unit], radius[unit], constant(unit));
            image.set(position * units + unit, interval);
        }
        poll.check()?;
    }
    Ok(image)
}

/// Image under a convolution.
pub(crate) fn conv(
    layer: &Conv,
    channels: usize,
    input: &Intervals,
    with_constant: bool,
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let (rows, filters) = layer.kernel.dim();
    let positions = layer.window.positions();
    if !input.is_finite() {
        return Ok(Intervals::unbounded(positions * filters));
    }
    let per_group = (channels / layer.groups, filters / layer.groups);
    let mut image = Intervals::zeros(positions * filters);
    for group in 0..layer.groups {
        let columns = group * per_group.1..(group + 1) * per_group.1;
        let kernel = layer.kernel.slice_axis(Axis(1), Slice::from(columns.clone())).to_owned();
        let constant = |f: usize| constant(layer.bias.as_ref(), columns.start + f, with_constant);
        let patch = |position: usize, row: usize| {
            let at = layer.window.input_position(position, row / per_group.0)?;
            Some(at * channels + group * per_group.0 + row % per_group.0)
        };
        let run = per_group.0;
        let part = patches(positions, rows, run, &kernel, input, &constant, &patch, poll)?;
        for (index, interval) in part.iter().enumerate() {
            let (position, filter) = (index / per_group.1, index % per_group.1);
            image.set(position * filters + columns.start + filter, interval);
        }
    }
    Ok(image)
}

/// The product of every position's patch with a kernel.
///
/// `element(position, row)` is the input element under a kernel row (`None`: zero padding); it is
/// asked once for every `run` rows, which lie side by side in the input.
#[expect(clippy::too_many_arguments)] // one private loop shared by two layers
fn patches(
    positions: usize,
    rows: usize,
    run: usize,
    kernel: &Array2<f32>,
    input: &Intervals,
    constant: &(dyn Fn(usize) -> f64 + Sync),
    element: &(dyn Fn(usize, usize) -> Option<usize> + Sync),
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let pad = Pad::of(rows);
    let wide = WideKernel::new(kernel.view());
    let tasks: Vec<usize> = (0..positions).step_by(POSITIONS_PER_TASK).collect();
    let mut image = Vec::with_capacity(positions * kernel.ncols());
    for batch in tasks.chunks(TASKS_PER_POLL) {
        poll.check()?;
        let parts: Vec<Vec<Interval>> = batch
            .par_iter()
            .map(|&first| {
                let count = POSITIONS_PER_TASK.min(positions - first);
                let mut centres = Array2::zeros((count, rows));
                let mut radii = Array2::zeros((count, rows));
                for position in 0..count {
                    for row in (0..rows).step_by(run) {
                        let Some(at) = element(first + position, row) else { continue };
                        for offset in 0..run {
                            let (centre, radius) = pad.split(input.get(at + offset));
                            centres[[position, row + offset]] = centre;
                            radii[[position, row + offset]] = radius;
                        }
                    }
                }
                let (centres, radii) = wide.apply(&centres, &radii);
                let columns = kernel.ncols();
                centres
                    .iter()
                    .zip(&radii)
                    .enumerate()
                    .map(|(index, (&c, &r))| pad.interval(c, r, constant(index % columns)))
                    .collect()
            })
            .collect();
        image.extend(parts.into_iter().flatten());
    }
    Ok(image.into_iter().collect())
}

/// Image under a depthwise convolution.
pub(crate) fn depthwise_conv(
    layer: &DepthwiseConv,
    input: &Intervals,
    with_constant: bool,
) -> Intervals {
    let multiplier = layer.kernel.ncols();
    let channels = layer.kernel.nrows() / layer.window.taps();
    let filters = channels * multiplier;
    let positions = layer.window.positions();
    if !input.is_finite() {
        return Intervals::unbounded(positions * filters);
    }
    let pad = Pad::of(layer.window.taps());
    (0..positions * filters)
        .into_par_iter()
        .map(|index| {
            let (position, filter) = (index / filters, index % filters);
            let (channel, copy) = (filter / multiplier, filter % multiplier);
            let (mut centre, mut radius) = (0.0, 0.0);
            for tap in 0..layer.window.taps() {
                let Some(at) = layer.window.input_position(position, tap) else { continue };
                let weight = f64::from(layer.kernel[[tap * channels + channel, copy]]);
                let (m, r) = pad.split(input.get(at * channels + channel));
                centre += weight * m;
                radius += weight.abs() * r;
            }
            let constant = constant(layer.bias.as_ref(), filter, with_constant);
            pad.interval(centre, radius, constant)
        })
        .collect::<Vec<_>>()
        .into_iter()
        .collect()
}

/// Image under an elementwise affine map along the last axis.
pub(crate) fn affine(map: &Affine, input: &Intervals, with_constant: bool) -> Intervals {
    let width = map.scale.len();
    input
        .iter()
        .enumerate()
        .map(|(index, interval)| {
            let scaled = interval.scaled(map.scale[index % width]).widened(8.0);
            if !with_constant {
                return scaled;
            }
            let offset = map.offset[index % width];
            let pad = 8.0 * f64::EPSILON * map.size[index % width];
            scaled.plus(Interval::new(offset - pad, offset + pad)).widened(2.0)
        })
        .collect()
}

/// Interval of the mean of several values.
pub(crate) fn mean(intervals: &mut dyn Iterator<Item = Interval>) -> Interval {
    let (mut sum, mut size, mut count) = (Interval::ZERO, 0.0, 0_usize);
    for interval in intervals {
        sum = sum.plus(interval);
        size += interval.lower.abs().max(interval.upper.abs());
        count += 1;
    }
    let n = count.max(1) as f64;
    // Every partial sum is at most `size`, so n additions err by at most n u size.
    let pad = if size.is_finite() { (n + 2.0) * ROUNDOFF * size * 2.0 } else { 0.0 };
    Interval::new((sum.lower - pad) / n, (sum.upper + pad) / n).without_nan().widened(2.0)
}

/// Image under a kernel of which only a few rows are not zero, plus a constant a column.
///
/// `element(position, row)` is the input element under a kernel row (`None`: zero padding).
pub(crate) fn sparse_rows(
    positions: usize,
    rows: &[usize],
    matrix: &Array2<f64>,
    constant: &[f64],
    element: &dyn Fn(usize, usize) -> Option<usize>,
    input: &Intervals,
) -> Intervals {
    let columns = matrix.ncols();
    let pad = (rows.len() as f64 + 4.0) * f64::EPSILON;
    let mut image = Intervals::zeros(positions * columns);
    for position in 0..positions {
        for column in 0..columns {
            let constant = constant[column];
            let mut sum = Interval::new(constant, constant);
            let mut size = constant.abs();
            for (&row, weights) in rows.iter().zip(matrix.rows()) {
                let (Some(at), weight) = (element(position, row), weights[column]) else {
                    continue;
                };
                let term = input.get(at).scaled(weight);
                sum = sum.plus(term);
                size += term.lower.abs().max(term.upper.abs());
            }
            let pad = if size.is_finite() { pad * size } else { 0.0 };
            let padded = Interval::new(sum.lower - pad, sum.upper + pad).without_nan();
            image.set(position * columns + column, padded);
        }
    }
    image
}

fn constant(bias: Option<&ndarray::Array1<f32>>, unit: usize, with_constant: bool) -> f64 {
    match bias {
        Some(bias) if with_constant => f64::from(bias[unit]),
        _ => 0.0,
    }
}
