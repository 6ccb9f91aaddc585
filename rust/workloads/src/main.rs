//! Fixed pieces of work whose instructions `benches/instructions.py` counts, on one thread:
//!
//! `workloads annealing | least_squares | certificate`
//!
//! It prints which matrix kernels the engine chose.
//!
//! Networks are products of thin random matrices plus noise: as in trained ones, some units
//! resemble others and some do not.

use std::error::Error;

use ndarray::{Array1, Array2};
use nnprune_core::activation::Activation;
use nnprune_core::bounds::{InputBox, Tightening};
use nnprune_core::certificate::{NamedMerge, Pairing};
use nnprune_core::compensation::{
    self, Allocation, Regularisation, Rule, Selection, Source, Towards, compensate,
};
use nnprune_core::config::{AnnealingConfig, BiasTerm, Change, Config, Method, Outgoing};
use nnprune_core::error::{Poll, never_stop};
use nnprune_core::forward::Feeds;
use nnprune_core::interval::{Interval, Intervals};
use nnprune_core::network::{Dense, Network, NetworkBuilder, Op, Padding, PoolKind, WindowSpec};
use nnprune_core::prune::{self, Pruning, Verdict};
use nnprune_core::random::Random;
use nnprune_core::verification;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Columns of the thin matrices.
const RANK: usize = 12;
/// How large the noise is beside their product.
const NOISE: f32 = 0.3;

#[expect(clippy::print_stdout)] // it is a program
fn main() -> Outcome<()> {
    // This very thread is the pool: nobody waits for anybody, so that counts are the same each time.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    let name = std::env::args().nth(1).unwrap_or_default();
    let pruning = match name.as_str() {
        "annealing" => annealing()?,
        "least_squares" => least_squares()?,
        "certificate" => certificate()?,
        _ => return Err("give one of annealing, least_squares, certificate".into()),
    };
    println!("{}", pruning.kernel_path);
    Ok(())
}

/// The paper's MNIST model in size, at the slowest pace to the smallest size.
fn annealing() -> Outcome<Pruning> {
    let network = chain(&[784, 128, 128, 64, 10])?;
    let method = Method::Annealing(AnnealingConfig::default());
    pruned(&network, method, 0.8, 1.0 / 64.0)
}

/// LeNet-300-100 in size, refitted on sampled inputs.
fn least_squares() -> Outcome<Pruning> {
    let network = chain(&[784, 300, 100, 10])?;
    let mut random = Random::from_seed(1);
    let inputs = Array2::from_shape_simple_fn((512, 784), || symmetric(&mut random).abs());
    let feeds = Feeds::new(&network, vec![(network.inputs()[0], inputs.into())])?;
    let config = compensation::Config {
        layers: Vec::new(),
        targets: vec![0.5],
        allocation: Allocation::Uniform,
        width_multiple: 1,
        rule: Rule::LeastSquares,
        regularisation: Regularisation { ridge: 1e-2, towards: Towards::Zero },
        selection_ridge: 1e-3,
        closed_loop: true,
        selection: Selection::Elimination,
        logit_metric: true,
        metrics: Vec::new(),
        seed: 0,
    };
    let observer =
        compensation::Observer { on_layer: &mut |_, _| true, keeps_searching: &mut |_| true };
    let (source, config) = (Source::Samples(&feeds), config.check()?);
    let found = compensate(&network, source, &config, &mut Poll::new(&mut never_stop()), observer)?;
    // A little of the merging pruning tells which kernels there are.
    pruned(&found[0].network, Method::OneShot, 0.1, 1.0)
}

/// A small convolutional network pruned by impact alone, what that did proved, and proved again.
fn certificate() -> Outcome<Pruning> {
    let network = convolutional()?;
    let method = Method::Greedy { pool: 4, change: Change::Interval };
    let pruning = pruned(&network, method, 0.5, 1.0 / 8.0)?;
    let merges: Vec<NamedMerge> = pruning
        .merges
        .iter()
        .map(|merge| NamedMerge {
            layer: merge.layer.clone(),
            nominee: merge.nominee,
            delegate: merge.delegate,
        })
        .collect();
    let pairing = Pairing::new(&network, &pruning.network, &merges)?;
    let (space, tightening) = (unit_box(&network)?, Tightening::default());
    let mut go_on = never_stop();
    let poll = &mut Poll::new(&mut go_on);
    pairing.certify(&space, tightening, poll)?;
    verification::recompute(&pairing, &space, tightening, poll)?;
    Ok(pruning)
}

