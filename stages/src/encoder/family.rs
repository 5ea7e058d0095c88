//! The `config.json` of an encoder with random weights, by its family.

use nerpipe_engine::StageError;
use serde_json::{Map, Value, json};

use super::{Family, Settings};

/// How many buckets relative positions fall into, to either side (DeBERTa) or in all (T5).
const BUCKETS: usize = 32;

/// The configuration that `settings` describe, for a vocabulary of so many subwords whose padding token is `pad`.
pub(super) fn config(settings: &Settings, vocabulary: usize, pad: u32) -> Result<Value, StageError> {
    let size = |setting: Option<usize>, name: &str| {
        setting.ok_or_else(|| StageError::new(format!("the setting `{name}` is missing")))
    };
    let hidden = size(settings.hidden_size, "hidden_size")?;
    let layers = size(settings.layers, "layers")?;
    let heads = size(settings.heads, "heads")?;
    let inner = size(settings.intermediate_size, "intermediate_size")?;
    let longest = size(settings.max_position_embeddings, "max_position_embeddings")?;
    let dropout = settings.dropout.unwrap_or(0.1);
    let initializer_range = settings.initializer_range.unwrap_or(0.02);
    let family = settings.family.unwrap_or(Family::Bert);

    let bert_like = |class: &str, model_type: &str, longest: usize| {
        json!({
            "architectures": [class],
            "attention_probs_dropout_prob": dropout,
            "hidden_act": "gelu",
            "hidden_dropout_prob": dropout,
            "hidden_size": hidden,
            "initializer_range": initializer_range,
            "intermediate_size": inner,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": longest,
            "model_type": model_type,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "pad_token_id": pad,
            "position_embedding_type": "absolute",
            "torch_dtype": "float32",
            "type_vocab_size": 2,
            "vocab_size": vocabulary,
        })
    };
    let t5 = |class: &str, model_type: &str, feed_forward: &str| {
        json!({
            "architectures": [class], "model_type": model_type, "vocab_size": vocabulary, "d_model": hidden, "d_kv": hidden / heads,
            "d_ff": inner, "num_layers": layers, "num_heads": heads, "relative_attention_num_buckets": BUCKETS,
            "relative_attention_max_distance": 128, "dropout_rate": dropout, "layer_norm_epsilon": 1e-6,
            "feed_forward_proj": feed_forward, "pad_token_id": pad, "is_encoder_decoder": false, "torch_dtype": "float32",
        })
    };
    Ok(match family {
        Family::Bert => bert_like("BertModel", "bert", longest),
        // Its positions are counted from behind the padding token's id.
        Family::Roberta => bert_like("RobertaModel", "roberta", longest + pad as usize + 1),
        Family::Electra => with(
            bert_like("ElectraModel", "electra", longest),
            json!({"embedding_size": hidden}),
        ),
        Family::Rembert => with(
            bert_like("RemBertModel", "rembert", longest),
            json!({"input_embedding_size": hidden}),
        ),
        Family::DebertaV2 => with(
            bert_like("DebertaV2Model", "deberta-v2", longest),
            json!({
                "type_vocab_size": 0, "relative_attention": true, "position_buckets": BUCKETS, "max_relative_positions": -1,
                "norm_rel_ebd": "layer_norm", "share_att_key": true, "pos_att_type": "p2c|c2p", "position_biased_input": false,
                "layer_norm_eps": 1e-7,
            }),
        ),
        Family::Distilbert => json!({
            "architectures": ["DistilBertModel"], "model_type": "distilbert", "vocab_size": vocabulary, "dim": hidden, "n_layers": layers,
            "n_heads": heads, "hidden_dim": inner, "max_position_embeddings": longest, "dropout": dropout, "attention_dropout": dropout,
            "activation": "gelu", "initializer_range": initializer_range, "pad_token_id": pad, "torch_dtype": "float32",
        }),
        Family::Modernbert => json!({
            "architectures": ["ModernBertModel"], "model_type": "modernbert", "vocab_size": vocabulary, "hidden_size": hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner, "max_position_embeddings": longest,
            "norm_eps": 1e-5, "norm_bias": false, "attention_bias": false, "mlp_bias": false, "hidden_activation": "gelu",
            "local_attention": 128, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0,
            "embedding_dropout": dropout, "attention_dropout": dropout, "mlp_dropout": dropout,
            "initializer_range": initializer_range, "pad_token_id": pad, "torch_dtype": "float32",
        }),
        Family::T5 => t5("T5EncoderModel", "t5", "relu"),
        Family::Mt5 => t5("MT5EncoderModel", "mt5", "gated-gelu"),
    })
}

/// A map with further or other entries.
fn with(config: Value, more: Value) -> Value {
    let (mut config, more): (Map<String, Value>, Map<String, Value>) = match (config, more) {
        (Value::Object(config), Value::Object(more)) => (config, more),
        (config, _) => return config,
    };
    config.extend(more);
    Value::Object(config)
}
