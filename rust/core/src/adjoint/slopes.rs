//! Enclosed rows times slopes, element by element.

#![expect(clippy::inline_always)] // what is not inlined is compiled for the narrowest registers

use ndarray::{Array2, ArrayView1, ArrayViewMut1, Zip};
use pulp::{Simd, WithSimd};

use super::enclosure::{Enclosure, ROUNDOFF, root, slack};
use crate::interval::{Intervals, centre_radius, product as times};
use crate::lanes::{self, LANES};
use crate::tasks;

/// Slopes m +- h, and the largest size of each.
pub(super) struct Slopes {
    middle: Vec<f64>,
    half: Vec<f64>,
    most: Vec<f64>,
}

/// What rows are after an activation.
pub(super) struct Sloped {
    pub(super) centre: Array2<f64>,
    pub(super) radius: Array2<f64>,
    /// L2 norms of what arose in the deviations, one a row.
    pub(super) fresh: Vec<f64>,
    /// L2 norms of the radii, one a row.
    pub(super) around: Vec<f64>,
}

impl Slopes {
    pub(super) fn of(slopes: &Intervals) -> Self {
        let (middle, half) = slopes.iter().map(centre_radius).unzip();
        let most = slopes.iter().map(|slope| slope.lower.abs().max(slope.upper.abs())).collect();
        Self { middle, half, most }
    }

    /// The largest of them.
    pub(super) fn steepest(&self) -> f64 {
        self.most.iter().copied().fold(0.0, f64::max)
    }

    /// `s o r = m o c + (c o (s - m) + rho o s)` for slopes s in m +- h; rows are shared out.
    pub(super) fn apply(&self, rows: &Enclosure) -> Sloped {
        let shape = rows.centre.dim();
        let (mut centre, mut radius) = (Array2::zeros(shape), Array2::zeros(shape));
        let (mut fresh, mut around) = (vec![0.0; shape.0], vec![0.0; shape.0]);
        let (old_centre, old_radius) =
            (rows.centre.as_standard_layout(), rows.radius.as_standard_layout());
        let work = Zip::from(old_centre.rows())
            .and(old_radius.rows())
            .and(centre.rows_mut())
            .and(radius.rows_mut())
            .and(&mut fresh)
            .and(&mut around);
        let row = |c: ArrayView1<'_, f64>,
                   r: ArrayView1<'_, f64>,
                   mut centre: ArrayViewMut1<'_, f64>,
                   mut radius: ArrayViewMut1<'_, f64>,
                   fresh: &mut f64,
                   around: &mut f64| {
            let old = c.to_slice().zip(r.to_slice());
            let new = centre.as_slice_mut().zip(radius.as_slice_mut());
            let (Some(old), Some(new)) = (old, new) else {
                unreachable!("rows of matrices in row-major order lie side by side")
            };
            let (arisen, reached) = lanes::run(Row { slopes: self, old, new });
            (*fresh, *around) = (root(arisen, shape.1), root(reached, shape.1));
        };
        if tasks::is_worth_sharing(shape.0 * shape.1) {
            work.par_for_each(row);
        } else {
            work.for_each(row);
        }
        Sloped { centre, radius, fresh, around }
    }
}

/// A row's centre and radius, and where they go; its output is the sums of the squares of what
/// arose, and of the new radius.
struct Row<'a> {
    slopes: &'a Slopes,
    old: (&'a [f64], &'a [f64]),
    new: (&'a mut [f64], &'a mut [f64]),
}

impl WithSimd for Row<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f64, f64) {
        let Self { slopes: Slopes { middle, half, most }, old: (c, r), new: (centre, radius) } =
            self;
        let (mut arisen, mut reached) = ([0.0; LANES], [0.0; LANES]);
        let whole = c.len() - c.len() % LANES;
        let (middles, halves, mosts) =
            (middle.as_chunks().0, half.as_chunks().0, most.as_chunks().0);
        let chunks = c.as_chunks().0.iter().zip(r.as_chunks().0);
        let slopes = middles.iter().zip(halves).zip(mosts);
        let targets = centre.as_chunks_mut().0.iter_mut().zip(radius.as_chunks_mut().0);
        for (((c, r), ((m, h), most)), (centre, radius)) in chunks.zip(slopes).zip(targets) {
            let (c, r, m, h, most): Chunk<'_> = (c, r, m, h, most);
            let (centre, radius): (&mut [f64; LANES], &mut [f64; LANES]) = (centre, radius);
            for lane in 0..LANES {
                let found = element(c[lane], r[lane], (m[lane], h[lane], most[lane]));
                (centre[lane], radius[lane]) = (found.0, found.1);
                arisen[lane] += found.2 * found.2;
                reached[lane] += found.1 * found.1;
            }
        }
        for at in whole..c.len() {
            let found = element(c[at], r[at], (middle[at], half[at], most[at]));
            (centre[at], radius[at]) = (found.0, found.1);
            arisen[at - whole] += found.2 * found.2;
            reached[at - whole] += found.1 * found.1;
        }
        (lanes::total(arisen), lanes::total(reached))
    }
}

/// Numbers side by side: of the centre, the radius, and the slopes' three.
type Chunk<'a> =
    (&'a [f64; LANES], &'a [f64; LANES], &'a [f64; LANES], &'a [f64; LANES], &'a [f64; LANES]);

/// New centre, new radius, and what arose in it.
#[inline(always)]
fn element(c: f64, r: f64, (m, h, most): (f64, f64, f64)) -> (f64, f64, f64) {
    let centre = times(c, m);
    let spread = times(c.abs(), h) + ROUNDOFF * 2.0 * centre.abs();
    let radius = (times(r, most) + spread) * slack(3);
    // Without a branch: the processor does several at once.
    let known = (centre.abs() < f64::INFINITY) & (radius.abs() < f64::INFINITY);
    let centre = if known { centre } else { 0.0 };
    (centre, if known { radius } else { f64::INFINITY }, spread * slack(2))
}
