//! Differences through activations: sound, as small as claimed, never wider than by slopes alone.

use nnprune_core::activation::Activation;
use nnprune_core::interval::Interval;
use proptest::prelude::*;

use crate::activations::{any_interval, exact_kind, inside, kind, moderate, room};

/// The rule that only knows the range of the slopes.
fn by_slope_and_value(
    activation: Activation,
    before: Interval,
    after: Interval,
    difference: Interval,
) -> Interval {
    let by_slope = activation.slope_range(before.hull(after)).times(difference);
    by_slope.intersect(activation.value_range(after).minus(activation.value_range(before)))
}

/// An interval around `v - u` that leaves some room on both sides.
fn around(u: f64, v: f64, slack: (f64, f64)) -> Interval {
    Interval::new((v - u - slack.0).next_down(), (v - u + slack.1).next_up())
}

fn slack() -> impl Strategy<Value = (f64, f64)> {
    let one = || prop::sample::select(vec![0.0, 0.0, 1e-9, 0.01, 0.3, 2.0, 20.0, f64::INFINITY]);
    (one(), one())
}

/// The largest `s(v) - s(u)` over the polytope, searched for: a grid of `u` with the furthest `v`
/// each, refined around the best one.
fn searched(
    activation: Activation,
    before: Interval,
    after: Interval,
    difference: Interval,
) -> Option<f64> {
    let rise = |u: f64| {
        let v = after.upper.min(u + difference.upper);
        let feasible = v >= after.lower - 1e-12 && v - u >= difference.lower - 1e-12;
        feasible.then(|| activation.value(v) - activation.value(u))
    };
    let corners = [
        after.lower - difference.upper,
        after.upper - difference.upper,
        after.upper - difference.lower,
    ];
    let grid = (0..=100).map(|index| inside(before, f64::from(index) / 100.0));
    let candidates: Vec<f64> =
        grid.chain(corners.map(|u| u.clamp(before.lower, before.upper))).collect();
    let (mut best, at) = candidates
        .into_iter()
        .filter_map(|u| Some((rise(u)?, u)))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    let step = before.width() / 100.0;
    // Flat or impossible ends would mislead the search.
    let mut left = before.lower.max(after.lower - difference.upper).max(at - step);
    let mut right = before.upper.min(after.upper - difference.lower).min(at + step);
    for _ in 0..60 {
        let thirds = [left + (right - left) / 3.0, right - (right - left) / 3.0];
        let found = thirds.map(|u| rise(u).unwrap_or(f64::NEG_INFINITY));
        best = best.max(found[0]).max(found[1]);
        if found[0] < found[1] {
            left = thirds[0];
        } else {
            right = thirds[1];
        }
    }
    Some(best)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn contains_every_difference(
        activation in kind(),
        before in any_interval(),
        after in any_interval(),
        shares in (0.0..1.0, 0.0..1.0),
        slack in slack(),
    ) {
        let (u, v) = (inside(before, shares.0), inside(after, shares.1));
        let found = activation.difference(before, after, around(u, v, slack));
        prop_assert!(found.lower <= found.upper, "{found:?}");
        let values = [activation.value(u), activation.value(v)];
        let difference = values[1] - values[0];
        if difference.is_finite() {
            let room = room(&values);
            prop_assert!(found.lower - room <= difference, "{difference} not in {found:?}");
            prop_assert!(difference <= found.upper + room, "{difference} not in {found:?}");
        }
    }

    #[test]
    fn is_never_wider_than_by_slopes_and_values(
        activation in kind(),
        before in any_interval(),
        after in any_interval(),
        shares in (0.0..1.0, 0.0..1.0),
        slack in slack(),
    ) {
        let difference = around(inside(before, shares.0), inside(after, shares.1), slack);
        let found = activation.difference(before, after, difference);
        let wide = by_slope_and_value(activation, before, after, difference);
        // Narrower arguments may round the other way.
        let room = Interval::new(wide.lower.abs(), wide.upper.abs());
        prop_assert!(found.lower >= wide.lower - 4.0 * f64::EPSILON * room.lower - 1e-30
            || wide.lower == f64::NEG_INFINITY, "{found:?} beyond {wide:?}");
        prop_assert!(found.upper <= wide.upper + 4.0 * f64::EPSILON * room.upper + 1e-30
            || wide.upper == f64::INFINITY, "{found:?} beyond {wide:?}");
    }

    #[test]
    fn a_unit_that_does_not_move_makes_no_difference(
        activation in kind(),
        before in any_interval(),
        after in any_interval(),
    ) {
        prop_assert_eq!(activation.difference(before, after, Interval::ZERO), Interval::ZERO);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn is_attained(
        activation in exact_kind(),
        before in moderate(),
        after in moderate(),
        shares in (0.0..1.0, 0.0..1.0),
        slack in slack(),
    ) {
        let difference = around(inside(before, shares.0), inside(after, shares.1), slack);
        let found = activation.difference(before, after, difference);
        let reversed = Interval::new(-difference.upper, -difference.lower);
        let highest = searched(activation, before, after, difference);
        let lowest = searched(activation, after, before, reversed).map(|rise| -rise);
        // A ternary search meets the best point to about the root of a rounding.
        let size = activation.value_range(before.hull(after));
        let room = 1e-9 * (1.0 + size.lower.abs().max(size.upper.abs()));
        if let (Some(lowest), Some(highest)) = (lowest, highest) {
            prop_assert!((found.upper - highest).abs() <= room, "{found:?} against {highest}");
            prop_assert!((found.lower - lowest).abs() <= room, "{found:?} against {lowest}");
        }
    }

    #[test]
    fn a_relu_rounds_nothing(
        before in moderate(),
        after in moderate(),
        shares in (0.0..1.0, 0.0..1.0),
    ) {
        let relu = Activation::parse("relu", &[]).unwrap();
        let (u, v) = (inside(before, shares.0), inside(after, shares.1));
        let found = relu.difference(
            Interval::new(u, u), Interval::new(v, v), Interval::UNBOUNDED);
        let exact = relu.value(v) - relu.value(u);
        prop_assert!(found.lower == exact || found.lower == exact.next_down());
        prop_assert!(found.upper == exact || found.upper == exact.next_up());
        let both_on = Interval::new(1.0, 30.0);
        let difference = Interval::new(-0.1, 0.2);
        prop_assert_eq!(relu.difference(both_on, both_on, difference), difference);
    }
}
