//! The typed ops of a network and the weights they own.
//!
//! Kernels are shared by the clones of a network and copied when one of them writes to its own: a
//! pruning changes few of them.

use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayViewD};

use super::window::Window;
use crate::activation::Activation;

/// A kernel that clones of a network share.
pub type Kernel = Arc<Array2<f32>>;

/// Dense layer on the last axis: `y = x W + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Shape `(inputs, units)`.
    pub kernel: Kernel,
    /// Shape `(units,)`.
    pub bias: Option<Array1<f32>>,
}

/// Convolution over one to three spatial axes, channels last.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Shape `(taps * inputs per group, filters)`: the Keras kernel with its leading axes merged.
    pub kernel: Kernel,
    /// Shape `(filters,)`.
    pub bias: Option<Array1<f32>>,
    /// Where the kernel slides.
    pub window: Window,
    /// Number of channel groups.
    pub groups: usize,
}

/// Depthwise convolution: every channel has its own kernels.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthwiseConv {
    /// Shape `(taps * channels, multiplier)`.
    pub kernel: Kernel,
    /// Shape `(channels * multiplier,)`.
    pub bias: Option<Array1<f32>>,
    /// Where the kernel slides.
    pub window: Window,
}

/// Batch normalization at inference, over the last axis.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormalization {
    /// Learned scale.
    pub gamma: Option<Array1<f32>>,
    /// Learned offset.
    pub beta: Option<Array1<f32>>,
    /// Moving mean.
    pub mean: Array1<f32>,
    /// Moving variance.
    pub variance: Array1<f32>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNormalization {
    /// The affine map it is at inference: `y = scale x + offset`.
    pub fn affine(&self) -> Affine {
        let maps: Vec<(f64, (f64, f64))> = (0..self.mean.len())
            .map(|c| {
                let deviation = (f64::from(self.variance[c]) + self.epsilon).sqrt();
                let scale =
                    self.gamma.as_ref().map_or(1.0, |gamma| f64::from(gamma[c])) / deviation;
                let beta = self.beta.as_ref().map_or(0.0, |beta| f64::from(beta[c]));
                let moved = scale * f64::from(self.mean[c]);
                (scale, (beta - moved, beta.abs() + moved.abs()))
            })
            .collect();
        let (scale, parts): (Vec<f64>, Vec<(f64, f64)>) = maps.into_iter().unzip();
        let (offset, size) = parts.into_iter().unzip();
        Affine { scale, offset, size }
    }
}

/// Layer normalization over the last axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormalization {
    /// Learned scale.
    pub gamma: Option<Array1<f32>>,
    /// Learned offset.
    pub beta: Option<Array1<f32>>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Elementwise `y = scale x + offset` along the last axis (Rescaling, Normalization).
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// One scale for each element of the last axis.
    pub scale: Vec<f64>,
    /// One offset for each element of the last axis.
    pub offset: Vec<f64>,
    /// The absolute values that each offset was added up from: what its rounding is relative to.
    pub size: Vec<f64>,
}

impl Affine {
    /// A map whose offsets are exact.
    pub fn new(scale: Vec<f64>, offset: Vec<f64>) -> Self {
        let size = offset.iter().map(|offset| offset.abs()).collect();
        Self { scale, offset, size }
    }
}

/// What a pooling window keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest value.
    Max,
    /// The mean, padding left out.
    Average,
}

/// One operation of the graph.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// An input of the network.
    Input,
    /// See [`Dense`].
    Dense(Dense),
    /// See [`Conv`].
    Conv(Conv),
    /// See [`DepthwiseConv`].
    DepthwiseConv(DepthwiseConv),
    /// See [`BatchNormalization`]; its affine map is kept beside it.
    BatchNormalization(BatchNormalization, Affine),
    /// See [`LayerNormalization`].
    LayerNormalization(LayerNormalization),
    /// See [`Affine`].
    Affine(Affine),
    /// Elementwise activation.
    Activation(Activation),
    /// Softmax over the last axis.
    Softmax,
    /// Pooling by a sliding window.
    Pool(PoolKind, Window),
    /// Pooling over all spatial axes.
    GlobalPool(PoolKind),
    /// Zeros around up to three spatial axes: how many before and after each, and the input axes.
    ZeroPadding(ZeroPadding),
    /// Same elements in the same order under another shape.
    Reshape,
    /// Elementwise sum of all sources.
    Add,
    /// Sources side by side along this axis.
    Concatenate(usize),
    /// Nothing at inference (dropout, noise).
    Identity,
    /// Something the engine does not know; the reason names it.
    Opaque(String),
}

/// Zeros around the spatial axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZeroPadding {
    /// Zeros before and after each axis, missing axes in front without any.
    pub amounts: [(usize, usize); 3],
    /// Spatial axes of the input, missing axes in front of length 1.
    pub input: [usize; 3],
}

