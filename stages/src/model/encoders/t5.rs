//! The encoder of T5 (Raffel et al., 2020), its later version 1.1, and mT5 (Xue et al., 2021): pre-norm layers without biases;
//! positions are told by a bias of the scores that all layers share.
//!
//! Shapes: T tokens of all sequences, L tokens of the longest, H encoder width, A attention heads of width D (A·D need not be H),
//! F feed-forward width.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::{Activation, EncoderConfigError, Family, Shapes, UNLIMITED, parse};
use crate::model::forward::View;
use crate::model::input::{EncoderInput, Sequences};
use crate::model::ops;

/// The fields of a T5's `config.json` that decide its numbers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct T5Config {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// H.
    pub d_model: usize,
    /// D.
    pub d_kv: usize,
    /// F.
    pub d_ff: usize,
    /// How many layers the encoder has.
    pub num_layers: usize,
    /// A.
    pub num_heads: usize,
    /// How many buckets distances fall into.
    #[serde(default = "buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distances from here on share the last bucket.
    #[serde(default = "max_distance")]
    pub relative_attention_max_distance: usize,
    /// Dropout everywhere in training.
    #[serde(default = "tenth")]
    pub dropout_rate: f64,
    /// Added to variances.
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f64,
    /// The feed-forward networks: the name of an activation, or `gated-` and such a name.
    #[serde(default = "relu")]
    pub feed_forward_proj: String,
    /// The token whose embedding gets no gradient.
    #[serde(default)]
    pub pad_token_id: u32,
    #[serde(skip, default = "Activation::gelu")]
    activation: Activation,
    #[serde(skip)]
    gated: bool,
}

const fn buckets() -> usize {
    32
}
const fn max_distance() -> usize {
    128
}
const fn tenth() -> f64 {
    0.1
}
const fn epsilon() -> f64 {
    1e-6
}
fn relu() -> String {
    "relu".to_owned()
}

impl T5Config {
    /// Reads the bytes of a T5's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        let mut config: Self = parse(bytes)?;
        let (name, gated) = match config.feed_forward_proj.strip_prefix("gated-") {
            // What transformers means by it, too.
            Some("gelu") => ("gelu_new", true),
            Some(name) => (name, true),
            None => (config.feed_forward_proj.as_str(), false),
        };
        config.activation = parse(format!("\"{name}\"").as_bytes()).map_err(|_| EncoderConfigError::Unsupported {
            field: "feed_forward_proj",
            found: config.feed_forward_proj.clone(),
            known: "relu`, `gated-gelu` or another activation, gated or not: `gelu`, `gelu_new`, `silu`, `tanh",
        })?;
        config.gated = gated;
        if config.num_heads == 0 || config.relative_attention_num_buckets < 4 {
            return Err(EncoderConfigError::Unsupported {
                field: "relative_attention_num_buckets",
                found: config.relative_attention_num_buckets.to_string(),
                known: "at least 4, with one head or more,",
            });
        }
        Ok(config)
    }

    /// The bucket of a distance: one for each small distance, ever wider ones beyond, to either side.
    fn bucket(&self, query: usize, key: usize) -> usize {
        let half = self.relative_attention_num_buckets / 2;
        let side = if key > query { half } else { 0 };
        let (distance, exact) = (query.abs_diff(key), half / 2);
        if distance < exact {
            return side + distance;
        }
        // In 32 bits, as transformers has it: the logarithm decides which side of a border a distance falls on.
        let scale = (self.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
        let log = (distance as f32 / exact as f32).ln() / scale * (half - exact) as f32;
        side + (exact + log as usize).min(half - 1)
    }
}

/// The table of the biases, in the first layer.
const BIAS_TABLE: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias";

