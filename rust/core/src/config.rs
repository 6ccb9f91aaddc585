//! Checked parameters of a pruning run: nothing in the core accepts unchecked ones.

use crate::error::{Error, Result};

/// Largest pool and number of walks: far more than ever makes a difference.
pub(crate) const MOST: usize = 1_000_000;
/// Widest smoothing in pixels.
const MOST_SMOOTHING: f64 = 100.0;

/// How the size of a unit's outgoing weights enters its saliency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// L2 norm.
    L2,
    /// Mean of the absolute values.
    MeanAbsolute,
}

/// How the biases of two units enter the distance between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BiasTerm {
    /// As one more incoming weight: the distance is Euclidean.
    Absolute,
    /// `|b_i - b_j| / |b_i + b_j|` is added, as printed (eq. 2).
    Relative,
}

/// Whether an output counts among those similar to itself (eq. 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Density {
    /// It does: all alike gives entropy 0.
    Inclusive,
    /// It does not: the equation to the letter.
    Printed,
}

/// What the size term of the energy (eq. 8) is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// `x / (x + ref)` of the candidate's own impact.
    Scaled,
    /// The logistic function of the whole impact, as printed.
    None,
}

/// What is taken for the change of a unit's value when its pair is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The interval of delegate minus nominee over all inputs: the worst case.
    Interval,
    /// Plus or minus the L2 distance of the incoming weights and biases.
    Distance,
    /// Plus or minus its root mean square over inputs drawn evenly and independently from the box.
    Moment,
}

/// When the last accepted energy is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Kept over epochs.
    Never,
    /// Forgotten at every visit, as in the paper's line 5.
    Visit,
}

/// Parameters of the energy (eq. 5-8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnergyConfig {
    /// Weight of size against evenness, in `[0, 1]`.
    pub alpha: f64,
    /// From which similarity on two outputs count as alike (phi), in `[0, 1]`.
    pub similarity: f64,
    /// Definition of the density.
    pub density: Density,
    /// Definition of the size term.
    pub normalization: Normalization,
}

impl Default for EnergyConfig {
    fn default() -> Self {
        Self {
            alpha: 0.75,
            similarity: 0.9,
            density: Density::Inclusive,
            normalization: Normalization::Scaled,
        }
    }
}

impl EnergyConfig {
    /// The same parameters, or an error that names the one out of range.
    pub fn check(self) -> Result<Self> {
        require("alpha", "a number in [0, 1]", self.alpha, (0.0..=1.0).contains(&self.alpha))?;
        let phi = self.similarity;
        require("similarity", "a number in [0, 1]", phi, (0.0..=1.0).contains(&phi))?;
        Ok(self)
    }
}

/// Parameters of the simulated annealing (Algorithm 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnnealingConfig {
    /// The energy that leads it.
    pub energy: EnergyConfig,
    /// What makes a candidate's impact.
    pub change: Change,
    /// Candidates scored per unit to remove.
    pub pool: usize,
    /// Further walks over rejected candidates before the best of them are taken.
    pub rewalks: usize,
    /// When the last accepted energy is forgotten.
    pub restart: Restart,
}

impl Default for AnnealingConfig {
    fn default() -> Self {
        Self {
            energy: EnergyConfig::default(),
            change: Change::Interval,
            pool: 4,
            rewalks: 1,
            restart: Restart::Never,
        }
    }
}

/// How the pairs of a visit are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Simulated annealing led by the energy (the paper's method).
    Annealing(AnnealingConfig),
    /// The least impact among the least salient pairs.
    Greedy {
        /// Candidates scored per unit to remove.
        pool: usize,
        /// What makes a candidate's impact.
        change: Change,
    },
    /// The original saliency order, all at once (Srinivas and Babu).
    OneShot,
}

impl Method {
    fn check(self) -> Result<Self> {
        let (pool, rewalks) = match self {
            Self::Annealing(annealing) => {
                annealing.energy.check()?;
                (annealing.pool, annealing.rewalks)
            }
            Self::Greedy { pool, .. } => (pool, 0),
            Self::OneShot => (1, 0),
        };
        let pool_fits = (1..=MOST).contains(&pool);
        require("pool", "an integer from 1 to 1000000", pool as f64, pool_fits)?;
        require("rewalks", "an integer from 0 to 1000000", rewalks as f64, rewalks <= MOST)?;
        Ok(self)
    }
}

