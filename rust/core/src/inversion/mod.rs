//! Inputs found by gradient towards the network's own classes.
//!
//! From each start, steps of steepest ascent on the log-likelihood of a drawn class, kept inside
//! the box: what the network takes for an instance of the class, seen through its weights alone.
//! The statistics that BatchNormalization has kept of the training data pull as much.

mod side;
mod statistics;
mod targets;

use ndarray::{Array2, Axis};

use self::side::{Side, sides};
use self::statistics::{Mismatch, Normalizations};
use self::targets::Targets;
use crate::bounds::InputBox;
use crate::config::InversionConfig;
use crate::error::{Poll, Result};
use crate::forward::{Feeds, Values, narrow};
use crate::gradient::Backward;
use crate::network::{Network, NodeId};

/// How an input is to be seen: height, width and channels of an image, or none.
pub type Image = Option<[usize; 3]>;

/// The inputs that gradient steps lead to from `starts`, of their shapes and inside the box.
///
/// A class is drawn for every sample and head (the last axis of a logit node counts classes, a
/// single logit tells two apart), and each step changes a sample's inputs along the gradient of
/// `sum(target ln softmax(logits / temperature))`. The gradient is taken in units of the box's sides, smoothed
/// where `images` says that an input is one, and scaled so that its largest element changes by
/// the step size.
///
/// With `batch_statistics`, the direction is the sum of two such gradients, the largest element of
/// each scaled to 1: this one and the one that lessens the whole batch's mismatch with the moving
/// statistics of every BatchNormalization before the logits. The batch is all samples of this
/// call where they are before the step, those that take no step any more among them.
pub fn invert(
    network: &Network,
    input_box: &InputBox,
    starts: &Feeds<'_>,
    images: &[Image],
    config: &InversionConfig,
    seed: u64,
    poll: &mut Poll<'_>,
) -> Result<Vec<Array2<f32>>> {
    let config = config.check()?;
    let sides = sides(network, input_box, images, config.smoothing)?;
    let logits = network.logits();
    let backward = Backward::new(network, starts, &logits)?;
    let normalizations = if config.batch_statistics {
        Normalizations::before_logits(network, starts, &backward)?
    } else {
        None
    };
    let targets = Targets::draw(network, &logits, starts.samples(), &config, seed);
    let fed = starts.rows(0..starts.samples());
    let fed = fed.filter(|(id, _)| network.inputs().contains(id));
    let mut found: Vec<Array2<f32>> =
        sides.iter().zip(fed).map(|(side, (_, start))| side.clipped(start)).collect();
    let search = Search { network, backward, logits, sides, targets };
    for step in 0..search.targets.most_steps() {
        let mismatch = match &normalizations {
            Some(normalizations) => Some(normalizations.of_batch(network, &found, poll)?),
            None => None,
        };
        for samples in search.backward.plan.chunks(starts.samples()) {
            let going: Vec<usize> =
                samples.filter(|&sample| search.targets.steps[sample] > step).collect();
            if !going.is_empty() {
                let directions = search.directions(&found, &going, mismatch.as_ref(), poll)?;
                advance(&mut found, &directions, &search.sides, &going, config.step_size);
            }
        }
    }
    Ok(found)
}

/// What all steps have in common.
struct Search<'a> {
    network: &'a Network,
    backward: Backward<'a>,
    logits: Vec<NodeId>,
    sides: Vec<Side>,
    targets: Targets,
}

impl Search<'_> {
    /// Where some of the samples go from where they are, one array for every input.
    fn directions(
        &self,
        found: &[Array2<f32>],
        going: &[usize],
        mismatch: Option<&Mismatch>,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Array2<f32>>> {
        let points: Vec<Array2<f32>> = found.iter().map(|all| all.select(Axis(0), going)).collect();
        let inputs = self.network.inputs().iter().copied();
        let values =
            self.backward.values(inputs.zip(points.iter().map(|chunk| chunk.view())), poll)?;
        let heads = self.logits.iter().enumerate().map(|(head, &id)| {
            let width = self.network.node(id).last_axis();
            (id, self.targets.cotangent(head, width, values.of(id), going))
        });
        let mut directions = self.pull_back(&values, heads.collect(), poll)?;
        if let Some(mismatch) = mismatch {
            let others = self.pull_back(&values, mismatch.cotangents(&values), poll)?;
            add_in_equal_parts(&mut directions, &others);
        }
        Ok(directions)
    }

    fn pull_back(
        &self,
        values: &Values,
        cotangents: Vec<(NodeId, Array2<f32>)>,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Array2<f32>>> {
        let mut gradients = self.backward.pull_back(values, cotangents, poll)?;
        for (side, gradient) in self.sides.iter().zip(&mut gradients) {
            side.direct(gradient);
        }
        Ok(gradients)
    }
}

/// Add up two directions of every sample, each scaled to a largest element of 1.
fn add_in_equal_parts(directions: &mut [Array2<f32>], others: &[Array2<f32>]) {
    let samples = directions.first().map_or(0, Array2::nrows);
    for row in 0..samples {
        let scales = [largest(directions, row), largest(others, row)];
        let scaled = |part: f32, scale: Option<f32>| {
            scale.map_or(0.0, |scale| f64::from(part) / f64::from(scale))
        };
        for (direction, other) in directions.iter_mut().zip(others) {
            for (element, &other) in direction.row_mut(row).iter_mut().zip(other.row(row)) {
                *element = narrow(scaled(*element, scales[0]) + scaled(other, scales[1]));
            }
        }
    }
}

/// The largest size of a sample's elements; None where the network is sure already or the box a
/// point, and where numbers overflow: there is nowhere to go.
fn largest(directions: &[Array2<f32>], row: usize) -> Option<f32> {
    let elements = || directions.iter().flat_map(|direction| direction.row(row));
    let largest = elements().fold(0.0, |largest: f32, &element| largest.max(element.abs()));
    (largest > 0.0 && elements().all(|element| element.is_finite())).then_some(largest)
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
        let Some(largest) = largest(directions, row) else { continue };
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
