//! The settings of `train`: the reference's own names, and which of them go together.

use nerpipe_engine::{Field, SettingError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batches::{BatchTypes, TypeOrder};
use crate::optim::AdamWSettings;
use crate::recognizer::{Architecture, LossKind, Masking, Pooling, RecognizerConfig, Threshold};
use crate::schedule::{Schedule, ScheduleKind};
use crate::tokens::Format;

/// Every setting and what becomes of it.
pub const FIELDS: &[Field] = &[
    Field::counted("architecture"),
    Field::counted("loss_fn"),
    Field::counted("prediction_threshold"),
    Field::counted("annotation_format"),
    Field::counted("loss_masking"),
    Field::counted("max_seq_length"),
    Field::counted("max_span_length"),
    Field::counted("linear_hidden_size"),
    Field::counted("span_width_embedding_size"),
    Field::counted("dropout"),
    Field::counted("init_temperature"),
    Field::counted("type_encoder_pooling"),
    Field::counted("start_loss_weight"),
    Field::counted("end_loss_weight"),
    Field::counted("span_loss_weight"),
    Field::counted("focal_alpha"),
    Field::counted("focal_gamma"),
    Field::counted("bce_start_pos_weight"),
    Field::counted("bce_end_pos_weight"),
    Field::counted("bce_span_pos_weight"),
    Field::counted("contrastive_threshold_loss_weight"),
    Field::counted("contrastive_span_loss_weight"),
    Field::counted("contrastive_tau"),
    Field::counted("batch_types"),
    Field::counted("type_order"),
    Field::counted("per_device_train_batch_size"),
    Field::counted("per_device_eval_batch_size"),
    Field::counted("gradient_accumulation_steps"),
    Field::counted("max_steps"),
    Field::counted("eval_steps"),
    Field::counted("early_stopping_patience"),
    Field::counted("learning_rate"),
    Field::counted("type_encoder_learning_rate"),
    Field::counted("linear_layers_learning_rate"),
    Field::counted("lr_scheduler_type"),
    Field::counted("warmup_steps"),
    Field::counted("weight_decay"),
    Field::counted("max_grad_norm"),
    Field::counted("adam_beta1"),
    Field::counted("adam_beta2"),
    Field::counted("adam_epsilon"),
    Field::counted("seed"),
    Field::counted("bf16"),
    Field::counted("fp16"),
    Field::recorded("run_name"),
    Field::recorded("dataset_name"),
    Field::recorded("logging_steps"),
    Field::recorded("save_steps"),
    Field::recorded("save_total_limit"),
];

/// Every setting of `train`. Names and meanings are those of the reference's JSON configs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// How text and entity types meet: encoded apart, or read together in one prompt.
    pub architecture: Architecture,
    /// The loss.
    pub loss_fn: LossKind,
    /// What a prediction must exceed. Contrastive models take `cls` (the default) or, cross-encoders, `label_token`; the others
    /// a probability (0.5).
    pub prediction_threshold: Option<Threshold>,
    /// Whether the model reads pre-split words or raw text.
    pub annotation_format: Format,
    /// Whether spans may begin and end at word boundaries only (`subwords`) or at every subword (`none`).
    pub loss_masking: Masking,
    /// The longest input in subwords, special tokens and prompt included. More is cut off and counted.
    pub max_seq_length: usize,
    /// The longest span in subwords. Longer golds are counted as lost.
    pub max_span_length: usize,

    /// Width of the vectors that starts, ends, spans and types are compared in.
    pub linear_hidden_size: usize,
    /// Width of the span-length embedding.
    pub span_width_embedding_size: usize,
    /// Dropout inside the heads. The encoders keep the dropout of their own config.json.
    pub dropout: f64,
    /// Start value of the three logit scales: ln(1 / init_temperature). Small values make logits large from the start.
    pub init_temperature: f64,
    /// How a type's name becomes one vector (bi-encoder): the `[CLS]` state, or the mean over its subwords.
    pub type_encoder_pooling: Option<Pooling>,

    /// Weight of the start loss.
    pub start_loss_weight: f64,
    /// Weight of the end loss.
    pub end_loss_weight: f64,
    /// Weight of the span loss.
    pub span_loss_weight: f64,
    /// Focal: weight of positives against negatives (0.75); negative for none.
    pub focal_alpha: Option<f64>,
    /// Focal: how strongly easy candidates are played down (2).
    pub focal_gamma: Option<f64>,
    /// BCE: weight of positive starts.
    pub bce_start_pos_weight: Option<f64>,
    /// BCE: weight of positive ends.
    pub bce_end_pos_weight: Option<f64>,
    /// BCE: weight of positive spans.
    pub bce_span_pos_weight: Option<f64>,
    /// Contrastive: weight of the part that pushes non-entities below the threshold span (0.5).
    pub contrastive_threshold_loss_weight: Option<f64>,
    /// Contrastive: weight of the part that lifts entities above everything else (0.5).
    pub contrastive_span_loss_weight: Option<f64>,
    /// Contrastive: temperature of the softmax over candidates (1).
    pub contrastive_tau: Option<f64>,

    /// Which types a batch is asked for: those of its own golds, as the reference does, or all of the training split, so that a
    /// model also learns which types do not occur.
    pub batch_types: BatchTypes,
    /// The order of a batch's types: random, so that a model cannot learn by place, or by name, which lets a cross-encoder with a
    /// fixed set of types learn faster.
    pub type_order: TypeOrder,

    /// Sentences in a training batch.
    pub per_device_train_batch_size: usize,
    /// Sentences in an evaluation batch.
    pub per_device_eval_batch_size: usize,
    /// Batches whose gradients are averaged into one optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Optimizer steps.
    pub max_steps: u64,
    /// Optimizer steps between evaluations on the validation split; the last step is always evaluated. Null: only the last.
    pub eval_steps: Option<u64>,
    /// Stop after this many evaluations without a better micro F1. Null: never.
    pub early_stopping_patience: Option<u32>,
    /// Peak learning rate of the token encoder, and of everything that has no rate of its own.
    pub learning_rate: f64,
    /// Peak learning rate of the type encoder (bi-encoder).
    pub type_encoder_learning_rate: Option<f64>,
    /// Peak learning rate of the heads.
    pub linear_layers_learning_rate: Option<f64>,
    /// The shape of the learning rate over time.
    pub lr_scheduler_type: ScheduleKind,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 for no limit.
    pub max_grad_norm: f64,
    /// AdamW's β₁.
    pub adam_beta1: f64,
    /// AdamW's β₂.
    pub adam_beta2: f64,
    /// AdamW's ε.
    pub adam_epsilon: f64,
    /// Steers start values, order of batches, order of types and dropout.
    pub seed: u64,
    /// Half precision; only false is possible so far.
    pub bf16: bool,
    /// Half precision; only false is possible so far.
    pub fp16: bool,

    /// A name for people.
    pub run_name: Option<String>,
    /// A name for people.
    pub dataset_name: Option<String>,
    /// Steps between two progress figures.
    pub logging_steps: u64,
    /// Steps between two saves of the state that an interrupted training goes on from. Null: about once a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_steps: Option<u64>,
    /// How many checkpoints to keep; one, the best, is all that is ever kept here.
    pub save_total_limit: Option<u32>,
}

