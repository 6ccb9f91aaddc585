//! Products of large matrices that may be stopped: they ask between some tasks and the next.
//!
//! A task is a tile of the result, whatever the number of threads.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use crate::error::{Poll, Result};
use crate::linalg::multiply_add;
use crate::tasks::is_worth_sharing;

/// Most rows of a tile: many, so that what they are multiplied with is packed seldom.
const ROWS: usize = 256;
/// Most columns of a tile.
const COLUMNS: usize = 1024;
/// Multiplications between two questions to the caller, for one core: some hundredths of a second.
const MULTIPLICATIONS_PER_POLL: usize = 1 << 30;

/// Some rows and columns of a matrix.
pub(super) fn part<T>(
    matrix: ArrayView2<'_, T>,
    rows: Range<usize>,
    columns: Range<usize>,
) -> ArrayView2<'_, T> {
    matrix.slice_axis_move(Axis(0), rows.into()).slice_axis_move(Axis(1), columns.into())
}

/// The same, to write.
pub(super) fn part_mut<T>(
    matrix: ArrayViewMut2<'_, T>,
    rows: Range<usize>,
    columns: Range<usize>,
) -> ArrayViewMut2<'_, T> {
    matrix.slice_axis_move(Axis(0), rows.into()).slice_axis_move(Axis(1), columns.into())
}

/// A part of a product: `target += sign A B`, of a tile on the diagonal the lower triangle only.
struct Tile<'a> {
    target: ArrayViewMut2<'a, f64>,
    a: ArrayView2<'a, f64>,
    b: ArrayView2<'a, f64>,
    is_lower: bool,
}

impl Tile<'_> {
    fn add(&mut self, sign: f64) {
        if !self.is_lower {
            multiply_add(self.target.view_mut(), self.a, self.b, sign);
            return;
        }
        let mut product = Array2::zeros(self.target.raw_dim());
        multiply_add(product.view_mut(), self.a, self.b, sign);
        for (row, values) in product.rows().into_iter().enumerate() {
            for (column, value) in values.iter().enumerate().take(row + 1) {
                self.target[[row, column]] += value;
            }
        }
    }
}

/// Add `sign A B` to `target`.
pub(super) fn add_product(
    target: ArrayViewMut2<'_, f64>,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    sign: f64,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let mut tiles = Vec::new();
    for (rows, a) in cut(target, Axis(0), ROWS).into_iter().zip(a.axis_chunks_iter(Axis(0), ROWS)) {
        add_tiles(&mut tiles, rows, a, b);
    }
    run(tiles, sign, poll)
}

/// `A B`.
pub(super) fn product(
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    poll: &mut Poll<'_>,
) -> Result<Array2<f64>> {
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    add_product(product.view_mut(), a, b, 1.0, poll)?;
    Ok(product)
}

/// Add `sign B^T B` to the lower triangle of `gram`; what is above it stays as it is.
pub(super) fn add_gram(
    gram: ArrayViewMut2<'_, f64>,
    block: ArrayView2<'_, f64>,
    sign: f64,
    poll: &mut Poll<'_>,
) -> Result<()> {
    add_symmetric(gram, block, block, sign, poll)
}

/// Add `sign A^T B`, which is symmetric, to the lower triangle of `target`.
pub(super) fn add_symmetric(
    target: ArrayViewMut2<'_, f64>,
    a: ArrayView2<'_, f64>,
    b: ArrayView2<'_, f64>,
    sign: f64,
    poll: &mut Poll<'_>,
) -> Result<()> {
    let mut tiles = Vec::new();
    for (at, rows) in cut(target, Axis(0), ROWS).into_iter().enumerate() {
        let (first, last) = (at * ROWS, at * ROWS + rows.nrows());
        let left = a.slice_axis_move(Axis(1), Slice::from(first..last)).reversed_axes();
        let (before, own) = rows.split_at(Axis(1), first);
        let (right, after) = b.split_at(Axis(1), first);
        add_tiles(&mut tiles, before, left, right);
        let own = own.split_at(Axis(1), last - first).0;
        let b = after.split_at(Axis(1), last - first).0;
        tiles.push(Tile { target: own, a: left, b, is_lower: true });
    }
    run(tiles, sign, poll)
}

