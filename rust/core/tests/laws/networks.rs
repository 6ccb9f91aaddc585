//! Random networks that the property tests share.

use ndarray::{Array1, Array2};
use nnprune_core::activation::Activation;
use nnprune_core::bounds::{Bounds, InputBox};
use nnprune_core::error::{Poll, never_stop};
use nnprune_core::interval::{Interval, Intervals};
use nnprune_core::network::{
    BatchNormalization, Dense, Network, NetworkBuilder, Op, Padding, PoolKind, WindowSpec,
};
use nnprune_core::random::Random;

/// Kinds that random networks draw from.
const KINDS: [&str; 8] = ["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "relu6", "hard_silu"];

/// A uniform number in `[-1, 1)`.
#[expect(clippy::cast_possible_truncation)] // test weights
pub(crate) fn symmetric(random: &mut Random) -> f32 {
    (2.0 * random.uniform() - 1.0) as f32
}

pub(crate) fn dense(random: &mut Random, inputs: usize, units: usize) -> Dense {
    Dense {
        kernel: Array2::from_shape_simple_fn((inputs, units), || symmetric(random)).into(),
        bias: Some(Array1::from_shape_simple_fn(units, || symmetric(random))),
    }
}

fn normalization(random: &mut Random, channels: usize) -> BatchNormalization {
    BatchNormalization {
        gamma: Some(Array1::from_shape_simple_fn(channels, || 1.5 + symmetric(random))),
        beta: Some(Array1::from_shape_simple_fn(channels, || symmetric(random))),
        mean: Array1::from_shape_simple_fn(channels, || symmetric(random)),
        variance: Array1::from_shape_simple_fn(channels, || 1.5 + symmetric(random)),
        epsilon: 1e-3,
    }
}

/// A convolution, pooling and a dense head with batch normalization on both sides of an
/// activation; the hidden layers are "first" and "second".
pub(crate) fn network(seed: u64) -> Network {
    let random = &mut Random::from_seed(seed);
    let first: usize = usize::try_from(seed).unwrap_or(0);
    let kinds = [first, first / KINDS.len()]
        .map(|at| Activation::parse(KINDS[at % KINDS.len()], &[]).expect("a known kind"));
    let mut builder = NetworkBuilder::new();
    let window = |size: usize, padding| WindowSpec {
        size: vec![size, size],
        strides: vec![1, 1],
        dilation: vec![1, 1],
        padding,
    };
    builder.add("x", &[], Op::Input, Some(&[4, 4, 2]), None).expect("valid");
    builder
        .conv("conv", "x", dense(random, 18, 3), &window(3, Padding::Same), 1, None)
        .expect("a valid convolution");
    builder.pool("pool", "conv", PoolKind::Max, &window(2, Padding::Valid)).expect("a valid pool");
    builder.add("flat", &["pool"], Op::Reshape, Some(&[27]), None).expect("valid");
    builder.add("first", &["flat"], Op::Dense(dense(random, 27, 6)), None, None).expect("valid");
    builder
        .batch_normalization("before", "first", normalization(random, 6), None)
        .expect("a valid normalization");
    builder.add("act1", &["before"], Op::Activation(kinds[0]), None, None).expect("valid");
    builder
        .batch_normalization("after", "act1", normalization(random, 6), None)
        .expect("a valid normalization");
    builder.add("second", &["after"], Op::Dense(dense(random, 6, 5)), None, None).expect("valid");
    builder.add("act2", &["second"], Op::Activation(kinds[1]), None, None).expect("valid");
    builder.add("logits", &["act2"], Op::Dense(dense(random, 5, 3)), None, None).expect("valid");
    builder.add("softmax", &["logits"], Op::Softmax, None, None).expect("valid");
    builder.build(&["softmax"]).expect("a valid network")
}

/// The box `[-1, 1]` of a network's one input.
pub(crate) fn unit_box(network: &Network) -> Intervals {
    let count = network.node(network.inputs()[0]).len();
    (0..count).map(|_| Interval::new(-1.0, 1.0)).collect()
}

pub(crate) fn bounds(network: &Network, intervals: Intervals) -> Bounds {
    let input_box = InputBox::new(network, vec![intervals]).expect("a valid box");
    let keep = vec![true; network.nodes().len()];
    Bounds::propagate(network, &input_box, &keep, &mut Poll::new(&mut never_stop()))
        .expect("never stopped")
}

/// A random input of the box, as a box of one point; often a corner, where bounds are attained.
pub(crate) fn sample(network: &Network, random: &mut Random) -> Intervals {
    let count = network.node(network.inputs()[0]).len();
    (0..count)
        .map(|_| {
            let x = 2.0 * random.uniform() - 1.0;
            let x = if random.uniform() < 0.5 { x.signum() } else { x };
            Interval::new(x, x)
        })
        .collect()
}

/// A chain of three to five dense layers, where deviations are kept in ellipsoids; hidden layers
/// are "d0", "d1" and so on. Some have batch normalization, some units are dead.
pub(crate) fn chain(seed: u64) -> Network {
    let random = &mut Random::from_seed(seed);
    let kinds = ["relu", "relu", "relu", "leaky_relu", "tanh", "gelu", "softplus"];
    let at = usize::try_from(seed).unwrap_or(0);
    let activation = Activation::parse(kinds[at % kinds.len()], &[]).expect("a known kind");
    let hidden = 2 + at % 3;
    let mut builder = NetworkBuilder::new();
    builder.add("x", &[], Op::Input, Some(&[5]), None).expect("valid");
    let mut last = "x".to_owned();
    let mut width = 5;
    for layer in 0..hidden {
        let units = 4 + (at / 7 + layer) % 4;
        let mut weights = dense(random, width, units);
        if let Some(bias) = weights.bias.as_mut().filter(|_| at.is_multiple_of(5)) {
            bias[0] = -20.0; // never active under a ReLU
        }
        let name = format!("d{layer}");
        builder.add(&name, &[&last], Op::Dense(weights), None, None).expect("valid");
        last = name;
        if at.is_multiple_of(4) {
            let name = format!("b{layer}");
            builder
                .batch_normalization(&name, &last, normalization(random, units), None)
                .expect("a valid normalization");
            last = name;
        }
        let name = format!("a{layer}");
        builder.add(&name, &[&last], Op::Activation(activation), None, None).expect("valid");
        last = name;
        width = units;
    }
    builder.add("logits", &[&last], Op::Dense(dense(random, width, 3)), None, None).expect("valid");
    builder.build(&["logits"]).expect("a valid network")
}

/// Three branches that are added and put side by side before the last layers.
pub(crate) fn branches(seed: u64) -> Network {
    let random = &mut Random::from_seed(seed);
    let relu = Activation::parse("relu", &[]).expect("a known kind");
    let mut builder = NetworkBuilder::new();
    builder.add("x", &[], Op::Input, Some(&[4]), None).expect("valid");
    for name in ["left", "right", "third"] {
        builder.add(name, &["x"], Op::Dense(dense(random, 4, 4)), None, None).expect("valid");
        let active = format!("{name}_active");
        builder.add(&active, &[name], Op::Activation(relu), None, None).expect("valid");
    }
    builder.add("sum", &["left_active", "right_active"], Op::Add, None, None).expect("valid");
    builder.add("both", &["sum", "third_active"], Op::Concatenate(0), None, None).expect("valid");
    builder.add("d0", &["both"], Op::Dense(dense(random, 8, 6)), None, None).expect("valid");
    builder.add("a0", &["d0"], Op::Activation(relu), None, None).expect("valid");
    builder.add("d1", &["a0"], Op::Dense(dense(random, 6, 5)), None, None).expect("valid");
    builder.add("a1", &["d1"], Op::Activation(relu), None, None).expect("valid");
    builder.add("skip", &["a0"], Op::Dense(dense(random, 6, 3)), None, None).expect("valid");
    builder.add("last", &["a1"], Op::Dense(dense(random, 5, 3)), None, None).expect("valid");
    builder.add("logits", &["skip", "last"], Op::Add, None, None).expect("valid");
    builder.build(&["logits"]).expect("a valid network")
}
