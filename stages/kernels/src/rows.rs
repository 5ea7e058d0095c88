//! Work that is divided by rows.

use rayon::prelude::*;

use crate::vectorize::vectorized;

/// Rows that are summed by one task; the leaf of the tree of sums over rows, so changing it changes last digits.
pub(crate) const CHUNK: usize = 64;
/// Elements below which threads cost more than they bring.
pub(crate) const WORTH_THREADS: usize = 1 << 15;

/// Whether to divide so many elements among threads.
pub(crate) fn divide(elements: usize) -> bool {
    elements >= WORTH_THREADS && rayon::current_num_threads() > 1
}

/// `f` of each task, in the tasks' order; by several threads if the tasks hold elements enough.
pub(crate) fn each<T: Send, R: Send>(tasks: Vec<T>, elements: usize, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if divide(elements) && tasks.len() > 1 {
        tasks.into_par_iter().map(f).collect()
    } else {
        tasks.into_iter().map(f).collect()
    }
}

/// Adds partial sums in order.
pub(crate) fn in_order(parts: Vec<Vec<f32>>, columns: usize) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_else(|| vec![0.0; columns]);
    for part in parts {
        for (total, value) in total.iter_mut().zip(part) {
            *total += value;
        }
    }
    total
}

/// The sum of each column.
///
/// # Shapes
/// x [R, `columns`] → [`columns`]
pub fn column_sums(x: &[f32], columns: usize) -> Vec<f32> {
    if columns == 0 {
        return Vec::new();
    }
    let chunks = x.chunks(CHUNK * columns).collect();
    in_order(each(chunks, x.len(), |chunk| chunk_sums(chunk, columns)), columns)
}

vectorized! {
    fn chunk_sums(x: &[f32], columns: usize) -> Vec<f32> {
        let mut sums = vec![0.0; columns];
        for row in x.chunks_exact(columns) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_summed_the_same_by_any_threads() {
        let x: Vec<f32> = (0..700 * 130).map(|i| (i % 97) as f32 * 0.37).collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            pool.install(|| column_sums(&x, 130))
        };
        assert_eq!(with(1), with(3));
        let plain: f64 = (0..700).map(|row| f64::from(x[row * 130 + 5])).sum();
        assert!((f64::from(with(1)[5]) / plain - 1.0).abs() < 1e-6);
        assert_eq!(column_sums(&[], 3), [0.0; 3]);
    }
}
