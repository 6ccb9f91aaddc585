//! Bounds that hold: no sampled value or difference ever lies outside its interval.

use ndarray::{Array1, Array2};
use nnprune_core::activation::Activation;
use nnprune_core::bounds::{Bounds, InputBox, Tightening};
use nnprune_core::config::Change;
use nnprune_core::error::{Poll, never_stop};
use nnprune_core::impact::{self, KnownRows, Pair, Scoring, Step};
use nnprune_core::interval::{Interval, Intervals};
use nnprune_core::merge;
use nnprune_core::network::{Dense, Network, NetworkBuilder, Op};
use nnprune_core::one_shot::with_final_delegates;
use nnprune_core::random::Random;
use nnprune_core::sensitivity::{Sensitivity, SpectralNorms};
use proptest::prelude::*;

use crate::networks::{bounds, chain, network, sample, unit_box};

const SAMPLES: usize = 40;

/// Values of the logits at a point.
fn logits(network: &Network, at: nnprune_core::interval::Intervals) -> Vec<(f64, f64)> {
    let values = bounds(network, at);
    network
        .logits()
        .into_iter()
        .flat_map(|id| values.of(id).iter().collect::<Vec<_>>())
        .map(|interval| (interval.lower, interval.upper))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn value_intervals_contain_every_sampled_value(seed in 0_u64..10_000) {
        let network = network(seed);
        let whole = bounds(&network, unit_box(&network));
        let random = &mut Random::from_seed(seed + 1);
        for _ in 0..SAMPLES {
            let point = bounds(&network, sample(&network, random));
            for id in 0..network.nodes().len() {
                for (value, range) in point.of(id).iter().zip(whole.of(id).iter()) {
                    prop_assert!(range.lower <= value.upper && value.lower <= range.upper);
                }
            }
        }
    }

    #[test]
    fn impacts_contain_every_sampled_difference(
        seed in 0_u64..10_000,
        layer in 0_usize..2,
        nominee in 0_usize..5,
        shift in 1_usize..5,
        // Rows for each logit, or one for all together.
        most in prop_oneof![Just(usize::MAX), Just(1)],
    ) {
        let network = network(seed);
        let group = &network.groups()[layer + 1];
        let pair = Pair { nominee, delegate: (nominee + shift) % 5 };
        let mut go_on = never_stop();
        let poll = &mut Poll::new(&mut go_on);
        let before = bounds(&network, unit_box(&network));
        let norms = &mut SpectralNorms::default();
        let sensitivity =
            Sensitivity::within(most, &network, &[group], &before, norms, poll).unwrap();
        let known = &mut KnownRows::default();
        let scoring =
            Scoring { change: Change::Interval, bounds: &before, sensitivity: &sensitivity };
        let alone = impact::candidates(&network, group, &[pair], scoring, known, poll).unwrap();
        let known = (Some(&sensitivity), known);
        let injected = impact::inject(&network, group, &[pair], &before, known, poll).unwrap();
        let mut merged = network.clone();
        let changes = merge::merge(&mut merged, group, &[pair]).unwrap();
        let roundings: Vec<_> = changes.into_iter().map(|change| change.rounding).collect();
        let after = before.updated(&merged, &group.downstream, poll).unwrap();
        let joint = impact::joint(
            &merged, group, injected, &roundings,
            &Step { before: &before, after: &after, sensitivity: Some(&sensitivity) }, poll,
        )
        .unwrap();
        let random = &mut Random::from_seed(seed + 2);
        for _ in 0..SAMPLES {
            let point = sample(&network, random);
            let old = logits(&network, point.clone());
            let new = logits(&merged, point);
            for (k, (f, g)) in old.into_iter().zip(new).enumerate() {
                // A candidate's impact is that of the exact merge, the joint one that of the
                // weights as they are stored, in f32.
                for (range, slack) in [(alone[0].get(k), 1e-5), (joint.get(k), 0.0)] {
                    prop_assert!(range.lower <= g.1 - f.0 + slack, "{range:?} {f:?} {g:?}");
                    prop_assert!(g.0 - f.1 <= range.upper + slack, "{range:?} {f:?} {g:?}");
                }
            }
        }
    }

    #[test]
    fn one_sensitivity_serves_all_layers_of_an_epoch(
        seed in 0_u64..10_000,
        units in 0_usize..16,
        most in prop_oneof![3 => Just(usize::MAX), 1 => Just(1)],
    ) {
        let network = chain(seed);
        let groups = network.groups();
        let mut go_on = never_stop();
        let poll = &mut Poll::new(&mut go_on);
        let mut before = bounds(&network, unit_box(&network));
        let all: Vec<_> = groups.iter().collect();
        let norms = &mut SpectralNorms::default();
        let sensitivity =
            Sensitivity::within(most, &network, &all, &before, norms, poll).unwrap();
        let random = &mut Random::from_seed(seed + 4);
        let points: Vec<Intervals> = (0..SAMPLES).map(|_| sample(&network, random)).collect();
        let mut merged = network.clone();
        for group in &groups {
            let nominee = units % group.units;
            let delegate = (nominee + 1 + units / 4 % (group.units - 1)) % group.units;
            let pair = Pair { nominee, delegate };
            let known = (Some(&sensitivity), &mut KnownRows::default());
            let injected = impact::inject(&merged, group, &[pair], &before, known, poll).unwrap();
            let old = merged.clone();
            let changes = merge::merge(&mut merged, group, &[pair]).unwrap();
            let roundings: Vec<_> = changes.into_iter().map(|change| change.rounding).collect();
            let after = before.updated(&merged, &group.downstream, poll).unwrap();
            let step = Step { before: &before, after: &after, sensitivity: Some(&sensitivity) };
            let joint =
                impact::joint(&merged, group, injected, &roundings, &step, poll).unwrap();
            for point in &points {
                let pairs = logits(&old, point.clone()).into_iter();
                let pairs = pairs.zip(logits(&merged, point.clone()));
                for ((f, g), range) in pairs.zip(joint.iter()) {
                    prop_assert!(range.lower <= g.1 - f.0, "{range:?} {f:?} {g:?}");
                    prop_assert!(g.0 - f.1 <= range.upper, "{range:?} {f:?} {g:?}");
                }
            }
            before = after;
        }
    }

    #[test]
    fn removing_equals_masking(seed in 0_u64..10_000, pairs in 1_usize..4) {
        let network = network(seed);
        let group = &network.groups()[1];
        // A chain: every delegate but the last is the next nominee.
        let chain: Vec<Pair> =
            (0..pairs).map(|unit| Pair { nominee: unit, delegate: unit + 1 }).collect();
        let mut masked = network.clone();
        merge::merge(&mut masked, group, &chain).unwrap();
        let kept: Vec<usize> = (pairs..group.units).collect();
        let removed = merge::remove(masked.clone(), group, &kept);
        prop_assert_eq!(removed.node(group.producer).last_axis(), kept.len());
        let random = &mut Random::from_seed(seed + 3);
        let point = sample(&network, random);
        let pairs = logits(&masked, point.clone()).into_iter().zip(logits(&removed, point));
        for (a, b) in pairs {
            prop_assert!((a.0 + a.1 - b.0 - b.1).abs() < 1e-12);
        }
        let settled = with_final_delegates(&chain);
        prop_assert!(settled.iter().all(|pair| kept.contains(&pair.delegate)));
    }
}

