//! The box that inputs stay in, and what becomes of their gradients there.

use ndarray::{Array2, ArrayView2, ArrayViewMut1, Zip};

use super::Image;
use crate::bounds::InputBox;
use crate::error::{Error, Result};
use crate::forward::narrow;
use crate::network::Network;

/// The f32 numbers in one side of the box.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) lower: f32,
    pub(super) upper: f32,
    pub(super) width: f32,
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
pub(super) struct Side {
    pub(super) ends: Vec<End>,
    smoothing: Option<Smoothing>,
}

/// The sides of every input, in the order of [`Network::inputs`].
pub(super) fn sides(
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
    /// The points, each moved to the nearest one inside.
    pub(super) fn clipped(&self, points: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut points = points.to_owned();
        for mut row in points.rows_mut() {
            for (point, end) in row.iter_mut().zip(&self.ends) {
                *point = point.clamp(end.lower, end.upper);
            }
        }
        points
    }

    /// A gradient in units of the sides, smoothed; sides without width stay out of it.
    pub(super) fn direct(&self, gradients: &mut Array2<f32>) {
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
