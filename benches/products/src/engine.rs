//! What is timed: ways to make a Gram product `W^T W`, or a product `A B^T`.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rayon::prelude::*;

use crate::element::Element;
use crate::kernel::{Kernel, add_lower};

/// A way to multiply.
#[derive(Clone, Copy)]
pub enum Engine {
    /// The crate's own product, the whole of it.
    Whole(Kernel),
    /// faer's product into a lower triangle; of blocks of so many rows of W, each widened first.
    Lower { block: Option<usize> },
    /// The engine's scheme: W is widened by blocks, and tasks of so many rows of the result each
    /// call the crate's product on one thread, up to the diagonal.
    Tasks { kernel: Kernel, rows: usize, block: usize },
}

impl Engine {
    /// Read `ndarray`, `faer`, `gemm`, `faer-lower`, `faer-lower:BLOCK` or
    /// `tasks:KERNEL:ROWS:BLOCK`.
    pub fn named(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split(':').collect();
        match parts[..] {
            ["faer-lower"] => Some(Self::Lower { block: None }),
            ["faer-lower", block] => Some(Self::Lower { block: Some(block.parse().ok()?) }),
            ["tasks", kernel, rows, block] => Some(Self::Tasks {
                kernel: Kernel::named(kernel)?,
                rows: rows.parse().ok()?,
                block: block.parse().ok()?,
            }),
            [kernel] => Kernel::named(kernel).map(Self::Whole),
            _ => None,
        }
    }

    /// Whether the matrices are widened beforehand, as they are for NumPy, or on the way.
    pub fn reads_wide(self) -> bool {
        matches!(self, Self::Whole(_) | Self::Lower { block: None })
    }

    /// `W^T W`; at least its lower triangle is right.
    pub fn gram<T: Element>(
        self,
        kernel: ArrayView2<'_, f32>,
        wide: ArrayView2<'_, T>,
        threads: usize,
    ) -> Array2<T> {
        let units = kernel.ncols();
        let mut gram = Array2::from_elem((units, units), T::ZERO);
        match self {
            Self::Whole(by) => by.add(&mut gram.view_mut(), wide.t(), wide, threads),
            Self::Lower { block: None } => add_lower(&mut gram.view_mut(), wide, threads),
            Self::Lower { block: Some(rows) } => {
                for block in kernel.axis_chunks_iter(Axis(0), rows) {
                    let block = widened(block, threads);
                    add_lower(&mut gram.view_mut(), block.view(), threads);
                }
            }
            Self::Tasks { kernel: by, rows, block } => {
                for block in kernel.axis_chunks_iter(Axis(0), block) {
                    add_by_tasks(by, rows, &mut gram, block.mapv(T::of).view(), threads);
                }
            }
        }
        gram
    }

    /// `A B^T`.
    pub fn product<T: Element>(
        self,
        a: ArrayView2<'_, T>,
        b: ArrayView2<'_, f32>,
        wide: ArrayView2<'_, T>,
        threads: usize,
    ) -> Array2<T> {
        let mut product = Array2::from_elem((a.nrows(), b.nrows()), T::ZERO);
        match self {
            Self::Whole(by) => by.add(&mut product.view_mut(), a, wide.t(), threads),
            Self::Lower { .. } => Kernel::Faer.add(&mut product.view_mut(), a, wide.t(), threads),
            Self::Tasks { kernel: by, rows, .. } => {
                let task = |(mut target, rows): (ArrayViewMut2<'_, T>, ArrayView2<'_, f32>)| {
                    by.add(&mut target, a, rows.mapv(T::of).t(), 1);
                };
                let targets = product.axis_chunks_iter_mut(Axis(1), rows);
                let rows = b.axis_chunks_iter(Axis(0), rows);
                if threads > 1 {
                    targets.into_par_iter().zip(rows.into_par_iter()).for_each(task);
                } else {
                    targets.zip(rows).for_each(task);
                }
            }
        }
        product
    }
}

/// A block of W in T, its rows shared out.
fn widened<T: Element>(block: ArrayView2<'_, f32>, threads: usize) -> Array2<T> {
    if threads == 1 {
        return block.mapv(T::of);
    }
    let mut wide = Array2::from_elem(block.dim(), T::ZERO);
    ndarray::Zip::from(&mut wide).and(block).par_for_each(|wide, &value| *wide = T::of(value));
    wide
}

fn add_by_tasks<T: Element>(
    kernel: Kernel,
    rows: usize,
    gram: &mut Array2<T>,
    block: ArrayView2<'_, T>,
    threads: usize,
) {
    let task = |(index, mut target): (usize, ArrayViewMut2<'_, T>)| {
        let (first, last) = (index * rows, index * rows + target.nrows());
        let left = block.slice_axis(Axis(1), Slice::from(first..last));
        let right = block.slice_axis(Axis(1), Slice::from(..last));
        let mut target = target.slice_axis_mut(Axis(1), Slice::from(..last));
        kernel.add(&mut target, left.t(), right, 1);
    };
    let targets = gram.axis_chunks_iter_mut(Axis(0), rows);
    if threads > 1 {
        // The longest rows first, as the engine does it.
        let mut targets: Vec<_> = targets.enumerate().collect();
        targets.reverse();
        targets.into_par_iter().with_max_len(1).for_each(task);
    } else {
        targets.enumerate().for_each(task);
    }
}
