//! [`EncoderConfig`]: the encoder families, each a file of its own.
//!
//! A family is a configuration read from `config.json`, the names and shapes of its weights, and a forward pass from
//! [`EncoderInput`] to one state a token. Nothing outside this folder knows which one it is.
//!
//! To add one: a file with its configuration, which implements [`Family`]; a variant of [`EncoderConfig`]; a fixture in
//! `testdata/make.py`, which the tests in `parity` find by themselves.

mod activation;
mod bert;
mod deberta;
mod distilbert;
mod electra;
mod modernbert;
#[cfg(test)]
mod parity;
mod rembert;
mod roberta;
mod t5;

use burn::tensor::Tensor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use activation::Activation;
pub use bert::BertConfig;
pub use deberta::DebertaV2Config;
pub use distilbert::DistilBertConfig;
pub use electra::ElectraConfig;
pub use modernbert::ModernBertConfig;
pub use rembert::RemBertConfig;
pub use roberta::RobertaConfig;
pub use t5::T5Config;

use super::forward::View;
use super::input::EncoderInput;

/// An encoder of a known family: what its `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub enum EncoderConfig {
    /// BERT (Devlin et al., 2019).
    Bert(BertConfig),
    /// RoBERTa (Liu et al., 2019) and XLM-R (Conneau et al., 2020).
    Roberta(RobertaConfig),
    /// DistilBERT (Sanh et al., 2019).
    DistilBert(DistilBertConfig),
    /// ELECTRA (Clark et al., 2020).
    Electra(ElectraConfig),
    /// RemBERT (Chung et al., 2021).
    RemBert(RemBertConfig),
    /// DeBERTa-v2 and v3 (He et al., 2021 and 2023), mDeBERTa.
    DebertaV2(DebertaV2Config),
    /// ModernBERT (Warner et al., 2024), mmBERT.
    ModernBert(ModernBertConfig),
    /// The encoder of T5 (Raffel et al., 2020) and mT5.
    T5(T5Config),
}

/// The model types, as `config.json` names them, that can be read.
const MODEL_TYPES: [&str; 10] = [
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "electra",
    "rembert",
    "deberta-v2",
    "modernbert",
    "t5",
    "mt5",
];
/// The window of encoders that know distances only, and so read texts of any length.
const UNLIMITED: usize = u32::MAX as usize;

/// What every family says of itself.
trait Family {
    /// H, the width of a token's state.
    fn hidden_size(&self) -> usize;

    /// Rows of the token embedding that the configuration asks for.
    fn vocab_size(&self) -> usize;

    /// The longest input in subwords, special tokens included.
    fn window(&self) -> usize;

    /// The token whose embedding gets no gradient.
    fn pad_token_id(&self) -> u32;

    /// The name of the token embedding.
    fn token_table(&self) -> &'static str;

    /// Names and shapes of all weights that the forward pass reads, in the order in which data meets them.
    fn shapes(&self) -> Vec<(String, Vec<usize>)>;

    /// Names and shapes of weights that a checkpoint may hold besides.
    fn spare_shapes(&self) -> Vec<(String, Vec<usize>)> {
        Vec::new()
    }

    /// The last hidden states.
    ///
    /// # Shapes
    /// input of T tokens → [T, H]
    fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2>;
}

