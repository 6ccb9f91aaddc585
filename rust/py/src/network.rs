//! `Network`: what a graph is made of, and every quantity of the method by itself.

use std::collections::BTreeMap;

use ndarray::{Array2, CowArray, Ix2};
use nnprune_core::bounds::{Bounds, InputBox};
use nnprune_core::config::{BiasTerm, Change, InversionConfig, Outgoing};
use nnprune_core::error::{Poll, Result};
use nnprune_core::forward::{Feeds, forward};
use nnprune_core::gradient::gradient;
use nnprune_core::impact::{self, KnownRows, Pair, Scoring, Step};
use nnprune_core::interval::Intervals;
use nnprune_core::inversion::invert;
use nnprune_core::network::{self, Group};
use nnprune_core::saliency::Saliency;
use nnprune_core::sensitivity::{Sensitivity, SpectralNorms};
use nnprune_core::{merge, one_shot};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arrays::{Ends, Values, Weights, ends, input_box, samples, samples_out};
use crate::errors::{config, to_py};
use crate::gate::enter;

/// A validated graph of typed ops; see `_core.pyi`.
#[pyclass(frozen, module = "nnprune._core")]
pub(crate) struct Network(pub(crate) network::Network);

/// One op of a network.
#[pyclass(frozen, get_all, module = "nnprune._core")]
pub(crate) struct NodeInfo {
    name: String,
    kind: &'static str,
    layer: String,
    sources: Vec<String>,
    shape: Py<PyTuple>,
    parameters: usize,
    macs: usize,
}

/// The units of one layer.
#[pyclass(frozen, get_all, module = "nnprune._core")]
pub(crate) struct GroupInfo {
    layer: String,
    node: String,
    units: usize,
    consumers: Vec<String>,
    path: Vec<String>,
    reason: Option<String>,
}

pub(crate) fn parse_outgoing(name: &str) -> PyResult<Outgoing> {
    match name {
        "l2" => Ok(Outgoing::L2),
        "mean_abs" => Ok(Outgoing::MeanAbsolute),
        other => Err(config(format!("outgoing: expected l2 or mean_abs, got {other}"))),
    }
}

pub(crate) fn parse_bias(name: &str) -> PyResult<BiasTerm> {
    match name {
        "absolute" => Ok(BiasTerm::Absolute),
        "relative" => Ok(BiasTerm::Relative),
        other => Err(config(format!("bias: expected absolute or relative, got {other}"))),
    }
}

impl Network {
    fn names(&self, ids: &[network::NodeId]) -> Vec<String> {
        ids.iter().map(|&id| self.0.node(id).name.clone()).collect()
    }

    fn ids(&self, names: &[String]) -> PyResult<Vec<network::NodeId>> {
        names.iter().map(|name| self.0.find(name).map_err(to_py)).collect()
    }

    /// Samples of nodes, each of its node's shape.
    fn samples<'a>(
        &self,
        values: &'a BTreeMap<String, Weights<'_>>,
    ) -> PyResult<Vec<(network::NodeId, CowArray<'a, f32, Ix2>)>> {
        let each = values.iter().map(|(name, values)| {
            let id = self.0.find(name).map_err(to_py)?;
            Ok((id, samples(name, &self.0.node(id).shape, values)?))
        });
        each.collect()
    }

    /// Values of nodes, checked.
    pub(crate) fn feeds<'a>(
        &self,
        values: &'a BTreeMap<String, Weights<'_>>,
    ) -> PyResult<Feeds<'a>> {
        Feeds::new(&self.0, self.samples(values)?).map_err(to_py)
    }

    /// One array for every input, in the input's own shape.
    fn inputs_out<'py>(
        &self,
        py: Python<'py>,
        values: Vec<Array2<f32>>,
    ) -> PyResult<Vec<Bound<'py, PyArrayDyn<f32>>>> {
        let shaped = self.0.inputs().iter().zip(values);
        shaped.map(|(&id, values)| samples_out(py, values, &self.0.node(id).shape)).collect()
    }

    /// Check pairs that are merged one after the other, or (`alone`) each on its own.
    fn pairs(group: &Group, pairs: &[(usize, usize)], alone: bool) -> PyResult<Vec<Pair>> {
        let able: Vec<bool> = (0..group.units)
            .map(|unit| group.consumers.iter().all(|c| c.can_delegate(unit, group.units)))
            .collect();
        let mut gone = vec![false; group.units];
        let mut checked = Vec::with_capacity(pairs.len());
        for &(nominee, delegate) in pairs {
            let inside = nominee < group.units && delegate < group.units;
            if !inside || nominee == delegate || gone[nominee] || gone[delegate] {
                return Err(config(format!(
                    "pairs: ({nominee}, {delegate}) must be two different units that are still \
                     there, below {}",
                    group.units
                )));
            }
            if !able[delegate] {
                return Err(config(format!(
                    "pairs: unit {delegate} is no delegate: a normalization after it has gain 0"
                )));
            }
            gone[nominee] = !alone;
            checked.push(Pair { nominee, delegate });
        }
        Ok(checked)
    }

    fn bounds(&self, input_box: &InputBox, poll: &mut Poll<'_>) -> Result<Bounds> {
        Bounds::propagate(&self.0, input_box, &vec![true; self.0.nodes().len()], poll)
    }
}

