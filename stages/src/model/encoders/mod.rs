//! [`EncoderConfig`]: the encoder families, each a file of its own.
//!
//! A family is a configuration read from `config.json`, the names and shapes of its weights, and a forward pass from
//! [`EncoderInput`] to one state a token. Nothing outside this folder knows which one it is.
//!
//! To add one: a file with its configuration and `forward`, a variant here, and its arm in each method.

mod bert;

use burn::tensor::Tensor;
use serde::Deserialize;

pub use bert::BertConfig;

use super::forward::View;
use super::input::EncoderInput;

/// An encoder of a known family: what its `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub enum EncoderConfig {
    /// BERT (Devlin et al., 2019).
    Bert(BertConfig),
}

/// The model types, as `config.json` names them, that can be read.
const MODEL_TYPES: [&str; 1] = ["bert"];

/// Why an encoder's `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EncoderConfigError {
    /// It is not the JSON of an encoder, or a size is missing.
    #[error(transparent)]
    Parse(#[from] serde_json::Error),
    /// It says nothing of its family.
    #[error("`model_type` is missing; supported are `{}`", MODEL_TYPES.join("`, `"))]
    NoModelType,
    /// It is of another family.
    #[error("`model_type` is `{found}`, which is not supported; supported are `{}`", MODEL_TYPES.join("`, `"))]
    ModelType {
        /// The family.
        found: String,
    },
    /// A variant of a known family that is not built here.
    #[error("`{field}` is `{found}`; only `{known}` is supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        known: &'static str,
    },
    /// Sizes that contradict each other.
    #[error("`hidden_size` ({hidden}) is no multiple of `num_attention_heads` ({heads})")]
    Heads {
        /// H.
        hidden: usize,
        /// A.
        heads: usize,
    },
}

impl EncoderConfig {
    /// Reads the bytes of a `config.json`; fields that do not matter here are ignored.
    ///
    /// # Errors
    /// If the family is unknown, a size is missing, or the file describes a variant that is not built here.
    pub fn from_json(bytes: &[u8]) -> Result<Self, EncoderConfigError> {
        #[derive(Deserialize)]
        struct Family {
            model_type: Option<String>,
        }
        let family: Family = serde_json::from_slice(bytes)?;
        match family.model_type.as_deref() {
            Some("bert") => BertConfig::from_json(bytes).map(Self::Bert),
            Some(found) => Err(EncoderConfigError::ModelType {
                found: found.to_owned(),
            }),
            None => Err(EncoderConfigError::NoModelType),
        }
    }

    /// H, the width of a token's state.
    pub fn hidden_size(&self) -> usize {
        match self {
            Self::Bert(config) => config.hidden_size,
        }
    }

    /// Rows of the token embedding that the configuration asks for; the table may have more.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bert(config) => config.vocab_size,
        }
    }

    /// The longest input in subwords, special tokens included.
    pub fn window(&self) -> usize {
        match self {
            Self::Bert(config) => config.max_position_embeddings,
        }
    }

    /// The token whose embedding gets no gradient.
    pub fn pad_token_id(&self) -> u32 {
        match self {
            Self::Bert(config) => config.pad_token_id,
        }
    }

    /// The name of the token embedding, a table with one row a token.
    pub fn token_table(&self) -> &'static str {
        match self {
            Self::Bert(_) => bert::TOKEN_TABLE,
        }
    }

    /// Names and shapes of all weights that the forward pass reads, in Hugging Face's names and PyTorch's [out, in] order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Bert(config) => config.shapes(),
        }
    }

    /// Names and shapes of weights that a checkpoint may hold besides. The forward pass does not read them; they are carried along.
    pub fn spare_shapes(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Bert(config) => config.spare_shapes(),
        }
    }

    /// The last hidden states.
    ///
    /// # Shapes
    /// input of T tokens → [T, H]
    pub(super) fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        match self {
            Self::Bert(config) => bert::forward(config, weights, input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_families_are_refused_with_a_list() {
        for (json, reason) in [
            (
                r#"{"model_type": "t5"}"#,
                "`model_type` is `t5`, which is not supported; supported are `bert`",
            ),
            ("{}", "`model_type` is missing; supported are `bert`"),
            (r#"{"model_type": "bert"}"#, "missing field `vocab_size`"),
        ] {
            let error = EncoderConfig::from_json(json.as_bytes())
                .expect_err("refused")
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
