//! How far a batch's statistics are from those that BatchNormalization has kept of its training
//! data, and which way the samples would have to go.

use ndarray::{Array2, ArrayView2, Axis, Zip};
use rayon::prelude::*;

use crate::error::{Poll, Result};
use crate::forward::{Feeds, Plan, Values, in_rows, in_rows_mut, narrow};
use crate::gradient::Backward;
use crate::network::{BatchNormalization, Network, NodeId, Op};

/// Rows that one task adds up; partial sums are added in their order.
const ROWS_PER_TASK: usize = 4096;

/// The BatchNormalization ops on the way to the logits, and the way to their inputs.
pub(super) struct Normalizations<'a> {
    plan: Plan<'a>,
    layers: Vec<(NodeId, Vec<Stored>)>,
}

/// The moving statistics of one channel.
struct Stored {
    mean: f64,
    deviation: f64,
    /// What the layer divides squares by: the moving variance and the layer's epsilon.
    scale: f64,
}

/// Where a whole batch is too high or too low: a slope for every op, channel and value.
pub(super) struct Mismatch(Vec<(NodeId, Vec<Slope>)>);

/// The derivative `level + spread (x - mean)` of the mismatch by a channel's value x.
struct Slope {
    mean: f64,
    level: f64,
    spread: f64,
}

impl<'a> Normalizations<'a> {
    /// None if the network has no BatchNormalization before its logits.
    pub(super) fn before_logits(
        network: &'a Network,
        feeds: &Feeds<'_>,
        backward: &Backward<'_>,
    ) -> Result<Option<Self>> {
        let nodes = network.nodes().iter().enumerate();
        let layers: Vec<(NodeId, Vec<Stored>)> = nodes
            .filter(|&(id, _)| backward.plan.is_needed(id))
            .filter_map(|(_, node)| match &node.op {
                Op::BatchNormalization(norm, _) => Some((node.sources[0], Stored::all(norm))),
                _ => None,
            })
            .collect();
        if layers.is_empty() {
            return Ok(None);
        }
        let inputs: Vec<NodeId> = layers.iter().map(|&(input, _)| input).collect();
        Ok(Some(Self { plan: Plan::new(network, feeds, &inputs)?, layers }))
    }

    /// The mismatch of the batch that all these `inputs` make, a few samples at a time.
    ///
    /// It is `sum((mean - m)^2 + (deviation - s)^2) / (2 (s^2 + epsilon))` over ops and channels,
    /// with the moving mean m and deviation s; every position of every sample counts as a value.
    pub(super) fn of_batch(
        &self,
        network: &Network,
        inputs: &[Array2<f32>],
        poll: &mut Poll<'_>,
    ) -> Result<Mismatch> {
        let wanted: Vec<NodeId> = self.layers.iter().map(|&(input, _)| input).collect();
        let mut sums: Vec<Vec<Sums>> =
            self.layers.iter().map(|(_, stored)| vec![Sums::default(); stored.len()]).collect();
        let samples = inputs.first().map_or(0, Array2::nrows);
        for chunk in self.plan.chunks(samples) {
            let rows = inputs.iter().map(|all| all.slice_axis(Axis(0), chunk.clone().into()));
            let values =
                self.plan.run(network.inputs().iter().copied().zip(rows), &wanted, poll)?;
            for (sums, (input, stored)) in sums.iter_mut().zip(&self.layers) {
                let parts = sums_of_parts(in_rows(values.of(*input), stored.len()), stored);
                for part in parts {
                    for (sum, part) in sums.iter_mut().zip(part) {
                        sum.add(part.shift, part.square);
                    }
                }
            }
        }
        let slopes = self.layers.iter().zip(&sums).map(|((input, stored), sums)| {
            let values = (samples * network.node(*input).len() / stored.len()) as f64;
            let channels = stored.iter().zip(sums);
            (*input, channels.map(|(stored, sums)| stored.slope(*sums, values)).collect())
        });
        Ok(Mismatch(slopes.collect()))
    }
}

/// The sums of each task's rows, in the order of the rows.
fn sums_of_parts(rows: ArrayView2<'_, f32>, stored: &[Stored]) -> Vec<Vec<Sums>> {
    rows.axis_chunks_iter(Axis(0), ROWS_PER_TASK)
        .into_par_iter()
        .map(|rows| {
            let mut sums = vec![Sums::default(); stored.len()];
            for row in rows.rows() {
                for ((sum, &value), stored) in sums.iter_mut().zip(row).zip(stored) {
                    let shift = f64::from(value) - stored.mean;
                    sum.add(shift, shift * shift);
                }
            }
            sums
        })
        .collect()
}

/// Sums over a channel's values, less its moving mean: what is near it does not cancel.
#[derive(Clone, Copy, Default)]
struct Sums {
    shift: f64,
    square: f64,
}

impl Sums {
    fn add(&mut self, shift: f64, square: f64) {
        self.shift += shift;
        self.square += square;
    }
}

impl Stored {
    fn all(norm: &BatchNormalization) -> Vec<Self> {
        let channels = norm.mean.iter().zip(&norm.variance);
        let of = |(&mean, &variance): (&f32, &f32)| {
            let variance = f64::from(variance);
            Self {
                mean: f64::from(mean),
                deviation: variance.max(0.0).sqrt(),
                scale: variance + norm.epsilon,
            }
        };
        channels.map(of).collect()
    }

    fn slope(&self, sums: Sums, values: f64) -> Slope {
        let shift = sums.shift / values;
        let deviation = (sums.square / values - shift * shift).max(0.0).sqrt();
        // Values that are all the same have no direction in which to differ more.
        let spread = if deviation == 0.0 { 0.0 } else { (deviation - self.deviation) / deviation };
        let share = 1.0 / (self.scale * values);
        Slope { mean: self.mean + shift, level: shift * share, spread: spread * share }
    }
}

impl Mismatch {
    /// What lessens the mismatch, for some samples of the batch, at the input of every op.
    pub(super) fn cotangents(&self, values: &Values) -> Vec<(NodeId, Array2<f32>)> {
        let of = |(input, slopes): &(NodeId, Vec<Slope>)| {
            let values = values.of(*input);
            let mut cotangent = Array2::zeros(values.raw_dim());
            Zip::from(in_rows_mut(&mut cotangent, slopes.len()).rows_mut())
                .and(in_rows(values, slopes.len()).rows())
                .par_for_each(|cotangent, values| {
                    for ((pull, &value), slope) in cotangent.into_iter().zip(values).zip(slopes) {
                        let rise = slope.level + slope.spread * (f64::from(value) - slope.mean);
                        *pull = narrow(-rise);
                    }
                });
            (*input, cotangent)
        };
        self.0.iter().map(of).collect()
    }
}