impl ZeroPadding {
    /// The output position of every input position, in order.
    pub fn targets(&self) -> impl Iterator<Item = usize> + '_ {
        let out: Vec<usize> =
            (0..3).map(|a| self.input[a] + self.amounts[a].0 + self.amounts[a].1).collect();
        let [depth, height, width] = self.input;
        (0..depth * height * width).map(move |flat| {
            let at = [flat / (height * width), flat / width % height, flat % width];
            (0..3).fold(0, |target, axis| target * out[axis] + at[axis] + self.amounts[axis].0)
        })
    }
}

impl Op {
    /// What kind of op this is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input => "Input",
            Self::Dense(_) => "Dense",
            Self::Conv(_) => "Conv",
            Self::DepthwiseConv(_) => "DepthwiseConv",
            Self::BatchNormalization(..) => "BatchNormalization",
            Self::LayerNormalization(_) => "LayerNormalization",
            Self::Affine(_) => "Affine",
            Self::Activation(_) => "Activation",
            Self::Softmax => "Softmax",
            Self::Pool(..) => "Pool",
            Self::GlobalPool(_) => "GlobalPool",
            Self::ZeroPadding(_) => "ZeroPadding",
            Self::Reshape => "Reshape",
            Self::Add => "Add",
            Self::Concatenate(_) => "Concatenate",
            Self::Identity => "Identity",
            Self::Opaque(_) => "Opaque",
        }
    }

    /// The elementwise affine map this op is, if it is one.
    pub fn as_affine(&self) -> Option<&Affine> {
        match self {
            Self::BatchNormalization(_, affine) | Self::Affine(affine) => Some(affine),
            _ => None,
        }
    }

    /// Whether an elementwise affine map does exactly the same to two elements of its last axis:
    /// maps that are rounded from different parameters may look the same.
    pub fn treats_alike(&self, i: usize, j: usize) -> bool {
        match self {
            Self::Affine(map) => {
                let (i, j) = (i % map.scale.len(), j % map.scale.len());
                map.scale[i] == map.scale[j] && map.offset[i] == map.offset[j]
            }
            Self::BatchNormalization(norm, _) => {
                let (i, j) = (i % norm.mean.len(), j % norm.mean.len());
                let same = |values: &Array1<f32>| values[i] == values[j];
                let optional = [&norm.gamma, &norm.beta];
                same(&norm.mean) && same(&norm.variance) && optional.into_iter().flatten().all(same)
            }
            _ => true,
        }
    }

    /// Kernel and bias of a dense or convolutional op.
    pub fn kernel_and_bias(&self) -> Option<(&Array2<f32>, Option<&Array1<f32>>)> {
        match self {
            Self::Dense(Dense { kernel, bias })
            | Self::Conv(Conv { kernel, bias, .. })
            | Self::DepthwiseConv(DepthwiseConv { kernel, bias, .. }) => {
                Some((kernel, bias.as_ref()))
            }
            _ => None,
        }
    }

    /// Kernel and bias of a dense or convolutional op, to replace or (`Arc::make_mut`) to change.
    pub(crate) fn kernel_and_bias_mut(
        &mut self,
    ) -> Option<(&mut Kernel, &mut Option<Array1<f32>>)> {
        match self {
            Self::Dense(Dense { kernel, bias })
            | Self::Conv(Conv { kernel, bias, .. })
            | Self::DepthwiseConv(DepthwiseConv { kernel, bias, .. }) => Some((kernel, bias)),
            _ => None,
        }
    }

    /// Every weight with its name, in Keras' order.
    pub fn weights(&self) -> Vec<(&'static str, ArrayViewD<'_, f32>)> {
        fn view(weight: Option<&Array1<f32>>) -> Option<ArrayViewD<'_, f32>> {
            weight.map(|weight| weight.view().into_dyn())
        }
        let named: Vec<(&'static str, Option<ArrayViewD<'_, f32>>)> = match self {
            Self::BatchNormalization(norm, _) => vec![
                ("gamma", view(norm.gamma.as_ref())),
                ("beta", view(norm.beta.as_ref())),
                ("mean", view(Some(&norm.mean))),
                ("variance", view(Some(&norm.variance))),
            ],
            Self::LayerNormalization(norm) => {
                vec![("gamma", view(norm.gamma.as_ref())), ("beta", view(norm.beta.as_ref()))]
            }
            _ => self.kernel_and_bias().map_or_else(Vec::new, |(kernel, bias)| {
                vec![("kernel", Some(kernel.view().into_dyn())), ("bias", view(bias))]
            }),
        };
        named.into_iter().filter_map(|(name, values)| Some((name, values?))).collect()
    }
}
