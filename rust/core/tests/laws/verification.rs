//! The second path finds what the first one certified, and never less than what happens.

use nnprune_core::bounds::{InputBox, Tightening};
use nnprune_core::certificate::{NamedMerge, Pairing};
use nnprune_core::error::{Poll, never_stop};
use nnprune_core::impact::Pair;
use nnprune_core::interval::{Interval, Intervals};
use nnprune_core::merge;
use nnprune_core::network::Network;
use nnprune_core::random::Random;
use nnprune_core::verification::recompute;
use proptest::prelude::*;

use crate::networks::{bounds, branches, chain, network, sample};

const SAMPLES: usize = 20;
/// More than rounding alone makes a bound wide, for logits of this size.
const ROUNDING: f64 = 1e-11;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small counts
fn below(random: &mut Random, count: usize) -> usize {
    (random.uniform() * count as f64) as usize
}

/// A network without some random units of its hidden layers, and who took over.
fn pruned(network: &Network, random: &mut Random) -> (Network, Vec<NamedMerge>) {
    let mut smaller = network.clone();
    let mut merges = Vec::new();
    for group in network.groups().iter().filter(|group| group.reason.is_none()) {
        let mut live: Vec<usize> = (0..group.units).collect();
        let mut pairs = Vec::new();
        for _ in 0..below(random, group.units) {
            let nominee = live.swap_remove(below(random, live.len()));
            let delegate = live[below(random, live.len())];
            let able = group.consumers.iter().all(|c| c.can_delegate(delegate, group.units));
            if able {
                pairs.push(Pair { nominee, delegate });
            } else {
                live.push(nominee);
            }
        }
        live.sort_unstable();
        merge::merge(&mut smaller, group, &pairs).unwrap();
        smaller = merge::remove(smaller, group, &live);
        merges.extend(pairs.into_iter().map(|Pair { nominee, delegate }| NamedMerge {
            layer: group.layer.clone(),
            nominee,
            delegate: Some(delegate),
        }));
    }
    (smaller, merges)
}

/// A box around a random point, and points of it.
fn random_box(network: &Network, random: &mut Random, radius: f64) -> Intervals {
    let around = |x: Interval| Interval::new(x.lower - radius, x.lower + radius);
    sample(network, random).iter().map(around).collect()
}

fn corner_or_inside(within: &Intervals, random: &mut Random) -> Intervals {
    within
        .iter()
        .map(|x| {
            let way = random.uniform();
            let way = if random.uniform() < 0.5 { way.round() } else { way };
            let at = (x.lower + way * x.width()).clamp(x.lower, x.upper);
            Interval::new(at, at)
        })
        .collect()
}

fn logits(network: &Network, at: &Intervals) -> Vec<Interval> {
    let values = bounds(network, at.clone());
    network.logits().into_iter().flat_map(|id| values.of(id).iter().collect::<Vec<_>>()).collect()
}

fn contain(found: &Intervals, f: &Network, g: &Network, within: &Intervals, random: &mut Random) {
    for _ in 0..SAMPLES {
        let point = corner_or_inside(within, random);
        let both = logits(f, &point).into_iter().zip(logits(g, &point));
        for ((f, g), range) in both.zip(found.iter()) {
            assert!(range.lower <= g.upper - f.lower && g.lower - f.upper <= range.upper);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_is_recomputed_lies_inside_what_was_certified(
        seed in 0_u64..10_000,
        radius in prop::sample::select(vec![1.0, 0.3, 1e-2, 1e-4]),
        mean_value: bool,
        backward: bool,
        build in prop::sample::select(vec![network as fn(u64) -> Network, chain, branches]),
    ) {
        let network = build(seed);
        let random = &mut Random::from_seed(seed + 7);
        let (smaller, merges) = pruned(&network, random);
        let pairing = Pairing::new(&network, &smaller, &merges).unwrap();
        let within = random_box(&network, random, radius);
        let input_box = InputBox::new(&network, vec![within.clone()]).unwrap();
        let tightening = Tightening { mean_value, backward, ..Tightening::default() };
        let mut go_on = never_stop();
        let poll = &mut Poll::new(&mut go_on);
        let certified = pairing.certify(&input_box, tightening, poll).unwrap().change;
        let found = recompute(&pairing, &input_box, tightening, poll).unwrap();
        for (outer, inner) in certified.iter().zip(found.iter()) {
            let pad = 1e-9 * outer.lower.abs().max(outer.upper.abs());
            prop_assert!(outer.lower - pad <= inner.lower, "{outer:?} {inner:?}");
            prop_assert!(inner.upper <= outer.upper + pad, "{outer:?} {inner:?}");
            // Not inside by being something else; what rounding alone made wide may be narrower.
            prop_assert!(inner.width() >= 0.99 * outer.width() - ROUNDING, "{outer:?} {inner:?}");
        }
        contain(&found, &network, &smaller, &within, random);
    }
}
