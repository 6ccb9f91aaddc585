//! Differences of the two networks, propagated forward node by node.

use crate::bounds::linear::sparse_rows;
use crate::bounds::{Bounds, linear_image};
use crate::error::{Poll, Result};
use crate::impact::{self, Injection, KnownRows};
use crate::interval::{Interval, Intervals};
use crate::network::{Network, NodeId};

use super::pairing::{Pairing, Residual};
use super::{Values, narrow};

impl Residual {
    /// What it adds to the consumer's output, over a network's values.
    pub(super) fn image(&self, network: &Network, values: &Bounds) -> Intervals {
        let found = self.rounding.image(network, values);
        let node = network.node(self.rounding.node);
        let symmetric: Vec<f64> = values
            .of(node.sources[0])
            .iter()
            .map(|value| value.lower.abs().max(value.upper.abs()))
            .collect();
        let symmetric: Intervals =
            symmetric.into_iter().map(|most| Interval::new(most, most)).collect();
        let place = self.rounding.places(network);
        let positions = node.len() / node.last_axis();
        let slack = sparse_rows(
            positions,
            &self.rounding.rows,
            &self.error,
            &self.bias_error,
            &place,
            &symmetric,
        );
        found
            .iter()
            .zip(slack.iter())
            .map(|(found, slack)| found.plus(Interval::new(-slack.upper, slack.upper)))
            .collect()
    }
}

impl Pairing<'_> {
    /// What the merges inject at each consumer: the change of what it reads, and the residual.
    pub(super) fn injections(
        &self,
        network: &Network,
        values: &Bounds,
        poll: &mut Poll<'_>,
    ) -> Result<Vec<Injection>> {
        let mut found = Vec::new();
        for takeover in &self.takeovers {
            let group = &takeover.group;
            let inputs = impact::consumer_inputs(
                network,
                group,
                &takeover.pairs,
                (values, &mut KnownRows::default()),
                poll,
            )?;
            let residuals = self.residuals(takeover);
            for ((consumer, mut input), residual) in
                group.consumers.iter().zip(inputs).zip(residuals)
            {
                let read = values.of(network.node(consumer.node).sources[0]);
                for &unit in &takeover.dropped {
                    for element in (unit..input.len()).step_by(group.units) {
                        input.set(element, read.get(element).scaled(-1.0));
                    }
                }
                let nominees = takeover.nominees();
                found.push(Injection {
                    consumer: consumer.node,
                    units: group.units,
                    nominees,
                    input,
                    residual: residual.image(network, values),
                });
            }
        }
        for residual in self.residuals_elsewhere() {
            let id = residual.rounding.node;
            found.push(Injection {
                consumer: id,
                units: 1,
                nominees: Vec::new(),
                input: Intervals::zeros(network.node(network.node(id).sources[0]).len()),
                residual: residual.image(network, values),
            });
        }
        Ok(found)
    }

    /// Differences of the logits side by side.
    pub(super) fn forward(&self, values: &Values, poll: &mut Poll<'_>) -> Result<Intervals> {
        let (f, g) = (self.original, &self.pruned);
        let in_f = self.injections(f, &values.original, poll)?;
        let in_g = self.injections(g, &values.pruned, poll)?;
        let mut differences: Vec<Option<Intervals>> = vec![None; f.nodes().len()];
        for id in 0..f.nodes().len() {
            poll.check()?;
            let injected = in_f.iter().zip(&in_g).find(|(in_f, _)| in_f.consumer == id);
            let mut found = match injected {
                None => impact::difference_at(
                    f,
                    id,
                    &differences,
                    &values.original,
                    &values.pruned,
                    poll,
                )?,
                Some((in_f, in_g)) => {
                    let read = differences[f.node(id).sources[0]].as_ref();
                    // Identity (A): the pruned weights carry what comes, the merges inject in f;
                    // identity (B) the other way round. Both hold.
                    let mut by_f = through(g, f, id, read, in_f, poll)?;
                    narrow(&mut by_f, &through(f, f, id, read, in_g, poll)?);
                    Some(by_f)
                }
            };
            if let Some(found) = &mut found {
                let by_value: Intervals = values
                    .pruned
                    .of(id)
                    .iter()
                    .zip(values.original.of(id).iter())
                    .map(|(after, before)| after.minus(before))
                    .collect();
                narrow(found, &by_value);
            }
            differences[id] = found;
        }
        Ok(impact::at_logits(f, &f.logits(), &differences))
    }
}

/// The difference after a consumer: what it reads through `carrier`'s weights, what is injected
/// through the original's.
fn through(
    carrier: &Network,
    original: &Network,
    id: NodeId,
    read: Option<&Intervals>,
    injection: &Injection,
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let unknown = || Intervals::unbounded(original.node(id).len());
    let moved = linear_image(original, id, &[&injection.input], false, poll)?;
    let mut found = moved.unwrap_or_else(unknown).plus(&injection.residual);
    if let Some(read) = read {
        let carried = linear_image(carrier, id, &[read], false, poll)?;
        found = found.plus(&carried.unwrap_or_else(unknown));
    }
    Ok(found)
}
