//! One product on one thread or several, by each crate: `target += A B` and its lower triangle.

use std::num::NonZeroUsize;

use faer::linalg::matmul::triangular::BlockStructure;
use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{ArrayView2, ArrayViewMut2};

use crate::element::Element;

/// Whose product it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    Ndarray,
    Faer,
    Gemm,
}

impl Kernel {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ndarray" => Some(Self::Ndarray),
            "faer" => Some(Self::Faer),
            "gemm" => Some(Self::Gemm),
            _ => None,
        }
    }

    /// `target += A B`; ndarray's takes one thread whatever is asked.
    pub fn add<T: Element>(
        self,
        target: &mut ArrayViewMut2<'_, T>,
        a: ArrayView2<'_, T>,
        b: ArrayView2<'_, T>,
        threads: usize,
    ) {
        match self {
            Self::Ndarray => ndarray::linalg::general_mat_mul(T::ONE, &a, &b, T::ONE, target),
            Self::Faer => {
                matmul(writable(target), Accum::Add, view(a), view(b), T::ONE, par(threads))
            }
            Self::Gemm => add_by_gemm(target, a, b, threads),
        }
    }
}

/// Add `B^T B` to the lower triangle of `target`, with faer.
pub fn add_lower<T: Element>(
    target: &mut ArrayViewMut2<'_, T>,
    block: ArrayView2<'_, T>,
    threads: usize,
) {
    let all = BlockStructure::Rectangular;
    let (left, right) = (view(block.t()), view(block));
    let lower = BlockStructure::TriangularLower;
    let (target, par) = (writable(target), par(threads));
    triangular::matmul(target, lower, Accum::Add, left, all, right, all, T::ONE, par);
}

fn par(threads: usize) -> Par {
    NonZeroUsize::new(threads).filter(|threads| threads.get() > 1).map_or(Par::Seq, Par::Rayon)
}

fn view<T>(array: ArrayView2<'_, T>) -> MatRef<'_, T> {
    let (rows, columns) = array.dim();
    let [down, right] = [array.strides()[0], array.strides()[1]];
    // Safe: the view lends exactly these elements, and for as long.
    unsafe { MatRef::from_raw_parts(array.as_ptr(), rows, columns, down, right) }
}

fn writable<'a, T>(array: &'a mut ArrayViewMut2<'_, T>) -> MatMut<'a, T> {
    let (rows, columns) = array.dim();
    let [down, right] = [array.strides()[0], array.strides()[1]];
    // Safe: the view lends exactly these elements to one writer, and for as long.
    unsafe { MatMut::from_raw_parts_mut(array.as_mut_ptr(), rows, columns, down, right) }
}

fn add_by_gemm<T: Element>(
    target: &mut ArrayViewMut2<'_, T>,
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    threads: usize,
) {
    let (rows, inner) = a.dim();
    let columns = b.ncols();
    let parallelism =
        if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    assert!(target.dim() == (rows, columns) && b.nrows() == inner);
    // Safe: shapes fit, and the views lend what their strides reach.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            target.as_mut_ptr(),
            target.strides()[1],
            target.strides()[0],
            true,
            a.as_ptr(),
            a.strides()[1],
            a.strides()[0],
            b.as_ptr(),
            b.strides()[1],
            b.strides()[0],
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}
