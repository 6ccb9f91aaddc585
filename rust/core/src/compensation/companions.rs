//! Laws of the pruned network's values beside the original's: both read the same inputs, so that
//! they have covariances with each other.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Axis};

use super::analytic::{Analytic, Step};
use super::law::{Activated, Covariance, Law, between};
use super::metric::Metric;
use super::moments::Joint;
use super::statistics::Statistics;
use crate::error::{Poll, Result};
use crate::network::{Consumer, Group, Network, NodeId, Op};

/// A node's values in the pruned network.
#[derive(Debug, Clone)]
pub(super) struct Companion {
    pub(super) law: Law,
    /// Covariances of the original's values (rows) with these (columns).
    pub(super) cross: Array2<f64>,
}

impl Companion {
    /// The values of the original themselves, but for those of removed units.
    pub(super) fn of(law: &Law, kept: &[usize]) -> Self {
        let cross = law.matrix();
        Self { law: law.clone(), cross }.select(kept)
    }

    fn select(&self, kept: &[usize]) -> Self {
        let covariance = self.law.matrix().select(Axis(0), kept).select(Axis(1), kept);
        let law = Law {
            means: self.law.means.select(Axis(0), kept),
            covariance: Covariance::Full(covariance),
        };
        Self { law, cross: self.cross.select(Axis(1), kept) }
    }

    fn is_finite(&self) -> bool {
        self.law.is_finite() && self.cross.iter().all(|value| value.is_finite())
    }

    /// Sum over all values of the mean squared difference from the original's.
    fn error(&self, original: &Law) -> f64 {
        let gaps = &self.law.means - &original.means;
        let spread = original.variances() + self.law.variances() - 2.0 * &self.cross.diag();
        spread.mapv(|spread| spread.max(0.0)).sum() + gaps.dot(&gaps)
    }
}

impl Statistics for Analytic<'_> {
    /// Laws that differ from the original's.
    type Known = BTreeMap<NodeId, Companion>;
    type Kept = Companion;

    fn known(&self) -> Self::Known {
        BTreeMap::new()
    }

    fn know(&self, known: &mut Self::Known, _group: &Group, inputs: Vec<(NodeId, Companion)>) {
        known.extend(inputs);
    }

    fn are_finite(&self, id: NodeId) -> bool {
        self.law(id).is_finite()
    }

    fn giver() -> &'static str {
        "the moments give"
    }

    fn covariance(
        &self,
        consumer: &Consumer,
        _units: usize,
        _poll: &mut Poll<'_>,
    ) -> Result<Array2<f64>> {
        Ok(self.read_by(consumer).matrix())
    }

    fn metrics(&self, nodes: &[NodeId], poll: &mut Poll<'_>) -> Result<BTreeMap<NodeId, Metric>> {
        let grams = self.slope_grams(nodes).into_iter();
        grams.map(|(id, gram)| Ok((id, Metric::of_gram(gram, poll)?))).collect()
    }

    fn kept(
        &self,
        known: &Self::Known,
        pruned: &Network,
        inputs: &[NodeId],
        _units: usize,
        kept: &[usize],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Companion>> {
        let each = inputs.iter().map(|&id| {
            Ok(match at(self, known, pruned, id, poll)? {
                Some(companion) => companion.select(kept),
                None => Companion::of(self.law(id), kept),
            })
        });
        each.collect()
    }

    fn joint(
        &self,
        consumer: &Consumer,
        _units: usize,
        kept: &[usize],
        now: Option<&Companion>,
        _poll: &mut Poll<'_>,
    ) -> Result<Option<Joint>> {
        let law = self.read_by(consumer);
        let own = now.is_none().then(|| Companion::of(law, kept));
        let Some(known) = now.or(own.as_ref()) else { return Ok(None) };
        let row = |means: &Array1<f64>| means.clone().insert_axis(Axis(0));
        Ok(known.is_finite().then(|| Joint {
            means: row(&law.means),
            kept_means: row(&known.law.means),
            cross: known.cross.clone(),
            covariance: known.law.matrix(),
        }))
    }

    fn errors_and_variances(
        &self,
        known: &Self::Known,
        pruned: &Network,
        nodes: &[NodeId],
        poll: &mut Poll<'_>,
    ) -> Result<Vec<(f64, f64)>> {
        let each = nodes.iter().map(|&id| {
            let law = self.law(id);
            let companion = at(self, known, pruned, id, poll)?;
            let error = companion.map_or(0.0, |companion| companion.error(law));
            Ok((error, law.variances().sum()))
        });
        each.collect()
    }
}

/// A node's values in the pruned network; none while they are the original's.
fn at(
    original: &Analytic<'_>,
    known: &BTreeMap<NodeId, Companion>,
    pruned: &Network,
    id: NodeId,
    poll: &mut Poll<'_>,
) -> Result<Option<Companion>> {
    poll.check()?;
    if let Some(known) = known.get(&id) {
        return Ok(Some(known.clone()));
    }
    let Some(&source) = pruned.node(id).sources.first() else { return Ok(None) };
    let read = at(original, known, pruned, source, poll)?;
    Ok(read.map(|read| through(original, pruned, id, read)))
}

/// Through the same node in both networks.
fn through(original: &Analytic<'_>, pruned: &Network, id: NodeId, read: Companion) -> Companion {
    let ops = (&original.network.node(id).op, &pruned.node(id).op);
    match (original.step(id), ops) {
        (Step::Dense, (Op::Dense(before), Op::Dense(now))) => {
            let kernel = now.kernel.mapv(f64::from);
            Companion {
                cross: between(&before.kernel.mapv(f64::from), &read.cross, &kernel),
                law: read.law.through_dense(&kernel, now.bias.as_ref()),
            }
        }
        (Step::Scaled(map), _) => {
            Companion { law: read.law.through_scaling(map), cross: map.on_both_sides(&read.cross) }
        }
        (Step::Activated(before), _) => {
            let now = Activated::new(before.activation, &read.law);
            Companion { cross: before.covariances_with(&now, &read.cross), law: now.law(&read.law) }
        }
        _ => read,
    }
}
