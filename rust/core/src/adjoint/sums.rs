//! The sums that a row's product with a vector of intervals is bounded by.

#![expect(clippy::inline_always)] // what is not inlined is compiled for the narrowest registers

use pulp::{Simd, WithSimd};

use crate::interval::product as times;
use crate::lanes::{self, LANES};

/// For a row of centres c and radii r, and a vector of middles m, half widths h and sizes s.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    /// `c . m`.
    pub(super) sum: f64,
    /// `|c| . |m|`, what its rounding is relative to.
    pub(super) size: f64,
    /// `|c| . h`.
    pub(super) reach: f64,
    /// `r . s`.
    pub(super) by_box: f64,
}

impl Sums {
    /// All slices are of the same length; `vector` holds m, h and s.
    pub(super) fn of(centre: &[f64], radius: &[f64], vector: (&[f64], &[f64], &[f64])) -> Self {
        lanes::run(Row { centre, radius, vector })
    }
}

struct Row<'a> {
    centre: &'a [f64],
    radius: &'a [f64],
    vector: (&'a [f64], &'a [f64], &'a [f64]),
}

/// Each of the four sums in parts.
type Parts = [[f64; LANES]; 4];

impl WithSimd for Row<'_> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Sums {
        let Self { centre, radius, vector: (middle, half, most) } = self;
        let mut parts: Parts = [[0.0; LANES]; 4];
        let vector = middle.as_chunks().0.iter().zip(half.as_chunks().0).zip(most.as_chunks().0);
        let row = centre.as_chunks::<LANES>().0.iter().zip(radius.as_chunks::<LANES>().0);
        for ((c, r), ((m, h), s)) in row.zip(vector) {
            let (m, h, s): (&[f64; LANES], &[f64; LANES], &[f64; LANES]) = (m, h, s);
            for lane in 0..LANES {
                add(&mut parts, lane, (c[lane], r[lane]), (m[lane], h[lane], s[lane]));
            }
        }
        let whole = centre.len() - centre.len() % LANES;
        for at in whole..centre.len() {
            add(&mut parts, at - whole, (centre[at], radius[at]), (middle[at], half[at], most[at]));
        }
        let [sum, size, reach, by_box] = parts.map(lanes::total);
        Sums { sum, size, reach, by_box }
    }
}

#[inline(always)]
fn add(parts: &mut Parts, lane: usize, (c, r): (f64, f64), (m, h, s): (f64, f64, f64)) {
    let term = times(c, m);
    parts[0][lane] += term;
    parts[1][lane] += term.abs();
    parts[2][lane] += times(c.abs(), h);
    parts[3][lane] += times(r, s);
}
