//! [`AdamW`]: decoupled weight decay Adam (Loshchilov and Hutter, 2019), in place, over plain host memory.
//!
//! The numbers are PyTorch's: `p ← p·(1 − lr·λ)`, `m ← m + (1 − β₁)(g − m)`, `v ← β₂v + (1 − β₂)g²`,
//! `p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)`. Every element is computed alone, so any number of threads gives the same
//! bytes; the gradient's norm is a sum with a fixed tree.

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Elements handled by one task; also the leaf of the norm's summation tree, so changing it changes last digits.
const CHUNK: usize = 1 << 14;

/// The optimizer's settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamWSettings {
    /// Decay rate of the gradient's running mean.
    pub beta1: f64,
    /// Decay rate of the running mean of squares.
    pub beta2: f64,
    /// Added to the denominator; too small and the first steps explode, too large and learning slows.
    pub epsilon: f64,
    /// Decoupled weight decay λ, applied to every parameter that has a gradient.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        }
    }
}

/// The running means of one parameter, and how often it was updated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    pub(crate) mean: Vec<f32>,
    pub(crate) square: Vec<f32>,
    pub(crate) updates: i32,
}

impl Moments {
    /// Moments that were kept; none if the means differ in length.
    pub fn new(mean: Vec<f32>, square: Vec<f32>, updates: i32) -> Option<Self> {
        let fits = mean.len() == square.len() && updates > 0;
        fits.then_some(Self { mean, square, updates })
    }
}

/// The optimizer's state: moments by parameter name.
#[derive(Clone, Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    moments: IndexMap<String, Moments>,
}

impl AdamW {
    /// An optimizer that has seen no gradient.
    pub fn new(settings: AdamWSettings) -> Self {
        Self {
            settings,
            moments: IndexMap::new(),
        }
    }

    /// An optimizer that goes on with these moments.
    pub fn with_moments(settings: AdamWSettings, moments: impl IntoIterator<Item = (String, Moments)>) -> Self {
        Self {
            settings,
            moments: moments.into_iter().collect(),
        }
    }

    /// The moments of every parameter that was updated.
    pub fn moments(&self) -> impl Iterator<Item = (&str, &Moments)> {
        self.moments.iter().map(|(name, moments)| (name.as_str(), moments))
    }

    /// Updates the parameter `name` in place from its gradient, multiplied by `scale` (from clipping), at this learning rate.
    ///
    /// # Panics
    /// If gradient and parameter differ in length.
    pub fn update(&mut self, name: &str, parameter: &mut [f32], gradient: &[f32], learning_rate: f64, scale: f32) {
        assert_eq!(
            parameter.len(),
            gradient.len(),
            "the gradient of {name} has another size than the parameter"
        );
        let AdamWSettings {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.settings;
        let moments = self.moments.entry(name.to_owned()).or_insert_with(|| Moments {
            mean: vec![0.0; parameter.len()],
            square: vec![0.0; parameter.len()],
            updates: 0,
        });
        moments.updates += 1;
        let step_size = (learning_rate / (1.0 - beta1.powi(moments.updates))) as f32;
        let root_correction = (1.0 - beta2.powi(moments.updates)).sqrt() as f32;
        let keep = (1.0 - learning_rate * weight_decay) as f32;
        let (mean_share, square_keep, square_share) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
        let epsilon = epsilon as f32;
        parameter
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(
                moments
                    .mean
                    .par_chunks_mut(CHUNK)
                    .zip(moments.square.par_chunks_mut(CHUNK)),
            )
            .for_each(|((parameter, gradient), (mean, square))| {
                for (((p, &g), m), v) in parameter.iter_mut().zip(gradient).zip(mean).zip(square) {
                    let g = g * scale;
                    *p *= keep;
                    *m += mean_share * (g - *m);
                    *v = square_keep * *v + square_share * g * g;
                    *p -= step_size * (*m / (v.sqrt() / root_correction + epsilon));
                }
            });
    }
}

/// The sum of squares of `values`: within a chunk eight interleaved partial sums in f64, then the chunks in order. The
/// tree depends on the length alone, never on threads.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let chunks: Vec<f64> = values
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut lanes = [0f64; 8];
            let groups = chunk.chunks_exact(8);
            let rest = groups.remainder();
            for group in groups {
                for (lane, &value) in lanes.iter_mut().zip(group) {
                    *lane += f64::from(value) * f64::from(value);
                }
            }
            for (lane, &value) in lanes.iter_mut().zip(rest) {
                *lane += f64::from(value) * f64::from(value);
            }
            lanes.iter().sum::<f64>()
        })
        .collect();
    chunks.iter().sum()
}

/// What to multiply gradients by so that their global norm is at most `limit`, as `torch.nn.utils.clip_grad_norm_` does:
/// `min(1, limit / (norm + 1e-6))`. No limit (or one of 0) clips nothing.
pub fn clip_scale(norm: f64, limit: Option<f64>) -> f32 {
    match limit {
        Some(limit) if limit > 0.0 => (limit / (norm + 1e-6)).min(1.0) as f32,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two steps worked by hand: after bias correction the first step moves by lr·sign(g) (but for ε), and the decay acts
    /// on the parameter before the step.
    #[test]
    fn two_steps_by_hand() {
        let settings = AdamWSettings {
            weight_decay: 0.5,
            ..AdamWSettings::default()
        };
        let mut optimizer = AdamW::new(settings);
        let mut p = [1.0f32, -2.0];
        optimizer.update("p", &mut p, &[4.0, -0.5], 0.1, 1.0);
        assert!(
            (p[0] - (0.95 - 0.1)).abs() < 1e-6 && (p[1] - (-1.9 + 0.1)).abs() < 1e-6,
            "{p:?}"
        );
        optimizer.update("p", &mut p, &[0.0, -0.5], 0.1, 1.0);
        // m = 0.9·0.4 = 0.36, m̂ = 0.36/0.19; v = 0.999·0.016 = 0.015984, v̂ = v/0.001999.
        let expected = 0.85 * 0.95 - 0.1 * (0.36 / 0.19) / (0.015_984f64 / 0.001_999).sqrt();
        assert!((f64::from(p[0]) - expected).abs() < 1e-6, "{p:?} {expected}");
    }

    #[test]
    fn a_scaled_gradient_equals_a_smaller_gradient() {
        let (mut a, mut b) = ([0.3f32], [0.3f32]);
        AdamW::new(AdamWSettings::default()).update("p", &mut a, &[2.0], 0.01, 0.25);
        AdamW::new(AdamWSettings::default()).update("p", &mut b, &[0.5], 0.01, 1.0);
        assert_eq!(a, b);
    }

    #[test]
    fn clipping_follows_torch() {
        assert_eq!(clip_scale(5.0, Some(10.0)), 1.0);
        assert!((clip_scale(20.0, Some(10.0)) - 0.5).abs() < 1e-6);
        assert_eq!(clip_scale(1e9, None), 1.0);
        assert_eq!(clip_scale(1e9, Some(0.0)), 1.0);
    }

    #[test]
    fn the_norm_does_not_depend_on_threads() {
        let rng = crate::rng::Rng::new(5, "norm");
        let values: Vec<f32> = (0..100_003).map(|i| rng.normal(i) as f32).collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a small pool");
            pool.install(|| sum_of_squares(&values))
        };
        assert_eq!(with(1).to_bits(), with(3).to_bits());
        let plain: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
        assert!((with(1) / plain - 1.0).abs() < 1e-12);
    }
}
