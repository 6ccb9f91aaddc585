//! Margins that hold in a small box around one sample, by lines taken back to the inputs (CROWN).

use ndarray::Array2;
use rayon::prelude::*;

use crate::bounds::backward::above;
use crate::bounds::{Bounds, InputBox, Tightening};
use crate::error::{Error, Poll, Result, never_stop};
use crate::network::Network;

/// Samples bounded between two polls.
const SAMPLES_PER_POLL: usize = 16;

/// Lower bounds of `z_c - z_k` over each box, for its class c and every k; infinite at k = c.
///
/// The network has one head; a single logit z counts as the two logits 0 and z. A sample is
/// certified where the least of its margins is positive.
pub fn margins(
    network: &Network,
    boxes: &[InputBox],
    classes: &[usize],
    tightening: Tightening,
    poll: &mut Poll<'_>,
) -> Result<Vec<Vec<f64>>> {
    let logits = network.logits();
    let [head] = logits[..] else {
        return Err(Error::Graph {
            node: "network".into(),
            problem: format!("margins are for one head, not for {}", logits.len()),
        });
    };
    let count = network.node(head).len().max(2);
    if let Some(class) = classes.iter().find(|&&class| class >= count) {
        return Err(Error::Config {
            field: "classes",
            expected: format!("classes from 0 to {}", count - 1),
            got: class.to_string(),
        });
    }
    let samples: Vec<(&InputBox, usize)> = boxes.iter().zip(classes.iter().copied()).collect();
    let mut found = Vec::with_capacity(samples.len());
    for batch in samples.chunks(SAMPLES_PER_POLL) {
        poll.check()?;
        let bounded: Vec<Result<Vec<f64>>> = batch
            .par_iter()
            .map(|&(input_box, class)| {
                // A poll belongs to the calling thread: it is asked between batches.
                let mut go_on = never_stop();
                one(network, head, input_box, class, tightening, &mut Poll::new(&mut go_on))
            })
            .collect();
        for margins in bounded {
            found.push(margins?);
        }
    }
    Ok(found)
}

fn one(
    network: &Network,
    head: usize,
    input_box: &InputBox,
    class: usize,
    tightening: Tightening,
    poll: &mut Poll<'_>,
) -> Result<Vec<f64>> {
    let values = Bounds::tight(network, input_box, tightening, poll)?;
    let logits = values.of(head);
    let mut margins = vec![f64::INFINITY; logits.len().max(2)];
    if logits.len() == 1 {
        margins[1 - class] = if class == 1 { logits.lower[0] } else { -logits.upper[0] };
        return Ok(margins);
    }
    let others: Vec<usize> = (0..logits.len()).filter(|&k| k != class).collect();
    let mut rows = Array2::zeros((others.len(), logits.len()));
    for (row, &k) in others.iter().enumerate() {
        rows[[row, k]] = 1.0;
        rows[[row, class]] = -1.0;
    }
    let rises = above(network, head, rows, &values, poll)?.largest(&values, network);
    for (&k, rise) in others.iter().zip(rises) {
        let by_values = (logits.lower[class] - logits.upper[k]).next_down();
        margins[k] = (-rise).max(by_values);
    }
    Ok(margins)
}