impl Family for T5Config {
    fn hidden_size(&self) -> usize {
        self.d_model
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn window(&self) -> usize {
        UNLIMITED
    }

    fn pad_token_id(&self) -> u32 {
        self.pad_token_id
    }

    fn token_table(&self) -> &'static str {
        "shared.weight"
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (h, f, inner) = (self.d_model, self.d_ff, self.num_heads * self.d_kv);
        let mut shapes = Shapes::default();
        shapes.table("shared", self.vocab_size, h);
        shapes.table(BIAS_TABLE, self.relative_attention_num_buckets, self.num_heads);
        for layer in 0..self.num_layers {
            let at = |name: &str| format!("encoder.block.{layer}.layer.{name}");
            shapes.scale(&at("0.layer_norm"), h);
            for name in ["q", "k", "v"] {
                shapes.product(&at(&format!("0.SelfAttention.{name}")), h, inner);
            }
            shapes.product(&at("0.SelfAttention.o"), inner, h);
            shapes.scale(&at("1.layer_norm"), h);
            if self.gated {
                shapes.product(&at("1.DenseReluDense.wi_0"), h, f);
                shapes.product(&at("1.DenseReluDense.wi_1"), h, f);
            } else {
                shapes.product(&at("1.DenseReluDense.wi"), h, f);
            }
            shapes.product(&at("1.DenseReluDense.wo"), f, h);
        }
        shapes.scale("encoder.final_layer_norm", h);
        shapes.0
    }

    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        let tokens = weights.rows("shared.weight", &input.ids);
        let mut hidden = weights.drop_out(tokens, self.dropout_rate);
        let bias = position_bias(self, weights, input.sequences.longest()); // [1, A, L, L]
        for number in 0..self.num_layers {
            let own = weights.at(&format!("encoder.block.{number}.layer"));
            let normed = own.at("0.layer_norm").rms_norm(hidden.clone(), self.layer_norm_epsilon);
            let attended = attention(self, &own.at("0.SelfAttention"), normed, bias.clone(), &input.sequences);
            hidden = hidden + weights.drop_out(attended, self.dropout_rate);
            let normed = own.at("1.layer_norm").rms_norm(hidden.clone(), self.layer_norm_epsilon);
            let fed = feed_forward(self, &own.at("1.DenseReluDense"), normed);
            hidden = hidden + weights.drop_out(fed, self.dropout_rate);
        }
        let hidden = weights
            .at("encoder.final_layer_norm")
            .rms_norm(hidden, self.layer_norm_epsilon);
        weights.drop_out(hidden, self.dropout_rate)
    }
}

/// What the distance between query and key adds to their score.
///
/// # Shapes
/// → [1, A, L, L]
fn position_bias(config: &T5Config, weights: &View<'_>, l: usize) -> Tensor<4> {
    let pairs = (0..l).flat_map(|query| (0..l).map(move |key| (query, key)));
    let buckets: Vec<u32> = pairs.map(|(query, key)| config.bucket(query, key) as u32).collect();
    let rows = weights.at(BIAS_TABLE).rows("weight", &buckets); // [L·L, A]
    rows.transpose().reshape([1, config.num_heads, l, l])
}

/// Attention without the usual scale.
///
/// # Shapes
/// x [T, H], bias [1, A, L, L] → [T, H]
fn attention(config: &T5Config, weights: &View<'_>, x: Tensor<2>, bias: Tensor<4>, sequences: &Sequences) -> Tensor<2> {
    let project = |name: &str| weights.at(name).product(x.clone()); // [T, A·D]
    let context = weights.attention(ops::Attention {
        query: project("q").mul_scalar((config.d_kv as f64).sqrt()),
        key: project("k"),
        value: project("v"),
        heads: config.num_heads,
        sequences,
        bias: Some(bias),
        window: None,
        dropout_rate: config.dropout_rate,
    });
    weights.at("o").product(context)
}

/// A feed-forward network, gated or not.
///
/// # Shapes
/// x [T, H] → [T, H]
fn feed_forward(config: &T5Config, weights: &View<'_>, x: Tensor<2>) -> Tensor<2> {
    let inner = if config.gated {
        let activated = config.activation.of(weights.at("wi_0").product(x.clone()));
        activated * weights.at("wi_1").product(x)
    } else {
        config.activation.of(weights.at("wi").product(x))
    }; // [T, F]
    weights.at("wo").product(weights.drop_out(inner, config.dropout_rate))
}
