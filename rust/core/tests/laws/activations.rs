//! Kinds of activations, and intervals around the points where they bend.

use nnprune_core::activation::Activation;
use nnprune_core::interval::Interval;
use proptest::prelude::*;

const PLAIN: [&str; 20] = [
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "exponential",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "log_sigmoid",
];

const WITH_PARAMETERS: [(&str, &[(&str, f64)]); 15] = [
    ("relu", &[("negative_slope", 0.25)]),
    ("relu", &[("negative_slope", 1.5)]),
    ("relu", &[("negative_slope", -0.5)]),
    ("relu", &[("max_value", 1.5)]),
    ("relu", &[("max_value", 1.5), ("negative_slope", 0.25)]),
    ("relu", &[("max_value", 1.5), ("negative_slope", 2.0)]),
    ("relu", &[("threshold", 1.0)]),
    ("relu", &[("threshold", 0.5), ("max_value", 2.0), ("negative_slope", 0.25)]),
    ("leaky_relu", &[("negative_slope", 0.01)]),
    ("elu", &[("alpha", 0.5)]),
    ("elu", &[("alpha", 1.75)]),
    ("elu", &[("alpha", 40.0)]),
    ("celu", &[("alpha", 0.3)]),
    ("celu", &[("alpha", 3.0)]),
    ("celu", &[("alpha", 1e6)]),
];

/// The kinds for which the difference rule claims to be exact.
pub(crate) fn exact_kind() -> impl Strategy<Value = Activation> {
    kind().prop_map(|activation| if is_exact(activation) { activation } else { Activation::Tanh })
}

pub(crate) fn kind() -> impl Strategy<Value = Activation> {
    (0..PLAIN.len() + WITH_PARAMETERS.len()).prop_map(|index| {
        let (kind, parameters) = match index.checked_sub(PLAIN.len()) {
            None => (PLAIN[index], &[][..]),
            Some(index) => WITH_PARAMETERS[index],
        };
        let parameters: Vec<(String, f64)> =
            parameters.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        Activation::parse(kind, &parameters).unwrap()
    })
}

fn is_exact(activation: Activation) -> bool {
    match activation {
        Activation::Gelu
        | Activation::GeluTanh
        | Activation::Silu
        | Activation::Mish
        | Activation::HardSilu => false,
        Activation::Relu { negative_slope, threshold, .. } => {
            negative_slope >= 0.0 && threshold == 0.0
        }
        _ => true,
    }
}

/// An end: a kink or turning point, or any number up to about `size`.
fn end(size: f64) -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => prop::sample::select(vec![-3.0, -1.5, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 6.0]),
        3 => -size..size,
    ]
}

/// A finite interval; many are points, tiny, or begin at a kink.
pub(crate) fn moderate() -> impl Strategy<Value = Interval> {
    (end(8.0), prop::sample::select(vec![0.0, 1e-12, 1e-5, 0.1, 1.0, 4.0, 12.0]), 0.0..1.0)
        .prop_map(|(at, size, share)| Interval::new(at, at + size * share))
}

/// Any interval: also huge, or with an infinite end.
pub(crate) fn any_interval() -> impl Strategy<Value = Interval> {
    let far = prop::sample::select(vec![60.0, 800.0, 1e5, 1e12, 1e300]).prop_flat_map(end);
    prop_oneof![
        4 => moderate(),
        2 => (far.clone(), far.clone()).prop_map(|(a, b)| Interval::new(a.min(b), a.max(b))),
        1 => far.clone().prop_map(|a| Interval::new(a, f64::INFINITY)),
        1 => far.prop_map(|a| Interval::new(f64::NEG_INFINITY, a)),
    ]
}

/// The point at `share` of an interval, finite also where an end is not.
pub(crate) fn inside(over: Interval, share: f64) -> f64 {
    let (lower, upper) = (over.lower.max(-1e300), over.upper.min(1e300));
    let at = match (over.lower.is_finite(), over.upper.is_finite()) {
        (true, false) => lower + share / (1.0 - share),
        (false, true) => upper - (1.0 - share) / share.max(1e-9),
        _ => lower * (1.0 - share) + upper * share,
    };
    at.clamp(lower, upper)
}

/// Room for what the test itself rounds in values of these sizes.
pub(crate) fn room(values: &[f64]) -> f64 {
    values.iter().fold(1e-15, |room, value| room + 4.0 * f64::EPSILON * value.abs())
}
