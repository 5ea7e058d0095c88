//! ELECTRA (Clark et al., 2020), its discriminator: BERT whose embeddings may be narrower than its states.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::bert::{self, BertConfig};
use super::{EncoderConfigError, Family, Shapes, parse};
use crate::model::forward::View;
use crate::model::input::EncoderInput;

/// The fields of an ELECTRA's `config.json` that decide its numbers: those of a BERT, and the width of its embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct ElectraConfig {
    bert: BertConfig,
    /// E.
    embedding_size: usize,
}

impl ElectraConfig {
    /// Reads the bytes of an ELECTRA's `config.json`.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        #[derive(Deserialize)]
        struct Width {
            #[serde(default = "usual")]
            embedding_size: usize,
        }
        const fn usual() -> usize {
            128
        }
        let width: Width = parse(bytes)?;
        Ok(Self {
            bert: BertConfig::from_json(bytes)?,
            embedding_size: width.embedding_size,
        })
    }

    fn widens(&self) -> bool {
        self.embedding_size != self.bert.hidden_size
    }
}

impl Family for ElectraConfig {
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
        self.bert.embedding_shapes(&mut shapes, self.embedding_size);
        if self.widens() {
            shapes.linear("embeddings_project", self.embedding_size, self.bert.hidden_size);
        }
        self.bert.layer_shapes(&mut shapes);
        shapes.0
    }

    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        let positions = input.sequences.positions();
        let mut hidden = bert::embeddings(&self.bert, &weights.at("embeddings"), input, &positions); // [T, E]
        if self.widens() {
            hidden = weights.at("embeddings_project").linear(hidden); // [T, H]
        }
        bert::layers(&self.bert, weights, hidden, &input.sequences)
    }
}