/// `1e190 |x|` and a constant.
fn huge() -> Network {
    let mut builder = NetworkBuilder::new();
    builder.add("x", &[], Op::Input, Some(&[1]), None).unwrap();
    let mut last = "x".to_owned();
    for layer in 0..6 {
        let (weight, bias, negative_slope) =
            if layer == 0 { (1.0, 0.0, -1.0) } else { (1e38, 1.0, 0.0) };
        let kernel = Array2::from_elem((1, 1), weight);
        let dense = Dense { kernel: kernel.into(), bias: Some(Array1::from_elem(1, bias)) };
        let name = format!("d{layer}");
        builder.add(&name, &[&last], Op::Dense(dense), None, None).unwrap();
        let kinked = Activation::Relu { negative_slope, max_value: f64::INFINITY, threshold: 0.0 };
        last = format!("a{layer}");
        builder.add(&last, &[&name], Op::Activation(kinked), None, None).unwrap();
    }
    builder.add("logits", &[&last], Op::Identity, None, None).unwrap();
    builder.build(&["logits"]).unwrap()
}

#[test]
fn deviations_whose_squares_overflow_are_not_forgotten() {
    let network = huge();
    let ends: Intervals = [Interval::new(-1.0, 1.0)].into_iter().collect();
    let input_box = InputBox::new(&network, vec![ends]).unwrap();
    let mut go_on = never_stop();
    let tightening = Tightening { backward: false, ..Tightening::default() };
    let found =
        Bounds::tight(&network, &input_box, tightening, &mut Poll::new(&mut go_on)).unwrap();
    for x in [-1.0, 0.0, 0.5, 1.0] {
        let [value] = logits(&network, [Interval::new(x, x)].into_iter().collect())[..] else {
            panic!("one logit")
        };
        let range = found.of(network.logits()[0]).get(0);
        assert!(
            range.lower <= value.1 && value.0 <= range.upper,
            "{x}: {value:?} not in {range:?}"
        );
    }
}