/// Why an encoder's `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EncoderConfigError {
    /// It is not the JSON of an encoder, or a field is missing or wrong.
    #[error("{0}")]
    Parse(String),
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
    #[error("the width ({hidden}) is no multiple of the number of attention heads ({heads})")]
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
        struct Named {
            model_type: Option<String>,
        }
        let named: Named = parse(bytes)?;
        match named.model_type.as_deref() {
            Some("bert") => BertConfig::from_json(bytes).map(Self::Bert),
            Some("roberta" | "xlm-roberta") => RobertaConfig::from_json(bytes).map(Self::Roberta),
            Some("distilbert") => DistilBertConfig::from_json(bytes).map(Self::DistilBert),
            Some("electra") => ElectraConfig::from_json(bytes).map(Self::Electra),
            Some("rembert") => RemBertConfig::from_json(bytes).map(Self::RemBert),
            Some("deberta-v2") => DebertaV2Config::from_json(bytes).map(Self::DebertaV2),
            Some("modernbert") => ModernBertConfig::from_json(bytes).map(Self::ModernBert),
            Some("t5" | "mt5") => T5Config::from_json(bytes).map(Self::T5),
            Some(found) => Err(EncoderConfigError::ModelType {
                found: found.to_owned(),
            }),
            None => Err(EncoderConfigError::NoModelType),
        }
    }

    fn family(&self) -> &dyn Family {
        match self {
            Self::Bert(config) => config,
            Self::Roberta(config) => config,
            Self::DistilBert(config) => config,
            Self::Electra(config) => config,
            Self::RemBert(config) => config,
            Self::DebertaV2(config) => config,
            Self::ModernBert(config) => config,
            Self::T5(config) => config,
        }
    }

    /// H, the width of a token's state.
    pub fn hidden_size(&self) -> usize {
        self.family().hidden_size()
    }

    /// Rows of the token embedding that the configuration asks for; the table may have more.
    pub fn vocab_size(&self) -> usize {
        self.family().vocab_size()
    }

    /// The longest input in subwords, special tokens included.
    pub fn window(&self) -> usize {
        self.family().window()
    }

    /// The token whose embedding gets no gradient.
    pub fn pad_token_id(&self) -> u32 {
        self.family().pad_token_id()
    }

    /// The name of the token embedding, a table with one row a token.
    pub fn token_table(&self) -> &'static str {
        self.family().token_table()
    }

    /// Names and shapes of all weights that the forward pass reads, in Hugging Face's names and PyTorch's [out, in] order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.family().shapes()
    }

    /// Names and shapes of weights that a checkpoint may hold besides. The forward pass does not read them; they are carried along.
    pub fn spare_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.family().spare_shapes()
    }

    /// The last hidden states.
    ///
    /// # Shapes
    /// input of T tokens → [T, H]
    pub(super) fn forward(&self, weights: &View<'_>, input: &EncoderInput) -> Tensor<2> {
        self.family().forward(weights, input)
    }
}

/// Reads JSON; what is wrong is told with its field.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EncoderConfigError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let reason = error.into_inner();
        EncoderConfigError::Parse(match field.as_str() {
            "." => reason.to_string(),
            field => format!("`{field}`: {reason}"),
        })
    })
}

/// Refuses a width that cannot be shared out among the heads.
fn check_heads(hidden: usize, heads: usize) -> Result<(), EncoderConfigError> {
    if heads == 0 || !hidden.is_multiple_of(heads) {
        return Err(EncoderConfigError::Heads { hidden, heads });
    }
    Ok(())
}

/// The names and shapes of weights as they are listed: a linear layer's weight and bias, a normalization's two vectors.
#[derive(Default)]
struct Shapes(Vec<(String, Vec<usize>)>);

impl Shapes {
    /// An embedding table `name` [rows, width].
    fn table(&mut self, name: &str, rows: usize, width: usize) {
        self.0.push((format!("{name}.weight"), vec![rows, width]));
    }

    /// A linear layer.
    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.product(name, inputs, outputs);
        self.0.push((format!("{name}.bias"), vec![outputs]));
    }

    /// A linear layer without bias.
    fn product(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.0.push((format!("{name}.weight"), vec![outputs, inputs]));
    }

    /// A normalization with scale and shift.
    fn norm(&mut self, name: &str, width: usize) {
        self.scale(name, width);
        self.0.push((format!("{name}.bias"), vec![width]));
    }

    /// A normalization with a scale alone.
    fn scale(&mut self, name: &str, width: usize) {
        self.0.push((format!("{name}.weight"), vec![width]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_families_are_refused_with_a_list() {
        for (json, reason) in [
            (
                r#"{"model_type": "gpt2"}"#,
                "`model_type` is `gpt2`, which is not supported; supported are `bert`, `roberta`",
            ),
            ("{}", "`model_type` is missing; supported are `bert`"),
            (r#"{"model_type": "bert"}"#, "missing field `vocab_size`"),
            (
                r#"{"model_type": "bert", "vocab_size": 1, "hidden_act": "gelu_10"}"#,
                "`hidden_act`: unknown variant `gelu_10`, expected one of `gelu`",
            ),
        ] {
            let error = EncoderConfig::from_json(json.as_bytes())
                .expect_err("refused")
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
