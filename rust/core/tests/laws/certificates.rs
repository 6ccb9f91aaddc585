//! Certificates that hold: no input of the box moves an output further than is certified.

use ndarray::Array1;
use nnprune_core::bounds::{Bounds, InputBox, Tightening};
use nnprune_core::certificate::local::margins;
use nnprune_core::certificate::{Certificate, NamedMerge, Pairing};
use nnprune_core::error::{Poll, never_stop};
use nnprune_core::impact::Pair;
use nnprune_core::interval::{Interval, Intervals};
use nnprune_core::merge;
use nnprune_core::network::{Dense, Network, NetworkBuilder, Op};
use nnprune_core::random::Random;
use proptest::prelude::*;

use crate::networks::{bounds, branches, chain, network, symmetric, unit_box};

const SAMPLES: usize = 24;
/// Coordinates that the ascent tries to move to an end of the box.
const STEPS: usize = 12;

fn any_network(seed: u64) -> Network {
    match seed % 4 {
        0 => network(seed / 4),
        1 => branches(seed / 4),
        _ => chain(seed / 4),
    }
}

fn named(layer: &str, pair: Pair) -> NamedMerge {
    let Pair { nominee, delegate } = pair;
    NamedMerge { layer: layer.into(), nominee, delegate: Some(delegate) }
}

/// A number from 0 to `count - 1`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small and not negative
fn below(random: &mut Random, count: usize) -> usize {
    (random.uniform() * count as f64) as usize
}

/// A number of merges in every prunable layer, chained at random, and what they lead to.
fn pruned(network: &Network, random: &mut Random) -> (Network, Vec<NamedMerge>) {
    let mut masked = network.clone();
    let mut merges = Vec::new();
    let mut kept = Vec::new();
    let groups: Vec<_> =
        network.groups().into_iter().filter(|group| group.reason.is_none()).collect();
    for group in &groups {
        let mut live: Vec<usize> = (0..group.units).collect();
        let count = below(random, group.units);
        let mut pairs = Vec::new();
        for _ in 0..count {
            let nominee = live.remove(below(random, live.len()));
            let delegate = live[below(random, live.len())];
            pairs.push(Pair { nominee, delegate });
        }
        merge::merge(&mut masked, group, &pairs).unwrap();
        merges.extend(pairs.into_iter().map(|pair| named(&group.layer, pair)));
        kept.push(live);
    }
    let smaller = groups
        .iter()
        .zip(&kept)
        .fold(masked, |masked, (group, live)| merge::remove(masked, group, live));
    (smaller, merges)
}

fn certified(
    network: &Network,
    smaller: &Network,
    merges: &[NamedMerge],
    x: Intervals,
) -> Certificate {
    let input_box = InputBox::new(network, vec![x]).unwrap();
    let pairing = Pairing::new(network, smaller, merges).unwrap();
    let mut go_on = never_stop();
    pairing.certify(&input_box, Tightening::default(), &mut Poll::new(&mut go_on)).unwrap()
}

/// The logits at a point, as narrow intervals.
fn logits(network: &Network, at: Intervals) -> Intervals {
    let values = bounds(network, at);
    network.logits().into_iter().flat_map(|id| values.of(id).iter().collect::<Vec<_>>()).collect()
}

/// Part of the unit box: whole, small, or a point in some coordinates.
fn some_box(network: &Network, random: &mut Random) -> Intervals {
    let size = [1.0, 0.1, 0.01][below(random, 3)];
    unit_box(network)
        .iter()
        .map(|_| {
            let middle = (2.0 * random.uniform() - 1.0) * (1.0 - size);
            let half = if random.uniform() < 0.1 { 0.0 } else { size };
            Interval::new(middle - half, middle + half)
        })
        .collect()
}

/// A point of the box: `share` says how far each coordinate is from its lower end.
fn point(x: &Intervals, share: &[f64]) -> Intervals {
    x.iter()
        .zip(share)
        .map(|(x, share)| {
            let at = (x.lower + share * (x.upper - x.lower)).clamp(x.lower, x.upper);
            Interval::new(at, at)
        })
        .collect()
}

/// The network with the first dense layer from node `at` on changed.
fn with_other_weights(network: &Network, at: usize, change: impl Fn(&mut Dense)) -> Network {
    let mut builder = NetworkBuilder::new();
    let mut names: Vec<String> = Vec::new();
    let mut changed = false;
    for (id, node) in network.nodes().iter().enumerate() {
        let mut op = node.op.clone();
        if let Op::Dense(layer) = &mut op
            && id >= at
            && !changed
        {
            change(layer);
            changed = true;
        }
        let sources: Vec<&str> = node.sources.iter().map(|&s| names[s].as_str()).collect();
        builder.add(&node.name, &sources, op, Some(&node.shape), None).unwrap();
        names.push(node.name.clone());
    }
    builder.build(&["logits"]).unwrap()
}

