//! [`RecognizerConfig`]: what one of the four systems is made of, by the reference's names.
//!
//! It is the part of a training's settings that the finished model needs to be used again, and is written into the
//! checkpoint's `config.json`. Encoder arrangement and loss are two fields of one recognizer, not four programs.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tokens::Format;

/// How text and entity types are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Apart, by two encoders.
    BiEncoder,
    /// Together, as one prompt: `[CLS] [LABEL] type … [SEP] text [SEP]`.
    CrossEncoder,
}

/// The training objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Binary cross-entropy of every candidate and type.
    Bce,
    /// The same, with easy entries weighted down.
    Focal,
    /// Golds against all other candidates of their sentence, and against a learned threshold candidate.
    Contrastive,
}

/// Which positions can begin and end a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Masking {
    /// Every subword.
    None,
    /// Only the first subword of a word begins one, only the last ends one.
    Subwords,
}

/// How the type encoder's output becomes one vector a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The state of the first token.
    #[default]
    Cls,
    /// The mean over all tokens that are not padding.
    Mean,
}

/// What a span's score is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// A probability between 0 and 1 (BCE and focal loss).
    Probability(f64),
    /// The score of the span at `[CLS]` (contrastive loss).
    Cls,
    /// The score of the span at a marker token of its own (contrastive loss of the cross-encoder).
    LabelToken,
}

impl Threshold {
    /// What kind of threshold it is, in a word.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Probability(_) => "probability",
            Self::Cls => "cls",
            Self::LabelToken => "label_token",
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probability(probability) => write!(f, "{probability}"),
            Self::Cls => f.write_str("cls"),
            Self::LabelToken => f.write_str("label_token"),
        }
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Probability(p) => serializer.serialize_f64(*p),
            Self::Cls => serializer.serialize_str("cls"),
            Self::LabelToken => serializer.serialize_str("label_token"),
        }
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"enum": ["cls", "label_token"]}]})
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Threshold;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a probability between 0 and 1, `cls` or `label_token`")
            }
            fn visit_f64<E: serde::de::Error>(self, p: f64) -> Result<Threshold, E> {
                if p > 0.0 && p < 1.0 {
                    Ok(Threshold::Probability(p))
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Float(p), &self))
                }
            }
            fn visit_u64<E: serde::de::Error>(self, p: u64) -> Result<Threshold, E> {
                Err(E::invalid_value(serde::de::Unexpected::Unsigned(p), &self))
            }
            fn visit_i64<E: serde::de::Error>(self, p: i64) -> Result<Threshold, E> {
                Err(E::invalid_value(serde::de::Unexpected::Signed(p), &self))
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Threshold, E> {
                match word {
                    "cls" => Ok(Threshold::Cls),
                    "label_token" => Ok(Threshold::LabelToken),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Whether a model that compares its scores with a threshold of kind `own` ([`Threshold::kind`]) can be evaluated at `asked`.
///
/// # Errors
/// If not, what it takes.
pub fn accepts_kind(own: &str, asked: Threshold) -> Result<(), String> {
    if own == asked.kind() {
        return Ok(());
    }
    let possible = match own {
        "probability" => "a probability between 0 and 1, such as 0.5".to_owned(),
        own => format!("`{own}`, which it was trained with"),
    };
    Err(format!(
        "the model cannot be evaluated at the threshold `{asked}`; it takes {possible}"
    ))
}

/// A recognizer's settings; names, meaning and defaults are the reference's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecognizerConfig {
    /// How text and types are read.
    pub architecture: Architecture,
    /// The training objective.
    pub loss_fn: LossKind,
    /// Which view of the corpus is used.
    pub annotation_format: Format,
    /// Which positions can begin and end a span.
    pub loss_masking: Masking,
    /// The longest encoder input in subwords, special tokens and prompt included; longer texts are cut off (and counted).
    pub max_seq_length: usize,
    /// The longest span in subwords.
    pub max_span_length: usize,
    /// D, the width of the vectors that are compared.
    pub linear_hidden_size: usize,
    /// W, the width of the embedding of a span's length.
    pub span_width_embedding_size: usize,
    /// Dropout inside the heads' MLPs; the encoders have their own.
    pub dropout: f64,
    /// Scores start at cosine / `init_temperature`; the scale is learned.
    pub init_temperature: f64,
    /// How a type becomes one vector (bi-encoder).
    pub type_encoder_pooling: Pooling,
    /// What scores are compared with in prediction.
    pub prediction_threshold: Threshold,
    /// Weight of the loss of start positions; at 0 they are not even scored.
    pub start_loss_weight: f64,
    /// Weight of the loss of end positions; at 0 they are not even scored.
    pub end_loss_weight: f64,
    /// Weight of the loss of spans.
    pub span_loss_weight: f64,
    /// Focal loss: weight of positive entries, 1 − α that of negative ones; below 0: none. Null means 0.75.
    pub focal_alpha: Option<f64>,
    /// Focal loss: how strongly easy entries are weighted down. Null means 2.
    pub focal_gamma: Option<f64>,
    /// BCE: weight of positive start entries. Null means 1.
    pub bce_start_pos_weight: Option<f64>,
    /// BCE: weight of positive end entries. Null means 1.
    pub bce_end_pos_weight: Option<f64>,
    /// BCE: weight of positive span entries. Null means 1.
    pub bce_span_pos_weight: Option<f64>,
    /// Contrastive loss: weight of the part that ranks the threshold above all negatives.
    pub contrastive_threshold_loss_weight: f64,
    /// Contrastive loss: weight of the part that ranks golds above all negatives.
    pub contrastive_span_loss_weight: f64,
    /// Contrastive loss: scores are divided by it.
    pub contrastive_tau: f64,
}

impl Default for RecognizerConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::BiEncoder,
            loss_fn: LossKind::Bce,
            annotation_format: Format::Tokens,
            loss_masking: Masking::Subwords,
            max_seq_length: 512,
            max_span_length: 30,
            linear_hidden_size: 384,
            span_width_embedding_size: 128,
            dropout: 0.0,
            init_temperature: 0.03,
            type_encoder_pooling: Pooling::Cls,
            prediction_threshold: Threshold::Probability(0.5),
            start_loss_weight: 0.0,
            end_loss_weight: 0.0,
            span_loss_weight: 1.0,
            focal_alpha: None,
            focal_gamma: None,
            bce_start_pos_weight: None,
            bce_end_pos_weight: None,
            bce_span_pos_weight: None,
            contrastive_threshold_loss_weight: 0.5,
            contrastive_span_loss_weight: 0.5,
            contrastive_tau: 1.0,
        }
    }
}

