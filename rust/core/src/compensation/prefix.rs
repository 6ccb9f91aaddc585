//! The network pruned so far, layer by layer, on the samples.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::config::{Rule, ValidConfig};
use super::delegates::hand_over;
use super::original::{Layer, Original};
use super::refit::{Refit, refit};
use crate::error::{Poll, Result};
use crate::forward::{Feeds, forward};
use crate::impact::Pair;
use crate::merge;
use crate::network::{Consumer, Network, NodeId};

/// What became of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerFit {
    /// The layer.
    pub layer: String,
    /// The units that are left, ascending, by their numbers in the original.
    pub kept: Vec<usize>,
    /// Mean squared change of its consumers' outputs on the samples, relative to their variance.
    pub loss: f64,
    /// The largest ridge that a fit took; none where nothing was fitted.
    pub ridge: Option<f64>,
    /// Why delegates took the removed units' weights instead, if so.
    pub fallback: Option<String>,
    /// Who took over from whom, where delegates did.
    pub pairs: Vec<Pair>,
    /// Moves of the search for the kept units.
    pub moves: usize,
}

/// The network with some of its layers pruned.
#[derive(Clone)]
pub(super) struct Prefix {
    pub(super) network: Network,
    feeds: Feeds,
    /// Whether any unit went yet.
    changed: bool,
}

impl Prefix {
    /// Nothing is pruned yet.
    pub(super) fn new(original: &Original<'_>) -> Self {
        Self { network: original.network.clone(), feeds: original.feeds.clone(), changed: false }
    }

    /// Prune the next layer down to `kept` units and refit what reads them.
    pub(super) fn fit(
        &mut self,
        original: &Original<'_>,
        layer: &Layer,
        kept: &[usize],
        config: &ValidConfig,
        poll: &mut Poll<'_>,
    ) -> Result<LayerFit> {
        let group = &layer.group;
        let mut fit = LayerFit {
            layer: group.layer.clone(),
            kept: kept.to_vec(),
            loss: 0.0,
            ridge: None,
            fallback: None,
            pairs: Vec::new(),
            moves: 0,
        };
        let all_stay = kept.len() == group.units;
        let outputs: Vec<NodeId> = group.consumers.iter().map(|consumer| consumer.node).collect();
        if all_stay && (!self.changed || config.rule != Rule::LeastSquares) {
            fit.loss = self.error_at(original, &outputs, poll)?;
            return Ok(fit);
        }
        let inputs: Vec<NodeId> = group.consumers.iter().map(|c| original.input_of(c)).collect();
        let values = forward(&self.network, &self.feeds, &inputs, poll)?;
        let values: Vec<Array2<f32>> =
            values.into_iter().map(|values| of_units(&values, group.units, kept)).collect();
        match self.refits(original, layer, kept, &values, config, poll)? {
            Ok(refits) => {
                fit.ridge = refits.iter().map(|refit| refit.ridge).reduce(f64::max);
                self.network = merge::remove(self.network.clone(), group, kept);
                for (consumer, refit) in group.consumers.iter().zip(refits) {
                    self.write(consumer.node, refit);
                }
            }
            Err(reason) => {
                fit.fallback = reason;
                (self.network, fit.pairs) =
                    hand_over(&self.network, group, kept, config.rule, poll)?;
            }
        }
        self.changed = true;
        for (id, values) in inputs.into_iter().zip(values) {
            self.feeds.know(id, values);
        }
        fit.loss = self.error_at(original, &outputs, poll)?;
        Ok(fit)
    }

