//! Inputs found by gradient towards the network's own classes.
//!
//! From each start, steps of steepest ascent on the log-likelihood of a drawn class, kept inside
//! the box: what the network takes for an instance of the class, seen through its weights alone.

mod side;
mod targets;

use ndarray::{Array2, Axis, Slice};

use self::side::{Side, sides};
use self::targets::Targets;
use crate::bounds::InputBox;
use crate::config::InversionConfig;
use crate::error::{Poll, Result};
use crate::forward::{Feeds, narrow};
use crate::gradient::Backward;
use crate::network::Network;

/// How an input is to be seen: height, width and channels of an image, or none.
pub type Image = Option<[usize; 3]>;

/// The inputs that gradient steps lead to from `starts`, of their shapes and inside the box.
///
/// A class is drawn for every sample and head (the last axis of a logit node counts classes, a
/// single logit tells two apart), and each step changes a sample's inputs along the gradient of
/// `sum(target ln softmax(logits / temperature))`. The gradient is taken in units of the box's sides, smoothed
/// where `images` says that an input is one, and scaled so that its largest element changes by
/// the step size.
pub fn invert(
    network: &Network,
    input_box: &InputBox,
    starts: &Feeds,
    images: &[Image],
    config: &InversionConfig,
    seed: u64,
    poll: &mut Poll<'_>,
) -> Result<Vec<Array2<f32>>> {
    let config = config.check()?;
    let sides = sides(network, input_box, images, config.smoothing)?;
    let logits = network.logits();
    let backward = Backward::new(network, starts, &logits)?;
    let targets = Targets::draw(network, &logits, starts.samples(), &config, seed);
    let fed = starts.rows(0..starts.samples());
    let fed = fed.filter(|(id, _)| network.inputs().contains(id));
    let mut found: Vec<Array2<f32>> =
        sides.iter().zip(fed).map(|(side, (_, start))| side.clipped(start)).collect();
    for samples in backward.plan.chunks(starts.samples()) {
        let rows = Slice::from(samples.clone());
        let mut points: Vec<Array2<f32>> =
            found.iter().map(|all| all.slice_axis(Axis(0), rows).to_owned()).collect();
        for step in 0..config.steps {
            let going: Vec<usize> = (0..samples.len())
                .filter(|&row| targets.steps[samples.start + row] > step)
                .collect();
            if going.is_empty() {
                break;
            }
            let moving: Vec<Array2<f32>> =
                points.iter().map(|chunk| chunk.select(Axis(0), &going)).collect();
            let inputs = network.inputs().iter().copied();
            let values =
                backward.values(inputs.zip(moving.iter().map(|chunk| chunk.view())), poll)?;
            let drawn: Vec<usize> = going.iter().map(|row| samples.start + row).collect();
            let heads = logits.iter().enumerate().map(|(head, &id)| {
                (id, targets.cotangent(head, network.node(id).last_axis(), values.of(id), &drawn))
            });
            let mut gradients = backward.pull_back(&values, heads.collect(), poll)?;
            for (side, gradient) in sides.iter().zip(&mut gradients) {
                side.direct(gradient);
            }
            advance(&mut points, &gradients, &sides, &going, config.step_size);
        }
        for (all, chunk) in found.iter_mut().zip(&points) {
            all.slice_axis_mut(Axis(0), rows).assign(chunk);
        }
    }
    Ok(found)
}

/// One step of the samples that still take one, each along its own direction.
fn advance(
    points: &mut [Array2<f32>],
    directions: &[Array2<f32>],
    sides: &[Side],
    going: &[usize],
    step_size: f64,
) {
    for (row, &sample) in going.iter().enumerate() {
        let elements = directions.iter().flat_map(|direction| direction.row(row));
        let largest = elements.fold(0.0, |largest: f32, &element| largest.max(element.abs()));
        // Where the network is sure already, or the box a point, there is nowhere to go.
        if largest == 0.0 || !largest.is_finite() {
            continue;
        }
        for ((points, directions), side) in points.iter_mut().zip(directions).zip(sides) {
            let moved = points.row_mut(sample).into_iter().zip(directions.row(row));
            for ((point, &direction), end) in moved.zip(&side.ends) {
                let share = step_size * f64::from(direction) / f64::from(largest);
                let moved = f64::from(*point) + share * f64::from(end.width);
                *point = narrow(moved).clamp(end.lower, end.upper);
            }
        }
    }
}
