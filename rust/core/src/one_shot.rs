//! The one-shot baseline: the original saliency order (Srinivas and Babu, 2015).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::error::{Poll, Result};
use crate::impact::Pair;
use crate::network::{Group, Network};
use crate::saliency::{Candidate, Saliency};

/// A candidate in the order (saliency, nominee, delegate).
#[derive(PartialEq)]
struct Ordered(Candidate);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.0, &other.0);
        let pairs = a.pair.nominee.cmp(&b.pair.nominee).then(a.pair.delegate.cmp(&b.pair.delegate));
        a.saliency.total_cmp(&b.saliency).then(pairs)
    }
}

/// The first `count` pairs of the original saliency order whose units are both still there.
///
/// Only each nominee's next pair is held, not the order of all n^2: when a delegate is gone, the
/// nominee's cheapest pair with a unit that is left takes its place.
pub fn order(
    network: &Network,
    group: &Group,
    saliency: &mut Saliency,
    count: usize,
    poll: &mut Poll<'_>,
) -> Result<Vec<Pair>> {
    let mut live = vec![true; group.units];
    let mut heap: BinaryHeap<Reverse<Ordered>> = saliency
        .candidates(network, group, &live, &live, poll)?
        .into_iter()
        .map(|candidate| Reverse(Ordered(candidate)))
        .collect();
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        poll.check()?;
        let Some(Reverse(Ordered(candidate))) = heap.pop() else { break };
        let Pair { nominee, delegate } = candidate.pair;
        if !live[nominee] {
            continue;
        }
        if live[delegate] {
            live[nominee] = false;
            chosen.push(candidate.pair);
        } else if let Some(next) = saliency.candidate(network, group, nominee, &live) {
            heap.push(Reverse(Ordered(next)));
        }
    }
    Ok(chosen)
}

/// The pairs with every delegate replaced by the unit that finally holds its outgoing weights.
pub fn with_final_delegates(pairs: &[Pair]) -> Vec<Pair> {
    let mut heir: std::collections::HashMap<usize, usize> = std::collections::HashMap::new();
    let mut settled: Vec<Pair> = pairs
        .iter()
        .rev()
        .map(|pair| {
            // Later merges are known already: their nominees point to their final heirs.
            let delegate = heir.get(&pair.delegate).copied().unwrap_or(pair.delegate);
            heir.insert(pair.nominee, delegate);
            Pair { nominee: pair.nominee, delegate }
        })
        .collect();
    settled.reverse();
    settled
}
