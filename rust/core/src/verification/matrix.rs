//! Square and other matrices in plain loops, each with what rounding may have put it off by.

use rayon::prelude::*;

use super::norms::{power_of_two, root_of_power};
use super::rounding::{add_up, length, root_up, times_up};
use crate::interval::{Interval, centre_radius};

/// Squarings of the powers that bound eigenvalues: as many as on the first path, or the bounds
/// would not be alike.
const SQUARINGS: u32 = 5;

/// The matrix that is meant is no further than `error` (Frobenius norm) from these rows.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) rows: Vec<Vec<f64>>,
    error: f64,
}

impl Matrix {
    /// A matrix that is known exactly.
    pub(super) fn exact(rows: Vec<Vec<f64>>) -> Self {
        Self { rows, error: 0.0 }
    }

    /// The middles of intervals for its elements.
    pub(super) fn from_fn(
        (rows, columns): (usize, usize),
        element: impl Fn(usize, usize) -> Interval + Sync,
    ) -> Self {
        let row = |row| (0..columns).map(|column| centre_radius(element(row, column))).unzip();
        let (rows, errors): (Vec<Vec<f64>>, Vec<Vec<f64>>) =
            (0..rows).into_par_iter().map(row).unzip();
        Self { rows, error: length(errors.into_iter().flatten()) }
    }

    /// A diagonal matrix.
    pub(super) fn diagonal(values: &[f64]) -> Self {
        let row = |(at, &value): (usize, &f64)| {
            let mut row = vec![0.0; values.len()];
            row[at] = value;
            row
        };
        Self::exact(values.iter().enumerate().map(row).collect())
    }

    /// Numbers of rows and columns.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.rows.len(), self.rows.first().map_or(0, Vec::len))
    }

    /// An element of the rows as they are, as an interval.
    pub(super) fn at(&self, row: usize, column: usize) -> Interval {
        Interval::point(self.rows[row][column])
    }

    /// The same off by something more.
    pub(super) fn off_by(mut self, error: f64) -> Self {
        self.error = add_up(self.error, error);
        self
    }

    /// How far what is meant may be from the rows.
    pub(super) fn error(&self) -> f64 {
        self.error
    }

    /// At least the Frobenius norm of the rows as they are.
    pub(super) fn frobenius(&self) -> f64 {
        length(self.rows.iter().flatten().copied())
    }

    pub(super) fn transposed(&self) -> Self {
        let column = |column| self.rows.iter().map(|row: &Vec<f64>| row[column]).collect();
        Self { rows: (0..self.shape().1).map(column).collect(), error: self.error }
    }

    /// `A B`.
    pub(super) fn times(&self, other: &Self) -> Self {
        let (rows, errors): (Vec<Vec<f64>>, Vec<f64>) = self
            .rows
            .par_iter()
            .map(|row| {
                let (row, errors) = combined(row, other);
                (row, length(errors.into_iter()))
            })
            .unzip();
        let (a, b) = (self.frobenius(), other.frobenius());
        Self { rows, error: length(errors.into_iter()) }
            .off_by(times_up(a, other.error))
            .off_by(times_up(self.error, add_up(b, other.error)))
    }

    /// Larger than every symmetric matrix that may be meant, and known exactly; the diagonal is
    /// raised by `least` at least.
    pub(super) fn raised(mut self, least: f64) -> Self {
        // Every mean is rounded once more.
        let error = add_up(self.error, times_up(f64::EPSILON, self.frobenius())).max(least);
        for row in 0..self.rows.len() {
            for column in 0..row {
                let mean = 0.5 * (self.rows[row][column] + self.rows[column][row]);
                self.rows[row][column] = mean;
                self.rows[column][row] = mean;
            }
            self.rows[row][row] = add_up(self.rows[row][row], error);
        }
        Self::exact(self.rows)
    }

    /// At least the absolute eigenvalues: the norm of a power, squared a few times.
    pub(super) fn spectral_radius(mut self) -> f64 {
        let mut exponent = 0;
        for _ in 0..SQUARINGS {
            let size = add_up(self.frobenius(), self.error);
            if size == 0.0 || !size.is_finite() {
                return size;
            }
            let down = power_of_two(size);
            self = self.shrunk(down);
            exponent = 2 * (exponent + down);
            self = self.times(&self);
        }
        root_of_power(add_up(self.frobenius(), self.error), exponent, SQUARINGS)
    }

    /// Divided by a power of two: exact but for what gets too small for a normal number.
    fn shrunk(mut self, exponent: i32) -> Self {
        let factor = 2.0_f64.powi(-exponent);
        for x in self.rows.iter_mut().flatten() {
            *x *= factor;
        }
        let (rows, columns) = self.shape();
        self.error = times_up(self.error, factor);
        self.off_by(times_up((rows * columns) as f64, f64::MIN_POSITIVE))
    }
}

