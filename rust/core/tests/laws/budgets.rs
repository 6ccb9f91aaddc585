//! Certified budgets, and what costs nothing.

use nnprune_core::activation::Activation;
use nnprune_core::config::{AnnealingConfig, BiasTerm, Change, Config, Method, Outgoing};
use nnprune_core::network::{Network, NetworkBuilder, Op};
use nnprune_core::prune::StoppedBy;
use nnprune_core::random::Random;
use proptest::prelude::*;

use crate::networks::dense;
use crate::runs::{outputs_at, run};

fn asked(method: Method, seed: u64) -> Config {
    Config {
        layers: Vec::new(),
        target: 0.7,
        step: 0.25,
        method,
        outgoing: Outgoing::L2,
        bias: BiasTerm::Absolute,
        seed,
        max_output_change: None,
        lossless: false,
        width_multiple: 1,
    }
}

/// A chain whose first hidden layer has a unit that is never active, and two that are alike.
fn with_free_units(seed: u64) -> Network {
    let random = &mut Random::from_seed(seed);
    let relu = Activation::parse("relu", &[]).unwrap();
    let mut first = dense(random, 3, 6);
    if let Some(bias) = first.bias.as_mut() {
        bias[4] = -10.0;
        bias[2] = bias[1];
    }
    for row in 0..3 {
        let kernel = std::sync::Arc::make_mut(&mut first.kernel);
        kernel[[row, 2]] = kernel[[row, 1]];
    }
    let mut builder = NetworkBuilder::new();
    builder.add("x", &[], Op::Input, Some(&[3]), None).unwrap();
    builder.add("d0", &["x"], Op::Dense(first), None, None).unwrap();
    builder.add("a0", &["d0"], Op::Activation(relu), None, None).unwrap();
    builder.add("d1", &["a0"], Op::Dense(dense(random, 6, 5)), None, None).unwrap();
    builder.add("a1", &["d1"], Op::Activation(relu), None, None).unwrap();
    builder.add("logits", &["a1"], Op::Dense(dense(random, 5, 2)), None, None).unwrap();
    builder.build(&["logits"]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_costs_nothing_goes_and_nothing_else(seed in 0_u64..10_000) {
        let network = with_free_units(seed);
        let asked = Config { lossless: true, ..asked(Method::Annealing(AnnealingConfig::default()), 0) };
        let found = run(&network, &asked.check().unwrap());
        let gone: Vec<(usize, Option<usize>)> = found
            .merges
            .iter()
            .filter(|merge| merge.layer == "d0")
            .map(|merge| (merge.nominee, merge.delegate))
            .collect();
        prop_assert!(gone.contains(&(4, None)), "{gone:?}");
        // The two that are alike: one goes into the other, or neither is ever active.
        let gone_of = |unit: usize| gone.iter().find(|(nominee, _)| *nominee == unit);
        prop_assert!(
            [(1, 2), (2, 1)].into_iter().any(|(unit, other)| {
                gone_of(unit).is_some_and(|(_, delegate)| delegate.is_none_or(|to| to == other))
            }),
            "{gone:?}"
        );
        prop_assert_eq!(found.stopped_by, StoppedBy::Lossless);
        let most = found.impact.iter().map(|i| i.lower.abs().max(i.upper.abs())).fold(0.0, f64::max);
        prop_assert!(most < 1e-5, "{most}");
        for value in [-1.0, -0.3, 0.7] {
            let old = outputs_at(&network, value);
            let new = outputs_at(&found.network, value);
            prop_assert!(old.iter().zip(&new).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn a_budget_is_never_exceeded(seed in 0_u64..10_000, size in 0_usize..3, greedy: bool) {
        let network = crate::networks::chain(seed);
        let most = [0.3, 2.0, 1e6][size];
        let method = if greedy {
            Method::Greedy { pool: 4, change: Change::Interval }
        } else {
            Method::Annealing(AnnealingConfig::default())
        };
        let asked = Config { max_output_change: Some(most), ..asked(method, seed) };
        let found = run(&network, &asked.check().unwrap());
        for change in found.impact.iter() {
            prop_assert!(-most <= change.lower && change.upper <= most, "{change:?}");
        }
        let expected = if size == 2 { StoppedBy::Target } else { found.stopped_by };
        prop_assert_eq!(found.stopped_by, expected);
        for value in [-1.0, -0.4, 0.2, 1.0] {
            let old = outputs_at(&network, value);
            let new = outputs_at(&found.network, value);
            prop_assert!(old.iter().zip(&new).all(|(a, b)| (a - b).abs() <= most + 1e-9));
        }
    }
}
