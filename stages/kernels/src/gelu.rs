//! The Gaussian error linear unit in its exact form, x·Φ(x) (Hendrycks and Gimpel, 2016).

use rayon::prelude::*;

use crate::math::exp;
use crate::rows::{WORTH_THREADS, divide};
use crate::vectorize::vectorized;

/// 1 / √(2π).
const DENSITY: f32 = 0.398_942_3;
/// Φ(−u) = φ̃(u) · Σ cᵢ tⁱ with φ̃(u) = exp(−u²/2), t = 1 / (1 + 0.3 u), i from 1: fitted to the least relative error, 1.2e-7.
const TAIL: [f32; 8] = [
    0.119_623_26,
    0.120_845_59,
    0.099_346_705,
    0.130_417_94,
    -0.057_170_37,
    0.210_121_87,
    -0.159_380_45,
    0.036_195_394,
];

/// Φ(x), and exp(−x²/2) on the way.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let t = 1.0 / (1.0 + 0.3 * x.abs());
    let mut tail = TAIL[7];
    for c in TAIL[..7].iter().rev() {
        tail = tail * t + c;
    }
    let bell = exp(-0.5 * (x * x));
    let tail = tail * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

/// `x ← x·Φ(x)`.
pub fn gelu(x: &mut [f32]) {
    if divide(x.len()) {
        x.par_chunks_mut(WORTH_THREADS / 4).for_each(values);
    } else {
        values(x);
    }
}

/// `y ← x·Φ(x)` and `x ← Φ(x) + x·φ(x)`, the slope there.
pub fn gelu_with_slope(x: &mut [f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "as many values as arguments");
    if divide(x.len()) {
        let chunk = WORTH_THREADS / 4;
        x.par_chunks_mut(chunk)
            .zip(y.par_chunks_mut(chunk))
            .for_each(|(x, y)| values_and_slopes(x, y));
    } else {
        values_and_slopes(x, y);
    }
}

/// `x ← x·y`.
pub fn multiply(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "as many factors as values");
    if divide(x.len()) {
        let chunk = WORTH_THREADS / 4;
        x.par_chunks_mut(chunk)
            .zip(y.par_chunks(chunk))
            .for_each(|(x, y)| products(x, y));
    } else {
        products(x, y);
    }
}

vectorized! {
    fn values(x: &mut [f32]) {
        for x in x {
            *x *= normal(*x).0;
        }
    }

    fn values_and_slopes(x: &mut [f32], y: &mut [f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            let (below, bell) = normal(*x);
            *y = *x * below;
            *x = below + *x * (DENSITY * bell);
        }
    }

    fn products(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x *= y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ by its Taylor series around 0, Σ φ(0)-weighted odd powers, in f64; exact enough for |x| ≤ 6.
    fn distribution(x: f64) -> f64 {
        let (mut term, mut sum, mut k) = (x, x, 0.0);
        while term.abs() > 1e-18 {
            k += 1.0;
            term *= x * x / (2.0 * k + 1.0);
            sum += term;
        }
        0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn values_and_slopes_are_exact_to_the_last_digits() {
        let x: Vec<f32> = (-6000..=6000).map(|i| i as f32 / 1000.0).collect();
        let (mut slopes, mut y, mut alone) = (x.clone(), vec![0.0; x.len()], x.clone());
        gelu_with_slope(&mut slopes, &mut y);
        gelu(&mut alone);
        assert_eq!(alone, y);
        for ((x, y), slope) in x.iter().zip(y).zip(slopes) {
            let x = f64::from(*x);
            let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let (value, expected) = (x * distribution(x), distribution(x) + x * density);
            assert!((f64::from(y) - value).abs() < 4e-7, "gelu({x}) = {y}, not {value}");
            assert!(
                (f64::from(slope) - expected).abs() < 4e-7,
                "slope at {x}: {slope}, not {expected}"
            );
        }
        let mut far = [-40.0, 40.0, f32::NAN];
        gelu(&mut far);
        assert_eq!(far[..2], [0.0, 40.0]);
        assert!(far[2].is_nan());
    }
}
