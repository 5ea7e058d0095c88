//! BERT (Devlin et al., 2019) in the order data flows: embeddings, then layers of attention and a feed-forward network, each
//! followed by residual addition and layer normalization. Weight names are Hugging Face's.
//!
//! Shapes: B sentences, L input subwords, H encoder width, A attention heads, F feed-forward width. Activations stay flattened
//! to [B·L, H] everywhere but inside attention.

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;

use super::dropout::Dropout;
use super::ops;
use super::weights::View;

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
    /// The model family.
    #[serde(default = "bert")]
    pub model_type: String,
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
fn bert() -> String {
    "bert".to_owned()
}
fn gelu() -> String {
    "gelu".to_owned()
}
fn absolute() -> String {
    "absolute".to_owned()
}

/// Why an encoder's `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BertConfigError {
    /// Not the JSON of a BERT.
    #[error("not the configuration of a BERT encoder: {0}")]
    Parse(#[from] serde_json::Error),
    /// A variant that is not built here.
    #[error("`{field}` is `{found}`, but only `{known}` is supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        known: &'static str,
    },
    /// Sizes that contradict each other.
    #[error("`hidden_size` {hidden} is not a multiple of `num_attention_heads` {heads}")]
    Heads {
        /// H.
        hidden: usize,
        /// A.
        heads: usize,
    },
}

impl BertConfig {
    /// Reads the bytes of a `config.json`; fields that do not matter here are ignored.
    ///
    /// # Errors
    /// If a size is missing, or the file describes something that is no plain BERT.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BertConfigError> {
        let config: Self = serde_json::from_slice(bytes)?;
        for (field, found, known) in [
            ("model_type", &config.model_type, "bert"),
            ("hidden_act", &config.hidden_act, "gelu"),
            ("position_embedding_type", &config.position_embedding_type, "absolute"),
        ] {
            if found != known {
                return Err(BertConfigError::Unsupported {
                    field,
                    found: found.clone(),
                    known,
                });
            }
        }
        if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(BertConfigError::Heads {
                hidden: config.hidden_size,
                heads: config.num_attention_heads,
            });
        }
        Ok(config)
    }

    /// Names and shapes of all weights that the forward pass reads, in Hugging Face's names and PyTorch's [out, in] order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
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
}

/// What an encoder reads: B rows of L subword ids, and which of them are not padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncoderInput {
    /// B.
    pub rows: usize,
    /// L.
    pub length: usize,
    /// Subword ids, [B, L] row by row.
    pub ids: Vec<u32>,
    /// Whether each is a real token, [B, L].
    pub mask: Vec<bool>,
}

impl EncoderInput {
    /// Some of the rows.
    pub(super) fn slice(&self, rows: std::ops::Range<usize>) -> Self {
        let range = rows.start * self.length..rows.end * self.length;
        Self {
            rows: rows.len(),
            length: self.length,
            ids: self.ids[range.clone()].to_vec(),
            mask: self.mask[range].to_vec(),
        }
    }
}

/// The last hidden states.
///
/// # Shapes
/// input [B, L] → [B·L, H]
pub(super) fn forward(
    config: &BertConfig,
    weights: View<'_>,
    input: &EncoderInput,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let device = weights.device();
    let keep_out = ops::removal(&input.mask, [input.rows, 1, 1, input.length], &device);
    let mut hidden = embeddings(config, &weights.at("embeddings"), input, &device, dropout);
    for number in 0..config.num_hidden_layers {
        let weights = weights.at(&format!("encoder.layer.{number}"));
        hidden = layer(
            config,
            &weights,
            hidden,
            [input.rows, input.length],
            keep_out.clone(),
            dropout,
        );
    }
    hidden
}

/// Token + position + segment embeddings, normalized.
///
/// # Shapes
/// input [B, L] → [B·L, H]
fn embeddings(
    config: &BertConfig,
    weights: &View<'_>,
    input: &EncoderInput,
    device: &Device,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let (b, l, h) = (input.rows, input.length, config.hidden_size);
    let tokens = ops::take_rows(weights.matrix("word_embeddings.weight"), &input.ids);
    let positions: Vec<i32> = (0..l as i32).collect();
    let positions: Tensor<1, Int> = Tensor::from_data(TensorData::new(positions, [l]), device);
    let places = weights.matrix("position_embeddings.weight").select(0, positions);
    let segment = weights.matrix("token_type_embeddings.weight").slice([0..1, 0..h]);
    let sum = tokens.reshape([b, l, h]) + (places + segment).unsqueeze::<3>();
    let hidden = norm(config, &weights.at("LayerNorm"), sum.reshape([b * l, h]));
    ops::drop_out(hidden, config.hidden_dropout_prob, dropout)
}

/// One post-norm transformer layer.
///
/// # Shapes
/// hidden [B·L, H], keep_out [B, 1, 1, L] → [B·L, H]
fn layer(
    config: &BertConfig,
    weights: &View<'_>,
    hidden: Tensor<2>,
    [b, l]: [usize; 2],
    keep_out: Tensor<4>,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let (h, a) = (config.hidden_size, config.num_attention_heads);

    let projections = weights.at("attention.self");
    let heads = |name: &str| {
        let projected = linear(&projections.at(name), hidden.clone()); // [B·L, H]
        projected.reshape([b, l, a, h / a]).swap_dims(1, 2) // [B, A, L, H/A]
    };
    let rate = config.attention_probs_dropout_prob;
    let context = ops::attention(heads("query"), heads("key"), heads("value"), keep_out, rate, dropout);
    let context = context.swap_dims(1, 2).reshape([b * l, h]);
    let attended = sub_layer(config, &weights.at("attention.output"), context, hidden, dropout);

    let inner = ops::gelu(linear(&weights.at("intermediate.dense"), attended.clone())); // [B·L, F]
    sub_layer(config, &weights.at("output"), inner, attended, dropout)
}

/// Projects a sub-layer's result, adds what went into it, normalizes.
///
/// # Shapes
/// x [B·L, any], residual [B·L, H] → [B·L, H]
fn sub_layer(
    config: &BertConfig,
    weights: &View<'_>,
    x: Tensor<2>,
    residual: Tensor<2>,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let x = linear(&weights.at("dense"), x);
    let x = ops::drop_out(x, config.hidden_dropout_prob, dropout);
    norm(config, &weights.at("LayerNorm"), x + residual)
}

fn linear(weights: &View<'_>, x: Tensor<2>) -> Tensor<2> {
    ops::linear(x, weights.matrix("weight"), weights.vector("bias"))
}

fn norm(config: &BertConfig, weights: &View<'_>, x: Tensor<2>) -> Tensor<2> {
    ops::layer_norm(
        x,
        weights.vector("weight"),
        weights.vector("bias"),
        config.layer_norm_eps,
    )
}
