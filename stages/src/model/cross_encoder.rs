//! The cross-encoder's types: read from their markers in each sentence's prompt, so they know the text.

use burn::tensor::Tensor;

use super::forward::View;
use super::ops;
use super::spans::unit_vectors;
use crate::batch::Batch;
use crate::recognizer::RecognizerConfig;

/// The vectors of types in each sentence.
///
/// # Shapes
/// hidden [T, H], markers at C places of every sequence → [B, C, D]
pub(super) fn type_vectors(
    config: &RecognizerConfig,
    weights: &View<'_>,
    hidden: &Tensor<2>,
    batch: &Batch,
    markers: &[u32],
) -> Tensor<3> {
    let (b, c) = (batch.sentences(), markers.len());
    let sequences = batch.text.sequences.iter();
    let rows: Vec<u32> = sequences
        .flat_map(|tokens| markers.iter().map(move |&marker| tokens.start as u32 + marker))
        .collect();
    let states = ops::take_rows(hidden.clone(), &rows); // [B·C, H]
    unit_vectors(&weights.at("type_linear"), states, config.dropout).reshape([b, c, config.linear_hidden_size])
}
