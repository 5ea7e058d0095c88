//! What a BERT encoder consists of: its sizes, and the names and shapes of its tensors.

use nerpipe_engine::StageError;
use serde::Deserialize;
use serde_json::{Value, json};

/// Model types whose directories are taken.
const SUPPORTED: [&str; 1] = ["bert"];

/// The sizes of a BERT encoder, named as in its config.json.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Sizes {
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    pub(super) max_position_embeddings: usize,
    #[serde(default = "two")]
    pub(super) type_vocab_size: usize,
}

fn two() -> usize {
    2
}

impl Sizes {
    /// Reads the sizes from a config.json and checks that the encoder is of a kind that is known.
    pub(super) fn from_config(config: &Value) -> Result<Self, StageError> {
        let supported = SUPPORTED.join("`, `");
        match config["model_type"].as_str() {
            Some(model_type) if SUPPORTED.contains(&model_type) => {}
            Some(model_type) => {
                return Err(StageError::new(format!(
                    "`config.json`: `model_type` is `{model_type}`, which is not supported"
                ))
                .help(format!("supported model types: `{supported}`")));
            }
            None => {
                return Err(StageError::new("`config.json`: `model_type` is missing")
                    .help(format!("supported model types: `{supported}`")));
            }
        }
        let positions = config["position_embedding_type"].as_str().unwrap_or("absolute");
        if positions != "absolute" {
            return Err(StageError::new(format!(
                "`config.json`: `position_embedding_type` is `{positions}`; only `absolute` is supported"
            )));
        }
        let sizes: Self = serde_json::from_value(config.clone())
            .map_err(|error| StageError::new(format!("`config.json`: {error}")))?;
        if sizes.num_attention_heads == 0 || !sizes.hidden_size.is_multiple_of(sizes.num_attention_heads) {
            return Err(StageError::new(format!(
                "`config.json`: `hidden_size` ({}) is no multiple of `num_attention_heads` ({})",
                sizes.hidden_size, sizes.num_attention_heads
            )));
        }
        Ok(sizes)
    }

    /// The config.json of an encoder of our own making.
    pub(super) fn config(&self, pad: u32, dropout: f64, initializer_range: f64) -> Value {
        json!({
            "architectures": ["BertModel"],
            "attention_probs_dropout_prob": dropout,
            "hidden_act": "gelu",
            "hidden_dropout_prob": dropout,
            "hidden_size": self.hidden_size,
            "initializer_range": initializer_range,
            "intermediate_size": self.intermediate_size,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": "bert",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "pad_token_id": pad,
            "position_embedding_type": "absolute",
            "torch_dtype": "float32",
            "type_vocab_size": self.type_vocab_size,
            "vocab_size": self.vocab_size
        })
    }

    /// The names and shapes of all tensors, in the order in which data meets them; the pooler comes last.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, intermediate) = (self.hidden_size, self.intermediate_size);
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[usize]| tensors.push((name, shape.to_vec()));
        add(
            "embeddings.word_embeddings.weight".to_owned(),
            &[self.vocab_size, hidden],
        );
        add(
            "embeddings.position_embeddings.weight".to_owned(),
            &[self.max_position_embeddings, hidden],
        );
        add(
            "embeddings.token_type_embeddings.weight".to_owned(),
            &[self.type_vocab_size, hidden],
        );
        add("embeddings.LayerNorm.weight".to_owned(), &[hidden]);
        add("embeddings.LayerNorm.bias".to_owned(), &[hidden]);
        for layer in 0..self.num_hidden_layers {
            for (name, rows, columns) in [
                ("attention.self.query", hidden, hidden),
                ("attention.self.key", hidden, hidden),
                ("attention.self.value", hidden, hidden),
                ("attention.output.dense", hidden, hidden),
                ("intermediate.dense", intermediate, hidden),
                ("output.dense", hidden, intermediate),
            ] {
                add(format!("encoder.layer.{layer}.{name}.weight"), &[rows, columns]);
                add(format!("encoder.layer.{layer}.{name}.bias"), &[rows]);
            }
            for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
                add(format!("encoder.layer.{layer}.{name}.weight"), &[hidden]);
                add(format!("encoder.layer.{layer}.{name}.bias"), &[hidden]);
            }
        }
        add("pooler.dense.weight".to_owned(), &[hidden, hidden]);
        add("pooler.dense.bias".to_owned(), &[hidden]);
        tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_model_types_are_refused_with_a_list() {
        let error = Sizes::from_config(&json!({"model_type": "roberta"})).unwrap_err();
        assert!(error.message.contains("`model_type` is `roberta`"));
        assert_eq!(error.help.unwrap(), "supported model types: `bert`");
        let error = Sizes::from_config(&json!({"model_type": "bert"})).unwrap_err();
        assert!(error.message.contains("missing field `vocab_size`"), "{error}");
    }

    #[test]
    fn our_config_is_read_back() {
        let sizes = Sizes {
            vocab_size: 10,
            hidden_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 16,
            max_position_embeddings: 12,
            type_vocab_size: 2,
        };
        assert_eq!(Sizes::from_config(&sizes.config(0, 0.1, 0.02)).unwrap(), sizes);
        let numbers: usize = sizes
            .tensors()
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        // Embeddings (10 + 12 + 2 rows and a norm), a layer (four squares, two thick ones, two norms), the pooler.
        assert_eq!(numbers, 24 * 8 + 16 + (4 * 72 + 16 * 9 + 8 * 17 + 32) + 72);
    }
}
