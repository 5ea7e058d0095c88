//! AdamW in place (Loshchilov and Hutter, 2019), and the sum of squares that clipping needs.

use crate::rows::each;
use crate::vectorize::vectorized;

/// Elements handled by one task; also the leaf of the tree of [`sum_of_squares`], so changing it changes last digits.
const CHUNK: usize = 1 << 14;

/// The numbers of one update, the same for all elements of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// What gradients are multiplied by, from clipping.
    pub scale: f32,
    /// 1 − lr·λ.
    pub keep: f32,
    /// 1 − β₁.
    pub mean_share: f32,
    /// β₂.
    pub square_keep: f32,
    /// 1 − β₂.
    pub square_share: f32,
    /// lr / (1 − β₁ᵗ).
    pub step_size: f32,
    /// √(1 − β₂ᵗ).
    pub root_correction: f32,
    /// ε.
    pub epsilon: f32,
}

/// Updates parameters and their running means in place.
///
/// # Panics
/// If the four differ in length.
pub fn adamw(parameter: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32], step: &AdamWStep) {
    let length = parameter.len();
    assert!(
        gradient.len() == length && mean.len() == length && square.len() == length,
        "as many of each"
    );
    let moments = mean.chunks_mut(CHUNK).zip(square.chunks_mut(CHUNK));
    let tasks = parameter.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK)).zip(moments);
    each(tasks.collect(), length, |((parameter, gradient), (mean, square))| {
        update(parameter, gradient, mean, square, step);
    });
}

/// What [`adamw`] does with a gradient of 0, one step after the other; to the byte, but faster where nothing ever had a gradient.
///
/// # Panics
/// If the three differ in length.
pub fn adamw_without_gradient(parameter: &mut [f32], mean: &mut [f32], square: &mut [f32], steps: &[AdamWStep]) {
    let length = parameter.len();
    assert!(mean.len() == length && square.len() == length, "as many of each");
    if steps.is_empty() {
        return;
    }
    if mean.iter().chain(square.iter()).all(|&value| value == 0.0) {
        decay(parameter, steps);
    } else {
        drift(parameter, mean, square, steps);
    }
}

/// The sum of squares: within a chunk eight interleaved partial sums in f64, then the chunks in order. The tree depends on the
/// length alone, never on threads.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    each(values.chunks(CHUNK).collect(), values.len(), chunk_squares)
        .iter()
        .sum()
}

vectorized! {
    fn update(parameter: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32], step: &AdamWStep) {
        let step = *step;
        for (((p, &g), m), v) in parameter.iter_mut().zip(gradient).zip(mean).zip(square) {
            let g = g * step.scale;
            *p *= step.keep;
            *m += step.mean_share * (g - *m);
            *v = step.square_keep * *v + step.square_share * g * g;
            *p -= step.step_size * (*m / (v.sqrt() / step.root_correction + step.epsilon));
        }
    }

    fn decay(parameter: &mut [f32], steps: &[AdamWStep]) {
        for step in steps {
            for p in parameter.iter_mut() {
                *p *= step.keep;
            }
        }
    }

    fn drift(parameter: &mut [f32], mean: &mut [f32], square: &mut [f32], steps: &[AdamWStep]) {
        for step in steps {
            for ((p, m), v) in parameter.iter_mut().zip(mean.iter_mut()).zip(square.iter_mut()) {
                *p *= step.keep;
                *m += step.mean_share * (0.0 - *m);
                *v *= step.square_keep;
                *p -= step.step_size * (*m / (v.sqrt() / step.root_correction + step.epsilon));
            }
        }
    }

    fn chunk_squares(chunk: &[f32]) -> f64 {
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
    }
}
