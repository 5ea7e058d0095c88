//! Layer normalization (Ba, Kiros and Hinton, 2016), together with the dropout and the addition before it.

use crate::dropout::Dropout;
use crate::math;
use crate::rows::{CHUNK, each, in_order};
use crate::vectorize::vectorized;

/// Gradients of what every row was multiplied by and shifted by.
#[derive(Clone, Debug, PartialEq)]
pub struct NormGradients {
    /// Of the scale, [H].
    pub scale: Vec<f32>,
    /// Of the shift, [H].
    pub shift: Vec<f32>,
}

/// What [`layer_norm`] does before it normalizes, and with what it ends.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Drops elements of x.
    pub dropout: Option<Dropout>,
    /// Is then added to x, [R, H].
    pub residual: Option<&'a [f32]>,
    /// [H]
    pub scale: &'a [f32],
    /// [H]
    pub shift: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

/// Normalizes rows, to `out` if there is one: then x holds the normalized rows before scale and shift, which the backward pass
/// needs. Without `out` the result takes the place of x. Gives 1 / √(variance + ε) of each row.
///
/// # Shapes
/// x [R, H], out [R, H] → [R]
pub fn layer_norm(x: &mut [f32], norm: &Norm<'_>, mut out: Option<&mut [f32]>) -> Vec<f32> {
    let h = norm.scale.len();
    assert_eq!(h, norm.shift.len(), "a shift for every column");
    assert!(
        norm.residual.is_none_or(|residual| residual.len() == x.len()),
        "a residual for every element"
    );
    assert!(
        out.as_ref().is_none_or(|out| out.len() == x.len()),
        "a place for every element"
    );
    if h == 0 {
        return Vec::new();
    }
    let (elements, size) = (x.len(), CHUNK * h);
    let mut residuals = norm.residual.map(|residual| residual.chunks(size));
    let mut outs = out.as_mut().map(|out| out.chunks_mut(size));
    let mut tasks = Vec::with_capacity(elements.div_ceil(size));
    for (chunk, x) in x.chunks_mut(size).enumerate() {
        let residual = residuals.as_mut().and_then(Iterator::next);
        let out = outs.as_mut().and_then(Iterator::next);
        tasks.push((chunk, x, residual, out));
    }
    each(tasks, elements, |(chunk, x, residual, out)| {
        let part = Norm { residual, ..*norm };
        normalize(x, (chunk * size) as u64, &part, out)
    })
    .concat()
}

/// Turns the gradient of the result into that of the sum that was normalized, in place; `dropped` receives that of x before
/// the dropout.
///
/// # Shapes
/// gradient [R, H], normalized [R, H], inverse [R], scale [H], dropped [R, H]
pub fn layer_norm_backward(
    gradient: &mut [f32],
    normalized: &[f32],
    inverse: &[f32],
    scale: &[f32],
    mut dropped: Option<(Dropout, &mut [f32])>,
) -> NormGradients {
    let h = scale.len();
    assert_eq!(gradient.len(), normalized.len(), "a gradient for every element");
    assert_eq!(gradient.len(), inverse.len() * h, "a deviation for every row");
    if h == 0 {
        return NormGradients {
            scale: Vec::new(),
            shift: Vec::new(),
        };
    }
    let (elements, size) = (gradient.len(), CHUNK * h);
    let dropout = dropped.as_ref().map(|(dropout, _)| *dropout);
    let mut drops = dropped.as_mut().map(|(_, dropped)| dropped.chunks_mut(size));
    let mut tasks = Vec::with_capacity(elements.div_ceil(size));
    let parts = gradient
        .chunks_mut(size)
        .zip(normalized.chunks(size))
        .zip(inverse.chunks(CHUNK));
    for (chunk, ((gradient, normalized), inverse)) in parts.enumerate() {
        let dropped = drops.as_mut().and_then(Iterator::next);
        tasks.push((chunk, gradient, normalized, inverse, dropped));
    }
    let (scales, shifts) = each(tasks, elements, |(chunk, gradient, normalized, inverse, dropped)| {
        let sums = backward(gradient, normalized, inverse, scale);
        if let (Some(dropout), Some(dropped)) = (dropout, dropped) {
            drop_copy(gradient, dropped, (chunk * size) as u64, h, dropout);
        }
        sums
    })
    .into_iter()
    .unzip();
    NormGradients {
        scale: in_order(scales, h),
        shift: in_order(shifts, h),
    }
}

vectorized! {
    fn normalize(x: &mut [f32], first: u64, norm: &Norm<'_>, out: Option<&mut [f32]>) -> Vec<f32> {
        let (scale, h) = (norm.scale, norm.scale.len());
        let shift = &norm.shift[..h];
        let mut factors = vec![0.0; if norm.dropout.is_some() { h } else { 0 }];
        let mut residuals = norm.residual.map(|residual| residual.chunks_exact(h));
        let mut outs = out.map(|out| out.chunks_exact_mut(h));
        let mut inverses = Vec::with_capacity(x.len() / h);
        for (row, x) in x.chunks_exact_mut(h).enumerate() {
            if let Some(dropout) = &norm.dropout {
                dropout.fill(first + (row * h) as u64, &mut factors);
                for (x, factor) in x.iter_mut().zip(&factors) {
                    *x *= factor;
                }
            }
            if let Some(residual) = residuals.as_mut().and_then(Iterator::next) {
                for (x, residual) in x.iter_mut().zip(residual) {
                    *x += residual;
                }
            }
            let mean = math::total(x) / h as f32;
            for x in x.iter_mut() {
                *x -= mean;
            }
            let inverse = 1.0 / (math::dot(x, x) / h as f32 + norm.epsilon).sqrt();
            inverses.push(inverse);
            match outs.as_mut().and_then(Iterator::next) {
                Some(out) => {
                    for c in 0..h {
                        x[c] *= inverse;
                        out[c] = x[c] * scale[c] + shift[c];
                    }
                }
                None => {
                    for c in 0..h {
                        x[c] = x[c] * inverse * scale[c] + shift[c];
                    }
                }
            }
        }
        inverses
    }

    fn backward(gradient: &mut [f32], normalized: &[f32], inverse: &[f32], scale: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let h = scale.len();
        let (mut of_scale, mut of_shift) = (vec![0.0; h], vec![0.0; h]);
        let rows = gradient.chunks_exact_mut(h).zip(normalized.chunks_exact(h)).zip(inverse);
        for ((g, n), &inverse) in rows {
            for c in 0..h {
                of_scale[c] += g[c] * n[c];
                of_shift[c] += g[c];
                g[c] *= scale[c];
            }
            let mean = math::total(g) / h as f32;
            let along = math::dot(g, n) / h as f32;
            for c in 0..h {
                g[c] = inverse * (g[c] - mean - n[c] * along);
            }
        }
        (of_scale, of_shift)
    }

    fn drop_copy(from: &[f32], to: &mut [f32], first: u64, h: usize, dropout: Dropout) {
        for (row, (from, to)) in from.chunks_exact(h).zip(to.chunks_exact_mut(h)).enumerate() {
            dropout.fill(first + (row * h) as u64, to);
            for (to, from) in to.iter_mut().zip(from) {
                *to *= from;
            }
        }
    }
}