#[pymethods]
impl Network {
    #[getter]
    fn nodes(&self, py: Python<'_>) -> PyResult<Vec<NodeInfo>> {
        (0..self.0.nodes().len())
            .map(|id| {
                let node = self.0.node(id);
                Ok(NodeInfo {
                    name: node.name.clone(),
                    kind: node.op.kind(),
                    layer: node.layer.clone(),
                    sources: self.names(&node.sources),
                    shape: PyTuple::new(py, &node.shape)?.unbind(),
                    parameters: node.parameters(),
                    macs: self.0.macs(id),
                })
            })
            .collect()
    }

    #[getter]
    fn groups(&self) -> Vec<GroupInfo> {
        self.0
            .groups()
            .into_iter()
            .map(|group| {
                let consumers: Vec<_> = group.consumers.iter().map(|c| c.node).collect();
                let mut path: Vec<_> =
                    group.consumers.iter().flat_map(|c| c.path.iter().copied()).collect();
                path.sort_unstable();
                path.dedup();
                GroupInfo {
                    node: self.0.node(group.producer).name.clone(),
                    layer: group.layer,
                    units: group.units,
                    consumers: self.names(&consumers),
                    path: self.names(&path),
                    reason: group.reason,
                }
            })
            .collect()
    }

    #[getter]
    fn inputs(&self) -> Vec<String> {
        self.names(self.0.inputs())
    }

    #[getter]
    fn outputs(&self) -> Vec<String> {
        self.names(self.0.outputs())
    }

    #[getter]
    fn logits(&self) -> Vec<String> {
        self.names(&self.0.logits())
    }

