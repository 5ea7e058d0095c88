//! DeBERTa-v2 and v3 (He et al., 2021 and 2023), mDeBERTa: BERT with disentangled attention. A score is made of three parts: the
//! query's content with the key's content, the query's content with the key's relative position (c2p), and the query's relative
//! position with the key's content (p2c). Distances beyond some fall into ever wider buckets.
//!
//! Shapes: T tokens of B sequences, L tokens of the longest, H encoder width, A attention heads of width D, F feed-forward width,
//! E embedding width, P relative positions.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Deserializer};

use super::{Activation, EncoderConfigError, Family, Shapes, check_heads, parse};
use crate::model::forward::View;
use crate::model::input::{EncoderInput, Sequences};
use crate::model::ops;

/// The fields of a DeBERTa-v2's `config.json` that decide its numbers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DebertaV2Config {
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
    /// The longest input, with absolute positions; the largest distance, where nothing else says it.
    #[serde(default = "longest")]
    pub max_position_embeddings: usize,
    /// Rows of the segment embedding, 0 for none; only row 0 is used.
    #[serde(default)]
    pub type_vocab_size: usize,
    /// Added to variances.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Dropout of embeddings, sub-layers and relative positions in training.
    #[serde(default = "tenth")]
    pub hidden_dropout_prob: f64,
    /// Dropout of attention probabilities in training.
    #[serde(default = "tenth")]
    pub attention_probs_dropout_prob: f64,
    /// The activation of the feed-forward network.
    #[serde(default = "Activation::gelu")]
    pub hidden_act: Activation,
    /// The token whose embedding gets no gradient.
    #[serde(default)]
    pub pad_token_id: u32,
    /// Whether attention looks at relative positions.
    #[serde(default)]
    pub relative_attention: bool,
    /// The largest distance; below 1 it is `max_position_embeddings`.
    #[serde(default = "unset")]
    pub max_relative_positions: i64,
    /// How many buckets distances fall into, to either side; below 1 each has its own.
    #[serde(default = "unset")]
    pub position_buckets: i64,
    /// Which parts of a score look at positions.
    #[serde(default, deserialize_with = "parts")]
    pub pos_att_type: Vec<String>,
    /// Whether positions are projected as contents are.
    #[serde(default)]
    pub share_att_key: bool,
    /// Whether the embedding of relative positions is normalized: `none` or `layer_norm`.
    #[serde(default = "none")]
    pub norm_rel_ebd: String,
    /// Whether absolute positions are added to the embeddings.
    #[serde(default = "yes")]
    pub position_biased_input: bool,
    /// E; H if it is not said.
    pub embedding_size: Option<usize>,
    /// The width of the convolution beside the first layer; 0 for none.
    #[serde(default)]
    pub conv_kernel_size: usize,
    /// How many groups the convolution's channels form.
    #[serde(default = "one")]
    pub conv_groups: usize,
    /// Its activation.
    #[serde(default = "tanh")]
    pub conv_act: Activation,
}

const fn longest() -> usize {
    512
}
const fn layer_norm_eps() -> f64 {
    1e-7
}
const fn tenth() -> f64 {
    0.1
}
const fn unset() -> i64 {
    -1
}
fn none() -> String {
    "none".to_owned()
}
const fn yes() -> bool {
    true
}
const fn one() -> usize {
    1
}
const fn tanh() -> Activation {
    Activation::Tanh
}

/// `"p2c|c2p"` or `["p2c", "c2p"]`.
fn parts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        List(Vec<String>),
        Nothing(()),
    }
    let listed = match Written::deserialize(deserializer)? {
        Written::Text(text) => text
            .to_lowercase()
            .split('|')
            .map(|part| part.trim().to_owned())
            .collect(),
        Written::List(parts) => parts,
        Written::Nothing(()) => Vec::new(),
    };
    Ok(listed.into_iter().filter(|part| !part.is_empty()).collect())
}