/// Settings that do not go together, or a value out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {problem}")]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl RecognizerConfig {
    /// Whether types are read by an encoder of their own.
    pub fn is_bi_encoder(&self) -> bool {
        self.architecture == Architecture::BiEncoder
    }

    /// Whether position 0 holds a threshold candidate.
    pub fn has_threshold_slot(&self) -> bool {
        self.loss_fn == LossKind::Contrastive
    }

    /// Whether the prompt has a marker token for the threshold.
    pub fn has_threshold_marker(&self) -> bool {
        self.architecture == Architecture::CrossEncoder && self.prediction_threshold == Threshold::LabelToken
    }

    /// The position of a text's first subword: before it are `[CLS]` or the threshold slot, or nothing.
    pub fn text_position(&self) -> u32 {
        u32::from(self.is_bi_encoder() || self.has_threshold_slot())
    }

    /// Whether a model with this configuration can be evaluated at `threshold`.
    ///
    /// # Errors
    /// If it was trained with another kind of threshold (defect 21 of the reference: accepted silently, with meaningless
    /// results).
    pub fn accepts(&self, threshold: Threshold) -> Result<(), ConfigError> {
        accepts_kind(self.prediction_threshold.kind(), threshold).map_err(|problem| ConfigError {
            field: "thresholds",
            problem,
        })
    }

    /// Checks ranges, and that loss, architecture and threshold go together.
    ///
    /// # Errors
    /// The first setting that cannot be used, with what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, problem: String| Err(ConfigError { field, problem });
        match (self.loss_fn, self.prediction_threshold) {
            (LossKind::Contrastive, Threshold::Probability(_)) => {
                let possible = if self.is_bi_encoder() {
                    "`cls`"
                } else {
                    "`cls` or `label_token`"
                };
                return wrong(
                    "prediction_threshold",
                    format!("with contrastive loss a threshold is learned; it must be {possible}, not a number"),
                );
            }
            (LossKind::Contrastive, Threshold::LabelToken) if self.is_bi_encoder() => {
                return wrong(
                    "prediction_threshold",
                    "a bi-encoder has no prompt to put a threshold marker in; use `cls`".to_owned(),
                );
            }
            (LossKind::Bce | LossKind::Focal, Threshold::Cls | Threshold::LabelToken) => {
                return wrong(
                    "prediction_threshold",
                    "this loss learns no threshold; give a probability between 0 and 1, such as 0.5".to_owned(),
                );
            }
            _ => {}
        }
        for (field, value) in [
            ("max_span_length", self.max_span_length),
            ("linear_hidden_size", self.linear_hidden_size),
            ("span_width_embedding_size", self.span_width_embedding_size),
        ] {
            if value == 0 {
                return wrong(field, "must be at least 1".to_owned());
            }
        }
        if self.max_seq_length < 8 {
            return wrong(
                "max_seq_length",
                format!(
                    "{} subwords leave no room for text; use at least 8",
                    self.max_seq_length
                ),
            );
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong(
                "dropout",
                format!("must be at least 0 and less than 1, not {}", self.dropout),
            );
        }
        for (field, value) in [
            ("init_temperature", Some(self.init_temperature)),
            ("contrastive_tau", Some(self.contrastive_tau)),
            ("bce_start_pos_weight", self.bce_start_pos_weight),
            ("bce_end_pos_weight", self.bce_end_pos_weight),
            ("bce_span_pos_weight", self.bce_span_pos_weight),
        ] {
            if value.is_some_and(|value| !(value > 0.0 && value.is_finite())) {
                return wrong(field, "must be greater than 0".to_owned());
            }
        }
        for (field, value) in [
            ("start_loss_weight", self.start_loss_weight),
            ("end_loss_weight", self.end_loss_weight),
            ("span_loss_weight", self.span_loss_weight),
            (
                "contrastive_threshold_loss_weight",
                self.contrastive_threshold_loss_weight,
            ),
            ("contrastive_span_loss_weight", self.contrastive_span_loss_weight),
            ("focal_gamma", self.focal_gamma.unwrap_or(0.0)),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(field, format!("must be at least 0, not {value}"));
            }
        }
        if self.start_loss_weight + self.end_loss_weight + self.span_loss_weight == 0.0 {
            return wrong(
                "span_loss_weight",
                "start, end and span loss all have weight 0, so there is nothing to learn; use 1".to_owned(),
            );
        }
        let shares = self.contrastive_threshold_loss_weight + self.contrastive_span_loss_weight;
        if self.loss_fn == LossKind::Contrastive && shares == 0.0 {
            return wrong(
                "contrastive_span_loss_weight",
                "both parts of the contrastive loss have weight 0, so there is nothing to learn; use 0.5".to_owned(),
            );
        }
        if self.focal_alpha.is_some_and(|alpha| alpha.is_nan() || alpha > 1.0) {
            return wrong("focal_alpha", "must be at most 1 (below 0: no weighting)".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_written() {
        for (text, threshold) in [
            ("0.5", Threshold::Probability(0.5)),
            ("\"cls\"", Threshold::Cls),
            ("\"label_token\"", Threshold::LabelToken),
        ] {
            assert_eq!(serde_json::from_str::<Threshold>(text).expect(text), threshold);
            assert_eq!(serde_json::to_string(&threshold).expect(text), text);
        }
        for text in ["1", "0", "-0.5", "1.5", "\"0.5\"", "\"sep\"", "null"] {
            let error = serde_json::from_str::<Threshold>(text).expect_err(text).to_string();
            assert!(error.contains("label_token"), "{error}");
        }
    }

    #[test]
    fn threshold_and_loss_must_go_together() {
        let config = |architecture, loss_fn, prediction_threshold| RecognizerConfig {
            architecture,
            loss_fn,
            prediction_threshold,
            ..RecognizerConfig::default()
        };
        use Architecture::{BiEncoder, CrossEncoder};
        assert!(
            config(CrossEncoder, LossKind::Contrastive, Threshold::LabelToken)
                .validate()
                .is_ok()
        );
        for (architecture, loss, threshold, hint) in [
            (BiEncoder, LossKind::Contrastive, Threshold::LabelToken, "use `cls`"),
            (
                BiEncoder,
                LossKind::Contrastive,
                Threshold::Probability(0.5),
                "must be `cls`",
            ),
            (
                CrossEncoder,
                LossKind::Contrastive,
                Threshold::Probability(0.5),
                "`label_token`",
            ),
            (CrossEncoder, LossKind::Bce, Threshold::Cls, "probability"),
            (BiEncoder, LossKind::Focal, Threshold::LabelToken, "probability"),
        ] {
            let error = config(architecture, loss, threshold).validate().expect_err(hint);
            assert_eq!(error.field, "prediction_threshold");
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    /// Defect 21 of the reference, in its three forms.
    #[test]
    fn a_threshold_of_another_kind_is_refused() {
        for (own, asked, possible) in [
            (Threshold::Cls, Threshold::LabelToken, "`cls`"),
            (Threshold::Cls, Threshold::Probability(0.5), "`cls`"),
            (Threshold::Probability(0.5), Threshold::Cls, "probability"),
        ] {
            let config = RecognizerConfig {
                prediction_threshold: own,
                ..RecognizerConfig::default()
            };
            assert!(config.accepts(own).is_ok());
            let error = config.accepts(asked).expect_err(possible);
            assert!(error.problem.contains(possible), "{error}");
        }
    }

    #[test]
    fn a_loss_without_any_weight_is_refused() {
        let nothing = RecognizerConfig {
            span_loss_weight: 0.0,
            ..RecognizerConfig::default()
        };
        assert_eq!(
            nothing.validate().expect_err("nothing to learn").field,
            "span_loss_weight"
        );
        let starts = RecognizerConfig {
            start_loss_weight: 0.5,
            ..nothing
        };
        assert!(starts.validate().is_ok());
        let neither = RecognizerConfig {
            loss_fn: LossKind::Contrastive,
            prediction_threshold: Threshold::Cls,
            contrastive_threshold_loss_weight: 0.0,
            contrastive_span_loss_weight: 0.0,
            ..starts
        };
        let error = neither.validate().expect_err("nothing to learn");
        assert_eq!(error.field, "contrastive_span_loss_weight");
    }

    #[test]
    fn a_config_survives_its_json() {
        let config = RecognizerConfig {
            focal_alpha: Some(0.25),
            prediction_threshold: Threshold::Cls,
            ..RecognizerConfig::default()
        };
        let text = serde_json::to_string(&config).expect("plain values");
        assert_eq!(serde_json::from_str::<RecognizerConfig>(&text).expect(&text), config);
    }
}
