//! `NetworkBuilder`: one method an op.

use std::collections::HashMap;

use ndarray::Array1;
use nnprune_core::activation::Activation;
use nnprune_core::network::{
    Affine, BatchNormalization, Dense, LayerNormalization, NetworkBuilder as Builder, Op, Padding,
    PoolKind, WindowSpec,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{Values, Weights, flat, kernel, vector};
use crate::errors::{config, to_py};
use crate::network::Network;

/// Collects the ops of a network one by one; see `_core.pyi`.
#[pyclass(module = "nnprune._core")]
#[derive(Default)]
pub(crate) struct NetworkBuilder(Builder);

fn optional(name: &str, weights: Option<&Weights<'_>>) -> PyResult<Option<Array1<f32>>> {
    weights.map(|weights| vector(name, weights)).transpose()
}

fn window(
    size: Vec<usize>,
    strides: Vec<usize>,
    dilation: Vec<usize>,
    padding: &str,
) -> PyResult<WindowSpec> {
    Ok(WindowSpec { size, strides, dilation, padding: Padding::parse(padding).map_err(to_py)? })
}

fn pool_kind(kind: &str) -> PyResult<PoolKind> {
    match kind {
        "max" => Ok(PoolKind::Max),
        "average" => Ok(PoolKind::Average),
        other => Err(config(format!("pool: expected max or average, got {other}"))),
    }
}

pub(crate) fn parse_activation(
    kind: &str,
    parameters: Option<HashMap<String, f64>>,
) -> PyResult<Activation> {
    let parameters: Vec<(String, f64)> = parameters.unwrap_or_default().into_iter().collect();
    Activation::parse(kind, &parameters).map_err(to_py)
}

impl NetworkBuilder {
    fn simple(&mut self, name: &str, source: &str, op: Op) -> PyResult<()> {
        self.0.add(name, &[source], op, None, None).map_err(to_py)
    }
}

#[pymethods]
impl NetworkBuilder {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn shape<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.shape(name).map_err(to_py)?)
    }

    fn input(&mut self, name: &str, shape: Vec<usize>) -> PyResult<()> {
        self.0.add(name, &[], Op::Input, Some(&shape), None).map_err(to_py)
    }

    #[pyo3(signature = (name, source, kernel, bias=None, *, layer=None))]
    fn dense(
        &mut self,
        name: &str,
        source: &str,
        kernel: Weights<'_>,
        bias: Option<Weights<'_>>,
        layer: Option<&str>,
    ) -> PyResult<()> {
        let dense = weights(name, &kernel, bias.as_ref())?;
        if kernel.as_array().ndim() != 2 {
            return Err(config(format!("{name}: expected a kernel with 2 axes")));
        }
        self.0.add(name, &[source], Op::Dense(dense), None, layer).map_err(to_py)
    }

    #[pyo3(signature = (name, source, kernel, bias=None, *, strides, dilation, padding, groups=1, layer=None))]
    #[expect(clippy::too_many_arguments)] // a layer's own options
    fn conv(
        &mut self,
        name: &str,
        source: &str,
        kernel: Weights<'_>,
        bias: Option<Weights<'_>>,
        strides: Vec<usize>,
        dilation: Vec<usize>,
        padding: &str,
        groups: usize,
        layer: Option<&str>,
    ) -> PyResult<()> {
        let window = window(spatial(&kernel), strides, dilation, padding)?;
        let weights = weights(name, &kernel, bias.as_ref())?;
        self.0.conv(name, source, weights, &window, groups, layer).map_err(to_py)
    }

    #[pyo3(signature = (name, source, kernel, bias=None, *, strides, dilation, padding, layer=None))]
    #[expect(clippy::too_many_arguments)] // a layer's own options
    fn depthwise_conv(
        &mut self,
        name: &str,
        source: &str,
        kernel: Weights<'_>,
        bias: Option<Weights<'_>>,
        strides: Vec<usize>,
        dilation: Vec<usize>,
        padding: &str,
        layer: Option<&str>,
    ) -> PyResult<()> {
        let window = window(spatial(&kernel), strides, dilation, padding)?;
        let weights = weights(name, &kernel, bias.as_ref())?;
        self.0.depthwise_conv(name, source, weights, &window, layer).map_err(to_py)
    }

    #[pyo3(signature = (name, source, *, mean, variance, epsilon, gamma=None, beta=None, layer=None))]
    #[expect(clippy::too_many_arguments)] // a layer's own options
    fn batch_normalization(
        &mut self,
        name: &str,
        source: &str,
        mean: Weights<'_>,
        variance: Weights<'_>,
        epsilon: f64,
        gamma: Option<Weights<'_>>,
        beta: Option<Weights<'_>>,
        layer: Option<&str>,
    ) -> PyResult<()> {
        let norm = BatchNormalization {
            gamma: optional(name, gamma.as_ref())?,
            beta: optional(name, beta.as_ref())?,
            mean: vector(name, &mean)?,
            variance: vector(name, &variance)?,
            epsilon,
        };
        self.0.batch_normalization(name, source, norm, layer).map_err(to_py)
    }

    #[pyo3(signature = (name, source, *, epsilon, gamma=None, beta=None, layer=None))]
    fn layer_normalization(
        &mut self,
        name: &str,
        source: &str,
        epsilon: f64,
        gamma: Option<Weights<'_>>,
        beta: Option<Weights<'_>>,
        layer: Option<&str>,
    ) -> PyResult<()> {
        let norm = LayerNormalization {
            gamma: optional(name, gamma.as_ref())?,
            beta: optional(name, beta.as_ref())?,
            epsilon,
        };
        self.0.layer_normalization(name, source, norm, layer).map_err(to_py)
    }

    #[pyo3(signature = (name, source, *, scale, offset))]
    fn affine(
        &mut self,
        name: &str,
        source: &str,
        scale: Values<'_>,
        offset: Values<'_>,
    ) -> PyResult<()> {
        let width = self.0.shape(source).map_err(to_py)?.last().copied().unwrap_or(1);
        let spread = |values: Vec<f64>| match values[..] {
            [only] => vec![only; width],
            _ => values,
        };
        let (scale, offset) = (spread(flat(&scale)), spread(flat(&offset)));
        self.simple(name, source, Op::Affine(Affine::new(scale, offset)))
    }

    #[pyo3(signature = (name, source, kind, *, parameters=None))]
    fn activation(
        &mut self,
        name: &str,
        source: &str,
        kind: &str,
        parameters: Option<HashMap<String, f64>>,
    ) -> PyResult<()> {
        self.simple(name, source, Op::Activation(parse_activation(kind, parameters)?))
    }

    fn softmax(&mut self, name: &str, source: &str) -> PyResult<()> {
        self.simple(name, source, Op::Softmax)
    }

    #[pyo3(signature = (name, source, kind, *, window, strides, padding))]
    fn pool(
        &mut self,
        name: &str,
        source: &str,
        kind: &str,
        window: Vec<usize>,
        strides: Vec<usize>,
        padding: &str,
    ) -> PyResult<()> {
        let dilation = vec![1; window.len()];
        let window = self::window(window, strides, dilation, padding)?;
        self.0.pool(name, source, pool_kind(kind)?, &window).map_err(to_py)
    }

    #[pyo3(signature = (name, source, kind, *, keepdims=false))]
    fn global_pool(
        &mut self,
        name: &str,
        source: &str,
        kind: &str,
        keepdims: bool,
    ) -> PyResult<()> {
        let shape = self.0.shape(source).map_err(to_py)?;
        let mut pooled = vec![1; if keepdims { shape.len() } else { 1 }];
        if let (Some(to), Some(from)) = (pooled.last_mut(), shape.last()) {
            *to = *from;
        }
        let op = Op::GlobalPool(pool_kind(kind)?);
        self.0.add(name, &[source], op, Some(&pooled), None).map_err(to_py)
    }

    fn zero_padding(
        &mut self,
        name: &str,
        source: &str,
        padding: Vec<(usize, usize)>,
    ) -> PyResult<()> {
        self.0.zero_padding(name, source, &padding).map_err(to_py)
    }

    fn reshape(&mut self, name: &str, source: &str, shape: Vec<usize>) -> PyResult<()> {
        self.0.add(name, &[source], Op::Reshape, Some(&shape), None).map_err(to_py)
    }

    fn add(&mut self, name: &str, sources: Vec<String>) -> PyResult<()> {
        self.0.add(name, &borrowed(&sources), Op::Add, None, None).map_err(to_py)
    }

    #[pyo3(signature = (name, sources, axis=-1))]
    fn concatenate(&mut self, name: &str, sources: Vec<String>, axis: isize) -> PyResult<()> {
        let first = sources.first().ok_or_else(|| config(format!("{name}: no sources")))?;
        let axes = self.0.shape(first).map_err(to_py)?.len();
        let axis = if axis < 0 { axes.checked_add_signed(axis) } else { axis.try_into().ok() }
            .filter(|&axis| axis < axes)
            .ok_or_else(|| config(format!("{name}: axis {axis} is out of range")))?;
        self.0.add(name, &borrowed(&sources), Op::Concatenate(axis), None, None).map_err(to_py)
    }

    fn identity(&mut self, name: &str, source: &str) -> PyResult<()> {
        self.simple(name, source, Op::Identity)
    }

    fn opaque(
        &mut self,
        name: &str,
        sources: Vec<String>,
        shape: Vec<usize>,
        reason: String,
    ) -> PyResult<()> {
        self.0.add(name, &borrowed(&sources), Op::Opaque(reason), Some(&shape), None).map_err(to_py)
    }

    fn build(&mut self, outputs: Vec<String>) -> PyResult<Network> {
        let builder = std::mem::take(&mut self.0);
        builder.build(&borrowed(&outputs)).map(Network).map_err(to_py)
    }
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// The kernel's axes without channels.
fn spatial(kernel: &Weights<'_>) -> Vec<usize> {
    let shape = kernel.as_array();
    let shape = shape.shape();
    shape[..shape.len().saturating_sub(2)].to_vec()
}

fn weights(name: &str, weights: &Weights<'_>, bias: Option<&Weights<'_>>) -> PyResult<Dense> {
    Ok(Dense { kernel: kernel(name, weights)?.into(), bias: optional(name, bias)? })
}