impl DebertaV2Config {
    /// Reads the bytes of a DeBERTa-v2's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        let config: Self = parse(bytes)?;
        let unsupported = |field, found: String, known| Err(EncoderConfigError::Unsupported { field, found, known });
        if let Some(other) = config
            .pos_att_type
            .iter()
            .find(|part| !["c2p", "p2c"].contains(&part.as_str()))
        {
            return unsupported("pos_att_type", other.clone(), "c2p` and `p2c");
        }
        if !["none", "layer_norm"].contains(&config.norm_rel_ebd.as_str()) {
            return unsupported("norm_rel_ebd", config.norm_rel_ebd, "none` or `layer_norm");
        }
        if config.conv_kernel_size > 0 && config.conv_groups != 1 {
            return unsupported("conv_groups", config.conv_groups.to_string(), "1");
        }
        if config.conv_kernel_size > 0 && config.conv_kernel_size.is_multiple_of(2) {
            return unsupported("conv_kernel_size", config.conv_kernel_size.to_string(), "an odd number");
        }
        check_heads(config.hidden_size, config.num_attention_heads)?;
        Ok(config)
    }

    /// E.
    fn width(&self) -> usize {
        self.embedding_size.unwrap_or(self.hidden_size)
    }

    /// The largest distance that is told from all others.
    fn farthest(&self) -> usize {
        usize::try_from(self.max_relative_positions)
            .ok()
            .filter(|&distance| distance > 0)
            .unwrap_or(self.max_position_embeddings)
    }

    /// P / 2: how many relative positions there are to either side.
    fn reach(&self) -> usize {
        self.buckets().unwrap_or_else(|| self.farthest())
    }

    fn buckets(&self) -> Option<usize> {
        usize::try_from(self.position_buckets)
            .ok()
            .filter(|&buckets| buckets > 0)
    }

    fn looks(&self, part: &str) -> bool {
        self.pos_att_type.iter().any(|other| other == part)
    }

    /// The row of the embedding of relative positions for a query `query` and a key `key`.
    fn relative_row(&self, query: usize, key: usize) -> usize {
        let distance = query as i64 - key as i64;
        let distance = match self.buckets() {
            Some(buckets) => bucket(distance, buckets, self.farthest()),
            None => distance,
        };
        let reach = self.reach() as i64;
        (distance + reach).clamp(0, 2 * reach - 1) as usize
    }
}

/// The bucket of a distance: itself up to half of the buckets, its logarithm beyond.
fn bucket(distance: i64, buckets: usize, farthest: usize) -> i64 {
    let middle = (buckets / 2) as i64;
    let far = distance.abs();
    if far <= middle {
        return distance;
    }
    // In 32 bits, as transformers has it: the logarithm decides which side of a border a distance falls on.
    let middle_f = middle as f32;
    let share = (far as f32 / middle_f).ln() / ((farthest as f32 - 1.0) / middle_f).ln();
    let log = (share * (middle_f - 1.0)).ceil() as i64 + middle;
    log * distance.signum()
}

impl Family for DebertaV2Config {
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
        "embeddings.word_embeddings.weight"
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (e, h, f) = (self.width(), self.hidden_size, self.intermediate_size);
        let mut shapes = Shapes::default();
        shapes.table("embeddings.word_embeddings", self.vocab_size, e);
        if self.position_biased_input {
            shapes.table("embeddings.position_embeddings", self.max_position_embeddings, e);
        }
        if self.type_vocab_size > 0 {
            shapes.table("embeddings.token_type_embeddings", self.type_vocab_size, e);
        }
        if e != h {
            shapes.product("embeddings.embed_proj", e, h);
        }
        shapes.norm("embeddings.LayerNorm", h);
        if self.relative_attention {
            shapes.table("encoder.rel_embeddings", 2 * self.reach(), h);
        }
        if self.norm_rel_ebd == "layer_norm" {
            shapes.norm("encoder.LayerNorm", h);
        }
        for layer in 0..self.num_hidden_layers {
            let at = |name: &str| format!("encoder.layer.{layer}.{name}");
            for name in ["query_proj", "key_proj", "value_proj"] {
                shapes.linear(&at(&format!("attention.self.{name}")), h, h);
            }
            for (part, name) in [("c2p", "pos_key_proj"), ("p2c", "pos_query_proj")] {
                if self.relative_attention && !self.share_att_key && self.looks(part) {
                    shapes.linear(&at(&format!("attention.self.{name}")), h, h);
                }
            }
            shapes.linear(&at("attention.output.dense"), h, h);
            shapes.norm(&at("attention.output.LayerNorm"), h);
            shapes.linear(&at("intermediate.dense"), h, f);
            shapes.linear(&at("output.dense"), f, h);
            shapes.norm(&at("output.LayerNorm"), h);
        }
        if self.conv_kernel_size > 0 {
            let kernel = ("encoder.conv.conv.weight".to_owned(), vec![h, h, self.conv_kernel_size]);
            shapes.0.push(kernel);
            shapes.0.push(("encoder.conv.conv.bias".to_owned(), vec![h]));
            shapes.norm("encoder.conv.LayerNorm", h);
        }
        shapes.0
    }

    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        let embedded = embeddings(self, &weights.at("embeddings"), input);
        let weights = weights.at("encoder");
        let positions = self.relative_attention.then(|| relative_positions(self, &weights)); // [P, H]
        let mut hidden = embedded.clone();
        for number in 0..self.num_hidden_layers {
            let own = weights.at(&format!("layer.{number}"));
            hidden = layer(self, &own, hidden, positions.as_ref(), &input.sequences);
            if number == 0 && self.conv_kernel_size > 0 {
                hidden = convolution(self, &weights.at("conv"), embedded.clone(), hidden, &input.sequences);
            }
        }
        hidden
    }
}

