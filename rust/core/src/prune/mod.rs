//! The driver: epochs, layers, visits, until every layer's quota is met.

mod lossless;
mod run;
mod visit;

use crate::bounds::InputBox;
use crate::config::{Method, ValidConfig};
use crate::error::{Error, Poll, Result};
use crate::interval::Intervals;
use crate::network::Network;
use crate::trace::EpochTrace;

use run::Run;

/// One merge, in the order they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The layer of both units.
    pub layer: String,
    /// The unit that went, by its number in the original layer.
    pub nominee: usize,
    /// The unit that took over its outgoing weights; none for a unit that is 0 for every input.
    pub delegate: Option<usize>,
    /// The epoch, from 0.
    pub epoch: usize,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoppedBy {
    /// Every layer's quota was met.
    Target,
    /// The caller's `on_epoch` asked for it.
    Callback,
    /// The caller's `on_epoch` asked for it, and for the last epoch to be undone.
    Undone,
    /// Every further pair could move an output by more than `max_output_change`.
    Budget,
    /// Everything that costs nothing is gone, and nothing else was asked for.
    Lossless,
    /// A layer ran out of units that could be delegates before its quota was met.
    NoDelegate,
}

/// What the caller makes of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Stop here.
    Stop,
    /// Stop, and go back to where the epoch began.
    Undo,
}

/// Who looks on, epoch by epoch.
pub struct Observer<'a> {
    /// Sees every epoch's trace and the network after it: of the original shape, the units that
    /// went without outgoing weights.
    pub on_epoch: &'a mut dyn FnMut(&EpochTrace, &Network) -> Verdict,
    /// Whether it may say `Undo`: a copy of the network is then kept from epoch to epoch.
    pub may_undo: bool,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Pruning {
    /// The physically smaller network.
    pub network: Network,
    /// For each pruned layer, the original numbers of the units that are left.
    pub kept: Vec<(String, Vec<usize>)>,
    /// Every merge in order.
    pub merges: Vec<Merge>,
    /// One entry an epoch.
    pub trace: Vec<EpochTrace>,
    /// Bounds of the logits' change over the whole input box.
    pub impact: Intervals,
    /// Why the run ended.
    pub stopped_by: StoppedBy,
    /// Which matrix kernels this processor ran: other kernels may differ in the last bits.
    pub kernel_path: &'static str,
}

