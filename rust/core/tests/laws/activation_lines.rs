//! Secants from a point, and lines around activations.

use nnprune_core::activation::{Activation, Line, Lines};
use nnprune_core::interval::Interval;
use proptest::prelude::*;

use crate::activations::{any_interval, inside, kind, moderate, room};

/// Samples of an interval, denser towards both ends and around 0.
fn samples(over: Interval) -> impl Iterator<Item = f64> {
    let even = (0..=40).map(|index| f64::from(index) / 40.0);
    let near = (1..=12).map(|digits| 0.1_f64.powi(digits));
    let shares = even.chain(near.clone()).chain(near.map(|share| 1.0 - share));
    let bends = [-3.0, -1.5, -1.0, -0.75, 0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 6.0];
    shares
        .map(move |share| inside(over, share))
        .chain(bends.into_iter().filter(move |&x| over.lower <= x && x <= over.upper))
}

/// Width in the middle of the convex hull of samples of the graph: no two lines are closer there,
/// and the area between two lines is this width times that of the interval.
fn hull_width(activation: Activation, over: Interval) -> f64 {
    let middle = 0.5 * (over.lower + over.upper);
    let mut points: Vec<(f64, f64)> = (0..=160)
        .map(|index| over.lower + over.width() * f64::from(index) / 160.0)
        .map(|x| (x, activation.value(x)))
        .collect();
    let (mut lower, mut upper) = (f64::INFINITY, f64::NEG_INFINITY);
    let right = points.split_off(80);
    for &(x, value) in &points {
        for &(to, end) in &right {
            let at = value + (end - value) * (middle - x) / (to - x);
            (lower, upper) = (lower.min(at), upper.max(at));
        }
    }
    upper - lower
}

fn relax(kind: &str, lower: f64, upper: f64) -> Lines {
    Activation::parse(kind, &[]).unwrap().relax(Interval::new(lower, upper)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_secants_of_a_point_are_enclosed(
        activation in kind(),
        over in any_interval(),
        share in 0.0..1.0,
    ) {
        let point = inside(over, share);
        let all = activation.slope_range(over);
        let found = activation.slope_range_from(point, over);
        prop_assert!(found.lower <= found.upper, "{found:?}");
        prop_assert!(all.lower <= found.lower && found.upper <= all.upper, "{found:?} {all:?}");
        for x in samples(over) {
            let values = [activation.value(point), activation.value(x)];
            let slope = (values[1] - values[0]) / (x - point);
            if slope.is_finite() {
                let room = 2.0 * room(&values) / (x - point).abs() + 1e-15 * slope.abs();
                prop_assert!(found.lower - room <= slope, "{slope} at {x} not in {found:?}");
                prop_assert!(slope <= found.upper + room, "{slope} at {x} not in {found:?}");
            }
        }
    }

    #[test]
    fn the_lines_enclose_the_activation(activation in kind(), over in any_interval()) {
        let Some(lines) = activation.relax(over) else {
            let values = activation.value_range(over);
            prop_assert!(!over.is_finite() || !values.is_finite());
            return Ok(());
        };
        for x in samples(over) {
            let value = activation.value(x);
            for (line, sign) in [(lines.lower, 1.0), (lines.upper, -1.0)] {
                let room = room(&[value, line.slope * x, line.offset]);
                let above = sign * (value - (line.slope * x + line.offset));
                prop_assert!(above >= -room, "{line:?} at {x}: {above}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn the_secants_of_a_relu_are_exact(over in moderate(), share in 0.0..1.0) {
        let point = inside(over, share);
        let relu = Activation::parse("relu", &[]).unwrap();
        let found = relu.slope_range_from(point, over);
        if over.lower < over.upper {
            let expected = if point > 0.0 {
                let lowest = if over.lower < 0.0 { point / (point - over.lower) } else { 1.0 };
                Interval::new(lowest, 1.0)
            } else {
                let highest = if over.upper > 0.0 { over.upper / (over.upper - point) } else { 0.0 };
                Interval::new(0.0, highest)
            };
            prop_assert!((found.lower - expected.lower).abs() <= 1e-15, "{found:?} {expected:?}");
            prop_assert!((found.upper - expected.upper).abs() <= 1e-15, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn a_relu_has_the_lines_of_crown(over in moderate()) {
        prop_assume!(over.lower < over.upper);
        let found = Activation::parse("relu", &[]).unwrap().relax(over).unwrap();
        let line = |slope: f64| Line { slope, offset: 0.0 };
        if over.lower >= 0.0 || over.upper <= 0.0 {
            let slope = if over.lower >= 0.0 { 1.0 } else { 0.0 };
            prop_assert_eq!(found, Lines { lower: line(slope), upper: line(slope) });
        } else {
            let slope = over.upper / (over.upper - over.lower);
            let adaptive = if over.upper > -over.lower { 1.0 } else { 0.0 };
            prop_assert_eq!(found.lower, line(adaptive));
            prop_assert_eq!(found.upper.slope, slope);
            let expected = -slope * over.lower;
            prop_assert!((found.upper.offset - expected).abs() <= 4e-16 * (1.0 + over.width()));
        }
    }

    #[test]
    fn the_lines_leave_the_smallest_area(activation in kind(), over in moderate()) {
        let wide = Interval::new(over.lower, over.upper.max(over.lower + 0.01));
        let lines = activation.relax(wide).unwrap();
        let best = hull_width(activation, wide);
        let middle = 0.5 * (wide.lower + wide.upper);
        let found = (lines.upper.slope - lines.lower.slope) * middle + lines.upper.offset
            - lines.lower.offset;
        // The hull of samples is a little too small, and kinds of no simple shape are bounded
        // piece by piece.
        let size = activation.value_range(wide).width() + wide.width();
        prop_assert!(found <= best + 0.01 * size, "{found} against {best}");
    }
}

#[test]
fn a_point_has_constant_lines_and_an_unbounded_interval_none() {
    let lines = relax("relu", 2.5, 2.5);
    let line = Line { slope: 0.0, offset: 2.5 };
    assert_eq!(lines, Lines { lower: line, upper: line });
    let tanh = Activation::parse("tanh", &[]).unwrap();
    assert_eq!(tanh.relax(Interval::UNBOUNDED), None);
    assert_eq!(tanh.relax(Interval::new(0.0, f64::INFINITY)), None);
    assert!(tanh.relax(Interval::new(-1e308, 1e308)).is_some());
    let exponential = Activation::parse("exponential", &[]).unwrap();
    assert_eq!(exponential.relax(Interval::new(0.0, 1e4)), None);
}
