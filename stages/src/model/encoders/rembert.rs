//! RemBERT (Chung et al., 2021): BERT with narrow embeddings for a large vocabulary of many languages.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::bert::{self, BertConfig};
use super::{EncoderConfigError, Family, Shapes, parse};
use crate::model::forward::View;
use crate::model::input::EncoderInput;

/// The fields of a RemBERT's `config.json` that decide its numbers: those of a BERT, and the width of its embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct RemBertConfig {
    bert: BertConfig,
    /// E.
    input_embedding_size: usize,
}

impl RemBertConfig {
    /// Reads the bytes of a RemBERT's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        #[derive(Deserialize)]
        struct Own {
            #[serde(default = "usual")]
            input_embedding_size: usize,
            // RemBERT is pretrained without dropout, and that is its default.
            #[serde(default)]
            hidden_dropout_prob: f64,
            #[serde(default)]
            attention_probs_dropout_prob: f64,
        }
        const fn usual() -> usize {
            256
        }
        let own: Own = parse(bytes)?;
        let bert = BertConfig::from_json(bytes)?;
        Ok(Self {
            bert: BertConfig {
                hidden_dropout_prob: own.hidden_dropout_prob,
                attention_probs_dropout_prob: own.attention_probs_dropout_prob,
                ..bert
            },
            input_embedding_size: own.input_embedding_size,
        })
    }
}

impl Family for RemBertConfig {
    fn hidden_size(&self) -> usize {
        self.bert.hidden_size()
    }

    fn vocab_size(&self) -> usize {
        self.bert.vocab_size()
    }

    fn window(&self) -> usize {
        self.bert.window()
    }

    fn pad_token_id(&self) -> u32 {
        self.bert.pad_token_id()
    }

    fn token_table(&self) -> &'static str {
        bert::TOKEN_TABLE
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Shapes::default();
        self.bert.embedding_shapes(&mut shapes, self.input_embedding_size);
        shapes.linear(
            "encoder.embedding_hidden_mapping_in",
            self.input_embedding_size,
            self.bert.hidden_size,
        );
        self.bert.layer_shapes(&mut shapes);
        shapes.0
    }

    fn spare_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.bert.pooler_shapes()
    }

    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        let positions = input.sequences.positions();
        let hidden = bert::embeddings(&self.bert, &weights.at("embeddings"), input, &positions); // [T, E]
        let hidden = weights.at("encoder.embedding_hidden_mapping_in").linear(hidden); // [T, H]
        bert::layers(&self.bert, weights, hidden, &input.sequences)
    }
}
