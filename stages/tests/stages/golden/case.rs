//! A case's description, and how its sentences and weights become a batch and a recognizer.

use burn::tensor::{Device, Tensor};
use nerpipe_stages::batch::{Batch, Collated, Collator};
use nerpipe_stages::model::{Recognizer, Wanted};
use nerpipe_stages::parity::Parity;
use nerpipe_stages::recognizer::RecognizerConfig;
use nerpipe_stages::tokens::{Sentence, Split};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Golden, Sample, Tensors};

#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) variant: String,
    pub(super) arch: String,
    pub(super) format: String,
    pub(super) loss_masking: String,
    pub(super) config: Value,
    pub(super) optim: Optim,
    pub(super) init: String,
    pub(super) clip: f64,
    pub(super) adamw: Adam,
    pub(super) steps: Vec<Step>,
    #[serde(default)]
    pub(super) param_norms_after_3_steps: Map<String, Value>,
    #[serde(default)]
    pub(super) eval_weights: Option<String>,
    #[serde(default)]
    pub(super) eval: Option<Evaluation>,
}

#[derive(Deserialize)]
pub(super) struct Optim {
    pub(super) learning_rate: f64,
    pub(super) type_encoder_learning_rate: Option<f64>,
    pub(super) linear_layers_learning_rate: Option<f64>,
    pub(super) warmup_steps: u64,
    pub(super) max_steps: u64,
}

#[derive(Deserialize)]
pub(super) struct Adam {
    pub(super) betas: [f64; 2],
    pub(super) eps: f64,
    pub(super) weight_decay: f64,
}

#[derive(Deserialize)]
pub(super) struct Step {
    pub(super) sample_indices: Vec<usize>,
    pub(super) types: Vec<String>,
    pub(super) loss: f64,
    pub(super) loss_components: Vec<f64>,
    pub(super) lr_per_group: Vec<f64>,
    pub(super) total_grad_norm: f64,
    pub(super) clipped: bool,
    /// How far the reference's own gradients are from those in float64.
    #[serde(default)]
    pub(super) max_abs_grad_err_f32_vs_f64: Option<f64>,
    #[serde(default)]
    pub(super) grad_norms: Map<String, Value>,
    #[serde(default)]
    pub(super) meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    pub(super) label_token_subword_positions: Option<Vec<u32>>,
    pub(super) text_start_index: Option<usize>,
    pub(super) ner_indices: Option<[Vec<u32>; 5]>,
    pub(super) ner: Vec<Vec<MetaGold>>,
}

#[derive(Deserialize)]
pub(super) struct MetaGold {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) label: String,
}

#[derive(Deserialize)]
pub(super) struct Evaluation {
    pub(super) labels: Vec<String>,
    pub(super) batches: Vec<Vec<usize>>,
    pub(super) meta: Vec<Meta>,
    pub(super) gold_total: Vec<usize>,
    pub(super) gold_kept: Vec<usize>,
    pub(super) results: Vec<Outcome>,
}

#[derive(Deserialize)]
pub(super) struct Outcome {
    pub(super) threshold: Value,
    pub(super) predictions: Vec<Vec<Predicted>>,
    pub(super) metrics: Value,
    pub(super) equal_confidence_pairs: u64,
}

#[derive(Deserialize)]
pub(super) struct Predicted {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) label: String,
    pub(super) confidence: f64,
}

#[derive(Deserialize)]
pub(super) struct Samples {
    pub(super) train: Vec<Sample>,
    pub(super) eval: Vec<Sample>,
}

/// All that the steps of a case share.
pub(super) struct Setting<'a> {
    pub(super) golden: &'a Golden,
    pub(super) case: &'a Case,
    pub(super) config: RecognizerConfig,
    pub(super) parity: Parity,
}

impl Setting<'_> {
    pub(super) fn collator(&self, parity: Parity) -> Collator {
        let special = *self.golden.tokenizer("encoder").special();
        Collator::new(self.config.clone(), special, self.golden.type_reader(&self.config)).with_parity(parity)
    }

    pub(super) fn recognizer(&self, weights: Tensors, device: &Device) -> Recognizer {
        let types = self.config.is_bi_encoder().then(|| self.golden.encoder("type_encoder"));
        let tensors = weights.floats.into_values();
        Recognizer::new(
            self.config.clone(),
            self.golden.encoder("encoder"),
            types,
            tensors,
            device,
        )
        .expect("the fixture's weights fit its settings")
    }

    /// One batch of the fixtures, which always fit in one pass.
    pub(super) fn collate(&self, collator: &Collator, split: &Split, rows: &[usize], types: &[String]) -> Collated {
        let tokenizer = self.golden.tokenizer("encoder");
        // Evaluation may ask for types that no sample has, so the names are encoded here.
        let mut names: Vec<Vec<u32>> = split.labels().ids.clone();
        let types: Vec<u32> = types
            .iter()
            .map(|name| {
                split.labels().index(name).unwrap_or_else(|| {
                    names.push(tokenizer.label(name).expect("a label's subwords"));
                    names.len() as u32 - 1
                })
            })
            .collect();
        let sentences: Vec<Sentence<'_>> = rows.iter().map(|&row| split.sentence(row)).collect();
        let collated = collator.collate(&collator.passes(&types, &names, 0), &sentences);
        assert_eq!(collated.batches.len(), 1, "the prompt fits in one pass");
        collated
    }

    /// Weights of the losses of starts, ends and spans.
    pub(super) fn weights(&self) -> [f64; 3] {
        let config = &self.config;
        [
            config.start_loss_weight,
            config.end_loss_weight,
            config.span_loss_weight,
        ]
    }

    /// What our own default would list, but for the snapping of golds, which the fixtures do not know.
    pub(super) fn sparse(&self) -> Parity {
        Parity {
            every_span: false,
            cross_masks: false,
            ..self.parity
        }
    }

    /// Prefixes of parameter names and base learning rates, in the reference's order; the last group is everything else.
    pub(super) fn groups(&self) -> Vec<(&'static str, f64)> {
        let optim = &self.case.optim;
        let mut groups = vec![("token_encoder.", optim.learning_rate)];
        if let Some(rate) = optim.type_encoder_learning_rate {
            groups.push(("type_encoder.", rate));
        }
        if let Some(rate) = optim.linear_layers_learning_rate {
            groups.push(("", rate));
        }
        groups
    }

    pub(super) fn base_rate(&self, name: &str) -> f64 {
        let groups = self.groups();
        let encoder = name.starts_with("token_encoder.") || name.starts_with("type_encoder.");
        let own = groups
            .iter()
            .find(|(prefix, _)| !prefix.is_empty() && name.starts_with(prefix));
        let rest = groups.iter().find(|(prefix, _)| prefix.is_empty() && !encoder);
        own.or(rest).map_or(self.case.optim.learning_rate, |&(_, rate)| rate)
    }
}

pub(super) const ALL: Wanted = Wanted {
    start: true,
    end: true,
    span: true,
};

pub(super) fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("32-bit floats")
}

/// [B·N, C] → [B, C, N].
pub(super) fn by_type(values: &[f32], batch: &Batch) -> Vec<f32> {
    let (b, c) = (batch.sentences(), batch.types.len());
    let n = values.len() / (b * c);
    let mut turned = vec![0.0; values.len()];
    for sentence in 0..b {
        for column in 0..n {
            for class in 0..c {
                turned[(sentence * c + class) * n + column] = values[(sentence * n + column) * c + class];
            }
        }
    }
    turned
}
