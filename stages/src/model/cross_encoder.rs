//! The cross-encoder's types: read from their markers in each sentence's prompt, so they know the text.

use burn::tensor::Tensor;

use super::dropout::Dropout;
use super::ops;
use super::spans::unit_vectors;
use super::weights::View;
use crate::batch::Batch;
use crate::recognizer::RecognizerConfig;

/// The vectors of types in each sentence.
///
/// # Shapes
/// hidden [B·L, H], markers at C input positions → [B, C, D]
pub(super) fn type_vectors(
    config: &RecognizerConfig,
    weights: &View<'_>,
    hidden: &Tensor<2>,
    batch: &Batch,
    markers: &[u32],
    dropout: Option<&Dropout>,
) -> Tensor<3> {
    let (b, c) = (batch.sentences(), markers.len());
    let rows: Vec<u32> = (0..b)
        .flat_map(|sentence| {
            markers
                .iter()
                .map(move |&marker| (sentence * batch.text.length) as u32 + marker)
        })
        .collect();
    let states = ops::take_rows(hidden.clone(), &rows); // [B·C, H]
    unit_vectors(&weights.at("type_linear"), states, config.dropout, dropout).reshape([b, c, config.linear_hidden_size])
}