/// Prune `network` as `config` asks, over the inputs in `input_box`.
///
/// `poll` is asked between short pieces of work; the observer may end the run, which then returns
/// what it has.
pub fn prune(
    network: &Network,
    input_box: &InputBox,
    config: &ValidConfig,
    poll: &mut Poll<'_>,
    observer: Observer<'_>,
) -> Result<Pruning> {
    let groups = network.prunable_groups(&config.layers)?;
    let total: usize = groups.iter().map(|group| config.quota(group.units)).sum();
    if total == 0 {
        return Err(Error::NothingToPrune(format!(
            "target {} rounds to no unit at all in any layer; ask for more",
            config.target
        )));
    }
    if config.is_certified() && config.method == Method::OneShot {
        return Err(Error::Config {
            field: "max_output_change",
            expected: "annealing or greedy: one-shot prunes all at once".into(),
            got: "one_shot".into(),
        });
    }
    let mut run = Run::new(network, &groups, input_box, config, poll)?;
    let mut trace = Vec::new();
    let mut verdict = Verdict::Continue;
    if config.is_certified() {
        let checkpoint = observer.may_undo.then(|| run.checkpoint());
        let entry = run.remove_lossless(poll)?;
        if entry.visits.removed > 0 {
            verdict = (observer.on_epoch)(&entry, run.network());
            match (verdict, checkpoint) {
                (Verdict::Undo, Some(checkpoint)) => run.restore(checkpoint),
                _ => trace.push(entry),
            }
        }
    }
    while run.units_left() > 0 && verdict == Verdict::Continue && !config.lossless {
        let checkpoint = observer.may_undo.then(|| run.checkpoint());
        let temperature = run.units_left() as f64 / total as f64;
        let entry = run.run_epoch(temperature, poll)?;
        if entry.visits.removed == 0 && run.units_left() == 0 {
            break; // the budget is spent: there is no epoch to tell of
        }
        verdict = (observer.on_epoch)(&entry, run.network());
        match (verdict, checkpoint) {
            (Verdict::Undo, Some(checkpoint)) => run.restore(checkpoint),
            _ => trace.push(entry),
        }
    }
    let stopped_by = match verdict {
        Verdict::Undo if observer.may_undo => StoppedBy::Undone,
        Verdict::Stop | Verdict::Undo if run.units_left() > 0 => StoppedBy::Callback,
        _ if config.lossless => StoppedBy::Lossless,
        _ if run.budget_spent() => StoppedBy::Budget,
        _ if run.ran_short() => StoppedBy::NoDelegate,
        _ => StoppedBy::Target,
    };
    Ok(run.finish(trace, stopped_by))
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::activation::Activation;
    use crate::config::{AnnealingConfig, BiasTerm, Change, Config, Outgoing};
    use crate::error::never_stop;
    use crate::interval::Interval;
    use crate::lanes;
    use crate::linalg::sample;
    use crate::network::{Dense, NetworkBuilder, Op};

    /// Layers of odd widths, so that every loop has whole chunks and a rest.
    fn network() -> Network {
        let mut builder = NetworkBuilder::new();
        builder.add("x", &[], Op::Input, Some(&[45]), None).expect("valid");
        let mut last = ("x".to_owned(), 45);
        for (layer, (units, kind)) in
            [(37, "relu"), (29, "tanh"), (19, "gelu"), (5, "linear")].into_iter().enumerate()
        {
            let kernel = sample(layer as u64, last.1, units) / 4.0;
            let bias = Array1::from_shape_fn(units, |unit| kernel[[0, unit]]);
            let dense = Dense { kernel: kernel.into(), bias: Some(bias) };
            let name = format!("d{layer}");
            builder.add(&name, &[&last.0], Op::Dense(dense), None, None).expect("valid");
            let activation = Activation::parse(kind, &[]).expect("a known kind");
            let after = format!("a{layer}");
            builder.add(&after, &[&name], Op::Activation(activation), None, None).expect("valid");
            last = (after, units);
        }
        builder.build(&[&last.0]).expect("a valid network")
    }

    #[test]
    fn wide_registers_change_no_bit() {
        let network = network();
        let input: Intervals = (0..45).map(|_| Interval::new(0.0, 1.0)).collect();
        let input_box = InputBox::new(&network, vec![input]).expect("a valid box");
        let methods = [
            Method::Annealing(AnnealingConfig::default()),
            Method::Greedy { pool: 8, change: Change::Interval },
        ];
        for method in methods {
            let config = Config {
                layers: Vec::new(),
                target: 0.7,
                step: 0.05,
                method,
                outgoing: Outgoing::L2,
                bias: BiasTerm::Absolute,
                seed: 3,
                max_output_change: None,
                lossless: false,
                width_multiple: 1,
            };
            let config = config.check().expect("a valid configuration");
            let run = || {
                let mut go_on = never_stop();
                let on_epoch = &mut |_: &EpochTrace, _: &Network| Verdict::Continue;
                let observer = Observer { on_epoch, may_undo: false };
                prune(&network, &input_box, &config, &mut Poll::new(&mut go_on), observer)
                    .expect("never stopped")
            };
            // On one thread, which is the one that runs without them.
            let pool = ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
            let (wide, narrow) = pool.install(|| (run(), lanes::narrowly(run)));
            assert_eq!(wide.merges, narrow.merges);
            assert_eq!(wide.impact, narrow.impact);
            assert_eq!(wide.trace, narrow.trace);
        }
    }
}
