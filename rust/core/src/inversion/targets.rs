//! What is drawn for each sample, and the pull of its classes on the logits.

use ndarray::{Array2, Axis, Slice};

use crate::config::InversionConfig;
use crate::forward::narrow;
use crate::network::{Network, NodeId};
use crate::random::Random;

/// What is drawn for each sample: a class for every row of every head, and its number of steps.
pub(super) struct Targets {
    classes: Vec<Array2<usize>>,
    pub(super) steps: Vec<usize>,
    confidence: f64,
    temperature: f64,
}

impl Targets {
    /// Draw sample by sample, first its classes and then its number of steps.
    pub(super) fn draw(
        network: &Network,
        logits: &[NodeId],
        samples: usize,
        config: &InversionConfig,
        seed: u64,
    ) -> Self {
        let mut random = Random::from_seed(seed);
        let widths =
            logits.iter().map(|&id| (network.node(id).len(), network.node(id).last_axis()));
        let mut classes: Vec<Array2<usize>> =
            widths.clone().map(|(len, width)| Array2::zeros((samples, len / width))).collect();
        let mut steps = vec![config.steps; samples];
        for (sample, steps) in steps.iter_mut().enumerate() {
            for (classes, (_, width)) in classes.iter_mut().zip(widths.clone()) {
                for class in classes.row_mut(sample) {
                    *class = below(&mut random, width.max(2));
                }
            }
            if config.vary_steps {
                *steps = 1 + below(&mut random, config.steps);
            }
        }
        Self { classes, steps, confidence: config.confidence, temperature: config.temperature }
    }

    /// The steps of the samples that take the most.
    pub(super) fn most_steps(&self) -> usize {
        self.steps.iter().copied().max().unwrap_or(0)
    }

    /// `target - softmax(logits / temperature)`, for some samples of a head: the gradient of the
    /// log-likelihood but for a factor, which no step depends on.
    pub(super) fn cotangent(
        &self,
        head: usize,
        width: usize,
        logits: &Array2<f32>,
        samples: &[usize],
    ) -> Array2<f32> {
        let mut cotangent = Array2::zeros(logits.raw_dim());
        for (row, &sample) in samples.iter().enumerate() {
            for (position, &class) in self.classes[head].row(sample).iter().enumerate() {
                let columns = Slice::from(position * width..(position + 1) * width);
                let logits = logits.row(row);
                let logits: Vec<f64> = logits
                    .slice_axis(Axis(0), columns)
                    .iter()
                    .map(|&z| f64::from(z) / self.temperature)
                    .collect();
                let pull = self.pull(&logits, class);
                let mut target = cotangent.row_mut(row);
                let target = target.slice_axis_mut(Axis(0), columns);
                for (element, pull) in target.into_iter().zip(pull) {
                    *element = narrow(pull);
                }
            }
        }
        cotangent
    }

    fn pull(&self, logits: &[f64], class: usize) -> Vec<f64> {
        if let &[logit] = logits {
            let share = if class == 1 { self.confidence } else { 1.0 - self.confidence };
            return vec![share - 1.0 / (1.0 + libm::exp(-logit))];
        }
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = logits.iter().map(|&z| libm::exp(z - largest)).collect();
        let total: f64 = powers.iter().sum();
        let rest = (1.0 - self.confidence) / (logits.len() - 1) as f64;
        let share = |at: usize| if at == class { self.confidence } else { rest };
        powers.iter().enumerate().map(|(at, power)| share(at) - power / total).collect()
    }
}

/// A whole number below `count`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in [0, count)
fn below(random: &mut Random, count: usize) -> usize {
    ((random.uniform() * count as f64) as usize).min(count - 1)
}
