//! The bounds of a certificate once more, along a second path that is plain enough to be read
//! against `docs/method.md`: no pads worked out beforehand, but interval arithmetic on one number
//! at a time, every result moved outward by one unit in the last place. Only the matrices behind
//! the ellipsoids are multiplied in plain floating point; what each product and sum rounds off is
//! added up beside them.
//!
//! The mathematics is that of [`certificate`](crate::certificate), so what is found lies inside
//! what was found there, up to rounding; of the code, only the activations, the graph and the
//! laying over of the two networks are shared.

mod change;
mod curved;
mod injection;
mod kernel_rows;
mod linear;
mod lines;
mod matrix;
mod norms;
mod rounding;
mod rows;
mod shapes;
mod values;

use crate::bounds::{InputBox, Tightening};
use crate::certificate::Pairing;
use crate::error::{Poll, Result};
use crate::interval::Intervals;

use change::{Both, Chain};
use values::{Side, unit};

/// Bounds of the change of every logit, side by side, for every input of the box.
pub fn recompute(
    pairing: &Pairing<'_>,
    input_box: &InputBox,
    tightening: Tightening,
    poll: &mut Poll<'_>,
) -> Result<Intervals> {
    let original = Side::tight(pairing.original, input_box, tightening, poll)?;
    let pruned = Side::tight(&pairing.pruned, input_box, tightening, poll)?;
    let both = Both::new(pairing, original, pruned, poll)?;
    let logits = pairing.original.logits();
    let count = logits.into_iter().map(|id| pairing.original.node(id).len()).sum();
    let rows: Vec<Vec<f64>> = (0..count).map(|number| unit(count, number)).collect();
    let mut found = both.forward(&rows, poll)?;
    for chain in [Chain::Pruned, Chain::Original] {
        narrow(&mut found, &both.by_jacobian(chain, &rows, poll)?);
    }
    if tightening.backward {
        narrow(&mut found, &both.by_lines(&rows, poll)?);
    }
    Ok(found)
}

/// Keep what both contain.
fn narrow(found: &mut Intervals, other: &Intervals) {
    for index in 0..found.len() {
        found.set(index, found.get(index).intersect(other.get(index)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::{Array1, Array2};

    use super::*;
    use crate::error::never_stop;
    use crate::network::{Dense, Network, NetworkBuilder, Op};

    /// `2 x + 3 y`, from two layers.
    fn network() -> Network {
        let dense = |weights: &[f32]| {
            let kernel = Array2::from_shape_fn((2, weights.len() / 2), |(row, column)| {
                weights[row * weights.len() / 2 + column]
            });
            Op::Dense(Dense { bias: Some(Array1::zeros(weights.len() / 2)), kernel: kernel.into() })
        };
        let mut builder = NetworkBuilder::new();
        builder.add("x", &[], Op::Input, Some(&[2]), None).expect("valid");
        builder.add("hidden", &["x"], dense(&[1.0, 0.0, 0.0, 1.0]), None, None).expect("valid");
        builder.add("out", &["hidden"], dense(&[2.0, 3.0]), None, None).expect("valid");
        builder.build(&["out"]).expect("valid")
    }

    #[test]
    fn a_change_that_no_merge_explains_counts_too() {
        let original = network();
        let mut smaller = original.clone();
        let hidden = smaller.find("hidden").expect("there");
        let (kernel, _) = smaller.node_mut(hidden).op.kernel_and_bias_mut().expect("dense");
        Arc::make_mut(kernel)[[0, 0]] = 1.5;
        let ends = Intervals { lower: vec![0.0; 2], upper: vec![1.0; 2] };
        let input_box = InputBox::new(&original, vec![ends]).expect("valid");
        let pairing = Pairing::new(&original, &smaller, &[]).expect("alike");
        let mut go_on = never_stop();
        let poll = &mut Poll::new(&mut go_on);
        let found = recompute(&pairing, &input_box, Tightening::default(), poll).expect("bounded");
        let change = found.get(0);
        // It is x: from 0 to 1.
        assert!(change.lower <= 0.0 && change.upper >= 1.0, "{change:?}");
        assert!(change.lower > -1e-9 && change.upper < 1.0 + 1e-9, "{change:?}");
    }
}
