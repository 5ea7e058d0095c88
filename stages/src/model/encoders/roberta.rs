//! RoBERTa (Liu et al., 2019) and XLM-R (Conneau et al., 2020): BERT with positions that are counted from behind the padding
//! token's id, so that the first token of a sequence has position `pad_token_id + 1`.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::bert::{self, BertConfig};
use super::{EncoderConfigError, Family, parse};
use crate::model::forward::View;
use crate::model::input::EncoderInput;

/// The fields of a RoBERTa's `config.json` that decide its numbers: those of a BERT, with another padding token.
#[derive(Clone, Debug, PartialEq)]
pub struct RobertaConfig {
    bert: BertConfig,
}

/// The padding token where `config.json` does not say.
const PADDING: u32 = 1;

impl RobertaConfig {
    /// Reads the bytes of a RoBERTa's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        #[derive(Deserialize)]
        struct Padding {
            pad_token_id: Option<u32>,
        }
        let padding: Padding = parse(bytes)?;
        let mut bert = BertConfig::from_json(bytes)?;
        bert.pad_token_id = padding.pad_token_id.unwrap_or(PADDING);
        Ok(Self { bert })
    }
}

impl Family for RobertaConfig {
    fn hidden_size(&self) -> usize {
        self.bert.hidden_size()
    }

    fn vocab_size(&self) -> usize {
        self.bert.vocab_size()
    }

    fn window(&self) -> usize {
        let first = self.bert.pad_token_id as usize + 1;
        self.bert.max_position_embeddings.saturating_sub(first)
    }

    fn pad_token_id(&self) -> u32 {
        self.bert.pad_token_id
    }

    fn token_table(&self) -> &'static str {
        bert::TOKEN_TABLE
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.bert.shapes()
    }

    fn spare_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.bert.pooler_shapes()
    }

    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        let first = self.bert.pad_token_id + 1;
        let positions: Vec<u32> = input
            .sequences
            .positions()
            .into_iter()
            .map(|place| first + place)
            .collect();
        let hidden = bert::embeddings(&self.bert, &weights.at("embeddings"), input, &positions);
        bert::layers(&self.bert, weights, hidden, &input.sequences)
    }
}