/// A row times the rows of a matrix as they are, and by how much each sum may be off.
///
/// Every product and every sum is off by half a unit in the last place of what it came out as; the
/// sizes of all of them are added up. A whole unit covers the rounding of that sum, too.
fn combined(row: &[f64], matrix: &Matrix) -> (Vec<f64>, Vec<f64>) {
    let columns = matrix.shape().1;
    let (mut sums, mut sizes) = (vec![0.0; columns], vec![0.0; columns]);
    for (&factor, values) in row.iter().zip(&matrix.rows) {
        if factor == 0.0 {
            continue;
        }
        for ((sum, size), &value) in sums.iter_mut().zip(&mut sizes).zip(values) {
            let term: f64 = factor * value;
            *sum += term;
            *size += term.abs() + f64::abs(*sum);
        }
    }
    // A product that is too small for a normal number is off by less than the least of those.
    let vanished = row.len() as f64 * f64::MIN_POSITIVE;
    let error = |size: f64| if size == 0.0 { 0.0 } else { add_up(size * f64::EPSILON, vanished) };
    let errors = sizes.into_iter().map(error).collect();
    (sums, errors)
}

/// At least sqrt(w' X w) for a row w and an X that is known exactly.
pub(super) fn size_in(row: &[f64], shape: &Matrix) -> f64 {
    let (sums, errors) = combined(row, shape);
    let square = row.iter().zip(sums.into_iter().zip(errors)).fold(0.0, |total, (&w, (x, e))| {
        let product = if w == 0.0 || x == 0.0 { 0.0 } else { (w * x).next_up() };
        add_up(total, add_up(product, times_up(w.abs(), e)))
    });
    root_up(square.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_product_is_off_by_no_more_than_it_says() {
        let mut random = Random::from_seed(3);
        // Thirds of integers: nine times the product is an integer, known exactly.
        let numbers: Vec<Vec<f64>> = (0..20)
            .map(|_| (0..20).map(|_| (1000.0 * random.uniform()).floor()).collect())
            .collect();
        let whole = Matrix::exact(numbers.clone());
        let thirds = Matrix::from_fn((20, 20), |row, column| {
            let third = numbers[row][column] / 3.0;
            Interval::new(third.next_down(), third.next_up())
        });
        let (found, exact) = (thirds.times(&thirds), whole.times(&whole));
        let off =
            (0..400).map(|at| found.rows[at / 20][at % 20] - exact.rows[at / 20][at % 20] / 9.0);
        let off = off.map(|x| x * x).sum::<f64>().sqrt();
        assert!(off <= found.error() && found.error() < 1e-7, "{off} {}", found.error());
    }

    #[test]
    fn a_spectral_radius_is_bounded_closely() {
        let values = [3.0, 2.0, 0.5, 0.0];
        // The same eigenvalues after a rotation by 3-4-5 in the plane of the first two.
        let mut turned = Matrix::diagonal(&values);
        turned.rows[0][..2].copy_from_slice(&[2.64, 0.48]);
        turned.rows[1][..2].copy_from_slice(&[0.48, 2.36]);
        for matrix in [Matrix::diagonal(&values), turned.off_by(1e-15)] {
            let found = matrix.spectral_radius();
            assert!((3.0..3.000_01).contains(&found), "{found}");
        }
    }
}
