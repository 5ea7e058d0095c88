//! DistilBERT (Sanh et al., 2019): BERT's layers without segments, and without dropout behind the attention.
//!
//! Shapes: T tokens of all sequences, H encoder width, A attention heads, F feed-forward width.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::{Activation, EncoderConfigError, Family, Shapes, check_heads, parse};
use crate::model::forward::View;
use crate::model::input::{EncoderInput, Sequences};
use crate::model::ops;

/// The fields of a DistilBERT's `config.json` that decide its numbers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DistilBertConfig {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// H.
    pub dim: usize,
    /// How many layers.
    pub n_layers: usize,
    /// A.
    pub n_heads: usize,
    /// F.
    pub hidden_dim: usize,
    /// The longest input.
    pub max_position_embeddings: usize,
    /// Dropout of embeddings and of the feed-forward network in training.
    #[serde(default = "tenth")]
    pub dropout: f64,
    /// Dropout of attention probabilities in training.
    #[serde(default = "tenth")]
    pub attention_dropout: f64,
    /// The activation of the feed-forward network.
    #[serde(default = "Activation::gelu")]
    pub activation: Activation,
    /// The token whose embedding gets no gradient.
    #[serde(default)]
    pub pad_token_id: u32,
}

const fn tenth() -> f64 {
    0.1
}

/// Added to variances; no configuration says otherwise.
const EPSILON: f64 = 1e-12;

impl DistilBertConfig {
    /// Reads the bytes of a DistilBERT's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        let config: Self = parse(bytes)?;
        check_heads(config.dim, config.n_heads)?;
        Ok(config)
    }
}

impl Family for DistilBertConfig {
    fn hidden_size(&self) -> usize {
        self.dim
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn window(&self) -> usize {
        self.max_position_embeddings
    }

    fn pad_token_id(&self) -> u32 {
        self.pad_token_id
    }

    fn token_table(&self) -> &'static str {
        "embeddings.word_embeddings.weight"
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (h, f) = (self.dim, self.hidden_dim);
        let mut shapes = Shapes::default();
        shapes.table("embeddings.word_embeddings", self.vocab_size, h);
        shapes.table("embeddings.position_embeddings", self.max_position_embeddings, h);
        shapes.norm("embeddings.LayerNorm", h);
        for layer in 0..self.n_layers {
            let at = |name: &str| format!("transformer.layer.{layer}.{name}");
            for name in ["q_lin", "k_lin", "v_lin", "out_lin"] {
                shapes.linear(&at(&format!("attention.{name}")), h, h);
            }
            shapes.norm(&at("sa_layer_norm"), h);
            shapes.linear(&at("ffn.lin1"), h, f);
            shapes.linear(&at("ffn.lin2"), f, h);
            shapes.norm(&at("output_layer_norm"), h);
        }
        shapes.0
    }

    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        let mut hidden = embeddings(self, &weights.at("embeddings"), input);
        for number in 0..self.n_layers {
            let weights = weights.at(&format!("transformer.layer.{number}"));
            hidden = layer(self, &weights, hidden, &input.sequences);
        }
        hidden
    }
}

/// Token + position embeddings, normalized.
///
/// # Shapes
/// input of T tokens → [T, H]
fn embeddings(config: &DistilBertConfig, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
    let tokens = weights.rows("word_embeddings.weight", &input.ids);
    let places = weights.rows("position_embeddings.weight", &input.sequences.positions());
    let hidden = weights.at("LayerNorm").layer_norm(tokens + places, EPSILON);
    weights.drop_out(hidden, config.dropout)
}

/// One post-norm transformer layer.
///
/// # Shapes
/// hidden [T, H] → [T, H]
fn layer(config: &DistilBertConfig, weights: &View<'_>, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
    let attention = weights.at("attention");
    let project = |name: &str| attention.at(name).linear(hidden.clone());
    let context = weights.attention(ops::Attention {
        query: project("q_lin"),
        key: project("k_lin"),
        value: project("v_lin"),
        heads: config.n_heads,
        sequences,
        bias: None,
        window: None,
        dropout_rate: config.attention_dropout,
    });
    let attended = attention.at("out_lin").linear(context);
    let attended = weights.at("sa_layer_norm").layer_norm(attended + hidden, EPSILON);

    let inner = config.activation.of(weights.at("ffn.lin1").linear(attended.clone())); // [T, F]
    let outer = weights.drop_out(weights.at("ffn.lin2").linear(inner), config.dropout);
    weights.at("output_layer_norm").layer_norm(outer + attended, EPSILON)
}
