//! Rows against the vectors of their own group.

use crate::product::{Matrix, product_into};
use crate::rows::each;

/// What is compared: rows, group after group, with the vectors of their group.
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a> {
    /// The rows of all groups, [N, D].
    pub rows: &'a [f32],
    /// The vectors of all groups, C of each, [G·C, D].
    pub vectors: &'a [f32],
    /// Where each group's rows begin, and N: G + 1 numbers.
    pub offsets: &'a [usize],
    /// D.
    pub columns: usize,
}

impl<'a> Groups<'a> {
    /// C.
    fn classes(&self) -> usize {
        let groups = self.offsets.len().saturating_sub(1);
        let vectors = self.vectors.len().checked_div(self.columns).unwrap_or(0);
        assert_eq!(
            self.rows.len(),
            self.offsets.last().copied().unwrap_or(0) * self.columns,
            "rows for all groups"
        );
        assert!(
            vectors.checked_rem(groups).unwrap_or(0) == 0,
            "as many vectors for every group"
        );
        vectors.checked_div(groups).unwrap_or(0)
    }

    /// Rows and vectors of each group.
    fn parts(&self, classes: usize) -> impl Iterator<Item = (Matrix<'a>, Matrix<'a>)> + use<'a> {
        let Self {
            rows, vectors, columns, ..
        } = *self;
        self.offsets.windows(2).enumerate().map(move |(group, pair)| {
            let own = &vectors[group * classes * columns..(group + 1) * classes * columns];
            let mine = &rows[pair[0] * columns..pair[1] * columns];
            (
                Matrix::new(mine, pair[1] - pair[0], columns),
                Matrix::new(own, classes, columns),
            )
        })
    }

    /// Splits what has `width` elements a row into the groups' parts.
    fn split<'b>(&self, mut values: &'b mut [f32], width: usize) -> Vec<&'b mut [f32]> {
        let lengths = self.offsets.windows(2).map(|pair| (pair[1] - pair[0]) * width);
        lengths
            .map(|length| {
                let (own, rest) = std::mem::take(&mut values).split_at_mut(length);
                values = rest;
                own
            })
            .collect()
    }
}

/// The products of each row with its group's vectors.
///
/// # Shapes
/// → [N, C]
pub fn compare_rows(groups: Groups<'_>) -> Vec<f32> {
    let classes = groups.classes();
    let total = groups.offsets.last().copied().unwrap_or(0) * classes;
    let mut out = vec![0.0; total];
    let tasks = groups
        .split(&mut out, classes)
        .into_iter()
        .zip(groups.parts(classes))
        .collect();
    each(tasks, groups.rows.len(), |(out, (rows, vectors))| {
        product_into(out, classes, 1.0, rows, vectors.transposed());
    });
    out
}

/// The gradients of rows and vectors from that of the products, [N, C].
pub fn compare_rows_backward(gradient: &[f32], groups: Groups<'_>) -> [Vec<f32>; 2] {
    let (classes, d) = (groups.classes(), groups.columns);
    let mut of_rows = vec![0.0; groups.rows.len()];
    let mut of_vectors = vec![0.0; groups.vectors.len()];
    let mut parts = of_vectors.chunks_mut((classes * d).max(1));
    let mut tasks = Vec::new();
    let pairs = groups
        .offsets
        .windows(2)
        .zip(groups.split(&mut of_rows, d))
        .zip(groups.parts(classes));
    for ((pair, of_rows), (rows, vectors)) in pairs {
        let gradient = &gradient[pair[0] * classes..pair[1] * classes];
        let gradient = Matrix::new(gradient, pair[1] - pair[0], classes);
        tasks.push((gradient, of_rows, parts.next().unwrap_or_default(), rows, vectors));
    }
    each(
        tasks,
        groups.rows.len(),
        |(gradient, of_rows, of_vectors, rows, vectors)| {
            product_into(of_rows, d, 1.0, gradient, vectors);
            product_into(of_vectors, d, 1.0, gradient.transposed(), rows);
        },
    );
    [of_rows, of_vectors]
}
