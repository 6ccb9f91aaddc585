//! Inputs found by gradient towards the network's own classes.
//!
//! From each start, steps of steepest ascent on the log-likelihood of a drawn class, kept inside
//! the box: what the network takes for an instance of the class, seen through its weights alone.

use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis, Slice, Zip};

use crate::bounds::InputBox;
use crate::config::InversionConfig;
use crate::error::{Error, Poll, Result};
use crate::forward::{Feeds, narrow};
use crate::gradient::Backward;
use crate::network::{Network, NodeId};
use crate::random::Random;

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

/// The f32 numbers in one side of the box.
#[derive(Clone, Copy)]
struct End {
    lower: f32,
    upper: f32,
    width: f32,
}

impl End {
    /// Where no f32 is inside, the one nearest to the middle.
    fn of(lower: f64, upper: f64) -> Self {
        let (mut low, mut high) = (narrow(lower), narrow(upper));
        if f64::from(low) < lower {
            low = low.next_up();
        }
        if f64::from(high) > upper {
            high = high.next_down();
        }
        if low > high {
            low = narrow(0.5 * lower + 0.5 * upper);
            high = low;
        }
        Self { lower: low, upper: high, width: high - low }
    }
}

/// The box of one input, and how its gradients are smoothed.
struct Side {
    ends: Vec<End>,
    smoothing: Option<Smoothing>,
}

fn sides(
    network: &Network,
    input_box: &InputBox,
    images: &[Image],
    deviation: f64,
) -> Result<Vec<Side>> {
    let inputs = network.inputs();
    if images.len() != inputs.len() {
        let (got, expected) = (images.len(), inputs.len());
        return Err(Error::Values(format!("{got} images are said of {expected} inputs")));
    }
    let each = inputs.iter().zip(input_box.inputs()).zip(images);
    each.map(|((&id, bounds), image)| {
        let node = network.node(id);
        let ends: Vec<End> = bounds.iter().map(|side| End::of(side.lower, side.upper)).collect();
        if let Some(end) = ends.iter().find(|end| !end.width.is_finite()) {
            return Err(Error::Bounds(format!(
                "input '{}': [{}, {}] is too wide for float32",
                node.name, end.lower, end.upper
            )));
        }
        if let Some(axes) = image.filter(|axes| axes.iter().product::<usize>() != node.len()) {
            let len = node.len();
            let name = &node.name;
            return Err(Error::Values(format!("'{name}': {axes:?} is no image of {len} elements")));
        }
        let smoothing =
            image.filter(|_| deviation > 0.0).map(|axes| Smoothing::new(axes, deviation));
        Ok(Side { ends, smoothing })
    })
    .collect()
}

impl Side {
    fn clipped(&self, points: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut points = points.to_owned();
        for mut row in points.rows_mut() {
            for (point, end) in row.iter_mut().zip(&self.ends) {
                *point = point.clamp(end.lower, end.upper);
            }
        }
        points
    }

    /// A gradient in units of the sides, smoothed; sides without width stay out of it.
    fn direct(&self, gradients: &mut Array2<f32>) {
        Zip::from(gradients.rows_mut()).par_for_each(|mut row| {
            for (gradient, end) in row.iter_mut().zip(&self.ends) {
                *gradient *= end.width;
            }
            if let Some(smoothing) = &self.smoothing {
                smoothing.apply(row.view_mut());
                for (gradient, end) in row.iter_mut().zip(&self.ends) {
                    if end.width == 0.0 {
                        *gradient = 0.0;
                    }
                }
            }
        });
    }
}

/// A Gaussian along both axes of an image, its weights adding up to 1 up to the border.
struct Smoothing {
    axes: [usize; 3],
    weights: Vec<f64>,
}

impl Smoothing {
    fn new(axes: [usize; 3], deviation: f64) -> Self {
        let longest = axes[0].max(axes[1]);
        let weight = |distance: usize| {
            let distance = distance as f64 / deviation;
            libm::exp(-0.5 * distance * distance)
        };
        // Beyond four standard deviations nothing is left in f32.
        let near = |&distance: &usize| distance as f64 <= 4.0 * deviation;
        Self { axes, weights: (0..longest).take_while(near).map(weight).collect() }
    }

    fn apply(&self, mut image: ArrayViewMut1<'_, f32>) {
        let [height, width, channels] = self.axes;
        for channel in 0..channels {
            for row in 0..height {
                self.along(&mut image, row * width * channels + channel, channels, width);
            }
            for column in 0..width {
                let first = column * channels + channel;
                self.along(&mut image, first, width * channels, height);
            }
        }
    }

    fn along(&self, image: &mut ArrayViewMut1<'_, f32>, first: usize, stride: usize, len: usize) {
        let line: Vec<f64> = (0..len).map(|at| f64::from(image[first + at * stride])).collect();
        let reach = self.weights.len() - 1;
        for at in 0..len {
            let near = at.saturating_sub(reach)..len.min(at + reach + 1);
            let (mut sum, mut total) = (0.0, 0.0);
            for other in near {
                let weight = self.weights[at.abs_diff(other)];
                sum += weight * line[other];
                total += weight;
            }
            image[first + at * stride] = narrow(sum / total);
        }
    }
}

/// What is drawn for each sample: a class for every row of every head, and its number of steps.
struct Targets {
    classes: Vec<Array2<usize>>,
    steps: Vec<usize>,
    confidence: f64,
    temperature: f64,
}

impl Targets {
    fn draw(
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

    /// `target - softmax(logits / temperature)`, for some samples of a head: the gradient of the
    /// log-likelihood but for a factor, which no step depends on.
    fn cotangent(
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
