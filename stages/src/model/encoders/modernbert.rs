//! ModernBERT (Warner et al., 2024) and mmBERT (Marone et al., 2025): pre-norm layers with rotary positions, gated feed-forward
//! networks and no biases; most layers look at a window of neighbours only.
//!
//! Shapes: T tokens of all sequences, H encoder width, A attention heads of width D, F feed-forward width.

use std::collections::HashMap;

use burn::tensor::Tensor;
use serde::Deserialize;

use super::{Activation, EncoderConfigError, Family, Shapes, check_heads, parse};
use crate::model::forward::View;
use crate::model::input::{EncoderInput, Sequences};
use crate::model::ops;

/// The fields of a ModernBERT's `config.json` that decide its numbers, as transformers 4 and 5 write them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ModernBertConfig {
    /// Rows of the token embedding.
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
    #[serde(default = "longest")]
    pub max_position_embeddings: usize,
    /// Added to variances.
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    /// Whether normalizations have a shift.
    #[serde(default)]
    pub norm_bias: bool,
    /// Whether the projections around attention have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the feed-forward networks have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// The activation of the feed-forward networks' gated half.
    #[serde(default = "Activation::gelu")]
    pub hidden_activation: Activation,
    /// How many tokens a local layer looks at, half of them to either side.
    #[serde(default = "local_attention")]
    pub local_attention: usize,
    /// Every so many layers one looks at all tokens, the first among them.
    #[serde(default = "global_every")]
    pub global_attn_every_n_layers: usize,
    /// Which layers look at all tokens, layer by layer; it goes before `global_attn_every_n_layers`.
    pub layer_types: Option<Vec<Reach>>,
    /// The base of the rotations in global layers.
    #[serde(default = "global_theta")]
    pub global_rope_theta: f64,
    /// That in local layers; the global one if it is null.
    #[serde(default = "local_theta")]
    pub local_rope_theta: Option<f64>,
    /// The bases by kind of layer; they go before the other two.
    #[serde(default)]
    pub rope_parameters: Option<HashMap<Reach, Option<Rope>>>,
    /// Dropout of the embeddings in training.
    #[serde(default)]
    pub embedding_dropout: f64,
    /// Dropout of attention probabilities, and of what attention gives, in training.
    #[serde(default)]
    pub attention_dropout: f64,
    /// Dropout inside the feed-forward networks in training.
    #[serde(default)]
    pub mlp_dropout: f64,
    /// The token whose embedding gets no gradient.
    #[serde(default = "padding")]
    pub pad_token_id: u32,
}

/// Which tokens a layer looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Reach {
    /// All of the sequence.
    #[serde(rename = "full_attention")]
    Global,
    /// Its neighbours.
    #[serde(rename = "sliding_attention")]
    Local,
}

/// How positions rotate.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Rope {
    /// Only `default` is built here.
    #[serde(default = "default_rope")]
    pub rope_type: String,
    /// The base.
    pub rope_theta: Option<f64>,
}

const fn longest() -> usize {
    8192
}
const fn norm_eps() -> f64 {
    1e-5
}
const fn local_attention() -> usize {
    128
}
const fn global_every() -> usize {
    3
}
const fn global_theta() -> f64 {
    160_000.0
}
const fn local_theta() -> Option<f64> {
    Some(10_000.0)
}
const fn padding() -> u32 {
    50_283
}
fn default_rope() -> String {
    "default".to_owned()
}

impl ModernBertConfig {
    /// Reads the bytes of a ModernBERT's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        let config: Self = parse(bytes)?;
        let ropes = config.rope_parameters.iter().flat_map(HashMap::values).flatten();
        if let Some(other) = ropes.map(|rope| &rope.rope_type).find(|kind| *kind != "default") {
            return Err(EncoderConfigError::Unsupported {
                field: "rope_type",
                found: other.clone(),
                known: "default",
            });
        }
        if let Some(types) = config
            .layer_types
            .as_ref()
            .filter(|types| types.len() != config.num_hidden_layers)
        {
            return Err(EncoderConfigError::Unsupported {
                field: "layer_types",
                found: format!("a list of {}", types.len()),
                known: "one entry a layer",
            });
        }
        check_heads(config.hidden_size, config.num_attention_heads)?;
        let d = config.hidden_size / config.num_attention_heads;
        if !d.is_multiple_of(2) {
            return Err(EncoderConfigError::Unsupported {
                field: "hidden_size",
                found: format!("{} in heads of {d}", config.hidden_size),
                known: "an even width of heads",
            });
        }
        Ok(config)
    }

    fn reach(&self, layer: usize) -> Reach {
        match &self.layer_types {
            Some(types) => types[layer],
            None if layer.is_multiple_of(self.global_attn_every_n_layers.max(1)) => Reach::Global,
            None => Reach::Local,
        }
    }

    fn theta(&self, reach: Reach) -> f64 {
        let named = self
            .rope_parameters
            .as_ref()
            .and_then(|all| all.get(&reach)?.as_ref()?.rope_theta);
        named.unwrap_or(match reach {
            Reach::Global => self.global_rope_theta,
            Reach::Local => self.local_rope_theta.unwrap_or(self.global_rope_theta),
        })
    }
}