fn pruned(network: &Network, method: Method, target: f64, step: f64) -> Outcome<Pruning> {
    let config = Config {
        layers: Vec::new(),
        target,
        step,
        method,
        outgoing: Outgoing::L2,
        bias: BiasTerm::Absolute,
        seed: 0,
        max_output_change: None,
        lossless: false,
        width_multiple: 1,
    };
    let observer = prune::Observer { on_epoch: &mut |_, _| Verdict::Continue, may_undo: false };
    let (space, config) = (unit_box(network)?, config.check()?);
    Ok(prune::prune(network, &space, &config, &mut Poll::new(&mut never_stop()), observer)?)
}

/// Every input in `[0, 1]`.
fn unit_box(network: &Network) -> Outcome<InputBox> {
    let count = network.node(network.inputs()[0]).len();
    let side: Intervals = (0..count).map(|_| Interval::new(0.0, 1.0)).collect();
    Ok(InputBox::new(network, vec![side])?)
}

/// Dense layers of these widths, ReLU between them.
fn chain(widths: &[usize]) -> Outcome<Network> {
    let mut random = Random::from_seed(0);
    let mut builder = NetworkBuilder::new();
    builder.add("x", &[], Op::Input, Some(&widths[..1]), None)?;
    let output = add_chain(&mut builder, &mut random, "x", widths)?;
    Ok(builder.build(&[&output])?)
}

/// Two convolutions with pooling, and dense layers behind them.
fn convolutional() -> Outcome<Network> {
    let mut random = Random::from_seed(0);
    let mut builder = NetworkBuilder::new();
    let window = |size: usize, stride: usize, padding| WindowSpec {
        size: vec![size; 2],
        strides: vec![stride; 2],
        dilation: vec![1; 2],
        padding,
    };
    builder.add("x", &[], Op::Input, Some(&[8, 8, 2]), None)?;
    let relu = Activation::parse("relu", &[])?;
    let mut last = "x".to_owned();
    for (at, (taps, channels)) in [(18, 4), (36, 6)].into_iter().enumerate() {
        let (conv, active, pool) = (format!("c{at}"), format!("c{at}a"), format!("c{at}p"));
        let weights = weights(&mut random, taps, channels);
        builder.conv(&conv, &last, weights, &window(3, 1, Padding::Same), 1, None)?;
        builder.add(&active, &[&conv], Op::Activation(relu), None, None)?;
        builder.pool(&pool, &active, PoolKind::Max, &window(2, 2, Padding::Valid))?;
        last = pool;
    }
    builder.add("flat", &[&last], Op::Reshape, Some(&[24]), None)?;
    let output = add_chain(&mut builder, &mut random, "flat", &[24, 32, 16, 6])?;
    Ok(builder.build(&[&output])?)
}

/// Add dense layers with ReLU between them, and return the last one's name.
fn add_chain(
    builder: &mut NetworkBuilder,
    random: &mut Random,
    source: &str,
    widths: &[usize],
) -> Outcome<String> {
    let relu = Activation::parse("relu", &[])?;
    let mut last = source.to_owned();
    for (at, pair) in widths.windows(2).enumerate() {
        let (dense, active) = (format!("d{at}"), format!("d{at}a"));
        builder.add(&dense, &[&last], Op::Dense(weights(random, pair[0], pair[1])), None, None)?;
        last = dense;
        if at + 2 < widths.len() {
            builder.add(&active, &[&last], Op::Activation(relu), None, None)?;
            last = active;
        }
    }
    Ok(last)
}

/// A kernel of low rank with noise, scaled to keep values in size, and a small bias.
fn weights(random: &mut Random, inputs: usize, units: usize) -> Dense {
    let mut matrix = |rows, columns| -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, columns), || symmetric(random))
    };
    let (left, right) = (matrix(inputs, RANK), matrix(RANK, units));
    let noise = matrix(inputs, units);
    #[expect(clippy::cast_precision_loss)] // small numbers
    let (rank, size) = ((RANK as f32).sqrt(), (inputs as f32).sqrt());
    let kernel = (left.dot(&right) / rank + noise * NOISE) * (3.0 / size);
    Dense {
        kernel: kernel.into(),
        bias: Some(Array1::from_shape_simple_fn(units, || 0.1 * symmetric(random))),
    }
}

/// A uniform number in `[-1, 1)`.
#[expect(clippy::cast_possible_truncation)] // a random weight
fn symmetric(random: &mut Random) -> f32 {
    (2.0 * random.uniform() - 1.0) as f32
}
