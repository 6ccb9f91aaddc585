//! The law that is assumed of inputs of which only their box is known.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};

use super::law::{Covariance, Law};
use crate::bounds::InputBox;
use crate::config::require;
use crate::error::{Error, Result};
use crate::interval::Intervals;
use crate::network::{Network, Node, NodeId};

/// Most elements of an input whose elements may be correlated.
const MOST_CORRELATED: usize = 4096;

/// Height, width and channels of an image; none for other inputs.
pub type Axes = Option<[usize; 3]>;

/// Inputs uniform in their box, and correlated in images.
#[derive(Debug, Clone)]
pub struct Prior {
    input_box: InputBox,
    images: Vec<Axes>,
    length: f64,
}

impl Prior {
    /// In the inputs that `images` tells the axes of, the correlation falls to 1/e over `length`
    /// pixels; there is none between channels, nor for a length of 0.
    pub fn new(
        network: &Network,
        input_box: InputBox,
        images: Vec<Axes>,
        length: f64,
    ) -> Result<Self> {
        let possible = length >= 0.0 && length.is_finite();
        require("correlation", "a finite number of pixels of at least 0", length, possible)?;
        let inputs = network.inputs();
        if images.len() != inputs.len() {
            let (expected, got) = (inputs.len(), images.len());
            return Err(wrong(format!("one entry for each of {expected} inputs"), got.to_string()));
        }
        for (&id, axes) in inputs.iter().zip(&images) {
            if let Some(axes) = axes.filter(|_| length > 0.0) {
                check(network.node(id), axes)?;
            }
        }
        Ok(Self { input_box, images, length })
    }

    /// The laws of the inputs that are needed.
    pub(super) fn laws(&self, network: &Network, needed: &[bool]) -> BTreeMap<NodeId, Law> {
        let each = network.inputs().iter().zip(self.input_box.inputs()).zip(&self.images);
        each.filter(|((id, _), _)| needed[**id])
            .map(|((&id, sides), &image)| (id, self.law(sides, image)))
            .collect()
    }

    fn law(&self, sides: &Intervals, image: Axes) -> Law {
        let middle = |(&lower, &upper): (&f64, &f64)| 0.5 * lower + 0.5 * upper;
        let spread = |(&lower, &upper): (&f64, &f64)| (upper - lower) / 12.0_f64.sqrt();
        let means: Array1<f64> = sides.lower.iter().zip(&sides.upper).map(middle).collect();
        let spreads: Array1<f64> = sides.lower.iter().zip(&sides.upper).map(spread).collect();
        let covariance = match image.filter(|_| self.length > 0.0) {
            Some(axes) => {
                let correlation = |(i, j)| {
                    distance(axes, i, j).map_or(0.0, |pixels| libm::exp(-pixels / self.length))
                };
                Covariance::Full(Array2::from_shape_fn((means.len(), means.len()), |(i, j)| {
                    spreads[i] * spreads[j] * correlation((i, j))
                }))
            }
            None => Covariance::Diagonal(&spreads * &spreads),
        };
        Law { means, covariance }
    }
}

/// Pixels between two elements of one channel.
fn distance([_, width, channels]: [usize; 3], i: usize, j: usize) -> Option<f64> {
    let place = |at: usize| (at / channels / width, at / channels % width, at % channels);
    let ((top, left, channel), (bottom, right, other)) = (place(i), place(j));
    let apart = libm::hypot(top.abs_diff(bottom) as f64, left.abs_diff(right) as f64);
    (channel == other).then_some(apart)
}

fn check(node: &Node, axes: [usize; 3]) -> Result<()> {
    let name = &node.name;
    if axes.iter().product::<usize>() != node.len() {
        let expected = format!("axes of the {} elements of input '{name}'", node.len());
        return Err(wrong(expected, format!("{axes:?}")));
    }
    if node.len() > MOST_CORRELATED {
        let expected = format!(
            "at most {MOST_CORRELATED} elements of input '{name}' (a correlation of 0 and sampled \
             statistics take any number)"
        );
        return Err(wrong(expected, node.len().to_string()));
    }
    Ok(())
}

fn wrong(expected: String, got: String) -> Error {
    Error::Config { field: "images", expected, got }
}
