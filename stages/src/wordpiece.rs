//! WordPiece vocabularies: a `tokenizer.json` from a list of subwords, built as BERT's tokenizer is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The tokens every vocabulary of ours begins with; `[PAD]` must be number 0.
pub const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// How text is prepared before it is cut into subwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Whether letters are lower-cased and their accents stripped.
    pub lowercase: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { lowercase: true }
    }
}

/// The `tokenizer.json` of a BERT tokenizer with this vocabulary; a subword's id is its place in the list.
pub fn tokenizer_json(vocabulary: &[String], options: Options) -> Value {
    let place = |token: &str| vocabulary.iter().position(|entry| entry == token);
    let added: Vec<Value> = SPECIAL_TOKENS
        .iter()
        .filter_map(|token| place(token).map(|id| (token, id)))
        .map(|(token, id)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let special = |token: &str, type_id: u32| json!({"SpecialToken": {"id": token, "type_id": type_id}});
    let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    let entry = |token: &str| json!({"id": token, "ids": [place(token).unwrap_or(0)], "tokens": [token]});
    let vocab: Map<String, Value> = vocabulary
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": options.lowercase
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
            "pair": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0), sequence("B", 1), special("[SEP]", 1)],
            "special_tokens": {"[CLS]": entry("[CLS]"), "[SEP]": entry("[SEP]")}
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab
        }
    })
}