/// Token (+ position + segment) embeddings, brought to width H, normalized.
///
/// # Shapes
/// input of T tokens → [T, H]
fn embeddings(config: &DebertaV2Config, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
    let mut hidden = weights.rows("word_embeddings.weight", &input.ids); // [T, E]
    if config.position_biased_input {
        hidden = hidden + weights.rows("position_embeddings.weight", &input.sequences.positions());
    }
    if config.type_vocab_size > 0 {
        hidden = hidden + weights.rows("token_type_embeddings.weight", &[0]);
    }
    if config.width() != config.hidden_size {
        hidden = weights.at("embed_proj").product(hidden); // [T, H]
    }
    let hidden = weights.at("LayerNorm").layer_norm(hidden, config.layer_norm_eps);
    weights.drop_out(hidden, config.hidden_dropout_prob)
}

/// The embedding of relative positions, the same for all layers.
///
/// # Shapes
/// → [P, H]
fn relative_positions(config: &DebertaV2Config, weights: &View<'_>) -> Tensor<2> {
    let table = weights.matrix("rel_embeddings.weight");
    match config.norm_rel_ebd.as_str() {
        "layer_norm" => weights.at("LayerNorm").layer_norm(table, config.layer_norm_eps),
        _ => table,
    }
}

/// One post-norm transformer layer.
///
/// # Shapes
/// hidden [T, H], positions [P, H] → [T, H]
fn layer(
    config: &DebertaV2Config,
    weights: &View<'_>,
    hidden: Tensor<2>,
    positions: Option<&Tensor<2>>,
    sequences: &Sequences,
) -> Tensor<2> {
    let attention = weights.at("attention.self");
    let project = |name: &str| attention.at(name).linear(hidden.clone());
    let (query, key, value) = (project("query_proj"), project("key_proj"), project("value_proj"));
    // A score is the sum of so many parts, and scaled down accordingly.
    let parts = 1 + usize::from(config.looks("c2p")) + usize::from(config.looks("p2c"));
    let scale = 1.0 / (parts as f64).sqrt();
    let bias = positions.map(|positions| {
        let positions = weights.drop_out(positions.clone(), config.hidden_dropout_prob);
        position_scores(config, &attention, query.clone(), key.clone(), positions, sequences)
    });
    let context = weights.attention(ops::Attention {
        query: query.mul_scalar(scale),
        key,
        value,
        heads: config.num_attention_heads,
        sequences,
        bias: bias.flatten().map(|bias| bias.mul_scalar(scale)),
        window: None,
        dropout_rate: config.attention_probs_dropout_prob,
    });
    let attended = sub_layer(config, &weights.at("attention.output"), context, hidden);

    let inner = config
        .hidden_act
        .of(weights.at("intermediate.dense").linear(attended.clone())); // [T, F]
    sub_layer(config, &weights.at("output"), inner, attended)
}

/// The parts of the scores that look at relative positions, divided by √D; none if no part does.
///
/// # Shapes
/// query and key [T, H], positions [P, H] → [B, A, L, L]
fn position_scores(
    config: &DebertaV2Config,
    weights: &View<'_>,
    query: Tensor<2>,
    key: Tensor<2>,
    positions: Tensor<2>,
    sequences: &Sequences,
) -> Option<Tensor<4>> {
    let (a, l) = (config.num_attention_heads, sequences.longest());
    let p = 2 * config.reach();
    let d = config.hidden_size / a;
    let own = |own: &str, shared: &str| {
        let name = if config.share_att_key { shared } else { own };
        weights.at(name).linear(positions.clone())
    };
    // Which (token, relative position) belongs to each query and key.
    let places = |of: &dyn Fn(usize, usize) -> usize| -> Vec<u32> {
        let pairs = (0..l).flat_map(|query| (0..l).map(move |key| (query, key)));
        pairs
            .map(|(query, key)| (of(query, key) * p + config.relative_row(query, key)) as u32)
            .collect()
    };
    let c2p = config.looks("c2p").then(|| {
        let scores = with_positions(query, own("pos_key_proj", "key_proj"), a, sequences);
        take_columns(scores, &places(&|query, _| query), [a, l])
    });
    let p2c = config.looks("p2c").then(|| {
        let scores = with_positions(key, own("pos_query_proj", "query_proj"), a, sequences);
        take_columns(scores, &places(&|_, key| key), [a, l])
    });
    let sum = match (c2p, p2c) {
        (Some(one), Some(other)) => one + other,
        (one, other) => one.or(other)?,
    };
    Some(sum.mul_scalar(1.0 / (d as f64).sqrt()))
}

