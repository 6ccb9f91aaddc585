//! The sums over inputs that difference rows are made of.

#![expect(clippy::inline_always)] // what is not inlined is compiled for the narrowest registers

use pulp::{Simd, WithSimd};

use crate::lanes::{self, LANES};

/// Sums over the inputs of one unit, in lanes.
type Parts = [f64; LANES];

/// `s w . m` and `|s w| . (|m| + r)` for a unit's weights w, scaled by s, middles m and radii r.
pub(super) fn affine(weights: &[f32], scale: f64, middle: &[f64], radius: &[f64]) -> (f64, f64) {
    lanes::run(Affine { weights, scale, middle, radius })
}

/// `|t b - s a| . r` for two units' weights a and b with scales s and t.
pub(super) fn spread(a: &[f32], b: &[f32], scales: (f64, f64), radius: &[f64]) -> f64 {
    lanes::run(Spread { a, b, scales, radius })
}

/// `|t b - s a|^2` and the same, each term times its radius squared.
pub(super) fn moments(a: &[f32], b: &[f32], scales: (f64, f64), radius: &[f64]) -> (f64, f64) {
    lanes::run(Moments(Spread { a, b, scales, radius }))
}

struct Affine<'a> {
    weights: &'a [f32],
    scale: f64,
    middle: &'a [f64],
    radius: &'a [f64],
}

struct Spread<'a> {
    a: &'a [f32],
    b: &'a [f32],
    scales: (f64, f64),
    radius: &'a [f64],
}

struct Moments<'a>(Spread<'a>);

impl WithSimd for Affine<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f64, f64) {
        let Self { weights, scale, middle, radius } = self;
        let (mut sums, mut sizes): (Parts, Parts) = Default::default();
        let mut add = |lane: usize, weight: f32, m: f64, r: f64| {
            let weight = scale * f64::from(weight);
            sums[lane] += weight * m;
            sizes[lane] += weight.abs() * (m.abs() + r);
        };
        let box_chunks = middle.as_chunks::<LANES>().0.iter().zip(radius.as_chunks::<LANES>().0);
        for (w, (m, r)) in weights.as_chunks::<LANES>().0.iter().zip(box_chunks) {
            for lane in 0..LANES {
                add(lane, w[lane], m[lane], r[lane]);
            }
        }
        let whole = weights.len() - weights.len() % LANES;
        for at in whole..weights.len() {
            add(at - whole, weights[at], middle[at], radius[at]);
        }
        (lanes::total(sums), lanes::total(sizes))
    }
}

impl Spread<'_> {
    /// Call `add` with a lane, a difference of weights and its radius, for every input.
    #[inline(always)]
    fn each(&self, mut add: impl FnMut(usize, f64, f64)) {
        let (s, t) = self.scales;
        let difference = |a: f32, b: f32| t * f64::from(b) - s * f64::from(a);
        let radii = self.radius.as_chunks::<LANES>().0;
        let weights = self.a.as_chunks::<LANES>().0.iter().zip(self.b.as_chunks::<LANES>().0);
        for ((a, b), r) in weights.zip(radii) {
            for lane in 0..LANES {
                add(lane, difference(a[lane], b[lane]), r[lane]);
            }
        }
        let whole = self.radius.len() - self.radius.len() % LANES;
        for at in whole..self.radius.len() {
            add(at - whole, difference(self.a[at], self.b[at]), self.radius[at]);
        }
    }
}

impl WithSimd for Spread<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let mut sums = Parts::default();
        self.each(|lane, difference, radius| sums[lane] += difference.abs() * radius);
        lanes::total(sums)
    }
}

impl WithSimd for Moments<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f64, f64) {
        let (mut squares, mut spread): (Parts, Parts) = Default::default();
        self.0.each(|lane, difference, radius| {
            let square = difference * difference;
            squares[lane] += square;
            spread[lane] += square * radius * radius;
        });
        (lanes::total(squares), lanes::total(spread))
    }
}
