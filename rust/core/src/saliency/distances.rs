//! Squared distances from one unit to all, from the Gram product.

#![expect(clippy::inline_always)] // what is not inlined is compiled for the narrowest registers

use pulp::{Simd, WithSimd};

use super::{CANCELLATION, DRIFT, Saliency};
use crate::lanes;

impl Saliency {
    /// The squared distances from a nominee to every unit, biases as one more weight; 0 where they
    /// must be computed otherwise. What `apart` holds for a unit is added.
    pub(super) fn squares(&self, nominee: usize, apart: &[f64]) -> Vec<f64> {
        let mut found = vec![0.0; apart.len()];
        let row = self.gram.row(nominee);
        let products = row.to_slice().unwrap_or_default();
        lanes::run(Squares { saliency: self, nominee, products, apart, found: &mut found });
        found
    }
}

struct Squares<'a> {
    saliency: &'a Saliency,
    nominee: usize,
    products: &'a [f64],
    apart: &'a [f64],
    found: &'a mut [f64],
}

impl WithSimd for Squares<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { saliency: Saliency { norms, scale, bias, largest, .. }, nominee, .. } = self;
        let (own, own_scale, own_bias) = (norms[nominee], scale[nominee], bias[nominee]);
        let own_largest = own_scale * own_scale * largest[nominee];
        let units = norms.iter().zip(scale).zip(bias.iter().zip(largest));
        let given = self.products.iter().zip(self.apart);
        for ((found, (&product, &apart)), ((&norm, &scale), (&bias, &largest))) in
            self.found.iter_mut().zip(given).zip(units)
        {
            let norms = own + norm;
            let squared = norms - 2.0 * own_scale * scale * product;
            let once = own_largest + scale * scale * largest;
            let is_known = (squared > CANCELLATION * norms) & (squared > DRIFT * once);
            let total = squared + (own_bias - bias) * (own_bias - bias);
            *found = (if is_known { total } else { 0.0 }) + apart;
        }
    }
}