/// Every token with every relative position, head by head.
///
/// # Shapes
/// x [T, A·D], positions [P, A·D] → [A·B, L·P]
fn with_positions(x: Tensor<2>, positions: Tensor<2>, heads: usize, sequences: &Sequences) -> Tensor<2> {
    let (b, l) = (sequences.len(), sequences.longest());
    let [p, width] = positions.dims();
    let d = width / heads;
    let x = ops::by_heads(x, heads, sequences).swap_dims(0, 1); // [A, B, L, D]
    let x = x.reshape([heads, b * l, d]);
    let positions = positions.reshape([p, heads, d]).swap_dims(0, 1).swap_dims(1, 2); // [A, D, P]
    x.matmul(positions).reshape([heads * b, l * p])
}

/// The (token, relative position) that each query and key asks for.
///
/// # Shapes
/// scores [A·B, L·P], L·L places → [B, A, L, L]
fn take_columns(scores: Tensor<2>, places: &[u32], [heads, l]: [usize; 2]) -> Tensor<4> {
    let [rows, _] = scores.dims();
    let device = scores.device();
    let taken = scores.select(1, ops::indices(places, &device)); // [A·B, L·L]
    taken.reshape([heads, rows / heads, l, l]).swap_dims(0, 1)
}

/// Projects a sub-layer's result, adds what went into it, normalizes.
///
/// # Shapes
/// x [T, any], residual [T, H] → [T, H]
fn sub_layer(config: &DebertaV2Config, weights: &View<'_>, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
    let x = weights.drop_out(weights.at("dense").linear(x), config.hidden_dropout_prob);
    weights.at("LayerNorm").layer_norm(x + residual, config.layer_norm_eps)
}

/// A convolution over neighbouring embeddings, added to the first layer's result. Beyond a sequence's ends all is 0.
///
/// # Shapes
/// embedded [T, H], residual [T, H] → [T, H]
fn convolution(
    config: &DebertaV2Config,
    weights: &View<'_>,
    embedded: Tensor<2>,
    residual: Tensor<2>,
    sequences: &Sequences,
) -> Tensor<2> {
    let (h, k) = (config.hidden_size, config.conv_kernel_size);
    let tokens = sequences.tokens();
    let nothing = Tensor::<2>::from_data(TensorData::zeros::<f32, _>([1, h]), &embedded.device());
    let padded = Tensor::cat(vec![embedded, nothing], 0); // [T + 1, H]
    let kernel = weights.at("conv").matrix("weight").reshape([h, k, h]); // [in, k, out]
    let mut sum = weights.at("conv").vector("bias").unsqueeze::<2>(); // [1, H]
    for offset in 0..k {
        let mut rows = Vec::with_capacity(tokens);
        for sequence in 0..sequences.len() {
            let keys = sequences.keys(sequence);
            rows.extend(sequences.of(sequence).map(|token| {
                let neighbour = (token + offset).wrapping_sub(k / 2);
                (if keys.contains(&neighbour) { neighbour } else { tokens }) as u32
            }));
        }
        let part = kernel.clone().slice([0..h, offset..offset + 1, 0..h]).reshape([h, h]);
        sum = ops::take_rows(padded.clone(), &rows).matmul(part) + sum;
    }
    let sum = config.conv_act.of(weights.drop_out(sum, config.hidden_dropout_prob));
    weights
        .at("LayerNorm")
        .layer_norm(residual + sum, config.layer_norm_eps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// mDeBERTa-v3's numbers, from transformers' `make_log_bucket_position` with 256 buckets and 512 positions.
    #[test]
    fn far_distances_share_buckets() {
        for (distance, expected) in [
            (0, 0),
            (1, 1),
            (-127, -127),
            (128, 128),
            (129, 129),
            (-200, -169),
            (511, 255),
        ] {
            assert_eq!(bucket(distance, 256, 512), expected, "{distance}");
        }
    }
}