/// Points of the box: even, corners, and corners that push one output's change up or down.
fn points(f: &Network, g: &Network, x: &Intervals, random: &mut Random) -> Vec<Intervals> {
    let draw = |random: &mut Random| -> Vec<f64> {
        let corner = random.uniform() < 0.5;
        let end = |x: f64| if corner { x.round() } else { x };
        (0..x.len()).map(|_| end(random.uniform())).collect()
    };
    let mut found: Vec<Intervals> = (0..SAMPLES).map(|_| point(x, &draw(random))).collect();
    for sign in [1.0, -1.0] {
        let height = |share: &[f64]| {
            let at = point(x, share);
            sign * (logits(g, at.clone()).lower[0] - logits(f, at).lower[0])
        };
        let mut best = draw(random);
        let mut most = height(&best);
        for _ in 0..STEPS {
            let mut other = best.clone();
            let coordinate = below(random, other.len());
            other[coordinate] = if other[coordinate] < 0.5 { 1.0 } else { 0.0 };
            let reached = height(&other);
            if reached > most {
                (best, most) = (other, reached);
            }
        }
        found.push(point(x, &best));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn certificates_hold(seed in 0_u64..1_000_000) {
        let random = &mut Random::from_seed(seed);
        let f = any_network(seed);
        let (g, merges) = pruned(&f, random);
        let x = some_box(&f, random);
        let found = certified(&f, &g, &merges, x.clone());
        for at in points(&f, &g, &x, random) {
            let (old, new) = (logits(&f, at.clone()), logits(&g, at));
            for k in 0..old.len() {
                let change = found.change.get(k);
                let moved = new.get(k).minus(old.get(k));
                // The true change lies in `moved`, whose ends are off by the test's own rounding.
                prop_assert!(moved.upper >= change.lower, "{k}: {moved:?} {change:?}");
                prop_assert!(moved.lower <= change.upper, "{k}: {moved:?} {change:?}");
                for c in 0..old.len() {
                    let margin = |z: &Intervals| z.get(c).minus(z.get(k));
                    let fallen = margin(&old).minus(margin(&new));
                    prop_assert!(c == k || fallen.lower <= found.margins[[c, k]]);
                }
            }
        }
    }

    #[test]
    fn weights_that_no_merge_explains_are_bounded_too(seed in 0_u64..1_000_000) {
        let random = &mut Random::from_seed(seed);
        let whole = chain(seed / 4);
        let at = below(random, whole.nodes().len());
        // Compensation gives a bias to a layer that had none.
        let f = match seed % 2 {
            0 => with_other_weights(&whole, at, |layer| layer.bias = None),
            _ => whole,
        };
        let (smaller, merges) = pruned(&f, random);
        let shift = symmetric(random);
        let g = with_other_weights(&smaller, at, |layer| {
            std::sync::Arc::make_mut(&mut layer.kernel).mapv_inplace(|weight| weight * 1.25 + 0.01);
            let units = layer.kernel.ncols();
            layer.bias.get_or_insert_with(|| Array1::zeros(units))[0] += shift;
        });
        let x = some_box(&f, random);
        let found = certified(&f, &g, &merges, x.clone());
        for at in points(&f, &g, &x, random) {
            let (old, new) = (logits(&f, at.clone()), logits(&g, at));
            for (k, change) in found.change.iter().enumerate() {
                let moved = new.get(k).minus(old.get(k));
                prop_assert!(moved.upper >= change.lower && moved.lower <= change.upper);
            }
        }
    }

    #[test]
    fn tight_values_hold_and_are_never_looser(seed in 0_u64..1_000_000) {
        let random = &mut Random::from_seed(seed);
        let f = any_network(seed);
        let x = some_box(&f, random);
        let input_box = InputBox::new(&f, vec![x.clone()]).unwrap();
        let mut go_on = never_stop();
        let poll = &mut Poll::new(&mut go_on);
        let tight = Bounds::tight(&f, &input_box, Tightening::default(), poll).unwrap();
        let plain = bounds(&f, x.clone());
        for at in points(&f, &f, &x, random) {
            let values = bounds(&f, at);
            for id in 0..f.nodes().len() {
                for (element, value) in values.of(id).iter().enumerate() {
                    let (tight, plain) = (tight.of(id).get(element), plain.of(id).get(element));
                    prop_assert!(value.upper >= tight.lower && value.lower <= tight.upper);
                    // Narrower sources round differently.
                    let slack = 1e-12 * (1.0 + plain.lower.abs() + plain.upper.abs());
                    prop_assert!(tight.lower >= plain.lower - slack);
                    prop_assert!(tight.upper <= plain.upper + slack);
                }
            }
        }
    }

    #[test]
    fn local_margins_hold(seed in 0_u64..1_000_000) {
        let random = &mut Random::from_seed(seed);
        let f = any_network(seed);
        let boxes: Vec<Intervals> = (0..3).map(|_| some_box(&f, random)).collect();
        let checked: Vec<InputBox> =
            boxes.iter().map(|x| InputBox::new(&f, vec![x.clone()]).unwrap()).collect();
        let classes: Vec<usize> = (0..3).map(|_| below(random, 3)).collect();
        let mut go_on = never_stop();
        let poll = &mut Poll::new(&mut go_on);
        let found = margins(&f, &checked, &classes, Tightening::default(), poll).unwrap();
        for ((x, &class), margins) in boxes.iter().zip(&classes).zip(found) {
            for at in points(&f, &f, x, random) {
                let z = logits(&f, at);
                for (k, &margin) in margins.iter().enumerate().filter(|&(k, _)| k != class) {
                    prop_assert!(z.get(class).minus(z.get(k)).upper >= margin);
                }
            }
        }
    }

    #[test]
    fn nothing_pruned_is_certified_to_change_nothing(seed in 0_u64..10_000) {
        let f = any_network(seed);
        let found = certified(&f, &f, &[], unit_box(&f));
        prop_assert!(found.change.is_zero(), "{:?}", found.change);
    }
}

#[test]
fn networks_that_do_not_belong_together_are_refused() {
    let f = chain(3);
    let random = &mut Random::from_seed(1);
    let (g, merges) = pruned(&f, random);
    let wrong = [&merges[..], &[named("d0", Pair { nominee: 0, delegate: 99 })]].concat();
    assert!(Pairing::new(&f, &g, &wrong).is_err());
    assert!(Pairing::new(&f, &g, &merges[1..]).is_err());
    assert!(Pairing::new(&f, &network(3), &merges).is_err());
}
