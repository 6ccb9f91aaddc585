//! The driver: epochs, layers, visits, until every layer's quota is met.

mod run;

use std::ops::ControlFlow;

use crate::bounds::InputBox;
use crate::config::ValidConfig;
use crate::error::{Error, Poll, Result};
use crate::impact::Pair;
use crate::interval::Intervals;
use crate::network::{Group, Network};
use crate::trace::EpochTrace;

use run::Run;

/// One merge, in the order they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The layer of both units.
    pub layer: String,
    /// The two units, by their numbers in the original layer.
    pub pair: Pair,
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
    /// A layer ran out of units that could be delegates before its quota was met.
    NoDelegate,
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
/// `poll` is asked between short pieces of work; `on_epoch` sees every epoch's trace and may end
/// the run, which then returns what it has.
pub fn prune(
    network: &Network,
    input_box: &InputBox,
    config: &ValidConfig,
    poll: &mut Poll<'_>,
    on_epoch: &mut dyn FnMut(&EpochTrace) -> ControlFlow<()>,
) -> Result<Pruning> {
    let groups = selected_groups(network, &config.layers)?;
    let total: usize = groups.iter().map(|group| config.quota(group.units)).sum();
    if total == 0 {
        return Err(Error::NothingToPrune(format!(
            "target {} rounds to no unit at all in any layer; ask for more",
            config.target
        )));
    }
    let mut run = Run::new(network, &groups, input_box, config, poll)?;
    let mut trace = Vec::new();
    let mut by_callback = false;
    while run.units_left() > 0 {
        let temperature = run.units_left() as f64 / total as f64;
        let entry = run.run_epoch(temperature, poll)?;
        let verdict = on_epoch(&entry);
        trace.push(entry);
        if verdict.is_break() {
            by_callback = run.units_left() > 0;
            break;
        }
    }
    let stopped_by = match (by_callback, run.ran_short()) {
        (true, _) => StoppedBy::Callback,
        (false, true) => StoppedBy::NoDelegate,
        (false, false) => StoppedBy::Target,
    };
    Ok(run.finish(trace, stopped_by))
}

/// The groups of the named layers (all prunable ones if none is named), in forward order.
fn selected_groups(network: &Network, layers: &[String]) -> Result<Vec<Group>> {
    for layer in layers {
        network.prunable_group(layer)?;
    }
    let groups = network.groups();
    let reasons: Vec<String> = groups
        .iter()
        .filter_map(|group| Some(format!("{}: {}", group.layer, group.reason.as_ref()?)))
        .collect();
    let chosen: Vec<Group> = groups
        .into_iter()
        .filter(|group| group.reason.is_none())
        .filter(|group| layers.is_empty() || layers.contains(&group.layer))
        .collect();
    if chosen.is_empty() {
        let why = if reasons.is_empty() { "no layer has units".into() } else { reasons.join("; ") };
        return Err(Error::NothingToPrune(why));
    }
    Ok(chosen)
}