    fn weights<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
        let node = self.0.node(self.0.find(name).map_err(to_py)?);
        let weights = PyDict::new(py);
        for (key, values) in node.op.weights() {
            weights.set_item(key, values.as_standard_layout().into_owned().into_pyarray(py))?;
        }
        Ok(weights)
    }

    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        inputs: Vec<Values<'py>>,
    ) -> PyResult<Vec<Bound<'py, PyArrayDyn<f64>>>> {
        let point = input_box(&self.0, &inputs, &inputs)?;
        let values = enter(py, |poll| Bounds::evaluate(&self.0, &point, poll))?;
        self.0
            .outputs()
            .iter()
            .map(|&id| {
                values.of(id).lower.clone().into_pyarray(py).reshape(self.0.node(id).shape.clone())
            })
            .collect()
    }

    fn forward<'py>(
        &self,
        py: Python<'py>,
        inputs: BTreeMap<String, Weights<'py>>,
        nodes: Vec<String>,
    ) -> PyResult<Vec<Bound<'py, PyArrayDyn<f32>>>> {
        let feeds = self.feeds(&inputs)?;
        let wanted = self.ids(&nodes)?;
        let values = enter(py, |poll| forward(&self.0, &feeds, &wanted, poll))?;
        let shaped = wanted.iter().zip(values);
        shaped.map(|(&id, values)| samples_out(py, values, &self.0.node(id).shape)).collect()
    }

    fn gradient<'py>(
        &self,
        py: Python<'py>,
        inputs: BTreeMap<String, Weights<'py>>,
        cotangents: BTreeMap<String, Weights<'py>>,
    ) -> PyResult<Vec<Bound<'py, PyArrayDyn<f32>>>> {
        let feeds = self.feeds(&inputs)?;
        let cotangents: Vec<_> = self
            .samples(&cotangents)?
            .into_iter()
            .map(|(id, values)| (id, values.into_owned()))
            .collect();
        let found = enter(py, |poll| gradient(&self.0, &feeds, &cotangents, poll))?;
        self.inputs_out(py, found)
    }

    #[pyo3(signature = (starts, lower, upper, *, images, steps, step_size, vary_steps, confidence, temperature, smoothing, batch_statistics, seed))]
    #[expect(clippy::too_many_arguments)] // Python keywords
    fn invert<'py>(
        &self,
        py: Python<'py>,
        starts: BTreeMap<String, Weights<'py>>,
        lower: Vec<Values<'py>>,
        upper: Vec<Values<'py>>,
        images: Vec<Option<[usize; 3]>>,
        steps: usize,
        step_size: f64,
        vary_steps: bool,
        confidence: f64,
        temperature: f64,
        smoothing: f64,
        batch_statistics: bool,
        seed: u64,
    ) -> PyResult<Vec<Bound<'py, PyArrayDyn<f32>>>> {
        let config = InversionConfig {
            steps,
            step_size,
            vary_steps,
            confidence,
            temperature,
            smoothing,
            batch_statistics,
        };
        let starts = self.feeds(&starts)?;
        let input_box = input_box(&self.0, &lower, &upper)?;
        let found =
            enter(py, |poll| invert(&self.0, &input_box, &starts, &images, &config, seed, poll))?;
        self.inputs_out(py, found)
    }

    fn value_intervals<'py>(
        &self,
        py: Python<'py>,
        lower: Vec<Values<'py>>,
        upper: Vec<Values<'py>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let input_box = input_box(&self.0, &lower, &upper)?;
        let bounds = enter(py, |poll| self.bounds(&input_box, poll))?;
        let values = PyDict::new(py);
        for (id, node) in self.0.nodes().iter().enumerate() {
            values.set_item(&node.name, ends(py, bounds.of(id).clone(), &node.shape)?)?;
        }
        Ok(values)
    }

    #[pyo3(signature = (layer, *, outgoing="l2", bias="absolute"))]
    fn saliency<'py>(
        &self,
        py: Python<'py>,
        layer: &str,
        outgoing: &str,
        bias: &str,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (measure, bias) = (parse_outgoing(outgoing)?, parse_bias(bias)?);
        let group = self.0.prunable_group(layer).map_err(to_py)?;
        let matrix = enter(py, |poll| {
            let saliency = Saliency::new(&self.0, &group, measure, bias, poll)?;
            Ok(saliency.matrix(&self.0, &group))
        })?;
        Ok(matrix.into_pyarray(py))
    }

    fn impact<'py>(
        &self,
        py: Python<'py>,
        layer: &str,
        pairs: Vec<(usize, usize)>,
        lower: Vec<Values<'py>>,
        upper: Vec<Values<'py>>,
    ) -> PyResult<Ends<'py>> {
        let group = self.0.prunable_group(layer).map_err(to_py)?;
        // Each pair is scored alone, so that any two units will do.
        let pairs = Self::pairs(&group, &pairs, true)?;
        let input_box = input_box(&self.0, &lower, &upper)?;
        let impacts = enter(py, |poll| {
            let bounds = self.bounds(&input_box, poll)?;
            let sensitivity =
                Sensitivity::of(&self.0, &[&group], &bounds, &mut SpectralNorms::default(), poll)?;
            let (change, bounds, sensitivity) = (Change::Interval, &bounds, &sensitivity);
            let scoring = Scoring { change, bounds, sensitivity };
            impact::candidates(&self.0, &group, &pairs, scoring, &mut KnownRows::default(), poll)
        })?;
        let outputs: usize = self.0.logits().into_iter().map(|id| self.0.node(id).len()).sum();
        let shape = [impacts.len(), outputs];
        let joined = impacts.into_iter().fold(Intervals::default(), |mut all, one| {
            all.lower.extend(one.lower);
            all.upper.extend(one.upper);
            all
        });
        ends(py, joined, &shape)
    }

    fn joint_impact<'py>(
        &self,
        py: Python<'py>,
        layer: &str,
        pairs: Vec<(usize, usize)>,
        lower: Vec<Values<'py>>,
        upper: Vec<Values<'py>>,
    ) -> PyResult<Ends<'py>> {
        let group = self.0.prunable_group(layer).map_err(to_py)?;
        let pairs = Self::pairs(&group, &pairs, false)?;
        let input_box = input_box(&self.0, &lower, &upper)?;
        let joint = enter(py, |poll| {
            let before = self.bounds(&input_box, poll)?;
            let settled = one_shot::with_final_delegates(&pairs);
            let injected = impact::inject(
                &self.0,
                &group,
                &settled,
                &before,
                (None, &mut KnownRows::default()),
                poll,
            )?;
            let mut merged = self.0.clone();
            let changes = merge::merge(&mut merged, &group, &pairs)?;
            let roundings: Vec<_> = changes.into_iter().map(|change| change.rounding).collect();
            let after = before.updated(&merged, &group.downstream, poll)?;
            let step = Step { before: &before, after: &after, sensitivity: None };
            impact::joint(&merged, &group, injected, &roundings, &step, poll)
        })?;
        let len = joint.len();
        ends(py, joint, &[len])
    }

    fn masked(&self, py: Python<'_>, layer: &str, pairs: Vec<(usize, usize)>) -> PyResult<Self> {
        let group = self.0.prunable_group(layer).map_err(to_py)?;
        let pairs = Self::pairs(&group, &pairs, false)?;
        enter(py, |_| {
            let mut masked = self.0.clone();
            merge::merge(&mut masked, &group, &pairs)?;
            Ok(Self(masked))
        })
    }

    fn removed(&self, py: Python<'_>, layer: &str, pairs: Vec<(usize, usize)>) -> PyResult<Self> {
        let group = self.0.prunable_group(layer).map_err(to_py)?;
        let gone = Self::pairs(&group, &pairs, false)?;
        let kept: Vec<usize> =
            (0..group.units).filter(|&unit| gone.iter().all(|pair| pair.nominee != unit)).collect();
        Ok(Self(merge::remove(self.masked(py, layer, pairs)?.0, &group, &kept)))
    }
}

/// Numbers of units for Python.
pub(crate) fn unit_numbers<'py>(
    py: Python<'py>,
    units: &[usize],
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let numbers: std::result::Result<Vec<i64>, _> =
        units.iter().map(|&unit| i64::try_from(unit)).collect();
    Ok(numbers.map_err(|problem| config(problem.to_string()))?.into_pyarray(py))
}