/// What the caller asks for, unchecked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Layers to prune; every prunable one if empty.
    pub layers: Vec<String>,
    /// Fraction of each layer's units to remove, in `(0, 1)`.
    pub target: f64,
    /// Fraction of each layer's units to remove in an epoch, in `(0, 1]`.
    pub step: f64,
    /// How pairs are chosen.
    pub method: Method,
    /// Measure of the outgoing weights in the saliency.
    pub outgoing: Outgoing,
    /// How biases enter the saliency.
    pub bias: BiasTerm,
    /// Seed of the one random stream.
    pub seed: u64,
    /// No output may be certified to move by more than this; positive.
    pub max_output_change: Option<f64>,
    /// Remove only what costs nothing, and all of it; `target` is then not read.
    pub lossless: bool,
    /// Numbers of units left are rounded up to a multiple of this, as far as there are units.
    pub width_multiple: usize,
}

/// Parameters of the search for inputs by gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InversionConfig {
    /// Gradient steps.
    pub steps: usize,
    /// Largest change of an input element in one step, as a share of its side of the box.
    pub step_size: f64,
    /// Whether each sample takes a number of steps of its own, drawn from 1 to `steps`.
    pub vary_steps: bool,
    /// Probability of the drawn class in its target; the others share the rest.
    pub confidence: f64,
    /// What logits are divided by; above 1, the other likely classes count more.
    pub temperature: f64,
    /// Standard deviation, in pixels, of the Gaussian that smooths gradients of images; 0 is none.
    pub smoothing: f64,
    /// Whether the inputs also approach the moving statistics of BatchNormalization.
    pub batch_statistics: bool,
}

impl Default for InversionConfig {
    fn default() -> Self {
        Self {
            steps: 10,
            step_size: 0.2,
            vary_steps: true,
            confidence: 1.0,
            temperature: 5.0,
            smoothing: 1.0,
            batch_statistics: true,
        }
    }
}

impl InversionConfig {
    /// The same parameters, or an error that names the one out of range.
    pub fn check(self) -> Result<Self> {
        let Self { steps, step_size, confidence, temperature, smoothing, .. } = self;
        let most = "a whole number from 1 to 1000000";
        require("steps", most, steps as f64, (1..=MOST).contains(&steps))?;
        let share = step_size > 0.0 && step_size <= 1.0;
        require("step_size", "a share of the box in (0, 1]", step_size, share)?;
        let likely = confidence > 0.0 && confidence <= 1.0;
        require("confidence", "a probability in (0, 1]", confidence, likely)?;
        let warm = temperature > 0.0 && temperature.is_finite();
        require("temperature", "a positive finite number", temperature, warm)?;
        let narrow = (0.0..=MOST_SMOOTHING).contains(&smoothing);
        require("smoothing", "a number of pixels in [0, 100]", smoothing, narrow)?;
        Ok(self)
    }
}

/// A [`Config`] whose every value is in range.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidConfig(Config);

impl std::ops::Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Config {
    /// Check every value.
    pub fn check(self) -> Result<ValidConfig> {
        let (target, step) = (self.target, self.step);
        let open_unit = target > 0.0 && target < 1.0;
        require("target", "a fraction between 0 and 1, both excluded", target, open_unit)?;
        require("step", "a fraction in (0, 1]", step, step > 0.0 && step <= 1.0)?;
        self.method.check()?;
        if let Some(most) = self.max_output_change {
            let positive = most > 0.0 && most.is_finite();
            require("max_output_change", "a positive finite number", most, positive)?;
        }
        check_width_multiple(self.width_multiple)?;
        Ok(ValidConfig(self))
    }

    /// Whether the run keeps to what can be certified.
    pub fn is_certified(&self) -> bool {
        self.lossless || self.max_output_change.is_some()
    }

    /// Units to remove of a layer with `units`: half up, and one unit always stays.
    pub fn quota(&self, units: usize) -> usize {
        if self.lossless {
            return units - 1;
        }
        units - kept_units(units, self.target, self.width_multiple)
    }

    /// Units to remove of that layer in one epoch.
    pub fn units_per_epoch(&self, units: usize) -> usize {
        half_up(self.step * units as f64).max(1)
    }
}

/// Units of `units` that are left when a fraction `target` goes: half up goes, and one always
/// stays; rounded up to a multiple of `width_multiple`.
pub(crate) fn kept_units(units: usize, target: f64, width_multiple: usize) -> usize {
    let kept = units - half_up(target * units as f64).min(units - 1);
    kept.next_multiple_of(width_multiple).min(units)
}

pub(crate) fn check_width_multiple(multiple: usize) -> Result<()> {
    let fits = (1..=MOST).contains(&multiple);
    require("width_multiple", "an integer from 1 to 1000000", multiple as f64, fits)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 <= x < 2^53 here
fn half_up(x: f64) -> usize {
    (x + 0.5).floor() as usize
}

pub(crate) fn require(field: &'static str, expected: &str, got: f64, holds: bool) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Config { field, expected: expected.into(), got: got.to_string() })
}
