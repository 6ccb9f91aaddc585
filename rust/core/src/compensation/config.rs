//! Checked parameters of a compensation.

use ndarray::Array2;

use super::refit::Regularisation;
use super::search::Search;
use crate::config::{check_width_multiple, kept_units, require};
use crate::error::{Error, Result};

/// Most chains of a search: each holds matrices of all units by all units.
const MOST_CHAINS: usize = 1000;
/// Most that any layer loses to the propagated allocation, as a fraction of its units.
const MOST: f64 = 0.95;
/// Most that a layer loses to it, relative to what it would lose if all lost the same fraction.
const MOST_BY_TARGET: f64 = 1.5;

/// How many units each layer loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// The same fraction of every layer.
    Uniform,
    /// As many parameters in all, taken where the outputs suffer least.
    Propagated,
}

/// What the next layers' weights for the kept units become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Those that reproduce every unit of the original best by all kept ones.
    LeastSquares,
    /// Neuron Merging's (Kim et al., 2020): the kept unit whose incoming weights point most nearly
    /// the same way takes the removed one's, times the ratio of their lengths; the ratio counts as
    /// 1 where an activation is not positively homogeneous.
    Scaled {
        /// Least cosine: a unit less similar to all that are kept just goes.
        threshold: f64,
    },
    /// The paper's: the kept unit of least saliency takes the removed one's as they are.
    Sum,
}

/// Which units stay.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// Those that the optimal brain surgeon's backward order leaves.
    Elimination,
    /// Those that simulated annealing from there on finds.
    Search(Search),
    /// These, for each of these layers; `targets` and `layers` are then empty.
    Given(Vec<(String, Vec<usize>)>),
}

/// What the caller asks for, unchecked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Layers to prune; every prunable one if empty.
    pub layers: Vec<String>,
    /// Fractions of each layer's units to remove, each in `(0, 1)`: one result for each.
    pub targets: Vec<f64>,
    /// How many units each layer loses.
    pub allocation: Allocation,
    /// Numbers of units left are rounded up to a multiple of this, as far as there are units.
    pub width_multiple: usize,
    /// What the next layers' weights become.
    pub rule: Rule,
    /// How the fit of these weights is regularised.
    pub regularisation: Regularisation,
    /// The ridge of the selection, relative to the mean variance.
    pub selection_ridge: f64,
    /// Fit to what the pruned network's units are, not to what the original's were.
    pub closed_loop: bool,
    /// Which units stay.
    pub selection: Selection,
    /// Whether the selection measures changes by what they do to the logits, as far as gradients
    /// tell.
    pub logit_metric: bool,
    /// For consumers, by node, instead: matrices M, shape `(any, outputs)`; the selection measures a change
    /// z of the consumer's output by `||M z||^2`.
    pub metrics: Vec<(String, Array2<f64>)>,
    /// Seed of the search.
    pub seed: u64,
}

/// A [`Config`] whose every value is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidConfig(Config);

impl std::ops::Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Config {
    /// Check every value that can be checked without a network.
    pub fn check(self) -> Result<ValidConfig> {
        for &target in &self.targets {
            let inside = target > 0.0 && target < 1.0;
            require("targets", "fractions between 0 and 1, both excluded", target, inside)?;
        }
        for (field, ridge) in
            [("ridge", self.regularisation.ridge), ("selection_ridge", self.selection_ridge)]
        {
            require(field, "a number in [0, 1000]", ridge, (0.0..=1000.0).contains(&ridge))?;
        }
        if let Rule::Scaled { threshold } = self.rule {
            let cosine = (-1.0..=1.0).contains(&threshold);
            require("threshold", "a cosine in [-1, 1]", threshold, cosine)?;
        }
        check_width_multiple(self.width_multiple)?;
        let is_given = matches!(self.selection, Selection::Given(_));
        if is_given != self.targets.is_empty() || is_given && !self.layers.is_empty() {
            return Err(Error::Config {
                field: "targets",
                expected: "at least one target, or the kept units of each layer and neither \
                           targets nor layers"
                    .into(),
                got: format!("{} targets and {} layers", self.targets.len(), self.layers.len()),
            });
        }
        if let Selection::Search(search) = &self.selection {
            search.energy.check()?;
            let (moves, chains, heat) = (search.moves, search.chains, search.heat);
            require("moves", "an integer of at least 1", moves as f64, moves >= 1)?;
            let few = (1..=MOST_CHAINS).contains(&chains);
            require("chains", "an integer from 1 to 1000", chains as f64, few)?;
            let cools = heat >= 0.0 && heat.is_finite();
            require("heat", "a finite number of at least 0", heat, cools)?;
        }
        Ok(ValidConfig(self))
    }
}

impl ValidConfig {
    /// The fewest units that a layer of so many keeps for a target.
    pub(super) fn fewest_kept(&self, units: usize, target: f64) -> usize {
        let most = match self.allocation {
            Allocation::Uniform => target,
            Allocation::Propagated => (MOST_BY_TARGET * target).min(MOST.max(target)),
        };
        kept_units(units, most, self.width_multiple)
    }

    /// The fewest units that a layer of so many keeps for any target.
    pub(super) fn fewest_kept_of_all(&self, units: usize) -> usize {
        let each = self.targets.iter().map(|&target| self.fewest_kept(units, target));
        each.min().unwrap_or_default()
    }
}
