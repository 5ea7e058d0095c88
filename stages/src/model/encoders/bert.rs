//! BERT (Devlin et al., 2019) in the order data flows: embeddings, then layers of attention and a feed-forward network, each
//! followed by residual addition and layer normalization. Weight names are Hugging Face's.
//!
//! Shapes: T tokens of all sequences, H encoder width, A attention heads, F feed-forward width.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::{Activation, EncoderConfigError, Family, Shapes, check_heads, parse};
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
    #[serde(default = "Activation::gelu")]
    pub hidden_act: Activation,
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
fn absolute() -> String {
    "absolute".to_owned()
}

impl BertConfig {
    /// Reads the bytes of a BERT's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        let config: Self = parse(bytes)?;
        if config.position_embedding_type != "absolute" {
            return Err(EncoderConfigError::Unsupported {
                field: "position_embedding_type",
                found: config.position_embedding_type,
                known: "absolute",
            });
        }
        check_heads(config.hidden_size, config.num_attention_heads)?;
        Ok(config)
    }

    /// The weights of [`embeddings`], E wide.
    pub(super) fn embedding_shapes(&self, shapes: &mut Shapes, e: usize) {
        shapes.table("embeddings.word_embeddings", self.vocab_size, e);
        shapes.table("embeddings.position_embeddings", self.max_position_embeddings, e);
        shapes.table("embeddings.token_type_embeddings", self.type_vocab_size, e);
        shapes.norm("embeddings.LayerNorm", e);
    }

    /// The weights of [`layers`].
    pub(super) fn layer_shapes(&self, shapes: &mut Shapes) {
        let (h, f) = (self.hidden_size, self.intermediate_size);
        for layer in 0..self.num_hidden_layers {
            let at = |name: &str| format!("encoder.layer.{layer}.{name}");
            for name in ["attention.self.query", "attention.self.key", "attention.self.value"] {
                shapes.linear(&at(name), h, h);
            }
            shapes.linear(&at("attention.output.dense"), h, h);
            shapes.norm(&at("attention.output.LayerNorm"), h);
            shapes.linear(&at("intermediate.dense"), h, f);
            shapes.linear(&at("output.dense"), f, h);
            shapes.norm(&at("output.LayerNorm"), h);
        }
    }

    /// The pooler, which is trained to tell whether one sentence follows another.
    pub(super) fn pooler_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Shapes::default();
        shapes.linear("pooler.dense", self.hidden_size, self.hidden_size);
        shapes.0
    }
}

impl Family for BertConfig {
    fn hidden_size(&self) -> usize {
        self.hidden_size
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
        TOKEN_TABLE
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Shapes::default();
        self.embedding_shapes(&mut shapes, self.hidden_size);
        self.layer_shapes(&mut shapes);
        shapes.0
    }

    fn spare_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.pooler_shapes()
    }

    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        let positions = input.sequences.positions();
        let hidden = embeddings(self, &weights.at("embeddings"), input, &positions);
        layers(self, weights, hidden, &input.sequences)
    }
}

/// Token + position + segment embeddings, normalized. `positions` are the rows of the position table, T of them.
///
/// # Shapes
/// input of T tokens → [T, E]; E is H in BERT
pub(super) fn embeddings(
    config: &BertConfig,
    weights: &View<'_>,
    input: &EncoderInput,
    positions: &[u32],
) -> Tensor<2> {
    let tokens = weights.rows("word_embeddings.weight", &input.ids);
    let places = weights.rows("position_embeddings.weight", positions);
    let segment = weights.rows("token_type_embeddings.weight", &[0]); // [1, E]
    let hidden = weights
        .at("LayerNorm")
        .layer_norm(tokens + places + segment, config.layer_norm_eps);
    weights.drop_out(hidden, config.hidden_dropout_prob)
}

/// All layers, one after the other.
///
/// # Shapes
/// hidden [T, H] → [T, H]
pub(super) fn layers(
    config: &BertConfig,
    weights: &View<'_>,
    mut hidden: Tensor<2>,
    sequences: &Sequences,
) -> Tensor<2> {
    for number in 0..config.num_hidden_layers {
        let weights = weights.at(&format!("encoder.layer.{number}"));
        hidden = layer(config, &weights, hidden, sequences);
    }
    hidden
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

    let inner = config
        .hidden_act
        .of(weights.at("intermediate.dense").linear(attended.clone())); // [T, F]
    sub_layer(config, &weights.at("output"), inner, attended)
}

/// Projects a sub-layer's result, adds what went into it, normalizes.
///
/// # Shapes
/// x [T, any], residual [T, H] → [T, H]
fn sub_layer(config: &BertConfig, weights: &View<'_>, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
    let x = weights.at("dense").linear(x);
    let norm = weights.at("LayerNorm");
    norm.add_norm(x, residual, config.hidden_dropout_prob, config.layer_norm_eps)
}
