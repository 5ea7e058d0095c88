//! Matrix products, by the crate `gemm`, on matrices that lie anywhere in a slice.

/// Multiplications from which on a product is divided among threads.
const WORTH_THREADS: usize = 192 * 192 * 192;

/// A matrix within a slice: element (r, c) is number `r · row_step + c · column_step`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow each other.
    ///
    /// # Panics
    /// If the slice has another length.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} by {columns}");
        Self::within(values, rows, columns, columns)
    }

    /// A matrix whose rows begin `row_step` elements apart.
    ///
    /// # Panics
    /// If the slice ends before the matrix does.
    pub fn within(values: &'a [f32], rows: usize, columns: usize, row_step: usize) -> Self {
        assert!(
            reach(rows, columns, row_step) <= values.len(),
            "a matrix of {rows} by {columns} reaches beyond its slice"
        );
        Self {
            values,
            rows,
            columns,
            row_step,
            column_step: 1,
        }
    }

    /// The transposed matrix; nothing is moved.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }
}

/// How many elements such a matrix spans.
fn reach(rows: usize, columns: usize, row_step: usize) -> usize {
    if rows == 0 || columns == 0 {
        0
    } else {
        (rows - 1) * row_step + columns
    }
}

/// The product a·b, rows following each other.
pub fn product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let length = a.rows * b.columns;
    if a.columns == 0 || length == 0 {
        return vec![0.0; length];
    }
    let mut out = Vec::with_capacity(length);
    #[expect(
        unsafe_code,
        reason = "zeroing what is overwritten at once costs a twentieth of a training step"
    )]
    // SAFETY: the vector has room for `length` values, and the product writes each of them before the length is set.
    unsafe {
        multiply(out.as_mut_ptr(), b.columns, None, a, b, 1.0);
        out.set_len(length);
    }
    out
}

/// `out ← out + a·b`; the rows of `out` follow each other.
///
/// # Panics
/// If `out` has another size.
pub fn add_product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(out.len(), a.rows * b.columns, "the product's size");
    if a.columns == 0 || out.is_empty() {
        return;
    }
    #[expect(unsafe_code, reason = "the crate gemm takes pointers")]
    // SAFETY: `out` holds the product's rows one after the other, as was just checked.
    unsafe {
        multiply(out.as_mut_ptr(), b.columns, Some(1.0), a, b, 1.0);
    }
}

/// `out ← factor · a·b`; the rows of `out` begin `row_step` elements apart, and what lies between them is kept.
///
/// # Panics
/// If `out` ends before the product does, or its rows overlap.
pub fn product_into(out: &mut [f32], row_step: usize, factor: f32, a: Matrix<'_>, b: Matrix<'_>) {
    let (rows, columns) = (a.rows, b.columns);
    assert!(
        row_step >= columns,
        "rows of {columns} that begin {row_step} apart overlap"
    );
    assert!(
        reach(rows, columns, row_step) <= out.len(),
        "the product reaches beyond its slice"
    );
    if a.columns == 0 || rows == 0 || columns == 0 {
        for row in 0..if columns == 0 { 0 } else { rows } {
            out[row * row_step..row * row_step + columns].fill(0.0);
        }
        return;
    }
    #[expect(unsafe_code, reason = "the crate gemm takes pointers")]
    // SAFETY: every row of the product lies within `out`, as was just checked.
    unsafe {
        multiply(out.as_mut_ptr(), row_step, None, a, b, factor);
    }
}

/// `out ← kept · out + factor · a·b`, or without `kept` the product alone, whatever `out` held.
///
/// # Safety
/// The rows of `out`, `row_step` apart, must lie in memory that may be written, and with `kept` hold values. Neither side of
/// the product is empty.
#[expect(unsafe_code, reason = "the crate gemm takes pointers")]
unsafe fn multiply(out: *mut f32, row_step: usize, kept: Option<f32>, a: Matrix<'_>, b: Matrix<'_>, factor: f32) {
    assert_eq!(a.columns, b.rows, "the sides of a product fit");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 && m * n * k >= WORTH_THREADS {
        gemm::Parallelism::Rayon(threads)
    } else {
        gemm::Parallelism::None
    };
    // SAFETY: both sides lie within their slices, which `Matrix` checks when it is made, and the caller answers for `out`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            row_step as isize,
            kept.is_some(),
            a.values.as_ptr(),
            a.column_step as isize,
            a.row_step as isize,
            b.values.as_ptr(),
            b.column_step as isize,
            b.row_step as isize,
            kept.unwrap_or(0.0),
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// x·w + bias.
///
/// # Shapes
/// x [R, I], w [I, O], bias [O] → [R, O]
pub fn linear(x: Matrix<'_>, w: Matrix<'_>, bias: &[f32]) -> Vec<f32> {
    assert_eq!(bias.len(), w.columns, "a bias for every column");
    let mut out = Vec::with_capacity(x.rows * w.columns);
    for _ in 0..x.rows {
        out.extend_from_slice(bias);
    }
    add_product(&mut out, x, w);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(length: usize, seed: usize) -> Vec<f32> {
        (0..length).map(|i| ((i * 37 + seed * 11) % 23) as f32 - 11.0).collect()
    }

    #[test]
    fn products_of_every_layout_and_size() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (4, 0, 3), (0, 2, 2), (17, 33, 9), (70, 40, 50)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let expected: Vec<f32> = (0..m * n)
                .map(|i| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum())
                .collect();
            let (left, right) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            assert_eq!(product(left, right), expected);

            let turned: Vec<f32> = (0..m * k).map(|i| a[i % m * k + i / m]).collect();
            let turned = Matrix::new(&turned, k, m).transposed();
            let mut sum = expected.clone();
            add_product(&mut sum, turned, right);
            assert!(sum.iter().zip(&expected).all(|(sum, once)| *sum == 2.0 * once));

            let mut wide = vec![7.0; m * (n + 3)];
            product_into(&mut wide, n + 3, 0.5, left, right);
            for (row, values) in wide.chunks(n + 3).enumerate() {
                assert!((0..n).all(|c| values[c] == 0.5 * expected[row * n + c]));
                assert_eq!(values[n..], [7.0; 3]);
            }
            let bias = numbers(n, 3);
            let shifted = linear(left, right, &bias);
            assert!((0..m * n).all(|i| shifted[i] == expected[i] + bias[i % n]));
        }
    }

    #[test]
    fn threads_change_no_digit() {
        let (a, b) = (numbers(300 * 410, 4), numbers(410 * 290, 5));
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            pool.install(|| product(Matrix::new(&a, 300, 410), Matrix::new(&b, 410, 290)))
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    #[should_panic(expected = "reaches beyond its slice")]
    fn a_matrix_beyond_its_slice_is_refused() {
        let _ = Matrix::within(&[0.0; 10], 3, 4, 4);
    }
}