impl Family for ModernBertConfig {
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
        "embeddings.tok_embeddings.weight"
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (h, f) = (self.hidden_size, self.intermediate_size);
        let mut shapes = Shapes::default();
        let norm = |shapes: &mut Shapes, name: &str| match self.norm_bias {
            true => shapes.norm(name, h),
            false => shapes.scale(name, h),
        };
        let project = |shapes: &mut Shapes, name: &str, inputs, outputs, bias: bool| match bias {
            true => shapes.linear(name, inputs, outputs),
            false => shapes.product(name, inputs, outputs),
        };
        shapes.table("embeddings.tok_embeddings", self.vocab_size, h);
        norm(&mut shapes, "embeddings.norm");
        for layer in 0..self.num_hidden_layers {
            let at = |name: &str| format!("layers.{layer}.{name}");
            // The embeddings are normalized already.
            if layer > 0 {
                norm(&mut shapes, &at("attn_norm"));
            }
            project(&mut shapes, &at("attn.Wqkv"), h, 3 * h, self.attention_bias);
            project(&mut shapes, &at("attn.Wo"), h, h, self.attention_bias);
            norm(&mut shapes, &at("mlp_norm"));
            project(&mut shapes, &at("mlp.Wi"), h, 2 * f, self.mlp_bias);
            project(&mut shapes, &at("mlp.Wo"), f, h, self.mlp_bias);
        }
        norm(&mut shapes, "final_norm");
        shapes.0
    }

    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        let device = weights.device();
        let positions = input.sequences.positions();
        let d = self.hidden_size / self.num_attention_heads;
        let rotation = |reach| ops::Rotation::new(&positions, d, self.theta(reach), &device);
        let (global, local) = (rotation(Reach::Global), rotation(Reach::Local));

        let tokens = weights.rows("embeddings.tok_embeddings.weight", &input.ids);
        let hidden = norm(self, &weights.at("embeddings.norm"), tokens);
        let mut hidden = weights.drop_out(hidden, self.embedding_dropout);
        for number in 0..self.num_hidden_layers {
            let own = weights.at(&format!("layers.{number}"));
            let (rotation, window) = match self.reach(number) {
                Reach::Global => (&global, None),
                Reach::Local => (&local, Some(self.local_attention / 2)),
            };
            let normed = match number {
                0 => hidden.clone(),
                _ => norm(self, &own.at("attn_norm"), hidden.clone()),
            };
            hidden = hidden + attention(self, &own.at("attn"), normed, rotation, window, &input.sequences);
            let normed = norm(self, &own.at("mlp_norm"), hidden.clone());
            hidden = hidden + feed_forward(self, &own.at("mlp"), normed);
        }
        norm(self, &weights.at("final_norm"), hidden)
    }
}

/// Layer normalization, with or without a shift.
///
/// # Shapes
/// x [T, H] → [T, H]
fn norm(config: &ModernBertConfig, weights: &View<'_>, x: Tensor<2>) -> Tensor<2> {
    match config.norm_bias {
        true => weights.layer_norm(x, config.norm_eps),
        false => weights.layer_norm_unshifted(x, config.norm_eps),
    }
}

/// A linear layer, with or without bias.
///
/// # Shapes
/// x [T, in] → [T, out]
fn project(weights: &View<'_>, x: Tensor<2>, bias: bool) -> Tensor<2> {
    match bias {
        true => weights.linear(x),
        false => weights.product(x),
    }
}

/// Attention with rotated queries and keys, over all tokens or a window.
///
/// # Shapes
/// x [T, H] → [T, H]
fn attention(
    config: &ModernBertConfig,
    weights: &View<'_>,
    x: Tensor<2>,
    rotation: &ops::Rotation,
    window: Option<usize>,
    sequences: &Sequences,
) -> Tensor<2> {
    let (a, h) = (config.num_attention_heads, config.hidden_size);
    let tokens = sequences.tokens();
    let all = project(&weights.at("Wqkv"), x, config.attention_bias); // [T, 3·H]
    let part = |number: usize| all.clone().slice([0..tokens, number * h..(number + 1) * h]);
    let context = weights.attention(ops::Attention {
        query: rotation.apply(part(0), a),
        key: rotation.apply(part(1), a),
        value: part(2),
        heads: a,
        sequences,
        bias: None,
        window,
        dropout_rate: config.attention_dropout,
    });
    let out = project(&weights.at("Wo"), context, config.attention_bias);
    weights.drop_out(out, config.attention_dropout)
}

/// A feed-forward network in which one half of the inner states is a gate for the other.
///
/// # Shapes
/// x [T, H] → [T, H]
fn feed_forward(config: &ModernBertConfig, weights: &View<'_>, x: Tensor<2>) -> Tensor<2> {
    let [tokens, _] = x.dims();
    let f = config.intermediate_size;
    let inner = project(&weights.at("Wi"), x, config.mlp_bias); // [T, 2·F]
    let activated = config.hidden_activation.of(inner.clone().slice([0..tokens, 0..f]));
    let gated = activated * inner.slice([0..tokens, f..2 * f]);
    project(
        &weights.at("Wo"),
        weights.drop_out(gated, config.mlp_dropout),
        config.mlp_bias,
    )
}