    /// Mean squared change of some nodes' values, relative to their variance.
    pub(super) fn error_at(
        &self,
        original: &Original<'_>,
        nodes: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<f64> {
        let values = forward(&self.network, &self.feeds, nodes, poll)?;
        let (mut errors, mut variances) = (0.0, 0.0);
        for (&id, values) in nodes.iter().zip(&values) {
            let width = self.network.node(id).last_axis();
            let (error, variance) = error_and_variance(original.values(id), values, width);
            errors += error;
            variances += variance;
        }
        Ok(if variances > 0.0 { errors / variances } else { errors })
    }

    /// The consumers' weights for the kept units, or, where delegates take over instead, why
    /// (unless the rule asks for it).
    fn refits(
        &self,
        original: &Original<'_>,
        layer: &Layer,
        kept: &[usize],
        values: &[Array2<f32>],
        config: &ValidConfig,
        poll: &mut Poll<'_>,
    ) -> Result<std::result::Result<Vec<Refit>, Option<String>>> {
        if config.rule != Rule::LeastSquares || layer.obstacle.is_some() {
            let fits = config.rule == Rule::LeastSquares;
            return Ok(Err(layer.obstacle.clone().filter(|_| fits)));
        }
        let group = &layer.group;
        let mut refits = Vec::with_capacity(values.len());
        for (consumer, values) in group.consumers.iter().zip(values) {
            let known = original.values(original.input_of(consumer));
            let target = original.units(consumer, group.units, known, group.units)?;
            let own;
            let source = if config.closed_loop {
                values
            } else {
                own = of_units(known, group.units, kept);
                &own
            };
            let source = original.units(consumer, group.units, source, kept.len())?;
            let name = &self.network.node(consumer.node).name;
            if !source.are_finite() {
                return Ok(Err(Some(format!("what '{name}' reads is no longer finite"))));
            }
            let Some(outgoing) = original.outgoing(consumer, group.units) else { continue };
            let refit = refit(&outgoing, &target, &source, kept, config.regularisation, poll)?;
            if !self.fits(consumer, &refit) {
                let problem = format!("the refitted weights of '{name}' do not fit into float32");
                return Ok(Err(Some(problem)));
            }
            refits.push(refit);
        }
        Ok(Ok(refits))
    }

    /// Whether every refitted weight is finite in f32.
    fn fits(&self, consumer: &Consumer, refit: &Refit) -> bool {
        let bias = self.bias_with(consumer.node, &refit.shift);
        let mut weights = refit.kernel.iter().chain(&bias);
        weights.all(|&weight| to_f32(weight).is_finite())
    }

    fn bias_with(&self, node: NodeId, shift: &Array1<f64>) -> Array1<f64> {
        match self.network.node(node).op.kernel_and_bias() {
            Some((_, Some(bias))) => shift + &bias.mapv(f64::from),
            _ => shift.clone(),
        }
    }

    fn write(&mut self, node: NodeId, refit: Refit) {
        let shifted = self.bias_with(node, &refit.shift).mapv(to_f32);
        if let Some((kernel, bias)) = self.network.node_mut(node).op.kernel_and_bias_mut() {
            *kernel = refit.kernel.mapv(to_f32);
            // A consumer without a bias gets one: the shift has nowhere else to go.
            if bias.is_some() || refit.shift.iter().any(|&shift| shift != 0.0) {
                *bias = Some(shifted);
            }
        }
    }
}

/// The values of the elements that belong to kept units.
fn of_units(values: &Array2<f32>, units: usize, kept: &[usize]) -> Array2<f32> {
    let blocks = 0..values.ncols() / units;
    let elements: Vec<usize> =
        blocks.flat_map(|block| kept.iter().map(move |&unit| block * units + unit)).collect();
    // A selection of columns comes out column by column; samples are kept row by row.
    values.select(Axis(1), &elements).as_standard_layout().into_owned()
}

/// Sum over the last axis of the mean squared difference, and of the variance of `before`.
fn error_and_variance(before: &Array2<f32>, after: &Array2<f32>, width: usize) -> (f64, f64) {
    let (rows, width) = (before.len() / width.max(1), width.max(1));
    let shaped = |values: &Array2<f32>| -> Option<Array2<f64>> {
        let view: ArrayView2<'_, f32> = values.view().into_shape_with_order((rows, width)).ok()?;
        Some(view.mapv(f64::from))
    };
    let (Some(before), Some(after)) = (shaped(before), shaped(after)) else { return (0.0, 0.0) };
    let error = (&after - &before).mapv(|gap| gap * gap).sum() / rows as f64;
    let means = before.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(width));
    let variance = (&before - &means).mapv(|gap| gap * gap).sum() / rows as f64;
    (error, variance)
}

#[expect(clippy::cast_possible_truncation)] // Keras stores f32: the rounding is the point
fn to_f32(value: f64) -> f32 {
    value as f32
}