impl Default for TrainSettings {
    fn default() -> Self {
        // What the finished model and the optimizer are made of has its defaults there.
        let (usual, optimizer) = (RecognizerConfig::default(), AdamWSettings::default());
        Self {
            architecture: usual.architecture,
            loss_fn: usual.loss_fn,
            prediction_threshold: None,
            annotation_format: usual.annotation_format,
            loss_masking: usual.loss_masking,
            max_seq_length: usual.max_seq_length,
            max_span_length: usual.max_span_length,
            linear_hidden_size: usual.linear_hidden_size,
            span_width_embedding_size: usual.span_width_embedding_size,
            dropout: usual.dropout,
            init_temperature: usual.init_temperature,
            type_encoder_pooling: None,
            start_loss_weight: usual.start_loss_weight,
            end_loss_weight: usual.end_loss_weight,
            span_loss_weight: usual.span_loss_weight,
            focal_alpha: None,
            focal_gamma: None,
            bce_start_pos_weight: None,
            bce_end_pos_weight: None,
            bce_span_pos_weight: None,
            contrastive_threshold_loss_weight: None,
            contrastive_span_loss_weight: None,
            contrastive_tau: None,
            batch_types: BatchTypes::Own,
            type_order: TypeOrder::Shuffled,
            per_device_train_batch_size: 8,
            per_device_eval_batch_size: 8,
            gradient_accumulation_steps: 1,
            max_steps: 500,
            eval_steps: None,
            early_stopping_patience: None,
            learning_rate: 3e-5,
            type_encoder_learning_rate: None,
            linear_layers_learning_rate: None,
            lr_scheduler_type: ScheduleKind::Linear,
            warmup_steps: 100,
            weight_decay: optimizer.weight_decay,
            max_grad_norm: 10.0,
            adam_beta1: optimizer.beta1,
            adam_beta2: optimizer.beta2,
            adam_epsilon: optimizer.epsilon,
            seed: 42,
            bf16: false,
            fp16: false,
            run_name: None,
            dataset_name: None,
            logging_steps: 20,
            save_steps: None,
            save_total_limit: None,
        }
    }
}

