//! [`AdamW`]: decoupled weight decay Adam (Loshchilov and Hutter, 2019), in place, over plain host memory.
//!
//! The numbers are PyTorch's: `p ← p·(1 − lr·λ)`, `m ← m + (1 − β₁)(g − m)`, `v ← β₂v + (1 − β₂)g²`,
//! `p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)`. Every element is computed alone, so any number of threads gives the same
//! bytes; the gradient's norm is a sum with a fixed tree.

use indexmap::IndexMap;
use nerpipe_kernels::AdamWStep;
pub use nerpipe_kernels::sum_of_squares;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::model::Gradient;

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
    late: Option<Late>,
}

/// A table whose rows are updated when they are needed.
///
/// Without a gradient an update still decays a row and lets it drift on by its running means. These updates are made up for,
/// one by one, before the row is read or gets a gradient, so that the bytes are those of updating every row every time; but
/// most rows of a token table are not read for a long time, and most of a training's memory traffic would be theirs.
#[derive(Clone, Debug, PartialEq)]
struct Late {
    /// All updates so far.
    steps: Vec<AdamWStep>,
    /// How many of them each row has seen.
    seen: Vec<u32>,
}

impl Moments {
    /// Moments that were kept; none if the means differ in length.
    pub fn new(mean: Vec<f32>, square: Vec<f32>, updates: i32) -> Option<Self> {
        let fits = mean.len() == square.len() && updates > 0;
        fits.then_some(Self {
            mean,
            square,
            updates,
            late: None,
        })
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
    /// Rows of a table without a gradient are updated later: call [`AdamW::catch_up`] before any of them is read.
    ///
    /// # Panics
    /// If gradient and parameter differ in length.
    pub fn update(&mut self, name: &str, parameter: &mut [f32], gradient: &Gradient, learning_rate: f64, scale: f32) {
        let AdamWSettings {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.settings;
        let moments = self.moments.entry(name.to_owned()).or_insert_with(|| Moments {
            mean: vec![0.0; parameter.len()],
            square: vec![0.0; parameter.len()],
            ..Moments::default()
        });
        moments.updates += 1;
        let step = AdamWStep {
            scale,
            keep: (1.0 - learning_rate * weight_decay) as f32,
            mean_share: (1.0 - beta1) as f32,
            square_keep: beta2 as f32,
            square_share: (1.0 - beta2) as f32,
            step_size: (learning_rate / (1.0 - beta1.powi(moments.updates))) as f32,
            root_correction: (1.0 - beta2.powi(moments.updates)).sqrt() as f32,
            epsilon: epsilon as f32,
        };
        match gradient {
            Gradient::Dense(values) => moments.update_all(parameter, values, step),
            Gradient::Rows { rows, values } => moments.update_rows(parameter, rows, values, step),
        }
    }

    /// Makes up for updates that rows of the table `name` have not seen; they can then be read.
    pub fn catch_up(&mut self, name: &str, table: &mut [f32], rows: &[u32]) {
        if let Some(moments) = self.moments.get_mut(name) {
            moments.catch_up(table, rows);
        }
    }

    /// Makes up for all that any row of the table `name` has not seen.
    pub fn settle(&mut self, name: &str, table: &mut [f32]) {
        if let Some(moments) = self.moments.get_mut(name) {
            moments.settle(table);
        }
    }

    /// The tables of which some row may have updates to make up for.
    pub fn unsettled(&self) -> Vec<String> {
        let tables = self.moments.iter().filter(|(_, moments)| moments.late.is_some());
        tables.map(|(name, _)| name.clone()).collect()
    }
}

impl Moments {
    fn update_all(&mut self, parameter: &mut [f32], gradient: &[f32], step: AdamWStep) {
        assert_eq!(parameter.len(), gradient.len(), "a gradient for every element");
        self.settle(parameter);
        nerpipe_kernels::adamw(parameter, gradient, &mut self.mean, &mut self.square, &step);
    }

    fn update_rows(&mut self, table: &mut [f32], rows: &[u32], gradient: &[f32], step: AdamWStep) {
        let Some(width) = gradient.len().checked_div(rows.len()).filter(|&width| width > 0) else {
            return;
        };
        if self.late.is_none() {
            self.late = Some(Late {
                steps: Vec::new(),
                seen: vec![0; table.len() / width],
            });
        }
        self.catch_up(table, rows);
        let Some(late) = &mut self.late else { return };
        late.steps.push(step);
        for (&row, gradient) in rows.iter().zip(gradient.chunks(width)) {
            let own = row as usize * width..(row as usize + 1) * width;
            let (mean, square) = (&mut self.mean[own.clone()], &mut self.square[own.clone()]);
            nerpipe_kernels::adamw(&mut table[own], gradient, mean, square, &step);
            late.seen[row as usize] = late.steps.len() as u32;
        }
    }

    fn catch_up(&mut self, table: &mut [f32], rows: &[u32]) {
        let Some(late) = &mut self.late else { return };
        let width = table.len() / late.seen.len().max(1);
        for &row in rows {
            let own = row as usize * width..(row as usize + 1) * width;
            let steps = &late.steps[late.seen[row as usize] as usize..];
            let (mean, square) = (&mut self.mean[own.clone()], &mut self.square[own.clone()]);
            nerpipe_kernels::adamw_without_gradient(&mut table[own], mean, square, steps);
            late.seen[row as usize] = late.steps.len() as u32;
        }
    }

    fn settle(&mut self, table: &mut [f32]) {
        let Some(late) = &mut self.late else { return };
        let width = (table.len() / late.seen.len().max(1)).max(1);
        let steps = &late.steps;
        let moments = self.mean.par_chunks_mut(width).zip(self.square.par_chunks_mut(width));
        let rows = table.par_chunks_mut(width).zip(moments).zip(&mut late.seen);
        rows.with_min_len(256).for_each(|((row, (mean, square)), seen)| {
            nerpipe_kernels::adamw_without_gradient(row, mean, square, &steps[*seen as usize..]);
            *seen = steps.len() as u32;
        });
        // What every row has seen need not be remembered.
        late.steps.clear();
        late.seen.fill(0);
    }
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
        optimizer.update("p", &mut p, &Gradient::Dense(vec![4.0, -0.5]), 0.1, 1.0);
        assert!(
            (p[0] - (0.95 - 0.1)).abs() < 1e-6 && (p[1] - (-1.9 + 0.1)).abs() < 1e-6,
            "{p:?}"
        );
        optimizer.update("p", &mut p, &Gradient::Dense(vec![0.0, -0.5]), 0.1, 1.0);
        // m = 0.9·0.4 = 0.36, m̂ = 0.36/0.19; v = 0.999·0.016 = 0.015984, v̂ = v/0.001999.
        let expected = 0.85 * 0.95 - 0.1 * (0.36 / 0.19) / (0.015_984f64 / 0.001_999).sqrt();
        assert!((f64::from(p[0]) - expected).abs() < 1e-6, "{p:?} {expected}");
    }

    #[test]
    fn a_scaled_gradient_equals_a_smaller_gradient() {
        let (mut a, mut b) = ([0.3f32], [0.3f32]);
        AdamW::new(AdamWSettings::default()).update("p", &mut a, &Gradient::Dense(vec![2.0]), 0.01, 0.25);
        AdamW::new(AdamWSettings::default()).update("p", &mut b, &Gradient::Dense(vec![0.5]), 0.01, 1.0);
        assert_eq!(a, b);
    }

    /// Rows are updated when they are needed, and yet to the byte as if all were updated every time.
    #[test]
    fn late_rows_are_equal_to_dense_ones() {
        const ROWS: usize = 40;
        const WIDTH: usize = 19;
        let rng = crate::rng::Rng::new(3, "rows");
        let start: Vec<f32> = (0..(ROWS * WIDTH) as u64).map(|i| rng.normal(i) as f32).collect();
        let (mut dense, mut late) = (start.clone(), start);
        let settings = AdamWSettings {
            weight_decay: 0.3,
            ..AdamWSettings::default()
        };
        let (mut one, mut other) = (AdamW::new(settings), AdamW::new(settings));
        for step in 0..30u64 {
            let draw = rng.step(step);
            let rows: Vec<u32> = (0..ROWS as u32 - 8)
                .filter(|&row| draw.below(6, row.into()) == 0)
                .collect();
            let values: Vec<f32> = (0..(rows.len() * WIDTH) as u64)
                .map(|i| draw.normal(1000 + i) as f32)
                .collect();
            let gradient = Gradient::Rows {
                rows: rows.clone(),
                values,
            };
            let all = Gradient::Dense(gradient.clone().into_dense(ROWS * WIDTH));
            let rate = 0.1 / (1 + step) as f64;
            other.catch_up("t", &mut late, &rows);
            for &row in &rows {
                let own = row as usize * WIDTH..(row as usize + 1) * WIDTH;
                assert_eq!(late[own.clone()], dense[own], "row {row} before step {step}");
            }
            one.update("t", &mut dense, &all, rate, 0.7);
            // Now and then all rows get a gradient.
            other.update(
                "t",
                &mut late,
                if step % 11 == 10 { &all } else { &gradient },
                rate,
                0.7,
            );
            if step % 9 == 8 {
                other.settle("t", &mut late);
                assert_eq!(late, dense, "after step {step}");
            }
        }
        assert_eq!(other.unsettled(), ["t"]);
        other.settle("t", &mut late);
        assert_eq!(late, dense);
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
