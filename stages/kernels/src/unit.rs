//! Rows of length 1.

use crate::math;
use crate::rows::{CHUNK, each};
use crate::vectorize::vectorized;

/// 1 / 1e-12, where shorter rows are divided by 1e-12 instead of their length.
const LONGEST_INVERSE: f32 = 1e12;

/// Divides each row by its length, or by 1e-12 if it is shorter; gives what rows were multiplied by.
///
/// # Shapes
/// x [R, `columns`] → [R]
pub fn unit_rows(x: &mut [f32], columns: usize) -> Vec<f32> {
    if columns == 0 {
        return Vec::new();
    }
    let elements = x.len();
    let chunks = x.chunks_mut(CHUNK * columns).collect();
    each(chunks, elements, |chunk| shorten(chunk, columns)).concat()
}

/// Turns the gradient of the unit rows into that of the rows, in place.
///
/// # Shapes
/// gradient [R, D], unit [R, D], inverse [R]
pub fn unit_rows_backward(gradient: &mut [f32], unit: &[f32], inverse: &[f32]) {
    assert_eq!(gradient.len(), unit.len(), "a gradient for every element");
    let Some(columns) = gradient.len().checked_div(inverse.len()) else {
        return;
    };
    if columns == 0 {
        return;
    }
    let elements = gradient.len();
    let parts = gradient
        .chunks_mut(CHUNK * columns)
        .zip(unit.chunks(CHUNK * columns))
        .zip(inverse.chunks(CHUNK));
    each(parts.collect(), elements, |((gradient, unit), inverse)| {
        backward(gradient, unit, inverse, columns)
    });
}

vectorized! {
    fn shorten(x: &mut [f32], columns: usize) -> Vec<f32> {
        let mut inverses = Vec::with_capacity(x.len() / columns);
        for row in x.chunks_exact_mut(columns) {
            let squares = math::dot(row, row);
            // Not `max`, which would hide that a row is no number.
            let inverse = if squares < 1e-24 { LONGEST_INVERSE } else { 1.0 / squares.sqrt() };
            inverses.push(inverse);
            for x in row.iter_mut() {
                *x *= inverse;
            }
        }
        inverses
    }

    fn backward(gradient: &mut [f32], unit: &[f32], inverse: &[f32], columns: usize) {
        let rows = gradient.chunks_exact_mut(columns).zip(unit.chunks_exact(columns)).zip(inverse);
        for ((g, u), &inverse) in rows {
            let along = if inverse < LONGEST_INVERSE { math::dot(g, u) } else { 0.0 };
            for c in 0..columns {
                g[c] = inverse * (g[c] - u[c] * along);
            }
        }
    }
}