impl TrainSettings {
    /// Fills in the defaults that depend on other settings, sets to null what this architecture and loss do not read (so that
    /// changing it reruns nothing), and refuses what cannot work.
    ///
    /// # Errors
    /// At the first setting that is out of range or does not go with another.
    pub fn resolved(mut self) -> Result<Self, SettingError> {
        let bi = self.architecture == Architecture::BiEncoder;
        read_only_if(bi, &mut self.type_encoder_pooling, Pooling::Cls);
        if !bi {
            self.type_encoder_learning_rate = None;
        }
        let focal = self.loss_fn == LossKind::Focal;
        read_only_if(focal, &mut self.focal_alpha, 0.75);
        read_only_if(focal, &mut self.focal_gamma, 2.0);
        let bce = self.loss_fn == LossKind::Bce;
        read_only_if(bce, &mut self.bce_start_pos_weight, 1.0);
        read_only_if(bce, &mut self.bce_end_pos_weight, 1.0);
        read_only_if(bce, &mut self.bce_span_pos_weight, 1.0);
        let contrastive = self.loss_fn == LossKind::Contrastive;
        read_only_if(contrastive, &mut self.contrastive_threshold_loss_weight, 0.5);
        read_only_if(contrastive, &mut self.contrastive_span_loss_weight, 0.5);
        read_only_if(contrastive, &mut self.contrastive_tau, 1.0);
        self.prediction_threshold.get_or_insert(if contrastive {
            Threshold::Cls
        } else {
            Threshold::Probability(0.5)
        });
        self.recognizer()
            .validate()
            .map_err(|error| SettingError::new(error.field, error.problem))?;
        self.check_training()?;
        Ok(self)
    }

    /// The part of the settings that the finished model needs.
    pub fn recognizer(&self) -> RecognizerConfig {
        let usual = RecognizerConfig::default();
        RecognizerConfig {
            architecture: self.architecture,
            loss_fn: self.loss_fn,
            annotation_format: self.annotation_format,
            loss_masking: self.loss_masking,
            max_seq_length: self.max_seq_length,
            max_span_length: self.max_span_length,
            linear_hidden_size: self.linear_hidden_size,
            span_width_embedding_size: self.span_width_embedding_size,
            dropout: self.dropout,
            init_temperature: self.init_temperature,
            type_encoder_pooling: self.type_encoder_pooling.unwrap_or(usual.type_encoder_pooling),
            prediction_threshold: self.prediction_threshold.unwrap_or(usual.prediction_threshold),
            start_loss_weight: self.start_loss_weight,
            end_loss_weight: self.end_loss_weight,
            span_loss_weight: self.span_loss_weight,
            focal_alpha: self.focal_alpha,
            focal_gamma: self.focal_gamma,
            bce_start_pos_weight: self.bce_start_pos_weight,
            bce_end_pos_weight: self.bce_end_pos_weight,
            bce_span_pos_weight: self.bce_span_pos_weight,
            contrastive_threshold_loss_weight: self
                .contrastive_threshold_loss_weight
                .unwrap_or(usual.contrastive_threshold_loss_weight),
            contrastive_span_loss_weight: self
                .contrastive_span_loss_weight
                .unwrap_or(usual.contrastive_span_loss_weight),
            contrastive_tau: self.contrastive_tau.unwrap_or(usual.contrastive_tau),
        }
    }

    /// AdamW's part of the settings.
    pub fn optimizer(&self) -> AdamWSettings {
        AdamWSettings {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            epsilon: self.adam_epsilon,
            weight_decay: self.weight_decay,
        }
    }

