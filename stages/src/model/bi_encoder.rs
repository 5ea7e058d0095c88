//! The bi-encoder's types: read by an encoder of their own, each pooled to one vector.

use burn::tensor::{Tensor, TensorData};

use super::encoders::EncoderConfig;
use super::forward::View;
use super::input::EncoderInput;
use super::ops;
use super::spans::unit_vectors;
use crate::recognizer::{Pooling, RecognizerConfig};

/// The vectors of types.
///
/// # Shapes
/// input of C sequences → [C, D]
pub(super) fn type_vectors(
    config: &RecognizerConfig,
    encoder: &EncoderConfig,
    weights: &View<'_>,
    input: &EncoderInput,
) -> Tensor<2> {
    let hidden = encoder.forward(&weights.at("type_encoder"), input); // [T, H]
    let pooled = match config.type_encoder_pooling {
        Pooling::Cls => first_states(hidden, input),
        Pooling::Mean => mean_states(hidden, input),
    };
    unit_vectors(&weights.at("type_linear"), pooled, config.dropout)
}

/// The state of each sequence's first token.
///
/// # Shapes
/// hidden [T, H] → [C, H]
fn first_states(hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
    let rows: Vec<u32> = input.sequences.iter().map(|tokens| tokens.start as u32).collect();
    ops::take_rows(hidden, &rows)
}

/// The mean state of each sequence's tokens.
///
/// # Shapes
/// hidden [T, H] → [C, H]
fn mean_states(hidden: Tensor<2>, input: &EncoderInput) -> Tensor<2> {
    let sequences = &input.sequences;
    let mut shares = vec![0f32; sequences.len() * sequences.tokens()]; // [C, T]
    for (sequence, tokens) in sequences.iter().enumerate() {
        let share = 1.0 / tokens.len() as f32;
        shares[sequence * sequences.tokens()..][tokens].fill(share);
    }
    let shares = TensorData::new(shares, [sequences.len(), sequences.tokens()]);
    Tensor::<2>::from_data(shares, &hidden.device()).matmul(hidden)
}
