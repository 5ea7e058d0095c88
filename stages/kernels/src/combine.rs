//! Sums of rows of several tables, rectified: the first layer of an MLP that is linear in its parts.

use rayon::prelude::*;

use crate::dropout::Dropout;
use crate::rows::{CHUNK, divide, each};
use crate::vectorize::vectorized;

/// Three tables and, for every sum, a row of each.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The tables, [any, D] each.
    pub tables: [&'a [f32]; 3],
    /// Numbers of rows, N each.
    pub rows: [&'a [u32]; 3],
    /// D.
    pub columns: usize,
}

/// The sums of three rows each, negatives set to 0, then dropped.
///
/// # Shapes
/// → [N, D]
pub fn combine_rows(parts: Parts<'_>, dropout: Option<Dropout>) -> Vec<f32> {
    let (n, d) = (parts.rows[0].len(), parts.columns);
    assert!(
        parts.rows.iter().all(|rows| rows.len() == n),
        "a row of every table for every sum"
    );
    let mut out = vec![0.0; n * d];
    if d > 0 {
        let tasks = out.chunks_mut(CHUNK * d).enumerate().collect();
        each(tasks, n * d, |(chunk, out)| combine(parts, chunk * CHUNK, dropout, out));
    }
    out
}

/// The gradients of the three tables, whose numbers of rows are `lengths`, from the gradient of the sums, which is used up, and
/// the sums themselves.
///
/// # Shapes
/// gradient [N, D], out [N, D] → [lengths, D] each
pub fn combine_rows_backward(
    gradient: &mut [f32],
    out: &[f32],
    rows: [&[u32]; 3],
    lengths: [usize; 3],
    dropout: Option<Dropout>,
) -> [Vec<f32>; 3] {
    let n = rows[0].len();
    let d = gradient.len().checked_div(n).unwrap_or(0);
    assert_eq!(gradient.len(), out.len(), "a gradient for every element");
    let mut tables = lengths.map(|length| vec![0.0; length * d]);
    if d == 0 {
        return tables;
    }
    let factor = dropout.map_or(1.0, |dropout| dropout.factor());
    let elements = gradient.len();
    if divide(elements) {
        let tasks: Vec<_> = gradient.chunks_mut(CHUNK * d).zip(out.chunks(CHUNK * d)).collect();
        each(tasks, elements, |(gradient, out)| pass_on(gradient, out, factor));
        let gradient = &*gradient;
        tables
            .par_iter_mut()
            .zip(rows)
            .for_each(|(table, rows)| scatter(table, gradient, rows, d));
    } else {
        let [a, b, c] = &mut tables;
        for (number, (gradient, out)) in gradient.chunks_mut(CHUNK * d).zip(out.chunks(CHUNK * d)).enumerate() {
            pass_on(gradient, out, factor);
            for (table, rows) in [(&mut *a, rows[0]), (&mut *b, rows[1]), (&mut *c, rows[2])] {
                let from = number * CHUNK;
                scatter(table, gradient, &rows[from..(from + CHUNK).min(n)], d);
            }
        }
    }
    tables
}

vectorized! {
    fn combine(parts: Parts<'_>, first: usize, dropout: Option<Dropout>, out: &mut [f32]) {
        let d = parts.columns;
        let mut factors = vec![1.0; d];
        for (place, out) in out.chunks_exact_mut(d).enumerate() {
            let n = first + place;
            let row = |part: usize| {
                let begin = parts.rows[part][n] as usize * d;
                &parts.tables[part][begin..begin + d]
            };
            let (a, b, c) = (row(0), row(1), row(2));
            if let Some(dropout) = &dropout {
                dropout.fill((n * d) as u64, &mut factors);
            }
            for i in 0..d {
                let sum = a[i] + b[i] + c[i];
                // Written so that what is no number stays none.
                out[i] = if sum < 0.0 { 0.0 } else { sum * factors[i] };
            }
        }
    }

    fn pass_on(gradient: &mut [f32], out: &[f32], factor: f32) {
        for (g, out) in gradient.iter_mut().zip(out) {
            *g = if *out > 0.0 { *g * factor } else { 0.0 };
        }
    }

    fn scatter(table: &mut [f32], gradient: &[f32], rows: &[u32], d: usize) {
        for (gradient, &row) in gradient.chunks_exact(d).zip(rows) {
            let begin = row as usize * d;
            for (sum, g) in table[begin..begin + d].iter_mut().zip(gradient) {
                *sum += g;
            }
        }
    }
}
