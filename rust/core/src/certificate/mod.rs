//! What pruning did to the outputs, proved: bounds of g - f over the whole input box.
//!
//! Four enclosures are computed and intersected: differences propagated forward; the Jacobian taken
//! back along either network with what the merges inject in the other (`sensitivity`); lines taken
//! back through both networks at once (CROWN); and the difference of the two value intervals.
//! Everything is in f64 with outward rounding and holds for real arithmetic on the stored weights.

mod difference;
mod jacobian;
pub mod local;
mod pairing;

pub use pairing::{NamedMerge, Pairing, Takeover};

use ndarray::Array2;

use crate::bounds::backward::{above, head_rows};
use crate::bounds::{Bounds, InputBox, Tightening};
use crate::error::{Poll, Result};
use crate::interval::{Interval, Intervals};
use crate::network::Network;

/// Most outputs for which every pair of them gets a bound of its own.
const MOST_PAIRED_OUTPUTS: usize = 64;

/// Bounds of g - f for every input of the box.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Of every logit, side by side.
    pub change: Intervals,
    /// `margins[[c, k]]` is at least `(f_c - f_k) - (g_c - g_k)`; a single logit z is taken for
    /// the two logits 0 and z.
    pub margins: Array2<f64>,
}

/// Both networks' value intervals, as tight as they get.
pub(super) struct Values {
    pub(super) original: Bounds,
    pub(super) pruned: Bounds,
}

impl Pairing<'_> {
    /// Bound the change of all logits over the box.
    pub fn certify(
        &self,
        input_box: &InputBox,
        tightening: Tightening,
        poll: &mut Poll<'_>,
    ) -> Result<Certificate> {
        let values = Values {
            original: Bounds::tight(self.original, input_box, tightening, poll)?,
            pruned: Bounds::tight(&self.pruned, input_box, tightening, poll)?,
        };
        let count: usize =
            self.original.logits().into_iter().map(|id| self.original.node(id).len()).sum();
        let pairs = paired(count);
        let rows = rows(count, &pairs);
        let bounds = self.bounds(&rows, &values, tightening, poll)?;
        let change: Intervals = (0..count).map(|k| bounds.get(k)).collect();
        let mut margins = Array2::zeros((count.max(2), count.max(2)));
        if count == 1 {
            margins[[1, 0]] = -change.lower[0];
            margins[[0, 1]] = change.upper[0];
        } else if pairs.is_empty() {
            for (c, own) in change.iter().enumerate() {
                for (k, other) in change.iter().enumerate().filter(|&(k, _)| k != c) {
                    margins[[c, k]] = other.minus(own).upper;
                }
            }
        }
        for (at, &(c, k)) in pairs.iter().enumerate() {
            // Rows are (g_c - g_k) - (f_c - f_k): what is asked for is the negative.
            let bound = bounds.get(count + at);
            margins[[c, k]] = -bound.lower;
            margins[[k, c]] = bound.upper;
        }
        Ok(Certificate { change, margins })
    }

    /// Bounds of `rows . (g - f)`, on the logits side by side; the first rows are the identity.
    fn bounds(
        &self,
        rows: &Array2<f64>,
        values: &Values,
        tightening: Tightening,
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let forward = self.forward(values, poll)?;
        let mut found = images(rows, &forward);
        for chain in [jacobian::Chain::Pruned, jacobian::Chain::Original] {
            narrow(&mut found, &self.by_jacobian(chain, rows, values, poll)?);
        }
        if tightening.backward {
            narrow(&mut found, &self.by_lines(rows, values, poll)?);
        }
        Ok(found)
    }

    /// CROWN on the network g - f: both networks' lines over the same inputs, added up.
    fn by_lines(
        &self,
        rows: &Array2<f64>,
        values: &Values,
        poll: &mut Poll<'_>,
    ) -> Result<Intervals> {
        let mut ends = Vec::with_capacity(2);
        for sign in [1.0, -1.0] {
            let mut total = None;
            let mut first = 0;
            for logits in self.original.logits() {
                let count = self.original.node(logits).len();
                let head = head_rows(rows, first, count);
                first += count;
                let sides: [(&Network, &Bounds, f64); 2] = [
                    (&self.pruned, &values.pruned, sign),
                    (self.original, &values.original, -sign),
                ];
                for (network, bounds, sign) in sides {
                    let lines = above(network, logits, &head * sign, bounds, poll)?;
                    total = Some(match total {
                        None => lines,
                        Some(sum) => lines.plus(&sum, bounds, network),
                    });
                }
            }
            ends.push(total.map(|sum| sum.largest(&values.original, self.original)));
        }
        let unknown = || vec![f64::INFINITY; rows.nrows()];
        let lower = ends.pop().flatten().unwrap_or_else(unknown);
        let upper = ends.pop().flatten().unwrap_or_else(unknown);
        Ok(lower.into_iter().zip(upper).map(|(l, u)| Interval::new(-l, u)).collect())
    }
}

/// All pairs of outputs, the first before the second.
fn paired(count: usize) -> Vec<(usize, usize)> {
    if !(2..=MOST_PAIRED_OUTPUTS).contains(&count) {
        return Vec::new();
    }
    (0..count).flat_map(|c| (c + 1..count).map(move |k| (c, k))).collect()
}

/// The identity, and below it a row `e_c - e_k` for every pair.
fn rows(count: usize, pairs: &[(usize, usize)]) -> Array2<f64> {
    let mut rows = Array2::zeros((count + pairs.len(), count));
    for k in 0..count {
        rows[[k, k]] = 1.0;
    }
    for (at, &(c, k)) in pairs.iter().enumerate() {
        rows[[count + at, c]] = 1.0;
        rows[[count + at, k]] = -1.0;
    }
    rows
}

/// `rows . x` for x in intervals; the rows hold 0, 1 and -1.
fn images(rows: &Array2<f64>, x: &Intervals) -> Intervals {
    rows.rows()
        .into_iter()
        .map(|row| {
            let parts = row.iter().zip(x.iter()).filter(|&(&factor, _)| factor != 0.0);
            parts.map(|(&factor, x)| x.scaled(factor)).fold(Interval::ZERO, Interval::plus)
        })
        .collect()
}

fn narrow(found: &mut Intervals, other: &Intervals) {
    for index in 0..found.len() {
        found.set(index, found.get(index).intersect(other.get(index)));
    }
}
