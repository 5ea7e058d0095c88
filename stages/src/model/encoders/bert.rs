//! BERT (Devlin et al., 2019) in the order data flows: embeddings, then layers of attention and a feed-forward network, each
//! followed by residual addition and layer normalization. Weight names are Hugging Face's.
//!
//! Shapes: T tokens of all sequences, H encoder width, A attention heads, F feed-forward width.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::EncoderConfigError;
use crate::model::forward::View;
use crate::model::input::{EncoderInput, Sequences};
use crate::model::ops;

/// The name of the token embedding.
pub(super) const TOKEN_TABLE: &str = "embeddings.word_embeddings.weight";

/// The fields of a BERT's `config.json` that decide its numbers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BertConfig {
    /// Rows of the token embedding that the tokenizer uses; the table may have more.
    pub vocab_size: usize,
    /// H.
    pub hidden_size: usize,
    /// How many layers.
    pub num_hidden_layers: usize,
    /// A.
    pub num_attention_heads: usize,
    /// F.
    pub intermediate_size: usize,
    /// The longest input.
    pub max_position_embeddings: usize,
    /// Rows of the segment embedding; only row 0 is used.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Added to variances.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Dropout of embeddings and sub-layers in training.
    #[serde(default = "tenth")]
    pub hidden_dropout_prob: f64,
    /// Dropout of attention probabilities in training.
    #[serde(default = "tenth")]
    pub attention_probs_dropout_prob: f64,
    /// The token whose embedding gets no gradient.
    #[serde(default)]
    pub pad_token_id: u32,
    /// The activation of the feed-forward network.
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// How positions are encoded.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
}

fn two() -> usize {
    2
}
fn layer_norm_eps() -> f64 {
    1e-12
}
fn tenth() -> f64 {
    0.1
}
fn gelu() -> String {
    "gelu".to_owned()
}
fn absolute() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// Reads the bytes of a BERT's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        for (field, found, known) in [
            ("hidden_act", &config.hidden_act, "gelu"),
            ("position_embedding_type", &config.position_embedding_type, "absolute"),
        ] {
            if found != known {
                return Err(EncoderConfigError::Unsupported {
                    field,
                    found: found.clone(),
                    known,
                });
            }
        }
        if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(EncoderConfigError::Heads {
                hidden: config.hidden_size,
                heads: config.num_attention_heads,
            });
        }
        Ok(config)
    }

    /// See [`EncoderConfig::shapes`](super::EncoderConfig::shapes); in the order in which data meets them.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (h, f) = (self.hidden_size, self.intermediate_size);
        let mut shapes: Vec<(String, Vec<usize>)> = [
            ("word_embeddings.weight", vec![self.vocab_size, h]),
            ("position_embeddings.weight", vec![self.max_position_embeddings, h]),
            ("token_type_embeddings.weight", vec![self.type_vocab_size, h]),
            ("LayerNorm.weight", vec![h]),
            ("LayerNorm.bias", vec![h]),
        ]
        .map(|(name, shape)| (format!("embeddings.{name}"), shape))
        .into();
        for layer in 0..self.num_hidden_layers {
            for (name, inputs, outputs) in [
                ("attention.self.query", h, h),
                ("attention.self.key", h, h),
                ("attention.self.value", h, h),
                ("attention.output.dense", h, h),
                ("intermediate.dense", h, f),
                ("output.dense", f, h),
            ] {
                shapes.push((format!("encoder.layer.{layer}.{name}.weight"), vec![outputs, inputs]));
                shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![outputs]));
            }
            for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
                shapes.push((format!("encoder.layer.{layer}.{name}.weight"), vec![h]));
                shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![h]));
            }
        }
        shapes
    }

    /// The pooler, which is trained to tell whether one sentence follows another.
    pub(super) fn spare_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let h = self.hidden_size;
        vec![
            ("pooler.dense.weight".to_owned(), vec![h, h]),
            ("pooler.dense.bias".to_owned(), vec![h]),
        ]
    }
}

/// The last hidden states.
///
/// # Shapes
/// input of T tokens → [T, H]
pub(super) fn forward(config: &BertConfig, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
    let mut hidden = embeddings(config, &weights.at("embeddings"), input);
    for number in 0..config.num_hidden_layers {
        let weights = weights.at(&format!("encoder.layer.{number}"));
        hidden = layer(config, &weights, hidden, &input.sequences);
    }
    hidden
}

/// Token + position + segment embeddings, normalized.
///
/// # Shapes
/// input of T tokens → [T, H]
fn embeddings(config: &BertConfig, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
    let tokens = weights.rows("word_embeddings.weight", &input.ids);
    let places = weights.rows("position_embeddings.weight", &input.sequences.positions());
    let segment = weights.rows("token_type_embeddings.weight", &[0]); // [1, H]
    let hidden = weights
        .at("LayerNorm")
        .layer_norm(tokens + places + segment, config.layer_norm_eps);
    weights.drop_out(hidden, config.hidden_dropout_prob)
}

/// One post-norm transformer layer.
///
/// # Shapes
/// hidden [T, H] → [T, H]
fn layer(config: &BertConfig, weights: &View<'_>, hidden: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
    let projections = weights.at("attention.self");
    let project = |name: &str| projections.at(name).linear(hidden.clone());
    let context = weights.attention(ops::Attention {
        query: project("query"),
        key: project("key"),
        value: project("value"),
        heads: config.num_attention_heads,
        sequences,
        bias: None,
        window: None,
        dropout_rate: config.attention_probs_dropout_prob,
    });
    let attended = sub_layer(config, &weights.at("attention.output"), context, hidden);

    let inner = ops::gelu(weights.at("intermediate.dense").linear(attended.clone())); // [T, F]
    sub_layer(config, &weights.at("output"), inner, attended)
}

/// Projects a sub-layer's result, adds what went into it, normalizes.
///
/// # Shapes
/// x [T, any], residual [T, H] → [T, H]
fn sub_layer(config: &BertConfig, weights: &View<'_>, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
    let x = weights.drop_out(weights.at("dense").linear(x), config.hidden_dropout_prob);
    weights.at("LayerNorm").layer_norm(x + residual, config.layer_norm_eps)
}
