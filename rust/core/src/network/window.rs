//! Geometry of sliding windows: which input positions an output position sees.

use crate::error::{Error, Result};

/// How a window meets the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Only whole windows.
    Valid,
    /// As many outputs as inputs, divided by the stride and rounded up.
    Same,
    /// Padded at the front only (rank 1).
    Causal,
}

impl Padding {
    /// The padding Keras calls `name`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "valid" => Ok(Self::Valid),
            "same" => Ok(Self::Same),
            "causal" => Ok(Self::Causal),
            other => Err(Error::Config {
                field: "padding",
                expected: "valid, same or causal".into(),
                got: other.into(),
            }),
        }
    }
}

/// Longest axis of a tensor or window; products of three of them do not overflow.
const LONGEST_AXIS: usize = 1 << 20;

/// A window over up to three spatial axes; a missing axis has length 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    rank: usize,
    size: [usize; 3],
    strides: [usize; 3],
    dilation: [usize; 3],
    before: [usize; 3],
    input: [usize; 3],
    output: [usize; 3],
}

/// `values` at the end of a triple, ones in front.
fn triple(values: &[usize]) -> [usize; 3] {
    let mut axes = [1; 3];
    axes[3 - values.len()..].copy_from_slice(values);
    axes
}

impl Window {
    /// A window of `size` over an input with the spatial axes `input`.
    ///
    /// `Err` holds the problem in words.
    pub fn new(
        input: &[usize],
        size: &[usize],
        strides: &[usize],
        dilation: &[usize],
        padding: Padding,
    ) -> std::result::Result<Self, String> {
        let rank = input.len();
        if !(1..=3).contains(&rank) {
            return Err(format!("expected 1 to 3 spatial axes, got {rank}"));
        }
        if [size, strides, dilation].iter().any(|v| v.len() != rank || v.contains(&0)) {
            return Err(format!(
                "window {size:?}, strides {strides:?} and dilation {dilation:?} must each be \
                 {rank} positive numbers"
            ));
        }
        if [input, size, strides, dilation].iter().any(|v| v.iter().any(|&n| n > LONGEST_AXIS)) {
            return Err(format!("axes, windows, strides and dilation go up to {LONGEST_AXIS}"));
        }
        if padding == Padding::Causal && rank != 1 {
            return Err(format!("causal padding is for 1 spatial axis, got {rank}"));
        }
        let (input, size) = (triple(input), triple(size));
        let (strides, dilation) = (triple(strides), triple(dilation));
        let (mut before, mut output) = ([0; 3], [1; 3]);
        for axis in 0..3 {
            let reach = (size[axis] - 1) * dilation[axis] + 1;
            let (front, padded) = match padding {
                Padding::Valid => (0, input[axis]),
                Padding::Causal => (reach - 1, input[axis] + reach - 1),
                Padding::Same => {
                    let steps = input[axis].div_ceil(strides[axis]).max(1);
                    let needed = (steps - 1) * strides[axis] + reach;
                    let total = needed.saturating_sub(input[axis]);
                    (total / 2, input[axis] + total)
                }
            };
            if padded < reach {
                return Err(format!(
                    "a window of {reach} does not fit into an axis of length {}",
                    input[axis]
                ));
            }
            before[axis] = front;
            output[axis] = (padded - reach) / strides[axis] + 1;
        }
        Ok(Self { rank, size, strides, dilation, before, input, output })
    }

    /// Spatial axes of the output.
    pub fn output_axes(&self) -> &[usize] {
        &self.output[3 - self.rank..]
    }

    /// Number of output positions.
    pub fn positions(&self) -> usize {
        self.output.iter().product()
    }

    /// Number of positions in one window.
    pub fn taps(&self) -> usize {
        self.size.iter().product()
    }

    /// In how many windows an input position is at most.
    pub fn overlap(&self) -> usize {
        (0..3)
            .map(|axis| {
                let reach = (self.size[axis] - 1) * self.dilation[axis] + 1;
                self.size[axis].min(reach.div_ceil(self.strides[axis]))
            })
            .product()
    }

    /// Whether any window reaches over the border.
    pub fn is_padded(&self) -> bool {
        (0..3).any(|axis| {
            let reach = (self.size[axis] - 1) * self.dilation[axis] + 1;
            let last = (self.output[axis] - 1) * self.strides[axis] + reach;
            self.before[axis] > 0 || last > self.input[axis] + self.before[axis]
        })
    }

    /// The input position under tap number `tap` of output number `position`, unless padding.
    pub fn input_position(&self, position: usize, tap: usize) -> Option<usize> {
        let out = split(position, self.output);
        let tap = split(tap, self.size);
        let mut flat = 0;
        for axis in 0..3 {
            let at = out[axis] * self.strides[axis] + tap[axis] * self.dilation[axis];
            let at = at.checked_sub(self.before[axis])?;
            if at >= self.input[axis] {
                return None;
            }
            flat = flat * self.input[axis] + at;
        }
        Some(flat)
    }

    /// The input positions an output position sees, padding left out.
    pub fn inputs(&self, position: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.taps()).filter_map(move |tap| self.input_position(position, tap))
    }
}

fn split(flat: usize, axes: [usize; 3]) -> [usize; 3] {
    [flat / (axes[1] * axes[2]), flat / axes[2] % axes[1], flat % axes[2]]
}
