//! Means and covariances of a node's values, carried through one op.

use ndarray::{Array1, Array2, Axis};

use crate::activation::Activation;
use crate::gaussian::{Expansion, covariances};
use crate::linalg::{add_gram, mirror, parallel_product};
use crate::network::Affine;

/// Covariances of many variables.
#[derive(Debug, Clone)]
pub(super) enum Covariance {
    /// Variances of uncorrelated variables.
    Diagonal(Array1<f64>),
    /// All of them, a symmetric matrix.
    Full(Array2<f64>),
}

/// Means and covariances of a node's values, one variable an element.
#[derive(Debug, Clone)]
pub(super) struct Law {
    pub(super) means: Array1<f64>,
    pub(super) covariance: Covariance,
}

/// What an activation makes of every variable of a law.
pub(super) struct Activated {
    pub(super) activation: Activation,
    pub(super) expansions: Vec<Expansion>,
    /// Of the variables themselves.
    pub(super) deviations: Vec<f64>,
    means: Array1<f64>,
}

impl Activated {
    pub(super) fn new(activation: Activation, law: &Law) -> Self {
        let deviations: Vec<f64> =
            law.variances().iter().map(|variance| variance.max(0.0).sqrt()).collect();
        let variables = law.means.iter().zip(&deviations);
        let expansions = variables
            .map(|(&mean, &deviation)| Expansion::new(activation, mean, deviation))
            .collect();
        Self { activation, expansions, deviations, means: law.means.clone() }
    }

    /// Mean slope of every activation (Stein's lemma); for constants the slope there.
    pub(super) fn mean_slopes(&self) -> Array1<f64> {
        let each = self.expansions.iter().zip(&self.deviations).zip(&self.means);
        each.map(|((expansion, &deviation), &mean)| {
            if deviation > 0.0 {
                expansion.terms[0] / deviation
            } else {
                self.activation.derivative(mean)
            }
        })
        .collect()
    }

    /// Covariances of these activations (rows) with others (columns), by those of the variables.
    pub(super) fn covariances_with(&self, others: &Self, between: &Array2<f64>) -> Array2<f64> {
        covariances(
            (&self.expansions, &self.deviations),
            (&others.expansions, &others.deviations),
            between,
        )
    }

    /// The law of the activations, for that of the variables.
    pub(super) fn law(&self, law: &Law) -> Law {
        let means = self.expansions.iter().map(|expansion| expansion.mean).collect();
        let variances: Array1<f64> =
            self.expansions.iter().map(|expansion| expansion.variance).collect();
        let covariance = match &law.covariance {
            Covariance::Diagonal(_) => Covariance::Diagonal(variances),
            Covariance::Full(matrix) => {
                let mut found = self.covariances_with(self, matrix);
                mirror(&mut found);
                found.diag_mut().assign(&variances);
                Covariance::Full(found)
            }
        };
        Law { means, covariance }
    }
}

impl Law {
    pub(super) fn variances(&self) -> Array1<f64> {
        match &self.covariance {
            Covariance::Diagonal(variances) => variances.clone(),
            Covariance::Full(matrix) => matrix.diag().to_owned(),
        }
    }

    /// All covariances, if they are there or the law is that of uncorrelated variables.
    pub(super) fn matrix(&self) -> Array2<f64> {
        match &self.covariance {
            Covariance::Diagonal(variances) => Array2::from_diag(variances),
            Covariance::Full(matrix) => matrix.clone(),
        }
    }

    pub(super) fn is_finite(&self) -> bool {
        let covariance = match &self.covariance {
            Covariance::Diagonal(variances) => variances.iter().all(|value| value.is_finite()),
            Covariance::Full(matrix) => matrix.iter().all(|value| value.is_finite()),
        };
        covariance && self.means.iter().all(|mean| mean.is_finite())
    }

    /// Through `y = x W + b`.
    pub(super) fn through_dense(&self, kernel: &Array2<f64>, bias: Option<&Array1<f32>>) -> Self {
        let mut means = self.means.dot(kernel);
        if let Some(bias) = bias {
            means += &bias.mapv(f64::from);
        }
        let covariance = match &self.covariance {
            Covariance::Diagonal(variances) => {
                let rows = kernel * &variances.mapv(f64::sqrt).insert_axis(Axis(1));
                let mut gram = Array2::zeros((kernel.ncols(), kernel.ncols()));
                add_gram(gram.view_mut(), rows.view(), 1.0);
                gram
            }
            Covariance::Full(matrix) => between(kernel, matrix, kernel),
        };
        let mut covariance = covariance;
        mirror(&mut covariance);
        Self { means, covariance: Covariance::Full(covariance) }
    }

    /// Through an elementwise affine map with one entry an element.
    pub(super) fn through_scaling(&self, map: &Scaling) -> Self {
        let means = &self.means * &map.scale + &map.offset;
        let covariance = match &self.covariance {
            Covariance::Diagonal(variances) => {
                Covariance::Diagonal(variances * &map.scale * &map.scale)
            }
            Covariance::Full(matrix) => Covariance::Full(map.on_both_sides(matrix)),
        };
        Self { means, covariance }
    }
}

/// An elementwise affine map, one entry an element.
pub(super) struct Scaling {
    pub(super) scale: Array1<f64>,
    pub(super) offset: Array1<f64>,
}

impl Scaling {
    /// A map along the last axis, for all elements.
    pub(super) fn new(map: &Affine, elements: usize) -> Self {
        let along = |values: &[f64]| (0..elements).map(|at| values[at % values.len()]).collect();
        Self { scale: along(&map.scale), offset: along(&map.offset) }
    }

    /// Covariances of the maps' values by those of what is mapped.
    pub(super) fn on_both_sides(&self, matrix: &Array2<f64>) -> Array2<f64> {
        // One product of both scales: a symmetric matrix stays so to the last bit.
        Array2::from_shape_fn(matrix.dim(), |(row, column)| {
            matrix[[row, column]] * (self.scale[row] * self.scale[column])
        })
    }
}

/// `V^T C W`: covariances of two linear maps' values, by those of what they are maps of.
pub(super) fn between(v: &Array2<f64>, covariance: &Array2<f64>, w: &Array2<f64>) -> Array2<f64> {
    let right = parallel_product(covariance, w);
    let left = v.t().as_standard_layout().into_owned();
    parallel_product(&left, &right)
}
