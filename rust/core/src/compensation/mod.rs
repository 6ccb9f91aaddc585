//! Compensation: removed units re-expressed by all that are kept, by least squares.
//!
//! Statistics are those of samples, or Gaussian moments taken through the layers from a box.
//!
//! Every unit of the original is regressed on the kept units of the network pruned so far, and the
//! next layers' weights read the regression instead. With C the covariance of the units,
//! `B = C_xK (C_KK + ridge)^-1` and `V' = V B`; Neuron Merging and the sum that a delegate takes
//! are the cases of one 1 in each row of B.

mod allocation;
mod analytic;
mod cholesky;
mod companions;
mod config;
mod delegates;
mod elimination;
mod given;
mod law;
mod metric;
mod moments;
mod original;
mod outgoing;
mod prefix;
mod prior;
mod products;
mod refit;
mod sampled;
mod search;
mod slopes;
mod statistics;
mod swept;
mod triangular;

pub use config::{Allocation, Config, Rule, Selection, ValidConfig};
pub use elimination::Elimination;
pub use given::{elimination, search_from, solve_regularised};
pub use prefix::LayerFit;
pub use prior::{Axes, Prior};
pub use refit::{Regularisation, Towards};
pub use search::{Found, Search};

use ndarray::{Array1, Array2};

use crate::error::{Error, Poll, Result};
use crate::forward::Feeds;
use crate::network::{Group, Network, NodeId};

use allocation::{kept_of, propagated, uniform};
use analytic::Analytic;
use original::{Layer, Original};
use prefix::Prefix;
use sampled::Sampled;
use statistics::Statistics;

/// One network that a compensation made.
#[derive(Debug, Clone)]
pub struct Compensated {
    /// The fraction that was to go; none where the kept units were given.
    pub target: Option<f64>,
    /// The physically smaller network.
    pub network: Network,
    /// What became of each pruned layer, in forward order.
    pub layers: Vec<LayerFit>,
    /// Mean squared change of the logits on the samples, relative to their variance.
    pub loss: f64,
}

/// How far the search for kept units is, over all layers and targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchProgress {
    /// Searches that are done.
    pub done: usize,
    /// Searches in all.
    pub searches: usize,
    /// Moves made in this one.
    pub moves: usize,
}

/// Who looks on.
pub struct Observer<'a> {
    /// Sees every layer once it is pruned, with its target; `false` stops the compensation.
    pub on_layer: &'a mut dyn FnMut(Option<f64>, &LayerFit) -> bool,
    /// Whether the search goes on: `false` ends the one that is running.
    pub keeps_searching: &'a mut dyn FnMut(SearchProgress) -> bool,
}

/// What statistics are taken from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The network's values on samples.
    Samples(&'a Feeds<'a>),
    /// Gaussian moments, from what is assumed of the inputs: for chains of dense layers.
    Moments(&'a Prior),
}

/// Means of a node's values, and their covariances, by Gaussian moments from the inputs on.
pub fn moments(
    network: &Network,
    prior: &Prior,
    node: NodeId,
    poll: &mut Poll<'_>,
) -> Result<(Array1<f64>, Array2<f64>)> {
    let analytic = Analytic::new(network, prior, &[node], poll)?;
    let law = analytic.law(node);
    Ok((law.means.clone(), law.matrix()))
}

/// Prune `network` to each target, refitted to what it does by its statistics.
///
/// Orders of removal come from the original's statistics once; each size is then refitted layer by
/// layer. A singular system gets a larger ridge, and a layer whose consumers cannot be refitted
/// the sum that delegates take: both are told in the result.
pub fn compensate<'a>(
    network: &'a Network,
    source: Source<'a>,
    config: &ValidConfig,
    poll: &mut Poll<'_>,
    observer: Observer<'_>,
) -> Result<Vec<Compensated>> {
    let groups = chosen_groups(network, config)?;
    match source {
        Source::Samples(feeds) => {
            let original = Original::new(network, groups, config, poll, |wanted, poll| {
                Sampled::new(network, feeds, wanted, poll)
            })?;
            run(original, config, poll, observer)
        }
        Source::Moments(prior) => {
            let original = Original::new(network, groups, config, poll, |wanted, poll| {
                Analytic::new(network, prior, &wanted, poll)
            })?;
            run(original, config, poll, observer)
        }
    }
}

fn run<S: Statistics>(
    original: Original<'_, S>,
    config: &ValidConfig,
    poll: &mut Poll<'_>,
    observer: Observer<'_>,
) -> Result<Vec<Compensated>> {
    let mut run = Run { original, config, observer, searched: 0 };
    if let Selection::Given(given) = &config.selection {
        let kept: Vec<Vec<usize>> =
            run.original.layers.iter().map(|l| units_of(l, given)).collect();
        return Ok(vec![run.fit(None, &kept, &vec![0; kept.len()], poll)?]);
    }
    config.targets.iter().map(|&target| run.prune_to(target, poll)).collect()
}

/// A compensation under way.
struct Run<'a, 'o, S> {
    original: Original<'a, S>,
    config: &'a ValidConfig,
    observer: Observer<'o>,
    searched: usize,
}

impl<S: Statistics> Run<'_, '_, S> {
    fn prune_to(&mut self, target: f64, poll: &mut Poll<'_>) -> Result<Compensated> {
        let layers = &self.original.layers;
        let counts = match self.config.allocation {
            Allocation::Uniform => uniform(layers, target, self.config.width_multiple),
            Allocation::Propagated => propagated(&self.original, target, self.config, poll)?,
        };
        if layers.iter().zip(&counts).all(|(layer, &count)| layer.group.units == count) {
            return Err(Error::NothingToPrune(format!(
                "target {target} rounds to no unit at all in any layer; ask for more"
            )));
        }
        let (mut kept, mut moves) = (Vec::new(), Vec::new());
        for (at, &count) in counts.iter().enumerate() {
            let found = self.select(at, count, poll)?;
            kept.push(found.kept);
            moves.push(found.moves);
        }
        self.fit(Some(target), &kept, &moves, poll)
    }

