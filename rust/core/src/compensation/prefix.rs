//! The network pruned so far, layer by layer.

use ndarray::Array1;

use super::config::{Rule, ValidConfig};
use super::delegates::hand_over;
use super::original::{Layer, Original};
use super::refit::{Refit, refit};
use super::statistics::Statistics;
use crate::error::{Poll, Result};
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
    /// Mean squared change of its consumers' outputs, relative to their variance.
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
pub(super) struct Prefix<S: Statistics> {
    pub(super) network: Network,
    known: S::Known,
    /// Whether any unit went yet.
    changed: bool,
}

impl<S: Statistics> Clone for Prefix<S> {
    fn clone(&self) -> Self {
        let (network, known) = (self.network.clone(), self.known.clone());
        Self { network, known, changed: self.changed }
    }
}

impl<S: Statistics> Prefix<S> {
    /// Nothing is pruned yet.
    pub(super) fn new(original: &Original<'_, S>) -> Self {
        let known = original.statistics.known();
        Self { network: original.network.clone(), known, changed: false }
    }

    /// Prune the next layer down to `kept` units and refit what reads them.
    pub(super) fn fit(
        &mut self,
        original: &Original<'_, S>,
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
        let nothing_to_follow = !self.changed || !config.closed_loop;
        if all_stay && (nothing_to_follow || config.rule != Rule::LeastSquares) {
            fit.loss = self.error_at(original, &outputs, poll)?;
            return Ok(fit);
        }
        let inputs: Vec<NodeId> = group.consumers.iter().map(|c| original.input_of(c)).collect();
        let (statistics, known) = (&original.statistics, &self.known);
        let now = statistics.kept(known, &self.network, &inputs, group.units, kept, poll)?;
        match self.refits(original, layer, kept, &now, config, poll)? {
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
        statistics.know(&mut self.known, group, inputs.into_iter().zip(now).collect());
        fit.loss = self.error_at(original, &outputs, poll)?;
        Ok(fit)
    }

    /// Mean squared change of some nodes' values, relative to their variance.
    pub(super) fn error_at(
        &self,
        original: &Original<'_, S>,
        nodes: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<f64> {
        let found =
            original.statistics.errors_and_variances(&self.known, &self.network, nodes, poll)?;
        let sum = |sums: (f64, f64), part: (f64, f64)| (sums.0 + part.0, sums.1 + part.1);
        let (error, variance) = found.into_iter().fold((0.0, 0.0), sum);
        Ok(if variance > 0.0 { error / variance } else { error })
    }

    /// The consumers' weights for the kept units, or, where delegates take over instead, why
    /// (unless the rule asks for it).
    fn refits(
        &self,
        original: &Original<'_, S>,
        layer: &Layer,
        kept: &[usize],
        now: &[S::Kept],
        config: &ValidConfig,
        poll: &mut Poll<'_>,
    ) -> Result<std::result::Result<Vec<Refit>, Option<String>>> {
        if config.rule != Rule::LeastSquares || layer.obstacle.is_some() {
            let fits = config.rule == Rule::LeastSquares;
            return Ok(Err(layer.obstacle.clone().filter(|_| fits)));
        }
        let group = &layer.group;
        let mut refits = Vec::with_capacity(now.len());
        for (consumer, now) in group.consumers.iter().zip(now) {
            let now = config.closed_loop.then_some(now);
            let name = &self.network.node(consumer.node).name;
            let Some(joint) = original.statistics.joint(consumer, group.units, kept, now, poll)?
            else {
                return Ok(Err(Some(format!("what '{name}' reads is no longer finite"))));
            };
            let Some(outgoing) = original.outgoing(consumer, group.units) else { continue };
            let refit = refit(&outgoing, joint, kept, config.regularisation, poll)?;
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
            *kernel = refit.kernel.mapv(to_f32).into();
            // A consumer without a bias gets one: the shift has nowhere else to go.
            if bias.is_some() || refit.shift.iter().any(|&shift| shift != 0.0) {
                *bias = Some(shifted);
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation)] // Keras stores f32: the rounding is the point
fn to_f32(value: f64) -> f32 {
    value as f32
}
