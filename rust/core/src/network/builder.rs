//! Building a network node by node: shapes are inferred and everything is checked on the way.

use std::collections::HashMap;

use ndarray::Array1;

use super::op::{
    BatchNormalization, Conv, Dense, DepthwiseConv, LayerNormalization, Op, PoolKind, ZeroPadding,
};
use super::window::{Padding, Window};
use super::{Network, Node, NodeId};
use crate::error::{Error, Result};

/// Most elements a tensor may have; far beyond any memory.
const MOST_ELEMENTS: usize = 1 << 40;

/// Collects nodes in topological order; see the module.
#[derive(Debug, Default, Clone)]
pub struct NetworkBuilder {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

/// Size, strides, dilation and padding of a window, as a layer states them.
#[derive(Debug, Clone)]
pub struct WindowSpec {
    /// Length along each spatial axis.
    pub size: Vec<usize>,
    /// Stride along each spatial axis.
    pub strides: Vec<usize>,
    /// Dilation along each spatial axis.
    pub dilation: Vec<usize>,
    /// How it meets the border.
    pub padding: Padding,
}

impl WindowSpec {
    fn over(&self, input: &[usize]) -> std::result::Result<Window, String> {
        Window::new(input, &self.size, &self.strides, &self.dilation, self.padding)
    }
}

impl NetworkBuilder {
    /// An empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// Output shape of the node called `name`.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.names.get(name).map(|&id| self.nodes[id].shape.as_slice()).ok_or_else(|| {
            Error::Graph { node: name.into(), problem: "no node has this name".into() }
        })
    }

    /// Add an op whose output shape follows from its kind and its sources.
    ///
    /// `shape` is needed for `Input`, `Reshape` and `Opaque` only. `layer` defaults to `name`.
    pub fn add(
        &mut self,
        name: &str,
        sources: &[&str],
        op: Op,
        shape: Option<&[usize]>,
        layer: Option<&str>,
    ) -> Result<()> {
        let problem = |problem: String| Error::Graph { node: name.into(), problem };
        if name.is_empty() || self.names.contains_key(name) {
            return Err(problem("names must be unique and not empty".into()));
        }
        let sources = sources
            .iter()
            .map(|&source| {
                self.names.get(source).copied().ok_or_else(|| {
                    problem(format!("its source '{source}' was not added before it"))
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let layer = layer.unwrap_or(name).to_owned();
        check_finite(&op, &layer)?;
        let shapes: Vec<&[usize]> =
            sources.iter().map(|&id| self.nodes[id].shape.as_slice()).collect();
        let shape = output_shape(&op, &shapes, shape).map_err(|text| {
            if matches!(op, Op::Dense(_) | Op::Conv(_) | Op::DepthwiseConv(_)) {
                Error::Weight { layer: layer.clone(), problem: text }
            } else {
                problem(text)
            }
        })?;
        let elements = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
        if elements.is_none_or(|elements| elements > MOST_ELEMENTS) {
            return Err(problem(format!("its output shape {shape:?} is too large")));
        }
        if shape.contains(&0) {
            return Err(problem(format!("its output shape {shape:?} has no element")));
        }
        self.names.insert(name.into(), self.nodes.len());
        self.nodes.push(Node { name: name.into(), layer, op, sources, shape });
        Ok(())
    }

    /// Add a convolution; `kernel` has its leading axes merged to `taps * inputs per group`.
    pub fn conv(
        &mut self,
        name: &str,
        source: &str,
        weights: Dense,
        window: &WindowSpec,
        groups: usize,
        layer: Option<&str>,
    ) -> Result<()> {
        let window = self.window(name, source, window)?;
        let Dense { kernel, bias } = weights;
        self.add(name, &[source], Op::Conv(Conv { kernel, bias, window, groups }), None, layer)
    }

    /// Add a depthwise convolution; `kernel` has shape `(taps * channels, multiplier)`.
    pub fn depthwise_conv(
        &mut self,
        name: &str,
        source: &str,
        weights: Dense,
        window: &WindowSpec,
        layer: Option<&str>,
    ) -> Result<()> {
        let window = self.window(name, source, window)?;
        let Dense { kernel, bias } = weights;
        let op = Op::DepthwiseConv(DepthwiseConv { kernel, bias, window });
        self.add(name, &[source], op, None, layer)
    }

    /// Add a pooling layer.
    pub fn pool(
        &mut self,
        name: &str,
        source: &str,
        kind: PoolKind,
        window: &WindowSpec,
    ) -> Result<()> {
        let window = self.window(name, source, window)?;
        self.add(name, &[source], Op::Pool(kind, window), None, None)
    }

    /// Add batch normalization over the last axis.
    pub fn batch_normalization(
        &mut self,
        name: &str,
        source: &str,
        norm: BatchNormalization,
        layer: Option<&str>,
    ) -> Result<()> {
        let channels = self.shape(source)?.last().copied().unwrap_or(1);
        let layer_name = layer.unwrap_or(name);
        let optional = [norm.gamma.as_ref(), norm.beta.as_ref()].into_iter().flatten();
        check_lengths(layer_name, channels, optional.chain([&norm.mean, &norm.variance]))?;
        if norm.variance.iter().any(|&v| f64::from(v) + norm.epsilon <= 0.0) {
            return Err(Error::Weight {
                layer: layer_name.into(),
                problem: "variance + epsilon must be positive".into(),
            });
        }
        let affine = norm.affine();
        self.add(name, &[source], Op::BatchNormalization(norm, affine), None, layer)
    }

    /// Add layer normalization over the last axis.
    pub fn layer_normalization(
        &mut self,
        name: &str,
        source: &str,
        norm: LayerNormalization,
        layer: Option<&str>,
    ) -> Result<()> {
        let channels = self.shape(source)?.last().copied().unwrap_or(1);
        let optional = [norm.gamma.as_ref(), norm.beta.as_ref()].into_iter().flatten();
        check_lengths(layer.unwrap_or(name), channels, optional)?;
        if norm.epsilon.is_nan() || norm.epsilon <= 0.0 {
            return Err(Error::Weight {
                layer: layer.unwrap_or(name).into(),
                problem: "epsilon must be positive".into(),
            });
        }
        self.add(name, &[source], Op::LayerNormalization(norm), None, layer)
    }

    /// Add zeros around the spatial axes.
    pub fn zero_padding(
        &mut self,
        name: &str,
        source: &str,
        amounts: &[(usize, usize)],
    ) -> Result<()> {
        let shape = self.shape(source)?;
        let rank = shape.len().saturating_sub(1);
        let most = amounts.iter().map(|&(before, after)| before.max(after)).max();
        if amounts.len() != rank
            || !(1..=3).contains(&rank)
            || most.is_some_and(|most| most > MOST_ELEMENTS)
        {
            return Err(Error::Graph {
                node: name.into(),
                problem: format!("{} paddings for {rank} spatial axes", amounts.len()),
            });
        }
        let mut padding = ZeroPadding { amounts: [(0, 0); 3], input: [1; 3] };
        padding.amounts[3 - rank..].copy_from_slice(amounts);
        padding.input[3 - rank..].copy_from_slice(&shape[..rank]);
        self.add(name, &[source], Op::ZeroPadding(padding), None, None)
    }

    /// Finish: check the outputs.
    pub fn build(self, outputs: &[&str]) -> Result<Network> {
        let outputs = outputs
            .iter()
            .map(|&name| {
                self.names.get(name).copied().ok_or_else(|| Error::Graph {
                    node: name.into(),
                    problem: "an output with this name was never added".into(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let inputs: Vec<NodeId> =
            (0..self.nodes.len()).filter(|&id| matches!(self.nodes[id].op, Op::Input)).collect();
        if inputs.is_empty() || outputs.is_empty() {
            return Err(Error::Graph {
                node: "network".into(),
                problem: "needs at least one input and one output".into(),
            });
        }
        Ok(Network { nodes: self.nodes, inputs, outputs })
    }

    fn window(&self, name: &str, source: &str, spec: &WindowSpec) -> Result<Window> {
        let shape = self.shape(source)?;
        spec.over(&shape[..shape.len().saturating_sub(1)])
            .map_err(|problem| Error::Graph { node: name.into(), problem })
    }
}

fn check_finite(op: &Op, layer: &str) -> Result<()> {
    for (name, values) in op.weights() {
        if let Some((at, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(Error::Weight {
                layer: layer.into(),
                problem: format!(
                    "{name} holds {value} at element {at}; repair or retrain the layer first"
                ),
            });
        }
    }
    if let Some(affine) = op.as_affine()
        && affine.scale.iter().chain(&affine.offset).any(|value| !value.is_finite())
    {
        return Err(Error::Weight {
            layer: layer.into(),
            problem: "its scale or offset is not finite".into(),
        });
    }
    Ok(())
}

fn check_lengths<'a>(
    layer: &str,
    expected: usize,
    weights: impl Iterator<Item = &'a Array1<f32>>,
) -> Result<()> {
    for weight in weights {
        if weight.len() != expected {
            return Err(Error::Weight {
                layer: layer.into(),
                problem: format!("expected weights of length {expected}, got {}", weight.len()),
            });
        }
    }
    Ok(())
}

/// The output shape, or the problem in words.
fn output_shape(
    op: &Op,
    sources: &[&[usize]],
    given: Option<&[usize]>,
) -> std::result::Result<Vec<usize>, String> {
    let wanted = match op {
        Op::Input => 0..=0,
        Op::Add | Op::Concatenate(_) | Op::Opaque(_) => 1..=usize::MAX,
        _ => 1..=1,
    };
    if !wanted.contains(&sources.len()) {
        return Err(format!("{} cannot read {} sources", op.kind(), sources.len()));
    }
    let first = sources.first().copied().unwrap_or(&[]);
    let with_last =
        |leading: &[usize], last: usize| leading.iter().copied().chain([last]).collect::<Vec<_>>();
    let leading = &first[..first.len().saturating_sub(1)];
    let last = first.last().copied().unwrap_or(1);
    match op {
        Op::Input | Op::Opaque(_) => given.map(<[usize]>::to_vec).ok_or("needs a shape".into()),
        Op::Reshape => {
            let shape = given.ok_or("needs a shape")?.to_vec();
            let from = first.iter().product::<usize>();
            let to = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
            (Some(from) == to).then_some(shape).ok_or(format!("cannot make {given:?} of {first:?}"))
        }
        Op::Dense(dense) => {
            check_kernel(dense.kernel.dim(), last, dense.bias.as_ref(), dense.kernel.ncols())?;
            Ok(with_last(leading, dense.kernel.ncols()))
        }
        Op::Conv(conv) => {
            let filters = conv.kernel.ncols();
            if conv.groups == 0 || last % conv.groups != 0 || filters % conv.groups != 0 {
                return Err(format!("{} groups do not divide {last} channels", conv.groups));
            }
            let rows = conv.window.taps() * last / conv.groups;
            check_kernel(conv.kernel.dim(), rows, conv.bias.as_ref(), filters)?;
            Ok(with_last(conv.window.output_axes(), filters))
        }
        Op::DepthwiseConv(conv) => {
            let filters = last * conv.kernel.ncols();
            let rows = conv.window.taps() * last;
            check_kernel(conv.kernel.dim(), rows, conv.bias.as_ref(), filters)?;
            Ok(with_last(conv.window.output_axes(), filters))
        }
        Op::BatchNormalization(_, affine) | Op::Affine(affine) => {
            let expected = affine.scale.len() == last && affine.offset.len() == last;
            expected.then(|| first.to_vec()).ok_or(format!(
                "scale and offset must have length {last}, got {} and {}",
                affine.scale.len(),
                affine.offset.len()
            ))
        }
        Op::Pool(_, window) => Ok(with_last(window.output_axes(), last)),
        Op::GlobalPool(_) => {
            let pooled = given.map_or_else(|| vec![last], <[usize]>::to_vec);
            let fits = pooled.iter().product::<usize>() == last && pooled.last() == Some(&last);
            fits.then_some(pooled).ok_or(format!("pooled channels must be {last}"))
        }
        Op::ZeroPadding(padding) => {
            let rank = leading.len();
            let axes = &padding.amounts[3 - rank..];
            let padded: Vec<usize> =
                leading.iter().zip(axes).map(|(n, (before, after))| n + before + after).collect();
            Ok(with_last(&padded, last))
        }
        Op::Add => {
            if sources.iter().any(|shape| *shape != first) {
                return Err(format!("cannot add shapes {sources:?}"));
            }
            Ok(first.to_vec())
        }
        Op::Concatenate(axis) => concatenated(sources, *axis),
        Op::LayerNormalization(_) | Op::Activation(_) | Op::Softmax | Op::Identity => {
            Ok(first.to_vec())
        }
    }
}

fn check_kernel(
    dim: (usize, usize),
    rows: usize,
    bias: Option<&Array1<f32>>,
    units: usize,
) -> std::result::Result<(), String> {
    if dim.0 != rows || dim.1 == 0 {
        return Err(format!("the kernel must have {rows} rows for its input, got {}", dim.0));
    }
    match bias {
        Some(bias) if bias.len() != units => {
            Err(format!("the bias must have length {units}, got {}", bias.len()))
        }
        _ => Ok(()),
    }
}

fn concatenated(sources: &[&[usize]], axis: usize) -> std::result::Result<Vec<usize>, String> {
    let mut shape = sources[0].to_vec();
    if axis >= shape.len() {
        return Err(format!("axis {axis} is not among the {} axes", shape.len()));
    }
    for other in &sources[1..] {
        let alike = other.len() == shape.len()
            && (0..shape.len()).all(|a| a == axis || other[a] == shape[a]);
        if !alike {
            return Err(format!("cannot concatenate shapes {sources:?} along axis {axis}"));
        }
        shape[axis] += other[axis];
    }
    Ok(shape)
}