    /// The learning rate's course.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            kind: self.lr_scheduler_type,
            warmup_steps: self.warmup_steps,
            max_steps: self.max_steps,
        }
    }

    /// The peak learning rate of the parameter called `name`.
    pub fn peak_rate(&self, name: &str) -> f64 {
        let own = if name.starts_with("token_encoder.") {
            None
        } else if name.starts_with("type_encoder.") {
            self.type_encoder_learning_rate
        } else {
            self.linear_layers_learning_rate
        };
        own.unwrap_or(self.learning_rate)
    }

    fn check_training(&self) -> Result<(), SettingError> {
        for (name, value) in [("bf16", self.bf16), ("fp16", self.fp16)] {
            if value {
                return Err(
                    SettingError::new(name, "half precision is not supported; weights and arithmetic are f32")
                        .help(format!("set `{name}: false`, or leave it out")),
                );
            }
        }
        let at_least_one = [
            ("per_device_train_batch_size", self.per_device_train_batch_size as u64),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size as u64),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps as u64),
            ("eval_steps", self.eval_steps.unwrap_or(1)),
            ("logging_steps", self.logging_steps),
            ("save_steps", self.save_steps.unwrap_or(1)),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|&(_, value)| value == 0) {
            return Err(SettingError::new(name, format!("`{name}` must be at least 1")));
        }
        let not_negative = [
            ("learning_rate", Some(self.learning_rate)),
            ("type_encoder_learning_rate", self.type_encoder_learning_rate),
            ("linear_layers_learning_rate", self.linear_layers_learning_rate),
            ("weight_decay", Some(self.weight_decay)),
            ("max_grad_norm", Some(self.max_grad_norm)),
        ];
        for (name, value) in not_negative {
            if value.is_some_and(|value| !(value >= 0.0 && value.is_finite())) {
                return Err(SettingError::new(
                    name,
                    format!("`{name}` must be a number of at least 0"),
                ));
            }
        }
        if !(self.adam_epsilon > 0.0 && self.adam_epsilon.is_finite()) {
            return Err(SettingError::new(
                "adam_epsilon",
                "`adam_epsilon` must be a number above 0",
            ));
        }
        for (name, value) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(SettingError::new(
                    name,
                    format!("`{name}` must be at least 0 and below 1"),
                ));
            }
        }
        if self.span_loss_weight == 0.0 {
            return Err(
                SettingError::new("span_loss_weight", "without a span loss no span can be predicted")
                    .help("give it a weight above 0"),
            );
        }
        Ok(())
    }
}

/// Gives a setting its default where it is read, and makes it null where it is not.
fn read_only_if<T>(read: bool, setting: &mut Option<T>, default: T) {
    if read {
        setting.get_or_insert(default);
    } else {
        *setting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_a_declared_field() {
        // Left out where it is not said.
        let settings = TrainSettings {
            save_steps: Some(1),
            ..TrainSettings::default()
        };
        let value = serde_json::to_value(settings).expect("plain data");
        let keys: Vec<&str> = value.as_object().expect("a map").keys().map(String::as_str).collect();
        assert_eq!(keys, FIELDS.iter().map(|field| field.name).collect::<Vec<_>>());
    }

    #[test]
    fn settings_of_another_loss_do_not_count() {
        let bce = TrainSettings {
            contrastive_tau: Some(0.5),
            focal_gamma: Some(1.0),
            ..TrainSettings::default()
        };
        let bce = bce.resolved().expect("valid");
        assert_eq!(
            (bce.contrastive_tau, bce.focal_gamma, bce.bce_span_pos_weight),
            (None, None, Some(1.0))
        );
        let cross = TrainSettings {
            architecture: Architecture::CrossEncoder,
            loss_fn: LossKind::Contrastive,
            type_encoder_learning_rate: Some(1.0),
            ..TrainSettings::default()
        };
        let cross = cross.resolved().expect("valid");
        assert_eq!(
            (cross.type_encoder_learning_rate, cross.type_encoder_pooling),
            (None, None)
        );
        assert_eq!(cross.prediction_threshold, Some(Threshold::Cls));
    }

    /// Defect 10 of the reference: focal loss with null alpha is a crash.
    #[test]
    fn focal_without_alpha_takes_the_default() {
        let focal = TrainSettings {
            loss_fn: LossKind::Focal,
            ..TrainSettings::default()
        }
        .resolved()
        .expect("valid");
        assert_eq!((focal.focal_alpha, focal.focal_gamma), (Some(0.75), Some(2.0)));
    }

    #[test]
    fn what_cannot_work_is_refused_at_its_setting() {
        let wrong: [(TrainSettings, &str); 6] = [
            (
                TrainSettings {
                    bf16: true,
                    ..Default::default()
                },
                "bf16",
            ),
            (
                TrainSettings {
                    dropout: 1.0,
                    ..Default::default()
                },
                "dropout",
            ),
            (
                TrainSettings {
                    learning_rate: f64::NAN,
                    ..Default::default()
                },
                "learning_rate",
            ),
            (
                TrainSettings {
                    eval_steps: Some(0),
                    ..Default::default()
                },
                "eval_steps",
            ),
            (
                TrainSettings {
                    span_loss_weight: 0.0,
                    ..Default::default()
                },
                "span_loss_weight",
            ),
            (
                TrainSettings {
                    prediction_threshold: Some(Threshold::Cls),
                    ..Default::default()
                },
                "prediction_threshold",
            ),
        ];
        for (settings, path) in wrong {
            assert_eq!(settings.resolved().expect_err(path).path, path);
        }
    }
}
