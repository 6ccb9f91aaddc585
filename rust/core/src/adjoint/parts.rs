//! The parts of an enclosure's deviation: where each arose, and the ellipsoid it has become.

use std::collections::HashMap;
use std::sync::Arc;

use super::ellipsoid::{Pulled, Shape, Shapes};
use super::enclosure::{Enclosure, slack};
use super::{Norms, SpectralNorms};
use crate::interval::{Interval, product as times};
use crate::network::{Network, NodeId, Op};

/// What deviation arose at one activation, and what all of it was there.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The activation.
    pub(super) birth: NodeId,
    /// What has become of a ball around there.
    pub(super) shape: Shape,
    /// L2 norms of what arose, one a row.
    pub(super) fresh: Vec<f64>,
    /// L2 norms of all deviation there, one a row.
    pub(super) total: Vec<f64>,
}

/// What enclosures of one network's Jacobian share.
#[derive(Debug)]
pub(crate) struct Tools {
    norms: HashMap<NodeId, Arc<Norms>>,
    pub(super) shapes: Option<Shapes>,
    /// Where every node is met once, so that norms can be those of what matters there: what is
    /// known of wide kernels' norms.
    spectral: Option<SpectralNorms>,
}

impl Tools {
    /// Balls only, or ellipsoids too: they cost products of square matrices.
    pub(crate) fn new(ellipsoids: bool) -> Self {
        Self { norms: HashMap::new(), shapes: ellipsoids.then(Shapes::default), spectral: None }
    }

    /// Balls only, for rows that meet every node once.
    pub(crate) fn once(spectral: SpectralNorms) -> Self {
        Self { spectral: Some(spectral), ..Self::new(false) }
    }

    /// What is known of wide kernels' norms now.
    pub(crate) fn into_spectral(self) -> SpectralNorms {
        self.spectral.unwrap_or_default()
    }

    /// The norms of a node's op; `active` tells for which of its outputs, if it is asked.
    pub(super) fn norms(
        &mut self,
        network: &Network,
        id: NodeId,
        active: impl FnOnce() -> Vec<usize>,
    ) -> Arc<Norms> {
        let node = network.node(id);
        match (&node.op, &mut self.spectral) {
            // Units that are gone keep their weights until the end; no row asks for them.
            (Op::Dense(layer), Some(spectral)) if layer.kernel.ncols() == node.len() => {
                Arc::new(spectral.norms(id, layer.kernel.view(), &active()))
            }
            _ => {
                let make = || Arc::new(Norms::of(network, id));
                Arc::clone(self.norms.entry(id).or_insert_with(make))
            }
        }
    }
}

impl Enclosure {
    pub(super) fn parts_through_slopes(
        &self,
        id: NodeId,
        anywhere: Interval,
        tools: &mut Tools,
    ) -> Vec<Part> {
        let Some(shapes) = tools.shapes.as_mut() else { return Vec::new() };
        let moved = self.parts.iter().map(|part| {
            let shape = shapes.through_slopes((part.birth, id), &part.shape, anywhere)?;
            Some(Part { shape, ..part.clone() })
        });
        moved.collect::<Option<Vec<Part>>>().unwrap_or_default()
    }

    /// Bound what the parts allow by a factor for each: everything that was at one birth, and what
    /// arose after it.
    pub(super) fn by_parts(&self, row: usize, factors: &[f64]) -> f64 {
        let (mut least, mut later) = (f64::INFINITY, 0.0);
        for (part, &factor) in self.parts.iter().zip(factors) {
            least = least.min((later + times(part.total[row], factor)) * slack(2));
            later = (later + times(part.fresh[row], factor)) * slack(2);
        }
        least
    }

    /// What a dense op in a chain does to the parts' shapes; `None` where it is none.
    pub(super) fn parts_through(
        &self,
        network: &Network,
        id: NodeId,
        tools: &mut Tools,
    ) -> Option<Vec<Pulled>> {
        let node = network.node(id);
        let Op::Dense(layer) = &node.op else { return None };
        if self.parts.is_empty() || layer.kernel.ncols() != node.len() {
            return None;
        }
        let shapes = tools.shapes.as_mut()?;
        let further = !matches!(network.node(node.sources[0]).op, Op::Input);
        let through = |part: &Part| {
            shapes.through_kernel((part.birth, id), &part.shape, layer.kernel.view(), further)
        };
        Some(self.parts.iter().map(through).collect())
    }

    /// The parts after a linear op: kept in a chain, else forgotten.
    pub(super) fn parts_after(
        &self,
        network: &Network,
        id: NodeId,
        pulled: Option<&[Pulled]>,
        tools: &mut Tools,
    ) -> Vec<Part> {
        let node = network.node(id);
        if let Some(pulled) = pulled {
            let moved = self.parts.iter().zip(pulled).map(|(part, pulled)| {
                Some(Part { shape: Arc::clone(pulled.shape.as_ref()?), ..part.clone() })
            });
            return moved.collect::<Option<Vec<Part>>>().unwrap_or_default();
        }
        match (&node.op, tools.shapes.as_mut()) {
            (Op::Reshape | Op::Identity, Some(_)) => self.parts.clone(),
            (Op::BatchNormalization(_, affine) | Op::Affine(affine), Some(shapes))
                if affine.scale.len() == node.len() =>
            {
                let moved = self.parts.iter().map(|part| {
                    let shape = shapes.through_scale((part.birth, id), &part.shape, &affine.scale);
                    Part { shape, ..part.clone() }
                });
                moved.collect()
            }
            _ => Vec::new(),
        }
    }
}
