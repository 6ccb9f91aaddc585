//! Difference rows that stay true from one visit to the next.
//!
//! They depend on a layer's own weights and on what it reads. The first layer's never change, and
//! most of a visit's candidates were candidates of the visit before.

use std::collections::{HashMap, HashSet};

use super::Pair;
use super::row::Row;

/// The rows of some pairs of one layer, by consumer.
#[derive(Debug, Clone, Default)]
pub struct KnownRows {
    consumers: Vec<HashMap<Pair, Vec<Row>>>,
    /// Whether they have their moments.
    moments: bool,
}

impl KnownRows {
    /// The layer's weights, or what it reads, have changed.
    pub fn forget(&mut self) {
        self.consumers.clear();
    }

    /// The pairs whose rows a consumer does not know yet.
    pub(super) fn missing(&mut self, consumer: usize, pairs: &[Pair], moments: bool) -> Vec<Pair> {
        if moments && !self.moments {
            self.consumers.clear();
            self.moments = true;
        }
        if self.consumers.len() <= consumer {
            self.consumers.resize_with(consumer + 1, HashMap::new);
        }
        let known = &self.consumers[consumer];
        pairs.iter().copied().filter(|pair| !known.contains_key(pair)).collect()
    }

    /// Add rows: of each pair one a position.
    pub(super) fn add(&mut self, consumer: usize, pairs: Vec<Pair>, rows: Vec<Vec<Row>>) {
        self.consumers[consumer].extend(pairs.into_iter().zip(rows));
    }

    /// A pair's rows, one a position.
    pub(super) fn of(&self, consumer: usize, pair: Pair) -> &[Row] {
        self.consumers[consumer].get(&pair).map_or(&[], Vec::as_slice)
    }

    /// Forget all but these pairs: no run holds more than its last candidates.
    pub(super) fn keep(&mut self, pairs: &[Pair]) {
        let kept: HashSet<Pair> = pairs.iter().copied().collect();
        for known in &mut self.consumers {
            known.retain(|pair, _| kept.contains(pair));
        }
    }

    /// Whether rows come with their moments.
    pub(super) fn moments(&self) -> bool {
        self.moments
    }
}