fn add_tiles<'a>(
    tiles: &mut Vec<Tile<'a>>,
    rows: ArrayViewMut2<'a, f64>,
    a: ArrayView2<'a, f64>,
    b: ArrayView2<'a, f64>,
) {
    for (at, target) in cut(rows, Axis(1), COLUMNS).into_iter().enumerate() {
        let columns = at * COLUMNS..at * COLUMNS + target.ncols();
        let b = b.slice_axis_move(Axis(1), columns.into());
        tiles.push(Tile { target, a, b, is_lower: false });
    }
}

fn cut(view: ArrayViewMut2<'_, f64>, axis: Axis, most: usize) -> Vec<ArrayViewMut2<'_, f64>> {
    let (mut parts, mut rest) = (Vec::new(), view);
    while rest.len_of(axis) > most {
        let (part, after) = rest.split_at(axis, most);
        parts.push(part);
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

fn run(mut tiles: Vec<Tile<'_>>, sign: f64, poll: &mut Poll<'_>) -> Result<()> {
    poll.check()?;
    let work = |tile: &Tile<'_>| tile.target.len() * tile.a.ncols();
    let (all, largest) =
        tiles.iter().map(work).fold((0, 1), |(all, most), work| (all + work, work.max(most)));
    if !is_worth_sharing(all) {
        for tile in &mut tiles {
            tile.add(sign);
        }
        return Ok(());
    }
    let each = (MULTIPLICATIONS_PER_POLL / largest).max(2);
    for group in tiles.chunks_mut(each * rayon::current_num_threads()) {
        poll.check()?;
        group.par_iter_mut().with_max_len(1).for_each(|tile| tile.add(sign));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Error, never_stop};
    use crate::linalg::mirror;
    use crate::random::Random;
    use std::ops::ControlFlow;

    fn matrix(random: &mut Random, rows: usize, columns: usize) -> Array2<f64> {
        Array2::from_shape_simple_fn((rows, columns), || random.uniform() - 0.5)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn slabs_and_tiles_make_the_whole_product(
            seed in 0_u64..1_000,
            rows in 1_usize..600,
            inner in 1_usize..80,
        ) {
            let mut random = Random::from_seed(seed);
            let (block, start) = (matrix(&mut random, inner, rows), matrix(&mut random, rows, rows));
            let expected = &start - block.t().dot(&block);
            let mut go_on = never_stop();
            let poll = &mut Poll::new(&mut go_on);
            let mut sum = start.clone();
            add_product(sum.view_mut(), block.t(), block.view(), -1.0, poll).expect("not stopped");
            prop_assert!((&sum - &expected).iter().all(|gap| gap.abs() < 1e-12));
            let mut gram = start.clone();
            add_gram(gram.view_mut(), block.view(), -1.0, poll).expect("not stopped");
            for ((row, column), &found) in gram.indexed_iter() {
                if column <= row {
                    prop_assert!((found - expected[[row, column]]).abs() < 1e-12);
                } else {
                    prop_assert_eq!(found, start[[row, column]]);
                }
            }
            mirror(&mut gram);
            prop_assert_eq!(&gram, &gram.t());
        }
    }

    #[test]
    fn a_product_may_be_stopped() {
        let mut stop = || ControlFlow::Break(());
        let poll = &mut Poll::new(&mut stop);
        let ones = Array2::ones((3, 3));
        assert_eq!(product(ones.view(), ones.view(), poll), Err(Error::Interrupted));
        let mut sum = ones.clone();
        assert_eq!(add_gram(sum.view_mut(), ones.view(), 1.0, poll), Err(Error::Interrupted));
    }
}