    /// The units of a layer to keep.
    fn select(&mut self, at: usize, count: usize, poll: &mut Poll<'_>) -> Result<Found> {
        let layer = &self.original.layers[at];
        let kept = kept_of(layer, count);
        let (Selection::Search(how), Some(ridge)) = (&self.config.selection, layer.ridge) else {
            return Ok(Found { kept, loss: 0.0, moves: 0 });
        };
        let objectives = self.original.objectives(layer, ridge, poll)?;
        let searches = self.original.layers.len() * self.config.targets.len();
        let done = self.searched;
        self.searched += 1;
        let keeps_searching = &mut self.observer.keeps_searching;
        let mut goes_on = |moves| keeps_searching(SearchProgress { done, searches, moves });
        let seed = self.config.seed.wrapping_add((done as u64) << 32);
        search::search(&objectives, &kept, how, seed, &mut goes_on, poll)
    }

    /// Prune and refit layer after layer.
    fn fit(
        &mut self,
        target: Option<f64>,
        kept: &[Vec<usize>],
        moves: &[usize],
        poll: &mut Poll<'_>,
    ) -> Result<Compensated> {
        let mut prefix = Prefix::new(&self.original);
        let mut layers = Vec::with_capacity(kept.len());
        for ((layer, kept), &moves) in self.original.layers.iter().zip(kept).zip(moves) {
            let mut fit = prefix.fit(&self.original, layer, kept, self.config, poll)?;
            fit.moves = moves;
            if !(self.observer.on_layer)(target, &fit) {
                return Err(Error::Interrupted);
            }
            layers.push(fit);
        }
        let logits = self.original.network.logits();
        let loss = prefix.error_at(&self.original, &logits, poll)?;
        Ok(Compensated { target, network: prefix.network, layers, loss })
    }
}

/// The groups to prune, with given kept units checked.
fn chosen_groups(network: &Network, config: &ValidConfig) -> Result<Vec<Group>> {
    let Selection::Given(given) = &config.selection else {
        return network.prunable_groups(&config.layers);
    };
    let layers: Vec<String> = given.iter().map(|(layer, _)| layer.clone()).collect();
    let groups = network.prunable_groups(&layers)?;
    for (layer, kept) in given {
        let units = network.prunable_group(layer)?.units;
        let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
        if kept.is_empty() || !ascending || kept.iter().any(|&unit| unit >= units) {
            return Err(Error::Config {
                field: "kept",
                expected: format!("'{layer}': different units from 0 to {}, ascending", units - 1),
                got: format!("{} units, the last {:?}", kept.len(), kept.last()),
            });
        }
    }
    Ok(groups)
}

fn units_of(layer: &Layer, given: &[(String, Vec<usize>)]) -> Vec<usize> {
    let named = given.iter().find(|(name, _)| *name == layer.group.layer);
    named.map_or_else(|| (0..layer.group.units).collect(), |(_, kept)| kept.clone())
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;

    use super::*;
    use crate::activation::Activation;
    use crate::error::never_stop;
    use crate::network::{Dense, NetworkBuilder, Op};

    fn dense(inputs: usize, units: usize) -> Op {
        let weight = |(row, column): (usize, usize)| [0.5, -1.0, 0.25][(row * 2 + column) % 3];
        let kernel = Array2::from_shape_fn((inputs, units), weight);
        Op::Dense(Dense { kernel: kernel.into(), bias: Some(Array1::ones(units)) })
    }

    #[test]
    fn who_sees_a_layer_may_stop_before_the_next() {
        let mut builder = NetworkBuilder::new();
        builder.add("x", &[], Op::Input, Some(&[2]), None).expect("valid");
        let tanh = || Op::Activation(Activation::Tanh);
        for (name, source, op) in [
            ("first", "x", dense(2, 4)),
            ("first bent", "first", tanh()),
            ("second", "first bent", dense(4, 4)),
            ("second bent", "second", tanh()),
            ("out", "second bent", dense(4, 2)),
        ] {
            builder.add(name, &[source], op, None, None).expect("valid");
        }
        let network = builder.build(&["out"]).expect("valid");
        let x = network.find("x").expect("there");
        let points =
            Array2::from_shape_fn((5, 2), |(row, column)| [0.0, 1.0, 0.5][(row + column) % 3]);
        let feeds = Feeds::new(&network, vec![(x, points.into())]).expect("valid");
        let config = Config {
            layers: Vec::new(),
            targets: vec![0.5],
            allocation: Allocation::Uniform,
            width_multiple: 1,
            rule: Rule::LeastSquares,
            regularisation: Regularisation { ridge: 1e-2, towards: Towards::Zero },
            selection_ridge: 1e-3,
            closed_loop: true,
            selection: Selection::Elimination,
            logit_metric: true,
            metrics: Vec::new(),
            seed: 0,
        };
        let config = config.check().expect("valid");
        let mut go_on = never_stop();
        let poll = &mut Poll::new(&mut go_on);
        let mut seen = Vec::new();
        let mut on_layer = |_: Option<f64>, fit: &LayerFit| {
            seen.push(fit.layer.clone());
            false
        };
        let observer = Observer { on_layer: &mut on_layer, keeps_searching: &mut |_| true };
        let stopped = compensate(&network, Source::Samples(&feeds), &config, poll, observer);
        assert_eq!(stopped.err(), Some(Error::Interrupted));
        assert_eq!(seen, ["first"]);
    }
}
