//! The bi-encoder's types: read by an encoder of their own, each pooled to one vector.

use burn::tensor::{Tensor, TensorData};

use super::bert::{self, BertConfig, EncoderInput};
use super::dropout::Dropout;
use super::ops;
use super::spans::unit_vectors;
use super::weights::View;
use crate::recognizer::{Pooling, RecognizerConfig};

/// The vectors of types.
///
/// # Shapes
/// input [C, Lt] → [C, D]
pub(super) fn type_vectors(
    config: &RecognizerConfig,
    encoder: &BertConfig,
    weights: &View<'_>,
    input: &EncoderInput,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let hidden = bert::forward(encoder, weights.at("type_encoder"), input, dropout); // [C·Lt, H]
    let pooled = match config.type_encoder_pooling {
        Pooling::Cls => first_states(hidden, input),
        Pooling::Mean => mean_states(hidden, input),
    };
    unit_vectors(&weights.at("type_linear"), pooled, config.dropout, dropout)
}

/// The state of each input's first token.
///
/// # Shapes
/// hidden [C·Lt, H] → [C, H]
fn first_states(hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
    let rows: Vec<u32> = (0..input.rows).map(|row| (row * input.length) as u32).collect();
    ops::take_rows(hidden, &rows)
}

/// The mean state of each input's tokens, padding left out.
///
/// # Shapes
/// hidden [C·Lt, H] → [C, H]
fn mean_states(hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
    let [_, h] = hidden.dims();
    let device = hidden.device();
    let shares: Vec<f32> = input
        .mask
        .chunks(input.length)
        .flat_map(|row| {
            let count = row.iter().filter(|&&real| real).count() as f32;
            row.iter().map(move |&real| if real { 1.0 / count } else { 0.0 })
        })
        .collect();
    let shares = Tensor::<3>::from_data(TensorData::new(shares, [input.rows, input.length, 1]), &device);
    (hidden.reshape([input.rows, input.length, h]) * shares)
        .sum_dim(1)
        .reshape([input.rows, h])
}
